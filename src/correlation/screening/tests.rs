//! Screening against the comparison of all pairs.

use super::*;
use crate::correlation::CHUNK;
use crate::correlation::random::{Purpose, RandomStream};
use crate::correlation::tests::{TOLERANCE, assert_close, plan};
use crate::spec::BaselineKind;

/// Adds all tokens in one call, once per pass.
fn compare_all<C: NeuronComparison<Engine = HostEngine>>(
    mut comparison: C,
    models: &[Vec<f32>],
) -> C {
    loop {
        let mut models = models.to_vec();
        let mut models: Vec<&mut [f32]> = models.iter_mut().map(Vec::as_mut_slice).collect();
        comparison.absorb(&mut models).expect("the CPU does not fail");
        if !comparison.end_pass(&|| Ok(())).expect("nobody stops it") {
            return comparison;
        }
    }
}

/// Returns noise in which all but every third neuron have a counterpart in the other model.
fn planted(layout: Layout, tokens: usize) -> [Vec<f32>; 2] {
    let n = layout.n_neurons();
    let noise = |id| {
        let mut values = vec![0.0; n * tokens];
        RandomStream { seed: 11, purpose: Purpose::Gaussian, id }.normals(&mut values);
        values
    };
    let (causes, own) = (noise(0), [noise(1), noise(2)]);
    let of = |model: usize| {
        let value = |e: usize| {
            let (t, i) = (e / n, e % n);
            // Neuron i of the first model corresponds to n − 1 − i of the second.
            let i = if model == 0 { i } else { n - 1 - i };
            let share = if i % 3 != 0 { 0.8 + i as f32 / n as f32 } else { 0.0 };
            own[model][e] + share * causes[t * n + i]
        };
        (0..n * tokens).map(value).collect()
    };
    [of(0), of(1)]
}

#[test]
fn screening_finds_what_brute_force_finds() {
    let layout = Layout { n_layers: 2, d_mlp: 30 };
    let tokens = 3 * CHUNK + 500;
    let models = planted(layout, tokens);
    let plan = ComparisonPlan { top: 4, ..plan(&[layout; 2], BaselineKind::Rotation) };
    let all = Correlator::new(plan.clone(), Keep::Tokens);
    let all = compare_all(all, &models).finish().remove(0).remove(0);
    let sampled = 600;
    let sample = models.clone().map(|m| m[..sampled * layout.n_neurons()].to_vec());
    let sample = compare_all(Correlator::new(plan.clone(), Keep::Tokens), &sample).finish();
    // Without a margin, neurons of noise become doubtful only when the exact correlations of their
    // candidates fall below the estimates of the sample.
    for (standard_errors, beforehand) in [(0.0, false), (3.0, true)] {
        let margin = Margin::new(sampled, standard_errors, Vec::new());
        let screened = ScreenedCorrelator::new(plan.clone(), margin, sample.clone(), usize::MAX);
        let screened = compare_all(screened, &models);
        let report = screened.screening()[0];
        assert_eq!(report.exact > report.screened_again, beforehand, "{report:?}");
        assert!(report.exact > 0 && report.exact < report.of, "{report:?}");
        let pair = screened.finish().remove(0).remove(0);
        for i in 0..60 {
            let (got, want) = (pair.best(i).expect("live"), all.best(i).expect("live"));
            assert!(i % 3 == 0 || want.neuron == 59 - i, "neuron {i} was planted");
            assert_eq!(got.neuron, want.neuron, "neuron {i}");
            assert!((got.rho - want.rho).abs() < TOLERANCE, "neuron {i}");
        }
    }
}

#[test]
fn a_neuron_compared_exactly_has_an_exact_chance_level() {
    let layout = Layout { n_layers: 1, d_mlp: 12 };
    let models = planted(layout, CHUNK + 10);
    let plan = ComparisonPlan { top: 2, ..plan(&[layout; 2], BaselineKind::Rotation) };
    let all = compare_all(Correlator::new(plan.clone(), Keep::Tokens), &models).finish();
    let sample = models.clone().map(|m| m[..200 * 12].to_vec());
    let sample = compare_all(Correlator::new(plan.clone(), Keep::Tokens), &sample).finish();
    // A very wide margin makes every neuron doubtful. Room for the sums of five neurons makes three
    // passes.
    for room in [usize::MAX, 5 * 12 * 8] {
        let margin = Margin::new(200, 1e3, vec![0.5]);
        let screened = ScreenedCorrelator::new(plan.clone(), margin, sample.clone(), room);
        let screened = compare_all(screened, &models);
        assert_eq!(screened.screening()[0].exact, 12);
        let screened = screened.finish();
        for (got, want) in screened[0][0].baseline.iter().zip(&all[0][0].baseline) {
            assert_close(got, want);
        }
    }
}

#[test]
fn a_model_whose_neurons_are_mostly_doubtful_is_compared_whole_in_one_pass() {
    let layout = Layout { n_layers: 2, d_mlp: 15 };
    let models = planted(layout, CHUNK + 100);
    let plan = ComparisonPlan { top: 4, ..plan(&[layout; 2], BaselineKind::Rotation) };
    let all = compare_all(Correlator::new(plan.clone(), Keep::Tokens), &models).finish();
    let sample = models.clone().map(|m| m[..300 * layout.n_neurons()].to_vec());
    let sample = compare_all(Correlator::new(plan.clone(), Keep::Tokens), &sample).finish();
    for standard_errors in [0.0, 1e3] {
        let margin = Margin::new(300, standard_errors, Vec::new());
        let doubtful = margin.doubtful(&sample[0], None).len();
        let screened = ScreenedCorrelator::new(plan.clone(), margin, sample.clone(), usize::MAX);
        let screened = compare_all(screened, &models);
        let mostly = doubtful > 15;
        assert_eq!(mostly, standard_errors > 1.0, "{doubtful} doubtful neurons");
        let counts = screened.screening()[0];
        assert_eq!((counts.exact == 30, screened.passes == 1), (mostly, mostly), "{counts:?}");
        if mostly {
            let (got, want) = (&screened.finish()[0][0], &all[0][0]);
            for i in 0..30 {
                let (got, want) = (got.best(i).expect("live"), want.best(i).expect("live"));
                assert_eq!(got.neuron, want.neuron);
                assert!((got.rho - want.rho).abs() < TOLERANCE, "neuron {i}");
            }
        }
    }
}
