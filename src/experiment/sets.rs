//! Sets of neurons that settings name: listed, of a file, universal, or drawn at random.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::from_layer;
use super::kind::refuse_none;
use super::named::{distinct, neurons_in_model};
use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, Workload};
use crate::run::Session;
use crate::spec::{Finding, finding};
use crate::table::NeuronId;

/// Maximum length of a file of neurons, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// A set of neurons, given by exactly one of its keys besides the name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedSet {
    /// Name of the set in tables and figures.
    pub name: String,
    /// The neurons, such as `[L2.N348, L2.N970]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neurons: Vec<NeuronId>,
    /// A CSV file with columns `layer` and `neuron`; other columns are not read. A relative path
    /// starts at the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The universal neurons: of the run that `--universal` names, or of the study that the spec
    /// describes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub universal: bool,
    /// Name of an earlier set that is not random itself. Random neurons outside that set are drawn,
    /// in each layer as many as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

/// Checks the sets of `key` without their files.
///
/// # Errors
/// Returns the key path of the first mistake, the problem and the remedy.
pub fn check_sets(key: &str, sets: &[NamedSet]) -> Result<(), Finding> {
    for (i, set) in sets.iter().enumerate() {
        let key = format!("{key}[{i}]");
        let given =
            [!set.neurons.is_empty(), set.path.is_some(), set.universal, set.like.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            let problem = format!("set `{}` is not given by exactly one key", set.name);
            return finding(key, problem, "give one of `neurons`, `path`, `universal` and `like`");
        }
        if set.name.is_empty() || sets[..i].iter().any(|earlier| earlier.name == set.name) {
            let problem = format!("`{}` is empty or the name of an earlier set", set.name);
            return finding(format!("{key}.name"), problem, "give every set its own name");
        }
        distinct(&format!("{key}.neurons"), &set.neurons)?;
        let known = |name: &String| {
            sets[..i].iter().any(|earlier| earlier.name == *name && earlier.like.is_none())
        };
        if let Some(name) = set.like.as_ref().filter(|name| !known(name)) {
            let problem = format!("no earlier set that is not random is called `{name}`");
            return finding(format!("{key}.like"), problem, "name a set that is listed before");
        }
    }
    Ok(())
}

/// Returns the share of the blocks that the passes of some sets run, one for each set, or one for each
/// of its listed neurons. A set whose neurons are not listed runs all blocks, and one that is `like`
/// another is drawn `draws` times.
pub fn of_sets(work: &Workload, sets: &[NamedSet], each: bool, draws: usize) -> Vec<f64> {
    let layers = |set: &NamedSet| set.neurons.iter().map(|id| id.layer).collect::<Vec<_>>();
    let of_set = |set: &NamedSet| {
        let own = match &set.like {
            Some(name) => sets.iter().find(|s| s.name == *name).map(layers).unwrap_or_default(),
            None => layers(set),
        };
        let shares: Vec<f64> = match (each, own.iter().min()) {
            (_, None) => vec![1.0],
            (true, _) => own.iter().map(|&layer| from_layer(work, layer)).collect(),
            (false, Some(&first)) => vec![from_layer(work, first)],
        };
        shares.repeat(if set.like.is_some() { draws } else { 1 })
    };
    sets.iter().flat_map(of_set).collect()
}

/// Checks the neurons and files of sets against the reference model.
///
/// # Errors
/// Returns an error if a neuron is not in the model, or a file is missing or malformed.
pub fn check_set_files(key: &str, sets: &[NamedSet], plan: &Plan) -> Result<()> {
    sets.iter()
        .enumerate()
        .try_for_each(|(i, set)| listed(&format!("{key}[{i}]"), set, plan).map(drop))
}

/// Returns the neurons that a set lists, itself or in its file.
fn listed(key: &str, set: &NamedSet, plan: &Plan) -> Result<Vec<NeuronId>> {
    match &set.path {
        Some(path) => read_neurons(path, plan),
        None => {
            neurons_in_model(&format!("{key}.neurons"), &set.neurons, plan)?;
            Ok(set.neurons.clone())
        }
    }
}

