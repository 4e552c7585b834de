//! Corpora of every kind, whole and damaged.

use std::io::Write;

use proptest::prelude::*;

use super::documents::{Sample, read};
use crate::error::Result;
use crate::spec::{Corpus, Fields};

/// The documents of a file of some name, and how many were empty.
fn documents(
    name: &str,
    bytes: &[u8],
    change: impl FnOnce(&mut Corpus),
) -> Result<(Vec<Sample>, usize)> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("write");
    let text = format!("{{path: {}, context: 8}}", path.display());
    let mut corpus: Corpus = serde_yaml::from_str(&text).expect("a corpus");
    change(&mut corpus);
    let mut all = Vec::new();
    let count = read(&corpus, &mut |sample| {
        all.push(sample);
        Ok(())
    })?;
    assert_eq!(count.documents, all.len());
    Ok((all, count.empty))
}

fn read_bytes(bytes: &[u8], limit: Option<usize>) -> Result<Vec<Sample>> {
    documents("x.jsonl", bytes, |corpus| corpus.limit = limit).map(|(all, _)| all)
}

const PILE: &str = "{\"text\": \"one\", \"meta\": {\"pile_set_name\": \"ArXiv\"}}\n\
    {\"text\": \"\", \"meta\": {\"pile_set_name\": \"ArXiv\"}}\n\
    {\"text\": \"two\", \"meta\": {\"pile_set_name\": \"Github\"}}\n";

fn pile(corpus: &mut Corpus) {
    corpus.fields =
        Some(Fields { text: "text".into(), label: Some("meta.pile_set_name".into()), id: None });
}

#[test]
fn the_piles_own_layout_is_read_plain_and_compressed() {
    let (all, empty) = documents("x.jsonl", PILE.as_bytes(), pile).expect("read");
    let told: Vec<[&str; 3]> = all.iter().map(|s| [&*s.id, &*s.domain, &*s.text]).collect();
    assert_eq!(told, [["document-1", "ArXiv", "one"], ["document-3", "Github", "two"]]);
    assert_eq!(empty, 1);
    let compressed = zstd(PILE.as_bytes());
    assert_eq!(documents("x.jsonl.zst", &compressed, pile).expect("read"), (all, 1));
    let cut = documents("x.jsonl.zst", &compressed[..compressed.len() / 2], pile);
    assert!(cut.is_err(), "a file that is cut short");
    let error = documents("x.jsonl.zst", b"no zstd at all", pile).expect_err("refused");
    assert!(error.subject.ends_with("x.jsonl.zst"), "{error}");
    let error = documents("x.jsonl", b"{\"body\": \"x\"}", pile).expect_err("refused");
    assert!(error.problem.contains("`text`") && error.remedy.contains("corpus.fields"), "{error}");
}

#[test]
fn plain_text_is_separated_by_a_line() {
    let text = b"first\nstill first\n<|endoftext|>\nsecond";
    let (all, _) = documents("x.txt", text, |_| ()).expect("read");
    let texts: Vec<&str> = all.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(texts, ["first\nstill first\n", "second\n"]);
    let (all, _) = documents("x.txt", text, |c| c.limit = Some(1)).expect("read");
    assert_eq!(all.len(), 1);
}

const GOOD: &str = r#"{"id":"a","domain":"code","text":"x = 1"}"#;

#[test]
fn blank_lines_and_carriage_returns_are_no_samples() {
    let two = format!("{GOOD}\r\n\n{}\n", GOOD.replace("\"a\"", "\"b\""));
    assert_eq!(read_bytes(two.as_bytes(), None).expect("samples").len(), 2);
    assert_eq!(read_bytes(two.as_bytes(), Some(1)).expect("samples").len(), 1);
}

