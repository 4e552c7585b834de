//! Kills, full disks and interrupts: no result is lost.

use std::process::Stdio;

use super::*;

/// A run killed at any moment leaves the earlier run or the new one, nothing of the user's
/// is touched, the next start cleans up, and a resumed run ends with the same bits.
#[test]
fn a_kill_at_any_moment_loses_nothing() {
    let bench = Bench::new();
    let arguments = ["run", "spec.yaml", "--quiet", "--out", "runs/x", "--checkpoint", "0"];
    let begun = std::time::Instant::now();
    assert!(run(bench.path(), &arguments).status.success());
    let takes = begun.elapsed();
    let want = table(&bench, "runs/x");
    let runs = bench.path().join("runs");
    std::fs::write(runs.join("thesis.tex"), "mine").expect("write");
    std::fs::create_dir(runs.join(".unfinished-run-mine")).expect("folder");
    std::fs::write(runs.join(".unfinished-run-mine/thesis.tex"), "mine").expect("write");
    for moment in 0..30 {
        let resumed = runs.join("x.checkpoint").exists();
        let more: &[&str] = if resumed { &["--resume"] } else { &[] };
        let mut command = program(bench.path(), &[&arguments[..], more].concat());
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        // Most moments are those of the end.
        std::thread::sleep(takes.mul_f64(0.4 + f64::from(moment) * 0.025));
        let _ = child.kill();
        child.wait().expect("ended");
        assert!(is_whole(&runs.join("x")), "moment {moment}");
        assert!(table(&bench, "runs/x") == want, "moment {moment}");
    }
    let resumed = runs.join("x.checkpoint").exists();
    let more: &[&str] = if resumed { &["--resume"] } else { &[] };
    let output = run(bench.path(), &[&arguments[..], more].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(table(&bench, "runs/x") == want);
    assert_eq!(names(&runs), [".unfinished-run-mine", "thesis.tex", "x"]);
}

/// Runs the program with a fault at the n-th call of a kind; None without strace.
fn faulty(bench: &Bench, call: &str, error: &str, n: usize, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    command.arg(format!("inject={call}:error={error}:when={n}"));
    command.arg(env!("CARGO_BIN_EXE_universal-neurons")).args(arguments);
    let output = command.current_dir(bench.path()).env("TMPDIR", bench.path()).output().ok()?;
    let works = !stderr(&output).contains("ptrace");
    works.then_some(output)
}

#[test]
fn a_full_disk_at_any_moment_loses_nothing() {
    let bench = Bench::new();
    assert!(run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "want"]).status.success());
    let want = table(&bench, "want");
    // Of 20 and more calls, some of the tables, the page, the folders and the last ones.
    for n in [1, 2, 3, 5, 8, 11, 14, 17, 20, 25] {
        for checkpoint in [true, false] {
            let mut arguments = vec!["run", "spec.yaml", "--quiet", "--out", "x"];
            if checkpoint {
                arguments.extend(["--checkpoint", "0"]);
            }
            let Some(output) = faulty(&bench, "fsync", "ENOSPC", n, &arguments) else {
                println!("skipped: there is no strace that works here");
                return;
            };
            let error = stderr(&output);
            let is_in_place = is_whole(&bench.path().join("x"));
            match output.status.code() {
                Some(0) => assert!(is_in_place && table(&bench, "x") == want, "{n}: {error}"),
                Some(2) if checkpoint && bench.path().join("x.checkpoint").exists() => {
                    assert!(error.contains("x.checkpoint"), "{n}: {error}");
                    let more = ["run", "spec.yaml", "--quiet", "--out", "x", "--resume"];
                    let output = run(bench.path(), &more);
                    assert!(output.status.success(), "{n}: {}", stderr(&output));
                    assert!(table(&bench, "x") == want);
                }
                Some(2) => {
                    let (_, kept) = error.split_once("the results are in ").unwrap_or_else(|| {
                        panic!("{n}: nothing says where the results are: {error}")
                    });
                    let kept = kept.lines().next().expect("a path");
                    assert!(table(&bench, kept) == want, "{n}: {error}");
                }
                code => panic!("{n}: exit {code:?}: {error}"),
            }
            for left in ["x", "x.checkpoint"].map(|name| bench.path().join(name)) {
                let _ = std::fs::remove_dir_all(&left).or_else(|_| std::fs::remove_file(&left));
            }
        }
    }
}

#[test]
fn names_that_cannot_be_exchanged_are_renamed_one_by_one() {
    let bench = Bench::new();
    let arguments = ["run", "spec.yaml", "--quiet", "--out", "runs/x"];
    assert!(run(bench.path(), &arguments).status.success());
    for error in ["EINVAL", "ENOSYS", "EOPNOTSUPP"] {
        let Some(output) = faulty(&bench, "renameat2", error, 1, &arguments) else {
            println!("skipped: there is no strace that works here");
            return;
        };
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(is_whole(&bench.path().join("runs/x")));
    }
    let output = faulty(&bench, "renameat2", "EIO", 1, &arguments).expect("strace works");
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("/runs/.unfinished-run-"), "{error}");
    assert!(is_whole(&bench.path().join("runs/x")), "the earlier run is whole");
    assert!(run(bench.path(), &arguments).status.success());
    assert_eq!(names(&bench.path().join("runs")), ["x"], "the next start cleans up");
}

#[cfg(unix)]
#[test]
fn an_interrupt_during_the_cards_keeps_the_study() {
    use std::io::{BufRead, BufReader};
    for more in [&[][..], &["--checkpoint", "3600"]] {
        let folder = tempfile::tempdir().expect("folder");
        let desk = path("experiments").display().to_string();
        let spec = format!(
            "include: {desk}/desk-universality.yaml\nname: cut\n\
             models: {{ family: [{{ name: a, path: {desk}/desk/a }}, {{ name: b, path: {desk}/desk/b }}] }}\n\
             corpus: {{ limit: 60 }}\nbatch: {{ tokens: 500 }}\n\
             correlation: {{ baseline: {{ draws: 1 }} }}\n"
        );
        std::fs::write(folder.path().join("spec.yaml"), spec).expect("write");
        let arguments = [&["run", "spec.yaml", "--out", "x"][..], more].concat();
        let mut command = program(folder.path(), &arguments);
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .env("TMPDIR", folder.path())
            .spawn()
            .expect("starts");
        let mut lines =
            BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("looking at neurons")), "no cards were begun");
        let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        let said = lines.collect::<Vec<_>>().join("\n");
        assert_eq!(child.wait().expect("ends").code(), Some(2), "{said}");
        if more.is_empty() {
            assert!(said.contains("results are in x, without cards"), "{said}");
            assert!(is_whole(&folder.path().join("x")));
        } else {
            assert!(said.contains("x.checkpoint") && said.contains("--resume"), "{said}");
            assert!(folder.path().join("x.checkpoint").exists());
        }
    }
}
