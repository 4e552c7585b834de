//! Matches against their definitions, and against NumPy and SciPy.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Deserialize;

use super::assignment::assignment;
use super::clusters::{Member, clusters};
use super::matches::{Matches, Partners, place_among_partners};
use crate::correlation::oracle::{pearson, series};
use crate::correlation::{
    ComparisonPlan, Correlator, Keep, Layout, NeuronComparison, NeuronMatch, PairResult,
};
use crate::record::{Tables, TextTable};

/// Returns matches that keep all partners, from the correlation of every two neurons.
fn of_correlations(
    neurons: &[usize],
    rho: impl Fn([usize; 2], usize, usize) -> f64,
    baseline: f64,
) -> Matches {
    let partners = |x: usize, y: usize, i: usize| {
        let all = (0..neurons[y]).map(|j| NeuronMatch { rho: rho([x, y], i, j), neuron: j });
        let mut top: Vec<NeuronMatch> = all.collect();
        top.sort_by(|a, b| b.rho.total_cmp(&a.rho));
        Partners { top, baseline }
    };
    let of_pair = |x: usize, y: usize| {
        let own = if x == y { 0 } else { neurons[x] };
        (0..own).map(|i| partners(x, y, i)).collect()
    };
    let models = 0..neurons.len();
    Matches {
        partners: models.clone().map(|x| models.clone().map(|y| of_pair(x, y)).collect()).collect(),
    }
}

/// Correlations of three models of a few neurons: `[pair of models][neuron][neuron]`. They are far
/// enough apart that no two are equal.
type Correlations = [Vec<Vec<f64>>; 3];

const SIZES: [usize; 3] = [4, 5, 4];
const PAIRS: [[usize; 2]; 3] = [[0, 1], [0, 2], [1, 2]];

fn correlations() -> impl Strategy<Value = Correlations> {
    let all: usize = PAIRS.iter().map(|[x, y]| SIZES[*x] * SIZES[*y]).sum();
    Just((0..all).collect::<Vec<usize>>()).prop_shuffle().prop_map(move |order| {
        let mut values = order.into_iter().map(|v| 1.6 * v as f64 / all as f64 - 0.6);
        PAIRS
            .map(|[x, y]| (0..SIZES[x]).map(|_| values.by_ref().take(SIZES[y]).collect()).collect())
    })
}

fn rho(all: &Correlations, [x, y]: [usize; 2], i: usize, j: usize) -> f64 {
    match PAIRS.iter().position(|pair| *pair == [x, y]) {
        Some(pair) => all[pair][i][j],
        None => rho(all, [y, x], j, i),
    }
}

/// Returns the largest sum of positive correlations of one-to-one pairs, by trying all of them.
fn largest_sum(all: &Correlations, pair: [usize; 2], i: usize, free: &BTreeSet<usize>) -> f64 {
    if i == SIZES[pair[0]] {
        return 0.0;
    }
    let without = largest_sum(all, pair, i + 1, free);
    let with = |j: &usize| {
        let mut rest = free.clone();
        rest.remove(j);
        rho(all, pair, i, *j) + largest_sum(all, pair, i + 1, &rest)
    };
    free.iter().map(with).fold(without, f64::max)
}

