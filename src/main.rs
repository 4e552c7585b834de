//! Parses the command line, dispatches, and turns the outcome into an exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum};
use universal_neurons::cards::Card;
use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::claims::evidence::{DATA, DeskRun, EXPERIMENTS};
use universal_neurons::claims::{Evidence, Evidences, Ledger, Tier, registry};
use universal_neurons::cli::{Cli, Command, DEFAULT_SPEC, Fetch, RunOptions, VerifyOptions};
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::estimate::Estimate;
use universal_neurons::findings::{FigureFile, Outcome, Universal};
use universal_neurons::hostbench::{self, HostBench, StudyTime};
use universal_neurons::plan::Plan;
use universal_neurons::progress::Progress;
use universal_neurons::report::folder::{Folder, Study};
use universal_neurons::run::Control;
use universal_neurons::spec::{ExperimentKind, Precision, Spec, new, schema::schema};
use universal_neurons::store::{RunDirectory, folder_of, write_whole};
use universal_neurons::table::NeuronId;
use universal_neurons::{cards, hub, model, report, run};

/// What the program is called on the command line.
const NAME: &str = "universal-neurons";
/// A claim that ran does not hold.
const CLAIM_FAILS: u8 = 1;
/// Something is slower than the floor recorded for it.
const BELOW_FLOOR: u8 = 1;
/// Seconds between the checkpoints of a resumed run.
const CHECKPOINT_SECONDS: u64 = 300;
/// What is wrong with the request or the machine, as opposed to a claim that fails.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Cli::parse().chosen() {
        Command::Run { spec, options } => run_experiment(&spec, &options).map(|()| 0),
        Command::Merge { spec, shares, out, quiet } => {
            merge(&spec, &shares, out, quiet).map(|()| 0)
        }
        Command::Validate { specs } => validate(&specs).map(|()| 0),
        Command::Verify(options) => verify(&options),
        Command::Inspect { neuron, run, spec } => inspect(neuron, &run, &spec).map(|()| 0),
        Command::Activations { neurons, spec, out } => {
            activations(&neurons, &spec, &out).map(|()| 0)
        }
        Command::Report { run, with, out } => make_report(&run, &with, out).map(|()| 0),
        Command::Compare { first, second, json } => compare(&first, &second, json),
        Command::Fetch { what: Fetch::Tables { to, base } } => fetch(&to, base).map(|()| 0),
        Command::Fetch { what: Fetch::Model { name, revision, to } } => {
            fetch_model(&name, revision.as_deref(), to).map(|()| 0)
        }
        Command::Convert { from, to } => convert(&from, &to).map(|()| 0),
        Command::BenchHost { json, study, floors } => bench_host(json, study, floors.as_deref()),
        Command::New { kind, file } => new_spec(kind, file).map(|()| 0),
        Command::Schema => show_json(&schema()).map(|()| 0),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut std::io::stdout());
            Ok(0)
        }
        Command::Man => man().map(|()| 0),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn run_experiment(spec: &Path, options: &RunOptions) -> Result<()> {
    let stop = stop_on_interrupt()?;
    use_threads(options.threads)?;
    let plan = Plan::make(Spec::load(spec)?)?;
    if options.dry_run {
        show(&Estimate::of(&plan).to_string());
        return Ok(());
    }
    let out = options.out.clone().unwrap_or_else(|| default_out(&plan));
    let mut control = Control {
        progress: progress(options.quiet),
        stop,
        device: Some(options.device.unwrap_or(plan.spec.device)),
        checkpoints: checkpoints(&plan, &out, options),
        resume: options.resume,
    };
    if plan.spec.kind != ExperimentKind::Universality {
        return run_kind(&plan, options, &out, &mut control);
    }
    if let Some(shard) = options.shard {
        run::refuse_device(&control, "--shard")?;
        let path = run::run_shard(&plan, shard, &mut control)?;
        show(&format!("sums in {}\n", path.display()));
        return Ok(());
    }
    // Opened first, so that a folder that cannot be written costs no run.
    let directory = RunDirectory::begin(&out)?;
    cards::check(&plan)?;
    let outcome = run::run(&plan, &mut control)?;
    publish(&plan, &outcome, directory, &control, options.json)
}

