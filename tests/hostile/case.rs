//! One case: what it changes in the experiment and what the program must answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use serde::Deserialize;
use serde_json::Value;

use crate::support::path;

/// One case of a file of cases; `README.md` describes the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub why: String,
    #[serde(default)]
    pub before: Vec<Vec<String>>,
    #[serde(default)]
    pub files: BTreeMap<String, Changes>,
    #[serde(default = "validate")]
    pub run: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub exit: i32,
    #[serde(default)]
    pub says: Vec<String>,
    #[serde(default)]
    pub prints: Vec<String>,
    #[serde(default)]
    pub lacks: Vec<String>,
    #[serde(default)]
    pub leaves: BTreeMap<String, String>,
    #[serde(default)]
    pub no: Vec<String>,
    #[serde(default = "seconds")]
    pub seconds: u64,
    pub memory_mib: Option<u64>,
}

fn validate() -> Vec<String> {
    vec!["validate".into(), "spec.yaml".into()]
}

fn seconds() -> u64 {
    20
}

/// Changes of one file, made one after the other.
#[derive(Debug)]
pub struct Changes(Vec<Change>);

impl<'de> Deserialize<'de> for Changes {
    /// Reads one change or a list of them.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let changes = match Value::deserialize(from)? {
            Value::Array(changes) => changes,
            one => vec![one],
        };
        let read = changes.into_iter().map(serde_json::from_value::<Change>);
        read.collect::<Result<_, _>>().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A change of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Change {
    Text(String),
    Base64(String),
    Hex(String),
    Repeat { text: String, times: usize },
    Copy(String),
    Append(String),
    Patch(Vec<Replacement>),
    Json(BTreeMap<String, Value>),
    Drop(Vec<String>),
    Flip(Vec<usize>),
    Truncate(usize),
    Remove(bool),
    Folder(bool),
    Link(String),
    Fifo(bool),
}

/// Every occurrence of `from` becomes `to`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    from: String,
    to: String,
}

impl Case {
    /// Changes the files of the experiment in `folder`.
    pub fn change_files(&self, folder: &Path) {
        for (name, changes) in &self.files {
            for change in &changes.0 {
                change.make(&folder.join(name));
            }
        }
    }
}

impl Change {
    fn make(&self, file: &Path) {
        let parent = file.parent().expect("inside a folder");
        std::fs::create_dir_all(parent).expect("folder");
        match self {
            Self::Remove(false) | Self::Folder(false) | Self::Fifo(false) => {}
            Self::Remove(true) if file.is_dir() => std::fs::remove_dir_all(file).expect("remove"),
            Self::Remove(true) => std::fs::remove_file(file).expect("remove"),
            Self::Folder(true) => std::fs::create_dir_all(file).expect("folder"),
            Self::Link(target) => {
                let _ = std::fs::remove_file(file);
                std::os::unix::fs::symlink(target, file).expect("link");
            }
            Self::Fifo(true) => {
                let _ = std::fs::remove_file(file);
                let made = Command::new("mkfifo").arg(file).status();
                assert!(made.expect("mkfifo").success());
            }
            change => std::fs::write(file, change.content(file)).expect("write"),
        }
    }

    /// The new content of the file.
    fn content(&self, file: &Path) -> Vec<u8> {
        let old = || std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let plain = |text: &str| text.split_whitespace().collect::<String>();
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Base64(text) => {
                base64::engine::general_purpose::STANDARD.decode(plain(text)).expect("base64")
            }
            Self::Hex(text) => bytes_of_hex(&plain(text)),
            Self::Repeat { text, times } => text.repeat(*times).into_bytes(),
            Self::Copy(from) => std::fs::read(path(from)).expect(from),
            Self::Append(text) => [old(), text.clone().into_bytes()].concat(),
            Self::Patch(replacements) => patched(old(), replacements),
            Self::Json(members) => edited(&old(), |document| {
                members.iter().for_each(|(pointer, value)| set(document, pointer, value.clone()));
            }),
            Self::Drop(pointers) => edited(&old(), |document| {
                pointers.iter().for_each(|pointer| drop_member(document, pointer));
            }),
            Self::Flip(places) => {
                let mut bytes = old();
                places.iter().for_each(|&at| bytes[at] ^= 1);
                bytes
            }
            Self::Truncate(length) => {
                let mut bytes = old();
                assert!(*length < bytes.len(), "{} is that short already", file.display());
                bytes.truncate(*length);
                bytes
            }
            Self::Remove(_) | Self::Folder(_) | Self::Link(_) | Self::Fifo(_) => {
                unreachable!("made without content")
            }
        }
    }
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "an odd number of digits");
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn patched(old: Vec<u8>, replacements: &[Replacement]) -> Vec<u8> {
    let mut text = String::from_utf8(old).expect("UTF-8");
    for Replacement { from, to } in replacements {
        assert!(text.contains(from), "the file holds no {from}");
        text = text.replace(from, to);
    }
    text.into_bytes()
}

fn edited(old: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut document: Value = serde_json::from_slice(old).expect("JSON");
    edit(&mut document);
    serde_json::to_vec_pretty(&document).expect("JSON")
}

/// The parent of the member at `pointer`, and the member's name in it.
fn parent_of<'a>(document: &'a mut Value, pointer: &str) -> (&'a mut Value, String) {
    let (parent, name) = pointer.rsplit_once('/').expect("a JSON pointer begins with /");
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    (parent, name.replace("~1", "/").replace("~0", "~"))
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    if pointer.is_empty() {
        *document = value;
        return;
    }
    match parent_of(document, pointer) {
        (Value::Object(members), name) => {
            members.insert(name, value);
        }
        (Value::Array(items), name) if name == "-" => items.push(value),
        (Value::Array(items), name) => items[name.parse::<usize>().expect("an index")] = value,
        (other, _) => panic!("{pointer}: {other} has no members"),
    }
}

fn drop_member(document: &mut Value, pointer: &str) {
    let found = match parent_of(document, pointer) {
        (Value::Object(members), name) => members.remove(&name).is_some(),
        (Value::Array(items), name) => {
            items.remove(name.parse::<usize>().expect("an index"));
            true
        }
        _ => false,
    };
    assert!(found, "no {pointer} to drop");
}
