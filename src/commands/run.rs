//! `run FILE`: runs an experiment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::json;
use universal_neurons::cli::RunOptions;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::estimate::{Estimate, calibrate};
use universal_neurons::experiment::{self, STUDY, load_spec};
use universal_neurons::findings::Universal;
use universal_neurons::output::{kept_in, show};
use universal_neurons::plan::{Plan, Workload};
use universal_neurons::record::{ExtraRow, Provenance, neurons, read_extra};
use universal_neurons::run::{Control, ModelMatches, Session};
use universal_neurons::spec::load::Loaded;
use universal_neurons::store::{RunDirectory, digest_file, folder_of};
use universal_neurons::table::NeuronId;
use universal_neurons::{cards, report, run};

use super::publish::{publish, save};
use super::shares::{checkpoint_of, default_out};
use super::{progress, show_folder, show_json, stop_on_interrupt};

/// Runs an experiment or one share of it, or shows what it would cost.
pub fn run_file(spec: &Path, options: &RunOptions) -> Result<()> {
    if options.dry_run {
        return dry_run(spec, options);
    }
    let stop = stop_on_interrupt()?;
    let plan = planned(load_spec(spec)?)?;
    let out = options.out.clone().unwrap_or_else(|| default_out(&plan));
    run_plan(&plan, options, &out, stop)
}

/// Resolves a spec, with the files that its settings name.
pub fn planned(loaded: Loaded) -> Result<Plan> {
    let plan = Plan::make(loaded)?;
    // Before a folder is made, and before a cost is shown for what could not run.
    experiment::check_files(&plan)?;
    Ok(plan)
}

/// Shows what a run would cost.
fn dry_run(spec: &Path, options: &RunOptions) -> Result<()> {
    let loaded = load_spec(spec)?;
    let precision = loaded.spec.correlation.precision;
    let estimate = estimate(loaded, options.universal.is_some())?;
    let rate = calibrate(precision);
    if options.json { show_json(&estimate.json(rate)) } else { show(&estimate.text(rate)) }
}

/// Estimates the cost of a spec: of its plan, or if models or text are not in place, of the sizes
/// that are known of them.
pub fn estimate(loaded: Loaded, universal: bool) -> Result<Estimate> {
    let spec = &loaded.spec;
    let corpus = spec.corpus.is_absent() || spec.corpus.path.exists();
    let here = corpus && spec.models.family.iter().all(|m| m.path.exists());
    if here {
        let plan = planned(loaded)?;
        return Estimate::of(&plan.workload(), universal);
    }
    Estimate::of(&Workload::of_spec(spec, &loaded.path)?, universal)
}

/// Runs a plan into a folder.
pub fn run_plan(
    plan: &Plan,
    options: &RunOptions,
    out: &Path,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut control = Control {
        progress: progress(options.quiet),
        stop,
        device: Some(options.device.as_ref().unwrap_or(&plan.spec.device).clone()),
        resume: options.resume,
        ..Control::default()
    };
    #[cfg(feature = "mpi")]
    if options.mpi {
        return super::ranks::run_rank(plan, out, options, control);
    }
    // A share is written beside the run at the end, so its folder must exist.
    let beside = folder_of(out);
    std::fs::create_dir_all(beside)
        .map_err(|e| Error::io(Kind::Store, beside, "create the folder for runs", &e))?;
    if plan.spec.kind != STUDY {
        return run_kind(plan, options, out, &mut control);
    }
    let card = run::open_card(plan, &control)?;
    let identity = run::identity(plan, card.as_deref());
    control.checkpoints = checkpoint_of(out, options.shard, options, identity);
    control.checkpoints.as_ref().map_or(Ok(()), |c| c.refuse_existing(options.resume))?;
    if let Some(shard) = options.shard {
        let path = Session::new(plan, &mut control).on(card.as_deref()).sum_share(shard)?;
        let [share, shares] = shard.fraction();
        return if options.json {
            show_json(&json!({ "file": path, "share": share, "shares": shares }))
        } else {
            show(&format!("sums in {}\n", path.display()))
        };
    }
    // Opened first, so that a folder that cannot be written is found before the run.
    let directory = RunDirectory::begin(out)?;
    cards::check(plan)?;
    let mut session = Session::new(plan, &mut control).on(card.as_deref());
    let mut outcome = session.study()?;
    publish(&mut session, &mut outcome, directory, options.json)
}