/// Runs an experiment of another kind.
fn run_kind(plan: &Plan, options: &RunOptions, out: &Path, control: &mut Control) -> Result<()> {
    if options.shard.is_some() || control.checkpoints.is_some() {
        let problem = "shares and checkpoints are for `kind: universality`";
        return Err(Error::new(Kind::Spec, plan.spec_path.display(), problem, "leave them out"));
    }
    run::refuse_device(control, "this kind of experiment")?;
    let universal = |folder: &PathBuf| {
        let evidence = Evidence::of_run(folder, plan.reference().layout())?;
        Ok(Universal::above(&evidence.table, plan.spec.correlation.threshold))
    };
    let universal = options.universal.as_ref().map(universal).transpose()?;
    let directory = RunDirectory::begin(out)?;
    let figures = run::run_kind(plan, universal, control)?;
    let folder =
        report::files::write_figures(plan, &figures, options.universal.as_deref(), directory)?;
    if options.json {
        return show_json(&FigureFile::of(&plan.spec.name, &figures));
    }
    show(&report::terminal::figures(&plan.spec, &figures));
    show_folder(&folder);
    Ok(())
}

fn merge(spec: &Path, shares: &[PathBuf], out: Option<PathBuf>, quiet: bool) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(Spec::load(spec)?)?;
    let directory = RunDirectory::begin(&out.unwrap_or_else(|| default_out(&plan)))?;
    let mut control = Control { progress: progress(quiet), stop, ..Control::default() };
    let outcome = run::merge(&plan, shares, &mut control)?;
    publish(&plan, &outcome, directory, &control, false)
}

fn default_out(plan: &Plan) -> PathBuf {
    Path::new("runs").join(&plan.spec.name)
}

/// Looks at the neurons that stand out, and writes everything.
fn publish(
    plan: &Plan,
    outcome: &Outcome,
    directory: RunDirectory,
    control: &Control,
    json: bool,
) -> Result<()> {
    let cards = cards::of(plan, &outcome.reference, &control.progress, &control.stop)?;
    let folder = report::files::write(plan, outcome, &cards, directory)?;
    if json {
        return show_json(&outcome.reference.summary);
    }
    show(&report::terminal::summary(outcome));
    show_folder(&folder);
    Ok(())
}

fn show_folder(folder: &Path) {
    let report = folder.join("report.html");
    show(&format!("report in {}, tables beside it\n", report.display()));
}

fn show_json(value: &impl serde::Serialize) -> Result<()> {
    show(&format!("{:#}\n", serde_json::json!(value)));
    Ok(())
}

fn progress(quiet: bool) -> Progress {
    if quiet { Progress::Quiet } else { Progress::on_stderr() }
}

fn checkpoints(plan: &Plan, out: &Path, options: &RunOptions) -> Option<Checkpoints> {
    // A run that goes on keeps its sums too, now and then; a share is such sums.
    let kept = (options.resume || options.shard.is_some()).then_some(CHECKPOINT_SECONDS);
    let every = Duration::from_secs(options.checkpoint.or(kept)?);
    let path = match options.shard {
        Some(shard) => out.with_added_extension(format!("shard-{shard}")),
        None => out.to_path_buf(),
    };
    Some(Checkpoints::new(path.with_added_extension("checkpoint"), every, plan.identity()))
}

/// Checks every file before it fails, so that one call shows all mistakes.
fn validate(specs: &[PathBuf]) -> Result<()> {
    let mut errors: Vec<Error> = specs.iter().filter_map(|s| validate_one(s).err()).collect();
    let last = errors.pop();
    errors.iter().for_each(|error| eprintln!("error: {error}"));
    last.map_or(Ok(()), Err)
}

fn validate_one(spec: &Path) -> Result<()> {
    let plan = Plan::make(Spec::load(spec)?)?;
    cards::check(&plan)?;
    let models: Vec<&str> = plan.models.iter().map(|m| m.name.as_str()).collect();
    let (tokens, rows) = (plan.tokens.count().used, plan.tokens.rows.len());
    let found = format!("models {}, {tokens} tokens in {rows} rows", models.join(", "));
    show(&format!("{}: valid; {found}\n", spec.display()));
    Ok(())
}

