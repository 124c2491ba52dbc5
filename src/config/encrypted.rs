//! The encrypted transports of `[dns]`: read, checked, built.

use super::build;
use super::source::{At, Findings, Span};
use super::spec::Spec;
use super::table::Table;
use super::value::{self, Bad};
use crate::model::{EncryptedListen, TlsFiles};
use std::net::SocketAddr;
use std::path::Path;
use toml::de::DeValue;

/// `https-path` where nothing is said: what RFC 8484 shows.
const HTTPS_PATH: &str = "/dns-query";
/// Longest `https-path`.
const PATH_CHARACTERS_MAX: usize = 255;

/// Addresses, each with its place.
type Addresses = At<Vec<At<SocketAddr>>>;

/// What `[dns]` says of them.
#[derive(Debug, Default)]
pub(super) struct EncryptedSpec {
    /// `tls-listen`.
    pub(super) tls_listen: Option<Addresses>,
    /// `quic-listen`.
    pub(super) quic_listen: Option<Addresses>,
    /// `https-listen`.
    pub(super) https_listen: Option<Addresses>,
    /// `https-path`.
    https_path: Option<At<String>>,
    /// `tls`, certificate and key.
    pub(super) tls: Option<(At<String>, At<String>)>,
    /// Whether `tls` was there but wrong, so that nobody is told to add it.
    tls_bad: bool,
}

/// Reads the keys out of `[dns]`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> EncryptedSpec {
    const WHAT: &str = "an array of addresses with ports";
    let tls = table.table(findings, "tls").map(|(entries, span)| {
        let mut tls = Table::new(entries, span, "dns.tls");
        let cert = tls.required(findings, "cert", "cert = \"dns.crt\"", value::path);
        let key = tls.required(findings, "key", "key = \"dns.key\"", value::path);
        tls.finish(findings);
        cert.zip(key)
    });
    EncryptedSpec {
        tls_listen: table.array(findings, "tls-listen", WHAT, value::socket_address),
        quic_listen: table.array(findings, "quic-listen", WHAT, value::socket_address),
        https_listen: table.array(findings, "https-listen", WHAT, value::socket_address),
        https_path: table.value(findings, "https-path", url_path),
        tls_bad: tls == Some(None) || table.is_bad("tls"),
        tls: tls.flatten(),
    }
}

/// Reads a path of a URL that needs no escapes.
fn url_path(value: &DeValue<'_>) -> Result<String, Bad> {
    let path = value::filled_text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@".contains(c);
    match path.starts_with('/') && path.chars().all(allowed) && path.len() <= PATH_CHARACTERS_MAX {
        true => Ok(path),
        false => Err(Bad::new("must be the path of a URL, from its first `/`, without escapes").hint("\"/dns-query\"")),
    }
}

impl EncryptedSpec {
    /// Every list of addresses with its key and the transport that it takes.
    fn lists(&self) -> [(&'static str, &'static str, Option<&Addresses>); 3] {
        [
            ("tls-listen", "TCP", self.tls_listen.as_ref()),
            ("quic-listen", "UDP", self.quic_listen.as_ref()),
            ("https-listen", "TCP", self.https_listen.as_ref()),
        ]
    }

    /// Builds what is served; none where no address is given.
    pub(super) fn build(&self, folder: &Path) -> Option<EncryptedListen> {
        let addresses = |list: &Option<Addresses>| -> Vec<SocketAddr> {
            let list = list.iter().flat_map(|list| &list.value);
            list.map(|address| address.value).collect()
        };
        let (cert, key) = self.tls.as_ref()?;
        let listen = EncryptedListen {
            tls: addresses(&self.tls_listen),
            quic: addresses(&self.quic_listen),
            https: addresses(&self.https_listen),
            https_path: self.https_path.as_ref().map_or(HTTPS_PATH, |path| &path.value).to_owned(),
            files: TlsFiles {
                cert: folder.join(&cert.value),
                key: folder.join(&key.value),
            },
        };
        let is_served = !(listen.tls.is_empty() && listen.quic.is_empty() && listen.https.is_empty());
        is_served.then_some(listen)
    }
}

/// Encrypted transports need a certificate.
pub(super) fn encrypted_transports_have_a_certificate(spec: &Spec, findings: &mut Findings<'_>) {
    let encrypted = &spec.dns.encrypted;
    if encrypted.tls.is_some() || encrypted.tls_bad {
        return;
    }
    for (key, _, list) in encrypted.lists() {
        if let Some(list) = list.filter(|list| !list.value.is_empty()) {
            findings
                .absent(list.span, format!("`{key}` needs `tls` in [dns]"))
                .hint("tls = { cert = \"…\", key = \"…\" }, files in PEM; they may change while the server runs");
        }
    }
}

/// No two sockets want the same address for the same transport.
pub(super) fn encrypted_transports_do_not_collide(spec: &Spec, findings: &mut Findings<'_>) {
    let mut taken: Vec<(&'static str, &'static str, SocketAddr, Option<Span>)> = Vec::new();
    match &spec.dns.listen {
        Some(list) => taken.extend(list.value.iter().map(|one| ("listen", "", one.value, Some(one.span)))),
        None => taken.extend(build::default_dns_listen().into_iter().map(|address| ("listen", "", address, None))),
    }
    let api = spec.api.listen.as_ref();
    let api = (api.map_or_else(build::default_api_listen, |api| api.value), api.map(|api| api.span));
    taken.push(("the API", "TCP", api.0, api.1));
    for (key, transport, list) in spec.dns.encrypted.lists() {
        for address in list.into_iter().flat_map(|list| &list.value) {
            if address.value.ip().is_multicast() {
                findings.error(address.span, "DNS is not served on a multicast address");
            }
            // `listen` takes both transports.
            let earlier = taken
                .iter()
                .find(|(_, other, taken, _)| (other.is_empty() || *other == transport) && is_same(*taken, address.value));
            if let Some((other, _, place, span)) = earlier {
                let other = if *other == key { "an earlier one here" } else { other };
                let note = findings.error(
                    address.span,
                    format!("{} over {transport} is taken by {other}, {place}", address.value),
                );
                match span {
                    Some(span) => note.related(*span, "taken here"),
                    None => note.hint("that is its default"),
                };
            }
            taken.push((key, transport, address.value, Some(address.span)));
        }
    }
}

/// Whether two sockets of one transport cannot both be had. A wildcard takes the port of every address of its family.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = one.ip() == other.ip() || one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified());
    covers && one.port() == other.port() && one.port() != 0
}
