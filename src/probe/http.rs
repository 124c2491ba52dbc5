//! `kind = "http"`, also https: one request to the endpoint's address, with Host and SNI from the URL.
//!
//! Redirects are not followed and no proxy of the environment is used. The certificate is verified against
//! the host of the URL, also where that is an address. The connection is kept between runs, for a minute at
//! most, so that a server which no longer accepts connections, or whose certificate ran out, is noticed. The
//! body is read only as far as it is allowed to go, and judged only where something is expected of it.

use super::tls::{Trust, TrustError};
use super::words::{CLOSED, failure, failure_in_chain};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, HttpProbe, ProbeTarget};
use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use url::{Host, Url};

/// How long a connection is used before a new one is made.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// How long the rest of a body is waited for that nothing is expected of, so that the connection can be kept.
const DRAIN: Duration = Duration::from_millis(100);
/// Most octets of header fields over HTTP/2; hyper has its own limits for HTTP/1.
const HEADER_OCTETS_MAX: u32 = 64 * 1024;

/// One probe at one address.
pub(super) struct Http {
    /// Where to.
    address: IpAddr,
    /// What to ask and what to expect.
    probe: HttpProbe,
    /// Whether anything looks at the body.
    looks: bool,
    /// Whom to trust; shared by all probes.
    trust: Arc<Trust>,
    /// The client with the kept connection, and what it was made of.
    client: Option<Kept>,
}

/// A client and when to make another one.
struct Kept {
    /// The client, with at most one idle connection.
    client: Client,
    /// When it was made.
    made: Instant,
    /// The state of the trusted certificates that it was made with.
    stamp: u64,
}

impl Http {
    /// The probe at its target.
    pub fn new(probe: &HttpProbe, looks: bool, target: &ProbeTarget, trust: &Arc<Trust>) -> Http {
        Http {
            address: target.address,
            probe: probe.clone(),
            looks,
            trust: Arc::clone(trust),
            client: None,
        }
    }

    /// One run.
    async fn check(&mut self, stage: &Stage) -> Found {
        let mut exposed = Exposed::default();
        // Kept only after a success: whatever goes wrong, and also when the caller gives up on this run, the
        // next one starts with a connection of its own.
        let result = match self.client() {
            Ok(kept) => {
                let result = self.ask(&kept.client, stage, &mut exposed).await;
                self.client = result.is_ok().then_some(kept);
                result
            }
            Err(error) => Err(error),
        };
        Found {
            result,
            observed: None,
            exposed,
        }
    }

    /// Asks and judges.
    async fn ask(&self, client: &Client, stage: &Stage, exposed: &mut Exposed) -> Result<String, Failure> {
        stage.set("no answer");
        let host = self.probe.url.host_str().unwrap_or_default().to_owned();
        let method = Method::from_bytes(self.probe.method.as_bytes());
        let method = method.map_err(|_| failure(FailReason::Internal, format!("no HTTP method: {}", self.probe.method)))?;
        let headers = self.headers()?;
        let url = connect_url(&self.probe.url, self.address);
        let request = client.request(method, url).headers(headers).send();
        let response = request.await.map_err(|error| words(&error, &host))?;
        let status = response.status().as_u16();
        let passes = self.probe.status.iter().any(|(low, high)| (*low..=*high).contains(&status));
        let wrong_status = || {
            failure(
                FailReason::Status,
                format!("HTTP {status}, expected {}", ranges(&self.probe.status)),
            )
        };
        exposed.fact("status", status);
        for (name, value) in response.headers() {
            exposed.header(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
        }
        if self.looks {
            stage.set("no complete body");
            let body = self.body(response, &host).await;
            let whole = body.as_ref().map(drop).map_err(Failure::clone);
            exposed.set_body(body);
            // A wrong status says more than a body that broke off.
            if passes {
                whole?;
            }
        } else if passes {
            drain(response, self.probe.body_bytes_max, &host).await?;
        }
        if passes {
            Ok(format!("HTTP {status}"))
        } else {
            Err(wrong_status())
        }
    }

    /// The header fields of the request.
    fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("pointsman/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in &self.probe.headers {
            // The value may be a secret: it is not shown.
            let broken = || failure(FailReason::Internal, format!("header {name} cannot be sent"));
            let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
            headers.insert(field, HeaderValue::from_str(value).map_err(|_| broken())?);
        }
        if !headers.contains_key(HOST)
            && let Some(value) = literal_authority(&self.probe.url)
        {
            headers.insert(HOST, value);
        }
        Ok(headers)
    }