fn verify(options: &VerifyOptions) -> Result<u8> {
    let stop = stop_on_interrupt()?;
    let (evidences, tier) = match &options.run {
        Some(folder) => evidence_of_run(folder)?,
        None => {
            let data = std::env::var_os(DATA).map(PathBuf::from);
            let desk = Path::new(DEFAULT_SPEC).exists().then(|| desk_run(options.quiet, stop));
            (Evidences::new(data, desk)?, options.tier)
        }
    };
    let ledger = Ledger::judge(&registry()?, tier, &evidences)?;
    for (path, content) in [
        (&options.json, format!("{:#}\n", serde_json::json!(ledger))),
        (&options.junit, report::ledger::junit(&ledger)),
        (&options.markdown, report::ledger::markdown(&ledger)),
    ] {
        path.as_ref()
            .map_or(Ok(()), |path| write_whole(path, |out| out.write_all(content.as_bytes())))?;
    }
    show(&report::ledger::text(&ledger));
    Ok(if ledger.fails() { CLAIM_FAILS } else { 0 })
}

fn evidence_of_run(folder: &Path) -> Result<(Evidences, Option<Tier>)> {
    let study = Study::read(folder)?;
    let found = Evidences::of_run(study.evidence, &study.summary.reference)?;
    let (evidences, tier) = found.ok_or_else(|| {
        let problem = "no claim is about models of this shape";
        let remedy = "call the reference like a model of expected/models.yaml, if it is one";
        Error::new(Kind::Evidence, folder.display(), problem, remedy)
    })?;
    Ok((evidences, Some(tier)))
}

fn inspect(neuron: NeuronId, run: &Path, spec: &Path) -> Result<()> {
    let study = Study::read(run)?;
    let row = study.row(neuron).ok_or_else(|| report::card::missing(study.layout, neuron))?;
    let card = match study.card(neuron) {
        Some(card) => card.clone(),
        None => look_at(row, spec)?,
    };
    show(&report::card::text(&study, row, &card));
    Ok(())
}

fn activations(neurons: &[NeuronId], spec: &Path, out: &Path) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(Spec::load(spec)?)?;
    let layout = plan.reference().layout();
    let known = |id: &NeuronId| {
        let there = id.layer < layout.n_layers && id.neuron < layout.d_mlp;
        there
            .then(|| id.layer * layout.d_mlp + id.neuron)
            .ok_or_else(|| report::card::missing(layout, *id))
    };
    let chosen = neurons.iter().map(known).collect::<Result<Vec<_>>>()?;
    let bytes = cards::activations(&plan, &chosen, &Progress::on_stderr(), &stop)?;
    write_whole(out, |file| file.write_all(&bytes))?;
    show(&format!("activations in {}\n", out.display()));
    Ok(())
}

/// Reads the tokens for a neuron that the run did not look at closely.
fn look_at(neuron: usize, spec: &Path) -> Result<Card> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(Spec::load(spec)?)?;
    let n_neurons = plan.reference().layout().n_neurons();
    if neuron >= n_neurons {
        let problem = format!("its reference has {n_neurons} neurons alone");
        let remedy = "name the spec that the run was made with";
        return Err(Error::new(Kind::Spec, spec.display(), problem, remedy));
    }
    Ok(cards::read(&plan, &[neuron], &Progress::on_stderr(), &stop)?.cards.remove(0))
}

/// Makes the report of a run again, with the experiments of other kinds that are named.
fn make_report(run: &Path, with: &[PathBuf], out: Option<PathBuf>) -> Result<()> {
    let folder = Folder::read(run)?;
    let with = with.iter().map(|path| Folder::read(path)).collect::<Result<Vec<_>>>()?;
    let report = report::page::report(&folder, &with, &registry()?)?;
    let out = out.unwrap_or_else(|| run.join("report.html"));
    write_whole(&out, |file| file.write_all(report.html.as_bytes()))?;
    show(&format!("report in {}\n", out.display()));
    Ok(())
}

fn compare(first: &Path, second: &Path, json: bool) -> Result<u8> {
    let found = report::comparison::compare(first, second, &registry()?)?;
    show(&if json { format!("{:#}\n", serde_json::json!(found)) } else { found.to_string() });
    Ok(if found.verdict_changed() { CLAIM_FAILS } else { 0 })
}

