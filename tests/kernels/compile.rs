//! Checks that the committed PTX is what its source compiles to, and what an assembler makes of it.

use std::path::Path;
use std::process::Command;

use universal_neurons::backend::device::PtxModule;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns the output of `kernels/build`, or `None` after printing why it cannot run here.
fn build(option: &str) -> Option<String> {
    let script = Path::new(ROOT).join("kernels/build");
    let done = match Command::new("python3").arg(script).arg(option).output() {
        Ok(done) => done,
        Err(error) => {
            eprintln!("skipped: python3 cannot be started: {error}");
            return None;
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.code() == Some(3) {
        eprintln!("skipped: {}", text(&done.stderr));
        return None;
    }
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "kernels/build {option}: {out} {err}; run kernels/build");
    Some(out)
}

#[test]
fn ptx_is_what_its_source_compiles_to() {
    if let Some(said) = build("--check") {
        assert_eq!(said, "nothing is stale");
    }
}

#[test]
fn nothing_is_spilled_on_any_architecture() {
    let Some(report) = build("--assemble") else { return };
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let path = Path::new(ROOT).join("expected/kernels.json");
    let expected: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (kernel, of) in report.as_object().unwrap() {
        for (arch, used) in of.as_object().unwrap() {
            println!("{kernel} {arch}: {used}");
            assert_eq!(
                (&used["spilled"], &used["stack"]),
                (&0.into(), &0.into()),
                "{kernel} {arch}"
            );
            assert_eq!(used, &expected["kernels"][kernel][arch], "{kernel} {arch}: kernels.json");
        }
    }
}

/// Drivers of branch 550 read PTX 8.4; the GPU must have compute capability 8.0 or newer.
#[test]
fn ptx_is_old_enough() {
    for module in PtxModule::ALL {
        let ptx = module.ptx();
        let version = ptx.lines().find_map(|line| line.strip_prefix(".version ")).unwrap();
        let (major, minor) = version.split_once('.').unwrap();
        let version: (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
        assert!(version <= (8, 4), "{}: {version:?}", module.name());
        assert!(ptx.contains("\n.target sm_80\n"), "{}", module.name());
    }
}
