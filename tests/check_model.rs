//! `check-model`: a model against its f64 twin and against activations that another program
//! exported.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use tempfile::TempDir;
use universal_neurons::Transformer;
use universal_neurons::model::check::random_tokens;
use universal_neurons::model::twin;

use crate::device;
use crate::support::{path, run, stderr};

/// Writes tensors of f32, and `tokens`, as another program would.
fn export(file: &Path, tokens: &[i64], tensors: &[(String, Vec<usize>, Vec<f32>)]) {
    let ids: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    let ids = TensorView::new(Dtype::I64, vec![1, tokens.len()], &ids).expect("a tensor");
    serialize_to_file(views.chain([("tokens", ids)]), None, file).expect("written");
}

/// What a program with batches exports of the twin: hooks and logits `[1, tokens, width]`.
fn exported(model: &Transformer, ids: &[u32]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let tensor = |name: String, values: &[Vec<f64>]| {
        let flat = values.iter().flatten().map(|&v| v as f32).collect();
        (name, vec![1, values.len(), values[0].len()], flat)
    };
    let mut tensors = Vec::new();
    let logits = twin::logits(&model.config, &model.weights, ids, &mut |point, values| {
        tensors.push(tensor(point.to_string(), values));
    });
    tensors.push(tensor("logits".into(), &logits));
    tensors
}

#[test]
fn bundled_and_random_models_are_exact() {
    let folder = TempDir::new().expect("folder");
    device::family(folder.path());
    let random = folder.path().join("a");
    for model in ["experiments/desk/a", "expected/golden/neox"].map(path).iter().chain([&random]) {
        let done = run(folder.path(), &["check-model", &model.display().to_string()]);
        let printed = String::from_utf8(done.stdout.clone()).expect("UTF-8");
        assert_eq!(done.status.code(), Some(0), "{printed}{}", stderr(&done));
        assert!(printed.contains("blocks.1.mlp.hook_post") && printed.contains("all within"));
    }
}

#[test]
fn an_export_is_compared_and_a_wrong_one_is_found() {
    let folder = TempDir::new().expect("folder");
    device::family(folder.path());
    let model = Transformer::load(&folder.path().join("a")).unwrap_or_else(|e| panic!("{e}"));
    let ids = random_tokens(&model.config);
    let tokens: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    let mut tensors = exported(&model, &ids);
    let file = folder.path().join("golden.safetensors");
    export(&file, &tokens, &tensors);
    let check = |more: &[&str]| {
        let arguments = [&["check-model", "a", "--against", "golden.safetensors"], more].concat();
        let done = run(folder.path(), &arguments);
        let printed = String::from_utf8(done.stdout.clone()).expect("UTF-8");
        (done.status.code(), printed + &stderr(&done))
    };
    let (code, printed) = check(&[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("f64 twin") && printed.contains("logits"), "{printed}");
    let wrong = tensors.iter().position(|t| t.0 == "blocks.1.mlp.hook_pre").expect("a hook");
    tensors[wrong].2[5] += 1.0;
    export(&file, &tokens, &tensors);
    let (code, printed) = check(&[]);
    assert_eq!(code, Some(1), "{printed}");
    let marked: Vec<&str> =
        printed.lines().filter(|l| l.starts_with("blocks") && l.contains('!')).collect();
    assert!(marked.len() == 1 && marked[0].starts_with("blocks.1.mlp.hook_pre"), "{printed}");
    assert_eq!(check(&["--tolerance", "1"]).0, Some(0));

    tensors[wrong].1 = vec![1, 2, tensors[wrong].2.len() / 2];
    export(&file, &tokens, &tensors);
    let (code, printed) = check(&[]);
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("blocks.1.mlp.hook_pre") && printed.contains("shape"), "{printed}");
    export(&file, &[5, 4000], &exported(&model, &ids));
    assert!(check(&[]).1.contains("has the id 4000"), "{:?}", check(&[]));
    export(&file, &tokens, &[]);
    assert!(check(&[]).1.contains("no hook or logits"), "{:?}", check(&[]));
    std::fs::write(&file, "x").expect("write");
    assert!(check(&[]).1.contains("not a file of safetensors"), "{:?}", check(&[]));
}