proptest! {
    #[test]
    fn ranks_and_cycles_are_those_of_their_definitions(all in correlations()) {
        let matches = of_correlations(&SIZES, |pair, i, j| rho(&all, pair, i, j), 0.0);
        let best = |pair: [usize; 2], i: usize| {
            let of = |j: &usize| rho(&all, pair, i, *j);
            (0..SIZES[pair[1]]).max_by(|a, b| of(a).total_cmp(&of(b))).expect("a neuron")
        };
        for (x, y) in (0..3).flat_map(|x| (0..3).map(move |y| (x, y))).filter(|(x, y)| x != y) {
            for i in 0..SIZES[x] {
                let j = best([x, y], i);
                let better = (0..SIZES[x]).filter(|k| rho(&all, [x, y], *k, j) > rho(&all, [x, y], i, j));
                prop_assert_eq!(matches.rank([x, y], i), Some(1 + better.count()));
                prop_assert_eq!(matches.is_mutual([x, y], i), best([y, x], j) == i);
            }
        }
        for i in 0..SIZES[0] {
            let closed = [[1, 2], [2, 1]].iter().filter(|[y, z]| {
                best([*z, 0], best([*y, *z], best([0, *y], i))) == i
            });
            prop_assert_eq!(matches.cycles(0, i), (closed.count(), 2));
        }
    }

    #[test]
    fn the_excess_without_a_partner_is_that_of_the_others(all in correlations()) {
        let matches = of_correlations(&SIZES, |pair, i, j| rho(&all, pair, i, j), 0.25);
        for i in 0..SIZES[0] {
            let excess = [1, 2].map(|y| matches.excess([0, y], i).expect("a match"));
            prop_assert_eq!([1, 2].map(|y| matches.excess_without(0, i, y)), [excess[1], excess[0]]);
            let found = excess.iter().filter(|e| **e > 0.3).count();
            prop_assert_eq!(matches.found_in(0, i, 0.3), found);
        }
    }

    #[test]
    fn an_assignment_has_the_largest_sum(all in correlations()) {
        let matches = of_correlations(&SIZES, |pair, i, j| rho(&all, pair, i, j), 0.0);
        for [x, y] in PAIRS.into_iter().chain(PAIRS.map(|[x, y]| [y, x])) {
            let assigned = assignment(&matches, [x, y]);
            let taken: Vec<usize> = assigned.iter().flatten().map(|m| m.neuron).collect();
            prop_assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len());
            for (i, found) in assigned.iter().enumerate() {
                prop_assert!(found.is_none_or(|m| m.rho == rho(&all, [x, y], i, m.neuron)));
            }
            let sum: f64 = assigned.iter().flatten().map(|m| m.rho).sum();
            let want = largest_sum(&all, [x, y], 0, &(0..SIZES[y]).collect());
            prop_assert!((sum - want).abs() < 1e-9, "{} is not {}", sum, want);
        }
    }

    #[test]
    fn clusters_are_the_neurons_that_mutual_matches_reach(all in correlations()) {
        let matches = of_correlations(&SIZES, |pair, i, j| rho(&all, pair, i, j), 0.1);
        let joined = |a: Member, b: Member| {
            let pair = [a.0, b.0];
            a.0 != b.0
                && matches.best(pair, a.1).is_some_and(|m| m.neuron == b.1 && m.rho - 0.1 > 0.2)
                && matches.best([b.0, a.0], b.1).is_some_and(|m| m.neuron == a.1)
        };
        let nodes: Vec<Member> = (0..3).flat_map(|m| (0..SIZES[m]).map(move |i| (m, i))).collect();
        let reached = |start: Member| {
            let mut reached = BTreeSet::from([start]);
            for _ in 0..nodes.len() {
                let more = nodes.iter().filter(|b| reached.iter().any(|a| joined(*a, **b)));
                let more: Vec<Member> = more.copied().collect();
                reached.extend(more);
            }
            reached
        };
        let want: BTreeSet<Vec<Member>> = nodes
            .iter()
            .map(|n| reached(*n).into_iter().collect::<Vec<_>>())
            .filter(|c| c.len() > 1)
            .collect();
        let found = clusters(&matches, 0.2);
        prop_assert_eq!(found.iter().map(|c| c.members.clone()).collect::<BTreeSet<_>>(), want);
        prop_assert!(found.is_sorted_by_key(|c| std::cmp::Reverse(c.models())));
        for cluster in &found {
            let pairs = cluster.members.iter().flat_map(|a| cluster.members.iter().map(move |b| (a, b)));
            let links = pairs.filter(|(a, b)| a < b && joined(**a, **b));
            let links: Vec<f64> = links.map(|(a, b)| rho(&all, [a.0, b.0], a.1, b.1)).collect();
            prop_assert_eq!(links.len(), cluster.links.len());
            let sum: f64 = links.iter().sum();
            prop_assert!((cluster.mean_corr() - sum / links.len() as f64).abs() < 1e-12);
            prop_assert!(links.contains(&cluster.least_corr()));
        }
    }
}

/// `expected/golden/matching.json`.
#[derive(Deserialize)]
struct Golden {
    layers: usize,
    units: usize,
    threshold: f64,
    activations: Vec<Vec<f32>>,
    pairs: Vec<GoldenPair>,
    clusters: Vec<Vec<Member>>,
}

#[derive(Deserialize)]
struct GoldenPair {
    models: [usize; 2],
    best: Vec<usize>,
    rank: Vec<usize>,
    assigned: Vec<Option<usize>>,
    cka: Vec<Vec<f64>>,
}

/// Compares every two models of the golden family.
fn compared(golden: &Golden, layout: Layout) -> Vec<Vec<PairResult>> {
    let models = golden.activations.len();
    let plan = ComparisonPlan {
        references: (0..models).collect(),
        top: layout.n_neurons(),
        ..ComparisonPlan::new(vec![layout; models])
    };
    let mut correlator = Correlator::new(plan, Keep::Sums { passes: 1 });
    let mut tokens = golden.activations.clone();
    let mut tokens: Vec<&mut [f32]> = tokens.iter_mut().map(Vec::as_mut_slice).collect();
    correlator.absorb(&mut tokens).expect("the CPU does not fail");
    correlator.end_pass(&|| Ok(())).expect("nobody stops it");
    correlator.finish()
}