#[test]
fn damaged_files_are_refused_with_their_line() {
    let long = format!(r#"{{"id":"a","domain":"d","text":"{}"}}"#, "x".repeat(16 << 20));
    let cases: [(&[u8], &str, &str); 7] = [
        (b"", "", "is empty"),
        (b"\n\n", "", "no sample"),
        (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"\xff\"}", ":1", "UTF-8"),
        (long.as_bytes(), ":1", "over 16 MiB"),
        (b"{\"id\":\"a\"}", ":1", "domain"),
        (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"t\",\"x\":1}", ":1", "unknown field"),
        (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\" \"}", "", "no sample"),
    ];
    for (bytes, line, problem) in cases {
        let error = read_bytes(bytes, None).expect_err(problem);
        assert!(error.subject.ends_with(line), "{}", error.subject);
        assert!(error.problem.contains(problem), "{}", error.problem);
    }
}

#[test]
fn ids_are_unique() {
    let error = read_bytes(format!("{GOOD}\n{GOOD}").as_bytes(), None).expect_err("repeated");
    assert!(error.subject.ends_with(":2") && error.problem.contains("line 1"), "{error}");
}

/// One Zstandard frame with a checksum.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
    encoder.include_checksum(true).expect("checksum");
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

/// One gzip member.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

/// A Zstandard frame that decoders skip.
fn skippable(bytes: &[u8]) -> Vec<u8> {
    [b"\x5a\x2a\x4d\x18", &(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

fn lines(from: usize, to: usize) -> Vec<u8> {
    let line = |i: usize| format!("{{\"id\":\"{i}\",\"domain\":\"d\",\"text\":\"text of {i}\"}}\n");
    (from..to).map(line).collect::<String>().into_bytes()
}

fn texts(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    documents(name, bytes, |_| ()).map(|(all, _)| all.into_iter().map(|s| s.text).collect())
}

#[test]
fn every_frame_and_member_is_read() {
    let expected = texts("x.jsonl", &lines(0, 40)).expect("read");
    assert_eq!(expected.len(), 40);
    let (a, b) = (lines(0, 20), lines(20, 40));
    // A line may begin in one frame and end in another.
    let (c, d) = (lines(0, 40)[..777].to_vec(), lines(0, 40)[777..].to_vec());
    for (name, bytes) in [
        ("two.jsonl.zst", [zstd(&a), zstd(&b)].concat()),
        ("cut.jsonl.zst", [zstd(&c), zstd(&d)].concat()),
        ("skip.jsonl.zst", [skippable(b"index"), zstd(&a), skippable(b""), zstd(&b)].concat()),
        ("end.jsonl.zst", [zstd(&a), zstd(&b), skippable(&[7; 300])].concat()),
        ("empty.jsonl.zst", [zstd(b""), zstd(&a), zstd(b""), zstd(&b)].concat()),
        ("X.JSONL.ZST", zstd(&lines(0, 40))),
        ("two.jsonl.gz", [gzip(&a), gzip(&b)].concat()),
        ("cut.ndjson.gz", [gzip(&c), gzip(&d)].concat()),
        ("X.JSON.GZ", gzip(&lines(0, 40))),
        ("unsaid.zst", zstd(&lines(0, 40))),
        ("unsaid.gz", gzip(&lines(0, 40))),
        ("packed-without-a-name-that-says-so.jsonl", zstd(&lines(0, 40))),
        ("x.NDJSON", lines(0, 40)),
        ("X.JSONL", lines(0, 40)),
        ("x.json", lines(0, 40)),
        ("bom.jsonl", [b"\xef\xbb\xbf".to_vec(), lines(0, 40)].concat()),
        ("bom.jsonl.zst", zstd(&[b"\xef\xbb\xbf".to_vec(), lines(0, 40)].concat())),
        ("joined.jsonl", [&a[..], b"\xef\xbb\xbf", &b].concat()),
    ] {
        let found = texts(name, &bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found, expected, "{name}");
    }
    let text = b"\xef\xbb\xbffirst\n<|endoftext|>\n\xef\xbb\xbfsecond";
    for (name, bytes) in
        [("x.txt", text.to_vec()), ("x.TXT.gz", gzip(text)), ("x.txt.zst", zstd(text))]
    {
        assert_eq!(texts(name, &bytes).expect(name), ["first\n", "second\n"], "{name}");
    }
}

#[test]
fn long_windows_are_read_where_they_are_allowed() {
    let long = || {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
        encoder.window_log(30).expect("window");
        encoder.write_all(&lines(0, 40)).expect("packed");
        encoder.finish().expect("packed")
    };
    let error = documents("x.jsonl.zst", &long(), |_| ()).expect_err("a window of 1 GiB");
    assert!(
        error.problem.contains("window") && error.remedy.contains("max_unpacked_mib"),
        "{error}"
    );
    let read = documents("x.jsonl.zst", &long(), |c| c.max_unpacked_mib = Some(1024));
    assert_eq!(read.expect("allowed").0.len(), 40);
}

#[test]
fn what_is_not_a_corpus_is_refused_by_name() {
    let tar = [vec![b'a'; 257], b"ustar\0".to_vec(), vec![b'b'; 300]].concat();
    let utf16: Vec<u8> =
        "\u{feff}{\"text\": 1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let json = lines(0, 3);
    let text = b"some text\n".to_vec();
    let parquet = b"PAR1 and so on".to_vec();
    let array = b"[\n {\"text\": \"a\"},\n {\"text\": \"b\"}\n]".to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("x.jsonl.bz2", text.clone(), "bzip2"),
        ("x.jsonl.xz", text.clone(), "not read"),
        ("x.zip", text.clone(), "archive"),
        ("x.tar.gz", gzip(&tar), "archive"),
        ("x.TAR", tar.clone(), "archive"),
        ("x.tgz", gzip(&tar), "archive"),
        ("x.csv", b"text\nhello\n".to_vec(), "table"),
        ("x.tsv.gz", gzip(b"text\nhello\n"), "table"),
        ("x.arrow", text.clone(), "binary"),
        ("x.txt", b"BZh91AY".to_vec(), "bzip2"),
        ("x.txt", b"\xfd7zXZ\0\0".to_vec(), "xz"),
        ("x.jsonl", b"PK\x03\x04\x14".to_vec(), "zip"),
        ("x.txt", tar.clone(), "tar"),
        ("x.jsonl.gz", gzip(&tar), "tar"),
        ("x.txt", b"ARROW1\0\0".to_vec(), "Arrow"),
        ("x.jsonl", b"\xff\xff\xff\xff\x10\0".to_vec(), "Arrow"),
        ("x.txt", b"%PDF-1.7".to_vec(), "PDF"),
        ("x.txt", b"SQLite format 3\0".to_vec(), "SQLite"),
        ("x.txt", b"a\0b".to_vec(), "zero bytes"),
        ("x.jsonl", utf16.clone(), "UTF-16"),
        ("x.txt", utf16, "UTF-16"),
        ("x.txt", b"\xfe\xff\0a".to_vec(), "UTF-16"),
        ("x.txt", b"\xff\xfe\0\0a\0\0\0".to_vec(), "UTF-32"),
        ("x.jsonl", parquet.clone(), "Parquet"),
        ("x.txt", parquet.clone(), "Parquet"),
        ("x.parquet", text.clone(), "do not"),
        ("x.parquet", b"PARE".to_vec(), "encrypted"),
        ("x.jsonl.zst", json.clone(), "Zstandard"),
        ("x.jsonl.gz", json.clone(), "gzip"),
        ("x.jsonl.zst", zstd(&gzip(&json)), "twice"),
        ("x.jsonl.gz", gzip(&zstd(&json)), "twice"),
        ("x.parquet.gz", gzip(b"PAR1"), "compressed Parquet"),
        ("x.txt", json.clone(), "holds JSON lines"),
        ("x", json.clone(), "holds JSON lines"),
        ("x.log", json.clone(), "holds JSON lines"),
        ("x.txt.zst", zstd(&json), "holds JSON lines"),
        ("x.txt", b"{\"x\": NaN, \"text\": \"a\"}\n".to_vec(), "holds JSON lines"),
        (
            "x.txt",
            format!("{{\"text\": \"{}\"}}", "a".repeat(1 << 17)).into_bytes(),
            "holds JSON lines",
        ),
        ("x.json", array.clone(), "JSON array"),
        ("x.jsonl", b"[{\"text\": \"a\"}]".to_vec(), "JSON array"),
        ("x.txt", array, "JSON array"),
        ("x.json", b"{\n  \"text\": \"a\"\n}".to_vec(), "several lines"),
        ("x.zst", zstd(&text), "neither its name"),
        ("x.txt", b"version https://git-lfs.github.com/spec/v1\noid x".to_vec(), "LFS"),
        ("x.jsonl", b"<!DOCTYPE html>".to_vec(), "web page"),
    ];
    for (name, bytes, problem) in cases {
        let error = texts(name, &bytes).expect_err(name);
        assert!(error.problem.contains(problem), "{name}: {problem}: {error}");
        assert!(error.subject.ends_with(name) && !error.remedy.is_empty(), "{error}");
    }
}

#[test]
fn text_that_only_resembles_json_is_text() {
    for text in [
        "{note} first\nmore",
        "{\"a\": 1}\nis what it printed",
        "[1] A footnote\n",
        "{\n int x;\n}\n",
    ] {
        assert_eq!(texts("x.txt", text.as_bytes()).expect(text).len(), 1, "{text}");
    }
}

#[test]
fn text_that_is_null_or_missing_is_counted_as_empty() {
    let bytes = b"{\"text\": null, \"n\": 1}\n{\"n\": 2}\n{\"text\": \"\", \"n\": 3}\n{\"text\": \"a\", \"n\": 4}\n";
    let fields = |c: &mut Corpus| {
        let id = Some("n".into());
        c.fields = Some(Fields { text: "text".into(), label: None, id });
    };
    let (all, empty) = documents("x.jsonl", bytes, fields).expect("read");
    assert_eq!((all.len(), all[0].id.as_str(), empty), (1, "4", 3));
    for (line, problem) in [
        ("{\"text\": 5, \"n\": 1}", "`text` holds a number"),
        ("{\"text\": NaN, \"n\": 1}", "`text` holds NaN"),
        ("{\"text\": [\"a\"], \"n\": 1}", "`text` holds an array"),
        ("{\"text\": \"a\", \"n\": null}", "`n` holds null"),
        ("{\"text\": \"a\"}", "`n` holds nothing"),
        ("{\"text\": \"a\", \"n\": NaN}", "`n` holds NaN"),
        ("{\"text\": \"\\ud800\", \"n\": 1}", "`text`: "),
    ] {
        let error = documents("x.jsonl", line.as_bytes(), fields).expect_err(line);
        assert!(
            error.problem.contains(problem) && error.subject.ends_with(":1"),
            "{line}: {error}"
        );
    }
    let own = b"{\"id\": 1, \"domain\": 2, \"text\": \"a\"}\n{\"id\": 2, \"domain\": \"d\", \"text\": null}";
    let (all, empty) = documents("x.jsonl", own, |_| ()).expect("read");
    assert_eq!((all[0].id.as_str(), all[0].domain.as_str(), empty), ("1", "2", 1));
}

#[test]
fn budgets_are_said_and_raised_by_a_key() {
    let long = vec![b'a'; (2 << 20) + 1];
    let limit = |mib| move |c: &mut Corpus| c.max_document_mib = Some(mib);
    for (name, bytes) in [
        ("x.txt", long.clone()),
        ("x.txt.zst", zstd(&long)),
        ("x.txt.gz", gzip(&long)),
        ("x.jsonl", [b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"", &long[..], b"\"}"].concat()),
    ] {
        let error = documents(name, &bytes, limit(1)).expect_err(name);
        assert!(error.problem.contains("1 MiB"), "{error}");
        assert!(error.remedy.contains("corpus.max_document_mib"), "{error}");
        assert_eq!(documents(name, &bytes, limit(3)).expect(name).0.len(), 1);
    }
    // A small file of many documents, which would take memory for each.
    let many = "a\n<|endoftext|>\n".repeat(20_000);
    let unpacked = |mib| move |c: &mut Corpus| c.max_unpacked_mib = Some(mib);
    let error = documents("x.txt.zst", &zstd(many.as_bytes()), unpacked(1)).expect_err("a bomb");
    assert!(error.remedy.contains("corpus.max_unpacked_mib"), "{error}");
    let (all, _) = documents("x.txt.zst", &zstd(many.as_bytes()), |_| ()).expect("read");
    assert_eq!(all.len(), 20_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A file with checksums that is changed anywhere gives the same documents or an error.
    #[test]
    fn damage_is_seen(at in 0usize..100_000, flip in 1u8..=255, packed in 0usize..3) {
        let (name, mut bytes) = checked(packed);
        let expected = texts(name, &bytes).expect("whole");
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(found) = texts(name, &bytes) {
            prop_assert_eq!(found, expected, "byte {}", at);
        }
    }

    /// A file that is cut off, or to which something is added, is refused; cut between frames
    /// or members it is a whole shorter file, which nothing can tell.
    #[test]
    fn a_cut_is_seen(keep in 0usize..100_000, packed in 0usize..3, more in prop::collection::vec(any::<u8>(), 1..40)) {
        let (name, bytes) = checked(packed);
        let between = checked_parts(packed)[0].len();
        let keep = keep % bytes.len();
        if keep > 0 && keep != between {
            prop_assert!(texts(name, &bytes[..keep]).is_err(), "{} of {}", keep, bytes.len());
        }
        let longer = [bytes, more].concat();
        prop_assert!(texts(name, &longer).is_err());
    }
}

/// A compressed file of two parts with checksums, by number, and its name.
fn checked(packed: usize) -> (&'static str, Vec<u8>) {
    (["x.jsonl.zst", "x.jsonl.gz", "x.txt.gz"][packed], checked_parts(packed).concat())
}

fn checked_parts(packed: usize) -> [Vec<u8>; 2] {
    let text = b"a text of some words\n<|endoftext|>\n".as_slice();
    match packed {
        0 => [zstd(&lines(0, 20)), zstd(&lines(20, 40))],
        1 => [gzip(&lines(0, 20)), gzip(&lines(20, 40))],
        _ => [gzip(&text.repeat(9)), gzip(text)],
    }
}

mod rows {
    use std::sync::Arc;

    use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::properties::{WriterProperties, WriterVersion};
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::*;

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
            column
                .typed::<ByteArrayType>()
                .write_batch(&[], Some(&none), Some(&zeros))
                .expect("tags");
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
        let (all, _) =
            documents("x.parquet", &parquet(&TEXTS, WriterProperties::default()), |_| ())
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
        for codec in [
            zstd,
            Compression::GZIP(GzipLevel::default()),
            Compression::BROTLI(BrotliLevel::default()),
        ] {
            let page = parquet(
                &[Some(&long), Some(&long)],
                written(codec, false, WriterVersion::PARQUET_1_0),
            );
            let error = documents("x.parquet", &page, unpacked(1)).expect_err("a long page");
            assert!(error.problem.contains("corpus.max_unpacked_mib"), "{error}");
            assert_eq!(documents("x.parquet", &page, unpacked(8)).expect("read").0.len(), 2);
        }
        let same = vec![Some(&*long); 2000];
        let many = parquet(&same, written(zstd, true, WriterVersion::PARQUET_1_0));
        assert!(many.len() < 1 << 20, "{} bytes", many.len());
        let mut read_before = 0;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x.parquet");
        std::fs::write(&path, &many).expect("write");
        let text = format!("{{path: {}, context: 8}}", path.display());
        let corpus: Corpus = serde_yaml::from_str(&text).expect("a corpus");
        let corpus = Corpus { fields: Some(Fields::default()), ..corpus };
        let error = read(&corpus, &mut |_| {
            read_before += 1;
            Ok(())
        });
        let error = error.expect_err("4 GB of documents in a small file");
        assert!(error.remedy.contains("corpus.max_unpacked_mib") && read_before < 200, "{error}");
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
}
