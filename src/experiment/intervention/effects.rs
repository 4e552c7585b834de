//! What the model does with and without changed activations: measures of every prediction and
//! head, summed over each document.

use rayon::prelude::*;

use super::settings::InterventionSettings;
use super::variations::Variation;
use crate::corpus::{Batch, Row};
use crate::error::Result;
use crate::model::intervene::{Intervention, Interventions};
use crate::model::prefix::KeptStreams;
use crate::model::{Decoder, Transformer};
use crate::plan::Plan;
use crate::roles::bootstrap::{Interval, bootstrap};
use crate::roles::heads::AttentionHead;
use crate::roles::predictions::Predictions;
use crate::table::HeadId;

/// The measures of a prediction, by their names in the table.
const MEASURES: [&str; 6] = ["loss", "entropy", "rank", "reciprocal_rank", "scale", "kl"];

/// The positions that a quantity is averaged over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MeasuredAt {
    /// All predictions.
    All,
    /// The predictions made at tokens whose activations are changed.
    Changed,
    /// The destination tokens of heads: those in the second half of a row, as in the paper.
    SecondHalf,
}

impl MeasuredAt {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Changed => "where",
            Self::SecondHalf => "second half",
        }
    }
}

/// Something that is measured.
struct MeasuredQuantity {
    positions: MeasuredAt,
    /// The measure, followed by the head if it is that of a head.
    measure: String,
}

/// Sums of quantities over documents, `[quantity][document]`.
type DocumentSums = Vec<Vec<f64>>;

/// The means of a quantity.
pub struct Effect {
    /// Index of the variation; `None` for the unchanged model.
    pub variation: Option<usize>,
    /// The positions that the quantity is averaged over: `all`, `where` or `second half`.
    pub positions: &'static str,
    /// Name of the measure.
    pub measure: String,
    /// Number of positions.
    pub tokens: f64,
    /// Mean over positions, with its interval over resampled documents.
    pub mean: Interval,
    /// Mean of the difference from the unchanged model, which has none itself.
    pub change: Option<Interval>,
}

/// Measures the unchanged model and all variations, batch by batch.
pub struct Effects<'a> {
    settings: &'a InterventionSettings,
    host: &'a Transformer,
    /// For every token of the vocabulary, whether activations are changed there; `None` for
    /// everywhere.
    holds: Option<Vec<bool>>,
    bos: u32,
    quantities: Vec<MeasuredQuantity>,
    /// Sample of each document that has been read.
    samples: Vec<usize>,
    /// Number of positions, `[positions][document]`.
    counts: [Vec<f64>; 3],
    unchanged: DocumentSums,
    /// One for each variation.
    changed: Vec<DocumentSums>,
}

impl<'a> Effects<'a> {
    /// Prepares to measure some number of variations.
    ///
    /// # Errors
    /// Returns an error if the token test of the settings cannot be read.
    pub fn new(
        settings: &'a InterventionSettings,
        plan: &Plan,
        host: &'a Transformer,
        variations: usize,
    ) -> Result<Self> {
        let holds = settings.place.as_ref().map(|place| place.holds(plan)).transpose()?;
        let mut quantities = Vec::new();
        let tested = holds.as_ref().map(|_| MeasuredAt::Changed);
        for positions in std::iter::once(MeasuredAt::All).chain(tested) {
            let of = |name: &&str| MeasuredQuantity { positions, measure: (*name).to_owned() };
            quantities.extend(MEASURES.iter().map(of));
        }
        for head in &settings.heads {
            let of = |name: &str| MeasuredQuantity {
                positions: MeasuredAt::SecondHalf,
                measure: format!("{name} {head}"),
            };
            quantities.extend(["bos_attention", "output_norm"].map(of));
        }
        let nothing: DocumentSums = vec![Vec::new(); quantities.len()];
        Ok(Self {
            settings,
            host,
            holds,
            bos: host.config.bos_token_id,
            samples: Vec::new(),
            counts: Default::default(),
            unchanged: nothing.clone(),
            changed: vec![nothing; variations],
            quantities,
        })
    }

