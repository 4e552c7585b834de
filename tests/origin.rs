//! Runs are evidence about a model only if the digests of their weights say so: names, folders and
//! shapes do not.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use universal_neurons::claims::ledger::Verdict;
use universal_neurons::claims::{Claims, Evidence, Evidences, Ledger, Tier, registry};
use universal_neurons::correlation::Layout;
use universal_neurons::record::StudyRecord;
use universal_neurons::table::{Column, NeuronId, Table};

use crate::desk_run;
use crate::support::{program, run, stderr};

/// A copy of the run of the bundled models.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let study = desk_run::with_experiments(&[]).expect("a run");
        let folder = tempfile::tempdir().expect("folder");
        for entry in std::fs::read_dir(study).expect("files") {
            let file = entry.expect("entry").path();
            if file.is_file() {
                let name = file.file_name().expect("a name");
                std::fs::copy(&file, folder.path().join(name)).expect("copy");
            }
        }
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    /// Changes a file of JSON of the copy.
    fn change(self, name: &str, change: impl Fn(&mut Value)) -> Self {
        let path = self.path().join(name);
        let text = std::fs::read_to_string(&path).expect("read");
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut value);
        std::fs::write(path, value.to_string()).expect("write");
        self
    }

    /// Changes the digest of the weights of a model.
    fn with_weights(self, model: &str, change: impl Fn(&str) -> String) -> Self {
        self.change("provenance.json", |provenance| {
            let models = provenance["models"].as_array_mut().expect("models");
            let model = models.iter_mut().find(|m| m["name"] == model).expect("the model");
            model["weights_sha256"] =
                change(model["weights_sha256"].as_str().expect("text")).into();
        })
    }

    /// Gives the reference another name.
    fn called(self, name: &str) -> Self {
        let renamed = |value: &mut Value| {
            let text = value.to_string();
            let named = |key: &str, name: &str| format!("\"{key}\":\"{name}\"");
            let text = text.replace(&named("reference", "a"), &named("reference", name));
            *value = serde_json::from_str(&text.replace(&named("name", "a"), &named("name", name)))
                .expect("JSON");
        };
        self.change("summary.json", renamed).change("provenance.json", renamed)
    }

    /// Judges all claims; returns the kind of evidence and the ledger.
    fn judged(&self) -> (Tier, Ledger) {
        let study = StudyRecord::read(&self.path()).expect("a study");
        let evidence = Evidence::of_study(&self.path(), &study).expect("evidence");
        let found = Evidences::of_run(evidence, &study.summary.reference).expect("models");
        let (evidences, tier) = found.expect("a known shape");
        let claims = registry().expect("claims");
        (tier, Ledger::judge(&claims, Some(tier), &evidences).expect("judged"))
    }
}

fn reasons(ledger: &Ledger) -> Vec<Option<&str>> {
    let judged = ledger.entries.iter().filter(|e| e.was_run());
    judged.map(|e| e.unknown_origin.as_deref()).collect()
}

fn verdicts(ledger: &Ledger) -> Vec<&Verdict> {
    ledger.entries.iter().map(|e| &e.verdict).collect()
}

/// Flips the last bit of a digest, as one flipped bit of the weights would change all of it.
fn flipped(digest: &str) -> String {
    let last = digest.len() - 1;
    let digit = u8::from_str_radix(&digest[last..], 16).expect("a digit");
    format!("{}{:x}", &digest[..last], digit ^ 1)
}

#[test]
fn a_run_of_the_bundled_models_is_evidence_under_any_name() {
    let plain = Copy::new();
    let (tier, ledger) = plain.judged();
    assert_eq!(tier, Tier::Desk);
    assert!(reasons(&ledger).len() > 15 && reasons(&ledger).iter().all(Option::is_none));
    assert!(ledger.entries.iter().all(|e| e.about == "on the bundled models"));
    for name in ["first", "desk-b", "stanford-gpt2-small-a", "pythia-160m"] {
        let (tier, renamed) = Copy::new().called(name).judged();
        assert_eq!(tier, Tier::Desk, "{name}");
        assert_eq!(verdicts(&renamed), verdicts(&ledger), "{name}");
        assert!(reasons(&renamed).iter().all(Option::is_none), "{name}");
    }
}

/// The digests of the weights decide what a run is evidence about; the names of the models do not.
/// No verdict is recorded for other weights than those of the bundled models.
#[test]
fn a_run_on_other_weights_is_of_unknown_origin() {
    let other_seed = "4959bfe3548bef766f6d1f7e5271ec220400751272ec7535c7fb79bd8e8fd4f4";
    let twice = |_: &str| other_seed.to_owned();
    for (what, copy, says) in [
        ("one bit of the reference", Copy::new().with_weights("a", flipped), "have the SHA-256"),
        ("one bit of a partner", Copy::new().with_weights("d", flipped), "which is of none of"),
        (
            "b under a's name",
            Copy::new().with_weights("a", twice),
            "those of desk-b, not of desk-a",
        ),
        ("b twice", Copy::new().with_weights("e", twice), "desk-b was compared with twice"),
        ("a step of training", Copy::new().with_weights("a", |_| "0".repeat(64)), "SHA-256 000"),
        (
            "no digests",
            Copy::new().change("provenance.json", |p| p["models"] = json!([])),
            "does not record the digests",
        ),
    ] {
        let (tier, ledger) = copy.judged();
        assert_eq!(tier, Tier::Desk, "{what}");
        assert!(reasons(&ledger).len() > 15, "{what}: claims are still judged");
        for entry in ledger.entries.iter().filter(|e| e.was_run()) {
            let reason = entry.unknown_origin.as_deref().unwrap_or_else(|| panic!("{what}"));
            assert!(reason.contains(says), "{what}: {reason}");
            assert_eq!(entry.about, "on weights of unknown origin", "{what}");
            assert_eq!((entry.as_recorded(), &entry.finding), (None, &None), "{what}");
            assert!(entry.claim.starts_with("Asked of other weights"), "{what}: {}", entry.claim);
        }
        assert!(!ledger.fails(false), "{what}: nothing is recorded of these weights");
        assert_eq!(ledger.counts(false)[..4], [0; 4], "{what}");
        let required = ledger.missing(&["desk".into()]).expect("a tier");
        assert!(required.is_some(), "{what}: a tier that was judged on other weights only");
    }
}

