//! Which pairs of a neuron and an attention head an experiment ablates, by what the weights suggest
//! that the neuron does to the head's attention to the first token.

use std::ops::Range;

use rayon::prelude::*;

use super::super::named::PairChoice;
use super::settings::{AttentionSettings, PairSign};
use crate::correlation::{Purpose, RandomStream};
use crate::model::weights::Weights;
use crate::model::{Config, HookPoint, Site, Transformer};
use crate::roles::heads::AttentionHead;
use crate::table::{HeadId, NeuronId};

/// A neuron and an attention head of a later layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The neuron.
    pub neuron: NeuronId,
    /// The head.
    pub head: HeadId,
    /// `w_out · W_Q k_BOS` with w_out of unit norm.
    pub heuristic: f64,
}

/// Returns, for every layer and head, the direction of the residual stream that raises attention
/// to the token at the beginning of a sequence: [`AttentionHead::drawn_by`] of its key, for queries
/// at these destinations.
pub fn drawn_to_first(model: &Transformer, destinations: Range<usize>) -> Vec<Vec<Vec<f64>>> {
    let d = model.config.d_model;
    let mut drawn = vec![Vec::new(); model.config.n_layers];
    let mut hooks = |point: HookPoint, values: &mut [f32], _: usize| {
        if point.site == Site::ResidPre {
            let first: Vec<f64> = values[..d].iter().map(|&v| v.into()).collect();
            let of = |head| {
                let head = AttentionHead { model, layer: point.layer, head };
                head.drawn_by(&first, destinations.clone())
            };
            drawn[point.layer] = (0..model.config.n_heads).map(of).collect();
        }
    };
    model.forward(&[&[model.config.bos_token_id]], &mut hooks);
    drawn
}

/// Returns the pairs of every neuron with every head of a later layer, each with its heuristic.
pub fn heuristics(folded: &Weights, config: &Config, drawn: &[Vec<Vec<f64>>]) -> Vec<Pair> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let of = |i: usize| {
        let neuron = NeuronId::of(i, d_mlp);
        let w_out = &folded.blocks[neuron.layer].mlp_out.weight[neuron.neuron * d..][..d];
        let norm = w_out.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
        let later = drawn.iter().enumerate().skip(neuron.layer + 1);
        later.flat_map(move |(layer, heads)| {
            heads.iter().enumerate().map(move |(head, drawn)| {
                let dot: f64 = w_out.iter().zip(drawn).map(|(w, u)| f64::from(*w) * u).sum();
                let head = HeadId { layer, head };
                Pair { neuron, head, heuristic: dot / norm }
            })
        })
    };
    (0..config.n_layers * d_mlp).into_par_iter().flat_map_iter(of).collect()
}

/// Returns the pairs that are ablated: those that are named, in that order, or those with the
/// largest heuristic. `attention` gives the mean attention of a head to the first token.
pub fn choose(
    settings: &AttentionSettings,
    all: &[Pair],
    attention: impl Fn(HeadId) -> f64,
) -> Vec<Pair> {
    match &settings.pairs {
        PairChoice::Strongest(count) => {
            let mut pairs = all.to_vec();
            pairs.retain(|pair| attention(pair.head) >= settings.attends);
            let size = |pair: &Pair| match settings.sign {
                PairSign::Positive => pair.heuristic,
                PairSign::Negative => -pair.heuristic,
                PairSign::Both => pair.heuristic.abs(),
            };
            pairs.sort_by(|a, b| size(b).total_cmp(&size(a)));
            pairs.truncate(*count);
            pairs
        }
        PairChoice::Named(named) => {
            let is = |pair: &&Pair, name: &(NeuronId, HeadId)| (pair.neuron, pair.head) == *name;
            named
                .iter()
                .filter_map(|name| all.iter().find(|pair| is(pair, name)).copied())
                .collect()
        }
    }
}

/// Returns the heuristic of random directions of unit norm with all heads except those of the
/// first layer.
pub fn directions(drawn: &[Vec<Vec<f64>>], count: usize, seed: u64) -> Vec<f64> {
    let mut found = Vec::new();
    for id in 0..count as u64 {
        let mut direction = vec![0.0_f32; drawn[0][0].len()];
        RandomStream { seed, purpose: Purpose::Noise, id }.normals(&mut direction);
        let direction: Vec<f64> = direction.into_iter().map(f64::from).collect();
        let norm = direction.iter().map(|v| v * v).sum::<f64>().sqrt();
        for drawn in drawn.iter().skip(1).flatten() {
            found.push(direction.iter().zip(drawn).map(|(v, u)| v * u).sum::<f64>() / norm);
        }
    }
    found
}
