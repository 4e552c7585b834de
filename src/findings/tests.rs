//! What a run writes as JSON is read by the next command, whatever the values are.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::corpus::documents::DocumentCount;
use crate::corpus::tokens::TokenCount;
use crate::record::{
    Card, CardFile, CardMatch, Context, DrawError, Explanation, FigureFile, Histogram,
    JointHistogram, PartnerCard, PartnerCorrelations, PercentileInterval, Published, Resampling,
    SUMMARY_SCHEMA, SampledContext, Share, Signature, Summary, Timing, TopNeuron, Uncorrelated,
};
use crate::stats::Moments;

/// Any value that a computation may give.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-0.0),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        Just(5e-324),
        any::<f64>(),
        -1.0..1.0,
    ]
}

fn numbers() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(number(), 0..4)
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any::<String>(), 0..3)
}

/// Writes, reads and writes again: both texts must say the same.
fn survives<T: Serialize, R: Serialize + DeserializeOwned>(value: &T) {
    let text = serde_json::to_string_pretty(value).expect("JSON");
    let read: R = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"));
    let tree = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let again = serde_json::to_string(&read).expect("JSON");
    assert!(same(&tree(&text), &tree(&again)), "{text}\n{again}");
}

/// Whether two trees are equal, but for the last digit of a number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| same(a, b))
        }
        (Value::Number(x), Value::Number(y)) => match (x.as_f64(), y.as_f64()) {
            (Some(x), Some(y)) => {
                x.is_sign_negative() == y.is_sign_negative()
                    && (x - y).abs() <= 4.0 * f64::EPSILON * x.abs()
            }
            _ => a == b,
        },
        _ => a == b,
    }
}

/// A summary of which every number, list and text is given.
fn summary(v: &[f64], list: &[String], rows: &[Vec<f64>], share: Option<f64>) -> Summary {
    let at = |i: usize| v[i % v.len()];
    let interval = Some(PercentileInterval { low: at(2), high: at(3) });
    let one = Share { threshold: at(0), universal: 0, of: list.len(), percent: at(1), interval };
    let published = Published { universal: at(2), others: at(3), direction: "high".into() };
    let signature = Signature {
        property: "p".into(),
        column: "c".into(),
        universal: share,
        others: share,
        interval,
        published,
    };
    let text = list.first().cloned().unwrap_or_default();
    let model = Uncorrelated {
        model: text.clone(),
        neurons: list.len(),
        dead: list.to_vec(),
        non_finite: list.to_vec(),
    };
    Summary {
        schema: SUMMARY_SCHEMA,
        experiment: text.clone(),
        reference: text.clone(),
        partners: list.to_vec(),
        documents: DocumentCount::default(),
        tokens: TokenCount { used: 1, rows: 1, bos: 0, newline: 0, padding: 0 },
        neurons: list.len(),
        dead: list.to_vec(),
        non_finite: list.to_vec(),
        models: list.iter().map(|_| model.clone()).collect(),
        shares: list.iter().map(|_| one).collect(),
        curve: vec![one],
        draws: share.map(|percent| DrawError { draws: 2, percent, near: list.len() }),
        by_layer: vec![one],
        top: vec![TopNeuron { neuron: text, excess_corr: at(4), partners: list.to_vec() }],
        signatures: list.iter().map(|_| signature.clone()).collect(),
        depth: rows.to_vec(),
        mean_excess_by_layer: v.to_vec(),
        resampling: list.first().map(|text| Resampling {
            blocks: list.len(),
            resamples: usize::MAX,
            candidates: 0,
            missing: Some(text.clone()),
        }),
        screening: None,
        timing: Some(Timing { load_s: at(5), tokens_s: at(6), finish_s: at(7) }),
    }
}

