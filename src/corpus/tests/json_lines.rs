//! Lines of JSON, with their own fields and with those of others.

use proptest::prelude::*;

use super::*;

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
    let cases: [(&[u8], &str, &str); 9] = [
        (b"", "", "is empty"),
        (b"\n\n", "", "no sample"),
        (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"\xff\"}", ":1", "UTF-8"),
        (long.as_bytes(), ":1", "over 16 MiB"),
        (b"{\"id\":\"a\"}", "", "none of its 1 documents has text"),
        (b"{\"txet\":\"a\"}", ":1", "unknown field `txet`"),
        (b"{\"text\":\"a\",\"id\":null}", ":1", "`id` holds null"),
        (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"t\",\"x\":1}", ":1", "unknown field"),
        (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\" \"}", "", "no sample"),
    ];
    for (bytes, line, problem) in cases {
        let error = read_bytes(bytes, None).expect_err(problem);
        assert!(error.subject.ends_with(line), "{}", error.subject);
        assert!(error.problem.contains(problem), "{}", error.problem);
    }
}

/// The number of the line serves as id, blank lines included, and all have one label.
#[test]
fn lines_need_nothing_but_text() {
    let text = "{\"text\": \"one\"}\n\n{\"text\": \"two\", \"id\": \"b\"}\n{\"domain\": \"d\", \"text\": \"3\"}\n";
    let all = read_bytes(text.as_bytes(), None).expect("read");
    let told: Vec<[&str; 3]> = all.iter().map(|s| [&*s.id, &*s.domain, &*s.text]).collect();
    let expected = [["document-1", "text", "one"], ["b", "text", "two"], ["document-4", "d", "3"]];
    assert_eq!(told, expected);
    let taken = "{\"text\": \"one\", \"id\": \"document-2\"}\n{\"text\": \"two\"}\n";
    let error = read_bytes(taken.as_bytes(), None).expect_err("an id that is taken");
    assert!(error.subject.ends_with(":2") && error.problem.contains("line 1"), "{error}");
}

#[test]
fn ids_are_unique() {
    let error = read_bytes(format!("{GOOD}\n{GOOD}").as_bytes(), None).expect_err("repeated");
    assert!(error.subject.ends_with(":2") && error.problem.contains("line 1"), "{error}");
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A byte that is changed makes an error, or changes the document of its own line at most:
    /// no other document is lost, added, or read otherwise.
    #[test]
    fn damage_stays_within_its_line(at in 0usize..100_000, flip in 1u8..=255) {
        let mut bytes = lines(0, 20);
        let whole = read_bytes(&bytes, None).expect("whole");
        let at = at % bytes.len();
        let line = bytes[..at].iter().filter(|b| **b == b'\n').count();
        bytes[at] ^= flip;
        if let Ok(mut found) = read_bytes(&bytes, None) {
            let mut expected = whole.clone();
            expected.remove(line);
            // A text that became empty is skipped and counted.
            if found.len() == whole.len() {
                found.remove(line);
            }
            prop_assert_eq!(found, expected, "byte {}", at);
        }
    }
}
