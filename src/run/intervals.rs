//! Intervals of a study: another pass over the tokens, block by block of whole documents.

use std::time::Instant;

use super::Session;
use super::decoders::Decoders;
use crate::corpus::{Batch, Row, Tokens};
use crate::correlation::{BlockDraws, BlockSums, CHUNK, Purpose, RandomStream};
use crate::error::Result;
use crate::findings::{Outcome, Resamples};
use crate::model::Site;
use crate::model::capture::Activations;
use crate::plan::Plan;
use crate::record::Resampling;
use crate::spec::IntervalOptions;

impl Session<'_> {
    /// Adds the intervals that the spec asks for to the findings of a study. Reads all tokens again
    /// with all models. Changes nothing if the findings say why there are none.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, the device fails, or the run was stopped.
    pub fn add_intervals(&mut self, outcome: &mut Outcome) -> Result<()> {
        let plan = self.plan;
        let IntervalOptions { blocks, resamples, seed } = plan.spec.statistics.intervals;
        if blocks == 0 || outcome.reference.summary.resampling.is_some() {
            return Ok(());
        }
        if plan.is_sparse() {
            outcome.set_intervals_missing(plan, "intervals of sparse activations are not computed");
            return Ok(());
        }
        let begun = Instant::now();
        let dealt = DealtTokens::of(&plan.tokens, blocks, seed);
        let blocks = dealt.ends.len();
        if blocks < 2 {
            let why = "the text is one document, and whole documents are resampled";
            outcome.set_intervals_missing(plan, why);
            return Ok(());
        }
        let sums = self.block_sums(outcome, &dealt)?;
        self.control.progress.say("resampling documents");
        let draws = BlockDraws::new(blocks, resamples, seed);
        let used = Resamples { sums: &sums, draws: &draws };
        for (findings, &judged) in outcome.all_mut().zip(&plan.judged) {
            findings.add_intervals(plan.models[judged].layout(), judged, &used);
            let candidates = plan.candidates();
            let resampling = Resampling { blocks, resamples, candidates, missing: None };
            findings.summary.resampling = Some(resampling);
        }
        if let Some(timing) = &mut outcome.reference.summary.timing {
            timing.finish_s += begun.elapsed().as_secs_f64();
        }
        Ok(())
    }

    /// Reads the tokens of all blocks with all models.
    fn block_sums(&mut self, outcome: &mut Outcome, dealt: &DealtTokens) -> Result<BlockSums> {
        let plan: &Plan = self.plan;
        let layouts: Vec<_> = plan.models.iter().map(|m| m.layout()).collect();
        let judged = outcome.all_mut().zip(&plan.judged);
        let pairs = judged.flat_map(|(findings, &judged)| findings.pair_candidates(plan, judged));
        let buffers = layouts.iter().map(|layout| Activations::new(layout.n_neurons())).collect();
        let sums = BlockSums::new(layouts, dealt.ends.len(), pairs.collect());
        let mut reader = BlockReader { dealt, buffers, sums, absorbed: 0 };
        let models: Vec<usize> = (0..plan.models.len()).collect();
        self.read_models(
            "reading tokens for intervals",
            &dealt.tokens,
            &models,
            |models, batch| reader.read(models, batch),
        )?;
        self.control.progress.finish();
        Ok(reader.sums)
    }
}

/// Tokens in the order of the blocks that their documents were dealt into.
struct DealtTokens {
    tokens: Tokens,
    /// For each block, the number of used positions up to its end.
    ends: Vec<usize>,
}

