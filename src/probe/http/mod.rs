//! `kind = "http"`, also https: one request to the endpoint's address, with Host and SNI from the URL.
//!
//! Redirects are followed only where that is allowed and they stay at the scheme, host and port of the URL; no proxy of the
//! environment is used. The certificate is verified against the host of the URL, also where that is an address. The
//! connection is kept between runs, for a minute at most, so that a server which no longer accepts connections, or whose
//! certificate ran out, is noticed. The body is read only as far as it is allowed to go, and judged only where something is
//! expected of it; of an answer that fails its first words are shown.
//!
//! | file | what |
//! |---|---|
//! | `one`, `two` | HTTP/1.1 and HTTP/2 over a stream |
//! | `wire` | either of them, kept between runs |
//! | `request` | what is asked |

mod one;
mod request;
mod two;
mod wire;

use super::certificate::Shown;
use super::connect::{self, Metered, Stream};
use super::tls::{SecureWith, Trust, Wanted};
use super::words::{SAYS_OCTETS_MAX, failure, says_of};
use super::{Found, Kind, LostFuture, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, HttpProbe, HttpVersion, ProbeTarget};
use hyper::header::LOCATION;
use request::Ask;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;
use wire::{Answer, Idle};

/// How long a connection is used before a new one is made.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// After so many kept connections in a row that went nowhere none is kept any more.
const STALLS_MAX: u8 = 2;
/// How long the rest of a body is waited for that nothing is expected of, so that the connection can be kept.
const DRAIN: Duration = Duration::from_millis(100);
/// Most octets of a TLS handshake.
const HANDSHAKE_OCTETS_MAX: usize = 256 * 1024;
/// Most octets that a server may send over a connection that is kept: what TLS and HTTP/2 say about themselves.
const IDLE_OCTETS_MAX: usize = 64 * 1024;
/// Most octets of the header fields of an answer.
const HEADER_OCTETS_MAX: usize = 64 * 1024;
/// The words for more than that.
const FIELDS_TOO_LARGE: &str = "the header fields of the answer are too large";
/// The words for an answer that broke off.
const BROKEN_OFF: &str = "connection closed before the answer was complete";

/// One probe at one address.
pub(super) struct Http {
    /// Where to.
    peer: SocketAddr,
    /// What to ask and what to expect.
    probe: HttpProbe,
    /// Whether anything looks at the body.
    looks: bool,
    /// Whom to trust; shared by all probes.
    trust: Arc<Trust>,
    /// The connection of the last run, when that went well.
    kept: Option<Kept>,
    /// What is known about how the server treats idle connections.
    idle_end: IdleEnd,
    /// How long a run may take.
    timeout: Duration,
    /// How many kept connections in a row went nowhere.
    stalls: u8,
}

/// What is known about the end of idle connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdleEnd {
    /// Nothing: a loss says that something happened to the server.
    Unknown,
    /// The last one was lost, and said so.
    Told,
    /// The last one was lost and the run after it passed: the server ends them by itself.
    Habit,
}

/// Over what an answer came.
enum Over {
    /// The kept connection.
    Kept,
    /// A new one, since the kept one had ended.
    New,
    /// A new one, while the kept one was silent.
    NewInstead,
}

/// A connection that is kept.
struct Kept {
    /// The connection.
    idle: Idle,
    /// When it was made, and with what.
    made: Made,
}

/// How a connection came to be.
#[derive(Debug, Clone, Copy)]
struct Made {
    /// When.
    at: Instant,
    /// The state of the files of TLS then.
    stamp: u64,
    /// What certificates the server showed.
    shown: Option<Shown>,
}

impl Http {
    /// The probe at its target.
    pub fn new(probe: &HttpProbe, looks: bool, timeout: Duration, target: &ProbeTarget, trust: &Arc<Trust>) -> Http {
        // An http or https URL has a port, written or not.
        let port = probe.url.port_or_known_default().unwrap_or(80);
        Http {
            peer: SocketAddr::new(target.address, port),
            probe: probe.clone(),
            looks,
            trust: Arc::clone(trust),
            kept: None,
            idle_end: IdleEnd::Unknown,
            timeout,
            stalls: 0,
        }
    }

