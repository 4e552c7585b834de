//! Lines of CoNLL-U (<https://universaldependencies.org/format.html>).

/// Number of tab-separated columns.
const COLUMNS: usize = 10;

/// A line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConlluLine<'a> {
    /// `# newdoc`, with its id if it has one.
    Document(Option<&'a str>),
    /// Any other comment.
    Comment,
    /// The blank line after a sentence.
    End,
    /// A line of columns.
    Node(Node<'a>),
}

/// A line of columns.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Node<'a> {
    /// A word of the sentence.
    Word(Word<'a>),
    /// A token of the text that stands for several words.
    Multiword { first: usize, last: usize, form: &'a str },
    /// A word that is not in the text, such as `8.1`.
    Empty,
}

/// A word, by its number in the sentence and its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) number: usize,
    pub(super) form: &'a str,
    pub(super) upos: &'a str,
    pub(super) feats: &'a str,
    pub(super) deprel: &'a str,
    pub(super) misc: &'a str,
}

/// Reads a line.
///
/// # Errors
/// Returns an error that describes the problem if the line is not valid CoNLL-U.
pub(super) fn parse(line: &str) -> Result<ConlluLine<'_>, String> {
    if line.trim().is_empty() {
        return Ok(ConlluLine::End);
    }
    if let Some(comment) = line.strip_prefix('#') {
        return Ok(match comment.trim().strip_prefix("newdoc") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => {
                ConlluLine::Document(id(rest.trim()))
            }
            _ => ConlluLine::Comment,
        });
    }
    let columns: Vec<&str> = line.splitn(COLUMNS + 1, '\t').collect();
    let [id, form, _, upos, _, feats, _, deprel, _, misc] = columns[..] else {
        let found = line.split('\t').count();
        return Err(format!("{found} columns, expected {COLUMNS} separated by tabs"));
    };
    let filled = [form, upos, deprel].iter().all(|column| !column.trim().is_empty());
    let word = Word { number: 0, form, upos, feats, deprel, misc: misc.trim_end() };
    let node = node(id, word).filter(|_| filled);
    node.map(ConlluLine::Node).ok_or_else(|| {
        let id = beginning(id);
        format!("word `{id}`: expected a number such as `3`, `3-4` or `3.1`, and no empty column")
    })
}

/// Returns the value of `id = VALUE`.
fn id(text: &str) -> Option<&str> {
    let value = text.strip_prefix("id")?.trim_start().strip_prefix('=')?.trim();
    Some(value).filter(|value| !value.is_empty())
}

/// Returns the node of a line with this id, of which `word` has the columns.
fn node<'a>(id: &str, word: Word<'a>) -> Option<Node<'a>> {
    let number = |text: &str| text.parse::<usize>().ok();
    if let Some((first, last)) = id.split_once('-') {
        let (first, last) = (number(first)?, number(last)?);
        return (first > 0).then_some(Node::Multiword { first, last, form: word.form });
    }
    if let Some((before, place)) = id.split_once('.') {
        return number(before).and(number(place)).map(|_| Node::Empty);
    }
    let number = number(id).filter(|number| *number > 0)?;
    Some(Node::Word(Word { number, ..word }))
}

/// Returns the number of bytes that a form takes at the beginning of a text, or `None` if the text
/// does not begin with it. White space in a form matches any white space in the text.
pub(super) fn length_in(text: &str, form: &str) -> Option<usize> {
    let mut rest = text;
    let mut parts = form.split_whitespace().enumerate();
    parts.try_for_each(|(i, part)| {
        let next = if i == 0 { rest } else { rest.trim_start() };
        if i > 0 && next.len() == rest.len() {
            return None;
        }
        rest = next.strip_prefix(part)?;
        Some(())
    })?;
    Some(text.len() - rest.len()).filter(|length| *length > 0)
}

/// Returns the first characters of a text, safe for a terminal.
pub(super) fn beginning(text: &str) -> String {
    text.chars().take(30).flat_map(char::escape_debug).collect()
}
