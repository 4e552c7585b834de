//! Models from the Hugging Face hub, each at one commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use ureq::http::StatusCode;

use super::client::{Client, Miss, Patience};
use super::download::{Digest, Download};
use super::place::Hub;
use super::revision::{ModelAtCommit, resolve};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::store::{digest_file, read_json, write_whole};

/// Name of the file that records where the files of a folder came from.
const ORIGIN: &str = "source.json";
/// The remedy if a file cannot be fetched.
const REMEDY: &str = "check the connection and any proxy (HTTPS_PROXY), or set HF_ENDPOINT";

/// Where the files of a folder came from.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ModelOrigin {
    /// `owner/repository`.
    pub repo: String,
    /// The commit id.
    pub revision: String,
    /// Digest of each file.
    pub files: BTreeMap<String, String>,
}

/// Fetches a model, a name of [`known_models`](super::known_models) or `owner/repository`, into a
/// folder in Hugging Face form: the config, the weights in the first format that the repository
/// has, and the tokenizer. Complete files that are already there are kept. `revision` is a commit
/// id, a branch or a tag; if it is absent, the known commit is taken, or else that of `main`.
/// Returns the commit and the files, which `source.json` in the folder records.
///
/// # Errors
/// Returns an error if the commit is not known, a file cannot be fetched or is not the one
/// expected, or the folder holds another model.
pub fn fetch_model(
    hub: &Hub,
    (name, revision): (&str, Option<&str>),
    to: &Path,
    patience: Patience,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<ModelOrigin> {
    let mut client = Client::new(Kind::Model, REMEDY, patience, stop);
    client.token = hub.token.as_deref();
    let model = resolve((hub, &client), name, revision)?;
    refuse_another(to, &model)?;
    let mut fetch = ModelFetch { hub, model: &model, to, client, progress, files: BTreeMap::new() };
    fetch.all()?;
    progress.finish();
    let files = fetch.files;
    let origin = ModelOrigin { repo: model.repo, revision: model.commit, files };
    write_whole(&to.join(ORIGIN), |out| {
        serde_json::to_writer_pretty(&mut *out, &origin)?;
        writeln!(out)
    })?;
    Ok(origin)
}

/// Refuses a folder that holds another repository or commit.
fn refuse_another(to: &Path, model: &ModelAtCommit) -> Result<()> {
    let path = to.join(ORIGIN);
    if !path.exists() {
        return Ok(());
    }
    let origin: ModelOrigin = read_json(&path)?;
    if origin.repo == model.repo && origin.revision == model.commit {
        return Ok(());
    }
    let problem = format!("holds {} at {}", origin.repo, origin.revision);
    Err(Error::new(Kind::Model, to.display(), problem, "name another folder with --to"))
}

/// A model that is being fetched.
struct ModelFetch<'a> {
    hub: &'a Hub,
    model: &'a ModelAtCommit,
    to: &'a Path,
    client: Client<'a>,
    progress: &'a Progress,
    /// Digests of the files that are in the folder.
    files: BTreeMap<String, String>,
}

/// What the hub says about a file.
struct FileHeaders {
    digest: Digest,
    size: Option<u64>,
}

