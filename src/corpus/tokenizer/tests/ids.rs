//! Ids, and the text that they stand for.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn ids_as_kept(ids: &[u32]) -> Value {
    if ids.len() <= 100 {
        return json!({"ids": ids});
    }
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    json!({"count": ids.len(), "sha256": digest(&bytes)})
}

#[test]
fn ids_are_those_of_the_python_library() {
    let golden = std::fs::read_to_string(root("expected/golden/tokenizer-ids.json")).expect("read");
    let golden: Value = serde_json::from_str(&golden).expect("JSON");
    for form in golden["forms"].as_array().expect("forms") {
        let mut file = base();
        for (name, value) in form["members"].as_object().expect("members") {
            let of_model = |name: &str, value: &Value, file: &mut Value| {
                let into = file.pointer_mut(name).and_then(Value::as_object_mut).expect("object");
                into.extend(value.as_object().expect("object").clone());
            };
            match name.as_str() {
                "model" => of_model("/model", value, &mut file),
                "vocab" => of_model("/model/vocab", value, &mut file),
                _ => file[name] = value.clone(),
            }
        }
        let parts = format::parse(&file.to_string()).expect("valid");
        let size = parts.size();
        let tokenizer = BpeTokenizer::new(Path::new("x"), parts, model(size)).expect("valid");
        let texts = golden["texts"].as_array().expect("texts").iter();
        for (text, expected) in texts.zip(form["ids"].as_array().expect("ids")) {
            let times = text["times"].as_u64().expect("a number") as usize;
            let end = text["end"].as_str().expect("a text");
            let shown = format!("{}: {text}", form["name"]);
            let text = text["text"].as_str().expect("a text").repeat(times) + end;
            let ids = tokenizer.encode(&text).unwrap_or_else(|e| panic!("{shown}: {}", e.problem));
            assert_eq!(ids_as_kept(&ids), *expected, "{shown}");
            assert_eq!(tokenizer.spans(&text).expect("spans").len(), ids.len(), "{shown}");
        }
    }
}

#[test]
fn two_files_give_the_ids_of_one() {
    let whole = loaded_of(&base().to_string(), 2048).expect("valid");
    let vocabulary = base()["model"]["vocab"].to_string();
    let merges: Vec<String> = base()["model"]["merges"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|m| format!("{} {}", m[0].as_str().expect("a token"), m[1].as_str().expect("a token")))
        .collect();
    let merges = format!("#version: 0.2\r\n{}\r\n\r\n", merges.join("\r\n"));
    let end = r#"{"<|endoftext|>": 2047}"#;
    let with_end = vocabulary.replacen('{', "{\"<|endoftext|>\": 2047,", 1);
    for (vocabulary, added) in [(&vocabulary, None), (&vocabulary, Some(end)), (&with_end, None)] {
        let folder = tempfile::tempdir().expect("folder");
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("write");
        write("vocab.json", vocabulary);
        write("merges.txt", &merges);
        added.into_iter().for_each(|text| write("added_tokens.json", text));
        let tokenizer = load(folder.path(), model(2048)).expect("valid");
        assert_eq!(tokenizer.encode(PROBE), whole.encode(PROBE));
        assert!(tokenizer.same_tokens(&whole));
    }
}

#[test]
fn a_model_may_know_more_ids_than_its_tokenizer() {
    let file = base().to_string();
    let tokenizer = loaded_of(&file, 2100).expect("padded");
    assert_eq!((tokenizer.texts().len(), tokenizer.texts()[2099].as_str()), (2100, ""));
    let error = loaded_of(&file, 2047).expect_err("larger");
    assert!(error.problem.contains("2048 tokens") && error.remedy.contains("`small`"), "{error}");
}

#[test]
fn a_token_that_the_file_does_not_add_is_text_like_any_other() {
    let file = with("/added_tokens", Some(json!([])));
    let ids = loaded_of(&file, 2048).expect("padded").encode(END_OF_TEXT).expect("ids");
    let library: Tokenizer = file.parse().expect("valid");
    assert_eq!(ids, library.encode(END_OF_TEXT, false).expect("ids").get_ids());
    assert!(ids.len() > 1);
}

#[test]
fn words_are_bounded_and_named_by_their_place() {
    let tokenizer = loaded_of(&base().to_string(), 2048).expect("valid");
    let most = pieces::MAX_WORD;
    let before = "some text, ".repeat(20_000);
    for word in ["x", "7", "\u{e9}", " ", "\n", "-", "\u{3042}", "\u{301}"] {
        let longest = word.repeat(most / word.len());
        // The character before is of another class, so that the word begins after it.
        let before = format!("{before}{}", if word == "7" { "a" } else { "a1" });
        assert!(tokenizer.encode(&format!("{before}{longest}")).is_ok(), "{word:?}");
        let text = format!("{before}{longest}{word}{word}");
        let fault = tokenizer.encode(&text).expect_err("too long");
        let at = before.len();
        assert!(fault.problem.contains(&format!("byte {at} ")), "{word:?}: {}", fault.problem);
    }
    // A long text of short words has no bound, with or without places to cut.
    for text in ["a1".repeat(most), "\u{e9}\u{300}!".repeat(most / 4)] {
        assert!(tokenizer.encode(&text).expect("ids").len() <= text.len());
    }
}

