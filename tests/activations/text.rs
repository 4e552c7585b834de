//! Recorded activations whose tokens have text: cards.

use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    CHEAP, Desk, Exported, NO_INTERVALS, PERMUTED, floats, made_up, members, refused_in, run_in,
    spec, table, with_tokenizer, write,
};
use crate::support::{path, run, stderr};

/// Reads the cards of a run.
fn cards(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("cards.json")).expect("cards");
    serde_json::from_str(&text).expect("JSON")
}

/// Returns what a card says of activations that does not depend on where rows end, and on weights.
fn said(card: &Value) -> Value {
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let mut explanations = list(&card["explanations"]);
    // The positions of recorded tokens are not known.
    explanations.retain(|e| e["family"] != "position");
    let strongest = &card["contexts"][0];
    let at = strongest["at"].as_u64().expect("a place") as usize;
    let matches: Vec<Value> = list(&card["matches"]);
    let of_match = |m: &Value| [m["neuron"].clone(), m["rank"].clone(), m["joint"].clone()];
    serde_json::json!({
        "neuron": card["neuron"],
        "strongest": strongest["values"][at],
        "explanations": explanations,
        "histogram": card["histogram"],
        "matches": matches.iter().map(of_match).collect::<Vec<_>>(),
    })
}

/// Returns the token on which the neuron of a card is strongest.
fn strongest(card: &Value) -> &Value {
    let context = &card["contexts"][0];
    &context["tokens"][context["at"].as_u64().expect("a place") as usize]
}

#[test]
fn with_a_tokenizer_the_cards_of_exported_models_are_those_of_the_models() {
    let tests = path("experiments/families/token-tests.yaml");
    let few = format!("cards: {{ neurons: 3, tests: '{}' }}\n", tests.display());
    let settings = format!("{CHEAP}{few}{NO_INTERVALS}");
    let desk = Desk::new(12, &settings);
    let tokenizer = path("experiments/desk/a");
    let exported = desk.run_exported_of(Dtype::F32, "exported", &settings, Some(&tokenizer));
    let [models, exported] = [desk.run("models.yaml"), exported].map(|run| cards(&run));
    let [models, exported] =
        [&models, &exported].map(|cards| cards["cards"].as_array().expect("cards"));
    assert!(models.len() > 3 && models.len() == exported.len());
    let mut same_token = 0;
    for (model, recorded) in models.iter().zip(exported) {
        let (model_said, mut recorded_said) = (said(model), said(recorded));
        // Where a position is among the best three, recorded tokens have another test in its place.
        let n = model_said["explanations"].as_array().expect("a list").len();
        recorded_said["explanations"].as_array_mut().expect("a list").truncate(n);
        assert_eq!(model_said, recorded_said);
        assert!(recorded["promoted"].as_array().expect("a list").is_empty(), "it has no weights");
        same_token += usize::from(strongest(model) == strongest(recorded));
    }
    // A character that the end of a row divides is shown as its bytes.
    assert!(same_token + 1 >= models.len(), "{same_token} of {}", models.len());
}

/// Writes two members of a few tokens with ids of the tokenizer of a tiny model.
fn two_members(folder: &Path, ids: &[i64]) -> String {
    let n = ids.len();
    let tokens: Exported =
        ("tokens".into(), Dtype::I64, vec![n], ids.iter().flat_map(|i| i.to_le_bytes()).collect());
    for (seed, name) in ["a", "b"].iter().enumerate() {
        let values = floats(&made_up(n, 4, seed), Dtype::F32);
        let layer: Exported = ("layers.0".into(), Dtype::F32, vec![n, 4], values);
        let all: Vec<Exported> = match seed {
            0 => vec![layer, tokens.clone()],
            _ => vec![layer],
        };
        write(&folder.join(format!("{name}.safetensors")), &all);
    }
    members(&[("a", Path::new("a.safetensors")), ("b", Path::new("b.safetensors"))])
}

