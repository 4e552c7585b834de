//! Results and the files of users on the disk: nothing foreign is touched, and no result is
//! lost, however a run ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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

/// Runs the program with its standard streams as the shell says.
fn shell(bench: &Bench, redirected: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_universal-neurons");
    let script = redirected.replace("PROGRAM", program);
    Command::new("bash").args(["-c", &script]).current_dir(bench.path()).output().expect("bash")
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_of_every_command() {
    let bench = Bench::new();
    assert!(run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "x"]).status.success());
    let commands = [
        "run spec.yaml --quiet",
        "run spec.yaml --quiet --json",
        "run spec.yaml --dry-run",
        "run spec.yaml --shard 1/1",
        "validate spec.yaml",
        "inspect L0.N1 --run x --spec spec.yaml",
        "activations L0.N1 --spec spec.yaml",
        "report x",
        "compare x x",
        "compare x x --json",
        "convert a converted",
        "schema",
        "completions bash",
        "completions zsh",
        "man",
        "--help",
        "--version",
        "run --help",
    ];
    for command in commands {
        for to in ["> /dev/full", "| true"] {
            // The reader is gone before the program starts.
            let script = if to == "| true" {
                format!("(sleep 0.1; exec PROGRAM {command}) | true; exit ${{PIPESTATUS[0]}}")
            } else {
                format!("PROGRAM {command} {to}")
            };
            let output = shell(&bench, &script);
            let error = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{command} {to}: {error}");
            assert!(error.contains("standard output: cannot write"), "{command} {to}: {error}");
        }
    }
    assert!(is_whole(&bench.path().join("runs/bench")), "a finished run is kept");
}

