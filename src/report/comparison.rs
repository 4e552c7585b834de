//! Compares two runs: what changed from the first to the second.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::claims::{Claim, Evidence, Evidences, Ledger};
use crate::error::{Error, Kind, Result};
use crate::printable;
use crate::record::{ModelDigests, Provenance, StudyRecord};
use crate::table::{Column, NeuronId};

/// Maximum number of neurons that are named.
const NAMED: usize = 20;

/// The differences between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Keys of the specs, and files of the runs, that differ: name, value in the first run, value in
    /// the second run.
    pub settings: Vec<(String, String, String)>,
    /// Universal share in percent at each threshold that both runs report: threshold, share in the
    /// first run, share in the second run.
    pub shares: Vec<(f64, f64, f64)>,
    /// Neurons that are universal only in the second run, at the first threshold.
    pub entered: Vec<String>,
    /// Neurons that are universal only in the first run.
    pub left: Vec<String>,
    /// Largest change of each column of the neuron table: column, neuron, value in the first run,
    /// value in the second run.
    pub largest: Vec<(&'static str, String, f64, f64)>,
    /// Claims whose verdict changed: id, verdict in the first run, verdict in the second run.
    pub verdicts: Vec<(String, String, String)>,
    /// Number of claims that are judged on both runs.
    pub judged: usize,
    /// What the verdicts are about, such as "on the bundled models"; empty if no claim is judged.
    pub about: &'static str,
}

/// One of the two runs.
struct ComparedRun {
    provenance: Provenance,
    study: StudyRecord,
    evidence: Evidence,
}

impl ComparedRun {
    fn read(path: &Path) -> Result<Self> {
        let study = StudyRecord::read(path)?;
        let evidence = Evidence::of_study(path, &study)?;
        Ok(Self { provenance: Provenance::read(path)?, study, evidence })
    }

    fn universal(&self, threshold: f64) -> BTreeSet<(usize, usize)> {
        let excess = self.study.table.column(Column::ExcessCorr).iter();
        let above = self.study.table.ids.iter().zip(excess).filter(|(_, e)| **e > threshold);
        above.map(|(id, _)| (id.layer, id.neuron)).collect()
    }

    /// Returns the verdicts of the claims that can be judged on the run, if there are any.
    fn ledger(&self, claims: &[Claim]) -> Result<Option<Ledger>> {
        let found = Evidences::of_run(self.evidence.clone(), &self.study.summary.reference)?;
        found.map(|(evidences, tier)| Ledger::judge(claims, Some(tier), &evidences)).transpose()
    }
}

/// Compares two run folders.
///
/// # Errors
/// Returns an error if a folder is not that of a study, or the reference models have different
/// layouts.
pub fn compare(first: &Path, second: &Path, claims: &[Claim]) -> Result<Comparison> {
    let (a, b) = (ComparedRun::read(first)?, ComparedRun::read(second)?);
    if a.study.layout != b.study.layout {
        let problem = format!(
            "{} neurons, the other run has {}",
            b.study.summary.neurons, a.study.summary.neurons
        );
        let remedy = "compare runs with the same reference model";
        return Err(Error::new(Kind::Evidence, second.display(), problem, remedy));
    }
    let (own, other) = (a.provenance.reference(), b.provenance.reference());
    if own.map(ModelDigests::content_sha256) != other.map(ModelDigests::content_sha256) {
        let [own, other] = [&a, &b].map(|run| &run.study.summary.reference);
        let problem = format!(
            "its reference model `{other}` has other weights than `{own}` of {}",
            first.display()
        );
        let remedy = "compare runs with the same reference model";
        return Err(Error::new(Kind::Evidence, second.display(), problem, remedy));
    }
    let threshold = a.study.summary.shares[0].threshold;
    let (was, is) = (a.universal(threshold), b.universal(threshold));
    let name = |&(layer, neuron): &(usize, usize)| NeuronId { layer, neuron }.to_string();
    let shares = a.study.summary.shares.iter().filter_map(|s| {
        let other = b.study.summary.shares.iter().find(|o| o.threshold == s.threshold)?;
        Some((s.threshold, s.percent, other.percent))
    });
    let ledgers = a.ledger(claims)?.zip(b.ledger(claims)?);
    let about = ledgers.as_ref().and_then(|(_, b)| b.entries.first()).map_or("", |e| e.about);
    let (verdicts, judged) = ledgers.map_or((Vec::new(), 0), |(a, b)| changed(&a, &b));
    Ok(Comparison {
        settings: differences(&a.provenance, &b.provenance),
        shares: shares.collect(),
        entered: is.difference(&was).map(name).collect(),
        left: was.difference(&is).map(name).collect(),
        largest: Column::ALL.iter().filter_map(|c| largest(*c, &a, &b)).collect(),
        verdicts,
        judged,
        about,
    })
}

