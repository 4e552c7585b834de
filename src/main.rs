//! Parses the command line, dispatches, and turns the outcome into an exit code.

mod commands;

use std::process::ExitCode;

use clap::Parser;
use universal_neurons::cli::{Cli, Command, Fetch};
use universal_neurons::experiment::schema;

/// Exit code: what is wrong is the request or the machine, and not a claim that fails.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Cli::parse().chosen() {
        Command::Run { spec, options } => commands::run_experiment(&spec, &options).map(|()| 0),
        Command::Merge { spec, shares, out, quiet } => {
            commands::merge(&spec, &shares, out, quiet).map(|()| 0)
        }
        Command::Validate { specs } => commands::validate(&specs).map(|()| 0),
        Command::Verify(options) => commands::verify(&options),
        Command::Inspect { neuron, run, spec } => {
            commands::inspect(neuron, &run, &spec).map(|()| 0)
        }
        Command::Activations { neurons, spec, out } => {
            commands::activations(&neurons, &spec, &out).map(|()| 0)
        }
        Command::Report { run, with, out } => commands::make_report(&run, &with, out).map(|()| 0),
        Command::Compare { first, second, json } => commands::compare(&first, &second, json),
        Command::Fetch { what: Fetch::Tables { to, base } } => {
            commands::fetch(&to, base).map(|()| 0)
        }
        Command::Fetch { what: Fetch::Model { name, revision, to } } => {
            commands::fetch_model(&name, revision.as_deref(), to).map(|()| 0)
        }
        Command::Convert { from, to } => commands::convert(&from, &to).map(|()| 0),
        Command::BenchHost { json, study, floors } => {
            commands::bench_host(json, study, floors.as_deref())
        }
        Command::New { kind, file } => commands::new_spec(&kind, file).map(|()| 0),
        Command::Schema => commands::show_json(&schema()).map(|()| 0),
        Command::Completions { shell } => {
            commands::completions(shell);
            Ok(0)
        }
        Command::Man => commands::man().map(|()| 0),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}
