//! The token classes that a neuron promotes or suppresses: token tests over the vocabulary (paper §5.1).

use rayon::prelude::*;

use super::explain::reduction;
use super::token_tests::TokenTest;

/// How well a token test tells the effects of a neuron on the vocabulary apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenClass {
    /// Index of the test.
    pub test: usize,
    /// Reduction in variance of the effects, at most 1 (eq. 4).
    pub reduction: f64,
    /// Welch's t statistic of the effects on tokens of the class against those on the others.
    pub t: f64,
}

/// Returns Welch's t statistic of two samples, each given by n, Σv and Σv²; NaN if a sample has fewer
/// than two values, and infinite if neither varies.
fn welch_t(a: [f64; 3], b: [f64; 3]) -> f64 {
    let mean = |[n, sum, _]: [f64; 3]| sum / n;
    let squared_error =
        |[n, sum, square]: [f64; 3]| (square - sum * sum / n).max(0.0) / (n - 1.0) / n;
    (mean(a) - mean(b)) / (squared_error(a) + squared_error(b)).sqrt()
}

/// Returns the `most` token classes that explain most of the variance of `effects`, `[d_vocab]`, best
/// first. A class and its complement have at least `support` tokens.
pub fn token_classes(
    effects: &[f64],
    tests: &[TokenTest],
    support: usize,
    most: usize,
) -> Vec<TokenClass> {
    let sums = |values: &mut dyn Iterator<Item = f64>| {
        values.fold([0.0; 3], |[n, sum, square], v| [n + 1.0, sum + v, square + v * v])
    };
    // Effects are small numbers around their mean, which would cost digits of the squares.
    let mean = effects.iter().sum::<f64>() / effects.len() as f64;
    let all = sums(&mut effects.iter().map(|v| v - mean));
    let of = |(test, TokenTest { ids, .. }): (usize, &TokenTest)| {
        let yes = sums(&mut ids.iter().map(|&id| effects[id] - mean));
        let no = [all[0] - yes[0], all[1] - yes[1], all[2] - yes[2]];
        let (reduction, _) = reduction(all, yes, support.max(2) as f64)?;
        Some(TokenClass { test, reduction, t: welch_t(yes, no) })
    };
    let mut found: Vec<TokenClass> = tests.par_iter().enumerate().filter_map(of).collect();
    found.sort_by(|a, b| b.reduction.total_cmp(&a.reduction).then(a.test.cmp(&b.test)));
    found.truncate(most);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn test_of(ids: Vec<usize>) -> TokenTest {
        TokenTest::new("class".into(), "family", ids)
    }

    /// Computes Welch's t literally.
    fn twin(a: &[f64], b: &[f64]) -> f64 {
        let of = |v: &[f64]| {
            let n = v.len() as f64;
            let mean = v.iter().sum::<f64>() / n;
            (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
        };
        let ((mean_a, error_a), (mean_b, error_b)) = (of(a), of(b));
        (mean_a - mean_b) / (error_a + error_b).sqrt()
    }

    proptest! {
        #[test]
        fn t_is_its_definition(rows in prop::collection::vec((-3.0f64..3.0, any::<bool>()), 6..60)) {
            let effects: Vec<f64> = rows.iter().map(|row| row.0).collect();
            let of = |wanted: bool| -> Vec<f64> {
                rows.iter().filter(|row| row.1 == wanted).map(|row| row.0).collect()
            };
            let (yes, no) = (of(true), of(false));
            prop_assume!(yes.len() >= 2 && no.len() >= 2);
            let ids = (0..rows.len()).filter(|&id| rows[id].1).collect();
            let found = token_classes(&effects, &[test_of(ids)], 2, 1);
            let want = twin(&yes, &no);
            // Sums of at most 60 squares below 9 are off by less than 1e-12, and the error of t is
            // relative to the standard error, of which the square is at least that of two values.
            prop_assume!(want.abs() < 1e3);
            prop_assert!((found[0].t - want).abs() <= 1e-6 * (1.0 + want.abs()), "{} {want}", found[0].t);
        }
    }

    /// SciPy 1.17.1: `ttest_ind(v[y], v[~y], equal_var=False)`.
    #[test]
    fn t_is_that_of_scipy() {
        let effects = [0.5, -1.25, 2.0, 3.5, 0.25, -0.75, 1.5, 4.0];
        let found = token_classes(&effects, &[test_of(vec![2, 3, 7])], 2, 1);
        assert!((found[0].t - 4.040_941_536_166_522).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn the_best_classes_come_first_and_small_ones_are_left_out() {
        let effects = [1.0, 1.0, 1.0, 0.0, 0.0, 0.1];
        let tests = [vec![0, 3], vec![0, 1, 2], vec![5], vec![0, 1]].map(test_of);
        let found = token_classes(&effects, &tests, 2, 2);
        assert_eq!(found.iter().map(|class| class.test).collect::<Vec<_>>(), [1, 3]);
        assert!(found[0].t > 0.0 && found[0].reduction > 0.9);
        let suppressed = token_classes(&effects.map(|v| -v), &tests, 2, 1);
        assert!(suppressed[0].t < 0.0);
    }
}
