//! Models from the Hugging Face hub, at one commit each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use ureq::http::StatusCode;

use super::client::{Client, Miss, Patience};
use super::download::{Digest, Download};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::store::{digest_file, read_json, write_whole};

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";
/// What tells where the files of a folder came from.
const RECORD: &str = "source.json";
/// What to do if a file cannot be had.
const REMEDY: &str = "check the connection and any proxy (HTTPS_PROXY), or set HF_ENDPOINT";

/// A model that claims are about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its name in claims.
    pub name: String,
    /// Its repository.
    pub repo: String,
    /// The commit, where it is known whole.
    pub revision: Option<String>,
    /// What the commit begins with, where no more is known.
    pub begins: Option<String>,
    /// SHA-256 of its weights, where known.
    pub weights: Option<String>,
}

/// The models that can be asked for by name.
///
/// # Errors
/// If the embedded list is malformed.
pub fn known_models() -> Result<Vec<Known>> {
    serde_yaml::from_str(include_str!("../../expected/hub.yaml"))
        .map_err(|e| Error::new(Kind::Model, "expected/hub.yaml", e, "correct it"))
}

/// Where models are looked for.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    /// Address of the hub; the public one where none is given.
    pub base: Option<String>,
    /// A cache of the hub's own tools, which is read and never written.
    pub cache: Option<PathBuf>,
    /// Open no socket.
    pub offline: bool,
    /// What is said to be let in.
    pub token: Option<String>,
}

impl Hub {
    /// As the hub's own tools find it: HF_ENDPOINT, HF_HUB_CACHE or HF_HOME, HF_HUB_OFFLINE
    /// and HF_TOKEN.
    pub fn of_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let home = text("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&text("HOME")?).join(".cache").join("huggingface")));
        let cache = text("HF_HUB_CACHE").map(PathBuf::from);
        let yes = |v: String| !["0", "no", "false", "off"].contains(&v.to_lowercase().as_str());
        Self {
            base: text("HF_ENDPOINT"),
            cache: cache.or_else(|| Some(home?.join("hub"))),
            offline: text("HF_HUB_OFFLINE").is_some_and(yes),
            token: text("HF_TOKEN"),
        }
    }
}

/// What is fetched, and where to.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Record {
    repo: String,
    revision: String,
    /// Digest of each file.
    files: BTreeMap<String, String>,
}

/// Fetches a model, a name of [`known_models`] or `owner/repository`, into a folder in
/// Hugging Face form: config, weights in the first format that the repository has, and
/// tokenizer. What is there and whole is kept. Returns the names of its files.
///
/// # Errors
/// If no commit is known or given, a file cannot be had or is not the one expected, or the
/// folder holds another model.
pub fn fetch_model(
    hub: &Hub,
    name: &str,
    revision: Option<&str>,
    to: &Path,
    patience: Patience,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Vec<String>> {
    let known = resolve(name, revision)?;
    let revision = known.revision.clone().unwrap_or_default();
    refuse_another(to, &known.repo, &revision)?;
    let mut client = Client::new(Kind::Model, REMEDY, patience, stop);
    client.token = hub.token.as_deref();
    let mut fetch = Fetch {
        hub,
        known: &known,
        revision: &revision,
        to,
        client,
        progress,
        files: BTreeMap::new(),
    };
    fetch.all()?;
    progress.finish();
    let names = fetch.files.keys().cloned().collect();
    let record =
        Record { repo: known.repo.clone(), revision: revision.clone(), files: fetch.files };
    write_whole(&to.join(RECORD), |out| {
        serde_json::to_writer_pretty(&mut *out, &record)?;
        writeln!(out)
    })?;
    Ok(names)
}

/// The repository and commit that are meant.
fn resolve(name: &str, revision: Option<&str>) -> Result<Known> {
    let refuse =
        |problem: String, remedy: String| Err(Error::new(Kind::Model, name, problem, remedy));
    let known = known_models()?.into_iter().find(|known| known.name == name);
    let mut known = match known {
        Some(known) => known,
        None if is_repository(name) => {
            let repo = name.to_owned();
            Known { name: repo.clone(), repo, revision: None, begins: None, weights: None }
        }
        None => {
            let names: Vec<String> = known_models()?.into_iter().map(|k| k.name).collect();
            let remedy = format!("name one of {}, or owner/repository", names.join(", "));
            return refuse("is no model that is known".into(), remedy);
        }
    };
    if let Some(revision) = revision {
        if known.begins.as_ref().is_some_and(|begins| !revision.starts_with(begins.as_str())) {
            let begins = known.begins.unwrap_or_default();
            let remedy = "give that commit; the branch has held other steps of training".into();
            return refuse(format!("its commit begins with {begins}, not as {revision}"), remedy);
        }
        if known.revision.as_ref().is_some_and(|other| other != revision) {
            // Another commit than the pinned one has other weights.
            known.weights = None;
        }
        known.revision = Some(revision.to_owned());
    }
    match &known.revision {
        Some(revision)
            if revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit()) =>
        {
            Ok(known)
        }
        Some(revision) => refuse(
            format!("revision `{revision}` is no commit id, which has 40 hexadecimal digits"),
            "give a commit: branches and tags move".into(),
        ),
        None => {
            let begins = known.begins.map_or(String::new(), |b| format!("; it begins with {b}"));
            refuse(
                format!("its commit is not known whole{begins}"),
                "look it up among the commits of the repository, and give it with --revision"
                    .into(),
            )
        }
    }
}

