//! `kind: ablation`: loss and KL divergence without some neurons (arXiv 2508.00903).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::{KindCost, from_layer};
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use super::means::mean_activations;
use super::sets::{
    NamedSet, check_set_files, check_sets, matched, of_sets, resolve, some_universal,
};
use crate::charts::canvas::{Axis, Cell, Mark, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, range_of, with_margin};
use crate::correlation::Layout;
use crate::error::Result;
use crate::findings::Figures;
use crate::model::intervene::{Action, Intervention, Interventions};
use crate::model::prefix::KeptStreams;
use crate::model::{Decoder, HookPoint, Site};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::roles::bootstrap::{Interval, bootstrap};
use crate::roles::predictions::Predictions;
use crate::run::Session;
use crate::spec::{Finding, Spec};
use crate::table::fixed_cell;

/// A set of neurons that are ablated together.
struct AblatedSet {
    name: String,
    neurons: Vec<usize>,
    interventions: Vec<Intervention>,
    /// Increase of the loss over that of the intact model, summed over each row, in nats.
    loss: Vec<f64>,
    /// KL divergence from the intact model, summed over each row, in nats.
    kl: Vec<f64>,
}

/// The effect of an empty set: none was measured.
const NOTHING: Interval = Interval { mean: f64::NAN, low: f64::NAN, high: f64::NAN };

/// The value that replaces an activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// Zero.
    #[default]
    Zero,
    /// The neuron's mean over the corpus.
    Mean,
}

/// `kind: ablation`: what the model loses without its universal neurons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AblationSettings {
    /// The value that replaces the activations.
    pub replacement: Replacement,
    /// Number of random control sets. Each has as many neurons in every layer as the set of
    /// universal neurons, none of them universal.
    #[schemars(range(min = 1, max = 1000))]
    pub controls: usize,
    /// Seed of the control sets and of the bootstrap.
    pub seed: u64,
    /// Number of resamples of the sequences for confidence intervals.
    #[schemars(range(min = 1, max = 100_000))]
    pub resamples: usize,
    /// Sets of neurons to ablate in place of the universal ones, their controls and their layers.
    /// A set that is `like` another is drawn `controls` times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub sets: Vec<NamedSet>,
}

impl Default for AblationSettings {
    fn default() -> Self {
        let (replacement, sets) = (Replacement::Zero, Vec::new());
        Self { replacement, controls: 5, seed: 1, resamples: 1000, sets }
    }
}

/// The ablation experiment.
pub struct Ablation;

