//! Rows of Parquet: codecs, encodings, fields, damage.

use std::sync::Arc;

use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use proptest::prelude::*;

use super::*;
use crate::corpus::rows::Cutter;
use crate::corpus::tokenizer::{TokenizerFor, load};

/// Rows of a text that may be null, a number, a set in a structure and a list.
fn parquet(texts: &[Option<&str>], properties: WriterProperties) -> Vec<u8> {
    let schema = "message m { optional binary text (UTF8); required int64 n;
        optional group meta { optional binary pile_set_name (UTF8); }
        optional group tags (LIST) { repeated group list { optional binary element (UTF8); } } }";
    let schema = Arc::new(parse_message_type(schema).expect("schema"));
    let mut bytes = Vec::new();
    let properties = Arc::new(properties);
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).expect("writer");
    for (first, part) in
        [(0, &texts[..texts.len() / 2]), (texts.len() / 2, &texts[texts.len() / 2..])]
    {
        let mut group = writer.next_row_group().expect("group");
        let given: Vec<i16> = part.iter().map(|text| i16::from(text.is_some())).collect();
        let values: Vec<ByteArray> =
            part.iter().flatten().map(|text| ByteArray::from(*text)).collect();
        let mut column = group.next_column().expect("column").expect("text");
        column.typed::<ByteArrayType>().write_batch(&values, Some(&given), None).expect("text");
        column.close().expect("closed");
        let numbers: Vec<i64> = (first..first + part.len()).map(|n| n as i64 + 7).collect();
        let mut column = group.next_column().expect("column").expect("n");
        column.typed::<Int64Type>().write_batch(&numbers, None, None).expect("n");
        column.close().expect("closed");
        let sets = vec![ByteArray::from("ArXiv"); part.len()];
        let mut column = group.next_column().expect("column").expect("set");
        column
            .typed::<ByteArrayType>()
            .write_batch(&sets, Some(&vec![2; part.len()]), None)
            .expect("set");
        column.close().expect("closed");
        let (none, zeros) = (vec![0; part.len()], vec![0; part.len()]);
        let mut column = group.next_column().expect("column").expect("tags");
        column.typed::<ByteArrayType>().write_batch(&[], Some(&none), Some(&zeros)).expect("tags");
        column.close().expect("closed");
        group.close().expect("closed");
    }
    writer.close().expect("closed");
    bytes
}

fn fields(text: &str, label: Option<&str>, id: Option<&str>) -> impl Fn(&mut Corpus) {
    let [label, id] = [label, id].map(|name| name.map(String::from));
    let fields = Fields { text: text.into(), label, id };
    move |corpus| corpus.fields = Some(fields.clone())
}

fn written(codec: Compression, dictionary: bool, version: WriterVersion) -> WriterProperties {
    let properties = WriterProperties::builder().set_compression(codec);
    properties.set_dictionary_enabled(dictionary).set_writer_version(version).build()
}

const TEXTS: [Option<&str>; 5] = [Some("one"), None, Some("two"), Some(" "), Some("one")];

#[test]
fn every_codec_gives_the_same_documents() {
    let gzip = Compression::GZIP(GzipLevel::default());
    let brotli = Compression::BROTLI(BrotliLevel::default());
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let plain = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4];
    for codec in plain.into_iter().chain([Compression::LZ4_RAW, gzip, brotli, zstd]) {
        for (dictionary, version) in [
            (true, WriterVersion::PARQUET_1_0),
            (false, WriterVersion::PARQUET_1_0),
            (true, WriterVersion::PARQUET_2_0),
        ] {
            let bytes = parquet(&TEXTS, written(codec, dictionary, version));
            for name in ["x.parquet", "X.PARQUET", "x.jsonl", "x"] {
                let change = fields("text", Some("meta.pile_set_name"), Some("n"));
                let read = documents(name, &bytes, change);
                let (all, empty) = read.unwrap_or_else(|e| panic!("{name} {codec:?}: {e}"));
                let told: Vec<[&str; 3]> =
                    all.iter().map(|s| [&*s.id, &*s.domain, &*s.text]).collect();
                let expected =
                    [["7", "ArXiv", "one"], ["9", "ArXiv", "two"], ["11", "ArXiv", "one"]];
                assert_eq!((told.as_slice(), empty), (&expected[..], 2), "{name} {codec:?}");
            }
        }
    }
    let (all, _) = documents("x.parquet", &parquet(&TEXTS, WriterProperties::default()), |_| ())
        .expect("read");
    assert_eq!((all[1].id.as_str(), all[1].domain.as_str()), ("document-3", "text"));
}