#[cfg(target_os = "linux")]
#[test]
fn messages_that_cannot_be_written_stop_nothing() {
    let bench = Bench::new();
    for streams in ["2> /dev/full", "2>&-", ">&-", ">&- 2>&-", "2> /dev/full < /dev/null"] {
        let output = shell(&bench, &format!("PROGRAM run spec.yaml {streams}"));
        assert_eq!(output.status.code(), Some(0), "{streams}");
        assert!(is_whole(&bench.path().join("runs/bench")), "{streams}");
        for wrong in ["run nowhere.yaml", "validate nowhere.yaml", "--frobnicate", "inspect L9.N9"]
        {
            let output = shell(&bench, &format!("PROGRAM {wrong} {streams}"));
            assert_eq!(output.status.code(), Some(2), "{wrong} {streams}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn files_of_options_are_written_through() {
    use std::os::unix::fs::FileTypeExt;
    let bench = Bench::new();
    std::os::unix::fs::symlink("real", bench.path().join("link")).expect("link");
    let arguments = ["activations", "L0.N1", "--spec", "spec.yaml", "--out"];
    let to = |out: &'static str| run(bench.path(), &[&arguments[..], &[out]].concat());
    assert!(to("link").status.success());
    assert!(bench.path().join("link").is_symlink() && bench.path().join("real").is_file());
    assert_eq!(to("/dev/full").status.code(), Some(2));
    assert!(to("/dev/null").status.success());
    for device in ["/dev/full", "/dev/null"] {
        let kind = std::fs::metadata(device).expect("there").file_type();
        assert!(kind.is_char_device(), "{device} was replaced");
    }
    let written = std::fs::read(bench.path().join("real")).expect("read");
    let piped = to("/dev/stdout").stdout;
    assert!(piped.starts_with(&written), "a pipe gets what a file gets");
    let script = "PROGRAM activations L0.N1 --spec spec.yaml --out >(cat > piped); wait; sleep 0.3";
    shell(&bench, script);
    assert!(std::fs::read(bench.path().join("piped")).expect("read") == written);
}

#[test]
fn a_checkpoint_of_an_earlier_run_is_not_replaced() {
    let bench = Bench::new();
    bench.write("x.checkpoint", "earlier");
    for more in [&["--checkpoint", "0"][..], &["--checkpoint", "60", "--threads", "1"]] {
        let arguments = [&["run", "spec.yaml", "--out", "x"][..], more].concat();
        assert_refused(&run(bench.path(), &arguments), &["x.checkpoint", "--resume"]);
    }
    let shard = ["run", "spec.yaml", "--out", "x", "--shard", "1/2"];
    bench.write("x.shard-1-of-2", "mine");
    assert_refused(&run(bench.path(), &shard), &["x.shard-1-of-2", "not the share"]);
    std::fs::remove_file(bench.path().join("x.shard-1-of-2")).expect("remove");
    bench.write("x.shard-1-of-2.checkpoint", "earlier");
    assert_refused(&run(bench.path(), &shard), &["x.shard-1-of-2.checkpoint", "--resume"]);
    let read = |name| std::fs::read_to_string(bench.path().join(name)).expect("read");
    assert_eq!((read("x.checkpoint"), read("x.shard-1-of-2.checkpoint")).0, "earlier");
    assert!(!bench.path().join("x").exists());
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

/// A checkpoint with another head or body, and a digest that is right.
fn forge(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).expect("a checkpoint");
    bytes.truncate(bytes.len() - 32);
    change(&mut bytes);
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    std::fs::write(file, bytes).expect("write");
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let at = text.find(from).unwrap_or_else(|| panic!("no {from}"));
    bytes.splice(at..at + from.len(), to.bytes());
}

/// Where the body of a checkpoint begins.
fn body(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b == b'\n').expect("a head") + 1
}

/// Leaves the checkpoint `x.checkpoint` of all batches, by an interrupt after them: the
/// cards cannot be made, since their model has gone.
fn leave_checkpoint(bench: &Bench) -> PathBuf {
    let checkpoint = bench.path().join("x.checkpoint");
    let arguments = ["run", "spec.yaml", "--quiet", "--out", "x", "--checkpoint", "0"];
    for millis in (0..400).step_by(3) {
        let mut child =
            program(bench.path(), &arguments).stderr(Stdio::null()).spawn().expect("starts");
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("killed");
        child.wait().expect("ended");
        if checkpoint.exists() {
            return checkpoint;
        }
    }
    panic!("no moment leaves a checkpoint");
}

#[test]
fn forged_checkpoints_and_shares_are_refused() {
    let bench = Bench::new();
    let checkpoint = leave_checkpoint(&bench);
    let whole = std::fs::read(&checkpoint).expect("a checkpoint");
    let head = String::from_utf8_lossy(&whole[..body(&whole)]).into_owned();
    let (_, batches) = head.split_once("\"batches\":").expect("a count");
    let batches = format!("\"batches\":{}", &batches[..batches.find(['}', ',']).expect("end")]);
    type Forgery<'a> = &'a dyn Fn(&mut Vec<u8>);
    let changes: [Forgery; 7] = [
        &|b| replace(b, &batches, "\"batches\":1000000000"),
        &|b| replace(b, &batches, "\"batches\":0"),
        &|b| replace(b, &batches, &format!("{batches},\"share\":[1,1]")),
        &|b| replace(b, &batches, &format!("{batches},\"part\":[1,2]")),
        // The first buffer is said to be empty, too long, or longer than memory.
        &|b| {
            let at = body(b);
            let n = u64::from_le_bytes(b[at..at + 8].try_into().expect("8 bytes")) as usize;
            b.splice(at..at + 8 + 4 * n, 0u64.to_le_bytes());
        },
        &|b| {
            let at = body(b);
            let n = u64::from_le_bytes(b[at..at + 8].try_into().expect("8 bytes")) + 1;
            b.splice(at..at + 8, n.to_le_bytes().into_iter().chain([0; 4]));
        },
        &|b| {
            let at = body(b);
            b.splice(at..at + 8, u64::MAX.to_le_bytes());
        },
    ];
    for (i, change) in changes.into_iter().enumerate() {
        std::fs::write(&checkpoint, &whole).expect("write");
        forge(&checkpoint, |b| change(b));
        let output = run(bench.path(), &["run", "spec.yaml", "--out", "x", "--resume"]);
        assert_refused(&output, &["x.checkpoint"]);
        assert!(!bench.path().join("x").exists(), "forgery {i}");
    }
    std::fs::write(&checkpoint, &whole).expect("write");
    assert!(run(bench.path(), &["run", "spec.yaml", "--out", "x", "--resume"]).status.success());

    let share = bench.path().join("y.shard-1-of-1");
    let output = run(bench.path(), &["run", "spec.yaml", "--out", "y", "--shard", "1/1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    forge(&share, |b| {
        let at = body(b);
        b.splice(at..at + 8, 80u64.to_le_bytes().into_iter().chain([0; 320]));
    });
    let merge = ["merge", "spec.yaml", "y.shard-1-of-1", "--out", "y"];
    assert_refused(&run(bench.path(), &merge), &[]);
    std::fs::rename(&share, bench.path().join("z.checkpoint")).expect("rename");
    let output = run(bench.path(), &["run", "spec.yaml", "--out", "z", "--resume"]);
    assert_refused(&output, &["other tokens"]);
}

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
             corpus: {{ limit: 60 }}\nbatch: {{ tokens: 500 }}\n"
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
    let second = bench.path().join("runs/spec.shard-2-of-2");
    let want = std::fs::read(&second).expect("a share");
    std::fs::remove_file(&second).expect("remove");
    assert_refused(&job(3, [3, 3], None), &["no share 3 of 2"]);
    assert_refused(&job(1, [1, 3], None), &["SHARES", "3 tasks", "2 shares"]);
    for shares in [None, Some("2")] {
        let output = job(2, [2, 2], shares);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(std::fs::read(&second).expect("a share") == want, "one task was repeated");
    }
    let shares = ["runs/spec.shard-1-of-2", "runs/spec.shard-2-of-2"];
    let merged = run(bench.path(), &["merge", "spec.yaml", shares[0], shares[1], "--quiet"]);
    assert!(merged.status.success(), "{}", stderr(&merged));
    assert!(bench.path().join("runs/bench/neurons.csv").exists());
    assert_eq!(job(1, [1, 1], Some("1")).status.code(), Some(0), "SHARES overrides the record");
}
