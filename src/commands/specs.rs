//! `validate` and `new`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use universal_neurons::cards;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::experiment::{self, load_spec, new};
use universal_neurons::output::{show, tell};
use universal_neurons::plan::Plan;
use universal_neurons::store::{folder_of, write_whole};

use super::show_json;

/// Checks all files before it returns an error, so that one call shows all mistakes.
pub fn validate(specs: &[PathBuf], json: bool) -> Result<()> {
    let (mut objects, mut errors) = (Vec::new(), Vec::new());
    for spec in specs {
        let found = validate_one(spec);
        match &found {
            _ if json => objects.push(as_json(spec, &found)),
            Ok(plan) => show(&as_line(spec, plan))?,
            Err(_) => {}
        }
        errors.extend(found.err());
    }
    if json {
        show_json(&objects)?;
    }
    let last = errors.pop();
    errors.iter().for_each(|error| tell(format_args!("error: {error}")));
    last.map_or(Ok(()), Err)
}

fn validate_one(spec: &Path) -> Result<Plan> {
    let plan = Plan::make(load_spec(spec)?)?;
    cards::check(&plan)?;
    experiment::check_files(&plan)?;
    Ok(plan)
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.models.iter().map(|model| model.name.as_str()).collect()
}

fn as_line(spec: &Path, plan: &Plan) -> String {
    let (tokens, rows) = (plan.tokens.count().used, plan.tokens.rows.len());
    let skipped = match plan.documents.empty {
        0 => String::new(),
        n => format!(", {n} without text skipped"),
    };
    format!(
        "{}: valid; models {}, {} documents{skipped}, {tokens} tokens in {rows} rows\n",
        spec.display(),
        names(plan).join(", "),
        plan.documents.documents
    )
}

fn as_json(spec: &Path, found: &Result<Plan>) -> Value {
    let spec = spec.to_string_lossy();
    match found {
        Ok(plan) => json!({
            "spec": spec,
            "valid": true,
            "models": names(plan),
            "documents": plan.documents.documents,
            "without_text": plan.documents.empty,
            "tokens": plan.tokens.count().used,
            "rows": plan.tokens.rows.len(),
        }),
        Err(Error { subject, problem, remedy, .. }) => json!({
            "spec": spec,
            "valid": false,
            "error": { "subject": subject, "problem": problem, "remedy": remedy },
        }),
    }
}

/// Writes an experiment file to start from; refuses to replace a file.
pub fn new_spec(kind: &str, file: Option<PathBuf>) -> Result<()> {
    let place = if Path::new("experiments").is_dir() { "experiments/" } else { "" };
    let file = file.unwrap_or_else(|| format!("{place}my-{kind}.yaml").into());
    let kind = experiment::kind(kind).ok_or_else(|| {
        let remedy = "`new --help` lists the kinds";
        Error::new(Kind::Spec, kind, "is not a kind of experiment", remedy)
    })?;
    if file.exists() {
        let problem = "already exists";
        return Err(Error::new(Kind::Spec, file.display(), problem, "name another file"));
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let text = new::template(kind, &stem, &base_of(folder_of(&file))?);
    write_whole(&file, |out| out.write_all(text.as_bytes()))?;
    let (file, program) = (file.display(), env!("CARGO_PKG_NAME"));
    show(&format!(
        "{file}: change it, then `{program} validate {file}` and `{program} run {file}`\n"
    ))
}

/// Returns the path, relative to a folder, of the experiment that new files in it inherit from.
fn base_of(folder: &Path) -> Result<PathBuf> {
    let whole = |path: &Path| {
        path.canonicalize().map_err(|e| Error::io(Kind::Spec, path, "find the folder", &e))
    };
    let folder = whole(folder)?;
    let base = new::find_base(&folder).ok_or_else(|| {
        let problem =
            "is in no checkout of the repository, which has the experiment to inherit from";
        Error::new(Kind::Spec, folder.display(), problem, "run this command in a checkout")
    })?;
    // The file itself may be a link; its name and the paths in it belong to this folder.
    let base = whole(folder_of(&base))?.join(base.file_name().unwrap_or_default());
    Ok(new::relative(&base, &folder))
}
