//! Computes how much of a neuron's variance a yes-or-no test of the token explains (eq. 4).

use rayon::prelude::*;

use super::GroupSums;
use super::token_tests::TokenTest;

/// Sums of activations by one grouping of tokens, and the tests over its groups.
pub struct GroupedTests<'a> {
    /// The grouping.
    pub group: TokenGroup,
    /// Sums of activations by group.
    pub sums: &'a GroupSums,
    /// The tests; their ids are group indices.
    pub tests: &'a [TokenTest],
}

/// How tokens are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenGroup {
    /// By token id.
    Token,
    /// By the id of the previous token in the row.
    PreviousToken,
    /// By position in the row.
    Position,
    /// By the label of the sample.
    Label,
    /// By the part of speech, or the dependency relation, of the word in which the token begins.
    Syntax,
}

/// The test that explains a neuron best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestExplanation {
    /// Index in the list of grouped tests.
    pub grouped: usize,
    /// Index of the test within them.
    pub test: usize,
    /// Reduction in variance, at most 1.
    pub reduction: f64,
    /// Mean activation over tokens with answer yes, minus the mean over tokens with answer no.
    pub difference: f64,
    /// Number of tokens for which the answer is yes.
    pub support: f64,
}

/// Returns the reduction in variance, `1 − [(1−β) σ²(v|no) + β σ²(v|yes)] / σ²(v)`, and the
/// difference of means. `all` and `yes` are n, Σv and Σv² over all tokens and over those with
/// answer yes. Returns `None` if v does not vary, or if either answer is given to fewer than
/// `support` tokens.
pub fn reduction(all: [f64; 3], yes: [f64; 3], support: f64) -> Option<(f64, f64)> {
    let no = [all[0] - yes[0], all[1] - yes[1], all[2] - yes[2]];
    let squares = |[n, sum, square]: [f64; 3]| (square - sum * sum / n).max(0.0);
    let total = squares(all);
    let counted = yes[0] >= support && no[0] >= support && total > 1e-12 * all[2].max(1e-300);
    counted.then(|| (1.0 - (squares(yes) + squares(no)) / total, yes[1] / yes[0] - no[1] / no[0]))
}

/// Returns whether a neuron is more active on the tokens of `then` than on those of neither `yes`
/// nor `then`. Each is n and Σv, over all tokens and over those of a list.
fn is_secondarily_active(all: [f64; 2], yes: [f64; 2], then: [f64; 2]) -> bool {
    let rest = [all[0] - yes[0] - then[0], all[1] - yes[1] - then[1]];
    // NaN, where a list has no tokens, is not above anything.
    then[1] / then[0] > rest[1] / rest[0]
}

impl GroupedTests<'_> {
    /// Returns the reduction in variance and the difference of means of each neuron by a test, as
    /// [`reduction`] does, or `None` if the neuron does not meet the condition of the test.
    /// `all` is Σv and Σv² over all `n` tokens.
    fn reductions(
        &self,
        test: &TokenTest,
        (n, all): (f64, &[[f64; 3]]),
        support: f64,
    ) -> Vec<Option<(f64, f64)>> {
        let tokens = |ids: &[usize]| ids.iter().map(|&id| self.sums.tokens(id)).sum::<f64>();
        let yes_n = tokens(&test.ids);
        let yes = self.sums.over(&test.ids);
        let then = test.then.as_ref().map(|ids| (tokens(ids), self.sums.over(ids)));
        let one = |i: usize| {
            let ([sum, square, _], [yes_sum, yes_square, _]) = (all[i], yes[i]);
            let meets = then.as_ref().is_none_or(|(then_n, then)| {
                is_secondarily_active([n, sum], [yes_n, yes_sum], [*then_n, then[i][0]])
            });
            let of = || reduction([n, sum, square], [yes_n, yes_sum, yes_square], support);
            meets.then(of).flatten()
        };
        (0..all.len()).into_par_iter().map(one).collect()
    }
}

