//! Writes the files of a run folder.

use std::path::Path;
use std::process::Command;

use crate::claims::registry;
use crate::correlation::{CHUNK, Layout};
use crate::error::Result;
use crate::findings::{Figures, Findings, Outcome};
use crate::plan::{Plan, PlannedModel};
use crate::record::{
    CardFile, FigureFile, ModelDigests, Provenance, RunFolder, neurons, write_correlations,
    write_extra, write_partners,
};
use crate::report::page::{Report, report};
use crate::store::{MARK, RunDirectory, WrittenRun, folder_of};

/// Name of the page of a run.
pub const PAGE: &str = "report.html";

/// Writes all files of a study. The folder appears complete or not at all, except for the page, which
/// may fail. The names of the files about a model of `also_reference` end with the model's name.
///
/// # Errors
/// Returns an error if the folder cannot be written.
pub fn write(
    plan: &Plan,
    outcome: &Outcome,
    cards: &CardFile,
    directory: RunDirectory,
) -> Result<WrittenRun> {
    let all = outcome.all().zip(&plan.judged);
    for (i, (findings, &judged)) in all.enumerate() {
        let name = &findings.summary.reference;
        let suffix = if i == 0 { String::new() } else { format!("-{name}") };
        let partners = plan.partners(judged).map(|p| plan.models[p].layout());
        write_one(findings, &partners.collect::<Vec<_>>(), &suffix, &directory)?;
    }
    directory.write_json(CardFile::FILE, cards)?;
    finish(directory, &provenance(plan, &outcome.device))
}

/// Makes the page of a run and moves the run to its place. The run is kept even if the page cannot be
/// made.
fn finish(directory: RunDirectory, provenance: &Provenance) -> Result<WrittenRun> {
    directory.write_json(MARK, provenance)?;
    let page = write_report(&directory);
    let written = directory.commit(provenance)?;
    Ok(WrittenRun { failed: written.failed.or(page.err()), ..written })
}

/// Writes `report.html` and its figures from the other files of the run, which must exist.
fn write_report(directory: &RunDirectory) -> Result<()> {
    let Report { html, charts } =
        report(&RunFolder::read(&directory.path())?, &[], &registry()?, false)?;
    for chart in charts {
        let name = format!("figures/{}", chart.name);
        directory.write(&format!("{name}.svg"), |out| out.write_all(chart.svg.as_bytes()))?;
        directory.write(&format!("{name}.csv"), |out| out.write_all(&chart.data.to_csv()))?;
    }
    directory.write(PAGE, |out| out.write_all(html.as_bytes()))
}

/// Writes all files of an experiment other than a universality study. `universal` is the SHA-256 of
/// the table that universal neurons were taken from.
///
/// # Errors
/// Returns an error if the folder cannot be written.
pub fn write_figures(
    plan: &Plan,
    figures: &Figures,
    universal: Option<String>,
    directory: RunDirectory,
) -> Result<WrittenRun> {
    directory.write_json(FigureFile::FILE, &figures.file(&plan.spec.name))?;
    for (name, table) in &figures.tables {
        directory.write(&format!("{name}.csv"), |out| out.write_all(&table.to_csv()))?;
    }
    let provenance = provenance(plan, &figures.device);
    let provenance = Provenance { universal_sha256: universal, ..provenance };
    finish(directory, &provenance)
}

/// Writes the files about one reference model.
fn write_one(
    findings: &Findings,
    partners: &[Layout],
    suffix: &str,
    directory: &RunDirectory,
) -> Result<()> {
    let Findings { table, extra, summary, partners: correlations, .. } = findings;
    directory.write(&format!("neurons{suffix}.csv"), |out| table.write_csv(out))?;
    directory
        .write(&format!("neurons{suffix}.parquet"), |out| neurons::write_parquet(table, out))?;
    directory.write(&format!("correlations{suffix}.safetensors"), |out| {
        write_correlations(correlations, partners, extra, out)
    })?;
    directory.write(&format!("neurons-extra{suffix}.csv"), |out| {
        write_extra(&table.ids, &summary.partners, extra, out)
    })?;
    directory.write_json(&format!("summary{suffix}.json"), summary)?;
    directory.write_json(&format!("correlations{suffix}.json"), correlations)?;
    if correlations.iter().any(|p| p.top.iter().any(|top| top.len() > 1)) {
        directory.write(&format!("partners{suffix}.csv"), |out| {
            write_partners(&table.ids, correlations, out)
        })?;
    }
    Ok(())
}

/// Returns the provenance of a run.
fn provenance(plan: &Plan, device: &str) -> Provenance {
    let model = |m: &PlannedModel| {
        let (weights, recorded) = match m.recording() {
            None => (m.weights_digest.clone(), None),
            Some(_) => (String::new(), Some(m.weights_digest.clone())),
        };
        ModelDigests {
            name: m.name.clone(),
            folder: m.folder.clone(),
            weights_sha256: weights,
            config_sha256: m.config_digest.clone(),
            activations_sha256: recorded,
            tokenizer_sha256: m.tokenizer_digest.clone(),
            non_finite: m.non_finite.found().to_vec(),
        }
    };
    Provenance {
        program: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit_of(&plan.spec_path),
        spec: plan.spec.clone(),
        spec_path: plan.spec_path.clone(),
        spec_sha256: plan.spec_digest.clone(),
        models: plan.models.iter().map(model).collect(),
        corpus_sha256: plan.corpus_digest.clone(),
        tokens_sha256: plan.tokens_digest(),
        universal_sha256: None,
        files_sha256: plan.files.digests(),
        tokens_per_chunk: CHUNK,
        device: device.to_owned(),
        threads: rayon::current_num_threads(),
    }
}

/// Returns the commit of the repository that contains a file.
fn commit_of(spec: &Path) -> Option<String> {
    let folder = folder_of(spec);
    let output =
        Command::new("git").arg("-C").arg(folder).args(["rev-parse", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_string())
}
