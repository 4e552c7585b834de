use super::*;

fn read(conllu: &str) -> Result<Syntax> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("x.conllu");
    std::fs::write(&path, conllu).expect("write");
    let sample =
        |id: &str, text: &str| Sample { id: id.into(), domain: "d".into(), text: text.into() };
    Syntax::read(&path, &[sample("one", "A cat. A dog."), sample("two", "It is.")])
}

fn word(id: &str, form: &str, upos: &str, deprel: &str) -> String {
    format!("{id}\t{form}\t_\t{upos}\t_\t_\t0\t{deprel}\t_\t_\n")
}

#[test]
fn words_are_found_in_their_order() {
    let text = format!(
        "# newdoc id = one\n{}{}{}\n{}{}{}",
        word("1", "A", "DET", "det"),
        word("2", "cat", "NOUN", "root"),
        word("3", ".", "PUNCT", "punct"),
        word("1", "A", "DET", "det"),
        word("2", "dog", "NOUN", "nsubj"),
        word("3", ".", "PUNCT", "punct"),
    );
    let syntax = read(&text).expect("valid");
    let name = |labels: Option<WordLabels>| {
        labels.map(|[u, d, ..]| (syntax.labels[0].name(u), syntax.labels[1].name(d)))
    };
    let one = "A cat. A dog.";
    assert_eq!(name(syntax.of(0).at(one, 1..5)), Some(("NOUN", "root")));
    assert_eq!(name(syntax.of(0).at(one, 8..12)), Some(("NOUN", "nsubj")));
    assert_eq!(name(syntax.of(1).at("It is.", 0..2)), None, "a sample without labels");
    assert_eq!(syntax.of(0).at(one, 100..101), None);
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |text: &str| read(text).expect_err("does not fit");
    assert!(error("# newdoc id = three\n").problem.contains("no sample `three`"));
    assert!(error(&word("1", "A", "DET", "det")).problem.contains("before any"));
    assert!(error("# newdoc id = one\n1\tA\n").problem.contains("2 columns"));
    let other = error(&format!("# newdoc id = one\n{}", word("1", "cow", "NOUN", "root")));
    assert!(other.subject.ends_with(":2") && other.problem.contains("`cow`"), "{other}");
}

/// Returns the texts and labels of the words of a file about one sample.
fn labels_in(text: &str, conllu: &str) -> Result<Vec<(String, String)>> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("x.conllu");
    std::fs::write(&path, conllu).expect("write");
    let sample = Sample { id: "s".into(), domain: "d".into(), text: text.into() };
    let syntax = Syntax::read(&path, &[sample])?;
    let label = |(bytes, [upos, ..]): &(Range<usize>, WordLabels)| {
        (text[bytes.clone()].to_string(), syntax.labels[0].name(*upos).to_owned())
    };
    Ok(syntax.of(0).words.iter().map(label).collect())
}

const DOCUMENT: &str = "# newdoc id = s\n";

fn labelled(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(word, upos)| (word.to_string(), upos.to_string())).collect()
}

#[test]
fn multiword_tokens_and_empty_nodes_have_no_words_of_their_own() {
    let german = [
        DOCUMENT,
        "# sent_id = 1\n# text = Im Haus.\n",
        &word("1-2", "Im", "_", "_"),
        &word("1", "In", "ADP", "case"),
        &word("2", "dem", "DET", "det"),
        &word("3", "Haus", "NOUN", "root"),
        "3.1\tgeht\t_\tVERB\t_\t_\t_\t_\t0:root\t_\n",
        &word("4", ".", "PUNCT", "punct").replace("\t_\n", "\tSpaceAfter=No\n"),
        "\n",
    ]
    .concat();
    let expected = labelled(&[("Im", "ADP"), ("Haus", "NOUN"), (".", "PUNCT")]);
    assert_eq!(labels_in("Im Haus.\n", &german), Ok(expected.clone()));
    let windows = format!("\u{feff}{}", german.replace('\n', "\r\n"));
    assert_eq!(labels_in("Im\n  Haus.", &windows), Ok(expected));
    let english = [
        DOCUMENT,
        &word("1-2", "don't", "_", "_"),
        &word("1", "do", "AUX", "aux"),
        &word("2", "n't", "PART", "advmod"),
        &word("3", "10 000", "NUM", "obj"),
    ]
    .concat();
    let expected = labelled(&[("do", "AUX"), ("n't", "PART"), ("10\n000", "NUM")]);
    assert_eq!(labels_in("don't 10\n000", &english), Ok(expected));
}

