//! What is asked: method, target, header fields.
//!
//! The URL and the header fields may hold secrets and are never part of a message.

use super::super::words::failure;
use crate::model::{FailReason, Failure, HttpProbe};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::{Method, Request};
use url::{Position, Url};

/// Fields about one connection, which HTTP/2 does not allow (RFC 9113 section 8.2.2).
const OF_A_CONNECTION: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Ask {
    /// The method.
    method: Method,
    /// Scheme and authority.
    origin: (Scheme, Authority),
    /// Path and query.
    path: PathAndQuery,
    /// Header fields, without Host.
    fields: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The whole URL, for redirects.
    url: Url,
}

impl Ask {
    /// The request of a probe.
    ///
    /// # Errors
    /// When something of it cannot be sent.
    pub fn new(probe: &HttpProbe) -> Result<Ask, Failure> {
        let broken = |what: &str| failure(FailReason::Internal, what);
        let method = Method::from_bytes(probe.method.as_bytes());
        let method = method.map_err(|_| broken(&format!("no HTTP method: {}", probe.method)))?;
        let mut fields = HeaderMap::new();
        fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
        fields.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("pointsman/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, value) in &probe.headers {
            let broken = || broken(&format!("header {name} cannot be sent"));
            let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?;
            fields.insert(field, HeaderValue::from_str(value).map_err(|_| broken())?);
        }
        let body = probe.body.clone().map(Bytes::from).unwrap_or_default();
        Ask::of(method, &probe.url, fields, body)
    }

    /// The request to a URL.
    fn of(method: Method, url: &Url, fields: HeaderMap, body: Bytes) -> Result<Ask, Failure> {
        let broken = |what: &str| failure(FailReason::Internal, what);
        let authority = authority(url).parse().map_err(|_| broken("the host of the URL cannot be sent"))?;
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let path = url[Position::BeforePath..Position::AfterQuery].parse();
        Ok(Ask {
            method,
            origin: (scheme, authority),
            path: path.map_err(|_| broken("the path of the URL cannot be sent"))?,
            fields,
            body,
            url: url.clone(),
        })
    }

    /// The request to where an answer leads (RFC 9110 section 15.4), at the same scheme, host and port.
    ///
    /// # Errors
    /// When it leads elsewhere, in words; what stands behind host and port may be a secret and is not part of them.
    pub fn follow(&self, status: u16, location: &[u8]) -> Result<Ask, Failure> {
        let no_url = || failure(FailReason::Protocol, format!("HTTP {status} leads nowhere: its Location is no URL"));
        let location = std::str::from_utf8(location).map_err(|_| no_url())?;
        let url = self.url.join(location).map_err(|_| no_url())?;
        if url.origin() != self.url.origin() {
            let words = |url: &Url| match url.origin().is_tuple() {
                true => url.origin().ascii_serialization(),
                false => format!("a {} URL", url.scheme()),
            };
            let message = format!("HTTP {status} leads to {}, not to {}", words(&url), words(&self.url));
            return Err(failure(FailReason::Status, message));
        }
        let (mut method, mut fields, mut body) = (self.method.clone(), self.fields.clone(), self.body.clone());
        // RFC 9110 sections 15.4.2 to 15.4.4: what was posted is not posted again; 307 and 308 repeat the request as it is.
        let asks_anew = status == 303 && method != Method::HEAD || matches!(status, 301 | 302) && method == Method::POST;
        if asks_anew {
            method = Method::GET;
            body = Bytes::new();
            fields.remove(CONTENT_TYPE);
        }
        Ask::of(method, &url, fields, body)
    }

    /// Says how long the body is, also where it is empty and the method wants one (RFC 9110 section 8.6).
    fn set_length(&self, fields: &mut HeaderMap) {
        if !self.body.is_empty() || matches!(self.method, Method::POST | Method::PUT | Method::PATCH) {
            fields.insert(CONTENT_LENGTH, self.body.len().into());
        }
    }

    /// As HTTP/1.1 wants it: the path alone, and Host among the fields.
    pub fn one(&self) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        let host = HeaderValue::from_str(self.origin.1.as_str());
        let host = host.map_err(|_| failure(FailReason::Internal, "the host of the URL cannot be sent"))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().extend(self.fields.clone());
        self.set_length(request.headers_mut());
        Ok(request)
    }

    /// As HTTP/2 wants it: scheme and authority beside the path, and nothing about the connection.
    pub fn two(&self) -> Result<Request<()>, Failure> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        let (scheme, authority) = self.origin.clone();
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(self.path.clone());
        *request.uri_mut() = uri.build().map_err(|_| failure(FailReason::Internal, "the URL cannot be sent"))?;
        *request.headers_mut() = self.fields.clone();
        for name in OF_A_CONNECTION {
            request.headers_mut().remove(name);
        }
        self.set_length(request.headers_mut());
        Ok(request)
    }
}

/// Host and port of a URL; the port only where it is not the usual one.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