#[test]
fn columns_and_encodings_that_are_not_read_are_named() {
    let bytes = parquet(&TEXTS, WriterProperties::default());
    for (change, problem) in [
        (fields("body", None, None), "no column `body`; it has: text, n, meta.pile_set_name"),
        (fields("meta", None, None), "structure that holds `meta.pile_set_name`"),
        (fields("tags", None, None), "list or a map"),
        (fields("tags.list.element", None, None), "holds lists"),
        (fields("n", None, None), "`n` holds a number"),
        (fields("text", Some("x"), None), "no column `x`"),
    ] {
        let error = documents("x.parquet", &bytes, change).expect_err(problem);
        assert!(error.problem.contains(problem), "{problem}: {error}");
    }
    let delta = written(Compression::SNAPPY, false, WriterVersion::PARQUET_2_0);
    let error = documents("x.parquet", &parquet(&TEXTS, delta), |_| ()).expect_err("delta");
    assert!(error.problem.contains("DELTA_BYTE_ARRAY"), "{error}");
}

#[test]
fn small_files_of_large_texts_are_refused_before_they_take_memory() {
    let long = "a".repeat(2 << 20);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let unpacked = |mib| move |c: &mut Corpus| c.max_unpacked_mib = Some(mib);
    for codec in
        [zstd, Compression::GZIP(GzipLevel::default()), Compression::BROTLI(BrotliLevel::default())]
    {
        let page =
            parquet(&[Some(&long), Some(&long)], written(codec, false, WriterVersion::PARQUET_1_0));
        let error = documents("x.parquet", &page, unpacked(1)).expect_err("a long page");
        assert!(error.problem.contains("corpus.max_unpacked_mib"), "{error}");
        assert_eq!(documents("x.parquet", &page, unpacked(8)).expect("read").0.len(), 2);
    }
    let same = vec![Some(&*long); 2000];
    let many = parquet(&same, written(zstd, true, WriterVersion::PARQUET_1_0));
    assert!(many.len() < 1 << 20, "{} bytes", many.len());
    let mut read_before = 0;
    let (_folder, corpus) = corpus("x.parquet", &many);
    let corpus = Corpus { fields: Some(Fields::default()), ..corpus };
    let error = read(&corpus, &mut |_| {
        read_before += 1;
        Ok(0)
    });
    let error = error.expect_err("4 GB of documents in a small file");
    assert!(error.remedy.contains("corpus.max_unpacked_mib") && read_before < 200, "{error}");
}

/// Repeated letters compress well and have one token each: their rows take more memory than their
/// text.
#[test]
fn tokens_of_a_small_file_stay_within_the_budget() {
    let letters = "abcd".repeat(4 << 10);
    let pages =
        WriterProperties::builder().set_data_page_row_count_limit(1).set_write_batch_size(1);
    let zstd = pages.set_compression(Compression::ZSTD(ZstdLevel::default()));
    let zstd = zstd.set_dictionary_enabled(false).build();
    let bytes = parquet(&vec![Some(letters.as_str()); 400], zstd);
    assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());

    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/expected/golden/tiny");
    let model = TokenizerFor { model: "tiny", d_vocab: Some(32) };
    let tokenizer = load(folder.as_ref(), model).expect("tokenizer");
    for (limit, documents) in [(16, 100), (32, 200), (256, 400)] {
        let (_folder, mut corpus) = corpus("x.parquet", &bytes);
        fields("text", None, None)(&mut corpus);
        corpus.max_unpacked_mib = Some(limit);
        let mut cutter = Cutter::new(&tokenizer, 31, &corpus);
        let mut kept = Vec::new();
        let read = read(&corpus, &mut |sample| {
            let bytes = cutter.push(&sample)?;
            kept.push(bytes);
            Ok(bytes)
        });
        let tokens: usize = cutter.finish().expect("rows").iter().map(|row| row.ids.len()).sum();
        assert!(kept.iter().sum::<u64>() >= 4 * tokens as u64, "rows take their ids at least");
        assert!((1..=documents).contains(&kept.len()), "{limit} MiB: {} documents", kept.len());
        match read {
            Ok(count) => assert_eq!((count.documents, documents), (400, 400)),
            Err(error) => {
                let says = format!("over {limit} MiB of text and tokens");
                assert!(error.problem.contains(&says), "{error}");
                assert!(error.remedy.contains("max_unpacked_mib"), "{error}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Parquet has no checksum that its writers must set: damage is an error or other
    /// rows, and never a panic.
    #[test]
    fn damage_does_not_panic(at in 0usize..100_000, flip in 1u8..=255, codec in 0usize..3) {
        let codec = [Compression::SNAPPY, Compression::GZIP(GzipLevel::default()), Compression::UNCOMPRESSED][codec];
        let mut bytes = parquet(&TEXTS, written(codec, true, WriterVersion::PARQUET_1_0));
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let _ = documents("x.parquet", &bytes, fields("text", Some("meta.pile_set_name"), Some("n")));
    }

    #[test]
    fn a_cut_is_refused(keep in 0usize..100_000) {
        let bytes = parquet(&TEXTS, WriterProperties::default());
        let keep = keep % bytes.len();
        prop_assert!(documents("x.parquet", &bytes[..keep], |_| ()).is_err());
    }
}