    /// One run.
    async fn check(&mut self, stage: &Stage) -> Found {
        let mut exposed = Exposed::default();
        // Kept only after a success: whatever goes wrong, and also when the caller gives up on this run, the
        // next one starts with a connection of its own.
        let kept = self.kept.take();
        let told = self.idle_end == IdleEnd::Told;
        // A connection that outlived the time between two runs speaks against a habit.
        if told || kept.is_some() {
            self.idle_end = IdleEnd::Unknown;
        }
        let result = match self.ask(kept, stage, &mut exposed).await {
            Ok((note, kept)) => {
                self.kept = kept.filter(|_| self.stalls < STALLS_MAX);
                if told {
                    self.idle_end = IdleEnd::Habit;
                }
                Ok(note)
            }
            Err(failure) => {
                self.idle_end = IdleEnd::Unknown;
                Err(failure)
            }
        };
        Found {
            result,
            observed: None,
            exposed,
        }
    }

    /// Asks and judges; a success comes with the connection where it can be kept.
    async fn ask(&mut self, kept: Option<Kept>, stage: &Stage, exposed: &mut Exposed) -> Result<(String, Option<Kept>), Failure> {
        let (mut answer, made) = self.final_answer(kept, stage).await?;
        let status = answer.head.status.as_u16();
        let passes = self.passes(status);
        exposed.fact("status", status);
        if let Some(days) = made.shown.and_then(|shown| shown.days_left()) {
            exposed.fact("certificate-days", days);
        }
        for (name, value) in &answer.head.headers {
            exposed.header(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
        }
        let mut whole = false;
        if self.looks {
            stage.set("no complete body");
            let body = answer.body(self.probe.body_bytes_max).await;
            let read = body.as_ref().map(drop).map_err(Failure::clone);
            whole = read.is_ok();
            exposed.set_body(body);
            // A wrong status says more than a body that broke off.
            if passes {
                read?;
            }
        } else if passes {
            whole = answer.drain(self.probe.body_bytes_max).await?;
        }
        if !passes {
            let says = match exposed.body() {
                Some(body) => says_of(body),
                None => says_of(&answer.glimpse(SAYS_OCTETS_MAX).await),
            };
            let says = says.map(|says| format!("; body says \"{says}\"")).unwrap_or_default();
            let message = format!("HTTP {status}, expected {}{says}", ranges(&self.probe.status));
            return Err(failure(FailReason::Status, message));
        }
        let idle = if whole { answer.end().await } else { None };
        Ok((format!("HTTP {status}"), idle.map(|idle| Kept { idle, made })))
    }

    /// Whether a status code is one of those expected.
    fn passes(&self, status: u16) -> bool {
        self.probe.status.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }

    /// The answer at the end of all redirects that are to be followed.
    async fn final_answer(&mut self, mut kept: Option<Kept>, stage: &Stage) -> Result<(Answer, Made), Failure> {
        let mut ask = Ask::new(&self.probe)?;
        let mut followed = 0;
        loop {
            let (mut answer, made) = self.answer(&ask, kept.take(), stage).await?;
            let status = answer.head.status.as_u16();
            let leads = matches!(status, 301 | 302 | 303 | 307 | 308) && !self.passes(status) && self.probe.redirects > 0;
            let Some(location) = answer.head.headers.get(LOCATION).filter(|_| leads) else {
                return Ok((answer, made));
            };
            ask = ask.follow(status, location.as_bytes())?;
            followed += 1;
            if followed > self.probe.redirects {
                let message = format!("HTTP {status} leads on after {} redirects", self.probe.redirects);
                return Err(failure(FailReason::Status, message));
            }
            if answer.drain(self.probe.body_bytes_max).await? {
                kept = answer.end().await.map(|idle| Kept { idle, made });
            }
        }
    }

    /// The answer to a request, over the kept connection or a new one.
    async fn answer(&mut self, ask: &Ask, kept: Option<Kept>, stage: &Stage) -> Result<(Answer, Made), Failure> {
        let secure = self.secure(stage).await?;
        let stamp = secure.as_ref().map_or(0, |secure| secure.stamp);
        if let Some(mut kept) = kept.filter(|kept| kept.made.stamp == stamp && kept.made.at.elapsed() < CONNECTION_AGE_MAX)
            && !kept.idle.is_lost().await
        {
            stage.set("no answer");
            let over = self.over_kept(kept, ask, secure.as_ref(), stage).await;
            self.stalls = match over {
                Ok((.., Over::Kept)) => 0,
                Ok((.., Over::NewInstead)) => self.stalls.saturating_add(1),
                Ok((.., Over::New)) | Err(_) => self.stalls,
            };
            return over.map(|(answer, made, _)| (answer, made));
        }
        self.anew(ask, secure.as_ref(), stage).await
    }

    /// The answer over a kept connection, or a new one: what goes wrong on a new one alone counts.
    ///
    /// A server may end an idle connection in the moment in which it is used again (RFC 9112 section 9.3.1). And something on
    /// the way may have forgotten it without a word: when there is no answer in half of the time, a new connection is asked
    /// beside it, and whichever answers first is heard, since the endpoint may just be slow.
    async fn over_kept(&self, kept: Kept, ask: &Ask, secure: Option<&SecureWith>, stage: &Stage) -> Result<(Answer, Made, Over), Failure> {
        let Kept { idle, made } = kept;
        let mut over_kept = pin!(wire::send(idle, ask, self.octets_max()));
        let mut anew = pin!(self.anew(ask, secure, stage));
        match tokio::time::timeout(self.timeout / 2, &mut over_kept).await {
            Ok(Ok(answer)) => return Ok((answer, made, Over::Kept)),
            Ok(Err(_)) => return anew.await.map(|(answer, made)| (answer, made, Over::New)),
            Err(_) => {}
        }
        tokio::select! {
            biased;
            answer = &mut over_kept => match answer {
                Ok(answer) => Ok((answer, made, Over::Kept)),
                Err(_) => anew.await.map(|(answer, made)| (answer, made, Over::New)),
            },
            answer = &mut anew => match answer {
                Ok((answer, made)) => Ok((answer, made, Over::NewInstead)),
                // One that is slow may also take no more connections.
                Err(failure) => {
                    stage.set("no answer");
                    over_kept.await.map(|answer| (answer, made, Over::Kept)).map_err(|_| failure)
                }
            },
        }
    }

    /// The answer over a new connection.
    async fn anew(&self, ask: &Ask, secure: Option<&SecureWith>, stage: &Stage) -> Result<(Answer, Made), Failure> {
        let (idle, made) = self.connect(secure, stage).await?;
        stage.set("no answer");
        Ok((wire::send(idle, ask, self.octets_max()).await?, made))
    }

    /// Most octets that may come for one request: head and body with all that a protocol puts around them, such as a length
    /// before each octet (RFC 9112 section 7.1), and what it says on the side.
    fn octets_max(&self) -> usize {
        8 * HEADER_OCTETS_MAX + 8 * self.probe.body_bytes_max
    }

    /// A new connection.
    async fn connect(&self, secure: Option<&SecureWith>, stage: &Stage) -> Result<(Idle, Made), Failure> {
        let at = Instant::now();
        let stream = Metered::new(connect::open(self.peer, stage).await?, HANDSHAKE_OCTETS_MAX);
        let Some(secure) = secure else {
            let made = Made { at, stamp: 0, shown: None };
            let stream = Stream::Plain(stream);
            let idle = match self.probe.version {
                HttpVersion::Two => Idle::two(stream).await?,
                HttpVersion::Auto | HttpVersion::One => Idle::One(stream),
            };
            return Ok((idle, made));
        };
        let stream = connect::secure(stream, secure, self.host(), stage).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(Shown::of);
        let stream = Stream::Tls(Box::new(stream));
        let made = Made {
            at,
            stamp: secure.stamp,
            shown,
        };
        let idle = match stream.alpn() {
            Some(b"h2") => Idle::two(stream).await?,
            _ if self.probe.version == HttpVersion::Two => {
                return Err(failure(FailReason::Protocol, "the server does not offer HTTP/2"));
            }
            _ => Idle::One(stream),
        };
        Ok((idle, made))
    }

    /// Ready, once, when the kept connection is lost and that says something: a server that ends idle connections before the
    /// next run by habit is not asked more often for it.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(kept) = &mut self.kept else { return Poll::Pending };
        ready!(kept.idle.poll_lost(cx));
        self.kept = None;
        if self.idle_end == IdleEnd::Habit {
            return Poll::Pending;
        }
        self.idle_end = IdleEnd::Told;
        Poll::Ready(())
    }

