//! Which commit of which repository a name means.

use std::path::Path;

use serde::Deserialize;

use super::client::{Client, Miss};
use super::place::Hub;
use crate::error::{Error, Kind, Result};

/// The branch that a repository is taken from if nothing else is said.
const DEFAULT_BRANCH: &str = "main";
/// A file that every repository of a model has.
const CONFIG: &str = "config.json";

/// A model that claims are about, as `expected/hub.yaml` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownModel {
    /// Its name in claims.
    pub name: String,
    /// Its repository.
    pub repo: String,
    /// The full commit id, if it is known.
    pub revision: Option<String>,
    /// The first digits of the commit id, if no more is known.
    pub begins: Option<String>,
    /// SHA-256 of its weights, if known.
    pub weights: Option<String>,
}

/// Returns the models that can be fetched by name.
///
/// # Errors
/// Returns an error if the embedded list is malformed.
pub fn known_models() -> Result<Vec<KnownModel>> {
    serde_yaml::from_str(include_str!("../../expected/hub.yaml"))
        .map_err(|e| Error::new(Kind::Model, "expected/hub.yaml", e, "correct it"))
}

/// A model at one commit.
pub(super) struct ModelAtCommit {
    /// `owner/repository`.
    pub repo: String,
    /// The commit id, 40 hexadecimal digits.
    pub commit: String,
    /// SHA-256 of its weights, if known.
    pub weights: Option<String>,
}

/// Returns the repository and the commit of a model, a name of [`known_models`] or
/// `owner/repository`. A branch or tag is looked up on the hub, or in its cache when offline.
///
/// # Errors
/// Returns an error if the name is unknown, the hub does not say which commit the branch or tag
/// is at, or the commit is not the one that is known of the model.
pub(super) fn resolve(
    (hub, client): (&Hub, &Client),
    name: &str,
    revision: Option<&str>,
) -> Result<ModelAtCommit> {
    let known = find(name)?;
    let commit = match revision.or(known.revision.as_deref()) {
        Some(revision) if is_commit(revision) => revision.to_lowercase(),
        Some(revision) => look_up((hub, client), &known.repo, revision)?,
        None => look_up((hub, client), &known.repo, DEFAULT_BRANCH)?,
    };
    // Other branches and tags are checkpoints of training, with commits of their own.
    let is_last = revision.is_none_or(|name| is_commit(name) || name == DEFAULT_BRANCH);
    let begins = known.begins.filter(|_| is_last);
    if let Some(begins) = begins.filter(|begins| !commit.starts_with(begins.as_str())) {
        let problem = format!("its commit begins with {begins}, not as {commit}");
        let remedy = "give that commit with --revision; the branch has held other training steps";
        return Err(Error::new(Kind::Model, name, problem, remedy));
    }
    // Another commit than the known one has other weights.
    let same = known.revision.is_none_or(|pinned| pinned == commit);
    Ok(ModelAtCommit { repo: known.repo, weights: known.weights.filter(|_| same), commit })
}

fn find(name: &str) -> Result<KnownModel> {
    let known = known_models()?;
    if let Some(model) = known.iter().find(|model| model.name == name) {
        return Ok(model.clone());
    }
    if is_repository(name) {
        let (name, repo) = (name.to_owned(), name.to_owned());
        return Ok(KnownModel { name, repo, revision: None, begins: None, weights: None });
    }
    let names: Vec<&str> = known.iter().map(|model| model.name.as_str()).collect();
    let remedy = format!("name one of {}, or owner/repository", names.join(", "));
    Err(Error::new(Kind::Model, name, "is not a known model", remedy))
}

/// Returns the commit that a branch or tag is at.
fn look_up((hub, client): (&Hub, &Client), repo: &str, revision: &str) -> Result<String> {
    if !is_reference(revision) {
        let problem = format!("revision `{revision}` is not a branch, a tag or a commit id");
        return Err(Error::new(Kind::Model, repo, problem, "give one with --revision"));
    }
    if hub.offline {
        return cached_commit(hub, repo, revision).ok_or_else(|| {
            let problem = format!("the cache does not say which commit `{revision}` is at");
            let remedy = "give a commit with --revision, or unset HF_HUB_OFFLINE";
            Error::new(Kind::Model, repo, problem, remedy)
        });
    }
    let url = hub.url(repo, &revision.replace('/', "%2F"), CONFIG);
    client.persist(
        &url,
        || 0,
        || {
            let response = client.head(&url)?;
            let commit = response.headers().get("x-repo-commit").and_then(|v| v.to_str().ok());
            match commit {
                Some(commit) if is_commit(commit) => Ok(commit.to_lowercase()),
                _ if response.status().is_success() || response.status().is_redirection() => {
                    Err(Miss::Final(format!("does not say which commit `{revision}` is at")))
                }
                _ => Err(Miss::of_answer(&response)),
            }
        },
    )
}

/// Returns the commit that the cache of the hub's own tools has noted for a branch or tag.
fn cached_commit(hub: &Hub, repo: &str, revision: &str) -> Option<String> {
    let path = hub.cached(repo)?.join("refs").join(Path::new(revision));
    let commit = std::fs::read_to_string(path).ok()?;
    Some(commit.trim().to_lowercase()).filter(|commit| is_commit(commit))
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns whether a text is the name of a branch or tag that is safe in a path and an address.
fn is_reference(text: &str) -> bool {
    text.split('/').all(is_plain)
}

fn is_repository(name: &str) -> bool {
    name.split_once('/').is_some_and(|(owner, repo)| is_plain(owner) && is_plain(repo))
}

fn is_plain(part: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty() && part.chars().all(good) && !part.starts_with('.')
}
