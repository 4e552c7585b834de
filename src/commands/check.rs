//! `check-model`: how exact a model's forward pass is.

use std::path::Path;

use universal_neurons::error::Result;
use universal_neurons::model::Transformer;
use universal_neurons::model::check::{Exported, check, check_against, random_tokens};
use universal_neurons::output::show;

use super::show_json;

/// Exit code: a difference is above the tolerance.
const INEXACT: u8 = 1;

/// Compares a model with its f64 twin, or with activations that another program exported.
pub fn check_model(
    folder: &Path,
    against: Option<&Path>,
    tolerance: f64,
    json: bool,
) -> Result<u8> {
    let model = Transformer::load(folder)?;
    let found = match against {
        Some(file) => check_against(&model, &Exported::read(file, &model.config)?, tolerance),
        None => check(&model, &random_tokens(&model.config)),
    };
    match json {
        true => show_json(&found)?,
        false => show(&found.to_string())?,
    }
    Ok(if found.holds() { 0 } else { INEXACT })
}
