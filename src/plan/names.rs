//! Names that a user gives neurons, or other units, of a model.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::ReadFiles;
use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};

/// Maximum length of a file of names, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 500;

/// Names of some neurons of a model, by their indices over all layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitNames(BTreeMap<usize, String>);

/// A line of a file of names.
#[derive(Deserialize)]
struct NamedUnit {
    layer: usize,
    neuron: usize,
    name: String,
}

impl UnitNames {
    /// Reads a CSV file with the columns `layer`, `neuron` and `name`. Neurons of layers that are left
    /// out are skipped.
    ///
    /// # Errors
    /// Returns an error naming the line if the file is not such a table, or a neuron is named twice or
    /// is not one of the model's.
    pub(super) fn read(path: &Path, layout: Layout, files: &ReadFiles) -> Result<Self> {
        let text = files.text(Kind::Spec, path, MAX_FILE)?;
        let mut names = BTreeMap::new();
        let mut lines = csv::Reader::from_reader(text.as_bytes());
        for (i, line) in lines.deserialize::<NamedUnit>().enumerate() {
            // The first line of the file is the header.
            let wrong = |problem: String| {
                let remedy = "write a table with the columns `layer`, `neuron` and `name`";
                Error::new(Kind::Spec, format!("{}:{}", path.display(), i + 2), problem, remedy)
            };
            let NamedUnit { layer, neuron, name } = line.map_err(|e| wrong(e.to_string()))?;
            if neuron >= layout.d_mlp {
                let last = layout.d_mlp - 1;
                return Err(wrong(format!("`neuron` is {neuron}, and the last one is {last}")));
            }
            if name.trim().is_empty() || name.len() > MAX_NAME {
                let length = name.len();
                return Err(wrong(format!("`name` has {length} bytes, expected 1 to {MAX_NAME}")));
            }
            if layer >= layout.n_layers {
                continue;
            }
            if names.insert(layout.neurons(layer).start + neuron, name).is_some() {
                return Err(wrong(format!("L{layer}.N{neuron} is named a second time")));
            }
        }
        Ok(Self(names))
    }

    /// Returns the name of a neuron, given its index over all layers.
    pub fn get(&self, neuron: usize) -> Option<&str> {
        self.0.get(&neuron).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<UnitNames> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("write");
        let layout = Layout { n_layers: 2, d_mlp: 3 };
        UnitNames::read(file.path(), layout, &ReadFiles::default())
    }

    #[test]
    fn names_are_found_by_the_place_of_their_neuron() {
        let text = "name,neuron,layer\n\"a, b\",2,1\nzwölf,0,0\nof another layer,1,7\n";
        let names = read(text).expect("names");
        let found: Vec<Option<&str>> = (0..6).map(|i| names.get(i)).collect();
        assert_eq!(found, [Some("zwölf"), None, None, None, None, Some("a, b")]);
    }

    #[test]
    fn what_is_no_table_of_names_is_refused_by_line() {
        for (text, line, says) in [
            ("layer,neuron\n0,1\n", 2, "name"),
            ("layer,neuron,name\n0,1,x\n0,3,y\n", 3, "the last one is 2"),
            ("layer,neuron,name\n0,-1,x\n", 2, "neuron"),
            ("layer,neuron,name\n0,1,x\n0,1,y\n", 3, "L0.N1 is named a second time"),
            ("layer,neuron,name\n0,1, \n", 2, "1 bytes"),
            ("layer,neuron,name\n0,1\n", 2, "fields"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(&format!(":{line}: ")) && error.contains(says), "{error}");
        }
    }
}
