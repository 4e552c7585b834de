//! `kind: attention`: neurons that turn attention heads towards or away from the first
//! token (§5.3).

mod ablations;
mod choice;
mod readings;
mod scores;
mod settings;
mod tokens;

use rayon::prelude::*;

use self::ablations::PairSums;
use self::choice::{Pair, choose, directions, drawn_to_first, heuristics};
use self::readings::{BatchReadings, places};
use self::settings::AttentionSettings;
use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure, needs_bos};
use super::named::PairChoice;
use crate::charts::canvas::{Axis, Mark, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, ONE_PANEL, range_of, with_margin};
use crate::error::Result;
use crate::findings::Figures;
use crate::model::fold::preprocess;
use crate::model::{Config, Transformer};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::roles::heads::AttentionHead;
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

    fn check(settings: &Self::Settings, spec: &Spec) -> Result<(), Finding> {
        needs_bos(spec)?;
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
        let pairs = choose(settings, &all, |id| heads.of[id.layer][id.head].attention());
        let every = tokens::every(session.plan.tokens.count().used);
        let mut ablations: Vec<PairSums> = pairs.iter().map(|p| PairSums::new(*p, every)).collect();
        session.read("taking neurons out of queries", |decoder, batch| {
            let rows = batch.ids();
            let seen = BatchReadings::of(decoder, &rows, &pairs)?;
            let ablate = |(i, one): (usize, &mut PairSums)| {
                one.absorb(&model, &rows, &seen, (&seen.activations[i], bos));
            };
            ablations.par_iter_mut().enumerate().for_each(ablate);
            Ok(())
        })?;
        let random = directions(&drawn, settings.directions, settings.seed);
        let mut found = figures(&ablations, &all, &random, &heads);
        found.tables.insert(scores::TABLE.into(), scores::table(&all, &random));
        found.tables.insert(tokens::TABLE.into(), tokens::table(&ablations));
        Ok(found)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        let charts = [
            drawn(tables, "attention", chart)?,
            drawn(tables, scores::TABLE, scores::chart)?,
            drawn(tables, tokens::TABLE, tokens::chart)?,
        ];
        Ok(charts.concat())
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

fn figures(ablations: &[PairSums], all: &[Pair], random: &[f64], heads: &Heads) -> Figures {
    let mut figures = Figures::default();
    let (raising, lowering): (Vec<&PairSums>, Vec<&PairSums>) =
        ablations.iter().partition(|a| a.pair.heuristic > 0.0);
    for (name, of_sign) in [("deactivation", raising), ("activation", lowering)] {
        if !of_sign.is_empty() {
            let of = |q: usize| mean(of_sign.iter().map(|a| a.change(q)));
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
    for a in ablations {
        let Pair { neuron, head, heuristic } = a.pair;
        let [neuron, head] = [neuron.to_string(), head.to_string()];
        let (attention, norm) = (a.change(0), a.change(1));
        figures.lines.push(format!(
            "  {neuron:<9} {head:<6} {attention:+.4} {norm:+.4}  (heuristic {heuristic:.3})"
        ));
        let numbers = [heuristic, attention, norm].map(|v| fixed_cell(v, 6));
        let mut row = vec![neuron, head];
        row.extend(numbers);
        row.extend([0, 1].into_iter().flat_map(|q| a.relation(q)).map(|v| fixed_cell(v, 6)));
        row.push(a.tokens.to_string());
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
