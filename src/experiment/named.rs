//! Neurons and heads that settings name: the checks of their names, and the pairs of
//! `attention.pairs`.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::hash::Hash;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::{Finding, finding};
use crate::table::{HeadId, NeuronId};

/// The pairs of a neuron and a head that are studied.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum PairChoice {
    /// This many pairs, those with the largest heuristic.
    Strongest(#[schemars(range(min = 1, max = 1000))] usize),
    /// These pairs, each a neuron and a head of a later layer, such as `[L4.N3594, L5.H0]`.
    Named(Vec<(NeuronId, HeadId)>),
}

impl<'de> Deserialize<'de> for PairChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = PairChoice;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of pairs, or a list of pairs such as [L4.N3594, L5.H0]")
            }

            fn visit_u64<E>(self, count: u64) -> Result<PairChoice, E> {
                Ok(PairChoice::Strongest(usize::try_from(count).unwrap_or(usize::MAX)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<PairChoice, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(PairChoice::Named)
            }
        }
        from.deserialize_any(Choice)
    }
}

impl PairChoice {
    /// Checks the named pairs of `key`: there is one, none occurs twice, and each head lies in a
    /// layer after that of its neuron.
    ///
    /// # Errors
    /// Returns the key path of the first mistake, the problem and the remedy.
    pub fn check(&self, key: &str) -> Result<(), Finding> {
        let Self::Named(pairs) = self else { return Ok(()) };
        if pairs.is_empty() {
            return finding(
                key,
                "names no pair",
                "name one such as [L4.N3594, L5.H0], or a number",
            );
        }
        for (i, (neuron, head)) in pairs.iter().enumerate() {
            if head.layer <= neuron.layer {
                let problem = format!("{head} is computed before {neuron} and never reads it");
                let remedy = format!("choose a head of layer {} or later", neuron.layer + 1);
                return finding(format!("{key}[{i}]"), problem, remedy);
            }
        }
        distinct(key, &pairs.iter().map(|(n, h)| format!("[{n}, {h}]")).collect::<Vec<_>>())
    }

    /// Checks that all named neurons and heads are in the reference model of a plan.
    ///
    /// # Errors
    /// Returns an error with the key, the size of the model and the remedy.
    pub fn check_model(&self, key: &str, plan: &Plan) -> Result<()> {
        let Self::Named(pairs) = self else { return Ok(()) };
        let (neurons, heads): (Vec<NeuronId>, Vec<HeadId>) = pairs.iter().copied().unzip();
        neurons_in_model(key, &neurons, plan)?;
        heads_in_model(key, &heads, plan)
    }
}

/// Checks that no item of a list occurs twice.
///
/// # Errors
/// Returns the key path of the first item that repeats an earlier one.
pub fn distinct<T: Eq + Hash + Display>(key: &str, items: &[T]) -> Result<(), Finding> {
    let mut seen = HashSet::new();
    match items.iter().position(|item| !seen.insert(item)) {
        None => Ok(()),
        Some(i) => {
            finding(format!("{key}[{i}]"), format!("{} is listed twice", items[i]), "list it once")
        }
    }
}

/// Checks that all neurons are in the reference model of a plan; `key` is the list's key path.
///
/// # Errors
/// Returns an error with the key, the size of the model and the remedy.
pub fn neurons_in_model(key: &str, neurons: &[NeuronId], plan: &Plan) -> Result<()> {
    let layout = plan.reference().layout();
    let outside = |id: &NeuronId| id.layer >= layout.n_layers || id.neuron >= layout.d_mlp;
    let found = neurons.iter().position(outside).map(|i| (i, &neurons[i]));
    in_model(key, found, (layout.d_mlp, "neurons"), plan)
}

/// Checks that all attention heads are in the reference model of a plan; `key` is the list's key
/// path.
///
/// # Errors
/// Returns an error with the key, the size of the model and the remedy.
pub fn heads_in_model(key: &str, heads: &[HeadId], plan: &Plan) -> Result<()> {
    let config = &plan.reference().config;
    let outside = |id: &HeadId| id.layer >= config.n_layers || id.head >= config.n_heads;
    let found = heads.iter().position(outside).map(|i| (i, &heads[i]));
    in_model(key, found, (config.n_heads, "heads"), plan)
}

/// Refuses the item of a list that is outside the reference model, if there is one. `width` is the
/// number of items of this sort in a layer.
fn in_model(
    key: &str,
    outside: Option<(usize, &impl Display)>,
    (width, what): (usize, &str),
    plan: &Plan,
) -> Result<()> {
    let Some((i, id)) = outside else { return Ok(()) };
    let model = plan.reference();
    let layers = model.config.n_layers;
    let subject = format!("{}: {key}[{i}]", plan.spec_path.display());
    let problem = format!(
        "{id} is not in model `{}`, which has {layers} layers of {width} {what}",
        model.name
    );
    let remedy =
        format!("choose layers from 0 to {} and {what} from 0 to {}", layers - 1, width - 1);
    Err(Error::new(Kind::Spec, subject, problem, remedy))
}
