//! Fetching against a server on this machine that misbehaves in every way that
//! servers do.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use universal_neurons::error::Result;
use universal_neurons::hub::{Manifest, Patience, RemoteFile, fetch};
use universal_neurons::progress::Progress;

use crate::support::{assert_options_exist, interrupt, program, run, stderr};

const CONTENT: &str = "layer,neuron,kurt\n0,1,2.5\n0,2,3.5\n";
/// What `git hash-object` says of the content.
const BLOB: &str = "95a42e49c65aaf622dd0b276f0d20cf74e0d409b";

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Answer {
    /// The content from the byte that was asked for.
    Good,
    /// As many bytes, then the connection closes.
    CutAfter(usize),
    /// As many bytes, then silence.
    StallAfter(usize),
    /// The whole content, though a part was asked for.
    IgnoresRange,
    /// Other bytes of the same length.
    Corrupt,
    /// A redirect to the same server.
    Redirect,
    /// The content and then more, without end and without a length.
    Endless,
    /// A length beyond that of the file.
    AnnouncesMore,
    /// Nothing for a long time.
    Silent,
    /// A status without content.
    Status(&'static str),
}

/// Serves the answers in their order, then the last one for ever; notes the
/// ranges that were asked for.
struct Server {
    address: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&ranges);
        std::thread::spawn(move || {
            for (i, stream) in listener.incoming().enumerate() {
                let answer = answers[i.min(answers.len() - 1)];
                let noted = Arc::clone(&noted);
                // A client that hangs up early is part of the game.
                std::thread::spawn(move || {
                    let _ = serve(&stream.expect("connection"), answer, &noted);
                });
            }
        });
        Self { address, ranges }
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().expect("lock").clone()
    }
}

fn serve(
    mut stream: &TcpStream,
    answer: Answer,
    ranges: &Mutex<Vec<Option<usize>>>,
) -> std::io::Result<()> {
    let lines = BufReader::new(stream).lines().map_while(std::result::Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let from = request.iter().find_map(|line| {
        line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok()
    });
    ranges.lock().expect("lock").push(from);
    let (from, total) = (from.unwrap_or(0), CONTENT.len());
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
    };
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
    let range = if from > 0 { range.as_str() } else { "" };
    let good = head(status, total - from, range);
    let body = &CONTENT.as_bytes()[from..];
    match answer {
        Answer::Good => stream.write_all(&[good.as_bytes(), body].concat()),
        Answer::CutAfter(n) => stream.write_all(&[good.as_bytes(), &body[..n]].concat()),
        Answer::StallAfter(n) => {
            stream.write_all(&[good.as_bytes(), &body[..n]].concat())?;
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(CONTENT.as_bytes())?;
            }
        }
        Answer::AnnouncesMore => stream.write_all(head("200 OK", 4_500_000_000, "").as_bytes()),
        Answer::Silent => {
            std::thread::sleep(Duration::from_secs(120));
            Ok(())
        }
        Answer::IgnoresRange => {
            stream.write_all(format!("{}{CONTENT}", head("200 OK", total, "")).as_bytes())
        }
        Answer::Corrupt => {
            let other = CONTENT.replace('5', "6");
            stream.write_all(format!("{}{other}", head("200 OK", total, "")).as_bytes())
        }
        Answer::Redirect => {
            stream.write_all(head("302 Found", 0, "Location: /elsewhere\r\n").as_bytes())
        }
        Answer::Status(status) => stream.write_all(head(status, 0, "").as_bytes()),
    }
}

const PATIENCE: Patience =
    Patience { attempts: 3, timeout: Duration::from_millis(500), pause: Duration::from_millis(1) };

fn manifest(base: &str) -> Manifest {
    let file = RemoteFile {
        path: "some/table.csv".into(),
        size: Some(CONTENT.len() as u64),
        blob: BLOB.into(),
    };
    Manifest { commit: "c0ffee".into(), base: base.into(), files: vec![file] }
}

fn fetch_from(base: &str, to: &Path) -> Result<usize> {
    fetch(&manifest(base), to, PATIENCE, &Progress::Quiet, &AtomicBool::new(false))
}

/// Fetches from a server that gives these answers; returns what lies there then.
fn outcome(answers: Vec<Answer>) -> (Result<usize>, Option<String>, Vec<Option<usize>>) {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(answers);
    let result = fetch_from(&server.address, folder.path());
    let content = std::fs::read_to_string(folder.path().join("some/table.csv")).ok();
    (result, content, server.ranges())
}

fn assert_fetched(answers: Vec<Answer>, ranges: &[Option<usize>]) {
    let (result, content, asked) = outcome(answers);
    assert_eq!(result.expect("fetched"), 1);
    assert_eq!(content.as_deref(), Some(CONTENT));
    assert_eq!(asked, ranges);
}

