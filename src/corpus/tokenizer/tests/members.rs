//! Every member of `tokenizer.json` gives the same ids or is refused by name.

use proptest::prelude::*;

use super::*;

fn added(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false,
           "rstrip": false, "normalized": false, "special": true})
}

/// What a changed member must lead to.
enum Then {
    Same,
    Refused(&'static [&'static str]),
}

/// Every member of the format, with what it may be changed to.
fn members() -> Vec<(&'static str, Option<Value>, Then)> {
    use Then::{Refused, Same};
    let byte_level = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let template = |single: Value| {
        json!({"type": "TemplateProcessing", "single": single, "pair": [],
               "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [2047], "tokens": ["x"]}}})
    };
    let (text, special) = (
        json!({"Sequence": {"id": "A", "type_id": 0}}),
        json!({"SpecialToken": {"id": "<|endoftext|>"}}),
    );
    let replace = json!({"type": "Replace", "pattern": {"String": ""}, "content": "xx"});
    let added_with = |name: &str| {
        let mut token = added(2047, "<|endoftext|>");
        token[name] = json!(true);
        json!([token])
    };
    vec![
        ("/version", None, Same),
        ("/version", Some(json!("2.0")), Refused(&["`version`", "2.0"])),
        (
            "/truncation",
            Some(
                json!({"max_length": 5, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}),
            ),
            Same,
        ),
        (
            "/truncation",
            Some(json!({"max_length": 5, "strategy": "LongestFirst", "stride": 5})),
            Same,
        ),
        (
            "/padding",
            Some(json!({"strategy": {"Fixed": 1_000_000_000}, "direction": "Left", "pad_id": 7})),
            Same,
        ),
        ("/unheard", Some(json!(1)), Refused(&["unheard"])),
        ("/added_tokens", Some(added_with("normalized")), Same),
        (
            "/added_tokens",
            Some(added_with("single_word")),
            Refused(&["added_tokens[0].single_word", "<|endoftext|>"]),
        ),
        ("/added_tokens", Some(added_with("lstrip")), Refused(&["added_tokens[0].lstrip"])),
        ("/added_tokens", Some(added_with("rstrip")), Refused(&["added_tokens[0].rstrip"])),
        ("/added_tokens", Some(added_with("unheard")), Refused(&["added_tokens[0]", "unheard"])),
        (
            "/added_tokens/-",
            Some(added(2047, "<|endoftext|>")),
            Refused(&["`<|endoftext|>` twice"]),
        ),
        (
            "/added_tokens/-",
            Some(added(3, "the")),
            Refused(&["one id in `added_tokens` and another"]),
        ),
        ("/added_tokens/-", Some(added(2048, "[PAD]")), Refused(&["2049 tokens", "2048"])),
        (
            "/added_tokens",
            Some(json!([added(2046, "<|endoftext|>")])),
            Refused(&["2046", "another token"]),
        ),
        (
            "/added_tokens",
            Some(json!([added(2048, "<|endoftext|>")])),
            Refused(&["<|endoftext|>", "2048", "last is 2047"]),
        ),
        ("/added_tokens", Some(json!([added(2047, "")])), Refused(&["0 bytes"])),
        ("/normalizer", Some(json!({"type": "Sequence", "normalizers": []})), Same),
        (
            "/normalizer",
            Some(json!({"type": "Lowercase"})),
            Refused(&["`normalizer` is `Lowercase`", "`NFC`"]),
        ),
        ("/normalizer", Some(json!({"type": "NFC", "x": 1})), Refused(&["`normalizer.x`"])),
        ("/normalizer", Some(replace.clone()), Refused(&["`normalizer` is `Replace`"])),
        (
            "/normalizer",
            Some(json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, replace]})),
            Refused(&["`normalizer[1]` is `Replace`"]),
        ),
        (
            "/normalizer",
            Some(json!({"type": "Prepend", "prepend": "x".repeat(99)})),
            Refused(&["`normalizer` is `Prepend`"]),
        ),
        ("/normalizer", Some(json!({})), Refused(&["normalizer", "type"])),
        ("/pre_tokenizer", None, Refused(&["`pre_tokenizer` is missing"])),
        (
            "/pre_tokenizer",
            Some(json!({"type": "Whitespace"})),
            Refused(&["`pre_tokenizer` is `Whitespace`"]),
        ),
        (
            "/pre_tokenizer",
            Some(json!({"type": "Sequence", "pretokenizers": [byte_level(false, true)]})),
            Same,
        ),
        (
            "/pre_tokenizer",
            Some(
                json!({"type": "Sequence", "pretokenizers": [byte_level(false, true), byte_level(false, true)]}),
            ),
            Refused(&["`pre_tokenizer` is `Sequence`"]),
        ),
        (
            "/pre_tokenizer/add_prefix_space",
            Some(json!(true)),
            Refused(&["pre_tokenizer.add_prefix_space"]),
        ),
        ("/pre_tokenizer/add_prefix_space", None, Refused(&["pre_tokenizer.add_prefix_space"])),
        ("/pre_tokenizer/use_regex", Some(json!(false)), Refused(&["pre_tokenizer.use_regex"])),
        ("/pre_tokenizer/use_regex", None, Same),
        ("/pre_tokenizer/trim_offsets", Some(json!(false)), Same),
        ("/post_processor", Some(byte_level(true, false)), Same),
        ("/post_processor", Some(template(json!([text]))), Same),
        ("/post_processor", Some(template(json!([special, text, special]))), Same),
        (
            "/post_processor",
            Some(
                json!({"type": "Sequence", "processors": [byte_level(true, true), template(json!([text]))]}),
            ),
            Same,
        ),
        (
            "/post_processor",
            Some(template(json!([text, text]))),
            Refused(&["`post_processor.single`", "2 times"]),
        ),
        (
            "/post_processor",
            Some(template(json!([special]))),
            Refused(&["`post_processor.single`", "0 times"]),
        ),
        (
            "/post_processor",
            Some(json!({"type": "BertProcessing", "sep": ["x", 1], "cls": ["x", 1]})),
            Refused(&["`post_processor` is `BertProcessing`"]),
        ),
        ("/decoder", None, Same),
        (
            "/decoder",
            Some(json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
            Refused(&["`decoder` is `WordPiece`"]),
        ),
        (
            "/model",
            Some(json!({"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"})),
            Refused(&["model"]),
        ),
        ("/model/type", Some(json!("Unigram")), Refused(&["`model.type` is `Unigram`"])),
        ("/model/type", None, Same),
        ("/model/dropout", Some(json!(0.0)), Same),
        ("/model/dropout", Some(json!(0.1)), Refused(&["`model.dropout` is 0.1", "random"])),
        ("/model/unk_token", Some(json!("the")), Same),
        ("/model/fuse_unk", Some(json!(true)), Same),
        ("/model/byte_fallback", Some(json!(true)), Same),
        ("/model/continuing_subword_prefix", Some(json!("")), Same),
        (
            "/model/continuing_subword_prefix",
            Some(json!("##")),
            Refused(&["`model.continuing_subword_prefix` is `##`"]),
        ),
        (
            "/model/end_of_word_suffix",
            Some(json!("</w>")),
            Refused(&["`model.end_of_word_suffix` is `</w>`"]),
        ),
        ("/model/ignore_merges", Some(json!(true)), Refused(&["`model.ignore_merges`"])),
        ("/model/ignore_merges", None, Same),
        ("/model/unheard", Some(json!(null)), Refused(&["unheard"])),
        ("/model/vocab", None, Refused(&["vocab"])),
        ("/model/vocab", Some(json!({"a": -1})), Refused(&["model.vocab"])),
        ("/model/vocab/!", Some(json!(2048)), Refused(&["`!` has id 2048", "last is 2047"])),
        ("/model/vocab/!", Some(json!(4_000_000_000_u32)), Refused(&["`!` has id 4000000000"])),
        ("/model/vocab/!", Some(json!(5)), Refused(&["id 5, which another token has too"])),
        ("/model/vocab/!", None, Refused(&["needs the token `!`"])),
        ("/model/vocab/\u{65e5}", Some(json!(2047)), Refused(&["2049 tokens"])),
        ("/model/merges/-", Some(json!("a")), Refused(&["model.merges"])),
        ("/model/merges/-", Some(json!(["a", "b", "c"])), Refused(&["model.merges", "two tokens"])),
        ("/model/merges/-", Some(json!(["zz", "qq"])), Refused(&["merge 1792", "lacks"])),
        ("/model/merges", Some(json!(7)), Refused(&["model.merges"])),
    ]
}

