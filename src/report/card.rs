//! A neuron on the terminal: its row of the table with percentiles, its partners, what it
//! promotes and suppresses, and where it is most active.

use std::fmt::Write;
use std::path::Path;

use crate::claims::Evidence;
use crate::error::{Error, Kind, Result};
use crate::model::fold::preprocess;
use crate::model::{Gpt2, HookPoint, Site};
use crate::plan::Plan;
use crate::stats::percentile::ranks_within;
use crate::stats::weights::vocabulary_effects;
use crate::table::{Column, NeuronId};

/// Contexts shown.
const CONTEXTS: usize = 8;
/// Tokens shown before and after the active one.
const AROUND: usize = 10;
/// Tokens shown that are promoted most, and suppressed most.
const TOKENS: usize = 10;

/// Where a neuron is active.
struct Active {
    value: f32,
    row: usize,
    position: usize,
}

/// The card of a neuron of a run.
///
/// # Errors
/// If the run's tables are damaged or of another shape than the plan's reference, or
/// there is no such neuron.
pub fn card(run: &Path, id: NeuronId, plan: &Plan) -> Result<String> {
    let layout = plan.reference().layout();
    if id.layer >= layout.n_layers || id.neuron >= layout.d_mlp {
        let problem =
            format!("the model has {} layers of {} neurons", layout.n_layers, layout.d_mlp);
        return Err(Error::new(Kind::Spec, id, problem, "name one of them, as in L0.N12"));
    }
    let evidence = Evidence::of_run(run, layout)?;
    let model = Gpt2::load(&plan.reference().folder)?;
    let vocabulary = plan.vocabulary()?;
    let mut text = format!("{id} of model {}\n", plan.reference().name);
    write_row(&mut text, &evidence, id);
    write_partners(&mut text, run, id)?;
    write_vocabulary(&mut text, &model, plan, &vocabulary, id.layer * layout.d_mlp + id.neuron);
    write_contexts(&mut text, &model, plan, &vocabulary, id);
    Ok(text)
}

fn write_row(out: &mut String, evidence: &Evidence, id: NeuronId) {
    let Some(row) = evidence.table.ids.iter().position(|i| *i == id) else { return };
    let layers = evidence.table.layers();
    out.push_str("\n                       value  percentile in its layer\n");
    for &column in Column::ALL {
        let values = evidence.table.column(column);
        let rank = ranks_within(&layers, values)[row];
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {:<14} {:>11.4}  {rank:>5.1}", column.name(), values[row]);
    }
}

/// From `neurons-extra.csv`: the best partner in each model.
fn write_partners(out: &mut String, run: &Path, id: NeuronId) -> Result<()> {
    let path = run.join("neurons-extra.csv");
    let damaged =
        |e: csv::Error| Error::new(Kind::Evidence, path.display(), e, "run the experiment again");
    let mut reader = csv::Reader::from_path(&path).map_err(damaged)?;
    let header = reader.headers().map_err(damaged)?.clone();
    let cell = |record: &csv::StringRecord, name: &str| {
        let at = header.iter().position(|h| h == name);
        at.and_then(|at| record.get(at)).unwrap_or("").to_owned()
    };
    for record in reader.records() {
        let record = record.map_err(damaged)?;
        let own = [cell(&record, "layer"), cell(&record, "neuron")];
        if own != [id.layer.to_string(), id.neuron.to_string()] {
            continue;
        }
        out.push_str("\nbest partner of each model\n");
        for model in header.iter().filter_map(|h| h.strip_prefix("best_")) {
            let of = |what: &str| cell(&record, &format!("{what}_{model}"));
            let number = |what: &str| of(what).parse().unwrap_or(f64::NAN);
            let (rho, chance) = (number("corr"), number("baseline"));
            let _ = writeln!(out, "  {model:<8} {:<10} ρ {rho:.3}  chance {chance:.3}", of("best"));
        }
    }
    Ok(())
}

fn write_vocabulary(
    out: &mut String,
    model: &Gpt2,
    plan: &Plan,
    vocabulary: &[String],
    neuron: usize,
) {
    let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
    let effects = vocabulary_effects(&folded, &model.config, neuron);
    let mut order: Vec<usize> = (0..effects.len()).collect();
    order.sort_by(|&a, &b| effects[b].total_cmp(&effects[a]));
    let shown = |tokens: &mut dyn Iterator<Item = &usize>| {
        let token = |&t: &usize| format!("{:?} {:+.2}", vocabulary[t], effects[t]);
        tokens.take(TOKENS).map(token).collect::<Vec<_>>().join("  ")
    };
    let _ = writeln!(out, "\npromotes    {}", shown(&mut order.iter()));
    let _ = writeln!(out, "suppresses  {}", shown(&mut order.iter().rev()));
}

/// The largest activations, at most one of each row of text.
fn write_contexts(
    out: &mut String,
    model: &Gpt2,
    plan: &Plan,
    vocabulary: &[String],
    id: NeuronId,
) {
    let mut found: Vec<Active> = Vec::new();
    let mut first = 0;
    for batch in plan.tokens.batches(plan.spec.batch.tokens, 0..plan.tokens.count().used) {
        let rows = batch.ids();
        let keep = batch.kept();
        let mut values = Vec::new();
        let mut hooks = |point: HookPoint, all: &mut [f32], width: usize| {
            if point == (HookPoint { layer: id.layer, site: Site::MlpPost }) {
                values = all.iter().skip(id.neuron).step_by(width).copied().collect();
            }
        };
        model.forward(&rows, &mut hooks);
        let mut start = 0;
        for (r, row) in rows.iter().enumerate() {
            let active = (1..row.len()).filter(|p| keep[start + p]);
            let active =
                active.map(|p| Active { value: values[start + p], row: first + r, position: p });
            found.extend(active.max_by(|a, b| a.value.total_cmp(&b.value)));
            start += row.len();
        }
        first += rows.len();
    }
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    out.push_str("\nmost active, one place of each text\n");
    for Active { value, row, position } in found.iter().take(CONTEXTS) {
        let ids = &plan.tokens.rows[*row].ids;
        let piece = |range: std::ops::Range<usize>| -> String {
            let text: String =
                ids[range].iter().map(|&id| vocabulary[id as usize].as_str()).collect();
            text.replace('\n', "⏎")
        };
        let before = piece(position.saturating_sub(AROUND).max(1)..*position);
        let after = piece(position + 1..(position + 1 + AROUND).min(ids.len()));
        let sample = &plan.samples[plan.tokens.rows[*row].sample].id;
        let _ = writeln!(
            out,
            "  {value:>6.2}  {before}[{}]{after}  ({sample})",
            piece(*position..position + 1)
        );
    }
}
