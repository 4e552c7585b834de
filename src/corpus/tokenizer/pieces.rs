//! Long texts are encoded piece by piece. The pieces are chosen so that their tokens, one
//! after the other, are those of the whole text.

use std::sync::LazyLock;

use regex::Regex;

/// Minimum length of a piece in bytes; it ends at the next place where a text may be cut.
/// A text takes about 140 bytes of memory per byte while it is encoded.
pub(super) const PIECE: usize = 64 << 10;
/// Maximum length of a word in bytes. The library splits texts with an expression that
/// gives up after a million steps, and a run of white space takes one for each character:
/// beyond that the rest of the text would silently become one word.
pub(super) const MAX_WORD: usize = 512 << 10;

/// What GPT-2's words consist of, contractions aside.
static WORD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+").ok());

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Symbol,
    Space,
}

/// The class of a character, for those that never combine with the one before.
fn class(c: char) -> Option<Class> {
    match c {
        'a'..='z' | 'A'..='Z' => Some(Class::Letter),
        // Kana, ideographs, Hangul syllables.
        'ぁ'..='ゖ' | 'ァ'..='ヺ' | '一'..='龥' | '가'..='힣' => Some(Class::Letter),
        '0'..='9' => Some(Class::Digit),
        ' ' | '\t' | '\n' | '\r' => Some(Class::Space),
        '!'..='~' | '、' | '。' | '，' | '！' | '？' => Some(Class::Symbol),
        _ => None,
    }
}

/// Returns whether GPT-2's words always end between two characters. Letters and digits end
/// before anything of another class. Symbols end before white space only, since `'s` is one
/// word.
pub(super) fn may_cut(before: char, after: char) -> bool {
    match (class(before), class(after)) {
        (Some(a @ (Class::Letter | Class::Digit)), Some(b)) => a != b,
        (_, Some(Class::Space)) => !before.is_whitespace(),
        _ => false,
    }
}

/// Returns whether a text has a place where it may be cut.
pub(super) fn has_cut(text: &str) -> bool {
    text.chars().zip(text.chars().skip(1)).any(|(before, after)| may_cut(before, after))
}

/// Returns the pieces of a text with their places, in bytes. No piece ends inside of one of
/// the `whole` strings.
pub(super) fn pieces<'a>(
    text: &'a str,
    whole: &'a [String],
) -> impl Iterator<Item = (usize, &'a str)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = cut(rest, whole).unwrap_or(rest.len());
        let piece = (start, &rest[..length]);
        start += length;
        Some(piece)
    })
}

/// Returns the first place after `PIECE` bytes where a text may be cut.
fn cut(text: &str, whole: &[String]) -> Option<usize> {
    let first = (PIECE..text.len()).find(|&at| text.is_char_boundary(at))?;
    let mut before = text[..first].chars().next_back()?;
    for (at, after) in text[first..].char_indices() {
        let at = first + at;
        if may_cut(before, after) && !whole.iter().any(|w| spans(text, at, w)) {
            return Some(at);
        }
        before = after;
    }
    None
}

/// Returns whether a string lies in the text on both sides of a place.
fn spans(text: &str, at: usize, string: &str) -> bool {
    let reach = string.len().saturating_sub(1);
    let around = &text.as_bytes()[at.saturating_sub(reach)..(at + reach).min(text.len())];
    around.windows(string.len().max(1)).any(|w| w == string.as_bytes())
}

/// Returns place and length of the first word that is too long, in bytes.
pub(super) fn too_long(text: &str) -> Option<(usize, usize)> {
    if text.len() <= MAX_WORD {
        return None;
    }
    let mut words = WORD.as_ref()?.find_iter(text);
    words.find(|word| word.len() > MAX_WORD).map(|word| (word.start(), word.len()))
}
