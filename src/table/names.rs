//! The names of neurons and attention heads: `L0.N2436`, `L5.H0`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::printable::line;

/// Parses `L0.N12`, and the forms `L0.12` and `0.12` that other tools write; `letter` is that of
/// the second part.
fn parsed(text: &str, letter: char, what: &str) -> Result<(usize, usize), String> {
    let wrong = || format!("`{}` is not {what}, expected one like L0.{letter}12", line(text));
    let (layer, within) = text.split_once('.').ok_or_else(wrong)?;
    let number = |part: &str, prefix: char| {
        let digits = part.strip_prefix(prefix).unwrap_or(part);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten().ok_or_else(wrong)
    };
    Ok((number(layer, 'L')?, number(within, letter)?))
}

macro_rules! name {
    ($name:ident, $field:ident, $letter:literal, $what:literal, $place:literal) => {
        #[doc = concat!("The place of ", $what, " in a model, displayed as `", $place, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            /// Index of the layer, from 0.
            pub layer: usize,
            /// Index within the layer, from 0.
            pub $field: usize,
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let (layer, $field) = parsed(text, $letter, $what)?;
                Ok(Self { layer, $field })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("L{}.", $letter, "{}"), self.layer, self.$field)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": concat!("The name of ", $what, ", such as ", $place, "."),
                    "pattern": concat!("^L?[0-9]+\\.", $letter, "?[0-9]+$"),
                })
            }
        }
    };
}

name!(NeuronId, neuron, 'N', "a neuron", "L0.N2436");
name!(HeadId, head, 'H', "an attention head", "L5.H0");

impl NeuronId {
    /// Returns the neuron with index `i` counted over all layers of `d_mlp` neurons.
    pub fn of(i: usize, d_mlp: usize) -> Self {
        Self { layer: i / d_mlp, neuron: i % d_mlp }
    }

    /// Returns the index counted over all layers of `d_mlp` neurons.
    pub fn index(self, d_mlp: usize) -> usize {
        self.layer * d_mlp + self.neuron
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_shown() {
        let neuron = NeuronId { layer: 2, neuron: 348 };
        for text in ["L2.N348", "L2.348", "2.348"] {
            assert_eq!(text.parse(), Ok(neuron), "{text}");
        }
        assert_eq!((neuron.to_string().as_str(), neuron.index(1024)), ("L2.N348", 2396));
        assert_eq!(NeuronId::of(2396, 1024), neuron);
        let head = HeadId { layer: 5, head: 0 };
        assert_eq!("L5.H0".parse(), Ok(head));
        assert_eq!(head.to_string(), "L5.H0");
    }

    #[test]
    fn a_name_of_the_other_kind_is_refused() {
        let neuron = "L5.H0".parse::<NeuronId>().expect_err("a head");
        assert_eq!(neuron, "`L5.H0` is not a neuron, expected one like L0.N12");
        let head = "L5.N0".parse::<HeadId>().expect_err("a neuron");
        assert_eq!(head, "`L5.N0` is not an attention head, expected one like L0.H12");
        for text in ["", "L2", "L2.N", "L2.N+1", "L-1.N1", "L2.N99999999999999999999"] {
            assert!(text.parse::<NeuronId>().is_err(), "{text}");
        }
    }
}
