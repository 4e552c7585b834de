//! `verify --claims`: claims of a user's own, judged on a run of the user's own; and
//! `inspect --model`, which shows a neuron of any model of that run.

use crate::support::{Bench, run, stderr};

/// A claim about the run's reference, in YAML.
fn claim(id: &str, measure: &str, judged: &str) -> String {
    format!(
        "- {{ id: {id}, statement: s, at: h, measure: {{ {measure} }}, judged: [{{ tier: run, because: b, {judged} }}] }}\n"
    )
}

/// A folder with a run of the reference `a` in `out`.
fn bench() -> Bench {
    let bench = Bench::new();
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "out"]);
    assert!(output.status.success(), "{}", stderr(&output));
    bench
}

/// Judges claims on the run; returns the exit code, and everything that was printed.
fn judge(bench: &Bench, claims: &str, more: &[&str]) -> (Option<i32>, String) {
    bench.write("mine.yaml", format!("source: mine\nclaims:\n{claims}"));
    let arguments = ["verify", "--claims", "mine.yaml", "--run", "out"];
    let output = run(bench.path(), &[&arguments, more].concat());
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output))
}

#[test]
fn claims_of_ones_own_are_judged_on_a_run() {
    let bench = bench();
    let share = |judged: &str| claim("mine.share", "name: universal-share", judged);
    for (judged, code, verdict) in [
        (
            "models: [a], above: -1",
            0,
            "holds         mine.share [run a], on the run that was named",
        ),
        ("models: [a], below: 0", 1, "fails         mine.share"),
        ("models: [a], below: 0, finding: f", 0, "finding: f"),
        ("models: [a], above: -1, finding: f", 1, "holds         mine.share"),
        ("models: [b], above: -1", 2, "no run of b"),
    ] {
        let (found, printed) = judge(&bench, &share(judged), &[]);
        assert_eq!(found, Some(code), "{judged}: {printed}");
        assert!(printed.contains(verdict), "{judged}: {printed}");
    }
    let both =
        share("models: [a], above: -1") + &claim("other", "awaits: x", "models: [a], above: 0");
    assert_eq!(judge(&bench, &both, &[]).0, Some(0), "what is not run is no failure");
    assert_eq!(judge(&bench, &both, &["--require", "other"]).0, Some(2));
    assert_eq!(judge(&bench, &both, &["--require", "mine.share"]).0, Some(0));
    let figure =
        claim("f", "experiment: families, figure: context-neurons", "models: [a], above: 0");
    let (code, printed) = judge(&bench, &figure, &[]);
    assert!(
        code == Some(2) && printed.contains("no run of the `families` experiment"),
        "{printed}"
    );
}

/// A run's own threshold says which neurons are universal.
#[test]
fn the_threshold_is_that_of_the_run() {
    let bench = bench();
    let spec = std::fs::read_to_string(bench.path().join("spec.yaml")).expect("the spec");
    let all = claim("all", "name: universal-share", "models: [a], above: 90");
    bench.write("mine.yaml", format!("source: mine\nclaims:\n{all}"));
    for (threshold, code) in [("-1", 0), ("1", 1)] {
        let key = format!("correlation: {{ threshold: {threshold}, ");
        bench.write("spec.yaml", spec.replace("correlation: { ", &key));
        let output = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "other"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let output = run(bench.path(), &["verify", "--claims", "mine.yaml", "--run", "other"]);
        assert_eq!(output.status.code(), Some(code), "{threshold}: {}", stderr(&output));
    }
}

#[test]
fn claims_files_that_cannot_be_judged_are_refused() {
    let bench = bench();
    let good = claim("mine", "name: universal-share", "models: [a], above: -1");
    for (claims, problem) in [
        (good.replace("above", "abvoe"), "unknown field"),
        (good.replace("share", "shear"), "unknown variant"),
        (good.replace("above: -1", ""), "exactly one of"),
        (good.replace("tier: run", "tier: published"), "no judgement of `tier: run`"),
        (good.clone() + &good, "used twice"),
        ("  []\n".into(), "no judgement of `tier: run`"),
        ("- {".into(), "mine.yaml"),
    ] {
        let (code, printed) = judge(&bench, &claims, &["--json", "ledger.json"]);
        assert_eq!(code, Some(2), "{claims}: {printed}");
        assert!(printed.contains(problem) && printed.contains("help: "), "{claims}: {printed}");
        assert!(!bench.path().join("ledger.json").exists(), "{claims}");
    }
    for arguments in [
        &["verify", "--claims", "nowhere.yaml", "--run", "out"][..],
        &["verify", "--claims", "mine.yaml", "--run", "nowhere"],
        &["verify", "--claims", "spec.yaml", "--run", "out"],
        &["verify", "--claims", "mine.yaml", "--run", "out", "--tier", "desk"],
    ] {
        bench.write("mine.yaml", format!("source: mine\nclaims:\n{good}"));
        assert_eq!(run(bench.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_neuron_of_a_model_that_is_not_there_is_refused() {
    let bench = bench();
    let inspect = |arguments: &[&str]| {
        let output = run(bench.path(), &[&["inspect", "--run", "out"], arguments].concat());
        (output.status.code(), stderr(&output))
    };
    let shown = run(bench.path(), &["inspect", "L0.N1", "--run", "out", "--model", "b"]);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && text.starts_with("L0.N1 of model b\n"), "{text}");
    assert!(text.contains("of model a") && text.contains("most active"), "{text}");
    for arguments in [
        &["L0.N1", "--model", "z"][..],
        &["L0.N1", "--model", "z", "--text", "x"],
        &["L0.N1", "--model", ""],
    ] {
        let (code, error) = inspect(arguments);
        assert!(code == Some(2) && error.contains("name one of a, b"), "{arguments:?}: {error}");
    }
    let (code, error) = inspect(&["L9.N1", "--model", "b"]);
    assert!(code == Some(2) && error.contains("L9.N1"), "{error}");
    // Another model under the same name.
    let weights = std::fs::read(bench.path().join("b/config.json")).expect("config");
    bench.write("b/config.json", [&weights[..], b"\n"].concat());
    let (code, error) = inspect(&["L0.N1", "--model", "b"]);
    assert!(code == Some(2) && error.contains("its model `b` is not"), "{error}");
}
