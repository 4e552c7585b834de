//! `kind: attention`: neurons that turn attention heads towards or away from the first
//! token (§5.3).

mod choice;
mod settings;

use rayon::prelude::*;

use self::choice::{Pair, choose, directions, drawn_to_first, heuristics};
use self::settings::AttentionSettings;
use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use super::named::PairChoice;
use crate::charts::canvas::{Axis, Mark, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, ONE_PANEL, range_of, with_margin};
use crate::error::Result;
use crate::findings::Figures;
use crate::model::fold::preprocess;
use crate::model::{Config, Decoder, HookPoint, Site, Transformer};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::roles::heads::{Attends, AttentionHead};
use crate::run::Session;
use crate::spec::{Finding, Spec};
use crate::stats::Moments;
use crate::stats::percentile::{mean, median};
use crate::table::fixed_cell;

/// The attention experiment.
pub struct Attention;

impl Experiment for Attention {
    type Settings = AttentionSettings;
    const KIND: &'static str = "attention";
    const PURPOSE: &'static str = "Removes neurons from what the queries of attention heads read.";
    const FIGURES: &'static [FigureName] = &[
        figure(
            "deactivation",
            "change of attention to the first token when a neuron is removed from a head's query, mean over pairs of positive heuristic",
        ),
        figure("deactivation-norm", "change of the head's output norm, mean over the same pairs"),
        figure(
            "activation",
            "change of attention to the first token, mean over pairs of negative heuristic",
        ),
        figure("activation-norm", "change of the head's output norm, mean over the same pairs"),
        figure(
            "bos-norm",
            "norm of a head's output for other tokens over that for the first token, median head",
        ),
        figure(
            "heuristic-tails",
            "kurtosis of the heuristic over neurons minus that over random directions",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/attention.yaml");
    const DESK: Desk = Desk::Spec("experiments/attention.yaml");

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        settings.pairs.check("attention.pairs")
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        settings.pairs.check_model("attention.pairs", plan)
    }

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        let (of, context) = (work.reference(), work.spec.corpus.context);
        // The attention of every head is computed once, that of each pair's head twice.
        let all = of.n_layers * of.d_model * (8 * of.d_model + 2 * context);
        let pairs = match &settings.pairs {
            PairChoice::Strongest(n) => *n,
            PairChoice::Named(pairs) => pairs.len(),
        };
        let head = 2 * of.d_model / of.n_heads * (8 * of.d_model + 2 * context);
        let operations = work.read as f64 * (all + pairs * head) as f64;
        KindCost { operations, ..KindCost::of_passes(2.0) }
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let model = session.reference()?;
        let folded = preprocess(&model.weights, &model.config, &session.plan.spec.weights);
        let context = session.plan.tokens.context;
        let drawn = drawn_to_first(&model, context / 2..context);
        let all = heuristics(&folded, &model.config, &drawn);
        let mut heads = Heads::new(&model.config);
        let bos = Some(model.config.bos_token_id).filter(|_| !settings.count_bos);
        session.read("looking at heads", |decoder, batch| {
            let rows = batch.ids();
            heads.absorb(&model, &rows, &BatchReadings::of(decoder, &rows, &[])?, bos);
            Ok(())
        })?;
        let mut pairs = choose(settings, &all, |layer, head| heads.of[layer][head].attention());
        session.read("taking neurons out of queries", |decoder, batch| {
            let rows = batch.ids();
            let seen = BatchReadings::of(decoder, &rows, &pairs)?;
            let ablate =
                |(i, pair): (usize, &mut Pair)| pair.ablate(&model, &rows, &seen, (i, bos));
            pairs.par_iter_mut().enumerate().for_each(ablate);
            Ok(())
        })?;
        let random = directions(&drawn, settings.directions, settings.seed);
        Ok(figures(&pairs, &all, &random, &heads))
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "attention", chart)
    }
}

/// Activations captured from the forward pass of a batch.
struct BatchReadings {
    /// The residual stream before each layer (`hook_resid_pre`), `[tokens, d_model]`.
    resid: Vec<Vec<f32>>,
    /// Activations of each pair's neuron, `[pair][token]`.
    activations: Vec<Vec<f32>>,
}

impl BatchReadings {
    fn of(model: &dyn Decoder, rows: &[&[u32]], pairs: &[Pair]) -> Result<Self> {
        let mut seen = Self {
            resid: vec![Vec::new(); model.config().n_layers],
            activations: vec![Vec::new(); pairs.len()],
        };
        let mut hooks = |point: HookPoint, values: &mut [f32], width: usize| match point.site {
            Site::ResidPre => seen.resid[point.layer] = values.to_vec(),
            Site::MlpPost => {
                for (pair, activations) in pairs.iter().zip(&mut seen.activations) {
                    if pair.neuron.layer == point.layer {
                        let neuron = values.iter().skip(pair.neuron.neuron).step_by(width);
                        *activations = neuron.copied().collect();
                    }
                }
            }
            _ => {}
        };
        model.forward(rows, &mut hooks)?;
        Ok(seen)
    }

