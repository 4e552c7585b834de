//! `export`: the tables of a run as the authors published theirs.

use std::path::{Path, PathBuf};

use serde_json::json;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::output::show;
use universal_neurons::record::{
    RunFolder, RunResults, TextTable, population_table, prediction_table, universal_table,
};
use universal_neurons::store::{folder_of, write_whole};

use super::show_json;

/// Writes the tables into a new folder. Everything is read before the folder is made, and a folder
/// that cannot be filled is removed.
pub fn export(run: &Path, prediction: Option<&Path>, out: &Path, json: bool) -> Result<()> {
    let study = RunFolder::read(run)?;
    let RunResults::Study(found) = &study.results else {
        return Err(of_kind(run, "universality"));
    };
    let mut tables = vec![
        ("universal.csv", universal_table(&found.table, &found.universal())),
        ("neuron_dfs.csv", population_table(&found.table)),
    ];
    if let Some(folder) = prediction {
        tables.push(("prediction_neurons.csv", prediction_neurons(&study, folder)?));
    }
    write_tables(&tables, out)?;
    let files = tables.iter().map(|(name, table)| (out.join(name), table.rows.len()));
    if json {
        let file = |(file, rows): (PathBuf, usize)| json!({ "file": file, "rows": rows });
        return show_json(&files.map(file).collect::<Vec<_>>());
    }
    let lines = files.map(|(file, rows)| format!("{rows:>7} rows in {}\n", file.display()));
    show(&lines.collect::<String>())
}

/// Returns the prediction neurons of a run, which must be about the study's reference model.
fn prediction_neurons(study: &RunFolder, folder: &Path) -> Result<TextTable> {
    let run = RunFolder::read(folder)?;
    let weights = |run: &RunFolder| {
        let model = run.provenance.reference();
        model.map(|model| (model.weights_sha256.clone(), model.config_sha256.clone()))
    };
    if weights(study).is_none() || weights(study) != weights(&run) {
        let problem = format!(
            "its reference model has other weights or another config than that of {}",
            study.path.display()
        );
        let remedy = "name a run with the same reference model as --prediction";
        return Err(Error::new(Kind::Evidence, folder.display(), problem, remedy));
    }
    let RunResults::Figures(found) = &run.results else {
        return Err(of_kind(folder, "prediction"));
    };
    let classes = found.tables.get("prediction-classes");
    let table = found.tables.get("prediction").and_then(|table| prediction_table(table, classes));
    table.ok_or_else(|| of_kind(folder, "prediction"))
}

fn of_kind(folder: &Path, kind: &str) -> Error {
    let problem = format!("is not a run of `kind: {kind}`");
    Error::new(Kind::Evidence, folder.display(), problem, "name the folder of such a run")
}

fn write_tables(tables: &[(&str, TextTable)], out: &Path) -> Result<()> {
    let parent = folder_of(out);
    std::fs::create_dir_all(parent).and_then(|()| std::fs::create_dir(out)).map_err(|e| match e
        .kind()
    {
        std::io::ErrorKind::AlreadyExists => {
            let problem = "already exists; nothing is replaced";
            Error::new(Kind::Store, out.display(), problem, "name another folder as --out")
        }
        _ => Error::io(Kind::Store, out, "create the folder", &e),
    })?;
    let write = |(name, table): &(&str, TextTable)| {
        let bytes = table.to_csv();
        write_whole(&out.join(name), |file| file.write_all(&bytes))
    };
    tables.iter().try_for_each(write).inspect_err(|_| {
        // The error that is returned says why.
        let _ = std::fs::remove_dir_all(out);
    })
}