fn is_repository(name: &str) -> bool {
    let plain = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(good) && !part.starts_with('.')
    };
    name.split_once('/').is_some_and(|(owner, repo)| plain(owner) && plain(repo))
}

/// A folder keeps to one commit of one repository.
fn refuse_another(to: &Path, repo: &str, revision: &str) -> Result<()> {
    let path = to.join(RECORD);
    if !path.exists() {
        return Ok(());
    }
    let record: Record = read_json(&path)?;
    if record.repo == repo && record.revision == revision {
        return Ok(());
    }
    let problem = format!("holds {} at {}", record.repo, record.revision);
    Err(Error::new(Kind::Model, to.display(), problem, "name another folder with --to"))
}

/// A model on its way.
struct Fetch<'a> {
    hub: &'a Hub,
    known: &'a Known,
    revision: &'a str,
    to: &'a Path,
    client: Client<'a>,
    progress: &'a Progress,
    /// Digests of what is there.
    files: BTreeMap<String, String>,
}

/// What a server says of a file.
struct Told {
    digest: Digest,
    size: Option<u64>,
}

impl Fetch<'_> {
    fn all(&mut self) -> Result<()> {
        self.need("config.json")?;
        if !self.want("model.safetensors")? {
            if self.want("model.safetensors.index.json")? {
                let shards = crate::model::weights::Source::files(self.to)?;
                for shard in &shards[1..] {
                    let name = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    self.need(&name)?;
                }
            } else {
                self.need("pytorch_model.bin")?;
            }
        }
        if !self.want("tokenizer.json")? {
            self.need("vocab.json")?;
            self.need("merges.txt")?;
        }
        Ok(())
    }

    fn need(&mut self, file: &str) -> Result<()> {
        if self.want(file)? {
            return Ok(());
        }
        let (problem, remedy) = if self.hub.offline {
            let problem = format!("`{file}` at {} is not in the cache", self.revision);
            (problem, "unset HF_HUB_OFFLINE, or fill the cache where there is a network")
        } else {
            let problem = format!("has no `{file}` at {}", self.revision);
            (problem, "check the repository and the commit")
        };
        Err(Error::new(Kind::Model, &self.known.repo, problem, remedy))
    }

    /// Puts a file in its place if the repository has it.
    fn want(&mut self, file: &str) -> Result<bool> {
        if self.take_from_cache(file)? {
            return Ok(true);
        }
        if self.hub.offline {
            // What the cache lacks may be a file that the repository does not have.
            return Ok(false);
        }
        let url = self.url(file);
        let told = self.client.persist(&url, || 0, || self.ask(&url))?;
        let Some(mut told) = told else { return Ok(false) };
        if let Some(weights) = self.known.weights.as_ref().filter(|_| is_weights(file)) {
            told.digest = Digest::Sha256(weights.clone());
        }
        self.progress.stage(&format!("fetching {file}"), told.size.unwrap_or(0));
        let Told { digest, size } = told;
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

    fn url(&self, file: &str) -> String {
        let base = self.hub.base.as_deref().unwrap_or(PUBLIC).trim_end_matches('/');
        format!("{base}/{}/resolve/{}/{file}", self.known.repo, self.revision)
    }

    /// Copies a file from the cache of the hub's tools, where a link is called as the
    /// digest of what it leads to.
    fn take_from_cache(&mut self, file: &str) -> Result<bool> {
        let Some(cache) = &self.hub.cache else { return Ok(false) };
        let folder = format!("models--{}", self.known.repo.replace('/', "--"));
        let link = cache.join(folder).join("snapshots").join(self.revision).join(file);
        let Ok(blob) = link.canonicalize() else { return Ok(false) };
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        let io =
            |e: std::io::Error| Error::io(Kind::Model, &blob, "read the file of the cache", &e);
        let digest = Digest::of_length(&name);
        if let Some(digest) = &digest
            && !digest.is_of(&blob).map_err(io)?
        {
            let problem = "is not what its name says";
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

    /// What the hub says of a file, without following where it leads; None if it has none.
    fn ask(&self, url: &str) -> Result<Option<Told>, Miss> {
        let response = self.client.head(url)?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !(status.is_success() || status.is_redirection()) {
            return Err(Miss::of_answer(&response));
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        if let Some(commit) = header("x-repo-commit").filter(|commit| *commit != self.revision) {
            let problem = format!("is of commit {commit}, expected {}", self.revision);
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
        Ok(Some(Told { digest, size: length.and_then(|l| l.parse().ok()) }))
    }
}

fn is_weights(file: &str) -> bool {
    file == "pytorch_model.bin" || file == "model.safetensors"
}
