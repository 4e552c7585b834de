//! Results and the files of users on the disk: nothing foreign is touched, and no result is
//! lost, however a run ends.

mod checkpoints;
mod faults;
mod streams;

use std::path::Path;
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::support::{Bench, path, program, run, stderr};

/// Names in a folder, in their order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("folder");
    let mut names: Vec<_> =
        entries.map(|e| e.expect("entry").file_name().into_string().expect("name")).collect();
    names.sort();
    names
}

fn table(bench: &Bench, out: &str) -> Vec<u8> {
    std::fs::read(bench.path().join(out).join("neurons.csv")).expect("a table")
}

fn assert_refused(output: &Output, says: &[&str]) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in says.iter().chain(&["error: ", "\n  help: "]) {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
    assert!(!error.contains("reading tokens"), "it is refused before the first token: {error}");
}

/// Whether a run's folder holds all that its list names, and nothing else.
fn is_whole(folder: &Path) -> bool {
    let Ok(text) = std::fs::read(folder.join("provenance.json")) else { return false };
    let provenance: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let files = provenance["files"].as_object().expect("a list of files");
    let digest = |name: &String| {
        let bytes = std::fs::read(folder.join(name)).unwrap_or_default();
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    !files.is_empty() && files.iter().all(|(name, listed)| *listed == digest(name).as_str())
}

#[test]
fn a_folder_of_the_user_is_refused_by_name() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path().join("m")).expect("folder");
    bench.write("m/provenance.json", "{}");
    bench.write("m/thesis.tex", "x");
    let arguments = ["run", "spec.yaml", "--out", "m"];
    assert_refused(&run(bench.path(), &arguments), &["provenance.json", "not that of a run"]);
    assert_eq!(names(&bench.path().join("m")), ["provenance.json", "thesis.tex"]);

    let arguments = ["run", "spec.yaml", "--out", "kept"];
    for _ in 0..2 {
        let output = run(bench.path(), &arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(is_whole(&bench.path().join("kept")));
    }
    bench.write("kept/notes.txt", "mine");
    assert_refused(&run(bench.path(), &arguments), &["notes.txt"]);
    std::fs::remove_file(bench.path().join("kept/notes.txt")).expect("remove");
    bench.write("kept/neurons.csv", "mine");
    assert_refused(&run(bench.path(), &arguments), &["neurons.csv", "changed"]);
    let left = names(bench.path());
    assert!(left.iter().all(|name| !name.starts_with(".unfinished")), "{left:?}");
}

