//! Remedies for values that are not what was expected.

/// A remedy for a deserialiser's message: the nearest valid key or value, the
/// key that is missing, or a pointer to the schema.
pub fn remedy(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let first = quoted.next().unwrap_or_default();
    if message.starts_with("missing field") {
        return format!("add `{first}:`");
    }
    if !message.starts_with("unknown") {
        if let Some(remedy) = rewritten(message) {
            return remedy;
        }
        return "run `universal-neurons schema` to see what is expected".into();
    }
    if !first.is_empty() && first.chars().all(|c| c.is_ascii_digit()) {
        let problem = "a number is not a key; write decimals with a point, as in `0.5`";
        return problem.into();
    }
    let valid: Vec<&str> = quoted.collect();
    match nearest(first, &valid) {
        Some(key) => format!("did you mean `{key}`?"),
        None if valid.is_empty() => "remove it".into(),
        None => format!("use one of: {}", valid.join(", ")),
    }
}

/// How a value of the wrong type is most likely meant to be written, by a message such as
/// `invalid type: string "0,5", expected a number`.
fn rewritten(message: &str) -> Option<String> {
    let (found, expected) = message.strip_prefix("invalid type: ")?.split_once(", expected ")?;
    let text = found.strip_prefix("string \"").and_then(|text| text.strip_suffix('"'));
    let bare = || found.split('`').nth(1);
    if found.starts_with("unit value") || found.starts_with("null") {
        return Some("give a value, or remove the key".into());
    }
    if expected.contains("number") {
        return match text {
            Some(text) => number(text),
            None => bare()?.strip_suffix(".0").map(|whole| format!("write `{whole}`")),
        };
    }
    if expected.contains("boolean") {
        return match text?.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write `true`".into()),
            "no" | "off" | "n" | "false" => Some("write `false`".into()),
            _ => None,
        };
    }
    let wanted = expected.contains("string") && !found.contains("string");
    wanted.then(bare).flatten().map(|value| format!("put it in quotes: `\"{value}\"`"))
}

/// How a text that is almost a number is written as one.
fn number(text: &str) -> Option<String> {
    let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    let commas = text.matches(',').count();
    // Groups of three digits may be thousands: then both ways of writing it are said.
    let groups = text.split(',').skip(1).all(|group| group.len() == 3);
    let (decimal, whole) = (text.replace(',', "."), text.replace([',', '_', ' ', '\''], ""));
    if commas == 1 && is_number(&decimal) {
        return Some(match groups {
            true => format!("write `{decimal}` or `{whole}`, without a comma"),
            false => format!("write decimals with a point: `{decimal}`"),
        });
    }
    if let Some(percent) = text.strip_suffix('%').and_then(|share| share.trim().parse::<f64>().ok())
    {
        return Some(format!("write the share as a number: `{}`", percent / 100.0));
    }
    is_number(&whole).then(|| format!("write `{whole}`"))
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

/// Returns the valid word that a misspelt one most likely stands for.
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

    #[test]
    fn values_of_the_wrong_type_are_answered_in_words() {
        for (found, expected, answer) in [
            ("string \"0,5\"", "a number", "write decimals with a point: `0.5`"),
            ("string \"-0,25\"", "a number", "write decimals with a point: `-0.25`"),
            ("string \"1,000\"", "a whole number", "write `1.000` or `1000`, without a comma"),
            ("string \"1,000,000\"", "a whole number", "write `1000000`"),
            ("string \"10_000\"", "a whole number", "write `10000`"),
            ("string \"10 000\"", "a whole number", "write `10000`"),
            ("string \"50 %\"", "a number", "write the share as a number: `0.5`"),
            ("floating point `1000.0`", "a whole number", "write `1000`"),
            ("integer `5`", "a string", "put it in quotes: `\"5\"`"),
            ("boolean `true`", "a string", "put it in quotes: `\"true\"`"),
            ("integer `5`", "path string", "put it in quotes: `\"5\"`"),
            ("string \"yes\"", "a boolean", "write `true`"),
            ("string \"Off\"", "a boolean", "write `false`"),
            ("unit value", "a string", "give a value, or remove the key"),
        ] {
            assert_eq!(remedy(&format!("invalid type: {found}, expected {expected}")), answer);
        }
        for (found, expected) in [("string \"twelve\"", "a number"), ("sequence", "a string")] {
            let remedy = remedy(&format!("invalid type: {found}, expected {expected}"));
            assert!(remedy.contains("schema"), "{remedy}");
        }
    }
}