    /// Measures the unchanged model and every variation on a batch.
    ///
    /// # Errors
    /// Returns an error if the device that the model runs on fails.
    pub fn read(
        &mut self,
        model: &dyn Decoder,
        batch: &Batch,
        variations: &[Variation],
    ) -> Result<()> {
        let rows = batch.ids();
        let documents = self.documents(batch);
        let tokens = self.tokens(&rows);
        let pass = BatchPass { model, rows: &rows, tokens: &tokens };
        let starts = variations.iter().map(|variation| variation.interventions.as_slice());
        let keep = self.streams_of_heads().and(KeptStreams::for_interventions(starts));
        let (clean, kept) = self.reading(&pass, &[], keep, &KeptStreams::default())?;
        for (positions, counts) in
            tokens.counts(&clean.predictions).into_iter().zip(&mut self.counts)
        {
            add(counts, &documents, &positions);
        }
        let of_clean = self.by_row(&clean, &clean, &tokens);
        add_all(&mut self.unchanged, &documents, &of_clean);
        for (i, variation) in variations.iter().enumerate() {
            let (keep, interventions) = (self.streams_of_heads(), &variation.interventions);
            let (changed, _) = self.reading(&pass, interventions, keep, &kept)?;
            let of_changed = self.by_row(&changed, &clean, &tokens);
            add_all(&mut self.changed[i], &documents, &of_changed);
        }
        Ok(())
    }

    /// Returns the index of the document of each row. The rows of a document follow one another.
    fn documents(&mut self, batch: &Batch) -> Vec<usize> {
        let samples = &mut self.samples;
        let document = |sample: usize| {
            if samples.last() != Some(&sample) {
                samples.push(sample);
            }
            samples.len() - 1
        };
        batch.rows.iter().map(Row::sample).map(document).collect()
    }

    fn tokens(&self, rows: &[&[u32]]) -> TokenMarks {
        let counted = |id: u32| self.settings.count_bos || id != self.bos;
        let mut marks = TokenMarks::default();
        for row in rows {
            marks.lengths.push(row.len());
            marks.counted.extend(row.iter().map(|&id| counted(id)));
            // The first token marks the beginning of the row and is not part of the text.
            let holds = |(p, id): (usize, &u32)| {
                self.holds.as_ref().is_none_or(|holds| p > 0 && holds[*id as usize])
            };
            marks.changed.extend(row.iter().enumerate().map(holds));
        }
        marks
    }

    /// Prepares to keep the residual streams that the measured heads read.
    fn streams_of_heads(&self) -> KeptStreams {
        KeptStreams::before(self.settings.heads.iter().map(|head| head.layer))
    }

    /// Reads a batch with some interventions, from the streams of the unchanged model if they are
    /// `known`. Returns the streams that `keep` asks for, too.
    fn reading(
        &self,
        &BatchPass { model, rows, tokens }: &BatchPass,
        interventions: &[Intervention],
        keep: KeptStreams,
        known: &KeptStreams,
    ) -> Result<(BatchMeasures, KeptStreams)> {
        let mut hooks = Interventions {
            interventions,
            tokens: self.holds.as_ref().map(|_| tokens.changed.as_slice()),
            then: keep,
        };
        let resid = hooks.forward(model, rows, known)?;
        let seen = hooks.then;
        let predictions = Predictions::of(model, &resid, rows)?;
        let of_head = |head: &HeadId| {
            // Before the first change, the stream is that of the unchanged model.
            let stream = seen.get(head.layer).or_else(|| known.get(head.layer));
            self.head(*head, stream.unwrap_or_default(), tokens)
        };
        let heads = self.settings.heads.par_iter().map(of_head).collect();
        Ok((BatchMeasures { predictions, heads }, seen))
    }

    /// Returns a head's attention to the first token and its output norm, summed over the
    /// destinations of each row.
    fn head(&self, head: HeadId, stream: &[f32], tokens: &TokenMarks) -> Vec<[f64; 2]> {
        let of = AttentionHead { model: self.host, layer: head.layer, head: head.head };
        let d = self.host.config.d_model;
        let one = |(start, len): (usize, usize)| {
            let rows = stream[start * d..(start + len) * d].chunks_exact(d);
            let resid: Vec<Vec<f64>> =
                rows.map(|row| row.iter().map(|&v| v.into()).collect()).collect();
            let attends = of.attends_unchanged(&resid, len / 2..len);
            let counted = attends.iter().zip(&tokens.counted[start + len / 2..start + len]);
            counted
                .filter(|(_, counted)| **counted)
                .fold([0.0; 2], |[first, norm], (a, _)| [first + a.first, norm + a.norm])
        };
        tokens.rows().into_par_iter().map(one).collect()
    }

