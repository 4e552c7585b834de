//! The files of a run directory.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::backend::kernel::cpu;
use crate::cards::CardFile;
use crate::claims::registry;
use crate::correlation::{CHUNK, Layout};
use crate::error::Result;
use crate::findings::{Extra, FigureFile, Figures, Findings, Outcome, Partner};
use crate::plan::Plan;
use crate::report::folder::Folder;
use crate::report::interop::{write_correlations, write_parquet};
use crate::report::page::{Report, report};
use crate::spec::Spec;
use crate::store::{MARK, RunDirectory, WrittenRun, folder_of};
use crate::table::{NeuronId, cell};

/// The page of a run.
pub const PAGE: &str = "report.html";

/// Writes all files of a run to `target`, which appears whole or not at all, but
/// for its page, which may fail. The files of a model that is judged beside the reference have its name in theirs.
///
/// # Errors
/// If the folder cannot be written.
pub fn write(
    plan: &Plan,
    outcome: &Outcome,
    cards: &CardFile,
    directory: RunDirectory,
) -> Result<WrittenRun> {
    let all = std::iter::once(&outcome.reference).chain(&outcome.also).zip(&plan.judged);
    for (i, (findings, &judged)) in all.enumerate() {
        let name = &findings.summary.reference;
        let suffix = if i == 0 { String::new() } else { format!("-{name}") };
        let partners = plan.partners(judged).map(|p| plan.models[p].layout());
        write_one(findings, &partners.collect::<Vec<_>>(), &suffix, &directory)?;
    }
    directory.write_json("cards.json", cards)?;
    finish(directory, &Provenance::of(plan, &outcome.device))
}

/// Makes the page of a run and puts the run in its place. A page that cannot be made costs
/// no table.
fn finish(directory: RunDirectory, provenance: &Provenance) -> Result<WrittenRun> {
    directory.write_json(MARK, provenance)?;
    let page = write_report(&directory);
    let written = directory.commit(provenance)?;
    Ok(WrittenRun { failed: written.failed.or(page.err()), ..written })
}

/// Writes `report.html` and its figures from the other files, which are all there.
fn write_report(directory: &RunDirectory) -> Result<()> {
    let Report { html, charts } = report(&Folder::read(&directory.path())?, &[], &registry()?)?;
    for chart in charts {
        let name = format!("figures/{}", chart.name);
        directory.write(&format!("{name}.svg"), |out| out.write_all(chart.svg.as_bytes()))?;
        directory.write(&format!("{name}.csv"), |out| out.write_all(&chart.data.to_csv()))?;
    }
    directory.write(PAGE, |out| out.write_all(html.as_bytes()))
}

/// Writes what an experiment of another kind than universality found. `universal` is
/// the SHA-256 of the table that universal neurons were taken from.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_figures(
    plan: &Plan,
    figures: &Figures,
    universal: Option<String>,
    directory: RunDirectory,
) -> Result<WrittenRun> {
    directory.write_json("figures.json", &FigureFile::of(&plan.spec.name, figures))?;
    for (name, table) in &figures.tables {
        directory.write(&format!("{name}.csv"), |out| out.write_all(&table.to_csv()))?;
    }
    let device = cpu(plan.spec.correlation.precision);
    let provenance = Provenance { universal_sha256: universal, ..Provenance::of(plan, &device) };
    finish(directory, &provenance)
}

fn write_one(
    findings: &Findings,
    partners: &[Layout],
    suffix: &str,
    directory: &RunDirectory,
) -> Result<()> {
    let table = &findings.table;
    directory.write(&format!("neurons{suffix}.csv"), |out| table.write_csv(out))?;
    directory.write(&format!("neurons{suffix}.parquet"), |out| write_parquet(table, out))?;
    directory.write(&format!("correlations{suffix}.safetensors"), |out| {
        write_correlations(findings, partners, out)
    })?;
    directory.write(&format!("neurons-extra{suffix}.csv"), |out| write_extra(findings, out))?;
    directory.write_json(&format!("summary{suffix}.json"), &findings.summary)?;
    directory.write_json(&format!("correlations{suffix}.json"), &findings.partners)?;
    if findings.partners.iter().any(|p| p.top.iter().any(|top| top.len() > 1)) {
        directory.write(&format!("partners{suffix}.csv"), |out| write_partners(findings, out))?;
    }
    Ok(())
}

