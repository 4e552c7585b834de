//! The settings of `kind: intervention`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::named::{distinct, heads_in_model};
use super::super::sets::{NamedSet, check_set_files, check_sets};
use crate::error::{Error, Kind, Result};
use crate::families::read_token_tests;
use crate::model::Site;
use crate::plan::Plan;
use crate::spec::{Finding, finding};
use crate::table::HeadId;

/// What is done to an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Replaces the activation with a value.
    Set,
    /// Adds a value to the activation.
    Add,
    /// Multiplies the activation by a value.
    Scale,
    /// Limits the activation to a range.
    Clamp,
    /// Replaces the activation with 0.
    Zero,
    /// Replaces the activation with the neuron's mean over the corpus.
    Mean,
}

impl ActionKind {
    /// Returns the name used in specs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Add => "add",
            Self::Scale => "scale",
            Self::Clamp => "clamp",
            Self::Zero => "zero",
            Self::Mean => "mean",
        }
    }
}

/// An action, at each value of a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionGrid {
    /// What is done to the activations.
    pub action: ActionKind,
    /// Values of `set`, `add` and `scale`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub values: Vec<f32>,
    /// Ranges of `clamp`, each `[low, high]`; an end that is null is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub ranges: Vec<[Option<f32>; 2]>,
}

/// The place in the MLP where activations are changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationHook {
    /// Before GELU (`mlp.hook_pre`).
    Pre,
    /// After GELU (`mlp.hook_post`).
    #[default]
    Post,
}

impl ActivationHook {
    /// Returns the site of the forward pass.
    pub fn site(self) -> Site {
        match self {
            Self::Pre => Site::MlpPre,
            Self::Post => Site::MlpPost,
        }
    }
}

/// The tokens for which a token test holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestedTokens {
    /// File of token tests; a relative path starts at the spec.
    pub tests: PathBuf,
    /// Name of the test, as in that file.
    pub test: String,
}

/// `kind: intervention`: what the model does when the activations of neurons are changed (§5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterventionSettings {
    /// Sets of neurons. The neurons of a set are changed together.
    #[schemars(length(min = 1, max = 1000))]
    pub sets: Vec<NamedSet>,
    /// Changes each neuron of a set alone instead.
    #[serde(default)]
    pub each: bool,
    /// What is done to the activations. Every action and value is a run of its own.
    #[schemars(length(min = 1, max = 1000))]
    pub changes: Vec<ActionGrid>,
    /// Where activations are changed: `pre` or `post` GELU.
    #[serde(default)]
    pub hook: ActivationHook,
    /// Changes activations only at the tokens for which a test holds. Effects are reported over
    /// all predictions, and over those made at these tokens.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub place: Option<TestedTokens>,
    /// Attention heads whose attention to the first token and output norm are measured, such as
    /// `[L5.H0]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub heads: Vec<HeadId>,
    /// Whether predictions that are made at beginning-of-sequence tokens count. The authors' code
    /// leaves them out.
    #[serde(default = "InterventionSettings::yes")]
    pub count_bos: bool,
    /// Number of times that a set which is `like` another is drawn.
    #[serde(default = "InterventionSettings::controls")]
    #[schemars(range(min = 1, max = 1000))]
    pub controls: usize,
    /// Seed of random sets and of the bootstrap.
    #[serde(default = "InterventionSettings::seed")]
    pub seed: u64,
    /// Number of resamples of the documents for confidence intervals.
    #[serde(default = "InterventionSettings::resamples")]
    #[schemars(range(min = 1, max = 100_000))]
    pub resamples: usize,
}

impl InterventionSettings {
    fn yes() -> bool {
        true
    }
    fn controls() -> usize {
        1
    }
    fn seed() -> u64 {
        1
    }
    fn resamples() -> usize {
        1000
    }

    /// Checks what the schema cannot express.
    ///
    /// # Errors
    /// Returns the key path of the first mistake, the problem and the remedy.
    pub fn check(&self) -> Result<(), Finding> {
        check_sets("intervention.sets", &self.sets)?;
        distinct("intervention.heads", &self.heads)?;
        let all = self.changes.iter().enumerate();
        all.into_iter().try_for_each(|(i, c)| c.check(&format!("intervention.changes[{i}]")))
    }

    /// Checks names and files against the reference model and the text.
    ///
    /// # Errors
    /// Returns an error if a neuron or head is not in the model, a file is missing or malformed,
    /// or the token test holds nowhere.
    pub fn check_files(&self, plan: &Plan) -> Result<()> {
        check_set_files("intervention.sets", &self.sets, plan)?;
        heads_in_model("intervention.heads", &self.heads, plan)?;
        self.place.as_ref().map_or(Ok(()), |place| place.holds(plan).map(drop))
    }
}

impl ActionGrid {
    fn check(&self, key: &str) -> Result<(), Finding> {
        let (name, values, ranges) = (self.action.name(), &self.values, &self.ranges);
        let (of_values, of_ranges) = match self.action {
            ActionKind::Set | ActionKind::Add | ActionKind::Scale => (true, false),
            ActionKind::Clamp => (false, true),
            ActionKind::Zero | ActionKind::Mean => (false, false),
        };
        for (given, wanted, what, example) in [
            (!values.is_empty(), of_values, "values", "[0, 2, 4]"),
            (!ranges.is_empty(), of_ranges, "ranges", "[[null, 0], [0, null]]"),
        ] {
            if given && !wanted {
                let problem = format!("`{name}` takes no {what}");
                return finding(format!("{key}.{what}"), problem, "leave them out");
            }
            if wanted && !given {
                let problem = format!("`{name}` has no {what}");
                return finding(key, problem, format!("give some, such as `{what}: {example}`"));
            }
        }
        for (i, [low, high]) in ranges.iter().enumerate() {
            let key = format!("{key}.ranges[{i}]");
            match (low, high) {
                (Some(low), Some(high)) if low > high => {
                    let problem = format!("{low} is above {high}");
                    return finding(key, problem, "write the lower end first");
                }
                (None, None) => {
                    return finding(key, "has no end, so nothing is clamped", "give one end");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl TestedTokens {
    /// Returns for every token of the vocabulary whether the test holds.
    ///
    /// # Errors
    /// Returns an error if the file is malformed or has no such test, or if the test holds for no
    /// token of the text.
    pub fn holds(&self, plan: &Plan) -> Result<Vec<bool>> {
        let key = format!("{}: intervention.where.test", plan.spec_path.display());
        let vocabulary = plan.vocabulary()?;
        let tests = read_token_tests(&self.tests, plan, &vocabulary)?;
        let Some(test) = tests.iter().find(|test| test.name == self.test) else {
            let problem = format!("`{}` is not a test of {}", self.test, self.tests.display());
            let remedy =
                format!("name one of its {} tests, such as `{}`", tests.len(), tests[0].name);
            return Err(Error::new(Kind::Spec, key, problem, remedy));
        };
        let mut holds = vec![false; plan.reference().config.d_vocab];
        test.ids.iter().for_each(|&id| holds[id] = true);
        let mut read = plan.tokens.rows.iter().flat_map(|row| row.ids.iter().skip(1));
        if read.any(|&id| holds[id as usize]) {
            return Ok(holds);
        }
        let problem = format!("`{}` holds for no token of the text", self.test);
        Err(Error::new(Kind::Spec, key, problem, "choose another test, or give more text"))
    }
}
