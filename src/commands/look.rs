//! `inspect`, `activations`, `report` and `compare`: commands that show finished runs.

use std::path::{Path, PathBuf};

use universal_neurons::cards::{self, CardRequest, GivenText};
use universal_neurons::claims::registry;
use universal_neurons::cli::{Colours, DEFAULT_RUN, DEFAULT_SPEC, TextOptions};
use universal_neurons::correlation::Layout;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::experiment::load_spec;
use universal_neurons::output::{Piece, show, show_pieces, takes_colours};
use universal_neurons::plan::Plan;
use universal_neurons::progress::Progress;
use universal_neurons::record::{Card, Provenance, RunFolder, StudyRecord};
use universal_neurons::report;
use universal_neurons::report::files::PAGE;
use universal_neurons::run::{Control, Session};
use universal_neurons::spec::Spec;
use universal_neurons::store::{folder_of, replace_in_run, write_whole};
use universal_neurons::table::NeuronId;

use super::{CLAIM_FAILS, show_json, stop_on_interrupt};

pub fn inspect(
    neuron: NeuronId,
    run: &Path,
    (spec, model): (Option<&Path>, Option<&str>),
    json: bool,
    text: &TextOptions,
) -> Result<()> {
    let given = match (&text.text, &text.file) {
        (Some(words), _) => Some(GivenText::Words(words)),
        (None, Some(file)) if file.as_os_str() == "-" => Some(GivenText::Stdin),
        (None, Some(file)) => Some(GivenText::File(file)),
        (None, None) => None,
    };
    if let Some(given) = given {
        return inspect_text(neuron, (run, spec, model), json, (given, text));
    }
    if !text.without.is_empty() {
        let problem = "is about the prediction of a text, and none is given";
        return Err(Error::new(Kind::Spec, "--without", problem, "add --text or --file"));
    }
    let study = StudyRecord::read(run)?;
    if let Some(model) = model.filter(|model| *model != study.summary.reference) {
        let card = look_at(neuron, (run, spec), Some(model))?;
        return if json {
            show_json(&report::card::partner_json(&study, model, neuron, &card))
        } else {
            show(&report::card::partner_text(&study, model, neuron, &card))
        };
    }
    let row = study.row(neuron).ok_or_else(|| report::card::missing(study.layout, neuron))?;
    let card = match study.card(neuron) {
        Some(card) => card.clone(),
        None => look_at(neuron, (run, spec), None)?,
    };
    if json {
        return show_json(&report::card::json(&study, row, &card));
    }
    show(&report::card::text(&study, row, &card))
}

/// Shows the activations of a neuron on a text, and what it does elsewhere if the run has its card.
fn inspect_text(
    neuron: NeuronId,
    (run, spec, model): (&Path, Option<&Path>, Option<&str>),
    json: bool,
    (given, options): (GivenText, &TextOptions),
) -> Result<()> {
    // A run is needed only if no spec is named.
    let provenance = match spec {
        Some(_) => Provenance::read(run).ok(),
        None if run == Path::new(DEFAULT_RUN) && !run.exists() => None,
        None => Some(Provenance::read(run)?),
    };
    let recorded = provenance.as_ref().map(|provenance| provenance.spec_path.as_path());
    let mut spec = load_spec(spec.or(recorded).unwrap_or(Path::new(DEFAULT_SPEC)))?.spec;
    model.map_or(Ok(()), |model| refer_to(model, &mut spec))?;
    let progress = Progress::Quiet;
    let (reading, model) = cards::read_text(&spec, neuron, &options.without, given, &progress)?;
    if json {
        return show_json(&reading);
    }
    let mut pieces = report::text_reading::pieces(&reading);
    // What the neuron does elsewhere is known only of a run on the same weights.
    let same = provenance.as_ref().and_then(Provenance::reference);
    if same.is_some_and(|of| of.content_sha256() == model.weights_digest) {
        let study = StudyRecord::read(run)?;
        if let Some(card) = study.card(neuron) {
            let text = format!("\nelsewhere ({})\n  {}\n", run.display(), card.sentence());
            pieces.push(Piece::plain(text));
        }
    }
    let coloured = match options.color {
        Colours::Auto => takes_colours(),
        Colours::Always => true,
        Colours::Never => false,
    };
    show_pieces(&pieces, coloured)
}