    /// TLS for an https URL.
    async fn secure(&self, stage: &Stage) -> Result<Option<SecureWith>, Failure> {
        if self.probe.url.scheme() != "https" {
            return Ok(None);
        }
        let alpn: &[&[u8]] = match self.probe.version {
            HttpVersion::Auto => &[b"h2", b"http/1.1"],
            HttpVersion::One => &[b"http/1.1"],
            HttpVersion::Two => &[b"h2"],
        };
        let wanted = Wanted {
            ca: self.probe.ca.clone(),
            identity: self.probe.identity.clone(),
            alpn: alpn.iter().map(|one| one.to_vec()).collect(),
        };
        self.trust.secure(&wanted, stage).await.map(Some)
    }

    /// The host of the URL: a name, or an address without brackets.
    fn host(&self) -> &str {
        let host = self.probe.url.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

impl Kind for Http {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }

    fn lost(&mut self) -> LostFuture<'_> {
        Box::pin(poll_fn(|cx| self.poll_lost(cx)))
    }

    fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    fn release(&mut self) {
        self.kept = None;
    }
}

/// `200-299 or 301`.
fn ranges(ranges: &[(u16, u16)]) -> String {
    let show = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
    ranges.iter().map(show).collect::<Vec<String>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppId, Endpoint, RegionId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    /// How long the tests wait for what must come.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A probe at a listener.
    fn at(listener: &TcpListener) -> Http {
        let there = listener.local_addr().unwrap();
        let probe = HttpProbe::new(format!("http://shop.invalid:{}/", there.port()).parse().unwrap());
        let target = ProbeTarget {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            endpoint: Endpoint::Address(there.ip()),
            address: there.ip(),
            probe: 0,
        };
        Http::new(&probe, false, Duration::from_millis(100), &target, &Arc::default())
    }

    /// Answers one request of a connection.
    async fn answer(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    }

    /// A run that the server answers over a new connection.
    async fn run_anew(http: &mut Http, listener: &TcpListener) -> TcpStream {
        let stage = Stage::new();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream).await;
            stream
        };
        let (found, stream) = tokio::join!(http.check(&stage), serve);
        assert_eq!(found.result.unwrap(), "HTTP 200");
        assert!(http.keeps());
        stream
    }

    /// Waits until the kept connection is gone; tells whether that was told.
    async fn loss(http: &mut Http) -> bool {
        poll_fn(|cx| match (http.poll_lost(cx), http.keeps()) {
            (told, false) => Poll::Ready(told.is_ready()),
            (_, true) => Poll::Pending,
        })
        .await
    }

    #[tokio::test]
    async fn a_lost_connection_is_told_unless_the_server_ends_idle_ones_by_habit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut http = at(&listener);
        drop(run_anew(&mut http, &listener).await);
        assert!(loss(&mut http).await, "something happened to the server");
        drop(run_anew(&mut http, &listener).await);
        assert!(!loss(&mut http).await, "it was fine after all, so that is its habit");
        let mut stream = run_anew(&mut http, &listener).await;
        let stage = Stage::new();
        let (found, ()) = tokio::join!(http.check(&stage), answer(&mut stream));
        assert_eq!(found.result.unwrap(), "HTTP 200");
        drop(stream);
        assert!(loss(&mut http).await, "one outlived a pause: no habit any more");
    }

    #[tokio::test]
    async fn a_kept_connection_that_goes_nowhere_is_no_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut http = at(&listener);
        // As behind something that forgets connections: one answer each, then nothing and no end.
        let serve = async {
            let mut forgotten = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                answer(&mut stream).await;
                forgotten.push(stream);
            }
        };
        let runs = async {
            let stage = Stage::new();
            let mut kept = 0;
            for _ in 0..10 {
                let found = timeout(PATIENCE, http.check(&stage)).await.expect("a new connection beside it");
                assert_eq!(found.result.unwrap(), "HTTP 200");
                kept += u8::from(http.keeps());
            }
            kept
        };
        tokio::select! {
            () = serve => {}
            kept = runs => assert_eq!(kept, STALLS_MAX, "then no connection is kept there any more"),
        }
    }

    #[tokio::test]
    async fn a_server_may_not_send_for_ever_over_a_kept_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut http = at(&listener);
        let _stream = run_anew(&mut http, &listener).await;
        let Some(Kept {
            idle: Idle::One(stream), ..
        }) = &http.kept
        else {
            panic!("HTTP/1.1 is kept");
        };
        assert_eq!(stream.allowance().left(), IDLE_OCTETS_MAX);
    }

    #[tokio::test]
    async fn a_slow_answer_over_a_kept_connection_is_heard_beside_a_new_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut http = at(&listener);
        let mut stream = run_anew(&mut http, &listener).await;
        let stage = Stage::new();
        let serve = async {
            let (beside, _) = listener.accept().await.unwrap();
            answer(&mut stream).await;
            beside
        };
        let both = async { tokio::join!(http.check(&stage), serve) };
        let (found, _beside) = timeout(PATIENCE, both).await.expect("a new connection beside it");
        assert_eq!(found.result.unwrap(), "HTTP 200");
        assert!(http.keeps() && http.stalls == 0);
    }

    #[tokio::test]
    async fn what_a_server_says_unasked_ends_a_kept_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut http = at(&listener);
        let mut stream = run_anew(&mut http, &listener).await;
        stream.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert!(loss(&mut http).await);
    }
}
