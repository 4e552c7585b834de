//! The tokens of recorded activations: their indices in the files, in rows of one document each.

use std::path::Path;

use super::PlannedModel;
use crate::corpus::{Row, Sample, Tokens};
use crate::error::{Error, Kind, Result};
use crate::model::Recording;
use crate::spec::{BaselineKind, MomentKind, RECORDED_ROW, Spec};

/// Returns the tokens that all members of a family recorded, and their documents, which have a number
/// as their id and no text.
///
/// # Errors
/// Returns an error naming the file if a member has another number of tokens, another mask or other
/// documents than the first one that has any, or if the mask leaves no token.
pub(super) fn recorded_tokens(models: &[PlannedModel]) -> Result<(Tokens, Vec<Sample>)> {
    let members = || models.iter().filter_map(|model| Some((model, model.recording()?)));
    let Some((first, recording)) = members().next() else {
        unreachable!("a family has members");
    };
    let tokens = recording.tokens();
    if let Some((model, other)) = members().find(|(_, other)| other.tokens() != tokens) {
        let found = other.tokens();
        let problem = format!("holds {found} tokens, and `{}` holds {tokens}", first.name);
        return Err(other_tokens(model, &problem));
    }
    let mask = common(models, "mask", Recording::mask)?;
    let documents = common(models, "documents", Recording::documents)?;
    let row = members().find_map(|(_, recording)| recording.row());
    let documents = documents.unwrap_or_else(|| {
        // Whole rows are documents; without rows, stretches of tokens are.
        (0..tokens).map(|token| (token / row.unwrap_or(RECORDED_ROW)) as i64).collect()
    });
    let (rows, documents) = rows_of(&documents, mask.as_deref());
    if rows.is_empty() {
        return Err(other_tokens(first, "has a mask that leaves no token"));
    }
    let sample =
        |number: i64| Sample { id: number.to_string(), domain: "text".into(), text: String::new() };
    Ok((Tokens::recorded(rows), documents.into_iter().map(sample).collect()))
}

/// Checks what sparse activations allow, if some member is sparse.
///
/// # Errors
/// Returns an error if only some members are sparse, or the spec asks for what is not computed
/// without zeros.
pub(super) fn check_sparse(spec: &Spec, path: &Path, models: &[PlannedModel]) -> Result<()> {
    let is_sparse = |m: &PlannedModel| m.recording().is_some_and(|r| r.sparse_entries().is_some());
    let Some(sparse) = models.iter().find(|model| is_sparse(model)) else { return Ok(()) };
    if let Some(dense) = models.iter().find(|model| !is_sparse(model)) {
        let problem =
            format!("holds every activation, and `{}` only those that are not zero", sparse.name);
        let remedy = "export all members in one form";
        return Err(Error::new(Kind::Model, dense.folder.display(), problem, remedy));
    }
    let correlation = &spec.correlation;
    let (key, remedy) = if correlation.baseline.kind != BaselineKind::Permutation {
        ("correlation.baseline.kind", "write `correlation: { baseline: { kind: permutation } }`")
    } else if correlation.screen.is_some() {
        ("correlation.screen", "remove it: sparse activations are compared quickly anyway")
    } else if spec.statistics.moments != MomentKind::Exact {
        ("statistics.moments", "write `moments: exact`")
    } else {
        return Ok(());
    };
    let problem = format!("`{key}` asks for what is not computed of sparse activations");
    Err(Error::new(Kind::Spec, path.display(), problem, remedy))
}

/// Returns what the recorded members say of the tokens: those that say anything say the same.
///
/// # Errors
/// Returns an error naming the file if two of them say different things, or one cannot be read.
pub(super) fn common<T: PartialEq>(
    models: &[PlannedModel],
    name: &str,
    read: impl Fn(&Recording) -> Result<Option<Vec<T>>>,
) -> Result<Option<Vec<T>>> {
    let mut known: Option<(&PlannedModel, Vec<T>)> = None;
    for (model, recording) in models.iter().filter_map(|m| Some((m, m.recording()?))) {
        match (read(recording)?, &known) {
            (Some(own), None) => known = Some((model, own)),
            (Some(own), Some((first, other))) if own != *other => {
                let problem = format!("its tensor `{name}` differs from that of `{}`", first.name);
                return Err(other_tokens(model, &problem));
            }
            _ => {}
        }
    }
    Ok(known.map(|(_, own)| own))
}

fn other_tokens(model: &PlannedModel, problem: &str) -> Error {
    let remedy = "record the activations of all members over the same tokens";
    Error::new(Kind::Model, model.folder.display(), problem, remedy)
}

/// Returns the rows of the tokens that take part, and the numbers of their documents. A document is a
/// run of tokens with one number; rows are no longer than [`RECORDED_ROW`].
fn rows_of(documents: &[i64], mask: Option<&[bool]>) -> (Vec<Row>, Vec<i64>) {
    let (mut rows, mut numbers, mut first) = (Vec::new(), Vec::new(), 0);
    for document in documents.chunk_by(|a, b| a == b) {
        let tokens = first..first + document.len();
        first = tokens.end;
        let takes_part = |&token: &usize| mask.is_none_or(|mask| mask[token]);
        let ids: Vec<u32> = tokens.filter(takes_part).map(|token| token as u32).collect();
        let parts = ids.chunks(RECORDED_ROW).enumerate();
        let sample = numbers.len();
        rows.extend(parts.map(|(i, ids)| Row::of_sample(None, ids, sample, i * RECORDED_ROW)));
        numbers.extend((!ids.is_empty()).then_some(document[0]));
    }
    (rows, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_that_takes_part_is_in_one_row_of_its_document(
            lengths in prop::collection::vec(1_usize..300, 1..6),
            masked in prop::option::of(prop::collection::vec(any::<bool>(), 1800)),
        ) {
            let lengths = lengths.iter().enumerate();
            let documents: Vec<i64> =
                lengths.flat_map(|(i, &n)| std::iter::repeat_n(7 - i as i64, n)).collect();
            let mask = masked.map(|mask| mask[..documents.len()].to_vec());
            let (rows, numbers) = rows_of(&documents, mask.as_deref());
            let expected: Vec<u32> = (0..documents.len() as u32)
                .filter(|&token| mask.as_ref().is_none_or(|mask| mask[token as usize]))
                .collect();
            let ids: Vec<u32> = rows.iter().flat_map(|row| row.ids.clone()).collect();
            prop_assert_eq!(ids, expected);
            let mut seen: Vec<i64> = Vec::new();
            for row in &rows {
                prop_assert!((1..=RECORDED_ROW).contains(&row.ids.len()));
                let own = documents[row.ids[0] as usize];
                prop_assert!(row.ids.iter().all(|&id| documents[id as usize] == own));
                prop_assert_eq!(numbers[row.sample()], own);
                if seen.last() != Some(&own) {
                    seen.push(own);
                }
                prop_assert_eq!(row.sample() + 1, seen.len());
            }
            prop_assert_eq!(seen, numbers);
        }
    }
}
