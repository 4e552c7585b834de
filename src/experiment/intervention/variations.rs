//! The runs of an intervention experiment: each set of neurons, or each neuron, with each action
//! and value.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::super::means::mean_activations;
use super::super::sets::{resolve, some_universal};
use super::settings::{ActionKind, InterventionSettings};
use crate::correlation::Layout;
use crate::error::Result;
use crate::model::intervene::{Action, Intervention};
use crate::model::{HookPoint, Site};
use crate::run::Session;
use crate::table::NeuronId;

/// Neurons that are changed together, and how.
pub struct Variation {
    /// Name of the set, followed by that of the neuron if each is changed alone.
    pub set: String,
    /// Number of neurons.
    pub neurons: usize,
    /// What is done.
    pub action: ActionKind,
    /// The value or the range, as in tables; empty for an action without one.
    pub value: String,
    /// The changes, one per layer.
    pub interventions: Vec<Intervention>,
}

/// An action with one value.
struct GridPoint {
    action: ActionKind,
    value: String,
    /// The change of one activation; `None` for the mean, which differs between neurons.
    change: Option<Action>,
}

/// Returns all variations, sets in the order of the settings. Sets without neurons have none.
///
/// # Errors
/// Returns an error if a set cannot be resolved, or the means cannot be computed.
pub fn variations(
    settings: &InterventionSettings,
    session: &mut Session,
) -> Result<Vec<Variation>> {
    let (layout, site) = (session.plan.reference().layout(), settings.hook.site());
    let groups = groups(settings, session, layout)?;
    let steps = steps(settings);
    let means = match steps.iter().any(|step| step.change.is_none()) {
        true => mean_activations(session, site)?,
        false => Vec::new(),
    };
    let one = |(set, neurons): &(String, Vec<usize>), step: &GridPoint| Variation {
        set: set.clone(),
        neurons: neurons.len(),
        action: step.action,
        value: step.value.clone(),
        interventions: interventions(neurons, layout, site, step, &means),
    };
    let all = groups.iter().filter(|(_, neurons)| !neurons.is_empty());
    Ok(all.flat_map(|group| steps.iter().map(|step| one(group, step))).collect())
}

/// Returns the neurons that are changed together, with their names.
fn groups(
    settings: &InterventionSettings,
    session: &mut Session,
    layout: Layout,
) -> Result<Vec<(String, Vec<usize>)>> {
    let sets = &settings.sets;
    let universal = match sets.iter().any(|set| set.universal) {
        true => some_universal(session)?,
        false => Vec::new(),
    };
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let (key, draws) = ("intervention.sets", settings.controls);
    let groups = resolve(key, sets, session.plan, &universal, draws, &mut random)?;
    if !settings.each {
        return Ok(groups);
    }
    let alone = |(set, neurons): (String, Vec<usize>)| {
        let name = move |i: usize| format!("{set}: {}", NeuronId::of(i, layout.d_mlp));
        neurons.into_iter().map(move |i| (name(i), vec![i]))
    };
    Ok(groups.into_iter().flat_map(alone).collect())
}

/// Returns every action with every value.
fn steps(settings: &InterventionSettings) -> Vec<GridPoint> {
    let mut steps = Vec::new();
    for grid in &settings.changes {
        let action = grid.action;
        let values = |make: fn(f32) -> Action| {
            let step = move |&value: &f32| GridPoint {
                action,
                value: value.to_string(),
                change: Some(make(value)),
            };
            grid.values.iter().map(step).collect::<Vec<_>>()
        };
        let one = |change| vec![GridPoint { action, value: String::new(), change }];
        steps.extend(match action {
            ActionKind::Set => values(Action::Set),
            ActionKind::Add => values(Action::Add),
            ActionKind::Scale => values(Action::Scale),
            ActionKind::Clamp => grid.ranges.iter().map(|range| clamp(*range)).collect(),
            ActionKind::Zero => one(Some(Action::Set(0.0))),
            ActionKind::Mean => one(None),
        });
    }
    steps
}

fn clamp([low, high]: [Option<f32>; 2]) -> GridPoint {
    let value = match (low, high) {
        (None, Some(high)) => format!("at most {high}"),
        (Some(low), None) => format!("at least {low}"),
        (low, high) => format!("{} to {}", low.unwrap_or_default(), high.unwrap_or_default()),
    };
    let (low, high) = (low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY));
    GridPoint { action: ActionKind::Clamp, value, change: Some(Action::Clamp(low, high)) }
}

fn interventions(
    neurons: &[usize],
    layout: Layout,
    site: Site,
    step: &GridPoint,
    means: &[f32],
) -> Vec<Intervention> {
    let of_layer = |layer: usize| {
        let here = || neurons.iter().copied().filter(move |&i| layout.layer(i) == layer);
        Intervention {
            point: HookPoint { layer, site },
            columns: here().map(|i| i % layout.d_mlp).collect(),
            action: match &step.change {
                Some(change) => change.clone(),
                None => Action::Replace(here().map(|i| means[i]).collect()),
            },
        }
    };
    (0..layout.n_layers).map(of_layer).filter(|i| !i.columns.is_empty()).collect()
}
