//! Reads experiment files strictly, with errors that name the line.

use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::Spec;
use super::check::check;
use super::finding::{Finding, finding};
use super::models::name_all_references;
use super::position::{Fault, Position, Positions};
use super::rules::{KindRules, Section};
use crate::digest::digest;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// Maximum length of an experiment file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A loaded spec.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec, merged with its base. Paths are relative to the file that they were written in.
    pub spec: Spec,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file and of all files that it includes.
    pub digest: String,
    /// The rules of its kind.
    pub kind: KindRules,
}

impl Spec {
    /// Loads an experiment file and the files that it may `include:`, for experiments of the
    /// kinds whose rules are given. A key counts where it is given last: a file comes after those
    /// that it includes, and these in the order of their list.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read; if it is not YAML, repeats a key, has an
    /// unknown one, lacks one, or holds a value of the wrong type or out of range; or if a file
    /// includes itself, at once or through others. Errors name file, line, column and key path.
    pub fn load(path: &Path, kinds: &[KindRules]) -> Result<Loaded> {
        let mut sources = Includes::default().read(path)?;
        let mut merged = Mapping::new();
        for source in sources.iter_mut().rev() {
            source.resolve_paths(kinds);
            merge(&mut merged, std::mem::take(&mut source.content));
        }
        let (spec, kind) = deserialize(merged, &sources, kinds)?;
        check(&spec, kind)
            .map_err(|(key, problem, remedy)| owner(&sources, &key).error(&key, problem, remedy))?;
        let texts = sources.iter().map(|s| s.text.as_str()).collect::<Vec<_>>();
        let digest = digest(texts.join("\0").as_bytes());
        Ok(Loaded { spec, path: path.to_path_buf(), digest, kind: *kind })
    }
}

/// Maximum number of files that one experiment consists of.
const MAX_FILES: usize = 64;

/// Reads a file and the files that it includes.
#[derive(Default)]
struct Includes {
    /// The whole files, each after those that it includes.
    read: Vec<SpecSource>,
    /// The files that are being read, each included by the one before it.
    open: Vec<SpecSource>,
}

impl Includes {
    /// Returns the file and those that it includes. The file is the first; each file comes before
    /// those that it includes.
    fn read(mut self, path: &Path) -> Result<Vec<SpecSource>> {
        self.add(SpecSource::read(path)?)?;
        self.read.reverse();
        Ok(self.read)
    }

    fn add(&mut self, mut source: SpecSource) -> Result<()> {
        let includes = source.take_includes()?;
        self.open.push(source);
        for name in includes {
            self.include(&name)?;
        }
        self.read.extend(self.open.pop());
        Ok(())
    }

    /// Reads a file that the innermost open file includes, unless it was read before.
    fn include(&mut self, name: &Path) -> Result<()> {
        let Some(by) = self.open.last() else { return Ok(()) };
        let path = by.path.with_file_name(name);
        let place = place_of(&path);
        if let Some(first) = self.open.iter().position(|open| open.place == place) {
            let circle = self.open[first..].iter().map(|open| open.path.as_path());
            let names: Vec<String> = circle.chain([&*path]).map(file_name).collect();
            let problem = format!("includes itself: {}", names.join(" includes "));
            return Err(by.error("include", problem, "leave out one of these includes"));
        }
        if self.read.iter().any(|known| known.place == place) {
            return Ok(());
        }
        if self.read.len() + self.open.len() >= MAX_FILES {
            let problem = format!("more than {MAX_FILES} files are included");
            return Err(by.error("include", problem, "write their keys into fewer files"));
        }
        self.add(SpecSource::read(&path)?)
    }
}

/// Returns a path that is the same for all names of one file.
fn place_of(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// One YAML file.
struct SpecSource {
    path: PathBuf,
    /// The path without links, which tells files apart.
    place: PathBuf,
    text: String,
    positions: Positions,
    content: Mapping,
}

impl SpecSource {
    fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let positions = Positions::of(&text).map_err(|fault| fault.in_file(path))?;
        let content = match serde_yaml::from_str(&text) {
            Ok(Value::Mapping(content)) => Ok(content),
            Ok(_) => Err("expected keys and values".to_string()),
            Err(e) => Err(e.to_string()),
        };
        let content = content.map_err(|problem| {
            let remedy = "start from one of the files in experiments/";
            Error::new(Kind::Spec, path.display(), problem, remedy)
        })?;
        Ok(Self { path: path.to_path_buf(), place: place_of(path), text, positions, content })
    }

    /// Removes and returns the names of the files that are included.
    fn take_includes(&mut self) -> Result<Vec<PathBuf>> {
        let Some(value) = self.content.remove("include") else { return Ok(Vec::new()) };
        let names = match value {
            Value::Sequence(names) => names,
            name => vec![name],
        };
        let name = |name: &Value| name.as_str().filter(|n| !n.is_empty()).map(PathBuf::from);
        let names: Option<Vec<PathBuf>> = names.iter().map(name).collect();
        names.filter(|names| !names.is_empty()).ok_or_else(|| {
            let problem = "expected the name of a file, or a list of names";
            self.error("include", problem, "write `include: base.yaml`")
        })
    }

    /// Makes the paths in this file relative to the working folder instead of to the file.
    fn resolve_paths(&mut self, kinds: &[KindRules]) {
        let folder = self.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let common: [(&str, &[&str]); 3] = [
            ("corpus", &["path"]),
            ("cards", &["tests"]),
            ("models", &["path", "tokenizer", "names"]),
        ];
        let sections = kinds.iter().map(|kind| (kind.name, kind.paths));
        for (section, keys) in common.into_iter().chain(sections) {
            if let Some(section) = self.content.get_mut(section) {
                resolve(section, keys, &folder);
            }
        }
    }

    fn error(
        &self,
        key: &str,
        problem: impl std::fmt::Display,
        remedy: impl std::fmt::Display,
    ) -> Error {
        let at = self.positions.nearest(key).unwrap_or(Position { line: 1, column: 1 });
        let subject = format!("{}:{}:{}", self.path.display(), at.line, at.column);
        let problem =
            if key.is_empty() { problem.to_string() } else { format!("`{key}`: {problem}") };
        Error::new(Kind::Spec, subject, problem, remedy)
    }
}