    /// The body, as far as it is allowed to go.
    async fn body(&self, mut response: Response, host: &str) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| words(&error, host))? {
            if body.len() + chunk.len() > self.probe.body_bytes_max {
                let message = format!("body is longer than {} octets", self.probe.body_bytes_max);
                return Err(failure(FailReason::Content, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The kept client, or a new one where it is old or the trusted certificates changed.
    fn client(&mut self) -> Result<Kept, Failure> {
        let ca = self.probe.ca.as_deref();
        let secure = self.probe.url.scheme() == "https";
        let stamp = if secure { self.trust.stamp(ca) } else { 0 };
        let usable = |kept: &Kept| kept.stamp == stamp && kept.made.elapsed() < CONNECTION_AGE_MAX;
        if let Some(kept) = self.client.take().filter(usable) {
            return Ok(kept);
        }
        let cannot = |error: TrustError| failure(FailReason::Internal, error.to_string());
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false);
        builder = builder.pool_max_idle_per_host(1).pool_idle_timeout(CONNECTION_AGE_MAX);
        builder = builder.http2_max_header_list_size(HEADER_OCTETS_MAX);
        let config = match (secure, self.probe.url.host()) {
            (false, _) => self.trust.nobody().map_err(cannot)?,
            (true, Some(Host::Ipv4(address))) => self.trust.config_for(ca, address.into()).map_err(cannot)?,
            (true, Some(Host::Ipv6(address))) => self.trust.config_for(ca, address.into()).map_err(cannot)?,
            (true, _) => self.trust.config(ca).map_err(cannot)?,
        };
        builder = builder.tls_backend_preconfigured(config);
        if let Some(Host::Domain(host)) = self.probe.url.host() {
            // The port is the URL's.
            builder = builder.resolve(host, SocketAddr::new(self.address, 0));
        }
        let broken = |error: reqwest::Error| failure(FailReason::Internal, format!("no HTTP client: {}", error.without_url()));
        Ok(Kept {
            client: builder.build().map_err(broken)?,
            made: Instant::now(),
            stamp,
        })
    }
}

impl Kind for Http {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }
}

/// The URL to connect to: a host that is an address cannot be overridden when resolving, so it is replaced.
fn connect_url(url: &Url, address: IpAddr) -> Url {
    let mut url = url.clone();
    if !matches!(url.host(), Some(Host::Domain(_))) {
        // Can only fail for URLs without a host, which are no http URLs.
        let _ = url.set_ip_host(address);
    }
    url
}

/// The Host header for a URL whose host is an address: what the URL says, not where we connect to.
fn literal_authority(url: &Url) -> Option<HeaderValue> {
    if matches!(url.host(), None | Some(Host::Domain(_))) {
        return None;
    }
    let host = url.host_str()?;
    let text = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    HeaderValue::from_str(&text).ok()
}

/// Reads the rest of a body that nothing is expected of, for a moment and up to the limit.
async fn drain(mut response: Response, octets_max: usize, host: &str) -> Result<(), Failure> {
    let rest = async {
        let mut left = octets_max;
        while let Some(chunk) = response.chunk().await.map_err(|error| words(&error, host))? {
            match left.checked_sub(chunk.len()) {
                Some(fewer) => left = fewer,
                None => break,
            }
        }
        Ok(())
    };
    tokio::time::timeout(DRAIN, rest).await.unwrap_or(Ok(()))
}

/// Class and words of an error of the client. The URL is not part of it.
fn words(error: &reqwest::Error, host: &str) -> Failure {
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        if let Some(http) = inner.downcast_ref::<hyper::Error>() {
            if http.is_parse_too_large() {
                return failure(FailReason::Protocol, "the header fields of the answer are too large");
            }
            if http.is_parse() || http.is_parse_status() {
                return failure(FailReason::Protocol, "the answer is no valid HTTP");
            }
            if http.is_incomplete_message() || http.is_body_write_aborted() {
                return failure(FailReason::Protocol, "connection closed before the answer was complete");
            }
        }
        next = inner.source();
    }
    let found = std::error::Error::source(error).and_then(|source| failure_in_chain(source, host));
    match found {
        // TCP has no such end while connecting: it is the handshake's.
        Some(found) if error.is_connect() && found.message == CLOSED => {
            failure(FailReason::Tls, "connection closed during the TLS handshake")
        }
        Some(found) if error.is_body() || error.is_decode() => match found.reason {
            FailReason::Connect => failure(FailReason::Protocol, "connection closed before the answer was complete"),
            _ => found,
        },
        Some(found) => found,
        None => {
            let mut text = String::new();
            let mut next = std::error::Error::source(error);
            while let Some(inner) = next {
                text = inner.to_string();
                next = inner.source();
            }
            failure(FailReason::Protocol, format!("no HTTP answer: {text}"))
        }
    }
}

/// `200-299 or 301`.
fn ranges(ranges: &[(u16, u16)]) -> String {
    let show = |(low, high): &(u16, u16)| if low == high { low.to_string() } else { format!("{low}-{high}") };
    ranges.iter().map(show).collect::<Vec<String>>().join(" or ")
}
