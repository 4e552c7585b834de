//! The batches of a run, and how tokens are divided into shares.

use std::ops::Range;

use crate::corpus::Batch;
use crate::correlation::CHUNK;
use crate::plan::Plan;

/// Returns the tokens of share `i` of `n`, counted from 0, among all `used` tokens. A share consists
/// of whole chunks, so that products are summed in the same groups as in an undivided run.
pub fn share_of(i: usize, n: usize, used: usize) -> Range<usize> {
    let chunks = used.div_ceil(CHUNK);
    let start = |i: usize| (chunks * i / n * CHUNK).min(used);
    start(i)..start(i + 1)
}

/// Returns the batches of all tokens in `n` shares that are read side by side: one batch of each
/// share, then the next of each.
pub fn batches_in_shares(plan: &Plan, n: usize) -> Vec<Batch<'_>> {
    let used = plan.tokens.count().used;
    let of = |i| plan.tokens.batches(plan.spec.batch.tokens, share_of(i, n, used)).into_iter();
    let mut shares: Vec<_> = (0..n).map(of).collect();
    let mut batches = Vec::new();
    loop {
        let before = batches.len();
        batches.extend(shares.iter_mut().filter_map(Iterator::next));
        if batches.len() == before {
            return batches;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_is_in_one_share(used in 0usize..20_000, n in 1usize..9) {
            let mut next = 0;
            for i in 0..n {
                let tokens = share_of(i, n, used);
                prop_assert_eq!(tokens.start, next);
                prop_assert!(tokens.start.is_multiple_of(CHUNK) || tokens.is_empty());
                next = tokens.end;
            }
            prop_assert_eq!(next, used);
        }
    }
}
