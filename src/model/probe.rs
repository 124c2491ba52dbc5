//! Probes: what is sent to each endpoint, and what is expected back.
//!
//! [`ProbeSpec`] has what every kind has in common; [`ProbeKind`] has one variant a kind with what only it needs. A new
//! kind is a struct here, a reader in `config`, a file in `probe`, and a row in the table of each.

use super::{AppId, Endpoint, Expect, Name, RegionId, RoleRule, ValueRule};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Share of an interval by which each wait between two probes may be longer or shorter, so that
/// probes do not march in step. Part of the worst-case time: `interval × (1 + JITTER) × fall + …`.
pub const JITTER: f64 = 0.1;

/// One probe of an application, sent to each of its endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeSpec {
    /// What it does.
    pub kind: ProbeKind,
    /// Time from one start to the next, before jitter (see [`JITTER`]).
    pub interval: Duration,
    /// The same from the first failure until there is a verdict; none: as ever. From the timeout up to the interval.
    pub recheck_interval: Option<Duration>,
    /// Longest time one run may take; shorter than the interval.
    pub timeout: Duration,
    /// Failures that make it unhealthy, at least 1.
    pub fall: u32,
    /// Successes in a row that make it healthy again, at least 1.
    pub rise: u32,
    /// How long its evidence is fresh.
    pub stale_after: Duration,
    /// Shown, not counted.
    pub monitoring_only: bool,
    /// What the answer must be beyond the kind's own rule; all must hold.
    pub expect: Vec<Expect>,
    /// Where the application says which role it has itself.
    pub role: Option<RoleRule>,
    /// Numbers taken from the answer, beside those that the kind reports by itself.
    pub values: Vec<ValueRule>,
}

impl ProbeSpec {
    /// A probe of a kind with what the config takes where nothing is said.
    pub fn new(kind: ProbeKind) -> ProbeSpec {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        ProbeSpec {
            kind,
            interval,
            recheck_interval: None,
            timeout,
            fall: 3,
            rise: 2,
            stale_after: (interval + timeout) * 3,
            monitoring_only: false,
            expect: Vec::new(),
            role: None,
            values: Vec::new(),
        }
    }

    /// Whether its outcomes say what role the application has there. A feed may also say it without being asked for it.
    pub fn reports_role(&self) -> bool {
        // A database says by itself whether it can be written to.
        self.role.is_some() || matches!(self.kind, ProbeKind::Postgres(_) | ProbeKind::Mysql(_))
    }

    /// Whether it hears of the application from somebody else: a feed measures nothing, so it says nothing of whether this node
    /// reaches anybody.
    pub fn is_hearsay(&self) -> bool {
        matches!(self.kind, ProbeKind::Feed(_))
    }

    /// Whether anything looks at the body of the answer.
    pub fn needs_body(&self) -> bool {
        let sources = self.expect.iter().map(|expect| &expect.source);
        let sources = sources.chain(self.role.iter().map(|role| &role.source));
        sources
            .chain(self.values.iter().map(|value| &value.source))
            .any(super::Source::needs_body)
    }
}

/// What a probe does, and what it expects.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeKind {
    /// An HTTP or HTTPS request.
    Http(Box<HttpProbe>),
    /// A TLS handshake.
    Tls(Box<TlsProbe>),
    /// A TCP connection.
    Tcp(TcpProbe),
    /// A DNS query over UDP.
    Dns(DnsProbe),
    /// A program of the operator's.
    Exec(ExecProbe),
    /// What others measure.
    Feed(FeedProbe),
    /// A PostgreSQL connection; tells primary from standby.
    Postgres(PostgresProbe),
    /// A MySQL or MariaDB connection; tells primary from replica.
    Mysql(MysqlProbe),
    /// A call of the gRPC health service.
    Grpc(GrpcProbe),
    /// An echo request.
    Icmp(IcmpProbe),
    /// The greeting of a mail server.
    Smtp(SmtpProbe),
}