/// A row for each neuron, partner model and rank.
fn write_partners(findings: &Findings, out: &mut dyn Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["neuron", "model", "rank", "partner", "corr"])?;
    for (i, id) in findings.table.ids.iter().enumerate() {
        for Partner { partner, top, .. } in &findings.partners {
            for (rank, (other, rho)) in top[i].iter().enumerate() {
                let (rank, rho) = ((rank + 1).to_string(), rho.to_string());
                csv.write_record([&id.to_string(), partner, &rank, &other.to_string(), &rho])?;
            }
        }
    }
    csv.flush()
}

fn write_extra(findings: &Findings, out: &mut dyn Write) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let fixed = [
        "layer",
        "neuron",
        "baseline_sd",
        "published_sparsity",
        "note_sparsity",
        "dead",
        "non_finite",
    ];
    let per_partner = findings
        .summary
        .partners
        .iter()
        .flat_map(|name| ["best", "corr", "baseline"].map(|what| format!("{what}_{name}")));
    csv.write_record(fixed.map(String::from).into_iter().chain(per_partner))?;
    for (id, extra) in findings.table.ids.iter().zip(&findings.extra) {
        csv.write_record(extra_record(*id, extra))?;
    }
    csv.flush()
}

fn extra_record(id: NeuronId, extra: &Extra) -> Vec<String> {
    let mut record = vec![
        id.layer.to_string(),
        id.neuron.to_string(),
        cell(extra.baseline_sd),
        cell(extra.published_sparsity),
        cell(extra.note_sparsity),
        extra.dead.to_string(),
        extra.non_finite.to_string(),
    ];
    record.extend(extra.matches.iter().flat_map(|m| match m {
        Some(m) => [m.id.to_string(), cell(m.rho), cell(m.baseline)],
        None => [""; 3].map(String::from),
    }));
    record
}

/// `provenance.json`: what the numbers depend on.
#[derive(Debug, Serialize)]
struct Provenance<'a> {
    program: &'static str,
    version: &'static str,
    /// Commit of the repository that the spec lies in, if it lies in one.
    commit: Option<String>,
    spec: &'a Spec,
    spec_path: &'a Path,
    spec_sha256: &'a str,
    models: Vec<ModelProvenance<'a>>,
    corpus_sha256: &'a str,
    tokens_sha256: String,
    /// SHA-256 of the table that universal neurons were taken from, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    universal_sha256: Option<String>,
    tokens_per_chunk: usize,
    device: &'a str,
    threads: usize,
}

#[derive(Debug, Serialize)]
struct ModelProvenance<'a> {
    name: &'a str,
    folder: &'a Path,
    weights_sha256: &'a str,
    config_sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer_sha256: Option<&'a str>,
}

impl<'a> Provenance<'a> {
    fn of(plan: &'a Plan, device: &'a str) -> Self {
        let model = |m: &'a crate::plan::PlannedModel| ModelProvenance {
            name: &m.name,
            folder: &m.folder,
            weights_sha256: &m.weights_digest,
            config_sha256: &m.config_digest,
            tokenizer_sha256: m.tokenizer_digest.as_deref(),
        };
        Self {
            program: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit_of(&plan.spec_path),
            spec: &plan.spec,
            spec_path: &plan.spec_path,
            spec_sha256: &plan.spec_digest,
            models: plan.models.iter().map(model).collect(),
            corpus_sha256: &plan.corpus_digest,
            tokens_sha256: plan.tokens_digest(),
            universal_sha256: None,
            tokens_per_chunk: CHUNK,
            device,
            threads: rayon::current_num_threads(),
        }
    }
}

fn commit_of(spec: &Path) -> Option<String> {
    let folder = folder_of(spec);
    let output =
        Command::new("git").arg("-C").arg(folder).args(["rev-parse", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_string())
}