#[test]
fn a_report_made_again_belongs_to_its_run() {
    let bench = Bench::new();
    let arguments = ["run", "spec.yaml", "--quiet", "--out", "x"];
    assert!(run(bench.path(), &arguments).status.success());
    std::fs::remove_file(bench.path().join("x/report.html")).expect("remove");
    let output = run(bench.path(), &["report", "x"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(is_whole(&bench.path().join("x")) && bench.path().join("x/report.html").exists());
    let output = run(bench.path(), &arguments);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_place_is_proved_before_the_first_token() {
    let bench = Bench::new();
    for out in [".", "..", "/", "a/.."] {
        let output = run(bench.path(), &["run", "spec.yaml", "--out", out]);
        assert_refused(&output, &["--out"]);
    }
    bench.write("file", "mine");
    std::os::unix::fs::symlink("file", bench.path().join("link")).expect("link");
    for out in ["file", "link", "file/x"] {
        assert_refused(&run(bench.path(), &["run", "spec.yaml", "--out", out]), &["file"]);
    }
    // A mount point, where this process may make one.
    let script =
        "mkdir mounted && mount -t tmpfs none mounted && exec \"$0\" run spec.yaml --out mounted";
    let mut unshare = Command::new("unshare");
    unshare.args(["-rm", "bash", "-c", script, env!("CARGO_BIN_EXE_universal-neurons")]);
    match unshare.current_dir(bench.path()).output() {
        Ok(output) if stderr(&output).contains("error: ") => {
            assert_refused(&output, &["mounted/NAME", "mount point"]);
        }
        _ => println!("skipped: nothing can be mounted here"),
    }
    assert!(!bench.path().join("runs").exists());
}

#[cfg(unix)]
#[test]
fn a_link_to_a_run_is_followed() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("real", bench.path().join("link")).expect("link");
    for _ in 0..2 {
        let output = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "link"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert!(bench.path().join("link").is_symlink() && is_whole(&bench.path().join("real")));
}

#[test]
fn too_many_threads_are_refused_at_once() {
    let bench = Bench::new();
    let output = run(bench.path(), &["run", "spec.yaml", "--threads", "2000"]);
    assert_refused(&output, &["--threads 2000", "at most"]);
    let mut command = program(bench.path(), &["run", "spec.yaml"]);
    let output = command.env("RAYON_NUM_THREADS", "2000").output().expect("it starts");
    assert_refused(&output, &["RAYON_NUM_THREADS 2000", "at most"]);
    let others: [&[&str]; 5] = [
        &["validate", "spec.yaml"],
        &["merge", "spec.yaml", "x"],
        &["inspect", "L0.N1"],
        &["verify"],
        &["bench-host"],
    ];
    for arguments in others {
        let mut command = program(bench.path(), arguments);
        let output = command.env("RAYON_NUM_THREADS", "2000").output().expect("it starts");
        assert_refused(&output, &["RAYON_NUM_THREADS 2000"]);
    }
    assert!(run(bench.path(), &["run", "spec.yaml", "--threads", "3"]).status.success());
}

#[test]
fn the_slurm_script_sums_its_shares() {
    let bench = Bench::new();
    let binary = Path::new(env!("CARGO_BIN_EXE_universal-neurons")).parent().expect("folder");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(binary.to_path_buf()).chain(std::env::split_paths(&paths));
    let paths = std::env::join_paths(paths).expect("paths");
    // An array `first` to `last` of which `task` runs, and what is in the environment.
    let job = |task: u32, [first, last]: [u32; 2], shares: Option<&str>| {
        let mut job = Command::new("bash");
        job.arg(path("experiments/jobs/slurm.sh")).arg("spec.yaml").current_dir(bench.path());
        job.env("PATH", &paths).env("SLURM_ARRAY_TASK_ID", task.to_string());
        job.env("SLURM_ARRAY_TASK_COUNT", (last - first + 1).to_string());
        job.env("SLURM_ARRAY_TASK_MIN", first.to_string());
        job.env("SLURM_ARRAY_TASK_MAX", last.to_string());
        job.env_remove("SHARES").envs(shares.map(|n| ("SHARES", n)));
        job.output().expect("bash starts")
    };
    assert_refused(&job(2, [2, 2], None), &["SHARES"]);
    assert_refused(&job(1, [1, 1], None), &["SHARES"]);
    assert_refused(&job(0, [0, 1], None), &["SHARES"]);
    for task in [1, 2] {
        let output = job(task, [1, 2], None);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let second = bench.path().join("runs/bench.shard-2-of-2");
    let want = std::fs::read(&second).expect("a share");
    std::fs::remove_file(&second).expect("remove");
    assert_refused(&job(3, [3, 3], None), &["no share 3 of 2"]);
    assert_refused(&job(1, [1, 3], None), &["SHARES", "3 tasks", "2 shares"]);
    for shares in [None, Some("2")] {
        let output = job(2, [2, 2], shares);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(std::fs::read(&second).expect("a share") == want, "one task was repeated");
    }
    let shares = ["runs/bench.shard-1-of-2", "runs/bench.shard-2-of-2"];
    let merged = run(bench.path(), &["merge", "spec.yaml", shares[0], shares[1], "--quiet"]);
    assert!(merged.status.success(), "{}", stderr(&merged));
    assert!(bench.path().join("runs/bench/neurons.csv").exists());
    assert_eq!(job(1, [1, 1], Some("1")).status.code(), Some(0), "SHARES overrides the record");
}
