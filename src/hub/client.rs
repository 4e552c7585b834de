//! Requests to a server, which are repeated while it is busy, and end at once if the user interrupts.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::{Response, StatusCode};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use crate::error::{Error, Kind, Result};

/// How often a waiting request looks for an interrupt.
const LISTEN: Duration = Duration::from_millis(50);
/// Bytes that are read from a connection at once.
const CHUNK: usize = 1 << 16;
/// Chunks that are read ahead of what is written.
const CHUNKS_AHEAD: usize = 4;

/// How often and how long a request is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts without a single new byte before giving up.
    pub attempts: u32,
    /// Longest wait for an answer, for the rest of a file before it is asked for again, and
    /// between two attempts where the server says how long to wait.
    pub timeout: Duration,
    /// Wait before the second attempt; doubled for each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 4, timeout: Duration::from_secs(60), pause: Duration::from_millis(500) }
    }
}

/// Why an attempt failed.
pub(super) enum Miss {
    /// Another attempt may succeed, after the wait that the server asks for.
    Passing { problem: String, wait: Duration },
    /// Every further attempt will fail too.
    Final(String),
    /// The fault is not the server's.
    Failed(Error),
    /// The user interrupted it.
    Stopped,
}

impl Miss {
    /// Returns a miss after which the request can be repeated.
    pub fn passing(problem: impl Into<String>) -> Self {
        Self::Passing { problem: problem.into(), wait: Duration::ZERO }
    }

    /// Returns what an answer without the content means.
    pub fn of_answer(response: &Response<Body>) -> Self {
        let status = response.status();
        let problem = format!("the server answers {status}");
        let never = [StatusCode::NOT_IMPLEMENTED, StatusCode::HTTP_VERSION_NOT_SUPPORTED];
        let busy = status == StatusCode::TOO_MANY_REQUESTS
            || status.is_server_error() && !never.contains(&status);
        if !busy {
            return Self::Final(problem);
        }
        let header = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
        let seconds = header.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self::Passing { problem, wait: Duration::from_secs(seconds) }
    }
}

/// Sends requests to one server for one command.
pub(super) struct Client<'a> {
    agent: Agent,
    patience: Patience,
    stop: &'a AtomicBool,
    /// Access token, if there is one.
    pub token: Option<&'a str>,
    /// Kind of errors.
    pub kind: Kind,
    /// The remedy if a request fails; names options of the command only.
    pub remedy: &'static str,
}

impl<'a> Client<'a> {
    /// Returns a client without a token.
    pub fn new(kind: Kind, remedy: &'static str, patience: Patience, stop: &'a AtomicBool) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(patience.timeout))
            .timeout_recv_response(Some(patience.timeout))
            .timeout_recv_body(Some(patience.timeout));
        Self { agent: config.build().into(), patience, stop, token: None, kind, remedy }
    }

    /// Returns an error about an address.
    pub fn error(&self, url: &str, problem: impl std::fmt::Display) -> Error {
        Error::new(self.kind, url, problem, self.remedy)
    }

    /// Asks for the headers of an address, without following a redirection.
    pub fn head(&self, url: &str) -> Result<Response<Body>, Miss> {
        let request = self.agent.head(url);
        self.send(request.config().max_redirects(0).max_redirects_will_error(false).build())
    }

    /// Asks for the content of an address from a byte on.
    pub fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Miss> {
        let request = self.agent.get(url);
        let range = format!("bytes={from}-");
        self.send(if from > 0 { request.header("Range", range) } else { request })
    }

    /// Sends a request in a thread of its own: an interrupt must not wait for a server.
    fn send(&self, request: RequestBuilder<WithoutBody>) -> Result<Response<Body>, Miss> {
        self.check_stop()?;
        let request = match self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let (sender, answers) = sync_channel(1);
        // After an interrupt the answer has no receiver any more.
        std::thread::spawn(move || sender.send(request.call()).is_ok());
        match self.next(&answers)? {
            Some(Ok(response)) => Ok(response),
            Some(Err(e @ (ureq::Error::BadUri(_) | ureq::Error::Http(_)))) => {
                Err(Miss::Final(e.to_string()))
            }
            Some(Err(e)) => Err(Miss::passing(format!("cannot be fetched: {e}"))),
            None => Err(Miss::Final("cannot be fetched: the request ended early".into())),
        }
    }

    /// Reads a body in a thread of its own, which ends when the receiver is dropped.
    pub fn chunks(body: Body) -> Receiver<std::io::Result<Vec<u8>>> {
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        let mut reader = body.into_reader();
        std::thread::spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                    read => read,
                };
                let failed = read.is_err();
                let read = read.map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        chunks
    }

    /// Waits for what a thread sends next; None at its end.
    pub fn next<T>(&self, channel: &Receiver<T>) -> Result<Option<T>, Miss> {
        loop {
            self.check_stop()?;
            match channel.recv_timeout(LISTEN) {
                Ok(value) => return Ok(Some(value)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// Repeats an attempt until it succeeds or cannot succeed any more. `have` returns the
    /// bytes there are: attempts that add some do not count as failures.
    ///
    /// # Errors
    /// Returns an error if the attempts are used up, the server refuses or asks for a longer
    /// wait than the timeout, or the user interrupts.
    pub fn persist<T>(
        &self,
        url: &str,
        have: impl Fn() -> u64,
        mut attempt: impl FnMut() -> Result<T, Miss>,
    ) -> Result<T> {
        let (mut failures, mut pause) = (0, self.patience.pause);
        loop {
            let before = have();
            let (problem, wait) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Miss::Passing { problem, wait }) => (problem, wait),
                Err(miss) => return Err(self.ended(url, miss)),
            };
            if have() > before {
                (failures, pause) = (0, self.patience.pause);
            }
            failures += 1;
            if failures >= self.patience.attempts {
                return Err(self.error(url, format!("{problem} ({failures} attempts)")));
            }
            if wait > self.patience.timeout {
                let problem = format!("{problem} and asks for a wait of {} s", wait.as_secs());
                return Err(self.error(url, problem));
            }
            self.sleep(pause.max(wait)).map_err(|miss| self.ended(url, miss))?;
            pause *= 2;
        }
    }

    /// Returns the error of a miss that is not repeated.
    fn ended(&self, url: &str, miss: Miss) -> Error {
        match miss {
            Miss::Passing { problem, .. } | Miss::Final(problem) => self.error(url, problem),
            Miss::Failed(error) => error,
            Miss::Stopped => {
                let remedy = "run it again: it continues where it stopped";
                Error::new(Kind::Interrupted, url, "interrupted", remedy)
            }
        }
    }

    fn sleep(&self, time: Duration) -> Result<(), Miss> {
        let end = Instant::now() + time;
        loop {
            self.check_stop()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LISTEN));
        }
    }

    fn check_stop(&self) -> Result<(), Miss> {
        if self.stop.load(Ordering::Relaxed) { Err(Miss::Stopped) } else { Ok(()) }
    }
}
