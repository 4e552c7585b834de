//! What to do about a value that is not what was expected.

/// A remedy for a deserialiser's message: the nearest valid key or value, the
/// key that is missing, or a pointer to the schema.
pub fn remedy(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let first = quoted.next().unwrap_or_default();
    if message.starts_with("missing field") {
        return format!("add `{first}:`");
    }
    if !message.starts_with("unknown") {
        return "run `universal-neurons schema` to see what is expected".into();
    }
    let valid: Vec<&str> = quoted.collect();
    match nearest(first, &valid) {
        Some(key) => format!("did you mean `{key}`?"),
        None if valid.is_empty() => "remove it".into(),
        None => format!("use one of: {}", valid.join(", ")),
    }
}

/// A deserialiser's message without the names of Rust types.
pub fn plain(message: &str) -> String {
    let types = [
        ("expected usize", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected struct", "expected the keys of"),
        ("a sequence", "a list"),
    ];
    types.iter().fold(message.to_string(), |text, (from, to)| text.replace(from, to))
}

/// The valid word that a misspelt one most likely stands for.
fn nearest<'a>(word: &str, valid: &[&'a str]) -> Option<&'a str> {
    let distance = |key: &&&str| strsim::damerau_levenshtein(word, key);
    let best = valid.iter().min_by_key(distance)?;
    (distance(&best) <= 1 + word.len() / 3).then_some(*best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested_if_it_is_near() {
        let unknown = |key: &str| {
            remedy(&format!("unknown field `{key}`, expected one of `draws`, `kind`, `seed`"))
        };
        assert_eq!(unknown("darws"), "did you mean `draws`?");
        assert_eq!(unknown("temperature"), "use one of: draws, kind, seed");
        assert_eq!(remedy("missing field `corpus`"), "add `corpus:`");
    }
}
