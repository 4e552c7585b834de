//! How exact the forward pass is: against the f64 twin, with each preprocessing of the weights, and
//! against activations that another program exported.

mod exported;

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

use super::fold::preprocess;
use super::twin::{self, log_probabilities};
use super::{Config, HookPoint, Site, Transformer};
use crate::spec::WeightOptions;

pub use exported::Exported;

/// Largest difference that counts as rounding, as a share of the largest value at the same point: f32
/// keeps 1.2e-7 of each value, and a forward pass adds thousands of them in every block.
pub const ROUNDING: f64 = 1e-4;
/// Number of tokens that are read if the user gives none.
const TOKENS: usize = 32;

/// The preprocessing steps that leave activations of neurons and probabilities unchanged (paper A.1).
const STEPS: [(&str, WeightOptions); 4] = {
    let none = WeightOptions { fold_ln: false, center_writing: false, center_unembed: false };
    [
        ("fold_ln", WeightOptions { fold_ln: true, ..none }),
        ("center_writing", WeightOptions { center_writing: true, ..none }),
        ("center_unembed", WeightOptions { center_unembed: true, ..none }),
        ("all three", WeightOptions { fold_ln: true, center_writing: true, center_unembed: true }),
    ]
};

/// The differences at one point of the forward pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointCheck {
    /// Name of the point, as in `blocks.0.mlp.hook_post`, or `logits` or `log_probabilities`.
    pub point: String,
    /// Largest absolute value there.
    pub largest: f64,
    /// Largest absolute difference for each column; `None` where values may differ.
    pub differences: Vec<Option<f64>>,
}

/// The differences at all points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelCheck {
    /// Number of tokens that were read.
    pub tokens: usize,
    /// What is compared in each column.
    pub columns: Vec<String>,
    /// The points, in the order of the forward pass.
    pub points: Vec<PointCheck>,
    /// Largest difference that is allowed, as a share of the largest value of the point.
    pub tolerance: f64,
}

impl ModelCheck {
    /// Returns whether all differences are within the tolerance.
    pub fn holds(&self) -> bool {
        self.points
            .iter()
            .all(|point| point.differences.iter().flatten().all(|d| self.allows(point, *d)))
    }

    /// Returns whether a difference at a point is within the tolerance. NaN is not.
    fn allows(&self, point: &PointCheck, difference: f64) -> bool {
        difference <= self.tolerance * point.largest
    }
}

/// Values at one point of the forward pass.
pub(super) struct PointValues {
    name: String,
    /// `[tokens, width]`, one after the other.
    values: Vec<f64>,
    /// Whether preprocessing leaves the values unchanged. Residual streams lose their mean.
    invariant: bool,
}

/// Returns token ids to read: the beginning-of-sequence token and random ones.
pub fn random_tokens(config: &Config) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut ids: Vec<u32> =
        (0..TOKENS.min(config.n_ctx)).map(|_| random.next_u32() % config.d_vocab as u32).collect();
    ids[0] = config.bos_token_id;
    ids
}

/// Compares a model's forward pass in f32, with its own weights and with each preprocessing of them,
/// with the f64 twin on its own weights, over one row of tokens.
///
/// # Panics
/// Panics if the row is longer than the context or an id lies outside the vocabulary.
pub fn check(model: &Transformer, ids: &[u32]) -> ModelCheck {
    let want = in_f64(model, ids);
    let own = (String::from("f32"), in_f32(model, ids), false);
    let steps = STEPS.iter().map(|(name, options)| {
        let weights = preprocess(&model.weights, &model.config, options);
        let changed = Transformer { config: model.config.clone(), weights };
        ((*name).to_owned(), in_f32(&changed, ids), true)
    });
    let found: Vec<(String, Vec<PointValues>, bool)> = std::iter::once(own).chain(steps).collect();
    let point = |(i, want): (usize, &PointValues)| {
        let of = |(_, got, changed): &(String, Vec<PointValues>, bool)| {
            let comparable = want.invariant || !changed;
            comparable.then(|| largest_difference(&got[i].values, &want.values))
        };
        let differences = found.iter().map(of).collect();
        PointCheck { point: want.name.clone(), largest: largest(&want.values), differences }
    };
    ModelCheck {
        tokens: ids.len(),
        points: want.iter().enumerate().map(point).collect(),
        columns: found.into_iter().map(|(name, ..)| name).collect(),
        tolerance: ROUNDING,
    }
}

/// Compares a model's forward pass in f32, and its f64 twin, with what another program exported.
/// Points that it did not export are left out.
///
/// # Panics
/// Panics if the row is longer than the context or an id lies outside the vocabulary, which
/// [`Exported::read`] refuses.
pub fn check_against(model: &Transformer, exported: &Exported, tolerance: f64) -> ModelCheck {
    let ids = &exported.tokens;
    let (f32s, f64s) = (in_f32(model, ids), in_f64(model, ids));
    let point = |(f32s, f64s): (&PointValues, &PointValues)| {
        let want = exported.values.get(&f32s.name)?;
        let differences = [f32s, f64s].map(|got| Some(largest_difference(&got.values, want)));
        let point = f32s.name.clone();
        Some(PointCheck { point, largest: largest(want), differences: differences.to_vec() })
    };
    ModelCheck {
        tokens: ids.len(),
        points: f32s.iter().zip(&f64s).filter_map(point).collect(),
        columns: vec!["f32".into(), "f64 twin".into()],
        tolerance,
    }
}

