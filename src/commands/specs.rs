//! `validate` and `new`.

use std::path::{Path, PathBuf};

use universal_neurons::cards;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::experiment::{self, load_spec, new};
use universal_neurons::output::{show, tell};
use universal_neurons::plan::Plan;
use universal_neurons::store::{folder_of, write_whole};

/// Checks all files before it returns an error, so that one call shows all mistakes.
pub fn validate(specs: &[PathBuf]) -> Result<()> {
    let mut errors: Vec<Error> = specs.iter().filter_map(|s| validate_one(s).err()).collect();
    let last = errors.pop();
    errors.iter().for_each(|error| tell(format_args!("error: {error}")));
    last.map_or(Ok(()), Err)
}

fn validate_one(spec: &Path) -> Result<()> {
    let plan = Plan::make(load_spec(spec)?)?;
    cards::check(&plan)?;
    experiment::check_files(&plan)?;
    let models: Vec<&str> = plan.models.iter().map(|m| m.name.as_str()).collect();
    let (tokens, rows) = (plan.tokens.count().used, plan.tokens.rows.len());
    let skipped = match plan.documents.empty {
        0 => String::new(),
        n => format!(", {n} without text skipped"),
    };
    let found = format!(
        "models {}, {} documents{skipped}, {tokens} tokens in {rows} rows",
        models.join(", "),
        plan.documents.documents
    );
    show(&format!("{}: valid; {found}\n", spec.display()))
}

/// Writes an experiment file to start from; refuses to replace a file.
pub fn new_spec(kind: &str, file: Option<PathBuf>) -> Result<()> {
    let file = file.unwrap_or_else(|| format!("experiments/my-{kind}.yaml").into());
    let kind = experiment::kind(kind).ok_or_else(|| {
        let remedy = "`new --help` lists the kinds";
        Error::new(Kind::Spec, kind, "is not a kind of experiment", remedy)
    })?;
    if file.exists() {
        let problem = "already exists";
        return Err(Error::new(Kind::Spec, file.display(), problem, "name another file"));
    }
    let base = Path::new(new::BASE);
    let whole = base.canonicalize().map_err(|e| {
        Error::io(Kind::Spec, base, "find the experiment that new ones inherit from", &e)
    })?;
    let folder = folder_of(&file).canonicalize().ok();
    let beside = folder.as_deref() == whole.parent();
    let base = if beside { whole.file_name().map_or(base, Path::new) } else { &whole };
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let text = new::template(kind, &stem, base);
    write_whole(&file, |out| out.write_all(text.as_bytes()))?;
    let file = file.display();
    show(&format!("{file}: change it, then `validate {file}` and `run {file}`\n"))
}