#[test]
fn a_byte_without_a_token_is_named() {
    let folder = root("expected/golden/tiny");
    let tokenizer = load(&folder, model(32)).expect("valid");
    assert!(tokenizer.encode("the cat<|endoftext|>\n").is_ok());
    for (text, problem) in [
        ("the Cat", "`C` at byte 4"),
        ("abc \u{e9}", "`\u{e9}` at byte 4"),
        ("a\tb", "`\\t` at byte 1"),
    ] {
        let fault = tokenizer.encode(text).expect_err("not in the vocabulary");
        assert!(fault.problem.contains(problem), "{}", fault.problem);
    }
}

#[test]
fn spans_are_places_in_the_text_as_it_was_before_normalisation() {
    let mut file = base();
    file["normalizer"] = json!({"type": "NFC"});
    let tokenizer = loaded_of(&file.to_string(), 2048).expect("valid");
    let text = format!("{}e\u{301} cat<|endoftext|>", "the dog ".repeat(10_000));
    let spans = tokenizer.spans(&text).expect("spans");
    assert_eq!(&text[spans.last().expect("a token").clone()], "<|endoftext|>");
    let letter = text.find('\u{301}').expect("an accent") - 1;
    assert!(spans.iter().any(|span| span.contains(&letter)), "the letter has a token");
    assert!(spans.windows(2).all(|two| two[0].start <= two[1].start && two[1].end <= text.len()));
}

#[test]
fn letters_of_a_token_are_bytes() {
    // From the tokenizers of the bundled models: a space is Ġ, a line feed Ċ.
    assert_eq!(bytes_of("Ġthe").as_deref(), Some(&b" the"[..]));
    assert_eq!(bytes_of("Ċ").as_deref(), Some(&b"\n"[..]));
    assert_eq!(bytes_of("âĢľ").as_deref(), Some("“".as_bytes()));
    assert_eq!(bytes_of("日"), None);
    for byte in 0..=255 {
        assert_eq!(bytes_of(&letter_of(byte).to_string()), Some(vec![byte]));
    }
}

#[test]
fn texts_of_tokens_are_those_of_the_decoder() {
    let file = root("experiments/desk/a/tokenizer.json");
    let library = Tokenizer::from_file(file).expect("valid");
    let tokenizer = loaded_of(&base().to_string(), 2048).expect("valid");
    for (id, text) in tokenizer.texts().iter().enumerate() {
        assert_eq!(library.decode(&[id as u32], false).expect("a text"), *text);
    }
    let shown = tokenizer.shown_texts();
    assert!(shown.iter().any(|text| text.starts_with('⟨')), "pieces of characters");
    assert!(!shown.iter().any(|text| text.contains('\u{FFFD}')));
}

#[test]
fn a_character_belongs_to_the_token_in_which_it_begins() {
    let tokenizer = loaded_of(&base().to_string(), 2048).expect("valid");
    let ids = |text: &str| -> Vec<u32> {
        let letters = text.bytes().map(|b| letter_of(b).to_string());
        letters.map(|name| tokenizer.id_of(&name).expect("a token for each byte")).collect()
    };
    let minus = ids("a−b");
    assert_eq!(tokenizer.shown_in_context(&minus), ["a", "−", "", "", "b"]);
    // A character that is cut off is shown as its bytes, token by token.
    assert_eq!(tokenizer.shown_in_context(&minus[2..]), ["⟨88⟩", "⟨92⟩", "b"]);
    assert_eq!(tokenizer.shown_in_context(&minus[..3]), ["a", "⟨E2⟩", "⟨88⟩"]);
    assert!(tokenizer.shown_in_context(&[]).is_empty());
}

/// The tokenizer of the bundled models, without a normalizer and with NFC.
static WITHOUT_AND_WITH_NFC: LazyLock<[BpeTokenizer; 2]> = LazyLock::new(|| {
    [json!(null), json!({"type": "NFC"})].map(|normalizer| {
        let mut file = base();
        file["normalizer"] = normalizer;
        loaded_of(&file.to_string(), 2048).expect("valid")
    })
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Pieces of a text have the tokens of the whole.
    #[test]
    fn pieces_are_encoded_as_the_whole(
        parts in prop::collection::vec("[a-z]{1,9}|[0-9]{1,4}|'(s|ll|d)|[ \\n\\t]{1,4}|[!-~]{1,3}|<\\|endoftext\\|>|[ -\u{2ff}\u{300}-\u{305}]{1,3}|[あ-お一-丏가-각、。\u{212a}\u{37e}]{1,4}", 1..60),
        nfc: bool,
    ) {
        let unit = parts.concat();
        let text = unit.repeat(1 + 2 * pieces::PIECE / unit.len());
        let tokenizer = &WITHOUT_AND_WITH_NFC[usize::from(nfc)];
        let whole = tokenizer.inner.encode_fast(text.as_str(), false).expect("ids");
        prop_assert_eq!(tokenizer.encode(&text).expect("ids"), whole.get_ids());
    }
}
