//! The positions of all keys of a YAML file, so that errors can name line and column.
//!
//! The YAML deserialiser does not keep positions, and accepts some repeated keys. The walk over
//! the parser's events in this module keeps the positions and refuses repeated keys.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span};

/// Maximum nesting depth. Deeper documents are rejected so that parsing cannot exhaust the stack.
const MAX_DEPTH: usize = 32;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Something that a spec must not contain, and its position.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its position.
    pub position: Position,
    /// The problem.
    pub problem: String,
    /// The remedy.
    pub remedy: &'static str,
}

/// Positions by key path, e.g. `models.family[0].path`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Positions(HashMap<String, Position>);

impl Positions {
    /// Walks through a YAML text.
    ///
    /// # Errors
    /// Returns an error if the text is not YAML; has more than one document, an anchor, an alias
    /// or a merge key; repeats a key; or nests too deeply.
    pub fn of(text: &str) -> Result<Self, Fault> {
        let mut walk = PositionWalk::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| {
                let marker = e.marker();
                let position = Position { line: marker.line(), column: marker.col() + 1 };
                let remedy = "correct the YAML; strings with special characters need quotes";
                Fault { position, problem: format!("not YAML: {}", e.info()), remedy }
            })?;
            walk.visit(&event, start(&span))?;
        }
        Ok(Self(walk.found))
    }

    /// Returns the position of a key, or of the closest key above it.
    pub fn nearest(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(&position) = self.0.get(path) {
                return Some(position);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Returns whether the file contains a key.
    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

fn start(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

#[derive(Default)]
struct PositionWalk {
    found: HashMap<String, Position>,
    open: Vec<NestingLevel>,
    documents: usize,
}

/// An open mapping or sequence.
enum NestingLevel {
    /// A mapping: its path, and the key whose value comes next, if any.
    Mapping(String, Option<String>),
    /// A sequence: its path, and the index of the next item.
    Sequence(String, usize),
}

impl PositionWalk {
    fn visit(&mut self, event: &Event, at: Position) -> Result<(), Fault> {
        let fault =
            |problem: &str, remedy| Err(Fault { position: at, problem: problem.into(), remedy });
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fault("a second document begins", "keep one experiment per file");
                }
            }
            Event::Alias(_) => {
                return fault(
                    "aliases are not supported",
                    "write the value again, or use `include:`",
                );
            }
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if *anchor > 0 =>
            {
                return fault(
                    "anchors are not supported",
                    "write the value where it is needed, or use `include:`",
                );
            }
            Event::Scalar(text, ..) => self.scalar(text, at)?,
            Event::MappingStart(..) => {
                let path = self.value(at);
                self.open.push(NestingLevel::Mapping(path, None));
            }
            Event::SequenceStart(..) => {
                let path = self.value(at);
                self.open.push(NestingLevel::Sequence(path, 0));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
            }
            _ => {}
        }
        if self.open.len() > MAX_DEPTH {
            return fault("nested too deeply", "an experiment needs no more than a few levels");
        }
        Ok(())
    }

    /// Handles a scalar: a key if a mapping expects one, else a value.
    fn scalar(&mut self, text: &str, at: Position) -> Result<(), Fault> {
        let Some(NestingLevel::Mapping(path, key @ None)) = self.open.last_mut() else {
            self.value(at);
            return Ok(());
        };
        let full = if path.is_empty() { text.to_string() } else { format!("{path}.{text}") };
        *key = Some(full.clone());
        if text == "<<" {
            let remedy = "use `include:` to inherit from another file";
            return Err(Fault {
                position: at,
                problem: "merge keys are not supported".into(),
                remedy,
            });
        }
        match self.found.insert(full.clone(), at) {
            None => Ok(()),
            Some(first) => Err(Fault {
                position: at,
                problem: format!(
                    "`{full}` is given again; it was given first on line {}",
                    first.line
                ),
                remedy: "keep one of the two",
            }),
        }
    }

    /// Returns the path of a value that begins here.
    fn value(&mut self, at: Position) -> String {
        match self.open.last_mut() {
            None => String::new(),
            Some(NestingLevel::Mapping(path, key)) => key.take().unwrap_or_else(|| path.clone()),
            Some(NestingLevel::Sequence(path, next)) => {
                let item = format!("{path}[{next}]");
                *next += 1;
                self.found.insert(item.clone(), at);
                item
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, path: &str) -> Option<(usize, usize)> {
        let positions = Positions::of(text).expect("valid");
        positions.nearest(path).map(|p| (p.line, p.column))
    }

    #[test]
    fn keys_are_found_in_block_and_flow_style() {
        let text = "a: 1\nb:\n  c: [x, {d: 2}]\n  e: {f: g}\n";
        assert_eq!(at(text, "a"), Some((1, 1)));
        assert_eq!(at(text, "b.c"), Some((3, 3)));
        assert_eq!(at(text, "b.c[1]"), Some((3, 10)));
        assert_eq!(at(text, "b.c[1].d"), Some((3, 11)));
        assert_eq!(at(text, "b.e.f"), Some((4, 7)));
        assert_eq!(at(text, "b.e.missing"), Some((4, 3)), "a missing key is sought at its parent");
        assert_eq!(at(text, "z"), None);
    }

    #[test]
    fn what_no_spec_may_contain_is_refused_where_it_stands() {
        for (text, line, problem) in [
            ("a: 1\nb: 2\na: 3\n", 3, "given first on line 1"),
            ("x:\n  - {k: 1, k: 2}\n", 2, "`x[0].k` is given again"),
            ("a: &anchor 1\n", 1, "anchors"),
            ("<<: {}\n", 1, "merge"),
            ("a: 1\n---\nb: 1\n", 2, "second document"),
            ("a: [1\n", 2, "not YAML"),
        ] {
            let fault = Positions::of(text).expect_err(text);
            assert_eq!(fault.position.line, line, "{text}: {fault:?}");
            assert!(fault.problem.contains(problem), "{fault:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(Positions::of(&deep).is_err());
    }
}
