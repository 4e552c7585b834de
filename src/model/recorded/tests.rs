use proptest::prelude::*;
use safetensors::serialize_to_file;
use safetensors::tensor::TensorView;

use super::*;

/// A tensor of a file: name, type, shape, bytes.
type Part<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Returns a file of safetensors.
fn file(parts: &[Part]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().expect("file");
    let view = |(name, dtype, shape, bytes)| {
        (name, TensorView::new(dtype, shape, bytes).expect("it fits"))
    };
    let views = parts.iter().map(|(name, dtype, shape, bytes)| {
        view((name.to_owned(), *dtype, shape.clone(), bytes.as_slice()))
    });
    serialize_to_file(views, None, file.path()).expect("write");
    file
}

fn dense(name: &str, shape: [usize; 2]) -> Part<'_> {
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| i as f32).collect();
    (name, Dtype::F32, shape.to_vec(), f32s(&values))
}

/// Collects the activations of both sites.
fn read(recording: &Recording, rows: &[&[u32]]) -> Vec<(HookPoint, Vec<f32>)> {
    let mut all = Vec::new();
    let mut hooks = |point, values: &mut [f32], _: usize| all.push((point, values.to_vec()));
    recording.forward(rows, &mut hooks).expect("read");
    all
}

#[test]
fn tokens_are_looked_up_by_their_indices() {
    let file = file(&[
        dense("blocks.0.mlp.hook_post", [4, 2]),
        ("blocks.0.mlp.hook_pre", Dtype::F32, vec![4, 2], f32s(&[9.0; 8])),
        dense("blocks.1.mlp.hook_post", [4, 2]),
        dense("blocks.1.hook_resid_post", [4, 3]),
    ]);
    let recording = Recording::open(file.path()).expect("opened");
    assert_eq!((recording.tokens(), recording.config().n_layers), (4, 2));
    let found = read(&recording, &[&[3], &[0, 1]]);
    let values: Vec<&[f32]> = found.iter().map(|(_, values)| &values[..]).collect();
    let post = [6.0, 7.0, 0.0, 1.0, 2.0, 3.0];
    assert_eq!(values, [&[9.0; 6][..], &post, &post, &post], "no pre-activations of layer 1");
    let sites: Vec<(usize, Site)> = found.iter().map(|(at, _)| (at.layer, at.site)).collect();
    let pre_and_post = |layer| [(layer, Site::MlpPre), (layer, Site::MlpPost)];
    assert_eq!(sites, [pre_and_post(0), pre_and_post(1)].concat());
}

#[test]
fn rows_of_positions_are_read_as_tokens() {
    let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let file = file(&[("layers.0", Dtype::F32, vec![2, 3, 2], f32s(&values))]);
    let recording = Recording::open(file.path()).expect("opened");
    assert_eq!((recording.tokens(), recording.row()), (6, Some(3)));
    assert_eq!(read(&recording, &[&[4]])[1].1, [8.0, 9.0]);
}

/// A matrix of 3 tokens and 4 units in compressed rows.
fn csr(indptr: &[i64], indices: &[i64], shape: [i64; 2]) -> [Part<'static>; 4] {
    let values: Vec<f32> = (1..=indices.len()).map(|i| i as f32).collect();
    [
        ("layers.0.indptr", Dtype::I64, vec![indptr.len()], i64s(indptr)),
        ("layers.0.indices", Dtype::I64, vec![indices.len()], i64s(indices)),
        ("layers.0.values", Dtype::F32, vec![indices.len()], f32s(&values)),
        ("layers.0.shape", Dtype::I64, vec![2], i64s(&shape)),
    ]
}

#[test]
fn compressed_rows_are_read_with_and_without_their_zeros() {
    let file = file(&csr(&[0, 2, 2, 3], &[3, 1, 0], [3, 4]));
    let recording = Recording::open(file.path()).expect("opened");
    assert_eq!(recording.sparse_entries(), Some(3));
    let entries = recording.entries(0, &[0, 1, 2]).expect("read");
    assert_eq!(entries, [vec![(1, 2.0), (3, 1.0)], vec![], vec![(0, 3.0)]]);
    assert_eq!(recording.entries(0, &[2]).expect("read"), [vec![(0, 3.0)]]);
    let filled = &read(&recording, &[&[2, 0]])[0].1;
    assert_eq!(filled, &[3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0]);
}

