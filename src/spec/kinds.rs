//! What each kind of experiment is told beside models and corpus.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `kind: families`: which token tests explain which neurons (paper §4.3, eq. 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Families {
    /// The token tests, relative to the spec.
    pub path: PathBuf,
    /// Syntax labels of the corpus in CoNLL-U, each document called like its sample
    /// (`# newdoc id = …`); no syntax tests when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syntax: Option<PathBuf>,
    /// A neuron belongs to the family of its best explanation where that reduces its
    /// variance by more than this share.
    #[serde(default = "Families::explained")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub explained: f64,
    /// Least number of tokens for which a test says yes, and for which it says no.
    #[serde(default = "Families::support")]
    pub support: usize,
    /// Words that occur so often get a unigram test.
    #[serde(default = "Families::frequent")]
    pub frequent: usize,
    /// A position neuron's firing tells so many bits of the position, at least.
    #[serde(default = "Families::position_bits")]
    pub position_bits: f64,
}

impl Families {
    /// Tests of a file, the rest as it is when nothing is said.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            syntax: None,
            explained: Self::explained(),
            support: Self::support(),
            frequent: Self::frequent(),
            position_bits: Self::position_bits(),
        }
    }

    fn explained() -> f64 {
        0.37
    }
    fn support() -> usize {
        20
    }
    fn frequent() -> usize {
        40
    }
    fn position_bits() -> f64 {
        0.05
    }
}

/// `kind: prediction`: neurons that promote or suppress tokens (§5.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prediction {
    /// Vocabulary kurtosis above which a neuron predicts or suppresses.
    pub kurtosis: f64,
    /// Other neurons whose variance of cos(W_U, w_out) lies above this percentile of
    /// their layer are partition neurons.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub partition: f64,
    /// Tokens of a neuron's set: those it moves most.
    #[schemars(range(min = 1, max = 10_000))]
    pub tokens: usize,
}

impl Default for Prediction {
    fn default() -> Self {
        Self { kurtosis: 10.0, partition: 99.0, tokens: 20 }
    }
}

/// `kind: entropy`: neurons that change how sure the model is (§5.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Entropy {
    /// Candidates: of large weight norm and small variance of logit effect, in the
    /// last two layers.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// Random neurons of the last two layers, to compare with.
    #[schemars(range(min = 1, max = 10_000))]
    pub controls: usize,
    /// Seed of their choice.
    pub seed: u64,
    /// Values that the activation is fixed to, smallest first.
    pub values: Vec<f32>,
}

impl Default for Entropy {
    fn default() -> Self {
        let values = [0, 1, 2, 3, 4, 5, 6].map(|v: u8| f32::from(v)).to_vec();
        Self { candidates: 3, controls: 20, seed: 1, values }
    }
}

/// `kind: attention`: neurons that turn heads towards or away from the first token (§5.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Attention {
    /// Pairs of a neuron and a head that are ablated, the largest heuristic first.
    #[schemars(range(min = 1, max = 1000))]
    pub pairs: usize,
    /// Heads that give the first token at least this share of their attention on average
    /// are looked at: a neuron cannot turn a head away from what it does not attend to.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub attends: f64,
    /// Random directions that the heuristic of neurons is compared with.
    #[schemars(range(min = 1, max = 100_000))]
    pub directions: usize,
    /// Their seed.
    pub seed: u64,
}

impl Default for Attention {
    fn default() -> Self {
        Self { pairs: 5, attends: 0.1, directions: 1000, seed: 1 }
    }
}

/// `kind: dynamics`: the study at several steps of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dynamics {
    /// The steps, in the order of training; two at least.
    pub steps: Vec<Step>,
}

/// `kind: convergence`: how sure the universal share is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Convergence {
    /// Sizes of samples of the text, beside all of it.
    pub tokens: Vec<usize>,
    /// Studies over sequences drawn with replacement.
    #[schemars(range(max = 10_000))]
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Convergence {
    fn default() -> Self {
        Self { tokens: vec![2500, 5000, 10_000, 20_000], resamples: 20, seed: 1 }
    }
}

/// Checkpoints of all models at one step of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The step.
    pub step: u64,
    /// Folder of a checkpoint, relative to the spec; `{model}` stands for the name of
    /// each model of the family.
    pub path: PathBuf,
}

/// What takes the place of an activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// Zero.
    #[default]
    Zero,
    /// The neuron's mean over the corpus.
    Mean,
}

/// `kind: ablation`: what the model loses without its universal neurons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ablation {
    /// What takes the place of the activations.
    pub replacement: Replacement,
    /// Random sets with as many neurons in each layer, none of them universal.
    #[schemars(range(min = 1, max = 1000))]
    pub controls: usize,
    /// Seed of their choice and of the bootstrap.
    pub seed: u64,
    /// Resamples of sequences for intervals.
    #[schemars(range(min = 1, max = 100_000))]
    pub resamples: usize,
}

impl Default for Ablation {
    fn default() -> Self {
        Self { replacement: Replacement::Zero, controls: 5, seed: 1, resamples: 1000 }
    }
}

/// `kind: perturbed`: one model's activations disturbed, in place of other models
/// (the replication note's experiment).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Perturbed {
    /// Models that are made so.
    #[schemars(range(min = 1, max = 100))]
    pub copies: usize,
    /// Standard deviation of the noise, in units of each neuron's own.
    pub noise: f64,
    /// Share of a random rotation that is mixed in.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rotation: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for Perturbed {
    fn default() -> Self {
        Self { copies: 4, noise: 0.3, rotation: 0.3, seed: 1 }
    }
}
