//! The neurons that a study of families is about.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{SeqAccessDeserializer, StrDeserializer};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::table::NeuronId;

/// The neurons that a study of families is about.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum NeuronChoice {
    /// A group of neurons.
    Group(NeuronGroup),
    /// These neurons, such as `[L2.N348, L2.N970]`.
    Named(Vec<NeuronId>),
}

/// A group of neurons of the reference model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeuronGroup {
    /// All neurons.
    All,
    /// The universal neurons: of the run that `--universal` names, or of the study that the spec
    /// describes.
    Universal,
}

impl Default for NeuronChoice {
    fn default() -> Self {
        Self::Group(NeuronGroup::All)
    }
}

impl<'de> Deserialize<'de> for NeuronChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = NeuronChoice;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("`all`, `universal`, or a list of neurons such as [L2.N348]")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<NeuronChoice, E> {
                NeuronGroup::deserialize(StrDeserializer::new(name)).map(NeuronChoice::Group)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<NeuronChoice, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(NeuronChoice::Named)
            }
        }
        from.deserialize_any(Choice)
    }
}

impl NeuronChoice {
    /// Returns the neurons, as ascending indices over all layers of `d_mlp` neurons each.
    /// `universal` says of every neuron whether it is universal.
    pub fn indices(&self, universal: &[bool], d_mlp: usize) -> Vec<usize> {
        match self {
            Self::Group(NeuronGroup::All) => (0..universal.len()).collect(),
            Self::Group(NeuronGroup::Universal) => {
                (0..universal.len()).filter(|&i| universal[i]).collect()
            }
            Self::Named(ids) => {
                let mut indices: Vec<usize> = ids.iter().map(|id| id.index(d_mlp)).collect();
                indices.sort_unstable();
                indices
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> serde_yaml::Result<NeuronChoice> {
        serde_yaml::from_str(yaml)
    }

    #[test]
    fn a_choice_is_a_group_or_a_list() {
        let universal = [false, true, false, true];
        let indices = |yaml: &str| read(yaml).expect("a choice").indices(&universal, 2);
        assert_eq!(indices("all"), [0, 1, 2, 3]);
        assert_eq!(indices("universal"), [1, 3]);
        assert_eq!(indices("[L1.N0, L0.N1]"), [1, 2]);
        for yaml in ["all", "universal", "[L1.N0]"] {
            let written = serde_yaml::to_string(&read(yaml).expect("a choice")).expect("YAML");
            assert_eq!(read(&written).expect("a choice"), read(yaml).expect("a choice"));
        }
    }

    #[test]
    fn errors_say_what_is_expected() {
        assert!(read("some").unwrap_err().to_string().contains("`all` or `universal`"));
        assert!(read("3").unwrap_err().to_string().contains("a list of neurons"));
    }
}