impl Fault {
    fn in_file(self, path: &Path) -> Error {
        let Position { line, column } = self.position;
        let subject = format!("{}:{line}:{column}", path.display());
        Error::new(Kind::Spec, subject, self.problem, self.remedy)
    }
}

/// Reads a file as text, without its byte-order mark.
fn read_text(path: &Path) -> Result<String> {
    let missing = |error: Error| {
        let remedy =
            "give the path of an experiment file; those of the project are in experiments/";
        if path.exists() { error } else { Error { remedy: remedy.into(), ..error } }
    };
    let mut input = InputFile::open_unchecked(Kind::Spec, path).map_err(missing)?;
    // An empty file gets the same error as any text without keys.
    if !input.is_empty() {
        input = InputFile::open(Kind::Spec, path)?;
    }
    input.text(MAX_BYTES)
}

/// Merges `over` into `base`: mappings are merged key by key, other values are replaced.
fn merge(base: &mut Mapping, over: Mapping) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Mapping(below)), Value::Mapping(above)) => merge(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Returns the file that contains a key, or the first file if none does.
fn owner<'a>(sources: &'a [SpecSource], key: &str) -> &'a SpecSource {
    sources.iter().find(|s| s.positions.contains(key)).unwrap_or(&sources[0])
}

/// Resolves the paths under some keys of a section and of the lists within it.
fn resolve(section: &mut Value, keys: &[&str], folder: &Path) {
    match section {
        Value::Mapping(mapping) => {
            for (key, value) in mapping.iter_mut() {
                match value {
                    Value::String(path) if keys.iter().any(|k| key.as_str() == Some(k)) => {
                        *path = folder.join(&path).to_string_lossy().into_owned();
                    }
                    _ => resolve(value, keys, folder),
                }
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| resolve(item, keys, folder)),
        _ => {}
    }
}

/// Makes a spec of the merged files, with the rules of its kind.
fn deserialize<'k>(
    mut merged: Mapping,
    sources: &[SpecSource],
    kinds: &'k [KindRules],
) -> Result<(Spec, &'k KindRules)> {
    let error = |(key, problem, remedy): (String, String, String)| {
        owner(sources, &key).error(&key, problem, remedy)
    };
    let sections: Vec<(&KindRules, Value)> = kinds
        .iter()
        .filter_map(|kind| Some((kind, merged.remove(kind.name).filter(|_| kind.has_section())?)))
        .collect();
    name_all_references(&mut merged);
    let spec: Result<Spec, _> = serde_path_to_error::deserialize(Value::Mapping(merged));
    let mut spec = spec.map_err(|e| {
        let path = e.path().to_string();
        let key = if path == "." { String::new() } else { path };
        let mut message = super::suggest::plain(&e.inner().to_string());
        // The sections of kinds are valid keys, although the type has no fields for them.
        if !key.contains(['.', '[']) && message.starts_with("unknown field") {
            let known = kinds.iter().filter(|kind| kind.has_section());
            known.for_each(|kind| message.push_str(&format!(", `{}`", kind.name)));
        }
        let remedy = super::suggest::remedy(&message);
        error((key, message, remedy))
    })?;
    let kind = kind_of(&spec, kinds).map_err(error)?;
    let settings = settings_of(kind, sections).map_err(error)?;
    spec.settings.extend(settings.map(|settings| (kind.name.to_owned(), settings)));
    Ok((spec, kind))
}

fn kind_of<'k>(spec: &Spec, kinds: &'k [KindRules]) -> Result<&'k KindRules, Finding> {
    kinds.iter().find(|kind| kind.name == spec.kind).ok_or_else(|| {
        let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
        let message = format!("unknown kind `{}`, expected one of {}", spec.kind, names.join(", "));
        let remedy = super::suggest::remedy(&message);
        ("kind".to_owned(), message, remedy)
    })
}

/// The complete settings of a kind; sections of other kinds are refused.
fn settings_of(
    kind: &KindRules,
    sections: Vec<(&KindRules, Value)>,
) -> Result<Option<Value>, Finding> {
    let mut own = None;
    for (of, section) in sections {
        if of.name != kind.name {
            let problem = format!("belongs to `kind: {}`", of.name);
            return finding(of.name, problem, "leave it out, or change the kind");
        }
        own = Some(section);
    }
    let needed = kind.section == Section::Required;
    if needed && own.is_none() {
        let problem = format!("`kind: {0}` needs a section `{0}`", kind.name);
        return finding("kind", problem, "see experiments/ for an example");
    }
    if !kind.has_section() {
        return Ok(None);
    }
    let complete = (kind.complete)(own.unwrap_or_default());
    complete.map(Some).map_err(|(key, problem, remedy)| {
        let separator = if key.is_empty() || key.starts_with('[') { "" } else { "." };
        (format!("{}{separator}{key}", kind.name), problem, remedy)
    })
}
