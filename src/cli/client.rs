//! Requests to whichever server answers.
//!
//! Servers are tried in turn. An answer of any kind ends the search, but for 503: that node cannot serve the request, another may. A change
//! carries a request id that stays the same from server to server and from try to try, so a request whose answer was
//! lost can be sent again and is carried out once. What was sent and never answered is told: nobody may think that nothing happened.

use super::args::Connection;
use super::connect::{LOOPBACK, SOCKET, Server, tls_config};
use super::outcome::{Failure, Outcome};
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Most octets of an answer; a page of the ledger with large evacuations stays far below.
const ANSWER_OCTETS_MAX: usize = 256 << 20;
/// Rounds over all servers; a second one only when an answer was lost in the first.
const ROUNDS_MAX: usize = 2;

/// What is said of a change that was sent and of which nothing was heard.
pub(super) const UNCERTAIN: &str =
    "The request was sent, its answer never came: the change may have been made. Look (pointsman ledger log) before you repeat it.";

/// Most octets of a claimed user; servers take no more.
const CLAIM_OCTETS_MAX: usize = 64;

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the whole answer. A reload of large zones takes a while.
    pub answer: Duration,
}

/// The usual limits.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(60),
};

/// Sends requests.
pub(super) struct Client {
    servers: Vec<Server>,
    /// The server that answered last: asked first from then on, so that what follows a change sees it.
    last: AtomicUsize,
    token: Option<String>,
    /// Who the user claims to be.
    user: Option<String>,
    tls: Option<Arc<ClientConfig>>,
    limits: Limits,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its HTTP status.
    pub status: StatusCode,
    /// Its body; null when it was no JSON.
    pub body: Value,
    /// Who gave it.
    pub server: String,
    /// Whether another server was sent this change and never answered: it may have been made there.
    pub uncertain: bool,
}

/// Why one server gave no answer.
enum Miss {
    /// Nothing was sent.
    NotSent(anyhow::Error),
    /// The request was sent, and may have been carried out.
    Lost(anyhow::Error),
}

impl Client {
    /// A client for the servers of the command line, the environment, or this machine.
    pub fn new(connection: &Connection) -> Outcome<Client> {
        let token = read_token(connection.token_file.as_deref())?;
        // An empty variable is as good as none.
        let named: Vec<&str> = connection
            .server
            .iter()
            .map(|text| text.trim())
            .filter(|text| !text.is_empty())
            .collect();
        let servers = if named.is_empty() {
            let socket = std::env::var_os("POINTSMAN_SOCKET").map_or_else(|| SOCKET.into(), Into::into);
            vec![Server::Socket(socket), Server::parse(LOOPBACK)?]
        } else {
            let parse = |text: &str| Server::parse(text).map_err(|error| Failure::Usage(format!("{error:#}")));
            named.into_iter().map(parse).collect::<Outcome<Vec<_>>>()?
        };
        let user = std::env::var("USER").ok().and_then(|user| claim(&user));
        Client::with(servers, token, user, connection.ca.as_deref(), LIMITS)
    }

    /// A client for these servers.
    pub fn with(servers: Vec<Server>, token: Option<String>, user: Option<String>, ca: Option<&Path>, limits: Limits) -> Outcome<Client> {
        if token.is_some()
            && let Some(open) = servers.iter().find(|server| !server.is_private())
        {
            return Err(Failure::Usage(format!(
                "a token is not sent to {open} for everybody on the way to read: use https://"
            )));
        }
        // Only when it is needed: a machine without any trusted certificates can still ask its own server.
        let tls = if servers.iter().any(Server::is_tls) {
            Some(tls_config(ca)?)
        } else {
            None
        };
        Ok(Client {
            servers,
            last: AtomicUsize::new(0),
            token,
            user,
            tls,
            limits,
        })
    }

    /// Asks.
    pub async fn get(&self, path: &str) -> Outcome<Answer> {
        self.call(Method::GET, path, None).await
    }

    /// Sends a change.
    pub async fn post(&self, path: &str, body: &Value) -> Outcome<Answer> {
        self.call(Method::POST, path, Some(Bytes::from(body.to_string()))).await
    }

