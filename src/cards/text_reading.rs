//! What a neuron does on a text that a user gives, and what the prediction becomes without other
//! neurons.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::corpus::tokenizer::BpeTokenizer;
use crate::error::{Error, Kind, Result};
use crate::input::{InputFile, stdin_text};
use crate::model::capture::NeuronColumns;
use crate::model::intervene::{Action, Intervention, Interventions};
use crate::model::{HookPoint, Site, Transformer};
use crate::plan::PlannedModel;
use crate::progress::Progress;
use crate::roles::predictions::Predictions;
use crate::spec::Spec;
use crate::table::NeuronId;

/// Maximum length of a text, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// Number of tokens shown as most probable, with and without the neurons.
const PROBABLE: usize = 5;

/// A text that a user gives.
#[derive(Debug, Clone, Copy)]
pub enum GivenText<'a> {
    /// The text itself.
    Words(&'a str),
    /// A file.
    File(&'a Path),
    /// Standard input.
    Stdin,
}

impl GivenText<'_> {
    /// Returns the text and what it is called in errors.
    fn read(self) -> Result<(String, String)> {
        match self {
            Self::Words(text) => Ok((text.to_owned(), "--text".into())),
            Self::File(path) => {
                let text = InputFile::open(Kind::Corpus, path)?.text(MAX_TEXT)?;
                Ok((text, path.display().to_string()))
            }
            Self::Stdin => Ok((stdin_text(Kind::Corpus, MAX_TEXT)?, "standard input".into())),
        }
    }
}

/// The activations of a neuron on a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextReading {
    /// Name of the neuron.
    pub neuron: String,
    /// Name of the model.
    pub model: String,
    /// The tokens of the text, in order.
    pub tokens: Vec<ReadToken>,
    /// The prediction without some neurons, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without: Option<PredictionWithout>,
}

/// A token, and the neuron's activation there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReadToken {
    /// Text of the token.
    pub token: String,
    /// Pre-activation.
    pub pre: f32,
    /// Post-activation.
    pub post: f32,
}

/// What the prediction becomes if the activations of some neurons are 0 at every token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictionWithout {
    /// Names of these neurons.
    pub neurons: Vec<String>,
    /// Mean loss over the tokens of the text, in nats.
    pub loss: f64,
    /// Mean loss without the neurons, in nats.
    pub loss_without: f64,
    /// Mean KL divergence of the predictions without the neurons from those with them, in nats.
    pub kl: f64,
    /// The most probable tokens after the text, most probable first.
    pub next: Vec<NextToken>,
}

/// A token that may come next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NextToken {
    /// Text of the token.
    pub token: String,
    /// Its probability.
    pub probability: f64,
    /// Its probability without the neurons.
    pub probability_without: f64,
}

/// Reads a text with the reference model of a spec, which reads no other text.
///
/// Rows are as long as those of the spec and begin with the beginning-of-sequence token, which is
/// not among the tokens returned.
///
/// # Errors
/// Returns an error if the text or the model cannot be read, the text has no tokens, or the model
/// lacks a neuron.
pub fn read_text(
    spec: &Spec,
    neuron: NeuronId,
    without: &[NeuronId],
    text: GivenText,
    progress: &Progress,
) -> Result<(TextReading, PlannedModel)> {
    let reference = &spec.models.reference;
    let found =
        spec.models.family.iter().find(|model| model.name == *reference).ok_or_else(|| {
            let problem = format!("`{reference}` is not among `models.family`");
            Error::new(Kind::Spec, "models.reference", problem, "name one of the family")
        })?;
    let planned = PlannedModel::find(&found.name, &found.path)?;
    std::iter::once(&neuron).chain(without).try_for_each(|id| check(&planned, *id))?;
    let tokenizer = planned.tokenizer()?;
    let rows = rows(text, spec, &planned, &tokenizer)?;
    let model = planned.load(progress)?;
    let reader = NeuronReader { model: &model, vocabulary: tokenizer.shown_texts(), neuron };
    let tokens = rows.iter().flat_map(|row| reader.tokens(row)).collect();
    let without = (!without.is_empty()).then(|| reader.without(&rows, without)).transpose()?;
    let (neuron, model) = (neuron.to_string(), planned.name.clone());
    Ok((TextReading { neuron, model, tokens, without }, planned))
}

fn check(model: &PlannedModel, id: NeuronId) -> Result<()> {
    let layout = model.layout();
    if id.layer < layout.n_layers && id.neuron < layout.d_mlp {
        return Ok(());
    }
    let (layers, width) = (layout.n_layers, layout.d_mlp);
    let problem = format!("model `{}` has {layers} layers of {width} neurons", model.name);
    Err(Error::new(Kind::Spec, id, problem, "name one of them, as in L0.N12"))
}