#[test]
fn every_member_of_the_format_gives_the_same_ids_or_is_refused_by_name() {
    let expected = loaded_of(&base().to_string(), 2048).expect("valid").encode(PROBE).expect("ids");
    for (path, value, then) in members() {
        let shown = format!("{path} = {value:?}");
        match (loaded_of(&with(path, value), 2048), then) {
            (Ok(tokenizer), Then::Same) => {
                assert_eq!(tokenizer.encode(PROBE), Ok(expected.clone()), "{shown}");
            }
            (Err(error), Then::Refused(words)) => {
                assert!(error.subject.ends_with("tokenizer.json"), "{shown}: {error}");
                for word in words {
                    assert!(error.problem.contains(word), "{shown}: {error}");
                }
            }
            (Ok(_), Then::Refused(_)) => panic!("{shown} is accepted"),
            (Err(error), Then::Same) => panic!("{shown}: {error}"),
        }
    }
}

#[test]
fn what_is_not_json_of_a_tokenizer_is_refused() {
    let text = base().to_string();
    let twice = text.replacen("\"model\":", "\"model\":null,\"model\":", 1);
    let repeated = text.replacen("\"vocab\":{", "\"vocab\":{\"!\":0,", 1);
    let cut = &text[..text.len() / 2];
    let after = format!("{text} {{}}");
    let deep =
        format!("{{\"normalizer\": {}", "{\"type\":\"Sequence\",\"normalizers\":[".repeat(100_000));
    let cases = [
        ("{}", "model"),
        ("[]", "invalid length 0"),
        (&twice, "model"),
        (&repeated, "`!` occurs twice"),
        (cut, "EOF"),
        (&after, "trailing"),
        (&deep, "recursion"),
    ];
    for (file, problem) in cases {
        let error = loaded_of(file, 2048).expect_err(problem);
        assert!(error.problem.contains(problem), "{problem}: {error}");
    }
}

