//! `fetch`, `convert`, `bench-host`, `completions` and `man`.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use universal_neurons::claims::sources::DATA;
use universal_neurons::cli::Cli;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::hostbench::{self, HostBench, StudyTime};
use universal_neurons::output::{show, tell};
use universal_neurons::progress::Progress;
use universal_neurons::spec::{BaselineKind, Precision};
use universal_neurons::{hub, model};

use super::stop_on_interrupt;

/// The name of the program on the command line.
const NAME: &str = "universal-neurons";
/// Exit code: a rate is below its recorded floor.
const BELOW_FLOOR: u8 = 1;

pub fn bench_host(json: bool, study: bool, floors: Option<&Path>) -> Result<u8> {
    let floors = floors.map(hostbench::read_floors).transpose()?.unwrap_or_default();
    let mut bench = HostBench::measure();
    if let Some(no_card) = bench.measure_card()? {
        tell(format_args!("no card is measured: {}", no_card.problem));
    }
    show(&if json { format!("{:#}\n", serde_json::json!(bench)) } else { bench.to_string() })?;
    if study {
        let baselines = [BaselineKind::Rotation, BaselineKind::FastRotation];
        let all = baselines.map(|b| [(Precision::F32, b), (Precision::Bf16, b)]);
        for (precision, baseline) in all.into_iter().flatten() {
            let time = StudyTime::measure(precision, baseline);
            show(&if json {
                format!("{:#}\n", serde_json::json!(time))
            } else {
                time.to_string()
            })?;
        }
    }
    let below = bench.below(&floors);
    below.iter().for_each(|line| tell(format_args!("too slow: {line}")));
    Ok(if below.is_empty() { 0 } else { BELOW_FLOOR })
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
