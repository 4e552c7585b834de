//! Exports activations of chosen neurons to a file for other programs.

use safetensors::tensor::{Dtype, TensorView};

use super::activations::{ChosenActivations, ChosenNeurons};
use crate::error::{Error, Kind, Result};
use crate::run::Session;
use crate::table::NeuronId;

/// Returns the activations of some neurons of the reference model, given as indices over all
/// layers, at every token of the plan that counts. The format is safetensors:
///
/// - `pre`, `post` f32 `[neurons, tokens]`: before and after GELU
/// - `token` i64 `[tokens]`: token id; `row` and `position` i64 `[tokens]`: place of the token
///
/// The names of the neurons are in the metadata.
///
/// # Errors
/// Returns an error if the model cannot be loaded, or the run was stopped.
pub fn export(session: &mut Session, chosen: &[usize]) -> Result<Vec<u8>> {
    let plan = session.plan;
    let neurons = ChosenNeurons { own: chosen, partners: &[], every: 1 };
    let read = ChosenActivations::read(session, &plan.tokens, neurons, |_| ())?;
    let floats = |values: &[Vec<f32>]| -> Vec<u8> {
        values.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()
    };
    let places = |of: &dyn Fn(&(usize, usize)) -> usize| -> Vec<u8> {
        read.places.iter().flat_map(|place| (of(place) as i64).to_le_bytes()).collect()
    };
    let token = |&(row, position): &(usize, usize)| {
        plan.vocabulary_id(plan.tokens.rows[row].ids[position]) as usize
    };
    let (neurons, tokens) = (chosen.len(), read.places.len());
    let tensors = [
        ("pre", Dtype::F32, vec![neurons, tokens], floats(&read.pre)),
        ("post", Dtype::F32, vec![neurons, tokens], floats(&read.post)),
        ("token", Dtype::I64, vec![tokens], places(&token)),
        ("row", Dtype::I64, vec![tokens], places(&|place| place.0)),
        ("position", Dtype::I64, vec![tokens], places(&|place| place.1)),
    ];
    let d_mlp = plan.reference().layout().d_mlp;
    let names = chosen.iter().map(|&i| NeuronId::of(i, d_mlp).to_string());
    let names = [("neurons".to_owned(), names.collect::<Vec<_>>().join(","))];
    let unwritten = |e| Error::new(Kind::Store, "activations", e, "report this with the spec");
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(unwritten)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, Some(names.into_iter().collect())).map_err(unwritten)
}