/// What an earlier run found.
struct KnownNeurons {
    universal: Universal,
    /// Best matches in the models that the plan has too.
    matches: Vec<ModelMatches>,
    /// Whether the run is the study of the plan.
    same_study: bool,
}

/// Reads which neurons a run in `folder` found universal, and their best matches.
fn known_neurons(plan: &Plan, folder: &Path) -> Result<KnownNeurons> {
    let provenance = Provenance::read(folder)?;
    provenance.check_reference(folder, plan)?;
    let same_study = provenance.is_study_of(plan);
    let table = neurons::read(folder, plan.reference().layout())?;
    let universal = Universal::above(&table, plan.spec.correlation.threshold);
    let extra = folder.join(ExtraRow::FILE);
    if !extra.exists() {
        return Ok(KnownNeurons { universal, matches: Vec::new(), same_study });
    }
    let weights = |name: &str| {
        let model = provenance.models.iter().find(|m| m.name == name);
        model.map(|m| m.content_sha256())
    };
    let partners = plan
        .partners(plan.judged[0])
        .filter(|&i| weights(&plan.models[i].name) == Some(plan.models[i].weights_digest.as_str()));
    let names: Vec<String> = partners.clone().map(|i| plan.models[i].name.clone()).collect();
    let rows = read_extra(&extra, &names, table.ids.len())?;
    let matches = ModelMatches::of(partners, &rows);
    let fits = |m: &ModelMatches| {
        let layout = plan.models[m.model].layout();
        let is_in = |id: NeuronId| id.layer < layout.n_layers && id.neuron < layout.d_mlp;
        m.best.iter().flatten().all(|best| is_in(best.id))
    };
    if let Some(wrong) = matches.iter().find(|m| !fits(m)) {
        let model = &plan.models[wrong.model].name;
        let problem = format!("names a neuron that model `{model}` does not have");
        return Err(Error::new(Kind::Evidence, extra.display(), problem, "make the run again"));
    }
    Ok(KnownNeurons { universal, matches, same_study })
}

/// Runs an experiment of a kind other than the study of universality.
fn run_kind(plan: &Plan, options: &RunOptions, out: &Path, control: &mut Control) -> Result<()> {
    if options.shard.is_some() || options.checkpoint.is_some() || options.resume {
        let problem = "shares and checkpoints are only for `kind: universality`";
        return Err(Error::new(
            Kind::Spec,
            plan.spec_path.display(),
            problem,
            "remove these options",
        ));
    }
    let known = options.universal.as_ref().map(|folder| known_neurons(plan, folder)).transpose()?;
    let digest = |folder: &PathBuf| digest_file(Kind::Evidence, &folder.join(neurons::FILE));
    let digest = options.universal.as_ref().map(digest).transpose()?;
    let directory = RunDirectory::begin(out)?;
    let card = run::open_card(plan, control)?;
    let mut session = Session::new(plan, control).on(card.as_deref());
    if let Some(KnownNeurons { universal, matches, same_study }) = known {
        let known = session.with_universal(Some(universal)).of_same_study(same_study);
        session = known.with_matches(matches);
    }
    let figures = experiment::run_in(&mut session)?;
    let folder = save(directory, control, |directory| {
        report::files::write_figures(plan, &figures, digest.clone(), directory)
    })?;
    let shown = if options.json {
        show_json(&figures.file(&plan.spec.name))
    } else {
        show(&report::terminal::figures(&plan.spec, &figures)).and_then(|()| show_folder(&folder))
    };
    shown.map_err(|error| kept_in(&folder, error))
}