impl Experiment for Ablation {
    type Settings = AblationSettings;
    const KIND: &'static str = "ablation";
    const PURPOSE: &'static str =
        "Ablates the universal neurons, and random sets of as many others.";
    const PATHS: &'static [&'static str] = &["path"];
    const FIGURES: &'static [FigureName] = &[
        figure(
            "ablation-effect",
            "rise of the loss without the universal neurons, minus that without as many random ones, in nats",
        ),
        figure(
            "ablation-first-layer",
            "rise of the loss without the universal neurons of layer 0, minus the largest of another layer, in nats",
        )
        .with_layers("ablation-by-layer", first_layer),
        figure(
            "ablation-by-layer",
            "rise of the loss without the universal neurons of each layer, in nats",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/ablation.yaml");
    const DESK: Desk = Desk::Spec("experiments/ablation.yaml");

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        check_sets("ablation.sets", &settings.sets)
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        check_set_files("ablation.sets", &settings.sets, plan)
    }

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        let shares = if settings.sets.is_empty() {
            let layers = (0..work.reference().n_layers).map(|layer| from_layer(work, layer));
            std::iter::repeat_n(1.0, 1 + settings.controls).chain(layers).collect()
        } else {
            of_sets(work, &settings.sets, false, settings.controls)
        };
        let means = f64::from(u8::from(settings.replacement == Replacement::Mean));
        KindCost {
            universal: settings.sets.is_empty() || settings.sets.iter().any(|set| set.universal),
            predictions: 1.0 + shares.len() as f64,
            ..KindCost::of_passes(1.0 + means + shares.iter().sum::<f64>())
        }
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let layout = session.plan.reference().layout();
        let sets = sets(settings, session)?;
        let means = match settings.replacement {
            Replacement::Zero => vec![0.0; layout.n_neurons()],
            Replacement::Mean => mean_activations(session, Site::MlpPost)?,
        };
        let set = |(name, neurons): (String, Vec<usize>)| AblatedSet {
            interventions: interventions(&neurons, layout, &means),
            name,
            neurons,
            loss: Vec::new(),
            kl: Vec::new(),
        };
        let mut sets: Vec<AblatedSet> = sets.into_iter().map(set).collect();
        let mut positions = Vec::new();
        session.read("ablating neurons", |model, batch| {
            let rows = batch.ids();
            let starts = sets.iter().map(|set| set.interventions.as_slice());
            let mut kept = KeptStreams::for_interventions(starts);
            let clean = Predictions::of(model, &model.forward(&rows, &mut kept)?, &rows)?;
            positions.extend(clean.by_row(&vec![1.0; clean.loss.len()], rows.len()));
            let mut sets = sets.iter_mut().filter(|set| !set.neurons.is_empty());
            sets.try_for_each(|set| set.read(model, &rows, (&clean, &kept)))
        })?;
        let of = |values: &[f64]| bootstrap(values, &positions, settings.resamples, settings.seed);
        let found: Vec<(&AblatedSet, Interval, Interval)> = sets
            .iter()
            .map(|set| match set.neurons.is_empty() {
                true => (set, NOTHING, NOTHING),
                false => (set, of(&set.loss), of(&set.kl)),
            })
            .collect();
        Ok(figures(&found, settings))
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "ablation", chart)
    }
}

/// Returns the name and neurons of each set that is ablated.
fn sets(settings: &AblationSettings, session: &mut Session) -> Result<Vec<(String, Vec<usize>)>> {
    let layout = session.plan.reference().layout();
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    if !settings.sets.is_empty() {
        let needed = settings.sets.iter().any(|set| set.universal);
        let universal = if needed { some_universal(session)? } else { Vec::new() };
        let (sets, draws) = (&settings.sets, settings.controls);
        return resolve("ablation.sets", sets, session.plan, &universal, draws, &mut random);
    }
    let universal = some_universal(session)?;
    let chosen: Vec<usize> = (0..universal.len()).filter(|&i| universal[i]).collect();
    let mut sets = vec![("universal".to_owned(), chosen.clone())];
    for i in 1..=settings.controls {
        sets.push((format!("random {i}"), matched(&universal, layout, &mut random)));
    }
    for layer in 0..layout.n_layers {
        let mut of_layer = chosen.clone();
        of_layer.retain(|&i| layout.layer(i) == layer);
        sets.push((format!("universal of layer {layer}"), of_layer));
    }
    Ok(sets)
}

impl AblatedSet {
    /// Reads rows without the neurons. `clean` and `kept` are the predictions and residual streams
    /// of the whole model.
    fn read(
        &mut self,
        model: &dyn Decoder,
        rows: &[&[u32]],
        (clean, kept): (&Predictions, &KeptStreams),
    ) -> Result<()> {
        let mut hooks =
            Interventions { interventions: &self.interventions, tokens: None, then: () };
        let ablated = Predictions::of(model, &hooks.forward(model, rows, kept)?, rows)?;
        let more: Vec<f64> = ablated.loss.iter().zip(&clean.loss).map(|(a, c)| a - c).collect();
        self.loss.extend(clean.by_row(&more, rows.len()));
        let kl = clean.divergence(&ablated, model.config().d_vocab);
        self.kl.extend(clean.by_row(&kl, rows.len()));
        Ok(())
    }
}

fn add_effects(
    figures: &mut Figures,
    found: &[(&AblatedSet, Interval, Interval)],
    controls: usize,
) {
    let loss = |i: usize| found[i].1.mean;
    let random = (1..=controls).map(loss).sum::<f64>() / controls as f64;
    figures.add("ablation-effect", vec![loss(0) - random]);
    let layers: Vec<f64> = (controls + 1..found.len()).map(loss).collect();
    figures.add("ablation-first-layer", first_layer(&layers));
    figures.add("ablation-by-layer", layers);
}

