//! Resolves a spec: finds, checks and digests its files, and tokenises the text.

use std::path::Path;

use super::distinct::check_distinct;
use super::recorded::{check_sparse, recorded_tokens};
use super::vocabulary::check_one_vocabulary;
use super::{Plan, PlannedModel, ReadFiles, Transcript, UnitNames};
use crate::corpus::cache::{Cache, Read};
use crate::corpus::documents::DocumentCount;
use crate::corpus::rows::Cutter;
use crate::corpus::tokenizer::BpeTokenizer;
use crate::corpus::{Sample, Tokens, documents};
use crate::correlation::Keep;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::model::Config;
use crate::spec::load::Loaded;
use crate::spec::{Model, Spec};

impl Plan {
    /// Resolves a spec.
    ///
    /// # Errors
    /// Returns an error if a model, tokenizer or corpus is missing or malformed, if the models have
    /// different vocabularies, or if the context is longer than a model's.
    pub fn make(loaded: Loaded) -> Result<Self> {
        if loaded.spec.corpus.is_absent() {
            return Self::of_recordings(loaded);
        }
        let Loaded { spec, path, digest: spec_digest, kind } = loaded;
        let models = spec.models.family.iter();
        let find = |m: &Model| match m.untrained {
            Some(seed) => PlannedModel::find_untrained(&m.name, &m.path, seed),
            None => PlannedModel::find(&m.name, &m.path),
        };
        let models = models.map(|m| find(m)?.compared_as(&spec).first_layers(&spec));
        let mut models: Vec<_> = models.collect::<Result<_>>()?;
        let files = name_units(&spec, &mut models)?;
        let judged = positions(&spec)?;
        check_context(&spec, &path, &models)?;
        check_one_vocabulary(&models)?;
        check_distinct(&spec, &path, &models)?;
        let mut corpus = InputFile::open(Kind::Corpus, &spec.corpus.path)?;
        let corpus_digest = corpus.digest()?;
        check_corpus(&spec, &corpus_digest)?;
        let model = &models[judged[0]];
        let tokenizer = model.tokenizer()?;
        let keeps_texts = (kind.keeps_texts)(&spec);
        let read = read_corpus(
            &mut corpus,
            &spec,
            &tokenizer,
            &model.config,
            &corpus_digest,
            keeps_texts,
        )?;
        let Read { samples, count, rows } = read;
        let tokens = Tokens::new(rows, &spec.corpus, &tokenizer, model.config.bos_token_id)?;
        let tokens = spec.corpus.sample.map(|used| tokens.sample(used)).unwrap_or(tokens);
        let mut plan = Self {
            corpus_digest,
            spec,
            spec_path: path,
            spec_digest,
            models,
            judged,
            samples,
            documents: count,
            tokens,
            transcript: None,
            keep: Keep::Tokens,
            files,
        };
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }

    /// Resolves a spec of recorded activations.
    fn of_recordings(loaded: Loaded) -> Result<Self> {
        let Loaded { spec, path: spec_path, digest: spec_digest, kind: _ } = loaded;
        let members = spec.models.family.iter();
        let open = |m: &Model| PlannedModel::find_recording(&m.name, &m.path)?.first_layers(&spec);
        let mut models: Vec<_> = members.map(open).collect::<Result<_>>()?;
        let files = name_units(&spec, &mut models)?;
        let judged = positions(&spec)?;
        check_distinct(&spec, &spec_path, &models)?;
        check_sparse(&spec, &spec_path, &models)?;
        let (tokens, samples) = recorded_tokens(&models)?;
        let transcript = Transcript::read(&spec, &models)?;
        let mut plan = Self {
            corpus_digest: String::new(),
            spec,
            spec_path,
            spec_digest,
            models,
            judged,
            documents: DocumentCount { documents: samples.len(), empty: 0 },
            samples,
            tokens,
            transcript,
            keep: Keep::Tokens,
            files,
        };
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }
}

/// Reads the names of units that a spec lists. Returns the files that were read.
fn name_units(spec: &Spec, models: &mut [PlannedModel]) -> Result<ReadFiles> {
    let files = ReadFiles::default();
    for (model, listed) in models.iter_mut().zip(&spec.models.family) {
        let Some(path) = &listed.names else { continue };
        model.names = UnitNames::read(path, model.layout(), &files)?;
    }
    Ok(files)
}

/// Refuses another text than the one that the spec names by its digest.
fn check_corpus(spec: &Spec, digest: &str) -> Result<()> {
    let Some(expected) = spec.corpus.sha256.as_ref().filter(|expected| *expected != digest) else {
        return Ok(());
    };
    let problem = format!("has the SHA-256 {digest}, and `corpus.sha256` is {expected}");
    let remedy = "get that file, or leave `corpus.sha256` out and say in the spec what was read";
    Err(Error::new(Kind::Corpus, spec.corpus.path.display(), problem, remedy))
}

/// Returns the indices in the family of the reference and of the other judged models.
pub(super) fn positions(spec: &Spec) -> Result<Vec<usize>> {
    let wanted = std::iter::once(&spec.models.reference).chain(&spec.models.also_reference);
    let place = |wanted: &String| {
        spec.models.family.iter().position(|m| m.name == *wanted).ok_or_else(|| {
            let problem = format!("`{wanted}` is not among `models.family`");
            Error::new(Kind::Spec, "models.reference", problem, "name one of the family")
        })
    };
    wanted.map(place).collect()
}

/// Checks that every model can read rows as long as those of the spec.
pub(super) fn check_context(spec: &Spec, path: &Path, models: &[PlannedModel]) -> Result<()> {
    let context = spec.corpus.context;
    match models.iter().find(|m| m.config.n_ctx < context) {
        None => Ok(()),
        Some(model) => Err(Error::new(
            Kind::Spec,
            path.display(),
            format_args!(
                "`corpus.context` is {context}, model `{}` reads at most {}",
                model.name, model.config.n_ctx
            ),
            "lower `corpus.context`",
        )),
    }
}

/// Reads the documents of the digested file and cuts them into rows, or reads both from the cache.
/// Texts are dropped unless `keep` is set.
fn read_corpus(
    file: &mut InputFile,
    spec: &Spec,
    tokenizer: &BpeTokenizer,
    config: &Config,
    corpus_digest: &str,
    keep: bool,
) -> Result<Read> {
    let bos = config.bos_token_id;
    let cache = Cache::of(&spec.corpus, corpus_digest, tokenizer, bos);
    let cache = cache.filter(|_| !keep);
    if let Some(read) = cache.as_ref().map_or(Ok(None), |c| c.read(config.d_vocab))? {
        return Ok(read);
    }
    let mut cutter = Cutter::new(tokenizer, bos, &spec.corpus);
    let mut samples = Vec::new();
    let count = documents::read_input(file, &spec.corpus, &mut |mut sample: Sample| {
        let rows = cutter.push(&sample)?;
        if !keep {
            sample.text = String::new();
        }
        samples.push(sample);
        Ok(rows)
    })?;
    let read = Read { samples, count, rows: cutter.finish()? };
    cache.map_or(Ok(()), |cache| cache.write(&read))?;
    Ok(read)
}