#[test]
fn numpy_and_scipy_find_the_same() {
    let text = include_str!("../../../expected/golden/matching.json");
    let golden: Golden = serde_json::from_str(text).expect("JSON");
    let layout = Layout { n_layers: golden.layers, d_mlp: golden.units };
    let found = compared(&golden, layout);
    let place = |x, y| place_among_partners([x, y]);
    let of_pair = |x: usize, y: usize| {
        let own = if x == y { 0 } else { layout.n_neurons() };
        let top = |i| found[x][place(x, y)].top(i).collect();
        (0..own).map(|i| Partners { top: top(i), baseline: 0.0 }).collect()
    };
    let models = golden.activations.len();
    let partners = (0..models).map(|x| (0..models).map(|y| of_pair(x, y)).collect()).collect();
    let matches = Matches { partners };
    for GoldenPair { models: [x, y], best, rank, assigned, cka } in &golden.pairs {
        let neurons = 0..layout.n_neurons();
        let pair = [*x, *y];
        let own = neurons.clone().filter_map(|i| Some(matches.best(pair, i)?.neuron));
        assert!(own.eq(best.iter().copied()), "{pair:?}");
        let own: Vec<_> = neurons.map(|i| matches.rank(pair, i)).collect();
        assert_eq!(own, rank.iter().copied().map(Some).collect::<Vec<_>>(), "{pair:?}");
        let own: Vec<_> = assignment(&matches, pair).into_iter().map(|m| Some(m?.neuron)).collect();
        assert_eq!(own, *assigned, "{pair:?}");
        for (own, want) in found[*x][place(*x, *y)].cka.iter().zip(cka.iter().flatten()) {
            assert!((own - want).abs() < 1e-5, "{pair:?}: {own}, expected {want}");
        }
    }
    let mut own: Vec<Vec<Member>> =
        clusters(&matches, golden.threshold).into_iter().map(|c| c.members).collect();
    own.sort();
    assert_eq!(own, golden.clusters);
}

#[test]
fn planted_neurons_are_joined_to_the_clusters_that_were_planted() {
    const TOKENS: usize = 400;
    const PLANTED: usize = 3;
    // Model m has planted neuron p at place (p + 2 m) mod 8; the other neurons are its own.
    let place = |model: usize, planted: usize| (planted + 2 * model) % 8;
    let noise = |id: u64| {
        let mut values = vec![0.0; TOKENS * 8];
        let stream = crate::correlation::RandomStream {
            seed: 4,
            purpose: crate::correlation::Purpose::Gaussian,
            id,
        };
        stream.normals(&mut values);
        values
    };
    let causes = noise(99);
    let activations: Vec<Vec<f32>> = (0..4)
        .map(|model| {
            let mut own = noise(model as u64);
            for (t, planted) in (0..TOKENS).flat_map(|t| (0..PLANTED).map(move |p| (t, p))) {
                own[t * 8 + place(model, planted)] =
                    causes[t * 8 + planted] + 0.3 * own[t * 8 + place(model, planted)];
            }
            own
        })
        .collect();
    let rho = |[x, y]: [usize; 2], i: usize, j: usize| {
        pearson(&series(&activations[x], 8, i), &series(&activations[y], 8, j))
    };
    let found = clusters(&of_correlations(&[8; 4], rho, 0.0), 0.5);
    let mut members: Vec<Vec<Member>> = found.into_iter().map(|c| c.members).collect();
    members.sort();
    let want = (0..PLANTED).map(|p| (0..4).map(|model| (model, place(model, p))).collect());
    let mut want: Vec<Vec<Member>> = want.collect();
    want.sort();
    assert_eq!(members, want);
}

#[test]
fn damaged_tables_are_drawn_or_refused() {
    let header = ["model", "partner", "layer", "partner_layer", "cka", "best_matches"];
    let whole = |layer: &str, cka: &str| {
        let row = |l: usize, other: usize| {
            let layer = if l == 1 { layer.to_owned() } else { l.to_string() };
            ["a", "b"]
                .map(String::from)
                .into_iter()
                .chain([layer, other.to_string(), cka.into(), "0.5".into()])
                .collect()
        };
        let rows = (0..4).map(|i| row(i / 2, i % 2)).collect();
        let table = TextTable { rows, ..TextTable::with_header(header) };
        super::charts::all(&Tables::from([("layer-similarity".to_owned(), table)]))
    };
    let charts = whole("1", "0.25").expect("figures");
    assert!(charts[0].alt.contains("mean CKA of 0.25"), "{}", charts[0].alt);
    for layer in ["9999", "20000", "-3", "x", "NaN", "1e300", "inf"] {
        for cka in ["", "NaN", "1e308", "0.5"] {
            if let Err(error) = whole(layer, cka) {
                assert!(error.to_string().contains("run it again"), "{layer} {cka}: {error}");
            }
        }
    }
    assert!(whole("9999", "0.5").is_err(), "a table without most of its pairs");
}