    /// Returns the residual stream before a layer for one row of tokens, `[len][d]`.
    fn row(&self, layer: usize, start: usize, len: usize, d: usize) -> Vec<Vec<f64>> {
        let rows = self.resid[layer][start * d..(start + len) * d].chunks_exact(d);
        rows.map(|row| row.iter().map(|&v| v.into()).collect()).collect()
    }
}

/// Returns the index of the first token and the number of tokens of each row.
fn places(rows: &[&[u32]]) -> Vec<(usize, usize)> {
    let mut next = 0;
    let place = |row: &&[u32]| {
        next += row.len();
        (next - row.len(), row.len())
    };
    rows.iter().map(place).collect()
}

impl Pair {
    /// Removes the neuron from the query of the head; the pair is the `index`th of the readings.
    /// Destination tokens `bos` do not count.
    fn ablate(
        &mut self,
        model: &Transformer,
        rows: &[&[u32]],
        seen: &BatchReadings,
        (index, bos): (usize, Option<u32>),
    ) {
        let d = model.config.d_model;
        let head = AttentionHead { model, layer: self.layer, head: self.head };
        let w_out = &model.weights.blocks[self.neuron.layer].mlp_out.weight;
        let w_out = &w_out[self.neuron.neuron * d..][..d];
        for (row, (start, len)) in rows.iter().zip(places(rows)) {
            let resid = seen.row(self.layer, start, len, d);
            let removed = |t: usize| {
                let activation = f64::from(seen.activations[index][start + t]);
                w_out.iter().map(|&w| f64::from(w) * activation).collect()
            };
            // Only destinations in the second half of the row count, as in the paper.
            let attends = head.attends(&resid, len / 2..len, removed);
            let counts = |(t, _): &(usize, [Attends; 2])| Some(row[*t]) != bos;
            for (t, [clean, without]) in (len / 2..len).zip(attends).filter(counts) {
                let activation = seen.activations[index][start + t];
                self.relate(activation.into(), [clean.first, clean.norm]);
                self.change[0] += without.first - clean.first;
                self.change[1] += without.norm - clean.norm;
                self.tokens += 1.0;
            }
        }
    }
}

impl Pair {
    fn relate(&mut self, a: f64, quantities: [f64; 2]) {
        let [n, sum, square, rest @ ..] = &mut self.with;
        (*n, *sum, *square) = (*n + 1.0, *sum + a, *square + a * a);
        for (sums, q) in rest.chunks_exact_mut(3).zip(quantities) {
            (sums[0], sums[1], sums[2]) = (sums[0] + q, sums[1] + q * q, sums[2] + a * q);
        }
    }

    /// Returns the correlation of a quantity with the activation, and its slope.
    fn relation(&self, which: usize) -> [f64; 2] {
        let [n, sum, square, rest @ ..] = self.with;
        let [q, qq, aq] = [0, 1, 2].map(|i| rest[which * 3 + i]);
        let covariance = aq - sum * q / n;
        let (of_a, of_q) = (square - sum * sum / n, qq - q * q / n);
        [covariance / (of_a * of_q).sqrt(), covariance / of_a]
    }
}

/// Measurements of how every head treats the first token.
struct Heads {
    /// The sums of each head, `[layer][head]`.
    of: Vec<Vec<Seat>>,
}

/// Sums for one head.
#[derive(Clone, Copy, Default)]
struct Seat {
    /// Σ and count of ‖W_O v‖, for the first token and for all others.
    norms: [[f64; 2]; 2],
    /// Σ and count of the attention of destination tokens to the first token.
    attention: [f64; 2],
}

impl Seat {
    /// Returns the mean of ‖W_O v‖ over all tokens but the first, divided by its mean over first
    /// tokens.
    fn ratio(&self) -> f64 {
        let [first, others] = self.norms.map(|[sum, n]| sum / n);
        others / first
    }

    fn attention(&self) -> f64 {
        self.attention[0] / self.attention[1]
    }

    /// Adds a row of tokens; those that are `bos` count only as the first of the row.
    fn absorb(&mut self, head: AttentionHead, resid: &[Vec<f64>], ids: &[u32], bos: Option<u32>) {
        let counts = |t: usize| t == 0 || Some(ids[t]) != bos;
        for (t, row) in resid.iter().enumerate().filter(|(t, _)| counts(*t)) {
            let norms = &mut self.norms[usize::from(t > 0)];
            norms[0] += head.value_norm(row);
            norms[1] += 1.0;
        }
        let destinations = resid.len() / 2..resid.len();
        let attends = head.attends_unchanged(resid, destinations.clone());
        for (_, clean) in destinations.zip(attends).filter(|(t, _)| counts(*t)) {
            self.attention[0] += clean.first;
            self.attention[1] += 1.0;
        }
    }
}

