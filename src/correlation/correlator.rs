//! One reference model against its partners, fed chunk by chunk.

use super::CHUNK;
use super::best::{Best, best_matches, to_correlations};
use super::random::{Purpose, Stream};
use super::rotation::{Rotator, stream};
use super::sums::{CrossSums, GramSums, Layout, NeuronSums};
use crate::checkpoint::{State, Visit};
use crate::model::gelu_new;
use crate::spec::{Baseline, BaselineKind};

/// A partner model: its place in the family and its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partner {
    /// Index in the spec's list of models; random numbers are addressed by it.
    pub index: usize,
    /// Its neurons.
    pub layout: Layout,
}

/// What comparing with one partner found, per neuron of the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Best match; None where the neuron has no correlation with anything.
    pub best: Vec<Option<Best>>,
    /// `[draw][neuron]`: best correlation with chance neurons; NaN where undefined.
    pub baseline: Vec<Vec<f64>>,
}

/// Sums of the reference against all partners.
pub struct Correlator {
    baseline: Baseline,
    x: NeuronSums,
    partners: Vec<PartnerSums>,
}

struct PartnerSums {
    partner: Partner,
    y: NeuronSums,
    cross: CrossSums,
    chance: Chance,
}

/// What a baseline needs beyond the sums themselves.
enum Chance {
    Rotation(GramSums),
    /// Per draw, the sums of a surrogate of the partner.
    Surrogates(Vec<Surrogate>),
}

struct Surrogate {
    y: NeuronSums,
    cross: CrossSums,
}

impl Correlator {
    /// No tokens yet.
    pub fn new(reference: Layout, partners: &[Partner], baseline: &Baseline) -> Self {
        let rows = reference.n_neurons();
        let sums_of = |&partner: &Partner| {
            let cols = partner.layout.n_neurons();
            let surrogate =
                || Surrogate { y: NeuronSums::new(cols), cross: CrossSums::new(rows, cols) };
            let chance = match baseline.kind {
                BaselineKind::Rotation => Chance::Rotation(GramSums::new(partner.layout)),
                BaselineKind::Permutation | BaselineKind::Gaussian => {
                    Chance::Surrogates((0..baseline.draws).map(|_| surrogate()).collect())
                }
            };
            let Surrogate { y, cross } = surrogate();
            PartnerSums { partner, y, cross, chance }
        };
        Self {
            baseline: baseline.clone(),
            x: NeuronSums::new(rows),
            partners: partners.iter().map(sums_of).collect(),
        }
    }

    /// Adds the same tokens of the reference and of every partner, each
    /// `[tokens, n_neurons]` with [`CHUNK`] tokens (fewer in the last chunk).
    /// The values are shifted in place.
    ///
    /// # Panics
    /// If there are not as many chunks as partners, or their token counts differ.
    pub fn absorb(&mut self, x: &mut [f32], partners: &mut [&mut [f32]]) {
        assert_eq!(partners.len(), self.partners.len(), "one chunk per partner");
        let chunk = self.x.n / CHUNK as u64;
        self.x.absorb(x);
        for (sums, y) in self.partners.iter_mut().zip(partners) {
            sums.y.absorb(y);
            assert_eq!(sums.y.n, self.x.n, "chunks of different token counts");
            sums.cross.absorb(x, y);
            sums.absorb_chance(&self.baseline, chunk, x, y);
        }
    }

    /// Sums over the reference's own neurons.
    pub fn reference(&self) -> &NeuronSums {
        &self.x
    }

    /// Best matches and chance levels, per partner, in their order.
    pub fn finish(self) -> Vec<Pair> {
        let Self { baseline, x, partners } = self;
        partners.into_iter().map(|sums| sums.finish(&baseline, &x)).collect()
    }
}

impl State for Correlator {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.x.parts(visit)?;
        self.partners.iter_mut().try_for_each(|partner| partner.parts(visit))
    }
}

impl State for PartnerSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.y.parts(visit)?;
        self.cross.parts(visit)?;
        match &mut self.chance {
            Chance::Rotation(gram) => gram.parts(visit),
            Chance::Surrogates(surrogates) => surrogates.iter_mut().try_for_each(|s| {
                s.y.parts(visit)?;
                s.cross.parts(visit)
            }),
        }
    }
}

impl PartnerSums {
    fn absorb_chance(&mut self, baseline: &Baseline, chunk: u64, x: &[f32], y: &[f32]) {
        match &mut self.chance {
            Chance::Rotation(gram) => gram.absorb(y),
            Chance::Surrogates(surrogates) => {
                let width = self.partner.layout.n_neurons();
                for (draw, surrogate) in surrogates.iter_mut().enumerate() {
                    let id = (draw as u64) << 48 | (self.partner.index as u64) << 40 | chunk;
                    let mut fake = surrogate_chunk(baseline, id, y, width);
                    surrogate.y.absorb(&mut fake);
                    surrogate.cross.absorb(x, &fake);
                }
            }
        }
    }

    fn finish(self, baseline: &Baseline, x: &NeuronSums) -> Pair {
        let Self { partner, y, cross, chance } = self;
        let rho = to_correlations(cross, x, &y);
        let best = best_matches(&rho);
        let level = |s: Surrogate| {
            let best = best_matches(&to_correlations(s.cross, x, &s.y));
            best.iter().map(|b| b.map_or(f64::NAN, |b| b.rho)).collect()
        };
        let baseline = match chance {
            Chance::Rotation(gram) => {
                let rotator = Rotator::new(&rho, &y, &gram, partner.layout);
                let address = |draw, layer| stream(baseline.seed, draw, partner.index, layer);
                (0..baseline.draws).map(|draw| rotator.draw(|layer| address(draw, layer))).collect()
            }
            Chance::Surrogates(surrogates) => surrogates.into_iter().map(level).collect(),
        };
        Pair { best, baseline }
    }
}

/// A partner's chunk as chance would have it: the same tokens in another order,
/// or GELU of standard normal noise.
fn surrogate_chunk(baseline: &Baseline, id: u64, y: &[f32], width: usize) -> Vec<f32> {
    let stream = |purpose| Stream { seed: baseline.seed, purpose, id };
    match baseline.kind {
        BaselineKind::Permutation => {
            let order = stream(Purpose::Permutation).permutation(y.len() / width);
            order.iter().flat_map(|&t| &y[t * width..(t + 1) * width]).copied().collect()
        }
        BaselineKind::Gaussian | BaselineKind::Rotation => {
            let mut fake = vec![0.0; y.len()];
            stream(Purpose::Gaussian).normals(&mut fake);
            fake.iter_mut().for_each(|v| *v = gelu_new(*v));
            fake
        }
    }
}
