//! `kind: dynamics`: the study at several steps of training (arXiv 2508.00903).

use super::Experiment;
use crate::error::Result;
use crate::findings::{Figures, TextTable, Universal};
use crate::plan::{Plan, PlannedModel};
use crate::spec::Step;
use crate::stats::percentile::mean;
use crate::table::NeuronId;

/// Runs the experiment.
///
/// # Errors
/// If a checkpoint cannot be loaded or has another shape, or the run was stopped.
pub fn run(experiment: &mut Experiment) -> Result<Figures> {
    let plan = experiment.plan;
    let spec = plan.spec.dynamics.clone();
    let spec = spec.unwrap_or_else(|| unreachable!("checked when the spec was loaded"));
    // All steps are looked for before the first is run.
    let plans: Vec<Plan> = spec.steps.iter().map(|step| at(plan, step)).collect::<Result<_>>()?;
    let mut sets: Vec<Vec<bool>> = Vec::new();
    for (step, plan) in spec.steps.iter().zip(&plans) {
        let found = experiment.study(plan, &format!("step {}", step.step))?;
        sets.push(Universal::of(&found, plan.spec.correlation.threshold).0);
    }
    Ok(figures(plan, &spec.steps, &sets))
}

/// The plan with every model's checkpoint at a step in place of the model.
fn at(plan: &Plan, step: &Step) -> Result<Plan> {
    let mut plan = plan.clone();
    for model in &mut plan.models {
        let folder = step.path.to_string_lossy().replace("{model}", &model.name);
        let checkpoint = PlannedModel::find(&model.name, folder.as_ref())?;
        if checkpoint.layout() != model.layout() {
            return Err(checkpoint.another_shape());
        }
        *model = checkpoint;
    }
    Ok(plan)
}

fn figures(plan: &Plan, steps: &[Step], sets: &[Vec<bool>]) -> Figures {
    let layout = plan.reference().layout();
    let share = |set: &[bool], layers: std::ops::Range<usize>| {
        let neurons = layers.start * layout.d_mlp..layers.end * layout.d_mlp;
        let of = &set[neurons];
        100.0 * of.iter().filter(|u| **u).count() as f64 / of.len() as f64
    };
    let all = 0..layout.n_layers;
    let third = layout.n_layers.div_ceil(3);
    let shares: Vec<f64> = sets.iter().map(|set| share(set, all.clone())).collect();
    let gain = |layers: std::ops::Range<usize>| match sets {
        [first, .., last] => share(last, layers.clone()) - share(first, layers),
        _ => f64::NAN,
    };
    let late = gain(layout.n_layers - third..layout.n_layers) - gain(0..third);
    let kept: Vec<f64> = sets.windows(2).map(|pair| persistence(&pair[0], &pair[1])).collect();
    let chance = shares[1..].iter().map(|share| share / 100.0);
    let more: Vec<f64> = kept.iter().zip(chance).map(|(kept, chance)| kept - chance).collect();
    let mut figures = Figures::default();
    figures.add("training-trend", shares.clone());
    figures.add("training-last", vec![shares.last().copied().unwrap_or(f64::NAN)]);
    figures.add("training-late-gain", vec![late]);
    figures.add("training-persistence", vec![mean(more.into_iter())]);
    let header = vec!["step", "layer", "universal", "percent", "kept_from_before", "jaccard"];
    let mut table = TextTable { name: "dynamics", header, rows: Vec::new() };
    for (i, (step, set)) in steps.iter().zip(sets).enumerate() {
        let before = i.checked_sub(1).map(|before| &sets[before]);
        let shown = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.6}"));
        let kept = before.map(|before| persistence(before, set));
        figures.lines.push(format!(
            "  step {:>8}  {:.2} % universal, {} % of those before",
            step.step,
            shares[i],
            kept.map_or("-".into(), |kept| format!("{:.1}", 100.0 * kept))
        ));
        for layer in all.clone() {
            let neurons = layout.neurons(layer);
            let count = set[neurons.clone()].iter().filter(|u| **u).count();
            let of = |f: fn(&[bool], &[bool]) -> f64| {
                shown(before.map(|before| f(&before[neurons.clone()], &set[neurons.clone()])))
            };
            let percent = format!("{:.4}", share(set, layer..layer + 1));
            let counts = [step.step.to_string(), layer.to_string(), count.to_string(), percent];
            table.rows.push(counts.into_iter().chain([of(persistence), of(jaccard)]).collect());
        }
    }
    figures.tables.push(table);
    figures.tables.push(memberships(steps, sets, layout.d_mlp));
    figures
}

/// At which steps each neuron that ever was universal is so.
fn memberships(steps: &[Step], sets: &[Vec<bool>], d_mlp: usize) -> TextTable {
    let mut rows = Vec::new();
    for i in (0..sets[0].len()).filter(|&i| sets.iter().any(|set| set[i])) {
        let at = steps.iter().zip(sets).filter(|(_, set)| set[i]);
        let at: Vec<String> = at.map(|(step, _)| step.step.to_string()).collect();
        rows.push(vec![NeuronId::of(i, d_mlp).to_string(), at.join(" ")]);
    }
    TextTable { name: "memberships", header: vec!["neuron", "universal_at"], rows }
}

/// Share of the first set that is in the second; NaN of none.
fn persistence(before: &[bool], after: &[bool]) -> f64 {
    let both = before.iter().zip(after).filter(|(b, a)| **b && **a).count() as f64;
    both / before.iter().filter(|b| **b).count() as f64
}

/// Those in both over those in either; NaN of none.
fn jaccard(before: &[bool], after: &[bool]) -> f64 {
    let both = before.iter().zip(after).filter(|(b, a)| **b && **a).count() as f64;
    both / before.iter().zip(after).filter(|(b, a)| **b || **a).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_compared_by_definition() {
        let (before, after) = ([true, true, false, false], [true, false, true, true]);
        assert_eq!(persistence(&before, &after), 0.5);
        assert_eq!(jaccard(&before, &after), 0.25);
        assert!(persistence(&[false], &[true]).is_nan());
    }
}