impl ModelFetch<'_> {
    fn all(&mut self) -> Result<()> {
        self.require("config.json")?;
        if !self.fetch_if_there("model.safetensors")? {
            if self.fetch_if_there("model.safetensors.index.json")? {
                let shards = crate::model::weights::Source::files(self.to)?;
                for shard in &shards[1..] {
                    let name = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    self.require(&name)?;
                }
            } else {
                self.require("pytorch_model.bin")?;
            }
        }
        if !self.fetch_if_there("tokenizer.json")? {
            self.require("vocab.json")?;
            self.require("merges.txt")?;
        }
        Ok(())
    }

    fn require(&mut self, file: &str) -> Result<()> {
        if self.fetch_if_there(file)? {
            return Ok(());
        }
        let commit = &self.model.commit;
        let (problem, remedy) = if self.hub.offline {
            let problem = format!("`{file}` at {commit} is not in the cache");
            (problem, "unset HF_HUB_OFFLINE, or fill the cache where there is a network")
        } else {
            let problem = format!("has no `{file}` at {commit}");
            (problem, "check the repository and the commit")
        };
        Err(Error::new(Kind::Model, &self.model.repo, problem, remedy))
    }

    /// Fetches a file if the repository has it. Returns whether it has.
    fn fetch_if_there(&mut self, file: &str) -> Result<bool> {
        if self.copy_from_cache(file)? {
            return Ok(true);
        }
        if self.hub.offline {
            // A file that the cache lacks may be one that the repository does not have.
            return Ok(false);
        }
        let url = self.hub.url(&self.model.repo, &self.model.commit, file);
        let headers = self.client.persist(&url, || 0, || self.headers(&url))?;
        let Some(mut headers) = headers else { return Ok(false) };
        if let Some(weights) = self.model.weights.as_ref().filter(|_| is_weights(file)) {
            headers.digest = Digest::Sha256(weights.clone());
        }
        self.progress.stage(&format!("fetching {file}"), headers.size.unwrap_or(0));
        let FileHeaders { digest, size } = headers;
        let download = Download {
            client: &self.client,
            url,
            digest: digest.clone(),
            size,
            came: &|bytes| self.progress.advance(bytes),
        };
        let target = self.to.join(file);
        download.run(&target)?;
        self.files.insert(file.to_owned(), digest.expected().to_owned());
        Ok(true)
    }

    /// Copies a file from the cache of the hub's own tools, where each snapshot holds links to
    /// files named by their digests. Returns whether the cache has it.
    fn copy_from_cache(&mut self, file: &str) -> Result<bool> {
        let Some(folder) = self.hub.cached(&self.model.repo) else { return Ok(false) };
        let link = folder.join("snapshots").join(&self.model.commit).join(file);
        let Ok(blob) = link.canonicalize() else { return Ok(false) };
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        let io =
            |e: std::io::Error| Error::io(Kind::Model, &blob, "read the file of the cache", &e);
        let digest = Digest::of_length(&name);
        if let Some(digest) = &digest
            && !digest.is_of(&blob).map_err(io)?
        {
            let problem = "does not have the digest that its name says";
            let remedy = "remove it from the cache, which is damaged";
            return Err(Error::new(Kind::Model, blob.display(), problem, remedy));
        }
        std::fs::create_dir_all(self.to).map_err(io)?;
        let mut source = std::fs::File::open(&blob).map_err(io)?;
        let target = self.to.join(file);
        write_whole(&target, |out| std::io::copy(&mut source, out).map(|_| ()))?;
        let digest = match digest {
            Some(digest) => digest.expected().to_owned(),
            None => digest_file(Kind::Model, &target)?,
        };
        self.files.insert(file.to_owned(), digest);
        Ok(true)
    }

    /// Returns what the hub says about a file, without following a redirection; `None` if the
    /// repository does not have the file.
    fn headers(&self, url: &str) -> Result<Option<FileHeaders>, Miss> {
        let response = self.client.head(url)?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !(status.is_success() || status.is_redirection()) {
            return Err(Miss::of_answer(&response));
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        if let Some(commit) = header("x-repo-commit").filter(|c| *c != self.model.commit) {
            let problem = format!("is of commit {commit}, expected {}", self.model.commit);
            return Err(Miss::Final(problem));
        }
        let etag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
        let digest = Digest::of_length(etag.trim_start_matches("W/").trim_matches('"'));
        let digest =
            digest.ok_or_else(|| Miss::Final("comes without a digest to check it by".into()))?;
        let length = header("x-linked-size").or_else(|| {
            // A redirection has a length of its own.
            header("content-length").filter(|_| status.is_success())
        });
        Ok(Some(FileHeaders { digest, size: length.and_then(|l| l.parse().ok()) }))
    }
}

fn is_weights(file: &str) -> bool {
    file == "pytorch_model.bin" || file == "model.safetensors"
}