/// Returns the value of the first layer minus the largest of the others. A layer without universal
/// neurons has no loss; `max` leaves NaN out.
fn first_layer(layers: &[f64]) -> Vec<f64> {
    let others = layers[1..].iter().copied().fold(f64::NAN, f64::max);
    vec![layers[0] - others]
}

fn figures(found: &[(&AblatedSet, Interval, Interval)], settings: &AblationSettings) -> Figures {
    let mut figures = Figures::default();
    // Sets that a spec names have no part in the claims, which are about the universal neurons.
    if settings.sets.is_empty() {
        add_effects(&mut figures, found, settings.controls);
    }
    let header = ["set", "neurons", "loss", "loss_low", "loss_high", "kl", "kl_low", "kl_high"];
    let mut table = TextTable::with_header(header);
    figures
        .lines
        .push("loss above that of the whole model, in nats (95 % of resampled sequences)".into());
    for (set, loss, kl) in found {
        let mut row = vec![set.name.clone(), set.neurons.len().to_string()];
        let values = [loss.mean, loss.low, loss.high, kl.mean, kl.low, kl.high];
        row.extend(values.map(|v| fixed_cell(v, 6)));
        table.rows.push(row);
        if set.neurons.is_empty() {
            figures.lines.push(format!("  {:<22} no neurons: nothing is ablated", set.name));
            continue;
        }
        figures.lines.push(format!(
            "  {:<22} {:>4} neurons  {:+.4} ({:+.4} to {:+.4})  KL {:.4}",
            set.name,
            set.neurons.len(),
            loss.mean,
            loss.low,
            loss.high,
            kl.mean
        ));
    }
    figures.tables.insert("ablation".into(), table);
    figures
}

fn interventions(neurons: &[usize], layout: Layout, values: &[f32]) -> Vec<Intervention> {
    let of_layer = |layer: usize| {
        let here: Vec<usize> =
            neurons.iter().copied().filter(|&i| layout.layer(i) == layer).collect();
        Intervention {
            point: HookPoint { layer, site: Site::MlpPost },
            columns: here.iter().map(|i| i % layout.d_mlp).collect(),
            action: Action::Replace(here.iter().map(|&i| values[i]).collect()),
        }
    };
    (0..layout.n_layers).map(of_layer).filter(|i| !i.columns.is_empty()).collect()
}

fn chart(table: &TextTable) -> Result<Chart> {
    // Empty sets have no loss.
    let rows = (0..table.rows.len()).filter(|&row| !table.cell(row, "loss").is_empty());
    let rows = rows.map(|row| table.rows[row].clone()).collect();
    let table = &TextTable { rows, header: table.header.clone() };
    let (loss, low, high) =
        (table.numbers("loss"), table.numbers("loss_low"), table.numbers("loss_high"));
    let n = table.rows.len();
    let place = |i: usize| (n - 1 - i) as f64;
    let whiskers = (0..n).map(|i| Cell {
        x: low[i]..high[i],
        y: place(i) - 0.12..place(i) + 0.12,
        opacity: 0.35,
    });
    let points = (0..n).map(|i| (loss[i], place(i))).collect();
    let names = table.text("set").into_iter().rev().map(String::from).collect();
    let all = loss.iter().chain(&low).chain(&high).copied().chain([0.0]);
    let panel = Panel {
        title: String::new(),
        x: Axis::of("loss above the whole model's, nats", with_margin(&range_of(all))),
        y: Axis::named("", names),
        series: vec![
            Series::new("", UNIVERSAL, Mark::Cells(whiskers.collect())),
            Series::new("", UNIVERSAL, Mark::Points(points)),
        ],
    };
    Ok(Chart {
        name: "ablation".into(),
        title: "What the model loses without some neurons",
        caption: "Points: mean over tokens; bars: 95 % of resampled sequences. Source: arXiv \
                  2508.00903."
            .into(),
        alt: format!("{n} sets of neurons with their loss and its interval."),
        svg: draw((600, 80 + 34 * n as u32), 1, &[panel])?,
        data: table.clone(),
    })
}
