//! What is asked: method, target, header fields.
//!
//! The URL and the header fields may hold secrets and are never part of a message.

use super::super::words::failure;
use crate::model::{FailReason, Failure, HttpProbe};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
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
        let url = &probe.url;
        let authority = authority(url).parse().map_err(|_| broken("the host of the URL cannot be sent"))?;
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let path = url[Position::BeforePath..Position::AfterQuery].parse();
        Ok(Ask {
            method,
            origin: (scheme, authority),
            path: path.map_err(|_| broken("the path of the URL cannot be sent"))?,
            fields,
        })
    }

    /// As HTTP/1.1 wants it: the path alone, and Host among the fields.
    pub fn one<B>(&self, body: B) -> Result<Request<B>, Failure> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        let host = HeaderValue::from_str(self.origin.1.as_str());
        let host = host.map_err(|_| failure(FailReason::Internal, "the host of the URL cannot be sent"))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().extend(self.fields.clone());
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
        Ok(request)
    }
}

/// Host and port of a URL; the port only where it is not the usual one.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
