//! Whole models on every device.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use universal_neurons::backend::device::HalfType;
use universal_neurons::backend::device::array::HalfFormat;
use universal_neurons::model::forward::{Decoder, Gpu, GpuTransformer};
use universal_neurons::model::intervene::{Action, Intervention, Interventions};
use universal_neurons::model::prefix::KeptStreams;
use universal_neurons::model::{HookPoint, Site, Transformer};

use super::{Probe, on_every_device};
use crate::golden::{check_decoder, load};
use crate::ptx_vm::Machine;

on_every_device!(
    golden_models_agree_with_transformers,
    hooks_see_and_change_what_they_do_on_the_cpu,
    a_pass_from_a_kept_stream_has_the_bits_of_a_whole_one,
);

const PAIRS: HalfFormat = HalfFormat { number: HalfType::F16, split: true };

fn golden_models_agree_with_transformers<D: Probe>(device: &D) {
    for (folder, golden) in [
        ("expected/golden/tiny", "golden/tiny.json"),
        ("expected/golden/tiny-prefixed", "golden/tiny-prefixed.json"),
        ("expected/golden/neox", "golden/neox.json"),
        ("expected/golden/neox-sharded", "golden/neox-sharded.json"),
        ("expected/golden/neox-bin", "golden/neox-bin.json"),
    ] {
        let gpu = Gpu { device, form: PAIRS };
        let model = GpuTransformer::of(gpu, Arc::new(load(folder))).expect("memory");
        check_decoder(&model, golden);
    }
}

/// Interventions at every kind of hook point, in the middle of a batch of two rows.
fn interventions() -> Vec<Intervention> {
    let change = |layer, site, columns: &[usize], action| Intervention {
        point: HookPoint { layer, site },
        columns: columns.to_vec(),
        action,
    };
    vec![
        change(0, Site::ResidPre, &[3], Action::Add(0.5)),
        change(0, Site::MlpPre, &[0, 7], Action::Scale(-2.0)),
        change(0, Site::MlpPost, &[39], Action::Set(1.5)),
        change(1, Site::MlpPost, &[2, 5], Action::Clamp(0.0, 0.1)),
        change(1, Site::ResidPost, &[15], Action::Set(-1.0)),
    ]
}

/// Returns everything that hooks see of two rows after the interventions, and the logits.
fn seen(model: &dyn Decoder) -> (Vec<(HookPoint, Vec<f32>)>, Vec<f32>) {
    let rows: [&[u32]; 2] = [&[31, 4, 9, 12, 3], &[31, 7, 2]];
    let interventions = interventions();
    let keep = [false, true, true, false, true, true, false, true];
    let mut seen = Vec::new();
    let resid = {
        let then = |point, values: &mut [f32], _| seen.push((point, values.to_vec()));
        let tokens = Some(keep.as_slice());
        let mut hooks = Interventions { interventions: &interventions, tokens, then };
        model.forward(&rows, &mut hooks).expect("a forward pass")
    };
    (seen, model.logits(&resid).expect("logits"))
}

fn hooks_see_and_change_what_they_do_on_the_cpu<D: Probe>(device: &D) {
    for folder in ["expected/golden/tiny", "expected/golden/neox"] {
        let model: Arc<Transformer> = Arc::new(load(folder));
        let gpu = Gpu { device, form: PAIRS };
        let placed = GpuTransformer::of(gpu, Arc::clone(&model)).expect("memory");
        let ((got, got_logits), (want, want_logits)) = (seen(&placed), seen(model.as_ref()));
        assert_eq!(got.len(), 2 * 4, "every hook point of two layers");
        for ((point, got), (want_point, want)) in got.iter().zip(&want) {
            assert_eq!(point, want_point);
            assert_near(&format!("{folder} {point}"), got, want);
        }
        assert_near(folder, &got_logits, &want_logits);
    }
}

#[test]
fn interventions_do_not_copy_activations_to_the_host() {
    let (machine, model) = (Machine::new(), Arc::new(load("expected/golden/tiny")));
    let d_model = model.config.d_model;
    let placed = GpuTransformer::of(Gpu { device: &machine, form: PAIRS }, model).expect("memory");
    let interventions = interventions();
    let mut hooks = Interventions { interventions: &interventions, tokens: None, then: () };
    placed.forward(&[&[31, 4, 9], &[31, 7]], &mut hooks).expect("a forward pass");
    assert_eq!(machine.launches("change"), interventions.len());
    assert_eq!(machine.read.load(Ordering::Relaxed), 5 * d_model * 4, "the last stream alone");
}

fn a_pass_from_a_kept_stream_has_the_bits_of_a_whole_one<D: Probe>(device: &D) {
    for folder in ["expected/golden/tiny", "expected/golden/neox"] {
        let model: Arc<Transformer> = Arc::new(load(folder));
        continues(model.as_ref());
        let gpu = Gpu { device, form: PAIRS };
        continues(&GpuTransformer::of(gpu, Arc::clone(&model)).expect("memory"));
    }
}

/// Changes only the second block, in a whole pass and in one from the stream before that block.
fn continues(model: &dyn Decoder) {
    let rows: [&[u32]; 2] = [&[31, 4, 9, 12, 3], &[31, 7, 2]];
    let mut kept = KeptStreams::before([1]);
    let unchanged = model.forward(&rows, &mut kept).expect("a forward pass");
    let all = interventions();
    let later = &all[3..];
    let pass = |kept: &KeptStreams| {
        let mut seen = Vec::new();
        let resid = {
            let then = |point, values: &mut [f32], _| seen.push((point, values.to_vec()));
            let mut hooks = Interventions { interventions: later, tokens: None, then };
            hooks.forward(model, &rows, kept).expect("a forward pass")
        };
        (seen, resid)
    };
    let ((whole, want), (part, got)) = (pass(&KeptStreams::default()), pass(&kept));
    assert_eq!((whole.len(), part.len()), (8, 4), "hook points of two blocks, and of one");
    assert_eq!(part, whole[4..]);
    assert_eq!(got, want);
    assert_ne!(got, unchanged);
}

fn assert_near(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{what}: {got} for {want}");
    }
}
