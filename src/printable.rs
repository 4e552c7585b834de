//! Text of unknown origin, made safe to print.
//!
//! Ids, labels, questions, keys and tensor names come from files that the program does not
//! control. A terminal obeys control characters in them, and bidirectional controls change
//! the order in which a line is displayed. The functions here replace both by visible text
//! and leave all other Unicode unchanged.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether a character must not be printed unchanged: a control character, a
/// bidirectional control, a line separator, a byte order mark or a noncharacter.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
        || matches!(c, '\u{fdd0}'..='\u{fdef}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Returns whether a character is written from right to left. Displays move numbers and signs
/// beside such characters.
pub fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}')
        || matches!(c, '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// Returns text for a terminal. Unsafe characters become escapes such as `\u{1b}`; line feeds
/// and tabs are kept.
pub fn text(text: &str) -> Cow<'_, str> {
    replaced(text, |c| is_unsafe(c) && !matches!(c, '\n' | '\t'), escape)
}

/// Returns text for one line of a terminal or one cell of a table. As [`text`], but line feeds
/// and tabs become `\n` and `\t`.
pub fn line(text: &str) -> Cow<'_, str> {
    replaced(text, is_unsafe, escape)
}

/// Returns a JSON document for a terminal. Unsafe characters, which occur only within strings,
/// become JSON escapes such as `\u001b`, so the value of the document is unchanged.
pub fn json(text: &str) -> Cow<'_, str> {
    replaced(
        text,
        |c| is_unsafe(c) && c != '\n',
        |out, c| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// Returns text for a page or a figure. Control characters become their pictures (`␛`), other
/// unsafe characters their code points (`⟨U+202E⟩`).
pub fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, is_unsafe, |out, c| {
        let picture = match u32::from(c) {
            n @ 0..0x20 => char::from_u32(0x2400 + n),
            0x7f => Some('␡'),
            _ => None,
        };
        let _ = match picture {
            Some(picture) => out.write_char(picture),
            None => write!(out, "⟨U+{:04X}⟩", u32::from(c)),
        };
    })
}

fn escape(out: &mut String, c: char) {
    match c {
        '\n' | '\t' | '\r' => out.extend(c.escape_default()),
        _ => out.extend(c.escape_unicode()),
    }
}

/// Replaces the chosen characters by the text that `write` appends for them.
fn replaced(
    text: &str,
    chosen: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&chosen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if chosen(c) { write(&mut out, c) } else { out.push(c) });
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        assert_eq!(text("a\u{1b}[31m\u{7}\n\tb\r"), "a\\u{1b}[31m\\u{7}\n\tb\\r");
        assert_eq!(line("a\n\u{202e}b\u{9b}"), "a\\n\\u{202e}b\\u{9b}");
        assert_eq!(visible("\u{1b}\u{7f}\n\u{2067}\u{85}"), "␛␡␊⟨U+2067⟩⟨U+0085⟩");
        assert_eq!(json("\"\u{7f}\u{202e}\u{1fffe}\"\n"), "\"\\u007f\\u202e\\ud83f\\udffe\"\n");
    }

    #[test]
    fn ordinary_text_stays_and_is_not_copied() {
        for ordinary in ["", "naïve ρ 中文 עברית العربية 👩‍👩‍👧 e\u{301} \u{a0}", "⟨E2 80⟩ ⏎"]
        {
            assert!(matches!(line(ordinary), Cow::Borrowed(same) if same == ordinary));
            assert!(matches!(visible(ordinary), Cow::Borrowed(same) if same == ordinary));
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(chars in prop::collection::vec(any::<char>(), 0..40)) {
            let all: String = chars.into_iter().collect();
            prop_assert!(!line(&all).contains(is_unsafe) && !visible(&all).contains(is_unsafe));
            prop_assert!(!text(&all).chars().any(|c| is_unsafe(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn a_document_of_json_means_the_same(chars in prop::collection::vec(any::<char>(), 0..40)) {
            let all: String = chars.into_iter().collect();
            let document = serde_json::to_string_pretty(&[&all]).expect("JSON");
            let safe = json(&document);
            prop_assert!(!safe.chars().any(|c| is_unsafe(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&safe).expect("JSON"), [all]);
        }
    }
}