/// A model is not the paper's because it has its name and shape.
#[test]
fn a_table_under_the_name_of_a_papers_model_is_of_unknown_origin() {
    for (model, layout) in [
        ("stanford-gpt2-small-a", Layout { n_layers: 12, d_mlp: 3072 }),
        ("stanford-gpt2-medium-a", Layout { n_layers: 24, d_mlp: 4096 }),
        ("pythia-160m", Layout { n_layers: 12, d_mlp: 3072 }),
    ] {
        let mut table = Table::new();
        for i in 0..layout.n_neurons() {
            table.push(NeuronId::of(i, layout.d_mlp), [0.6; Column::ALL.len()]);
        }
        let claims = Claims::bundled().expect("claims");
        let ledger = claims.judge_table(model, layout, table).expect("judged").expect("a shape");
        let judged: Vec<_> = ledger.entries.iter().filter(|e| e.was_run()).collect();
        assert!(!judged.is_empty() && judged.iter().all(|e| e.tier == "weights"), "{model}");
        for entry in judged {
            assert_eq!(entry.about, "on weights of unknown origin", "{model}: {}", entry.id);
        }
        assert!(ledger.missing(&["weights".into()]).expect("a tier").is_some(), "{model}");
    }
}

/// Figures of another kind of experiment are evidence by the weights of their own run.
#[test]
fn every_experiment_is_judged_by_its_own_weights() {
    let study = Copy::new();
    let folder = study.path();
    let add = |kind: &str, figure: &str, change: &dyn Fn(&mut Value)| {
        let inner = folder.join(kind);
        std::fs::create_dir_all(&inner).expect("folder");
        let text = std::fs::read_to_string(folder.join("provenance.json")).expect("read");
        let mut provenance: Value = serde_json::from_str(&text).expect("JSON");
        provenance["spec"]["kind"] = kind.into();
        change(&mut provenance);
        std::fs::write(inner.join("provenance.json"), provenance.to_string()).expect("write");
        let figures = json!({ "schema": 1, "experiment": kind, "figures": { figure: [1.0, 2.0] } });
        std::fs::write(inner.join("figures.json"), figures.to_string()).expect("write");
    };
    let own = "9030a044e2a55e94200caab9cb8768d49123564cc5c977a5dd42a408f78de752";
    let reason = |id: &str| {
        let (_, ledger) = study.judged();
        let entry = ledger.entries.iter().find(|e| e.id == id).expect("judged").clone();
        entry.was_run().then_some(entry.unknown_origin)
    };
    add("split-half", "split-half", &|_| {});
    assert_eq!(reason("note.split-half"), Some(None));
    add("split-half", "split-half", &|p| p["models"][0]["weights_sha256"] = flipped(own).into());
    assert!(reason("note.split-half").expect("judged").expect("unknown").contains("have"));
    std::fs::remove_file(folder.join("split-half/provenance.json")).expect("removed");
    assert!(reason("note.split-half").expect("judged").expect("unknown").contains("not record"));
    assert_eq!(reason("signature.skew"), Some(None), "the study itself is what it was");
}

/// `verify` and the page say of whose weights a verdict is; a required tier is not satisfied.
#[test]
fn commands_show_whose_weights_were_judged() {
    let copy = Copy::new().with_weights("a", flipped);
    let folder = copy.path();
    let shown = folder.to_str().expect("UTF-8");
    let verify = |more: &[&str]| {
        let output = run(Path::new("."), &[&["verify", "--run", shown], more].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text, stderr(&output))
    };
    let (code, text, error) = verify(&[]);
    assert_eq!(code, Some(0), "{error}");
    for part in ["[unknown origin, not desk-a]", "on weights of unknown origin", "0 hold, 0 contr"]
    {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert!(!text.contains("on the bundled models"), "{text}");
    assert_eq!(verify(&["--strict"]).0, Some(1), "some claim fails on these weights");
    let (code, _, error) = verify(&["--require", "signature.skew"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("judged only on weights of unknown origin"), "{error}");
    let page = folder.join("page.html");
    let mut command =
        program(Path::new("."), &["report", shown, "--out", page.to_str().expect("UTF-8")]);
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("on weights of unknown origin") && page.contains("no model of a paper"));
    let judged = page.matches(r#"<span class="about">on weights of unknown origin</span>"#).count();
    assert!(judged > 15, "{judged} verdicts");
}
