//! Corpora of every kind, whole and damaged.

mod compressed;
mod json_lines;
mod parquet;

use std::io::Write;

use super::documents::{Sample, read};
use crate::error::Result;
use crate::spec::{Corpus, Fields};

/// A corpus of one file of some name, and the folder that holds the file.
fn corpus(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Corpus) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("write");
    let text = format!("{{path: {}, context: 8}}", path.display());
    (folder, serde_yaml::from_str(&text).expect("a corpus"))
}

/// The documents of a file of some name, and how many were empty.
fn documents(
    name: &str,
    bytes: &[u8],
    change: impl FnOnce(&mut Corpus),
) -> Result<(Vec<Sample>, usize)> {
    let (_folder, mut corpus) = corpus(name, bytes);
    change(&mut corpus);
    let mut all = Vec::new();
    let count = read(&corpus, &mut |sample| {
        all.push(sample);
        Ok(0)
    })?;
    assert_eq!(count.documents, all.len());
    Ok((all, count.empty))
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

fn lines(from: usize, to: usize) -> Vec<u8> {
    let line = |i: usize| format!("{{\"id\":\"{i}\",\"domain\":\"d\",\"text\":\"text of {i}\"}}\n");
    (from..to).map(line).collect::<String>().into_bytes()
}

fn texts(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    documents(name, bytes, |_| ()).map(|(all, _)| all.into_iter().map(|s| s.text).collect())
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
