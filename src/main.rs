//! Parses the command line, dispatches, and turns the outcome into an exit code.

mod commands;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use universal_neurons::cli::{Cli, Command, FetchTarget};
use universal_neurons::error::Result;
use universal_neurons::experiment::schema;
use universal_neurons::output::{tell, unwritten};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(shown) => return show_help(&shown),
    };
    match dispatch(cli.chosen()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(format_args!("error: {error}"));
            ExitCode::from(commands::COULD_NOT_RUN)
        }
    }
}

/// Shows help or the version if the command line asks for it, otherwise the mistake in it.
fn show_help(shown: &clap::Error) -> ExitCode {
    if shown.use_stderr() {
        // The message repeats arguments, which may contain control characters from file names.
        tell(shown.render().to_string().trim_end());
        return ExitCode::from(commands::COULD_NOT_RUN);
    }
    let printed = shown.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tell(format_args!("error: {}", unwritten(&e)));
            ExitCode::from(commands::COULD_NOT_RUN)
        }
    }
}

/// Runs a command and returns the exit code.
fn dispatch(command: Command) -> Result<u8> {
    commands::use_threads(match &command {
        Command::Run { options, .. } => options.threads,
        _ => None,
    })?;
    match command {
        Command::Run { spec, options } => commands::run_experiment(&spec, &options),
        Command::Merge { spec, shares, out, quiet, json } => {
            commands::merge(&spec, &shares, out, quiet, json).map(|()| 0)
        }
        Command::Validate { specs, json } => commands::validate(&specs, json).map(|()| 0),
        Command::Verify(options) => commands::verify(&options),
        Command::Inspect { neuron, run, spec, model, json, text } => {
            let model = (spec.as_deref(), model.as_deref());
            commands::inspect(neuron, &run, model, json, &text).map(|()| 0)
        }
        Command::Activations { neurons, spec, out } => {
            commands::activations(&neurons, &spec, &out).map(|()| 0)
        }
        Command::Export { run, prediction, out, json } => {
            commands::export(&run, prediction.as_deref(), &out, json).map(|()| 0)
        }
        Command::Report { run, with, paper, out } => {
            commands::make_report(&run, (&with, paper), out).map(|()| 0)
        }
        Command::Compare { first, second, json } => commands::compare(&first, &second, json),
        Command::Fetch { what: FetchTarget::Tables { to, base } } => {
            commands::fetch(&to, base).map(|()| 0)
        }
        Command::Fetch { what: FetchTarget::Model { name, revision, to } } => {
            commands::fetch_model(&name, revision.as_deref(), to).map(|()| 0)
        }
        Command::Convert { from, to } => commands::convert(&from, &to).map(|()| 0),
        Command::CheckModel { folder, against, tolerance, json } => {
            commands::check_model(&folder, against.as_deref(), tolerance, json)
        }
        Command::BenchHost { json, study, floors } => {
            commands::bench_host(json, study, floors.as_deref())
        }
        Command::New { kind, file } => commands::new_spec(&kind, file).map(|()| 0),
        Command::Schema => commands::show_json(&schema()).map(|()| 0),
        Command::Completions { shell } => commands::completions(shell).map(|()| 0),
        Command::Man => commands::man().map(|()| 0),
    }
}