    /// Returns every quantity, summed over each row.
    fn by_row(
        &self,
        measures: &BatchMeasures,
        clean: &BatchMeasures,
        tokens: &TokenMarks,
    ) -> DocumentSums {
        let found = &measures.predictions;
        let rank: Vec<f64> = found.reciprocal_rank.iter().map(|r| (1.0 / r).round()).collect();
        let kl = clean.predictions.divergence(found, self.host.config.d_vocab);
        let of = [&found.loss, &found.entropy, &rank, &found.reciprocal_rank, &found.scale, &kl];
        let rows = tokens.lengths.len();
        let mut all = Vec::new();
        for marks in [Some(&tokens.counted), self.holds.as_ref().map(|_| &tokens.changed)] {
            let Some(marks) = marks else { continue };
            let marked = tokens.predicting(marks);
            for values in of {
                let counted =
                    values.iter().zip(&marked).map(|(v, marked)| if *marked { *v } else { 0.0 });
                all.push(found.by_row(&counted.collect::<Vec<_>>(), rows));
            }
        }
        for head in &measures.heads {
            all.extend([0, 1].map(|q| head.iter().map(|sums| sums[q]).collect()));
        }
        all
    }

    /// Returns the means of all quantities of the unchanged model, followed by those of each
    /// variation.
    pub fn finish(self) -> Vec<Effect> {
        let variations = std::iter::once(None).chain((0..self.changed.len()).map(Some));
        let all = variations.flat_map(|v| (0..self.quantities.len()).map(move |q| (v, q)));
        all.collect::<Vec<_>>().into_par_iter().map(|(v, q)| self.effect(v, q)).collect()
    }

    fn effect(&self, variation: Option<usize>, quantity: usize) -> Effect {
        let MeasuredQuantity { positions, measure } = &self.quantities[quantity];
        let counts = &self.counts[*positions as usize];
        let InterventionSettings { resamples, seed, .. } = *self.settings;
        let unchanged = &self.unchanged[quantity];
        let sums = variation.map_or(unchanged, |v| &self.changed[v][quantity]);
        let difference = || sums.iter().zip(unchanged).map(|(a, b)| a - b).collect::<Vec<_>>();
        Effect {
            variation,
            positions: positions.name(),
            measure: measure.clone(),
            tokens: counts.iter().sum(),
            mean: bootstrap(sums, counts, resamples, seed),
            change: variation.map(|_| bootstrap(&difference(), counts, resamples, seed)),
        }
    }
}

/// What passes over a batch have in common.
struct BatchPass<'a> {
    model: &'a dyn Decoder,
    rows: &'a [&'a [u32]],
    tokens: &'a TokenMarks,
}

/// Marks of the tokens of a batch, row after row.
#[derive(Default)]
struct TokenMarks {
    /// Length of each row.
    lengths: Vec<usize>,
    /// Whether a prediction made at the token counts.
    counted: Vec<bool>,
    /// Whether activations are changed at the token.
    changed: Vec<bool>,
}

impl TokenMarks {
    /// Returns the index of the first token and the number of tokens of each row.
    fn rows(&self) -> Vec<(usize, usize)> {
        let starts = self.lengths.iter().scan(0, |next, len| {
            *next += len;
            Some((*next - len, *len))
        });
        starts.collect()
    }

    /// Returns, for each prediction, whether the token that it is made at counts and is marked.
    fn predicting(&self, marks: &[bool]) -> Vec<bool> {
        let of = |(start, len): (usize, usize)| start..start + len.saturating_sub(1);
        let tokens = self.rows().into_iter().flat_map(of);
        tokens.map(|t| self.counted[t] && marks[t]).collect()
    }

    /// Returns the number of positions of each row, for each of [`MeasuredAt`].
    fn counts(&self, predictions: &Predictions) -> [Vec<f64>; 3] {
        let number = |marks: &[bool]| -> Vec<f64> {
            let ones = self.predicting(marks).into_iter().map(|m| f64::from(u8::from(m)));
            predictions.by_row(&ones.collect::<Vec<_>>(), self.lengths.len())
        };
        let destinations = |(start, len): (usize, usize)| {
            let counted = &self.counted[start + len / 2..start + len];
            counted.iter().filter(|counted| **counted).count() as f64
        };
        let second_half = self.rows().into_iter().map(destinations).collect();
        [number(&self.counted), number(&self.changed), second_half]
    }
}

/// The measures of a batch.
struct BatchMeasures {
    predictions: Predictions,
    /// `[head][row]`: attention to the first token and output norm, summed over destinations.
    heads: Vec<Vec<[f64; 2]>>,
}

/// Adds the values of rows to the sums of their documents.
fn add(sums: &mut Vec<f64>, documents: &[usize], rows: &[f64]) {
    for (&document, value) in documents.iter().zip(rows) {
        if sums.len() <= document {
            sums.resize(document + 1, 0.0);
        }
        sums[document] += value;
    }
}

fn add_all(sums: &mut DocumentSums, documents: &[usize], rows: &DocumentSums) {
    sums.iter_mut().zip(rows).for_each(|(sums, rows)| add(sums, documents, rows));
}
