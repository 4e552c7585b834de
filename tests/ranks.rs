//! A run by MPI ranks on one machine. `.ci/run` builds the program with the feature `mpi` and
//! puts it into `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use universal_neurons::compare::Tolerance;
use universal_neurons::record::StudyRecord;
use universal_neurons::table::Column;

use crate::device::{CONTEXT, Shape, family_of};
use crate::support::{assert_close, path, run, stderr};

/// The program with ranks, if it was built and there is an `mpirun`.
fn ranked() -> Option<PathBuf> {
    let program = path("target/universal-neurons-mpi");
    let mpirun = Command::new("mpirun").arg("--version").output().is_ok();
    if program.exists() && mpirun {
        return Some(program);
    }
    println!("skipped: no mpirun, or no target/universal-neurons-mpi, which .ci/run builds");
    None
}

fn mpirun(folder: &Path, program: &Path, ranks: usize, more: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    // More ranks than cores, one thread each, and as root where CI runs so.
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]);
    command.arg(program).args(["run", "spec.yaml", "--mpi", "--threads", "1", "--quiet"]);
    command.args(more).current_dir(folder);
    command
}

/// Models whose checkpoints take long enough to write that a run can be killed between two.
const SHAPE: Shape = Shape { layers: 2, heads: 2, d_model: 32, d_mlp: 520, context: CONTEXT };

/// A folder with a study of two small models over some samples.
fn bench(samples: usize) -> TempDir {
    let root = TempDir::new().expect("folder");
    family_of(root.path(), SHAPE);
    let spec = format!(
        "include: tiny.yaml\nname: x\n\
         models: {{ family: [{{ name: a, path: a }}, {{ name: b, path: b }}] }}\n\
         corpus: {{ limit: {samples} }}\n\
         correlation: {{ baseline: {{ draws: 1 }} }}\ncards: {{ neurons: 0 }}\n"
    );
    std::fs::write(root.path().join("spec.yaml"), spec).expect("write");
    root
}

fn assert_ran(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

fn assert_same_table(root: &Path, one: &str, other: &str) {
    let [one, other] = [one, other].map(|name| StudyRecord::read(&root.join(name)).expect("a run"));
    for &column in Column::ALL {
        let want = other.column(column);
        let tolerance = Tolerance { absolute: 1e-6, relative: 1e-6 };
        assert_close(column.name(), one.column(column).iter().copied(), want, tolerance);
    }
}

#[test]
fn ranks_give_the_table_of_one_process() {
    let Some(program) = ranked() else { return };
    let root = bench(24);
    assert_ran(&run(root.path(), &["run", "spec.yaml", "--quiet", "--out", "one"]));
    for ranks in [2, 4] {
        let out = format!("of-{ranks}");
        let output = mpirun(root.path(), &program, ranks, &["--out", &out]).output();
        assert_ran(&output.expect("mpirun starts"));
        assert_same_table(root.path(), &out, "one");
    }
    let left = std::fs::read_dir(root.path()).expect("folder").filter(|entry| {
        let name = entry.as_ref().expect("entry").file_name();
        name.to_string_lossy().contains("shard")
    });
    assert_eq!(left.count(), 0, "shares are left");
}

#[test]
fn a_killed_rank_leaves_what_the_others_go_on_from() {
    let Some(program) = ranked() else { return };
    let root = bench(240);
    let more = ["--out", "killed", "--checkpoint", "0"];
    let mut job = mpirun(root.path(), &program, 2, &more).spawn().expect("mpirun starts");
    let begun = |i: usize| root.path().join(format!("killed.shard-{i}-of-2.checkpoint")).exists();
    let since = Instant::now();
    while !(begun(1) && begun(2)) {
        assert!(since.elapsed() < Duration::from_secs(120), "no checkpoints came");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Ends only the second rank, which is a child of mpirun.
    let ranks = Command::new("pgrep").args(["-P", &job.id().to_string()]).output().expect("pgrep");
    let ranks = String::from_utf8(ranks.stdout).expect("UTF-8");
    let rank = ranks.lines().last().expect("a rank");
    assert!(Command::new("kill").args(["-9", rank]).status().expect("kill").success());
    assert!(!job.wait().expect("ended").success(), "a job without a rank fails");
    assert!(!root.path().join("killed").exists(), "a run without a rank was written");
    assert!(begun(1) || begun(2), "nothing is left to resume from");
    let more = ["--out", "killed", "--resume"];
    assert_ran(&mpirun(root.path(), &program, 2, &more).output().expect("mpirun starts"));
    assert_ran(&run(root.path(), &["run", "spec.yaml", "--quiet", "--out", "one"]));
    assert_same_table(root.path(), "killed", "one");
}