proptest! {
    #[test]
    fn summaries_are_read_back(
        v in prop::collection::vec(number(), 1..9),
        list in words(),
        rows in prop::collection::vec(numbers(), 0..3),
        share in prop::option::of(number()),
    ) {
        survives::<_, Summary>(&summary(&v, &list, &rows, share));
    }

    #[test]
    fn figures_are_read_back(
        named in prop::collection::btree_map(any::<String>(), numbers(), 0..4),
        lines in words(),
    ) {
        let figures = Figures { named, lines, ..Figures::default() };
        survives::<_, FigureFile>(&figures.file("x"));
    }

    #[test]
    fn correlations_are_read_back(
        v in prop::collection::vec(number(), 5..6),
        histogram in numbers(),
        partner in any::<String>(),
    ) {
        let rho = Moments { mean: v[0], var: v[1], skew: v[2], kurt: v[3] };
        let one = PartnerCorrelations { partner, pairs: v[4], rho, histogram, cka: vec![vec![v[2], f64::NAN]], top: Vec::new() };
        survives::<_, Vec<PartnerCorrelations>>(&[one]);
        survives::<_, Vec<PartnerCorrelations>>(&[0_u8; 0]);
    }

    #[test]
    fn cards_are_read_back(
        v in prop::collection::vec(number(), 5..6),
        tokens in prop::collection::vec((any::<String>(), number()), 0..3),
        values in prop::collection::vec(prop::option::of(number()), 1..4),
        text in any::<String>(),
    ) {
        let explanation = Explanation {
            test: text.clone(), family: text.clone(), reduction: v[0], difference: v[1], support: v[2],
        };
        let context = Context {
            sample: text.clone(), domain: text.clone(), tokens: vec![text.clone(); values.len()],
            values: values.clone(), at: 0,
        };
        let joint = JointHistogram {
            bins: 3, x: vec![v[0], v[1]], y: vec![v[2], v[3]], line: vec![v[4], v[0]],
            counts: vec![(8, u32::MAX)],
        };
        let found = CardMatch {
            model: text.clone(), neuron: "L0.N1".into(), rho: v[0], rank: usize::MAX,
            closest: "L0.N2".into(), closest_rho: v[1], explained: v[2], joint, values: vec![values],
        };
        let partner = PartnerCard {
            model: text.clone(), neuron: "L0.N1".into(), name: Some(text), promoted: tokens.clone(),
            suppressed: tokens.clone(), contexts: vec![context.clone()],
        };
        let card = Card {
            neuron: "L0.N0".into(),
            name: None,
            promoted: tokens.clone(),
            suppressed: tokens,
            explanations: vec![explanation],
            histogram: Histogram { from: v[3], width: v[4], yes: vec![0, u32::MAX], no: Vec::new() },
            contexts: vec![context.clone()],
            sampled: vec![SampledContext { percentile: v[0], context: context.clone() }],
            compared: vec![context],
            matches: vec![found],
        };
        let (cards, partners) = (vec![card], vec![partner]);
        survives::<_, CardFile>(&CardFile {
            schema: 2, tokens: usize::MAX, cards, tokens_of_partners: 1, partners,
        });
        survives::<_, CardFile>(&CardFile::default());
    }
}

#[test]
fn what_is_missing_or_no_number_is_refused() {
    let good = serde_json::json!(summary(&[f64::NAN], &["a".into()], &[vec![f64::NAN]], None));
    for (key, wrong) in [
        ("depth", serde_json::json!([["x"]])),
        ("mean_excess_by_layer", serde_json::json!(null)),
        ("mean_excess_by_layer", serde_json::json!([[1.0]])),
    ] {
        let mut bad = good.clone();
        bad[key] = wrong;
        assert!(serde_json::from_value::<Summary>(bad).is_err(), "{key}");
        let mut bad = good.clone();
        bad.as_object_mut().expect("an object").remove(key);
        assert!(serde_json::from_value::<Summary>(bad).is_err(), "without {key}");
    }
    let read: Summary = serde_json::from_value(good).expect("a summary");
    assert!(read.depth[0][0].is_nan());
}