fn bench_host(json: bool, study: bool, floors: Option<&Path>) -> Result<u8> {
    let floors = floors.map(hostbench::read_floors).transpose()?.unwrap_or_default();
    let mut bench = HostBench::measure();
    if let Some(no_card) = bench.measure_card()? {
        eprintln!("no card is measured: {}", no_card.problem);
    }
    show(&if json { format!("{:#}\n", serde_json::json!(bench)) } else { bench.to_string() });
    if study {
        for precision in [Precision::F32, Precision::Bf16] {
            let time = StudyTime::measure(precision);
            show(&if json { format!("{:#}\n", serde_json::json!(time)) } else { time.to_string() });
        }
    }
    let below = bench.below(&floors);
    below.iter().for_each(|line| eprintln!("too slow: {line}"));
    Ok(if below.is_empty() { 0 } else { BELOW_FLOOR })
}

/// Runs the bundled models when a claim first asks for them.
fn desk_run(quiet: bool, stop: Arc<AtomicBool>) -> DeskRun {
    Box::new(move |shape| {
        let plan = Plan::make(Spec::load(DEFAULT_SPEC.as_ref())?)?;
        let stop = Arc::clone(&stop);
        let mut control = Control { progress: progress(quiet), stop, ..Control::default() };
        let findings = run::run(&plan, &mut control)?.reference;
        let universal = Universal::of(&findings, plan.spec.correlation.threshold);
        let mut evidence = Evidence::of_findings(&findings, shape);
        for (_, spec) in EXPERIMENTS {
            let plan = Plan::make(Spec::load(spec.as_ref())?)?;
            let figures = run::run_kind(&plan, Some(universal.clone()), &mut control)?;
            evidence = evidence.with(&figures);
        }
        Ok(evidence)
    })
}

fn fetch(to: &Path, base: Option<String>) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let manifest = hub::manifest()?;
    let manifest = hub::Manifest { base: base.unwrap_or(manifest.base), ..manifest };
    let fetched =
        hub::fetch(&manifest, to, hub::Patience::default(), &Progress::on_stderr(), &stop)?;
    let (all, folder) = (manifest.files.len(), to.display());
    show(&format!("{fetched} of {all} tables fetched, the others were here: {DATA}={folder}\n"));
    Ok(())
}

fn fetch_model(name: &str, revision: Option<&str>, to: Option<PathBuf>) -> Result<()> {
    let stop = stop_on_interrupt()?;
    // `owner/repository` becomes a folder of the repository's name.
    let short = name.rsplit('/').next().unwrap_or(name);
    let to = to.unwrap_or_else(|| Path::new("models").join(short));
    let (hub, patience) = (hub::Hub::of_environment(), hub::Patience::default());
    let progress = Progress::on_stderr();
    let files = hub::fetch_model(&hub, name, revision, &to, patience, &progress, &stop)?;
    show(&format!("{} in {}\n", files.join(", "), to.display()));
    Ok(())
}

fn convert(from: &Path, to: &Path) -> Result<()> {
    model::weights::convert(from, to)?;
    show(&format!("model in {}\n", to.display()));
    Ok(())
}

/// An interrupt lets the current batch end; the run then stops and leaves nothing behind.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).map_err(|e| {
        Error::new(Kind::Interrupted, "signals", e, "check that the system allows signal handlers")
    })?;
    Ok(stop)
}

fn use_threads(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
    pool.build_global().map_err(|e| {
        Error::new(Kind::Spec, format_args!("--threads {threads}"), e, "ask for fewer threads")
    })
}

/// Writes an experiment file to begin with, where there is none.
fn new_spec(kind: ExperimentKind, file: Option<PathBuf>) -> Result<()> {
    let kind_name = kind.to_possible_value().map_or("new".into(), |v| v.get_name().to_owned());
    let file = file.unwrap_or_else(|| format!("experiments/my-{kind_name}.yaml").into());
    if file.exists() {
        let problem = "exists already";
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
    show(&format!("{file}: change it, then `validate {file}` and `run {file}`\n"));
    Ok(())
}

fn man() -> Result<()> {
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(Cli::command()).render(&mut page);
    written.map_err(|e| Error::io(Kind::Store, Path::new("the manual page"), "write it", &e))?;
    show(&String::from_utf8_lossy(&page));
    Ok(())
}

/// Prints results. A reader that has gone away (`| head`) is no failure.
fn show(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