/// Makes a model of the family the reference of a spec.
fn refer_to(model: &str, spec: &mut Spec) -> Result<()> {
    let names: Vec<&str> = spec.models.family.iter().map(|m| m.name.as_str()).collect();
    if !names.contains(&model) {
        let problem = format!("`{model}` is not a model of `{}`", spec.name);
        let remedy = format!("name one of {}", names.join(", "));
        return Err(Error::new(Kind::Spec, "--model", problem, remedy));
    }
    spec.models.also_reference.clear();
    model.clone_into(&mut spec.models.reference);
    Ok(())
}

/// Reads the tokens for the card of a neuron without one in the run, of the run's reference or of
/// another model. The spec is the one that the run recorded if none is given.
fn look_at(
    neuron: NeuronId,
    (run, spec): (&Path, Option<&Path>),
    model: Option<&str>,
) -> Result<Card> {
    let stop = stop_on_interrupt()?;
    let provenance = Provenance::read(run)?;
    let mut loaded = load_spec(spec.unwrap_or(&provenance.spec_path))?;
    model.map_or(Ok(()), |model| refer_to(model, &mut loaded.spec))?;
    let plan = Plan::make(loaded)?;
    provenance.check_model(model.unwrap_or(&provenance.spec.models.reference), run, &plan)?;
    let neuron = place(neuron, plan.reference().layout())?;
    if provenance.tokens_sha256 != plan.tokens_digest() {
        let problem = format!("it read other tokens than {} does", plan.spec_path.display());
        let remedy = "name the spec that the run was made with as --spec";
        return Err(Error::new(Kind::Evidence, run.display(), problem, remedy));
    }
    let mut control = Control { progress: Progress::on_stderr(), stop, ..Control::default() };
    let mut session = Session::new(&plan, &mut control);
    let wanted = CardRequest { neuron, matches: Vec::new() };
    Ok(cards::read(&mut session, &[wanted])?.cards.remove(0))
}

/// Returns the index of a neuron over all layers.
fn place(id: NeuronId, layout: Layout) -> Result<usize> {
    let there = id.layer < layout.n_layers && id.neuron < layout.d_mlp;
    there
        .then(|| id.layer * layout.d_mlp + id.neuron)
        .ok_or_else(|| report::card::missing(layout, id))
}

pub fn activations(neurons: &[NeuronId], spec: &Path, out: &Path) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(load_spec(spec)?)?;
    let layout = plan.reference().layout();
    let chosen = neurons.iter().map(|id| place(*id, layout)).collect::<Result<Vec<_>>>()?;
    let mut control = Control { progress: Progress::on_stderr(), stop, ..Control::default() };
    let bytes = cards::export(&mut Session::new(&plan, &mut control), &chosen)?;
    write_whole(out, |file| file.write_all(&bytes))?;
    show(&format!("activations in {}\n", out.display()))
}

/// Writes the report of a run again, with experiments of other kinds on the same page.
/// If `paper` is true, lists the paper's figures.
pub fn make_report(
    run: &Path,
    (with, paper): (&[PathBuf], bool),
    out: Option<PathBuf>,
) -> Result<()> {
    let folder = RunFolder::read(run)?;
    let with = with.iter().map(|path| RunFolder::read(path)).collect::<Result<Vec<_>>>()?;
    let report = report::page::report(&folder, &with, &registry()?, paper)?;
    let page = run.join(PAGE);
    let out = out.unwrap_or_else(|| page.clone());
    if same_place(&out, &page) {
        replace_in_run(run, PAGE, report.html.as_bytes())?;
    } else {
        write_whole(&out, |file| file.write_all(report.html.as_bytes()))?;
    }
    show(&format!("report in {}\n", out.display()))
}

/// Returns whether two paths name the same file, even if the file does not exist.
fn same_place(a: &Path, b: &Path) -> bool {
    let place =
        |path: &Path| Some((folder_of(path).canonicalize().ok()?, path.file_name()?.to_owned()));
    place(a).is_some_and(|a| place(b).is_some_and(|b| a == b))
}

pub fn compare(first: &Path, second: &Path, json: bool) -> Result<u8> {
    let found = report::comparison::compare(first, second, &registry()?)?;
    if json {
        show_json(&found)?;
    } else {
        show(&found.to_string())?;
    }
    Ok(if found.verdict_changed() { CLAIM_FAILS } else { 0 })
}