#[test]
fn what_is_wrong_in_two_files_is_named() {
    let vocabulary = base()["model"]["vocab"].to_string();
    let cases = [
        (vocabulary.as_str(), "a b c", None, "line 1 of merges.txt"),
        (&vocabulary, "#version: 0.2\n\u{120}", None, "line 2 of merges.txt"),
        (&vocabulary, "qq zz", None, "merge 1 needs the token `qq`"),
        (&vocabulary, "# x", Some("{\"[PAD]\": 2048}"), "adds `[PAD]`"),
        ("[]", "# x", None, "expected an object of tokens"),
        ("{\"a\": 0, \"b\": 0}", "# x", None, "which another token has too"),
        ("", "# x", None, "empty"),
    ];
    for (vocabulary, merges, added, problem) in cases {
        let folder = tempfile::tempdir().expect("folder");
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("write");
        write("vocab.json", vocabulary);
        write("merges.txt", merges);
        added.into_iter().for_each(|text| write("added_tokens.json", text));
        let error = load(folder.path(), model(2048)).expect_err(problem);
        assert!(error.problem.contains(problem), "{error}");
    }
}

/// Values that a member of any kind could be changed to.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(""),
        json!("a"),
        json!("BPE"),
        json!("ByteLevel"),
        json!([]),
        json!({}),
        json!({"type": "NFC"}),
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false}),
        json!({"type": "Replace", "pattern": {"Regex": ".*"}, "content": "aa"}),
        json!({"type": "Sequence", "normalizers": [], "pretokenizers": []}),
    ]
}

/// The paths of all members of a value but those of the vocabulary and the merges.
fn paths(value: &Value, at: &str, all: &mut Vec<String>) {
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        let path = format!("{at}/{name}");
        if path != "/model/vocab" && path != "/model/merges" {
            paths(value, &path, all);
            all.push(path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any one member changed to any value, or added, or removed.
    #[test]
    fn a_changed_member_never_gives_other_ids(
        at in 0usize..100,
        to in 0usize..17,
        text in "[a-z A-Z0-9'\\n\u{e9}\u{65e5}\u{1F469}<|]{0,40}",
    ) {
        let file = base();
        let mut all = Vec::new();
        paths(&file, "", &mut all);
        let value = values().get(to).cloned();
        let changed = with(&all[at % all.len()], value);
        if let Ok(tokenizer) = loaded_of(&changed, 2048) {
            let expected = loaded_of(&file.to_string(), 2048).expect("valid");
            // NFC is the one member that may differ; the text has nothing for it to change.
            prop_assert_eq!(tokenizer.encode(&text), expected.encode(&text));
        }
    }
}