/// Returns the name and neurons of each set of `key`, as indices over all layers. A set that is
/// `like` another becomes `draws` sets, which are numbered if there are several.
///
/// # Errors
/// Returns an error as [`check_set_files`] does.
pub fn resolve(
    key: &str,
    sets: &[NamedSet],
    plan: &Plan,
    universal: &[bool],
    draws: usize,
    random: &mut ChaCha8Rng,
) -> Result<Vec<(String, Vec<usize>)>> {
    let layout = plan.reference().layout();
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        if let Some(like) = &set.like {
            let mask = mask(&found, like, layout);
            for draw in 1..=draws {
                let name =
                    if draws == 1 { set.name.clone() } else { format!("{} {draw}", set.name) };
                found.push((name, matched(&mask, layout, random)));
            }
        } else if set.universal {
            let of = (0..universal.len()).filter(|&i| universal[i]).collect();
            found.push((set.name.clone(), of));
        } else {
            let ids = listed(&format!("{key}[{i}]"), set, plan)?;
            found.push((set.name.clone(), ids.iter().map(|id| id.index(layout.d_mlp)).collect()));
        }
    }
    Ok(found)
}

/// Returns whether each neuron is universal.
///
/// # Errors
/// Returns an error if the study fails or no neuron is universal.
pub fn some_universal(session: &mut Session) -> Result<Vec<bool>> {
    let universal = session.universal()?;
    refuse_none(session.plan, &universal).map(|()| universal)
}

fn mask(found: &[(String, Vec<usize>)], name: &str, layout: Layout) -> Vec<bool> {
    let mut mask = vec![false; layout.n_neurons()];
    let of = found.iter().filter(|(other, _)| other == name);
    of.flat_map(|(_, neurons)| neurons).for_each(|&i| mask[i] = true);
    mask
}

/// Returns random neurons that are not marked, in each layer as many as are marked.
pub fn matched(marked: &[bool], layout: Layout, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut all = Vec::new();
    for layer in 0..layout.n_layers {
        let neurons = layout.neurons(layer);
        let wanted = neurons.clone().filter(|&i| marked[i]).count();
        let mut others: Vec<usize> = neurons.filter(|&i| !marked[i]).collect();
        let wanted = wanted.min(others.len());
        for i in 0..wanted {
            let j = i + (random.next_u64() % (others.len() - i) as u64) as usize;
            others.swap(i, j);
        }
        all.extend_from_slice(&others[..wanted]);
    }
    all
}

/// Reads the neurons of a CSV file with columns `layer` and `neuron`.
///
/// # Errors
/// Returns an error with the line if a column is missing, a cell is not a number, a neuron is not
/// in the reference model, or one is listed twice.
fn read_neurons(path: &Path, plan: &Plan) -> Result<Vec<NeuronId>> {
    let wrong = |problem: String, remedy: &str| {
        Err(Error::new(Kind::Spec, path.display(), problem, remedy))
    };
    let text = plan.files.text(Kind::Spec, path, MAX_FILE)?;
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let columns = csv.headers().map(|header| {
        ["layer", "neuron"].map(|name| header.iter().position(|cell| cell.trim() == name))
    });
    let Ok([Some(layer), Some(neuron)]) = columns else {
        return wrong("it has no columns `layer` and `neuron`".into(), "name both in line 1");
    };
    let layout = plan.reference().layout();
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    for (i, record) in csv.records().enumerate() {
        let at = i + 2;
        let record = record.ok();
        let cell = |c: usize| record.as_ref()?.get(c)?.trim().parse::<usize>().ok();
        let (Some(layer), Some(neuron)) = (cell(layer), cell(neuron)) else {
            return wrong(
                format!("row {at} has no layer and neuron as whole numbers"),
                "write both, counted from 0",
            );
        };
        let id = NeuronId { layer, neuron };
        if layer >= layout.n_layers || neuron >= layout.d_mlp {
            let (layers, width) = (layout.n_layers, layout.d_mlp);
            let problem = format!(
                "row {at}: {id} is not in model `{}`, which has {layers} layers of {width} neurons",
                plan.reference().name
            );
            return wrong(problem, "remove the row, or choose the model that the file is about");
        }
        if !seen.insert(id) {
            return wrong(format!("row {at}: {id} is listed twice"), "list it once");
        }
        all.push(id);
    }
    match all.is_empty() {
        true => wrong("it lists no neuron".into(), "list one neuron per row"),
        false => Ok(all),
    }
}
