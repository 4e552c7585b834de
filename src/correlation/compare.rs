//! Compares a reference model with one partner model, two layers at a time.

use super::engine::{Engine, LayerPair, LayerSums, Side, SumSource};
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::sums::NeuronSums;
use crate::error::Result;

/// Called after every pair of layers. An error (the run was interrupted) ends the
/// comparison, whose results so far are incomplete and must not be used.
pub type Watch<'a> = &'a dyn Fn() -> Result<()>;

/// A reference model x and one of its partners y.
pub struct ModelPair<'a, E: Engine> {
    /// The arithmetic.
    pub engine: &'a E,
    /// The baseline and the other models.
    pub plan: &'a ComparisonPlan,
    /// The reference model.
    pub x: Side<'a, E>,
    /// The partner.
    pub y: Side<'a, E>,
    /// Called after every pair of layers.
    pub watch: Watch<'a>,
}

impl<E: Engine> ModelPair<'_, E> {
    /// Compares x with y, whose index in the family is `model`, over all layers that the source
    /// has. If the baseline is a rotation, compares x with the rotated neurons of y too.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine fails, or the error of `watch` if it asks to stop.
    pub fn compare(
        &self,
        model: usize,
        source: &SumSource<E>,
        pair: &mut PairResult,
    ) -> Result<()> {
        let Self { engine, plan, x, y, .. } = *self;
        let mut room = engine.room(x.layout, y.layout)?;
        for y_layer in source.y_layers(y.layout) {
            let columns = source.columns(engine, y.layout, y_layer);
            let sums = LayerSums { source, columns: columns.as_ref() };
            let rotate = || engine.rotate(plan, (model, y_layer), y, sums);
            let rotated = plan.uses_rotation().then(rotate).transpose()?;
            for x_layer in source.x_layers(x.layout) {
                let block = LayerPair { sums, x: (x, x_layer), y: (y, y_layer) };
                engine.judge(&block, rotated.as_ref(), &mut room, pair)?;
                (self.watch)()?;
            }
        }
        Ok(())
    }

    /// Compares x with a surrogate of y for one draw of the baseline. `own` are the sums over the
    /// neurons of the surrogate.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine fails, or the error of `watch` if it asks to stop.
    pub fn compare_surrogate(
        &self,
        draw: usize,
        source: &SumSource<E>,
        own: &NeuronSums,
        pair: &mut PairResult,
    ) -> Result<()> {
        let Self { engine, x, .. } = *self;
        let placed = engine.place(own)?;
        let y = Side { sums: own, placed: &placed, ..self.y };
        let mut room = engine.room(x.layout, y.layout)?;
        for y_layer in source.y_layers(y.layout) {
            let columns = source.columns(engine, y.layout, y_layer);
            let sums = LayerSums { source, columns: columns.as_ref() };
            for x_layer in source.x_layers(x.layout) {
                let block = LayerPair { sums, x: (x, x_layer), y: (y, y_layer) };
                let best = &mut pair.baseline[draw][x.layout.neurons(x_layer)];
                engine.judge_surrogate(&block, &mut room, best)?;
                (self.watch)()?;
            }
        }
        Ok(())
    }
}