/// Returns the best explanation of each neuron, or `None` if no test has enough support. `see` is
/// called for every test with its indices (grouping, test) and the reduction of every neuron.
pub fn best_explanations(
    grouped: &[GroupedTests],
    n_neurons: usize,
    support: usize,
    mut see: impl FnMut(usize, usize, &[Option<(f64, f64)>]),
) -> Vec<Option<TestExplanation>> {
    let mut best: Vec<Option<TestExplanation>> = vec![None; n_neurons];
    for (g, of_group) in grouped.iter().enumerate() {
        let GroupedTests { sums, tests, .. } = of_group;
        let groups: Vec<usize> = (0..sums.groups()).collect();
        let n: f64 = groups.iter().map(|&group| sums.tokens(group)).sum();
        let all = sums.over(&groups);
        for (t, test) in tests.iter().enumerate() {
            let support_of: f64 = test.ids.iter().map(|&id| sums.tokens(id)).sum();
            let reductions = of_group.reductions(test, (n, &all), support as f64);
            see(g, t, &reductions);
            for (best, found) in best.iter_mut().zip(&reductions) {
                let Some((reduction, difference)) = *found else { continue };
                if best.is_none_or(|b| reduction > b.reduction) {
                    *best = Some(TestExplanation {
                        grouped: g,
                        test: t,
                        reduction,
                        difference,
                        support: support_of,
                    });
                }
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Computes equation 4 literally.
    fn twin(v: &[f64], y: &[bool]) -> f64 {
        let var = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64
        };
        let of = |yes: bool| -> Vec<f64> {
            v.iter().zip(y).filter(|(_, y)| **y == yes).map(|(v, _)| *v).collect()
        };
        let beta = of(true).len() as f64 / v.len() as f64;
        1.0 - ((1.0 - beta) * var(&of(false)) + beta * var(&of(true))) / var(v)
    }

    proptest! {
        #[test]
        fn reduction_is_equation_four(rows in prop::collection::vec((-3.0f64..3.0, any::<bool>()), 4..60)) {
            let (v, y): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
            let sums = |wanted: &dyn Fn(bool) -> bool| {
                v.iter().zip(&y).filter(|(_, y)| wanted(**y)).fold([0.0; 3], |[n, s, q], (v, _)| [n + 1.0, s + v, q + v * v])
            };
            let (all, yes) = (sums(&|_| true), sums(&|y| y));
            match reduction(all, yes, 1.0) {
                Some((got, _)) => prop_assert!((got - twin(&v, &y)).abs() < 1e-9),
                None => prop_assert!(yes[0] == 0.0 || yes[0] == all[0]),
            }
        }
    }

    /// A letter's test explains a neuron only if tokens that begin with the letter are next in
    /// activation; a word's test has no such condition.
    #[test]
    fn a_condition_tells_a_letter_from_a_word() {
        // Tokens: the letter, one that begins with it, another one. Two neurons.
        let mut sums = GroupSums::new(3, 2);
        for _ in 0..30 {
            let groups = [Some(0), Some(1), Some(2)];
            sums.absorb(&groups, &[3.0, 3.0, 0.5, 0.0, 0.0, 0.1]);
        }
        let letter =
            TokenTest { then: Some(vec![1]), ..TokenTest::new("letter".into(), "", vec![0]) };
        let word = TokenTest::new("word".into(), "", vec![0]);
        let tests = [letter, word];
        let grouped = [GroupedTests { group: TokenGroup::Token, sums: &sums, tests: &tests }];
        let best = best_explanations(&grouped, 2, 20, |_, _, _| ());
        assert_eq!(best.iter().map(|b| b.expect("explained").test).collect::<Vec<_>>(), [0, 1]);
        let alone = TokenTest { then: Some(vec![]), ..tests[0].clone() };
        let tests = [alone];
        let grouped = [GroupedTests { group: TokenGroup::Token, sums: &sums, tests: &tests }];
        assert_eq!(best_explanations(&grouped, 2, 20, |_, _, _| ()), [None, None]);
    }

    #[test]
    fn a_neuron_that_is_the_test_is_explained_whole() {
        assert_eq!(reduction([4.0, 2.0, 2.0], [2.0, 2.0, 2.0], 1.0), Some((1.0, 1.0)));
        assert_eq!(reduction([4.0, 4.0, 4.0], [2.0, 2.0, 2.0], 1.0), None, "never varies");
        assert_eq!(reduction([4.0, 2.0, 2.0], [2.0, 2.0, 2.0], 3.0), None, "too few");
    }
}
