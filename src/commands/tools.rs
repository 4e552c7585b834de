//! `fetch`, `convert`, `bench-host`, `completions` and `man`.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::json;
use universal_neurons::backend::device::cuda::Cuda;
use universal_neurons::claims::sources::DATA;
use universal_neurons::cli::Cli;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::hostbench::{Floors, HostBench, StudyTime};
use universal_neurons::output::{show, tell};
use universal_neurons::progress::Progress;
use universal_neurons::spec::{BaselineKind, Precision};
use universal_neurons::{hub, model};

use super::{show_json, stop_on_interrupt};

/// The name of the program on the command line.
const NAME: &str = "universal-neurons";
/// Exit code: a rate is below its recorded floor.
const BELOW_FLOOR: u8 = 1;
/// The environment variable that, if it is 1, turns a missing GPU into an error.
const REQUIRE_GPU: &str = "REQUIRE_GPU";

/// Measures this machine. All that could make a floor go unnoticed is refused before anything is
/// measured.
pub fn bench_host(json: bool, study: bool, floors: Option<&Path>) -> Result<u8> {
    let floors = floors.map(Floors::read).transpose()?.unwrap_or_default();
    floors.check_machine()?;
    let card = open_card(&floors)?;
    // The GPU comes first: it may fail, and the CPU takes half a minute.
    let of_card = card.map_or(Ok(Vec::new()), |card| HostBench::measure_card(&card))?;
    let mut bench = HostBench::measure();
    bench.rates.extend(of_card);
    let studies = if study { study_times() } else { Vec::new() };
    if json {
        show_json(&json!({ "threads": bench.threads, "rates": bench.rates, "studies": studies }))?;
    } else {
        let studies: String = studies.iter().map(StudyTime::to_string).collect();
        show(&format!("{bench}{studies}"))?;
    }
    let missed = floors.missed(&bench.rates);
    missed.iter().for_each(|line| tell(format_args!("too slow: {line}")));
    Ok(if missed.is_empty() { 0 } else { BELOW_FLOOR })
}

/// Opens the first GPU. Returns `None` if there is none and nothing requires one.
fn open_card(floors: &Floors) -> Result<Option<Cuda>> {
    let environment = std::env::var(REQUIRE_GPU).is_ok_and(|value| value == "1");
    match Cuda::open() {
        Ok(card) => Ok(Some(card)),
        Err(error) if environment || floors.need_card() => {
            let by = if environment { "REQUIRE_GPU=1" } else { "--floors" };
            let problem = format!("{by} requires a card: {}", error.problem);
            let remedy = "run it on a machine with a card and its driver, or require none";
            Err(Error::new(error.kind, error.subject, problem, remedy))
        }
        Err(error) => {
            tell(format_args!("no card is measured: {}", error.problem));
            Ok(None)
        }
    }
}

/// Times the study with each precision and two baselines.
fn study_times() -> Vec<StudyTime> {
    let baselines = [BaselineKind::Rotation, BaselineKind::FastRotation];
    let all = baselines.map(|b| [(Precision::F32, b), (Precision::Bf16, b)]);
    all.into_iter().flatten().map(|(precision, b)| StudyTime::measure(precision, b)).collect()
}

pub fn fetch(to: &Path, base: Option<String>) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let manifest = hub::manifest()?;
    let manifest = hub::Manifest { base: base.unwrap_or(manifest.base), ..manifest };
    let fetched =
        hub::fetch(&manifest, to, hub::Patience::default(), &Progress::on_stderr(), &stop)?;
    let (all, folder) = (manifest.files.len(), to.display());
    show(&format!("{fetched} of {all} tables fetched, the others were here: {DATA}={folder}\n"))
}

pub fn fetch_model(name: &str, revision: Option<&str>, to: Option<PathBuf>) -> Result<()> {
    let stop = stop_on_interrupt()?;
    // `owner/repository` becomes a folder of the repository's name.
    let short = name.rsplit('/').next().unwrap_or(name);
    let to = to.unwrap_or_else(|| Path::new("models").join(short));
    let (hub, patience) = (hub::Hub::of_environment(), hub::Patience::default());
    let progress = Progress::on_stderr();
    let fetched = hub::fetch_model(&hub, (name, revision), &to, patience, &progress, &stop)?;
    let files: Vec<&str> = fetched.files.keys().map(String::as_str).collect();
    show(&format!(
        "{} of {} at {} in {}\n",
        files.join(", "),
        fetched.repo,
        fetched.revision,
        to.display()
    ))
}

pub fn convert(from: &Path, to: &Path) -> Result<()> {
    model::weights::convert(from, to)?;
    show(&format!("model in {}\n", to.display()))
}

pub fn man() -> Result<()> {
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(Cli::command()).render(&mut page);
    written.map_err(|e| Error::io(Kind::Store, Path::new("the manual page"), "write it", &e))?;
    show(&String::from_utf8_lossy(&page))
}

/// Prints the completions of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    show(&String::from_utf8_lossy(&script))
}