impl ProbeKind {
    /// As written in the config and in metrics. `https` is `http` with such a URL.
    pub fn as_str(&self) -> &'static str {
        match self {
            ProbeKind::Http(_) => "http",
            ProbeKind::Tls(_) => "tls",
            ProbeKind::Tcp(_) => "tcp",
            ProbeKind::Dns(_) => "dns",
            ProbeKind::Exec(_) => "exec",
            ProbeKind::Feed(_) => "feed",
            ProbeKind::Postgres(_) => "postgres",
            ProbeKind::Mysql(_) => "mysql",
            ProbeKind::Grpc(_) => "grpc",
            ProbeKind::Icmp(_) => "icmp",
            ProbeKind::Smtp(_) => "smtp",
        }
    }

    /// The URL that it asks, for the kinds that have one.
    pub fn url(&self) -> Option<&url::Url> {
        match self {
            ProbeKind::Http(http) => Some(&http.url),
            _ => None,
        }
    }

    /// Files that it reads, by the key that names each; `command` is run instead.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let found = match self {
            ProbeKind::Http(http) => with_identity(vec![("ca", http.ca.as_deref())], http.identity.as_ref()),
            ProbeKind::Tls(tls) => with_identity(vec![("ca", tls.options.ca.as_deref())], tls.identity.as_ref()),
            ProbeKind::Exec(exec) => vec![("command", exec.command.first().map(Path::new))],
            ProbeKind::Postgres(postgres) => vec![
                ("password-file", postgres.password_file.as_deref()),
                ("ca", ca_of(postgres.tls.as_ref())),
            ],
            ProbeKind::Mysql(mysql) => vec![("password-file", mysql.password_file.as_deref()), ("ca", ca_of(mysql.tls.as_ref()))],
            ProbeKind::Grpc(grpc) => vec![("ca", ca_of(grpc.tls.as_ref()))],
            ProbeKind::Smtp(smtp) => vec![("ca", ca_of(smtp.tls.as_ref().map(|(_, tls)| tls)))],
            ProbeKind::Tcp(_) | ProbeKind::Dns(_) | ProbeKind::Feed(_) | ProbeKind::Icmp(_) => Vec::new(),
        };
        found.into_iter().filter_map(|(key, file)| Some((key, file?))).collect()
    }

    /// Makes relative paths of the config absolute.
    pub fn relative_to(&mut self, folder: &Path) {
        let identity = match self {
            ProbeKind::Http(http) => http.identity.as_mut(),
            ProbeKind::Tls(tls) => tls.identity.as_mut(),
            _ => None,
        };
        if let Some(Identity { cert, key }) = identity {
            *cert = folder.join(&*cert);
            *key = folder.join(&*key);
        }
        let files: Vec<&mut Option<PathBuf>> = match self {
            ProbeKind::Http(http) => vec![&mut http.ca],
            ProbeKind::Tls(tls) => vec![&mut tls.options.ca],
            ProbeKind::Postgres(postgres) => {
                let mut files = vec![&mut postgres.password_file];
                files.extend(postgres.tls.as_mut().map(|tls| &mut tls.ca));
                files
            }
            ProbeKind::Feed(feed) => {
                if let FeedSource::File(path) = &mut feed.source {
                    *path = folder.join(&*path);
                }
                Vec::new()
            }
            ProbeKind::Mysql(mysql) => {
                let mut files = vec![&mut mysql.password_file];
                files.extend(mysql.tls.as_mut().map(|tls| &mut tls.ca));
                files
            }
            ProbeKind::Grpc(grpc) => grpc.tls.as_mut().map(|tls| &mut tls.ca).into_iter().collect(),
            ProbeKind::Smtp(smtp) => smtp.tls.as_mut().map(|(_, tls)| &mut tls.ca).into_iter().collect(),
            ProbeKind::Tcp(_) | ProbeKind::Dns(_) | ProbeKind::Exec(_) | ProbeKind::Icmp(_) => Vec::new(),
        };
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

/// Files of a kind, with those of what it shows of itself.
fn with_identity<'a>(
    mut files: Vec<(&'static str, Option<&'a Path>)>,
    identity: Option<&'a Identity>,
) -> Vec<(&'static str, Option<&'a Path>)> {
    files.push(("client-cert", identity.map(|identity| identity.cert.as_path())));
    files.push(("client-key", identity.map(|identity| identity.key.as_path())));
    files
}

/// The file of trusted certificates, where there is TLS with one.
fn ca_of(tls: Option<&TlsOptions>) -> Option<&Path> {
    tls?.ca.as_deref()
}

/// TLS of a kind that speaks it when told to: always verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Name or address that the certificate must be valid for; none: the endpoint as configured.
    pub server_name: Option<String>,
}

/// A certificate that a probe shows of itself, where the server wants to know its clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// File with the certificate chain (PEM).
    pub cert: PathBuf,
    /// File with its private key (PEM); never shown.
    pub key: PathBuf,
}

/// Which version of HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// HTTP/2 where the server offers it over TLS, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    One,
    /// HTTP/2 only; without TLS it is spoken unasked (RFC 9113 section 3.3).
    Two,
}

/// `kind = "http"`: the certificate is verified against the host of the URL.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// Where to; the connection goes to the endpoint's address, Host and SNI come from here.
    pub url: url::Url,
    /// `GET`, `HEAD`, `POST`, …
    pub method: String,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
    /// What is sent as the body; never shown.
    pub body: Option<String>,
    /// Which version of HTTP is spoken.
    pub version: HttpVersion,
    /// Most redirects that are followed, at the same address and to the same scheme, host and port.
    pub redirects: u8,
    /// Status codes that pass, as inclusive ranges.
    pub status: Vec<(u16, u16)>,
    /// Most octets of the body that are read; a longer one fails when the body is looked at.
    pub body_bytes_max: usize,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// What it shows of itself.
    pub identity: Option<Identity>,
}