fn assert_refused(answers: Vec<Answer>, problem: &str) {
    let (result, content, _) = outcome(answers);
    let error = result.expect_err(problem);
    assert_options_exist(&["fetch", "tables"], &error.to_string());
    assert!(error.problem.contains(problem), "{error}");
    assert_eq!(content, None, "a table that is not the authors' was kept");
}

#[test]
fn a_whole_file_is_fetched_once() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(vec![Answer::Good]);
    assert_eq!(fetch_from(&server.address, folder.path()).expect("fetched"), 1);
    assert_eq!(fetch_from(&server.address, folder.path()).expect("kept"), 0);
    assert_eq!(server.ranges(), [None], "the second call asked for nothing");
    std::fs::write(folder.path().join("some/table.csv"), "damaged").expect("write");
    assert_eq!(fetch_from(&server.address, folder.path()).expect("fetched"), 1);
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let answers = vec![Answer::CutAfter(10), Answer::CutAfter(5), Answer::Good];
    assert_fetched(answers, &[None, Some(10), Some(15)]);
}

#[test]
fn a_stalled_connection_is_given_up_and_resumed() {
    assert_fetched(vec![Answer::StallAfter(7), Answer::Good], &[None, Some(7)]);
}

#[test]
fn a_server_without_ranges_sends_the_file_again() {
    assert_fetched(vec![Answer::CutAfter(10), Answer::IgnoresRange], &[None, Some(10)]);
}

#[test]
fn redirects_are_followed_and_busy_servers_asked_again() {
    assert_fetched(vec![Answer::Redirect, Answer::Good], &[None, None]);
    let busy = Answer::Status("429 Too Many Requests");
    assert_fetched(vec![busy, Answer::Status("503 Service Unavailable"), Answer::Good], &[None; 3]);
}

#[test]
fn what_is_not_the_authors_file_is_refused() {
    assert_refused(vec![Answer::Corrupt], "git blob id");
    assert_refused(vec![Answer::Status("404 Not Found")], "404");
    assert_refused(vec![Answer::Status("429 Too Many Requests")], "(3 attempts)");
}

#[test]
fn no_more_is_taken_than_the_file_has() {
    let folder = tempfile::tempdir().expect("folder");
    for (answers, problem) in [
        (vec![Answer::Endless], "sends more bytes than the 34 expected"),
        (vec![Answer::CutAfter(10), Answer::Endless], "sends more bytes than the 34 expected"),
        (vec![Answer::AnnouncesMore], "announces 4500000000 bytes, expected 34"),
    ] {
        let server = Server::start(answers);
        let error = fetch_from(&server.address, folder.path()).expect_err(problem);
        assert!(error.problem.contains(problem), "{error}");
        let left = std::fs::read_dir(folder.path().join("some")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "something of it was kept");
    }
    // A longer leftover of an earlier fetch is not part of the file.
    let partial = folder.path().join("some/table.csv.partial");
    std::fs::write(&partial, CONTENT.repeat(2)).expect("write");
    assert_eq!(fetch_from(&Server::start(vec![Answer::Good]).address, folder.path()), Ok(1));
}

#[test]
fn a_server_is_not_asked_again_before_it_wants_to_be() {
    let later = Answer::Status("503 Service Unavailable\r\nRetry-After: 3600");
    let (result, _, asked) = outcome(vec![later, Answer::Good]);
    let error = result.expect_err("an hour is too long");
    assert!(error.problem.contains("asks for a wait of 3600 s"), "{error}");
    assert_eq!(asked.len(), 1);
}

#[test]
fn an_interrupt_does_not_wait_for_a_silent_server() {
    for answer in [Answer::Silent, Answer::StallAfter(0), Answer::Status("503 Busy")] {
        let folder = tempfile::tempdir().expect("folder");
        let server = Server::start(vec![answer]);
        let arguments = ["fetch", "tables", "--base", &server.address];
        let mut command = program(folder.path(), &arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
        while server.ranges().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(interrupt(&mut child), Some(2));
        let error = stderr(&child.wait_with_output().expect("it has ended"));
        assert!(error.contains("interrupted"), "{error}");
    }
}

#[test]
fn an_interrupt_stops_before_the_next_request() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(vec![Answer::Good]);
    let stopped = AtomicBool::new(true);
    let result =
        fetch(&manifest(&server.address), folder.path(), PATIENCE, &Progress::Quiet, &stopped);
    assert!(result.expect_err("stopped").problem.contains("interrupted"));
    assert!(server.ranges().is_empty());
}

#[test]
fn offline_is_told_in_one_sentence_with_exit_code_2() {
    let folder = tempfile::tempdir().expect("folder");
    // A port that was free a moment ago: nothing listens there.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let base = format!("http://127.0.0.1:{port}");
    assert!(
        fetch_from(&base, folder.path())
            .expect_err("offline")
            .problem
            .contains("cannot be fetched")
    );
    let output = run(folder.path(), &["fetch", "tables", "--base", "not an address"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("help: check the connection"), "{}", stderr(&output));
    assert_options_exist(&["fetch", "tables"], &stderr(&output));
}