#[test]
fn labels_of_another_text_are_refused_with_line_and_words() {
    let [a, cat, stop] =
        [("1", "A"), ("2", "cat"), ("3", ".")].map(|(id, form)| word(id, form, "X", "x"));
    let cases: [(String, &str, &[&str]); 16] = [
        // A word of the text is left out: the next ones must not be searched for.
        (format!("{DOCUMENT}{cat}"), ":2", &["word 2, expected word 1"]),
        (
            format!("{DOCUMENT}{}", word("1", "cat", "X", "x")),
            ":2",
            &["`cat`", "sample `s`", "`A cat.`"],
        ),
        (format!("{DOCUMENT}{a}{}", word("2", "dog", "X", "x")), ":3", &["`dog`", "`cat.`"]),
        (format!("{DOCUMENT}{a}{stop}"), ":3", &["word 3, expected word 2"]),
        (format!("{DOCUMENT}{a}{cat}"), ":3", &["end before its text", "`.`"]),
        (
            format!("{DOCUMENT}{a}{cat}{stop}{}", word("4", "!", "X", "x")),
            ":5",
            &["`!`", "expected ``"],
        ),
        (format!("{DOCUMENT}{a}{cat}{stop}\n{DOCUMENT}"), ":6", &["labelled before, on line 1"]),
        (format!("# newdoc\n{a}"), ":1", &["without an id"]),
        ("# newdoc id = t\n".into(), ":1", &["no sample `t`"]),
        ("# sent_id = 1\n".into(), ":1", &["no `# newdoc id"]),
        (format!("{DOCUMENT}1\tA\t_\tX\t_\t_\t0\tx\t_\n"), ":2", &["9 columns, expected 10"]),
        (format!("{DOCUMENT}{}", a.replace('\t', " ")), ":2", &["1 columns", "tabs"]),
        (format!("{DOCUMENT}{}", a.replace("\t_\n", "\t_\t_\n")), ":2", &["11 columns"]),
        (format!("{DOCUMENT}one{}", &a[1..]), ":2", &["word `one`"]),
        (format!("{DOCUMENT}{}", word("1", "", "X", "x")), ":2", &["no empty column"]),
        (
            format!("{DOCUMENT}{}{a}\n", word("1-2", "A", "_", "_")),
            ":4",
            &["ends before word 2", "`A`"],
        ),
    ];
    for (conllu, line, problems) in cases {
        let error = labels_in("A cat.", &conllu).expect_err(&conllu);
        assert!(error.subject.ends_with(line), "{conllu}: {error}");
        for problem in problems {
            assert!(error.problem.contains(problem), "{conllu}: {error}");
        }
    }
}

proptest::proptest! {
    /// Changes any byte: the labels are those of the right words, or the file is refused.
    #[test]
    fn a_damaged_file_gives_no_other_words(at in 0usize..400, byte in proptest::prelude::any::<u8>()) {
        let text = "In dem Haus ist es, wie im Garten, warm.";
        let words = ["In", "dem", "Haus", "ist", "es", ",", "wie", "im", "Garten", ",", "warm", "."];
        let lines = words.iter().enumerate();
        let lines: String = lines.map(|(i, form)| word(&(i + 1).to_string(), form, "X", "x")).collect();
        let mut bytes = format!("{DOCUMENT}{lines}").into_bytes();
        let place = at % bytes.len();
        bytes[place] = byte;
        if let Ok(damaged) = String::from_utf8(bytes)
            && let Ok(labels) = labels_in(text, &damaged)
        {
            let found: Vec<&str> = labels.iter().map(|(word, _)| word.as_str()).collect();
            proptest::prop_assert_eq!(found, words);
        }
    }
}

/// Every feature, entity and end of a sentence is a test over the labels that contain it.
#[test]
fn columns_become_tests() {
    let line = |id: &str, form: &str, feats: &str, misc: &str| {
        format!("{id}\t{form}\t_\tX\t_\t{feats}\t0\tdep\t_\t{misc}\n")
    };
    let text = [
        "# newdoc id = one\n",
        &line("1", "A", "Definite=Ind|PronType=Art", "_"),
        &line("2", "cat", "Number=Sing", "SpaceAfter=No|NER=B-ANIMAL"),
        &line("3", ".", "_", "ner=O"),
        &line("1", "A", "Number=Sing|PronType=Art", "_"),
        &line("2", "dog", "Number=Sing", "NER=S-ANIMAL"),
        &line("3", ".", "_", "NER=E-ANIMAL"),
    ]
    .concat();
    let syntax = read(&text).expect("valid");
    let one = "A cat. A dog.";
    let answers = |kind: LabelKind, name: &str| {
        let tests = syntax.labels[kind as usize].tests(kind);
        let test = tests.iter().find(|test| test.name == name).unwrap_or_else(|| panic!("{name}"));
        let starts = [0, 2, 5, 7, 9, 12];
        let word = |&at: &usize| syntax.of(0).at(one, at..at + 1).expect("a word");
        let yes: Vec<bool> =
            starts.iter().map(|at| test.ids.contains(&word(at)[kind as usize])).collect();
        (yes, test.family.clone())
    };
    let bits = |text: &str| text.chars().map(|c| c == '1').collect::<Vec<_>>();
    let expect = |kind, name: &str, want: &str, family: &str| {
        assert_eq!(answers(kind, name), (bits(want), family.to_owned()), "{name}");
    };
    expect(LabelKind::Feats, "feat Number=Sing", "010110", "syntax");
    expect(LabelKind::Feats, "feat PronType=Art", "100100", "syntax");
    expect(LabelKind::Feats, "feat Definite=Ind", "100000", "syntax");
    expect(LabelKind::Marks, "entity ANIMAL", "010011", "entity");
    expect(LabelKind::Marks, "sentence end", "001001", "syntax");
    expect(LabelKind::Upos, "upos X", "111111", "syntax");
}
