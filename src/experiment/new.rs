//! `new KIND`: a commented experiment file to start from.

use std::path::{Component, Path, PathBuf};

use super::RegisteredKind;

/// The experiment that new experiment files inherit from, in a checkout of the repository.
pub const BASE: &str = "experiments/desk-universality.yaml";

/// Returns the path of [`BASE`] in a checkout: the one that contains `folder`, else the one that
/// contains the current folder, else the one that the program was built in.
pub fn find_base(folder: &Path) -> Option<PathBuf> {
    let here = std::env::current_dir().ok();
    let around = folder.ancestors().chain(here.iter().flat_map(|here| here.ancestors()));
    let roots = around.chain([Path::new(env!("CARGO_MANIFEST_DIR"))]);
    roots.map(|root| root.join(BASE)).find(|base| base.is_file())
}

/// Returns the path of a file relative to a folder. Both paths are absolute and without links.
pub fn relative(file: &Path, folder: &Path) -> PathBuf {
    let (mut to, mut from) = (file.components().peekable(), folder.components().peekable());
    while to.peek().is_some() && to.peek() == from.peek() {
        to.next();
        from.next();
    }
    from.map(|_| Component::ParentDir).chain(to).collect()
}

/// Returns a path as a YAML value, in quotes if it needs them.
fn yaml(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { serde_json::json!(text).to_string() }
}

/// Returns the example of a kind as an experiment called `name` that inherits from the file at
/// `base`.
pub fn template(kind: &RegisteredKind, name: &str, base: &Path) -> String {
    let folder = base.parent().unwrap_or(Path::new(""));
    let line = |line: &str| {
        if line.starts_with("include:") {
            format!("include: {}", yaml(base))
        } else if line.starts_with("name:") {
            format!("name: {name}")
        } else {
            // Paths in the example are relative to the folder of `base`.
            let at = |line: String, name: &str| {
                let there = folder.join(name);
                ["path: ", "path: \"", "tests: "].iter().fold(line, |line, key| {
                    line.replace(&format!("{key}{name}/"), &format!("{key}{}/", there.display()))
                })
            };
            at(at(line.to_owned(), "families"), "desk")
        }
    };
    kind.example.lines().map(|text| line(text) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_leads_from_the_folder_to_the_file() {
        for (file, folder, expected) in [
            ("/a/b/x.yaml", "/a/b", "x.yaml"),
            ("/a/b/x.yaml", "/a", "b/x.yaml"),
            ("/a/b/x.yaml", "/a/c/d", "../../b/x.yaml"),
            ("/a/b/x.yaml", "/", "a/b/x.yaml"),
            ("/x.yaml", "/a/b", "../../x.yaml"),
            ("/ab/x.yaml", "/a", "../ab/x.yaml"),
        ] {
            let found = relative(Path::new(file), Path::new(folder));
            assert_eq!(found, Path::new(expected), "{file} from {folder}");
        }
    }

    #[test]
    fn a_path_that_yaml_would_misread_is_quoted() {
        for path in ["a b/# c: d.yaml", "\"quoted\".yaml", "[list].yaml", "../plain.yaml"] {
            let value: String = serde_yaml::from_str(&yaml(Path::new(path))).expect(path);
            assert_eq!(value, path);
        }
    }
}
