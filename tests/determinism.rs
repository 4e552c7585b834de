//! Sums are made in the order of the tokens: neither the size of a batch nor the number of
//! threads changes a bit of any result.

use universal_neurons::Result;
use universal_neurons::experiment::{self, KINDS, load_spec};
use universal_neurons::findings::Universal;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, run};

use crate::support::{Bench, settings_of, varied_corpus};

/// Tokens of a batch and threads: one row at a time, rows that do not divide the corpus
/// evenly, and everything at once.
const WAYS: [(usize, usize); 4] = [(12, 1), (30, 2), (100_000, 1), (12, 3)];
/// Runs the experiment of a folder; returns all that it found, and the rows of its tables.
fn found(bench: &Bench, tokens: usize, threads: usize) -> (String, usize) {
    let mut loaded = load_spec(&bench.path().join("spec.yaml")).unwrap_or_else(|e| panic!("{e}"));
    loaded.spec.batch.tokens = tokens;
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let batches = plan.tokens.batches(tokens, 0..plan.tokens.count().used).len();
    assert_eq!(batches == 1, tokens >= 100_000, "{batches} batches of {tokens} tokens");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let found = pool.install(|| {
        if plan.spec.kind == experiment::STUDY { study(&plan) } else { figures(&plan) }
    });
    found.unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a study; all of its findings but the times.
fn study(plan: &Plan) -> Result<(String, usize)> {
    let findings = run(plan, &mut Control::default())?.reference;
    let all = format!("{:?}\n{:?}\n{:?}", findings.table, findings.extra, findings.partners);
    Ok((all, findings.extra.len()))
}

/// Runs an experiment of another kind, with every tenth neuron for a universal one.
fn figures(plan: &Plan) -> Result<(String, usize)> {
    let neurons = plan.reference().layout().n_neurons();
    let universal = Universal((0..neurons).map(|i| i % 10 == 0).collect());
    let figures = experiment::run(plan, Some(universal), &mut Control::default())?;
    let rows = figures.tables.values().map(|table| table.rows.len()).sum();
    Ok((format!("{:?}\n{:?}", figures.named, figures.tables), rows))
}

#[test]
fn results_do_not_depend_on_batches_or_threads() {
    for kind in KINDS.map(|kind| kind.rules.name) {
        let bench = Bench::new();
        bench.write("corpus.jsonl", varied_corpus(50));
        bench.set_kind(kind, &settings_of(kind));
        let (expected, rows) = found(&bench, 100_000, 2);
        assert!(rows > 0, "{kind} found nothing");
        for (tokens, threads) in WAYS {
            let (got, _) = found(&bench, tokens, threads);
            assert!(
                got == expected,
                "{kind}: {tokens} tokens, {threads} threads\n{got}\n{expected}"
            );
        }
    }
}
