//! Models fetched from a server on this machine that plays the hub: redirects to where large
//! files lie, digests in headers, connections that break.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};
use sha2::Sha256;
use tempfile::TempDir;
use universal_neurons::digest::hex;

use crate::support::{assert_options_exist, interrupt, path, program, stderr};

/// The commit that all repositories are at.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Branches and tags, as addresses have them.
const REFERENCES: [&str; 3] = ["main", "step143000", "refs%2Fpr%2F1"];
/// Files of this size and more lie elsewhere, as on the hub.
const LARGE: usize = 4096;

/// How long a silent server says nothing.
const SILENCE: Duration = Duration::from_secs(120);

/// One file of a repository.
#[derive(Clone)]
struct Stored {
    bytes: Arc<Vec<u8>>,
    digest: String,
}

impl Stored {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = if bytes.len() >= LARGE {
            hex(&Sha256::digest(&bytes))
        } else {
            let mut hasher = Sha1::new();
            hasher.update(format!("blob {}\0", bytes.len()));
            hasher.update(&bytes);
            hex(&hasher.finalize())
        };
        Self { bytes: Arc::new(bytes), digest }
    }
}

/// A hub: files by `/owner/repository/resolve/REVISION/file`, where a revision is [`COMMIT`] or
/// one of [`REFERENCES`].
pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What is wrong with a hub.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Large files break off after some bytes, the first time.
    Breaks,
    /// Large files are others than their digest says.
    Corrupt,
    /// It says that files are of another commit.
    Moved,
    /// It gives no digest.
    NoDigest,
    /// It answers two requests with errors that pass, the second with a wait of two seconds.
    Busy,
    /// It answers every request with this status.
    Refuses(&'static str),
    /// It never answers.
    Silent,
    /// Large files break off without an end of the connection.
    Stalls,
}