impl DealtTokens {
    /// Deals the documents into blocks, in random order, so that a block is like the whole text. There
    /// are at most as many blocks as documents. A row that contains several documents counts as one
    /// document.
    fn of(tokens: &Tokens, blocks: usize, seed: u64) -> Self {
        let documents: Vec<&[Row]> =
            tokens.rows.chunk_by(|a, b| a.sample() == b.sample()).collect();
        let order = RandomStream { seed, purpose: Purpose::Blocks, id: 0 };
        let order = order.permutation(documents.len());
        let blocks = blocks.min(documents.len());
        let (mut rows, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
        for block in 0..blocks {
            let mut own: Vec<usize> = order.iter().copied().skip(block).step_by(blocks).collect();
            own.sort_unstable();
            let own: Vec<Row> = own.iter().flat_map(|&i| documents[i]).cloned().collect();
            let own = tokens.with_rows(own);
            end += own.count().used;
            ends.push(end);
            rows.extend(own.rows);
        }
        Self { tokens: tokens.with_rows(rows), ends }
    }
}

/// Adds activations to the sums of their blocks, in the same groups whatever the size of batches.
struct BlockReader<'a> {
    dealt: &'a DealtTokens,
    /// Post-activations that are not added yet, one buffer for each model.
    buffers: Vec<Activations>,
    sums: BlockSums,
    /// Number of positions that were added.
    absorbed: usize,
}

impl BlockReader<'_> {
    fn read(&mut self, models: &Decoders, batch: &Batch) -> Result<()> {
        let targets = self.buffers.iter_mut().map(|buffer| vec![(Site::MlpPost, buffer)]);
        models.capture(batch, targets.collect())?;
        loop {
            let block = self.dealt.ends.partition_point(|&end| end <= self.absorbed);
            let Some(end) = self.dealt.ends.get(block) else { return Ok(()) };
            let tokens = CHUNK.min(end - self.absorbed);
            if self.buffers[0].tokens() < tokens {
                return Ok(());
            }
            let mut first: Vec<&mut [f32]> =
                self.buffers.iter_mut().map(|a| &mut a.values[..tokens * a.n_neurons]).collect();
            self.sums.absorb(block, &mut first);
            self.buffers.iter_mut().for_each(|buffer| buffer.discard(tokens));
            self.absorbed += tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tokenizer::{TokenizerFor, load};
    use crate::spec::Corpus;
    use proptest::prelude::*;

    /// Tokens of documents, given the length of each of their rows.
    fn tokens(documents: &[Vec<usize>]) -> Tokens {
        let text = "{path: x, context: 9, exclude: []}";
        let spec: Corpus = serde_yaml::from_str(text).expect("a corpus");
        let row =
            |sample: usize| move |&len: &usize| Row::of_sample(None, &vec![1; len], sample, 0);
        let rows = documents.iter().enumerate().flat_map(|(i, rows)| rows.iter().map(row(i)));
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/expected/golden/tiny");
        let model = TokenizerFor { model: "tiny", d_vocab: Some(32) };
        let tokenizer = load(folder.as_ref(), model).expect("a tokenizer");
        Tokens::new(rows.collect(), &spec, &tokenizer, 31).expect("tokens")
    }

    proptest! {
        #[test]
        fn every_document_is_whole_in_one_block(
            documents in prop::collection::vec(prop::collection::vec(1usize..9, 1..4), 1..40),
            blocks in 2usize..12,
            seed in any::<u64>(),
        ) {
            let tokens = tokens(&documents);
            let dealt = DealtTokens::of(&tokens, blocks, seed);
            prop_assert_eq!(dealt.ends.len(), blocks.min(documents.len()));
            prop_assert_eq!(dealt.ends.last().copied(), Some(tokens.count().used));
            let (mut block_of, mut at) = (vec![Vec::new(); documents.len()], 0);
            for row in &dealt.tokens.rows {
                block_of[row.sample()].push(dealt.ends.partition_point(|&end| end <= at));
                at += row.ids.len();
            }
            let mut sizes = vec![0; dealt.ends.len()];
            for (rows, blocks) in documents.iter().zip(&block_of) {
                prop_assert_eq!(rows.len(), blocks.len());
                prop_assert!(blocks.iter().all(|b| *b == blocks[0]), "{:?}", blocks);
                sizes[blocks[0]] += 1;
            }
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