/// Returns the rows of a text, each with the beginning-of-sequence token.
fn rows(
    text: GivenText,
    spec: &Spec,
    model: &PlannedModel,
    tokenizer: &BpeTokenizer,
) -> Result<Vec<Vec<u32>>> {
    let (text, name) = text.read()?;
    let ids = tokenizer
        .encode(&text)
        .map_err(|fault| Error::new(Kind::Corpus, &name, fault.problem, fault.remedy))?;
    if ids.is_empty() {
        return Err(Error::new(Kind::Corpus, name, "has no tokens", "give a text"));
    }
    let context = spec.corpus.context.min(model.config.n_ctx).max(2);
    let bos = model.config.bos_token_id;
    let row = |part: &[u32]| std::iter::once(bos).chain(part.iter().copied()).collect();
    Ok(ids.chunks(context - 1).map(row).collect())
}

/// Reads rows with a model, for one neuron.
struct NeuronReader<'a> {
    model: &'a Transformer,
    vocabulary: Vec<String>,
    neuron: NeuronId,
}

impl NeuronReader<'_> {
    /// Returns the tokens of a row after the first, with the neuron's activations.
    fn tokens(&self, row: &[u32]) -> Vec<ReadToken> {
        let mut found = NeuronColumns::new(vec![(self.neuron.layer, self.neuron.neuron)]);
        self.model.forward(&[row], &mut found);
        let token = |(&id, &[pre, post]): (&u32, &[f32; 2])| ReadToken {
            token: self.vocabulary[id as usize].clone(),
            pre,
            post,
        };
        row.iter().zip(&found.columns[0]).skip(1).map(token).collect()
    }

    fn without(&self, rows: &[Vec<u32>], neurons: &[NeuronId]) -> Result<PredictionWithout> {
        let zero = |id: &NeuronId| Intervention {
            point: HookPoint { layer: id.layer, site: Site::MlpPost },
            columns: vec![id.neuron],
            action: Action::Set(0.0),
        };
        let interventions: Vec<Intervention> = neurons.iter().map(zero).collect();
        let (mut sums, mut n, mut last) = ([0.0; 3], 0.0, Vec::new());
        for row in rows {
            let read = |interventions: &[Intervention]| {
                let mut hooks = Interventions { interventions, tokens: None, then: () };
                let resid = self.model.forward(&[row], &mut hooks);
                let found = Predictions::of(self.model, &resid, &[row])?;
                let end = resid[resid.len() - self.model.config.d_model..].to_vec();
                Ok::<_, Error>((found, self.next(&end)))
            };
            let ((with, next), (less, next_less)) = (read(&[])?, read(&interventions)?);
            let kl = with.divergence(&less, self.model.config.d_vocab);
            let of = [&with.loss, &less.loss, &kl];
            sums.iter_mut().zip(of).for_each(|(sum, v)| *sum += v.iter().sum::<f64>());
            n += kl.len() as f64;
            last = next.into_iter().zip(next_less).collect();
        }
        let [loss, loss_without, kl] = sums.map(|sum| sum / n);
        let neurons = neurons.iter().map(NeuronId::to_string).collect();
        Ok(PredictionWithout { neurons, loss, loss_without, kl, next: self.probable(&last) })
    }

    /// Returns the probability of every token after a residual stream, `[d_vocab]`.
    fn next(&self, resid: &[f32]) -> Vec<f64> {
        let logits = self.model.logits(resid);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.par_iter().map(|l| f64::from(l - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    /// Returns the most probable tokens by either of two probabilities, in the order of the first.
    fn probable(&self, probabilities: &[(f64, f64)]) -> Vec<NextToken> {
        let best = |of: fn(&(f64, f64)) -> f64| {
            let mut order: Vec<usize> = (0..probabilities.len()).collect();
            order.sort_by(|&a, &b| of(&probabilities[b]).total_cmp(&of(&probabilities[a])));
            order.truncate(PROBABLE);
            order
        };
        let mut chosen = best(|p| p.0);
        let others: Vec<usize> =
            best(|p| p.1).into_iter().filter(|i| !chosen.contains(i)).collect();
        chosen.extend(others);
        chosen.sort_by(|&a, &b| probabilities[b].0.total_cmp(&probabilities[a].0));
        let next = |i: usize| NextToken {
            token: self.vocabulary[i].clone(),
            probability: probabilities[i].0,
            probability_without: probabilities[i].1,
        };
        chosen.into_iter().map(next).collect()
    }
}
