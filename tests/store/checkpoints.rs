//! Checkpoints and shares: those of other runs, forged ones, and other models.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use super::*;

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

/// Whatever the numbers depend on belongs to the identity of a checkpoint: a config, a
/// tokenizer or weights that were changed after a kill are not gone on with.
#[test]
fn a_killed_run_does_not_go_on_with_other_models() {
    let bench = Bench::new();
    let checkpoint = leave_checkpoint(&bench);
    let whole = std::fs::read(&checkpoint).expect("a checkpoint");
    let resumed = ["run", "spec.yaml", "--quiet", "--out", "x", "--resume"];
    for (file, from, to) in [
        ("a/config.json", "1e-05", "1e-06"),
        ("a/config.json", "gelu_new", "gelu"),
        ("b/config.json", "\"n_head\": 2", "\"n_head\": 4"),
        ("a/tokenizer.json", "\"version\"", " \"version\""),
        ("corpus.jsonl", "quick", "slow"),
        ("spec.yaml", "draws: 1", "draws: 2"),
    ] {
        let kept = std::fs::read(bench.path().join(file)).expect("read");
        bench.edit(file, from, to);
        let output = run(bench.path(), &resumed);
        assert_refused(&output, &["x.checkpoint", "belongs to another"]);
        assert!(!bench.path().join("x").exists(), "{file} with {to} gave a run");
        assert_eq!(std::fs::read(&checkpoint).expect("it stays"), whole);
        bench.write(file, kept);
    }
    assert!(run(bench.path(), &resumed).status.success(), "the unchanged run is resumed");
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
