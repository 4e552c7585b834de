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
    Word { number: usize, form: &'a str, upos: &'a str, deprel: &'a str },
    /// A token of the text that stands for several words.
    Multiword { first: usize, last: usize, form: &'a str },
    /// A word that is not in the text, such as `8.1`.
    Empty,
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
    let [id, form, _, upos, _, _, _, deprel, _, _] = columns[..] else {
        let found = line.split('\t').count();
        return Err(format!("{found} columns, expected {COLUMNS} separated by tabs"));
    };
    let filled = [form, upos, deprel].iter().all(|column| !column.trim().is_empty());
    let node = node(id, form, upos, deprel).filter(|_| filled);
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

fn node<'a>(id: &str, form: &'a str, upos: &'a str, deprel: &'a str) -> Option<Node<'a>> {
    let number = |text: &str| text.parse::<usize>().ok();
    if let Some((first, last)) = id.split_once('-') {
        let (first, last) = (number(first)?, number(last)?);
        return (first > 0).then_some(Node::Multiword { first, last, form });
    }
    if let Some((word, place)) = id.split_once('.') {
        return number(word).and(number(place)).map(|_| Node::Empty);
    }
    let number = number(id).filter(|number| *number > 0)?;
    Some(Node::Word { number, form, upos, deprel })
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
