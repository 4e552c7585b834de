//! The token tests that explain the neurons of cards.

use super::seen::{Seen, short};
use crate::error::Result;
use crate::families::{FamilySettings, GroupedTests, TestSuite, best_explanations};
use crate::plan::Plan;
use crate::record::Explanation;

/// Number of explanations shown.
const EXPLANATIONS: usize = 3;

/// The best explanations of a neuron.
pub struct Explained {
    /// The explanations, best first; empty if the spec names no tests.
    pub explanations: Vec<Explanation>,
    /// The answer of the best test for every token; all false without a test.
    pub answers: Vec<bool>,
}

/// Returns the best explanations of each of the first `n` neurons.
///
/// # Errors
/// Returns an error if the tests are malformed, or the tokenizer cannot be read.
pub fn explain(plan: &Plan, seen: &Seen, n: usize) -> Result<Vec<Explained>> {
    let nothing = || Explained {
        explanations: Vec::new(),
        answers: vec![false; seen.activations.places.len()],
    };
    let Some(path) = &plan.spec.cards.tests else {
        return Ok((0..n).map(|_| nothing()).collect());
    };
    let spec = FamilySettings::of(path.clone());
    let suite = TestSuite::read(&spec, plan, &seen.readings, None)?;
    let grouped = suite.over(&seen.readings);
    let mut found: Vec<Vec<(f64, TestMatch)>> = vec![Vec::new(); n];
    let see = |group: usize, test: usize, reductions: &[Option<(f64, f64)>]| {
        for (found, reduction) in found.iter_mut().zip(reductions) {
            let Some((reduction, difference)) = *reduction else { continue };
            let at = found.partition_point(|(other, _)| *other >= reduction);
            found.insert(at, (reduction, TestMatch { group, test, difference }));
            found.truncate(EXPLANATIONS);
        }
    };
    best_explanations(&grouped, n, spec.support, see);
    let explained = |found: Vec<(f64, TestMatch)>| match found.first() {
        None => nothing(),
        Some((_, best)) => Explained {
            answers: best.answers(&grouped, seen),
            explanations: found.iter().map(|(r, test)| test.explanation(&grouped, *r)).collect(),
        },
    };
    Ok(found.into_iter().map(explained).collect())
}

/// A test that explains a neuron, by its indices.
#[derive(Clone, Copy)]
struct TestMatch {
    group: usize,
    test: usize,
    difference: f64,
}

impl TestMatch {
    fn explanation(&self, grouped: &[GroupedTests], reduction: f64) -> Explanation {
        let GroupedTests { sums, tests, .. } = &grouped[self.group];
        let test = &tests[self.test];
        Explanation {
            test: test.name.clone(),
            family: test.family.clone(),
            reduction: short(reduction),
            difference: short(self.difference),
            support: test.ids.iter().map(|&id| sums.tokens(id)).sum(),
        }
    }

    /// Returns the answer of the test for every token.
    fn answers(&self, grouped: &[GroupedTests], seen: &Seen) -> Vec<bool> {
        let GroupedTests { sums, tests, .. } = &grouped[self.group];
        let mut yes = vec![false; sums.groups()];
        tests[self.test].ids.iter().for_each(|&id| yes[id] = true);
        seen.groups[self.group].iter().map(|g| g.is_some_and(|g| yes[g])).collect()
    }
}