#[test]
fn damaged_compressed_rows_are_refused() {
    for (indptr, indices, says) in [
        (&[0, 2, 1, 3][..], &[3, 1, 0][..], "does not ascend"),
        (&[0, 2, 2, 9], &[3, 1, 0], "does not ascend"),
        (&[-1, 2, 2, 3], &[3, 1, 0], "does not ascend"),
        (&[0, 2, 2, 3], &[3, 3, 0], "unit 3 twice"),
        (&[0, 2, 2, 3], &[3, 4, 0], "below 4"),
        (&[0, 2, 2, 3], &[3, -1, 0], "below 4"),
    ] {
        let file = file(&csr(indptr, indices, [3, 4]));
        let recording = Recording::open(file.path()).expect("opened");
        let error = recording.entries(0, &[0, 1, 2]).expect_err(says);
        assert!(error.problem.contains(says), "{error}");
    }
    for (shape, says) in [
        ([4, 4], "expected [5]"),
        ([-1, 4], "two integers"),
        ([3, 0], "two integers"),
        ([i64::MAX, 4], "two integers"),
    ] {
        let file = file(&csr(&[0, 2, 2, 3], &[3, 1, 0], shape));
        let error = Recording::open(file.path()).expect_err(says);
        assert!(error.problem.contains(says), "{error}");
    }
}

#[test]
fn what_is_no_recording_is_refused_with_the_tensor() {
    let shape = [3, 2];
    for (parts, named, says) in [
        (vec![dense("layers.0", shape), dense("laers.1", shape)], "laers.1", "not the name"),
        (vec![dense("wte", shape), dense("wpe", shape)], "wpe", "not the name"),
        (vec![dense("layers.0", shape), dense("layers.2", shape)], "", "layer 1"),
        (vec![dense("layers.0", shape), dense("layer_0", shape)], "layers.0", "second tensor"),
        (vec![dense("layers.0", shape), dense("layers.1", [4, 2])], "layers.1", "[4, 2]"),
        (vec![dense("layers.0", shape), dense("layers.1", [3, 3])], "layers.1", "one width"),
        (vec![dense("blocks.0.hook_resid_pre", shape)], "", "0 layers"),
        (vec![("layers.0", Dtype::I64, vec![1, 1], i64s(&[1]))], "layers.0", "I64"),
        (vec![("layers.0", Dtype::F32, vec![2], f32s(&[1.0; 2]))], "layers.0", "[2]"),
        (vec![("layers.0", Dtype::F32, vec![0, 2], vec![])], "layers.0", "[0, 2]"),
    ] {
        let error = Recording::open(file(&parts).path()).expect_err(says);
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(named), "{says}: {text}");
    }
}

#[test]
fn tensors_of_tokens_have_one_value_each() {
    let layer = || dense("layers.0", [3, 2]);
    let open = |part: Part| Recording::open(file(&[layer(), part]).path()).expect("opened");
    let mask = open(("mask", Dtype::BOOL, vec![3], vec![1, 0, 1])).mask();
    assert_eq!(mask.expect("read"), Some(vec![true, false, true]));
    let documents = open(("documents", Dtype::I64, vec![3], i64s(&[5, 5, 6]))).documents();
    assert_eq!(documents.expect("read"), Some(vec![5, 5, 6]));
    let long = open(("mask", Dtype::BOOL, vec![4], vec![1; 4])).mask().expect_err("longer");
    assert!(long.problem.contains("each of 3 tokens"), "{long}");
    let floats = open(("documents", Dtype::F32, vec![3], f32s(&[1.0; 3]))).documents();
    assert!(floats.expect_err("no integers").problem.contains("F32"));
}

/// Returns a Parquet file with columns of the types in a schema, each with the values of `column`. Rows
/// are in groups of at most 300.
fn table(schema: &str, rows: usize, value: impl Fn(usize, usize) -> Option<f64>) -> Vec<u8> {
    use ::parquet::data_type::{DoubleType, FloatType, Int32Type};
    use ::parquet::file::writer::SerializedFileWriter;
    let schema = ::parquet::schema::parser::parse_message_type(schema).expect("schema");
    let mut bytes = Vec::new();
    let writer = SerializedFileWriter::new(&mut bytes, schema.into(), Default::default());
    let mut writer = writer.expect("writer");
    for first in (0..rows).step_by(300) {
        let group = first..rows.min(first + 300);
        let mut out = writer.next_row_group().expect("group");
        let mut column = 0;
        while let Some(mut writer) = out.next_column().expect("column") {
            let cells: Vec<Option<f64>> = group.clone().map(|row| value(row, column)).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
            let values = cells.iter().flatten().copied();
            let levels = Some(&levels[..]);
            use ::parquet::column::writer::ColumnWriter as W;
            match writer.untyped() {
                W::FloatColumnWriter(_) => {
                    let values: Vec<f32> = values.map(|v| v as f32).collect();
                    writer.typed::<FloatType>().write_batch(&values, levels, None)
                }
                W::DoubleColumnWriter(_) => {
                    let values: Vec<f64> = values.collect();
                    writer.typed::<DoubleType>().write_batch(&values, levels, None)
                }
                _ => {
                    let values: Vec<i32> = values.map(|v| v as i32).collect();
                    writer.typed::<Int32Type>().write_batch(&values, levels, None)
                }
            }
            .expect("values");
            writer.close().expect("closed");
            column += 1;
        }
        out.close().expect("closed");
    }
    writer.close().expect("closed");
    bytes
}