fn in_f64(model: &Transformer, ids: &[u32]) -> Vec<PointValues> {
    let mut points = Vec::new();
    let logits = twin::logits(&model.config, &model.weights, ids, &mut |point, values| {
        points.push(point_values(point, values.concat()));
    });
    points.extend(of_logits(logits));
    points
}

fn in_f32(model: &Transformer, ids: &[u32]) -> Vec<PointValues> {
    let mut points = Vec::new();
    let mut hooks = |point: HookPoint, values: &mut [f32], _: usize| {
        points.push(point_values(point, values.iter().map(|&v| f64::from(v)).collect()));
    };
    let resid = model.forward(&[ids], &mut hooks);
    let logits = model.logits(&resid);
    let row = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect();
    points.extend(of_logits(logits.chunks_exact(model.config.d_vocab).map(row).collect()));
    points
}

fn point_values(point: HookPoint, values: Vec<f64>) -> PointValues {
    let invariant = matches!(point.site, Site::MlpPre | Site::MlpPost);
    PointValues { name: point.to_string(), values, invariant }
}

fn of_logits(logits: Vec<Vec<f64>>) -> [PointValues; 2] {
    let logs = log_probabilities(&logits).concat();
    [
        PointValues { name: "logits".into(), values: logits.concat(), invariant: false },
        PointValues { name: "log_probabilities".into(), values: logs, invariant: true },
    ]
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, v| v.abs().max(largest))
}

/// Returns the largest absolute difference; NaN if a value is NaN.
fn largest_difference(got: &[f64], want: &[f64]) -> f64 {
    let differences = got.iter().zip(want).map(|(got, want)| (got - want).abs());
    differences.fold(0.0, |largest, d| if d > largest || d.is_nan() { d } else { largest })
}

impl fmt::Display for ModelCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.points.iter().map(|point| point.point.len()).max().unwrap_or(0);
        write!(f, "{:<width$}  {:>10}", "point", "largest")?;
        self.columns.iter().try_for_each(|name| write!(f, "  {name:>14}"))?;
        for point in &self.points {
            write!(f, "\n{:<width$}  {:>10.3e}", point.point, point.largest)?;
            for difference in &point.differences {
                match difference {
                    None => write!(f, "  {:>14}", "")?,
                    Some(d) => {
                        let mark = if self.allows(point, *d) { "" } else { " !" };
                        write!(f, "  {:>14}", format!("{d:.1e}{mark}"))?;
                    }
                }
            }
        }
        let all = if self.holds() { "all within" } else { "marked (!) above" };
        writeln!(
            f,
            "\nlargest differences over {} tokens: {all} {:e} of the largest value of the point",
            self.tokens, self.tolerance
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(folder: &str) -> Transformer {
        let folder = format!("{}/expected/golden/{folder}", env!("CARGO_MANIFEST_DIR"));
        Transformer::load(folder.as_ref()).expect("a model")
    }

    #[test]
    fn models_of_all_forms_agree_with_the_twin() {
        for folder in ["tiny", "tiny-prefixed", "neox"] {
            let model = model(folder);
            let found = check(&model, &random_tokens(&model.config));
            assert!(found.holds(), "{folder}\n{found}");
            assert_eq!(found.points.len(), 4 * model.config.n_layers + 2);
            let compared = found.points.iter().flat_map(|p| p.differences.iter().flatten()).count();
            assert_eq!(compared, model.config.n_layers * (2 * 5 + 2) + 1 + 5);
            // An embedding without positions is exact in f32.
            let mut others = found.points.iter().skip(1);
            assert!(others.all(|point| point.differences[0] > Some(0.0)), "{found}");
        }
    }

    /// A wrong weight in one block is seen from that block on.
    #[test]
    fn a_difference_is_marked_where_it_begins() {
        let model = model("tiny");
        let ids = random_tokens(&model.config);
        let mut wrong = model.clone();
        wrong.weights.blocks[1].mlp_in.bias[3] += 0.5;
        let (got, want) = (in_f32(&wrong, &ids), in_f64(&model, &ids));
        let off: Vec<&str> = got
            .iter()
            .zip(&want)
            .filter(|(got, want)| largest_difference(&got.values, &want.values) > 1e-3)
            .map(|(got, _)| got.name.as_str())
            .collect();
        assert_eq!(off.first(), Some(&"blocks.1.mlp.hook_pre"));
        assert!(largest_difference(&[f64::NAN, 1.0], &[0.0, 0.0]).is_nan());
        let nan = PointCheck { point: "x".into(), largest: 1.0, differences: vec![Some(f64::NAN)] };
        let check = ModelCheck { tokens: 1, columns: vec![], points: vec![nan], tolerance: 1.0 };
        assert!(!check.holds());
    }
}
