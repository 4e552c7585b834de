//! What messages advise: an option that a message names is one that the command has.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};
use universal_neurons::cli::Cli;

/// Returns the options that a message of a command names and that the command lacks. Text in
/// backticks is about other commands and programs.
pub fn unknown_options<'a>(arguments: &[impl AsRef<str>], message: &'a str) -> Vec<&'a str> {
    let known = options_of(arguments);
    let outside = message.split('`').step_by(2);
    let words =
        outside.flat_map(|text| text.split(|c: char| c.is_whitespace() || "(,;:.)".contains(c)));
    let named = words.filter_map(|word| word.strip_prefix("--")?.split('=').next());
    let is_name = |name: &&str| name.starts_with(|c: char| c.is_ascii_lowercase());
    named.filter(is_name).filter(|name| !known.contains(*name)).collect()
}

/// Long options of the command that some arguments name.
fn options_of(arguments: &[impl AsRef<str>]) -> BTreeSet<String> {
    let mut command = Cli::command();
    command.build();
    let mut chosen: &Command = &command;
    for argument in arguments {
        match chosen.find_subcommand(argument.as_ref()) {
            Some(command) => chosen = command,
            None => break,
        }
    }
    let names = chosen.get_arguments().filter_map(|argument| argument.get_long());
    names.map(str::to_owned).collect()
}

#[test]
fn options_are_found_in_messages() {
    let named = |arguments: &[&str], message| unknown_options(arguments, message);
    let message = "x\n  help: go on with --resume, or give another --out=FOLDER; `zstd --long=31`";
    assert_eq!(named(&["run", "spec.yaml"], message), [""; 0]);
    assert_eq!(named(&["validate", "spec.yaml"], message), ["resume", "out"]);
    assert_eq!(named(&["fetch", "model", "x"], "name another folder with --to"), [""; 0]);
    assert_eq!(named(&["fetch", "tables"], "give it with --revision"), ["revision"]);
}