#[test]
fn every_unit_can_be_inspected_and_exported_with_its_tokens() {
    let folder = TempDir::new().expect("folder");
    let ids: Vec<i64> = (0..60).map(|i| i % 31).collect();
    let both = two_members(folder.path(), &ids);
    let spec = with_tokenizer(&spec(&both, PERMUTED), &path("expected/golden/tiny"));
    let made = run_in(folder.path(), "made", &spec);
    assert!(!cards(&made)["cards"].as_array().expect("cards").is_empty());
    let inspected = run(folder.path(), &["inspect", "L0.N1", "--run", "made"]);
    assert!(inspected.status.success(), "{}", stderr(&inspected));
    let shown = String::from_utf8_lossy(&inspected.stdout);
    assert!(shown.contains("L0.N1") && !shown.contains("promotes"), "{shown}");
    let out = ["activations", "L0.N1", "--spec", "made.yaml", "--out", "one.safetensors"];
    let done = run(folder.path(), &out);
    assert!(done.status.success(), "{}", stderr(&done));
    let bytes = std::fs::read(folder.path().join("one.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let exported = tensors.tensor("token").expect("tokens").data().as_chunks::<8>().0.to_vec();
    assert_eq!(exported.into_iter().map(i64::from_le_bytes).collect::<Vec<_>>(), ids);
}

#[test]
fn a_tokenizer_without_its_tokens_is_refused() {
    let folder = TempDir::new().expect("folder");
    let tiny = path("expected/golden/tiny");
    let of = |ids: &[i64]| with_tokenizer(&spec(&two_members(folder.path(), ids), PERMUTED), &tiny);
    for (ids, says) in [([1, 2, 1 << 40], "holds 1099511627776"), ([1, -1, 2], "holds -1")] {
        let message = refused_in(folder.path(), &of(&ids.repeat(20)));
        assert!(message.contains(says) && message.contains("help: "), "{message}");
    }
    let whole = of(&[1; 60]);
    let values = floats(&made_up(60, 4, 9), Dtype::F32);
    write(&folder.path().join("a.safetensors"), &[("0".into(), Dtype::F32, vec![60, 4], values)]);
    let message = refused_in(folder.path(), &whole);
    assert!(
        message.contains("models.tokenizer: no member") && message.contains("`tokens`"),
        "{message}"
    );
    let absent =
        with_tokenizer(&spec(&two_members(folder.path(), &[1; 60]), PERMUTED), Path::new("x"));
    assert!(refused_in(folder.path(), &absent).contains("tokenizer.json"));
}

/// Names are shown for models and recorded activations, with cards and without.
#[test]
fn names_of_units_are_shown_beside_their_places() {
    let folder = TempDir::new().expect("folder");
    let both = two_members(folder.path(), &[1; 60]);
    std::fs::write(
        folder.path().join("names.csv"),
        "layer,neuron,name\n0,1,\"dates, and \u{1b}[31mtimes\"\n0,3,<b>plurals</b>\n",
    )
    .expect("write");
    let named = both.replace("a.safetensors'", "a.safetensors', names: names.csv");
    let text = spec(&named, PERMUTED);
    let plain = run_in(folder.path(), "plain", &text);
    let extra = table(&plain, "neurons-extra.csv");
    assert_eq!(extra["name"], ["", "dates, and \u{1b}[31mtimes", "", "<b>plurals</b>"]);
    let provenance = std::fs::read_to_string(plain.join("provenance.json")).expect("provenance");
    assert!(provenance.contains("names.csv"), "{provenance}");
    let page = std::fs::read_to_string(plain.join("report.html")).expect("a page");
    assert!(!page.contains("<b>plurals"), "names are text");
    assert!(page.contains("Of the 4 units of model a") && !page.contains("The paper found"));
    run_in(folder.path(), "cards", &with_tokenizer(&text, &path("expected/golden/tiny")));
    let inspected = run(folder.path(), &["inspect", "L0.N1", "--run", "cards"]);
    let shown = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(shown.contains("L0.N1 “dates, and ") && !shown.contains('\u{1b}'), "{shown:?}");
    std::fs::write(folder.path().join("names.csv"), "layer,neuron,name\n0,4,x\n").expect("write");
    let message = refused_in(folder.path(), &text);
    assert!(
        message.contains("names.csv:2: ") && message.contains("the last one is 3"),
        "{message}"
    );
}