    /// Begins to listen to a stream of events.
    pub async fn listen(&self, path: &str) -> Outcome<(StatusCode, Incoming, String)> {
        let mut misses = Vec::new();
        for (place, server) in self.in_turn() {
            let sent = timeout(self.limits.answer, self.send(server, &Method::GET, path, None)).await;
            match sent.unwrap_or_else(|_| Err(Miss::Lost(anyhow::anyhow!("no answer in {:?}", self.limits.answer)))) {
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    misses.push(format!("{server}: 503, it cannot serve this now"))
                }
                Ok(response) => {
                    self.last.store(place, Ordering::Relaxed);
                    return Ok((response.status(), response.into_body(), server.to_string()));
                }
                Err(Miss::NotSent(error) | Miss::Lost(error)) => misses.push(format!("{server}: {error:#}")),
            }
        }
        Err(unreachable(&misses, false))
    }

    /// The servers with their places, the one that answered last first.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Server)> {
        let first = self.last.load(Ordering::Relaxed);
        let (before, from) = self.servers.split_at(first.min(self.servers.len()));
        from.iter()
            .enumerate()
            .map(move |(step, server)| (first + step, server))
            .chain(before.iter().enumerate())
    }

    /// Tries server after server.
    async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Outcome<Answer> {
        let (mut misses, mut busy, mut lost) = (Vec::new(), None, BTreeSet::new());
        let is_change = method == Method::POST;
        for _ in 0..ROUNDS_MAX {
            let mut lost_now = false;
            for (place, server) in self.in_turn() {
                match self.exchange(server, &method, path, body.clone()).await {
                    Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => busy = Some(answer),
                    Ok(mut answer) => {
                        self.last.store(place, Ordering::Relaxed);
                        // This server says what came of the request here; of the others nobody knows.
                        lost.remove(&place);
                        answer.uncertain = is_change && !lost.is_empty();
                        return Ok(answer);
                    }
                    Err(Miss::NotSent(error)) => misses.push(format!("{server}: {error:#}")),
                    Err(Miss::Lost(error)) => {
                        lost_now = true;
                        lost.insert(place);
                        misses.push(format!("{server}: {error:#}"));
                    }
                }
            }
            if !lost_now {
                break;
            }
        }
        let uncertain = is_change && !lost.is_empty();
        match busy {
            Some(answer) => Ok(Answer { uncertain, ..answer }),
            None => Err(unreachable(&misses, uncertain)),
        }
    }

    /// One request to one server, its whole answer in time.
    async fn exchange(&self, server: &Server, method: &Method, path: &str, body: Option<Bytes>) -> Result<Answer, Miss> {
        let whole = async {
            let response = self.send(server, method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_OCTETS_MAX).collect().await;
            let body = body
                .map_err(|error| Miss::Lost(anyhow::anyhow!("the answer broke off: {error}")))?
                .to_bytes();
            Ok(Answer {
                status,
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                server: server.to_string(),
                uncertain: false,
            })
        };
        timeout(self.limits.answer, whole)
            .await
            .unwrap_or_else(|_| Err(Miss::Lost(anyhow::anyhow!("no answer in {:?}", self.limits.answer))))
    }

    /// Connects and sends; returns when the head of the answer is there.
    async fn send(&self, server: &Server, method: &Method, path: &str, body: Option<Bytes>) -> Result<Response<Incoming>, Miss> {
        let request = self.request(server, method, path, body).map_err(Miss::NotSent)?;
        let connected = timeout(self.limits.connect, server.connect(self.tls.as_ref())).await;
        let stream = connected
            .map_err(|_| Miss::NotSent(anyhow::anyhow!("no connection in {:?}", self.limits.connect)))?
            .map_err(Miss::NotSent)?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| Miss::NotSent(error.into()))?;
        // Ends with the connection; its error comes to the sender too.
        tokio::spawn(async move { drop(connection.await) });
        sender.send_request(request).await.map_err(|error| Miss::Lost(error.into()))
    }

    /// The request for one server.
    fn request(&self, server: &Server, method: &Method, path: &str, body: Option<Bytes>) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(server.path(path))
            .header(HOST, server.authority())
            .header(USER_AGENT, concat!("pointsman/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, text/event-stream");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(user) = &self.user {
            request = request.header("x-pointsman-user", user);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request.body(Full::new(body.unwrap_or_default())).context("making the request")
    }
}

/// Nobody answered.
fn unreachable(misses: &[String], uncertain: bool) -> Failure {
    let mut text = "no server can be reached".to_owned();
    let mut told: Vec<&String> = Vec::new();
    for miss in misses {
        if !told.contains(&miss) {
            told.push(miss);
            text.push_str(&format!("\n  {miss}"));
        }
    }
    if uncertain {
        text.push('\n');
        text.push_str(UNCERTAIN);
    }
    Failure::Unreachable(text)
}

/// The token: of the file, else of the environment.
fn read_token(file: Option<&Path>) -> Outcome<Option<String>> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading the token in {}", path.display()))?,
        None => std::env::var("POINTSMAN_TOKEN").unwrap_or_default(),
    };
    match text.trim() {
        "" if file.is_some() => Err(Failure::failed("the token file is empty")),
        "" => Ok(None),
        token if token.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(token.to_owned())),
        _ => Err(Failure::failed(
            "the token has characters that no token has: it is one word of printable ASCII",
        )),
    }
}

/// Who the user claims to be, as far as servers take it: printable ASCII. It is only a note in the ledger, so a name that is
/// written otherwise loses letters, and never keeps its owner from working.
pub(super) fn claim(user: &str) -> Option<String> {
    let printable = |c: &char| *c == ' ' || c.is_ascii_graphic();
    let kept: String = user.chars().filter(printable).take(CLAIM_OCTETS_MAX).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// A new request id: 128 random bits in hex.
pub(super) fn request_id() -> Outcome<String> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Failure::failed(format!("no random numbers from the system: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// A part of a path: everything but letters, digits, `-`, `.`, `_` and `~` is escaped (RFC 3986, section 2.3).
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            escaped.push(char::from(octet));
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    escaped
}