#[test]
fn columns_of_parquet_are_units() {
    let folder = tempfile::tempdir().expect("folder");
    let value = |row: usize, column: usize| (row * 10 + column) as f64 + 0.5;
    let open = |schema: &str, name: &str, value: &dyn Fn(usize, usize) -> Option<f64>| {
        let path = folder.path().join(name);
        std::fs::write(&path, table(schema, 700, value)).expect("write");
        Recording::open(&path)
    };
    let schema = "message m { required float a; optional double b; required float c; }";
    let recording = open(schema, "layer_0.parquet", &|row, column| Some(value(row, column)));
    let recording = recording.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((recording.tokens(), recording.config().d_mlp()), (700, 3));
    let ids: Vec<u32> = (0..700).collect();
    let expected: Vec<f32> = (0..2100).map(|cell| value(cell / 3, cell % 3) as f32).collect();
    assert_eq!(read(&recording, &[&ids])[1].1, expected);
    let some = |row: usize, column: usize| (row != 650).then(|| value(row, column));
    let error = open("message m { optional float a; }", "x.parquet", &some).expect_err("a null");
    assert!(error.problem.contains("nulls"), "{error}");
    let all = |row: usize, column: usize| Some(value(row, column));
    let error = open("message m { required int32 a; }", "x.parquet", &all).expect_err("integers");
    assert!(error.problem.contains("column `a` holds no f32"), "{error}");
    std::fs::write(folder.path().join("x.parquet"), "PAR1").expect("write");
    let error = Recording::open(&folder.path().join("x.parquet")).expect_err("damaged");
    assert!(error.problem.contains("Parquet"), "{error}");
}

/// Reads everything that a recording holds, if it can be opened.
fn read_all(path: &Path) {
    let Ok(recording) = Recording::open(path) else { return };
    let layers = recording.config().n_layers;
    let _ = (recording.mask(), recording.documents(), recording.token_ids());
    // What is damaged may say that it has more tokens than fit into memory.
    let tokens: Vec<u32> = (0..recording.tokens().min(64) as u32).collect();
    if recording.sparse_entries().is_some() {
        let _ = (0..layers).map(|layer| recording.entries(layer, &tokens)).collect::<Vec<_>>();
    }
    if recording.config().d_mlp() < 4096 {
        let mut hooks = |_: HookPoint, _: &mut [f32], _: usize| ();
        let _ = recording.forward(&[&tokens], &mut hooks);
    }
}

proptest! {
    /// Files of every format with bytes that were changed, cut off or added: they are read or refused.
    #[test]
    fn damaged_files_are_read_or_refused(
        format in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in prop::option::of(any::<prop::sample::Index>()),
        more in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let tokens = ("tokens", Dtype::I64, vec![3], i64s(&[5, 5, 6]));
        let header = b"\x93NUMPY\x01\0\x3a\0{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)}\n";
        let (suffix, mut bytes) = match format {
            0 => {
                let parts = [dense("layers.0", [3, 2]), dense("layers.1", [3, 2]), tokens];
                (".safetensors", std::fs::read(file(&parts).path()).expect("read"))
            }
            1 => {
                let parts = csr(&[0, 2, 2, 3], &[3, 1, 0], [3, 4]);
                (".safetensors", std::fs::read(file(&parts).path()).expect("read"))
            }
            2 => (".npy", [&header[..], &f32s(&[1.0; 6])].concat()),
            _ => {
                let columns = "message schema { REQUIRED FLOAT a; REQUIRED DOUBLE b; }";
                (".parquet", table(columns, 3, |row, column| Some((row + column) as f64)))
            }
        };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        keep.into_iter().for_each(|keep| bytes.truncate(keep.index(bytes.len()) + 1));
        bytes.extend(more);
        let damaged = tempfile::Builder::new().suffix(suffix).tempfile().expect("file");
        std::fs::write(damaged.path(), bytes).expect("write");
        read_all(damaged.path());
    }
}
