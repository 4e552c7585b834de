//! Standard output, standard error, and files that options name.

use super::*;

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
