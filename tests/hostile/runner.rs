//! Runs the cases of an area and says which of them fail.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::case::Case;
use crate::advice::unknown_options;
use crate::support::{Bench, path};

/// Variables that change what the program does, unset unless a case sets them.
const VARIABLES: [&str; 8] = [
    "UNIVERSAL_NEURONS_DATA",
    "UNIVERSAL_NEURONS_CACHE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "RUST_BACKTRACE",
];

/// Runs every case of `tests/hostile/AREA.yaml`.
///
/// # Panics
/// If a case fails, after all have run, with the name and the output of each that failed.
pub fn check_area(area: &str) {
    let file = path("tests/hostile").join(format!("{area}.yaml"));
    let text = std::fs::read_to_string(&file).expect("a file of cases");
    let document = serde_yaml::Deserializer::from_str(&text);
    let cases: Vec<Case> = serde_path_to_error::deserialize(document)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name is used twice in {}", file.display());
    assert!(cases.iter().all(|case| !case.why.trim().is_empty()), "a case says no why");
    let failures = run_all(&cases);
    println!("{area}: {} cases", cases.len());
    let (n, all) = (failures.len(), cases.len());
    assert!(n == 0, "{n} of {all} cases fail:\n\n{}", failures.join("\n\n"));
}

/// Runs cases side by side; returns what is wrong, by case.
fn run_all(cases: &[Case]) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // A case whose own files cannot be made is a failure like any other.
                    let checked = std::panic::catch_unwind(|| check(case));
                    let failure =
                        checked.unwrap_or_else(|_| Some("its files cannot be made".into()));
                    let told = failure.map(|failure| format!("== {}: {failure}", case.name));
                    failures.lock().expect("lock").extend(told);
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("lock");
    failures.sort();
    failures
}

/// What a finished command wrote, and how it ended; no status where it ran out of time.
struct Answer {
    status: Option<ExitStatus>,
    stdout: String,
    stderr: String,
}

/// Runs a case; None if the program answers as it must.
fn check(case: &Case) -> Option<String> {
    let bench = Bench::new();
    for arguments in &case.before {
        let answer = answer(case, bench.path(), arguments);
        if answer.status.and_then(|s| s.code()) != Some(0) {
            return Some(format!("`before` {arguments:?} fails\n{}", answer.stderr));
        }
    }
    let runs = entries(&bench.path().join("runs"));
    case.change_files(bench.path());
    let answer = answer(case, bench.path(), &case.run);
    let mut problems = problems_of_answer(case, &answer);
    let unknown = unknown_options(&case.run, &answer.stderr);
    problems.extend(unknown.iter().map(|option| format!("advises --{option}, which it lacks")));
    problems.extend(problems_on_disk(case, bench.path()));
    if case.exit == 2 && entries(&bench.path().join("runs")) != runs {
        problems.push("something was written to runs/".into());
    }
    (!problems.is_empty()).then(|| {
        let Answer { stdout, stderr, .. } = &answer;
        format!("{}\n-- stdout\n{stdout}-- stderr\n{stderr}", problems.join("; "))
    })
}

fn problems_of_answer(case: &Case, answer: &Answer) -> Vec<String> {
    let Some(status) = answer.status else {
        return vec![format!("still runs after {} s", case.seconds)];
    };
    let mut problems = Vec::new();
    match status.code() {
        None => problems.push(format!("ended by {status}")),
        Some(101) => problems.push("panicked".into()),
        Some(code) if code != case.exit => {
            problems.push(format!("exit code {code}, expected {}", case.exit));
        }
        Some(_) => {}
    }
    let error = if case.exit == 2 { &["error: ", "help: "][..] } else { &[] };
    let says = case.says.iter().map(String::as_str).chain(error.iter().copied());
    problems.extend(
        says.filter(|part| !answer.stderr.contains(part))
            .map(|part| format!("no {part:?} in stderr")),
    );
    let prints = case.prints.iter().filter(|part| !answer.stdout.contains(*part));
    problems.extend(prints.map(|part| format!("no {part:?} in stdout")));
    let held = |part: &&String| answer.stderr.contains(*part) || answer.stdout.contains(*part);
    problems.extend(case.lacks.iter().filter(held).map(|part| format!("{part:?} in the output")));
    problems
}

fn problems_on_disk(case: &Case, folder: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, content) in &case.leaves {
        match std::fs::read(folder.join(name)) {
            Ok(bytes) if bytes == content.as_bytes() => {}
            Ok(_) => problems.push(format!("{name} was changed")),
            Err(e) => problems.push(format!("{name}: {e}")),
        }
    }
    let left = case.no.iter().filter(|name| folder.join(name).symlink_metadata().is_ok());
    problems.extend(left.map(|name| format!("{name} exists")));
    problems
}

fn entries(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("entry").file_name()).collect()
}

/// Runs the program in `folder` until it ends or the time of the case is over.
fn answer(case: &Case, folder: &Path, arguments: &[String]) -> Answer {
    let outputs = tempfile::tempdir().expect("folder");
    let [out, err] = ["stdout", "stderr"].map(|name| outputs.path().join(name));
    let mut command = command(case);
    command.args(arguments).current_dir(folder).env("HOME", folder).stdin(Stdio::null());
    VARIABLES.iter().filter(|name| !case.env.contains_key(**name)).for_each(|name| {
        command.env_remove(name);
    });
    command.envs(&case.env);
    command.stdout(File::create(&out).expect("file")).stderr(File::create(&err).expect("file"));
    let mut child = command.spawn().expect("the program starts");
    let end = Instant::now() + Duration::from_secs(case.seconds);
    let status = loop {
        match child.try_wait().expect("the child can be waited for") {
            Some(status) => break Some(status),
            None if Instant::now() > end => {
                child.kill().expect("killed");
                child.wait().expect("ended");
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = |path| String::from_utf8_lossy(&std::fs::read(path).expect("read")).into_owned();
    Answer { status, stdout: text(&out), stderr: text(&err) }
}

/// The program, within the memory of the case.
fn command(case: &Case) -> Command {
    let program = env!("CARGO_BIN_EXE_universal-neurons");
    let Some(mib) = case.memory_mib else { return Command::new(program) };
    // The shell replaces itself, so that a kill reaches the program.
    let mut shell = Command::new("sh");
    let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", mib * 1024);
    shell.args(["-c", &script, program]).env("MALLOC_ARENA_MAX", "2");
    shell
}
