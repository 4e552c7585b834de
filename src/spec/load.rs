//! Reading an experiment file: strictly, and with errors that point at the line.

use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::Spec;
use super::check::check;
use super::position::{Fault, Position, Positions};
use crate::error::{Error, Kind, Result};
use crate::store::digest;

/// Largest experiment file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A spec as loaded.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The spec, its base merged in; paths are resolved against the file that
    /// they were written in.
    pub spec: Spec,
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file, and of its base if it has one.
    pub digest: String,
}

impl Spec {
    /// Loads an experiment file and the base that it may `include:`.
    ///
    /// # Errors
    /// If a file cannot be read; if it is not YAML, repeats a key, has an
    /// unknown one, lacks one, or holds a value of the wrong type or out of
    /// range. Errors name file, line, column and key path.
    pub fn load(path: &Path) -> Result<Loaded> {
        let mut sources = vec![Source::read(path)?];
        if let Some(base) = sources[0].take_include()? {
            let mut base = Source::read(&path.with_file_name(base))?;
            if base.take_include()?.is_some() {
                let remedy = "include the innermost base directly";
                return Err(base.error(
                    "include",
                    "an included file cannot include another",
                    remedy,
                ));
            }
            sources.push(base);
        }
        let mut merged = Mapping::new();
        for source in sources.iter_mut().rev() {
            source.resolve_paths();
            merge(&mut merged, std::mem::take(&mut source.content));
        }
        let spec = deserialize(Value::Mapping(merged), &sources)?;
        check(&spec)
            .map_err(|(key, problem, remedy)| owner(&sources, &key).error(&key, problem, remedy))?;
        let texts = sources.iter().map(|s| s.text.as_str()).collect::<Vec<_>>();
        Ok(Loaded { spec, path: path.to_path_buf(), digest: digest(texts.join("\0").as_bytes()) })
    }
}

/// One YAML file.
struct Source {
    path: PathBuf,
    text: String,
    positions: Positions,
    content: Mapping,
}

impl Source {
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
        Ok(Self { path: path.to_path_buf(), text, positions, content })
    }

    /// Removes and returns the name of the base file.
    fn take_include(&mut self) -> Result<Option<PathBuf>> {
        match self.content.remove("include") {
            None => Ok(None),
            Some(Value::String(base)) => Ok(Some(base.into())),
            Some(_) => Err(self.error(
                "include",
                "expected the name of a file",
                "write `include: base.yaml`",
            )),
        }
    }

    /// Makes the paths in this file relative to the working folder instead of to the file.
    fn resolve_paths(&mut self) {
        let folder = self.path.parent().unwrap_or(Path::new("")).to_path_buf();
        let resolve = |mapping: &mut Mapping| {
            for key in ["path", "syntax", "tests"] {
                if let Some(Value::String(path)) = mapping.get_mut(key) {
                    *path = folder.join(&path).to_string_lossy().into_owned();
                }
            }
        };
        for section in ["corpus", "families", "cards"] {
            if let Some(Value::Mapping(section)) = self.content.get_mut(section) {
                resolve(section);
            }
        }
        let family = self.content.get_mut("models").and_then(|models| models.get_mut("family"));
        let models = family.and_then(Value::as_sequence_mut).into_iter().flatten();
        models.filter_map(Value::as_mapping_mut).for_each(resolve);
        let steps = self.content.get_mut("dynamics").and_then(|section| section.get_mut("steps"));
        let steps = steps.and_then(Value::as_sequence_mut).into_iter().flatten();
        steps.filter_map(Value::as_mapping_mut).for_each(resolve);
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

fn read_text(path: &Path) -> Result<String> {
    let io = |e: std::io::Error| {
        let error = Error::io(Kind::Spec, path, "read the experiment file", &e);
        let remedy =
            "give the path of an experiment file; those of the project are in experiments/";
        match e.kind() {
            std::io::ErrorKind::NotFound => Error { remedy: remedy.into(), ..error },
            _ => error,
        }
    };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > MAX_BYTES {
        let problem = format!("is {size} bytes long, expected at most {MAX_BYTES}");
        return Err(Error::new(
            Kind::Spec,
            path.display(),
            problem,
            "give the experiment file itself",
        ));
    }
    String::from_utf8(fs::read(path).map_err(io)?).map_err(|e| {
        let problem = format!("invalid UTF-8 after byte {}", e.utf8_error().valid_up_to());
        Error::new(Kind::Spec, path.display(), problem, "save the file as UTF-8")
    })
}

/// Lays `over` on `base`: mappings merge key by key, anything else is replaced.
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

/// The file that wrote a key, or the first if none did.
fn owner<'a>(sources: &'a [Source], key: &str) -> &'a Source {
    sources.iter().find(|s| s.positions.contains(key)).unwrap_or(&sources[0])
}

fn deserialize(merged: Value, sources: &[Source]) -> Result<Spec> {
    serde_path_to_error::deserialize(merged).map_err(|e| {
        let path = e.path().to_string();
        let key = if path == "." { "" } else { path.as_str() };
        let message = super::suggest::plain(&e.inner().to_string());
        let remedy = super::suggest::remedy(&message);
        owner(sources, key).error(key, message, remedy)
    })
}