impl HttpProbe {
    /// A GET of a URL with what the config takes where nothing is said.
    pub fn new(url: url::Url) -> HttpProbe {
        HttpProbe {
            url,
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            version: HttpVersion::default(),
            redirects: 0,
            status: vec![(200, 299)],
            body_bytes_max: 64 * 1024,
            ca: None,
            identity: None,
        }
    }
}

/// `kind = "tls"`: a handshake that is verified.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsProbe {
    /// Port to connect to.
    pub port: u16,
    /// Whom to trust, and for which name.
    pub options: TlsOptions,
    /// What it shows of itself.
    pub identity: Option<Identity>,
    /// Application protocols to offer (ALPN), one of which the server must take; none: nothing is offered.
    pub alpn: Vec<String>,
}

/// `kind = "tcp"`.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpProbe {
    /// Port to connect to.
    pub port: u16,
    /// Octets to send after connecting.
    pub send: Option<Vec<u8>>,
    /// Octets that must come back, anywhere in the first 64 KiB.
    pub expect: Option<Vec<u8>>,
}

/// `kind = "dns"`: one query over UDP, again over TCP when truncated.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsProbe {
    /// Port of the server at the endpoint.
    pub port: u16,
    /// Name to ask for.
    pub qname: Name,
    /// Type to ask for.
    pub qtype: super::Rtype,
    /// Expected RCODE.
    pub rcode: u8,
    /// Presentation forms of data one of which must be in the answer; empty: any.
    pub data: Vec<String>,
}

/// `kind = "exec"`: the exit code says whether it passes, the output is the body. No shell; killed with its children at the timeout.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecProbe {
    /// Program (absolute path) and arguments; `{address}`, `{region}` and `{endpoint}` in an argument are replaced.
    pub command: Vec<String>,
    /// Exit codes that pass.
    pub exit_codes: Vec<u8>,
}

/// `kind = "feed"`: health and role that others measure.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedProbe {
    /// Where the content comes from.
    pub source: FeedSource,
    /// What is older is no evidence.
    pub max_age: Duration,
}

/// Where the content of a feed comes from; `{region}` and `{endpoint}` are filled in.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedSource {
    /// A file that is watched.
    File(PathBuf),
    /// `POST /v1/feeds/{id}`.
    Posted(String),
}

impl FeedProbe {
    /// A path or an id for one endpoint of a region.
    pub fn at(text: &str, region: &RegionId, endpoint: &Endpoint) -> String {
        text.replace("{region}", region.as_str())
            .replace("{endpoint}", &endpoint.to_string())
    }
}

/// `kind = "postgres"`: connects and asks whether the server is in recovery: a primary is `active`, a standby `passive`.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresProbe {
    /// Port at the endpoint.
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// File with the password, read at each connection; never shown.
    pub password_file: Option<PathBuf>,
    /// Database to connect to.
    pub database: String,
    /// Further query that must succeed.
    pub query: Option<String>,
    /// TLS; none: in the clear.
    pub tls: Option<TlsOptions>,
}

/// `kind = "mysql"`: logs in and asks whether the server is read-only or a replica; also MariaDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlProbe {
    /// Port at the endpoint.
    pub port: u16,
    /// User to log in as.
    pub user: String,
    /// File with the password, read at each connection; never shown.
    pub password_file: Option<PathBuf>,
    /// Further query that must succeed.
    pub query: Option<String>,
    /// TLS; none: in the clear.
    pub tls: Option<TlsOptions>,
}

/// `kind = "grpc"`: the gRPC health checking protocol; SERVING passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcProbe {
    /// Port at the endpoint.
    pub port: u16,
    /// Service asked for; empty: the server as a whole.
    pub service: String,
    /// TLS; none: in the clear.
    pub tls: Option<TlsOptions>,
}

/// `kind = "icmp"`: one echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpProbe {
    /// Octets that the request carries, at least 16.
    pub payload_octets: u16,
}

/// `kind = "smtp"`: greeting, EHLO and QUIT; no mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpProbe {
    /// Port at the endpoint.
    pub port: u16,
    /// TLS and when it begins; none: in the clear.
    pub tls: Option<(SmtpTls, TlsOptions)>,
}

/// When TLS begins in a session with a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// After STARTTLS (RFC 3207).
    Start,
    /// With the connection (RFC 8314 section 3).
    Implicit,
}

/// One address that a probe is sent to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeTarget {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// The endpoint as configured.
    pub endpoint: Endpoint,
    /// The address probed: the endpoint's own, or one its host name resolves to.
    pub address: IpAddr,
    /// Index into the application's probes.
    pub probe: usize,
}