impl Heads {
    fn new(config: &Config) -> Self {
        Self { of: vec![vec![Seat::default(); config.n_heads]; config.n_layers] }
    }

    fn absorb(
        &mut self,
        model: &Transformer,
        rows: &[&[u32]],
        seen: &BatchReadings,
        bos: Option<u32>,
    ) {
        let d = model.config.d_model;
        self.of.par_iter_mut().enumerate().for_each(|(layer, heads)| {
            for (ids, (start, len)) in rows.iter().zip(places(rows)) {
                let resid = seen.row(layer, start, len, d);
                heads.par_iter_mut().enumerate().for_each(|(head, seat)| {
                    seat.absorb(AttentionHead { model, layer, head }, &resid, ids, bos);
                });
            }
        });
    }
}

fn figures(pairs: &[Pair], all: &[Pair], random: &[f64], heads: &Heads) -> Figures {
    let mut figures = Figures::default();
    let change = |p: &Pair, q: usize| p.change[q] / p.tokens;
    let (raising, lowering): (Vec<&Pair>, Vec<&Pair>) =
        pairs.iter().partition(|p| p.heuristic > 0.0);
    for (name, pairs) in [("deactivation", raising), ("activation", lowering)] {
        if !pairs.is_empty() {
            let of = |q: usize| mean(pairs.iter().map(|p| change(p, q)));
            figures.add(name, [of(0)]);
            figures.add(&format!("{name}-norm"), [of(1)]);
        }
    }
    let ratios = heads.of.iter().flatten().map(Seat::ratio);
    figures.add("bos-norm", vec![median(ratios).unwrap_or(f64::NAN)]);
    let neurons = Moments::of(all.iter().map(|p| p.heuristic)).kurt;
    let directions = Moments::of(random.iter().copied()).kurt;
    figures.add("heuristic-tails", vec![neurons - directions]);
    figures.lines.push(format!(
        "kurtosis of w_out W_Q k_BOS: {neurons:.2} over neurons, {directions:.2} over random directions"
    ));
    figures.lines.push(
        "neuron out of a head's query: change of attention to the first token, of the output norm"
            .into(),
    );
    let header = vec![
        "neuron",
        "head",
        "heuristic",
        "bos_attention_change",
        "output_norm_change",
        "corr_bos_attention",
        "slope_bos_attention",
        "corr_output_norm",
        "slope_output_norm",
        "tokens",
    ];
    let mut table = TextTable::with_header(header);
    for p in pairs {
        let head = format!("L{}.H{}", p.layer, p.head);
        let (attention, norm) = (change(p, 0), change(p, 1));
        figures.lines.push(format!(
            "  {:<9} {head:<6} {attention:+.4} {norm:+.4}  (heuristic {:.3})",
            p.neuron.to_string(),
            p.heuristic
        ));
        let numbers = [p.heuristic, attention, norm].map(|v| fixed_cell(v, 6));
        let mut row = vec![p.neuron.to_string(), head];
        row.extend(numbers);
        row.extend([0, 1].into_iter().flat_map(|q| p.relation(q)).map(|v| fixed_cell(v, 6)));
        row.push(p.tokens.to_string());
        table.rows.push(row);
    }
    figures.tables.insert("attention".into(), table);
    let rows = heads.of.iter().enumerate().flat_map(|(layer, heads)| {
        heads.iter().enumerate().map(move |(head, seat)| {
            let [first, others] = seat.norms.map(|[sum, n]| sum / n);
            let numbers = [first, others, seat.ratio(), seat.attention()];
            let name = std::iter::once(format!("L{layer}.H{head}"));
            name.chain(numbers.map(|v| fixed_cell(v, 6))).collect()
        })
    });
    let header = ["head", "norm_first", "norm_others", "ratio", "bos_attention"];
    figures.add_table("heads", &header, rows);
    figures
}

fn chart(table: &TextTable) -> Result<Chart> {
    let (h, change) = (table.numbers("heuristic"), table.numbers("bos_attention_change"));
    let points: Vec<(f64, f64)> = h.into_iter().zip(change).collect();
    let panel = Panel {
        title: String::new(),
        x: Axis::of(
            "heuristic w_out·W_Q·k_BOS",
            with_margin(&range_of(points.iter().map(|p| p.0))),
        ),
        y: Axis::of(
            "change of BOS attention",
            with_margin(&range_of(points.iter().map(|p| p.1).chain([0.0]))),
        ),
        series: vec![Series::new("", UNIVERSAL, Mark::Points(points))],
    };
    Ok(Chart {
        name: "attention".into(),
        title: "Neurons that turn heads towards the first token",
        caption: "What the weights suggest a neuron does to a head's attention to the first \
                  token, and how that attention changes when the neuron is taken out of the head's \
                  query. Paper: §5.3."
            .into(),
        alt: format!("{} pairs of neuron and head as points.", table.rows.len()),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}
