//! Reads tensors by their names in a model, ignoring prefixes that programs put before the names.

use std::collections::BTreeMap;
use std::fmt;

use super::source::Source;
use crate::error::{Error, Result};

/// Prefixes that programs put before the names of tensors: those of wrappers for several devices,
/// for compilation and for other libraries, and that of the model inside a model with a head.
const PREFIXES: [&str; 6] =
    ["module.", "_orig_mod.", "model.", "base_model.", "transformer.", "gpt_neox."];

/// Name and shape of a tensor.
pub(super) type Shape = (String, Vec<usize>);

/// A tensor that holds NaN or infinity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonFinite {
    /// Name of the tensor in the file.
    pub tensor: String,
    /// Number of values that are NaN or infinite.
    pub count: usize,
    /// Indices of the first such value.
    pub first: Vec<usize>,
}

impl NonFinite {
    fn of(tensor: &str, shape: &[usize], values: &[f32]) -> Option<Self> {
        let mut at = values.iter().position(|v| !v.is_finite())?;
        let mut first = vec![0; shape.len()];
        for (index, size) in first.iter_mut().zip(shape).rev() {
            *index = at % size;
            at /= size;
        }
        let count = values.iter().filter(|v| !v.is_finite()).count();
        Some(Self { tensor: tensor.to_owned(), count, first })
    }
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tensor, count, first } = self;
        let values = if *count == 1 { "value that is" } else { "values that are" };
        write!(f, "tensor `{tensor}` holds {count} {values} NaN or infinite, first at {first:?}")
    }
}

/// Reads tensors by name.
pub(super) struct TensorReader<'a> {
    source: &'a Source,
    /// The name of every tensor in the file, by its name without prefixes.
    names: BTreeMap<String, String>,
    /// The tensors read so far that hold NaN or infinity.
    pub non_finite: Vec<NonFinite>,
}

impl<'a> TensorReader<'a> {
    /// # Errors
    /// Returns an error if two tensors have the same name without prefixes.
    pub fn new(source: &'a Source) -> Result<Self> {
        let mut names = BTreeMap::new();
        for (stored, _) in source.tensors() {
            if let Some(other) = names.insert(inner_name(stored).to_owned(), stored.clone()) {
                return Err(source.error(format!(
                    "tensors `{other}` and `{stored}` have one name without their prefixes"
                )));
            }
        }
        Ok(Self { source, names, non_finite: Vec::new() })
    }

    pub fn error(&self, problem: String) -> Error {
        self.source.error(problem)
    }

    /// Returns whether there is a tensor with this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Checks that the expected tensors exist with the expected shapes and as floating-point numbers,
    /// and that all others are known to be irrelevant.
    pub fn check(&self, expected: &[Shape], harmless: impl Fn(&str) -> bool) -> Result<()> {
        for (name, shape) in expected {
            let missing = || self.error(format!("tensor `{name}` is missing"));
            let stored = self.names.get(name).ok_or_else(missing)?;
            let tensor = self.source.tensor(stored).ok_or_else(missing)?;
            if tensor.shape != *shape {
                let got = &tensor.shape;
                return Err(
                    self.error(format!("tensor `{stored}` has shape {got:?}, expected {shape:?}"))
                );
            }
            if !tensor.is_float() {
                let dtype = tensor.dtype;
                let expected = "expected F64, F32, F16 or BF16";
                return Err(
                    self.error(format!("tensor `{stored}` is of type {dtype:?}, {expected}"))
                );
            }
        }
        let known = |name: &str| expected.iter().any(|(e, _)| e == name) || harmless(name);
        match self.names.iter().find(|(name, _)| !known(name)) {
            Some((_, stored)) => {
                Err(self.error(format!("tensor `{stored}` is not part of this model")))
            }
            None => Ok(()),
        }
    }

    /// Reads a tensor in f32.
    pub fn take(&mut self, name: &str) -> Result<Vec<f32>> {
        let missing = || self.source.error(format!("tensor `{name}` is missing"));
        let stored = self.names.get(name).ok_or_else(missing)?;
        let tensor = self.source.tensor(stored).ok_or_else(missing)?;
        let values = self.source.values(tensor)?;
        self.non_finite.extend(NonFinite::of(stored, &tensor.shape, &values));
        Ok(values)
    }
}

fn inner_name(mut name: &str) -> &str {
    while let Some(inner) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = inner;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_off_in_any_order() {
        for name in [
            "wte.weight",
            "transformer.wte.weight",
            "module.transformer.wte.weight",
            "_orig_mod.module.model.wte.weight",
            "base_model.model.transformer.wte.weight",
        ] {
            assert_eq!(inner_name(name), "wte.weight");
        }
        assert_eq!(inner_name("student.wte.weight"), "student.wte.weight");
        assert_eq!(inner_name("h.0.module.weight"), "h.0.module.weight");
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        let values = [0.0, 1.0, 2.0, f32::NAN, 4.0, f32::INFINITY];
        let found = NonFinite::of("x", &[2, 3], &values).expect("two");
        assert_eq!((found.count, &found.first[..]), (2, &[1, 0][..]));
        assert!(found.to_string().contains("2 values"), "{found}");
        assert_eq!(NonFinite::of("x", &[2], &[0.0, f32::MAX]), None);
    }
}