impl Server {
    fn start(files: HashMap<String, Stored>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, files) = (Arc::clone(&asked), Arc::new(files));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, files) = (Arc::clone(&noted), Arc::clone(&files));
                std::thread::spawn(move || {
                    let _ = serve(&stream.expect("connection"), &files, fault, &noted);
                });
            }
        });
        Self { address, asked }
    }

    /// Serves folders of models as repositories of an owner.
    pub fn of_models(models: &[(&str, PathBuf)], fault: Fault) -> Self {
        let mut files = HashMap::new();
        for (repository, folder) in models {
            for entry in std::fs::read_dir(folder).expect("folder") {
                let path = entry.expect("entry").path();
                let name = path.file_name().expect("name").to_string_lossy().into_owned();
                let stored = Stored::new(std::fs::read(&path).expect("read"));
                for revision in [&[COMMIT], &REFERENCES[..]].concat() {
                    let address = format!("/{repository}/resolve/{revision}/{name}");
                    files.insert(address, stored.clone());
                }
            }
        }
        Self::start(files, fault)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

/// Says nothing until the client has gone.
fn silence() -> std::io::Result<()> {
    std::thread::sleep(SILENCE);
    Ok(())
}

fn serve(
    mut stream: &TcpStream,
    files: &HashMap<String, Stored>,
    fault: Fault,
    noted: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let lines = BufReader::new(stream).lines().map_while(std::result::Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let from: usize = request
        .iter()
        .find_map(|l| {
            l.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok()
        })
        .unwrap_or(0);
    let mut words = request[0].split(' ');
    let (method, address) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let earlier = {
        let mut noted = noted.lock().expect("lock");
        noted.push(format!("{method} {address} from {from}"));
        noted.len() - 1
    };
    let head = |status: &str, headers: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n")
    };
    let status = match (fault, earlier) {
        (Fault::Busy, 0) => Some("500 Internal Server Error"),
        (Fault::Busy, 1) => Some("429 Too Many Requests\r\nRetry-After: 2"),
        (Fault::Refuses(status), _) => Some(status),
        (Fault::Silent, _) => return silence(),
        _ => None,
    };
    if let Some(status) = status {
        return stream.write_all(head(status, "Content-Length: 0\r\n").as_bytes());
    }
    if let Some(digest) = address.strip_prefix("/cdn/") {
        let stored = files.values().find(|s| s.digest == digest).expect("a large file");
        let mut body = stored.bytes[from.min(stored.bytes.len())..].to_vec();
        if fault == Fault::Corrupt {
            body.iter_mut().for_each(|b| *b ^= 1);
        }
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let length = format!("Content-Length: {}\r\n", body.len());
        stream.write_all(head(status, &length).as_bytes())?;
        if fault == Fault::Stalls {
            stream.write_all(&body[..body.len() / 2])?;
            return silence();
        }
        let breaks = fault == Fault::Breaks && from == 0;
        return stream.write_all(if breaks { &body[..body.len() / 2] } else { &body });
    }
    let Some(stored) = files.get(address) else {
        return stream.write_all(head("404 Not Found", "Content-Length: 0\r\n").as_bytes());
    };
    let commit = if fault == Fault::Moved { "f".repeat(40) } else { COMMIT.to_owned() };
    let (digest, length) = (&stored.digest, stored.bytes.len());
    let mut headers = format!("X-Repo-Commit: {commit}\r\n");
    if stored.bytes.len() >= LARGE {
        let etag = format!("X-Linked-ETag: \"{digest}\"\r\nX-Linked-Size: {length}\r\n");
        headers += if fault == Fault::NoDigest { "" } else { &etag };
        headers += &format!("Location: /cdn/{digest}\r\nContent-Length: 0\r\n");
        return stream.write_all(head("302 Found", &headers).as_bytes());
    }
    headers += &format!("ETag: \"{digest}\"\r\nContent-Length: {length}\r\n");
    stream.write_all(head("200 OK", &headers).as_bytes())?;
    if method == "GET" { stream.write_all(&stored.bytes) } else { Ok(()) }
}

/// The command `fetch model` in a folder, with these variables only.
fn command(folder: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Command {
    let all = [&["fetch", "model"], arguments].concat();
    let mut command = program(folder, &all);
    for name in ["HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"] {
        command.env_remove(name);
    }
    command.env("HOME", folder).envs(environment.iter().copied());
    command
}

/// Runs `fetch model` in a folder; exit code and standard error.
fn fetch(folder: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(folder, environment, arguments).output().expect("the program starts");
    let error = stderr(&output);
    assert_options_exist(&["fetch", "model"], &error);
    (output.status.code(), error)
}

fn golden(name: &str) -> PathBuf {
    path("expected/golden").join(name)
}

fn same_files(folder: &Path, golden: &Path, names: &[&str]) {
    for name in names {
        let [a, b] = [folder, golden].map(|f| std::fs::read(f.join(name)).expect(name));
        assert!(a == b, "{name} differs");
    }
}

#[test]
fn a_model_is_fetched_whatever_its_format_and_kept() {
    let models = [
        ("lab/whole", golden("neox"), "model.safetensors"),
        ("lab/shards", golden("neox-sharded"), "model-00002-of-00002.safetensors"),
        ("lab/bin", golden("gpt2-bin"), "pytorch_model.bin"),
    ];
    let served = models.clone().map(|(name, folder, _)| (name, folder));
    let server = Server::of_models(&served, Fault::Breaks);
    let root = TempDir::new().expect("folder");
    let hub = [("HF_ENDPOINT", server.address.as_str())];
    for (name, folder, weights) in &models {
        let (code, error) = fetch(root.path(), &hub, &[name, "--revision", COMMIT]);
        assert_eq!(code, Some(0), "{error}");
        let to = root.path().join("models").join(name.strip_prefix("lab/").expect("owner"));
        same_files(&to, folder, &["config.json", "tokenizer.json", weights]);
        let record = std::fs::read_to_string(to.join("source.json")).expect("a record");
        assert!(record.contains(COMMIT) && record.contains(name), "{record}");
    }
    let asked = server.asked();
    assert!(asked.iter().any(|a| a.contains("/cdn/") && !a.ends_with(" 0")), "none was resumed");
    let bytes = |asked: &[String]| asked.iter().filter(|a| a.starts_with("GET")).count();
    let before = bytes(&asked);
    let (code, error) = fetch(root.path(), &hub, &["lab/whole", "--revision", COMMIT]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(bytes(&server.asked()), before, "what is whole is not fetched again");
    let other = "f".repeat(40);
    let (code, error) = fetch(root.path(), &hub, &["lab/whole", "--revision", &other]);
    assert!(code == Some(2) && error.contains("holds lab/whole"), "{error}");
}

#[test]
fn what_is_not_the_pinned_file_is_refused() {
    for (fault, why) in [
        (Fault::Corrupt, "SHA-256"),
        (Fault::Moved, "is of commit ffff"),
        (Fault::NoDigest, "without a digest"),
    ] {
        let server = Server::of_models(&[("lab/whole", golden("neox"))], fault);
        let root = TempDir::new().expect("folder");
        let hub = [("HF_ENDPOINT", server.address.as_str())];
        let (code, error) = fetch(root.path(), &hub, &["lab/whole", "--revision", COMMIT]);
        assert!(code == Some(2) && error.contains(why), "{error}");
        assert!(!root.path().join("models/whole/model.safetensors").exists());
    }
}

#[test]
fn a_busy_hub_is_asked_again_as_late_as_it_wants() {
    let server = Server::of_models(&[("lab/whole", golden("neox"))], Fault::Busy);
    let root = TempDir::new().expect("folder");
    let hub = [("HF_ENDPOINT", server.address.as_str())];
    let start = Instant::now();
    let (code, error) = fetch(root.path(), &hub, &["lab/whole", "--revision", COMMIT]);
    assert_eq!(code, Some(0), "{error}");
    // A pause of its own after the first error, then what the second one asks for.
    assert!(start.elapsed() >= Duration::from_millis(2500), "{:?}", start.elapsed());
    let asked = server.asked();
    assert!(asked[..3].iter().all(|a| a.starts_with("HEAD") && a.contains("config.json")));
    assert!(!asked[3].starts_with("HEAD"), "{asked:?}");
}

#[test]
fn a_refusal_is_final() {
    for (status, why) in [
        ("401 Unauthorized", "401"),
        ("403 Forbidden", "403"),
        ("404 Not Found", "has no `config.json`"),
        ("501 Not Implemented", "501"),
        ("503 Service Unavailable\r\nRetry-After: 86400", "a wait of 86400 s"),
    ] {
        let server = Server::of_models(&[], Fault::Refuses(status));
        let root = TempDir::new().expect("folder");
        let hub = [("HF_ENDPOINT", server.address.as_str())];
        let (code, error) = fetch(root.path(), &hub, &["lab/whole", "--revision", COMMIT]);
        assert!(code == Some(2) && error.contains(why), "{error}");
        assert_eq!(server.asked().len(), 1, "{status} was asked again");
    }
}

#[test]
fn an_interrupt_does_not_wait_for_a_silent_hub() {
    for (fault, at) in [(Fault::Silent, "HEAD"), (Fault::Stalls, "/cdn/")] {
        let server = Server::of_models(&[("lab/whole", golden("neox"))], fault);
        let root = TempDir::new().expect("folder");
        let hub = [("HF_ENDPOINT", server.address.as_str())];
        let mut fetching = command(root.path(), &hub, &["lab/whole", "--revision", COMMIT]);
        let mut child = fetching.stderr(Stdio::piped()).spawn().expect("starts");
        while !server.asked().iter().any(|a| a.contains(at)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(interrupt(&mut child), Some(2), "{at}");
        let error = stderr(&child.wait_with_output().expect("it has ended"));
        assert!(error.contains("interrupted"), "{error}");
        assert!(!root.path().join("models/whole/model.safetensors").exists());
    }
}

#[test]
fn names_and_revisions_that_cannot_be_meant_are_refused() {
    let root = TempDir::new().expect("folder");
    let server = Server::of_models(&[], Fault::Refuses("403 Forbidden"));
    let hub = [("HF_ENDPOINT", server.address.as_str())];
    for (arguments, why) in [
        (&["stanford-gpt2-small-d", "--revision", COMMIT][..], "begins with 70736a8, not as"),
        (&["lab/x", "--revision", "../x"], "is not a branch, a tag or a commit id"),
        (&["lab/x", "--revision", ""], "is not a branch, a tag or a commit id"),
        (&["llama"], "name one of stanford-gpt2-small-a"),
        (&["../x", "--revision", COMMIT], "is not a known model"),
    ] {
        let (code, error) = fetch(root.path(), &hub, arguments);
        assert!(code == Some(2) && error.contains(why), "{error}");
    }
    assert_eq!(server.asked(), [""; 0], "they are refused before anything is asked");
    let (code, error) = fetch(root.path(), &hub, &["stanford-gpt2-small-a"]);
    assert!(
        code == Some(2) && error.contains("e954ab0a77651c595f108c42b1c0da12df14d0d6"),
        "{error}"
    );
    assert!(!root.path().join("models").exists(), "nothing is left of what never came");
}

#[test]
fn a_branch_or_tag_is_resolved_to_its_commit_once() {
    let known = "stanford-crfm/darkmatter-gpt2-small-x343";
    let served = [("lab/whole", golden("neox")), (known, golden("gpt2-bin"))];
    let server = Server::of_models(&served, Fault::None);
    let hub = [("HF_ENDPOINT", server.address.as_str())];
    for (revision, asked) in [
        (&[][..], "main"),
        (&["--revision", "step143000"], "step143000"),
        (&["--revision", "refs/pr/1"], "refs%2Fpr%2F1"),
    ] {
        let root = TempDir::new().expect("folder");
        let before = server.asked().len();
        let (code, error) = fetch(root.path(), &hub, &[&["lab/whole"], revision].concat());
        assert_eq!(code, Some(0), "{error}");
        let record = std::fs::read_to_string(root.path().join("models/whole/source.json"));
        assert!(record.expect("a record").contains(COMMIT));
        let requests = server.asked()[before..].to_vec();
        assert!(requests[0].contains(&format!("/resolve/{asked}/")), "{requests:?}");
        let at_commit = |r: &String| r.contains(COMMIT) || r.contains("/cdn/");
        assert!(requests[1..].iter().all(at_commit), "{requests:?}");
    }
    let root = TempDir::new().expect("folder");
    for (arguments, why) in [
        // `main` is at another commit than the one whose first digits are known.
        (&["stanford-gpt2-small-d"][..], "begins with 70736a8, not as 0123456789"),
        (&["lab/whole", "--revision", "step1"], "404"),
    ] {
        let (code, error) = fetch(root.path(), &hub, arguments);
        assert!(code == Some(2) && error.contains(why), "{error}");
    }
    assert!(!root.path().join("models").exists(), "a folder is left of a refused model");
}

#[test]
fn the_hubs_own_cache_is_read_and_offline_is_honoured() {
    let root = TempDir::new().expect("folder");
    let cache = root.path().join("cache");
    let repository = cache.join("models--lab--whole");
    let snapshot = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).expect("folder");
    std::fs::create_dir_all(repository.join("blobs")).expect("folder");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let stored = Stored::new(std::fs::read(golden("neox").join(name)).expect("read"));
        let blob = repository.join("blobs").join(&stored.digest);
        std::fs::write(&blob, &*stored.bytes).expect("write");
        std::os::unix::fs::symlink(&blob, snapshot.join(name)).expect("link");
    }
    let cached = cache.display().to_string();
    let offline = [("HF_HUB_CACHE", cached.as_str()), ("HF_HUB_OFFLINE", "1")];
    let arguments = ["lab/whole", "--revision", COMMIT, "--to", "here"];
    let (code, error) = fetch(root.path(), &offline, &arguments);
    assert_eq!(code, Some(0), "{error}");
    let all = ["config.json", "tokenizer.json", "model.safetensors"];
    same_files(&root.path().join("here"), &golden("neox"), &all);
    let (code, error) = fetch(root.path(), &offline, &["lab/whole", "--to", "branch"]);
    assert!(code == Some(2) && error.contains("which commit `main` is at"), "{error}");
    std::fs::create_dir_all(repository.join("refs")).expect("folder");
    std::fs::write(repository.join("refs/main"), COMMIT).expect("write");
    let (code, error) = fetch(root.path(), &offline, &["lab/whole", "--to", "branch"]);
    assert_eq!(code, Some(0), "{error}");
    let (code, error) = fetch(root.path(), &offline, &["lab/other", "--revision", COMMIT]);
    assert!(code == Some(2) && error.contains("HF_HUB_OFFLINE"), "{error}");
    let damaged = snapshot.join("model.safetensors").canonicalize().expect("blob");
    std::fs::write(&damaged, "damaged").expect("write");
    let (code, error) = fetch(root.path(), &offline, &["lab/whole", "--revision", COMMIT]);
    assert!(code == Some(2) && error.contains("not have the digest that its name says"), "{error}");
}

#[test]
fn a_family_is_fetched_run_and_judged() {
    let seeds = ["a", "b", "c", "d", "e"];
    let models = seeds.map(|s| (format!("lab/desk-{s}"), path("experiments/desk").join(s)));
    let served: Vec<(&str, PathBuf)> =
        models.iter().map(|(name, folder)| (name.as_str(), folder.clone())).collect();
    let server = Server::of_models(&served, Fault::None);
    let root = TempDir::new().expect("folder");
    let hub = [("HF_ENDPOINT", server.address.as_str())];
    for (name, _) in &models {
        let (code, error) = fetch(root.path(), &hub, &[name, "--revision", COMMIT]);
        assert_eq!(code, Some(0), "{error}");
    }
    let family: Vec<String> =
        seeds.iter().map(|s| format!("{{ name: {s}, path: models/desk-{s} }}")).collect();
    let spec = format!(
        "version: 1\nname: fetched\nkind: universality\nquestion: Does it go end to end?\n\
         source: none\nmodels: {{ reference: a, family: [{}] }}\n\
         corpus: {{ path: {}, context: 256, limit: 10 }}\ncorrelation: {{ baseline: {{ draws: 1 }} }}\n\
         cards: {{ neurons: 5 }}\n",
        family.join(", "),
        path("experiments/desk/corpus.jsonl").display()
    );
    std::fs::write(root.path().join("spec.yaml"), spec).expect("write");
    let asked = server.asked().len();
    let text = |arguments: &[&str], codes: &[i32]| {
        let output = program(root.path(), arguments).output().expect("the program starts");
        assert!(codes.contains(&output.status.code().unwrap_or(-1)), "{}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    text(&["run", "spec.yaml", "--quiet"], &[0]);
    // Over so little of the text a claim may fail; that is for the ledger to say.
    let ledger = text(&["verify", "--run", "runs/fetched"], &[0, 1]);
    assert!(ledger.contains("prevalence.small-a") && ledger.contains("not run"), "{ledger}");
    assert_eq!(server.asked().len(), asked, "neither a run nor a verdict asks a server");
}
