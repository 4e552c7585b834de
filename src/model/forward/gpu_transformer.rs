//! A model on a device.

use std::cell::OnceCell;
use std::sync::Arc;

use super::super::hooks::Hooks;
use super::super::weights::Block;
use super::super::{Config, Transformer};
use super::backend::Backend;
use super::decoder::{Decoder, ResidualStream};
use super::gpu::{Gpu, GpuEmbeddings, GpuLinear, GpuNorm, GpuValues};
use super::pass::PlacedModel;
use super::tap::Tap;
use crate::backend::device::Device;
use crate::error::Result;

/// A model with its weights in device memory.
#[derive(Debug)]
pub struct GpuTransformer<'d, D: Device> {
    gpu: Gpu<'d, D>,
    host: Arc<Transformer>,
    embeddings: GpuEmbeddings<D>,
    blocks: Vec<Block<GpuLinear<D>, GpuNorm<D>>>,
    /// The final LayerNorm and the unembedding, which are copied when they are first needed.
    unembed: OnceCell<(GpuNorm<D>, GpuLinear<D>)>,
}

impl<'d, D: Device> GpuTransformer<'d, D> {
    /// Copies the weights to the device.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory.
    pub fn of(gpu: Gpu<'d, D>, host: Arc<Transformer>) -> Result<Self> {
        let blocks = host.weights.blocks.iter().map(|block| gpu.place_block(block));
        let blocks = blocks.collect::<Result<_>>()?;
        let embeddings = gpu.place_embeddings(&host.config, &host.weights)?;
        Ok(Self { gpu, host, embeddings, blocks, unembed: OnceCell::new() })
    }

    /// Runs rows of token ids through all blocks, as [`PlacedModel::forward`] does.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    ///
    /// # Panics
    /// Panics if a row is longer than the context or an id lies outside the vocabulary.
    pub fn run(&self, rows: &[&[u32]], tap: &mut impl Tap<Gpu<'d, D>>) -> Result<GpuValues<D>> {
        self.placed().forward(&self.gpu, rows, tap)
    }

    fn placed(&self) -> PlacedModel<'_, Gpu<'d, D>> {
        let Self { host, embeddings, blocks, .. } = self;
        PlacedModel { config: &host.config, embeddings, blocks }
    }

    fn unembed(&self) -> Result<&(GpuNorm<D>, GpuLinear<D>)> {
        if let Some(placed) = self.unembed.get() {
            return Ok(placed);
        }
        let weights = &self.host.weights;
        let norm = self.gpu.place_norm(&weights.ln_final)?;
        let linear = self.gpu.place_unembedding(&self.host.config, weights)?;
        Ok(self.unembed.get_or_init(|| (norm, linear)))
    }
}

impl<D: Device> Decoder for GpuTransformer<'_, D> {
    fn config(&self) -> &Config {
        &self.host.config
    }

    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Result<Vec<f32>> {
        self.run(rows, &mut self.host.tap(rows, hooks))?.to_vec(self.gpu.device)
    }

    fn forward_from(
        &self,
        start: ResidualStream<'_>,
        rows: &[&[u32]],
        hooks: &mut dyn Hooks,
    ) -> Result<Vec<f32>> {
        start.check(rows, self.host.config.d_model);
        let from = (start.layer, self.gpu.place_values(start.values)?);
        let tap = &mut self.host.tap(rows, hooks);
        self.placed().forward_from(&self.gpu, from, rows, tap)?.to_vec(self.gpu.device)
    }

    fn logits(&self, resid: &[f32]) -> Result<Vec<f32>> {
        let Config { d_model, d_vocab, layer_norm_eps, .. } = self.host.config;
        let tokens = resid.len() / d_model;
        let (norm, linear) = self.unembed()?;
        let mut normed = self.gpu.factor(tokens, d_model)?;
        self.gpu.norm(&self.gpu.place_values(resid)?, norm, layer_norm_eps, &mut normed)?;
        let mut logits = self.gpu.values(tokens * d_vocab)?;
        self.gpu.linear(&normed, linear, &mut logits)?;
        logits.to_vec(self.gpu.device)
    }
}
