//! The runs of the bundled models that both test binaries look at. They are made once by each build
//! of the program and kept under the target folder, so that a runner which starts a process per
//! test (cargo nextest) makes them once too.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use universal_neurons::error::{Kind, Result};
use universal_neurons::store::digest_file;

const PROGRAM: &str = env!("CARGO_BIN_EXE_universal-neurons");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the folder of a run of `experiments/desk-universality.yaml`, which has a folder with a run
/// of each of some specs, named after its kind. What there is none of is made.
///
/// # Errors
/// Returns an error if the program cannot be read.
pub fn with_experiments(specs: &[(&str, &str)]) -> Result<PathBuf> {
    let runs = Runs::lock()?;
    let study = runs.study();
    let is_missing = |(name, spec): &&(&str, &str)| {
        let inputs = [Path::new(ROOT).join(spec), study.join("provenance.json")];
        !is_newer(&study.join(name), &inputs)
    };
    let missing: Vec<_> = specs.iter().filter(is_missing).collect();
    let next = AtomicUsize::new(0);
    let run_next = || {
        while let Some((name, spec)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(&[spec, "--universal", study.to_str().expect("UTF-8")], &study.join(name));
        }
    };
    // Two at a time: a run leaves cores idle while it loads models, tokenises and writes files.
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(run_next))));
    Ok(study)
}

/// The runs of this build, which no other process changes meanwhile.
struct Runs {
    folder: PathBuf,
    _lock: File,
}

impl Runs {
    fn lock() -> Result<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = digest_file(Kind::Store, Path::new(PROGRAM))?;
        let lock = File::create(root.join("desk.lock")).expect("the target folder is writable");
        lock.lock().expect("the lock can be taken");
        Ok(Self { folder: root.join(format!("desk-{}", &program[..16])), _lock: lock })
    }

    fn study(&self) -> PathBuf {
        let experiments = Path::new(ROOT).join("experiments");
        let weights = ["a", "b", "c", "d", "e"].map(|m| format!("desk/{m}/model.safetensors"));
        let others = ["desk-universality.yaml", "desk/corpus.jsonl", "families/token-tests.yaml"];
        let inputs = weights.into_iter().chain(others.map(String::from));
        let inputs: Vec<PathBuf> = inputs.map(|file| experiments.join(file)).collect();
        if !is_newer(&self.folder, &inputs) {
            // A study would keep the experiments of an earlier one.
            let _ = std::fs::remove_dir_all(&self.folder);
            run(&[], &self.folder);
        }
        self.folder.clone()
    }
}

fn run(arguments: &[&str], out: &Path) {
    let mut command = Command::new(PROGRAM);
    command.current_dir(ROOT).arg("run").args(arguments).arg("--quiet").arg("--out").arg(out);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a run is whole and was made after the last change of its inputs.
fn is_newer(run: &Path, inputs: &[PathBuf]) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified());
    let Ok(run) = modified(&run.join("provenance.json")) else { return false };
    inputs.iter().all(|path| modified(path).is_ok_and(|time| time <= run))
}