/// Keys of a spec that change no number.
const LABELS: [&str; 3] = ["name", "question", "source"];

/// Returns what differs between the specs and the text of two runs.
fn differences(a: &Provenance, b: &Provenance) -> Vec<(String, String, String)> {
    let facts = |run: &Provenance| {
        let mut facts = BTreeMap::new();
        flatten("", &serde_json::json!(run.spec), &mut facts);
        facts.retain(|key, _| !LABELS.contains(&key.as_str()));
        facts.insert("text, SHA-256".to_owned(), run.corpus_sha256.clone());
        for model in &run.models {
            let recorded = model.activations_sha256.is_some();
            let what = if recorded { "activations" } else { "weights" };
            let digest = model.content_sha256().to_owned();
            facts.insert(format!("{what} of {}, SHA-256", model.name), digest);
        }
        facts
    };
    let (a, b) = (facts(a), facts(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |facts: &BTreeMap<String, String>, name: &str| {
        facts.get(name).map_or("absent".to_owned(), Clone::clone)
    };
    let pairs = names.into_iter().map(|name| (name.clone(), value(&a, name), value(&b, name)));
    pairs.filter(|(_, a, b)| a != b).collect()
}

/// Adds the values of a JSON document under their key paths.
fn flatten(path: &str, value: &serde_json::Value, facts: &mut BTreeMap<String, String>) {
    let within = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| flatten(&within(key), value, facts));
        }
        serde_json::Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(i, item)| flatten(&within(&i.to_string()), item, facts));
        }
        value => {
            facts.insert(path.to_owned(), value.to_string());
        }
    }
}

fn changed(a: &Ledger, b: &Ledger) -> (Vec<(String, String, String)>, usize) {
    let pairs = || a.entries.iter().zip(&b.entries);
    let differ = pairs().filter(|(a, b)| a.verdict != b.verdict);
    let verdicts =
        differ.map(|(a, b)| (a.id.clone(), a.verdict.to_string(), b.verdict.to_string()));
    let judged = pairs().filter(|(a, b)| a.was_run() && b.was_run());
    (verdicts.collect(), judged.count())
}

/// Returns the largest change of a column, if any value changed.
fn largest(
    column: Column,
    a: &ComparedRun,
    b: &ComparedRun,
) -> Option<(&'static str, String, f64, f64)> {
    let values = a.study.table.column(column).iter().zip(b.study.table.column(column));
    let moved = values.zip(&a.study.table.ids).map(|((a, b), id)| (*a, *b, id));
    let (a, b, id) = moved
        .filter(|(a, b, _)| a != b && !(a.is_nan() && b.is_nan()))
        .max_by(|x, y| (x.0 - x.1).abs().total_cmp(&(y.0 - y.1).abs()))?;
    Some((column.name(), id.to_string(), a, b))
}

impl Comparison {
    /// Returns whether the verdict of any claim changed.
    pub fn verdict_changed(&self) -> bool {
        !self.verdicts.is_empty()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, a, b) in &self.settings {
            writeln!(f, "differs: {key}: {} -> {}", printable::line(a), printable::line(b))?;
        }
        for (threshold, a, b) in &self.shares {
            writeln!(f, "universal above {threshold}: {a:.2} % -> {b:.2} %")?;
        }
        for (what, neurons) in [("entered", &self.entered), ("left", &self.left)] {
            writeln!(f, "{what} the universal set: {}", named(neurons))?;
        }
        if self.largest.is_empty() {
            writeln!(f, "no value of the table moved")?;
        } else {
            writeln!(f, "largest change of each column that moved")?;
        }
        for (column, neuron, a, b) in &self.largest {
            writeln!(f, "  {column:<14} {neuron:<9} {a:.6} -> {b:.6}")?;
        }
        match (self.judged, self.verdicts.len()) {
            (0, 0) => writeln!(f, "no claim can be judged on models of this shape"),
            (judged, 0) => {
                writeln!(f, "{judged} claims judged on both, {}: no verdict changed", self.about)
            }
            (_, changed) => {
                writeln!(f, "{changed} verdicts changed, {}", self.about)?;
                self.verdicts.iter().try_for_each(|(id, a, b)| writeln!(f, "  {id}: {a} -> {b}"))
            }
        }
    }
}

fn named(neurons: &[String]) -> String {
    let mut text = format!("{} neurons", neurons.len());
    if !neurons.is_empty() {
        let shown = neurons.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
        let more = if neurons.len() > NAMED { " …" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, ": {shown}{more}");
    }
    text
}
