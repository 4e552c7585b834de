//! Text of unknown origin on the page.
//!
//! Characters that a browser obeys are made visible, and each run of right-to-left text stands
//! in an element of its own (`<bdi>`), so that a name in Hebrew or Arabic leaves the order of
//! the words and numbers around it as it is. The script does the same for what it adds.

use minijinja::{AutoEscape, Environment, Error, HtmlEscape, Output, State, Value};

use crate::printable::{is_right_to_left, is_unsafe, visible};

/// Makes an environment show every text of its templates in this way. Values within tags take
/// the filter `attribute`.
pub fn install(environment: &mut Environment) {
    environment.set_formatter(format);
    environment.add_filter("attribute", |text: String| Value::from_safe_string(attribute(&text)));
}

fn format(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if !value.is_safe() && *state.auto_escape() == AutoEscape::Html => {
            out.write_str(&element(text)).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Returns text as the value of an attribute in double quotes.
fn attribute(text: &str) -> String {
    HtmlEscape(&shown(text)).to_string()
}

/// Returns text as the content of an element.
fn element(text: &str) -> String {
    let text = shown(text);
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = &*text;
    while let Some(start) = rest.find(is_right_to_left) {
        let end = start + run_length(&rest[start..]);
        let (before, run) = (HtmlEscape(&rest[..start]), HtmlEscape(&rest[start..end]));
        out.push_str(&format!("{before}<bdi>{run}</bdi>"));
        rest = &rest[end..];
    }
    out.push_str(&HtmlEscape(rest).to_string());
    out
}

/// Returns the length in bytes of the right-to-left run that a text begins with: up to its last
/// right-to-left letter before any other letter.
fn run_length(text: &str) -> usize {
    let other = |c: char| c.is_alphabetic() && !is_right_to_left(c);
    let letters = &text[..text.find(other).unwrap_or(text.len())];
    let last = letters.char_indices().rfind(|(_, c)| is_right_to_left(*c));
    last.map_or(0, |(at, c)| at + c.len_utf8())
}

/// Returns text with its unsafe characters made visible, all but line feeds and tabs.
fn shown(text: &str) -> String {
    let part = |part: &str| -> String {
        let end = part.trim_end_matches(['\n', '\t']);
        visible(end).into_owned() + &part[end.len()..]
    };
    match text.contains(is_unsafe) {
        true => text.split_inclusive(['\n', '\t']).map(part).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str, value: &str) -> String {
        let mut environment = Environment::new();
        install(&mut environment);
        environment.add_template("x.html", template).expect("a template");
        let template = environment.get_template("x.html").expect("the template");
        template.render(minijinja::context!(value)).expect("rendered")
    }

    #[test]
    fn right_to_left_runs_stand_alone() {
        let element = |text: &str| rendered("{{ value }}", text);
        assert_eq!(
            element("model \u{5d0}\u{5d1} 1, 12 < 13"),
            "model <bdi>\u{5d0}\u{5d1}</bdi> 1, 12 &lt; 13"
        );
        assert_eq!(
            element("\u{5d0} 1 \u{627}; x \u{627}"),
            "<bdi>\u{5d0} 1 \u{627}</bdi>; x <bdi>\u{627}</bdi>"
        );
        assert_eq!(element("ρ 中文 L1.N5 & 3"), "ρ 中文 L1.N5 &amp; 3");
    }

    #[test]
    fn what_a_browser_obeys_is_visible() {
        let hostile = "a\u{1b}\u{7}\n\t\u{202e}b\u{2066}\"<";
        let shown = "a␛␇\n\t⟨U+202E⟩b⟨U+2066⟩&quot;&lt;";
        assert_eq!(rendered("{{ value }}", hostile), shown);
        assert_eq!(rendered("{{ value|attribute }}", hostile), shown);
        // An element cannot stand within a tag.
        assert_eq!(rendered("{{ value|attribute }}", "\u{5d0}"), "\u{5d0}");
    }

    #[test]
    fn every_value_within_a_tag_is_an_attribute() {
        let template = include_str!("page.html");
        for tag in template.split('<').filter_map(|part| part.split_once('>')) {
            let values = tag.0.matches("{{").count();
            let known = tag.0.matches("|attribute }}").count();
            assert_eq!(values, known, "<{}>", tag.0);
        }
    }
}
