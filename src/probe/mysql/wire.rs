//! The client's side of the MySQL protocol, as far as a probe needs it: handshake version 10, login, queries in text.
//!
//! Logs in by `mysql_native_password` and `caching_sha2_password`; what needs the password itself (`sha256_password`,
//! `mysql_clear_password`, `caching_sha2_password` without its cache) only over TLS. Deliberately absent: the RSA way to
//! send a password in the clear, prepared statements, several results, compression, files of the client's (LOCAL INFILE).
//! What is read is bounded by the connection, and nothing is reserved for what has only been announced.

use super::super::words::{CLOSED, clip_bytes, failure, failure_in_chain, io_failure};
use super::OCTETS_MAX;
use crate::model::{FailReason, Failure};
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Capabilities of a client: 4.1 with its password hashes, transactions, logging in by a method of the server's choice.
const CAPABILITIES: u32 = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
/// CLIENT_LONG_PASSWORD.
const LONG_PASSWORD: u32 = 1;
/// CLIENT_PROTOCOL_41.
const PROTOCOL_41: u32 = 0x200;
/// CLIENT_SSL.
const SSL: u32 = 0x800;
/// CLIENT_TRANSACTIONS: the server's status flags.
const TRANSACTIONS: u32 = 0x2000;
/// CLIENT_SECURE_CONNECTION.
const SECURE_CONNECTION: u32 = 0x8000;
/// CLIENT_PLUGIN_AUTH.
const PLUGIN_AUTH: u32 = 0x8_0000;
/// utf8mb4_general_ci, known to every server since 5.5.
const UTF8MB4: u8 = 45;
/// Most packets between our login and the server's word on it.
const LOGIN_PACKETS_MAX: usize = 8;
/// Most columns of a result.
const COLUMNS_MAX: u64 = 4096;
/// Most rows that are kept; the rest is read and forgotten.
const ROWS_MAX: usize = 64;
/// Most characters of a server's words in a message.
const SAID_CHARS_MAX: usize = 200;
/// The login method that every server knows.
const NATIVE: &str = "mysql_native_password";
/// The login method of MySQL 8.
const CACHING: &str = "caching_sha2_password";

/// A connection and the number of its next packet.
pub(super) struct Wire<S> {
    /// The connection.
    stream: S,
    /// Counts the packets of one exchange.
    sequence: u8,
}

/// What a server says first.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Whether it is MariaDB.
    pub is_mariadb: bool,
    /// Whether it does TLS.
    pub offers_tls: bool,
    /// The login method that it thinks of.
    method: String,
    /// Random octets that the password is hashed with.
    nonce: Vec<u8>,
}

/// A server's refusal.
#[derive(Debug)]
pub(super) struct Said {
    /// Number of the error.
    pub code: u16,
    /// In words.
    pub text: String,
}

impl Said {
    /// Whether the statement was not understood: ER_PARSE_ERROR.
    pub fn is_syntax(&self) -> bool {
        self.code == 1064
    }

    /// Whether the user may not: ER_DBACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR,
    /// ER_COLUMNACCESS_DENIED_ERROR, ER_SPECIFIC_ACCESS_DENIED_ERROR.
    pub fn is_denied(&self) -> bool {
        matches!(self.code, 1044 | 1045 | 1142 | 1143 | 1227)
    }

    /// Whether the server takes nobody: ER_CON_COUNT_ERROR, ER_SERVER_SHUTDOWN, ER_TOO_MANY_USER_CONNECTIONS.
    fn is_busy(&self) -> bool {
        matches!(self.code, 1040 | 1053 | 1203)
    }

    /// Refused before or while logging in.
    fn of_login(self) -> Failure {
        match self.is_busy() {
            true => failure(FailReason::Status, self.text),
            false => failure(FailReason::Auth, format!("login refused: {}", self.text)),
        }
    }
}

/// Why a query has no answer.
#[derive(Debug)]
pub(super) enum Asked {
    /// The server refused it, and goes on.
    Refused(Said),
    /// The connection is of no use any more.
    Broken(Failure),
}

impl Asked {
    /// Class and words.
    pub fn words(self) -> Failure {
        match self {
            Asked::Broken(failure) => failure,
            Asked::Refused(said) if said.is_denied() => failure(FailReason::Auth, said.text),
            Asked::Refused(said) if said.is_busy() => failure(FailReason::Status, said.text),
            Asked::Refused(said) => failure(FailReason::Content, format!("query failed: {} (error {})", said.text, said.code)),
        }
    }
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Asked {
        Asked::Broken(failure)
    }
}

/// The answer to a query.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Names of the columns.
    pub names: Vec<String>,
    /// The first rows, as text.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// A field of a row by the name of its column.
    pub fn field<'r>(&self, row: &'r [Option<String>], name: &str) -> Option<&'r str> {
        let at = self.names.iter().position(|one| one == name)?;
        row.get(at)?.as_deref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over a new connection.
    pub fn new(stream: S) -> Wire<S> {
        Wire::resume(stream, 0)
    }

    /// In the middle of an exchange.
    pub fn resume(stream: S, sequence: u8) -> Wire<S> {
        Wire { stream, sequence }
    }

    /// What it is made of.
    pub fn into_parts(self) -> (S, u8) {
        (self.stream, self.sequence)
    }

    /// The server's first packet.
    pub async fn greeting(&mut self) -> Result<Greeting, Failure> {
        let packet = self.receive().await?;
        match packet.first() {
            Some(0xff) => Err(refusal(&packet).of_login()),
            Some(10) => greeting(&packet).ok_or_else(|| broken("its greeting is cut short")),
            Some(version) => Err(broken(&format!("its version is {version}, not 10"))),
            None => Err(broken("its greeting is empty")),
        }
    }

    /// Says that TLS begins.
    pub async fn ask_for_tls(&mut self) -> Result<(), Failure> {
        let request = head(CAPABILITIES | SSL);
        self.send(&request).await
    }

    /// Logs in; `secure`: over TLS, so that the password itself may be sent.
    pub async fn log_in(&mut self, greeting: &Greeting, user: &str, password: &[u8], secure: bool) -> Result<(), Failure> {
        // A method that only some accounts have is not begun with: the server names the account's own.
        let mut method = match greeting.method.as_str() {
            CACHING => CACHING.to_owned(),
            _ => NATIVE.to_owned(),
        };
        let hash = proof(&method, password, &greeting.nonce, secure)?;
        let mut login = head(if secure { CAPABILITIES | SSL } else { CAPABILITIES });
        login.extend_from_slice(user.as_bytes());
        login.push(0);
        login.push(u8::try_from(hash.len()).unwrap_or_default());
        login.extend_from_slice(&hash);
        login.extend_from_slice(method.as_bytes());
        login.push(0);
        self.send(&login).await?;
        for _ in 0..LOGIN_PACKETS_MAX {
            let packet = self.receive().await?;
            match packet.split_first() {
                Some((0x00, _)) => return Ok(()),
                Some((0xff, _)) => return Err(refusal(&packet).of_login()),
                Some((0xfe, switch)) => {
                    let (name, nonce) = until_nul(switch).ok_or_else(|| broken("it switches to no login method"))?;
                    method = clip_bytes(name, 40);
                    let hash = proof(&method, password, nonce.strip_suffix(b"\0").unwrap_or(nonce), secure)?;
                    self.send(&hash).await?;
                }
                // The server remembers the hash: its OK follows.
                Some((0x01, [3])) if method == CACHING => {}
                // It does not, and wants the password itself.
                Some((0x01, [4])) if method == CACHING => {
                    let whole = in_full(password, secure)?;
                    self.send(&whole).await?;
                }
                _ => return Err(broken("its answer to the login is none")),
            }
        }
        Err(broken("it never ends the login"))
    }

    /// Asks, and reads the whole answer.
    pub async fn query(&mut self, query: &str) -> Result<Rows, Asked> {
        // COM_QUERY.
        self.sequence = 0;
        self.send(&[b"\x03", query.as_bytes()].concat()).await?;
        let first = self.receive().await?;
        let columns = match first.first() {
            Some(0x00) => return Ok(Rows::default()),
            Some(0xff) => return Err(Asked::Refused(refusal(&first))),
            Some(0xfb) => return Err(broken("it asks for a file of ours").into()),
            _ => match number(&first) {
                Some((columns @ 1..=COLUMNS_MAX, [])) => columns,
                _ => return Err(broken("its answer has no columns").into()),
            },
        };
        let mut found = Rows::default();
        for _ in 0..columns {
            let column = self.receive().await?;
            let name = column_name(&column).ok_or_else(|| broken("a column has no name"))?;
            found.names.push(String::from_utf8_lossy(name).into_owned());
        }
        if !is_end(&self.receive().await?) {
            return Err(broken("its columns do not end").into());
        }
        loop {
            let packet = self.receive().await?;
            if is_end(&packet) {
                return Ok(found);
            }
            if packet.first() == Some(&0xff) {
                return Err(Asked::Refused(refusal(&packet)));
            }
            let row = row(&packet, columns).ok_or_else(|| broken("a row is cut short"))?;
            if found.rows.len() < ROWS_MAX {
                found.rows.push(row);
            }
        }
    }

    /// Says goodbye, so that the server does not count an aborted connection; it need not arrive.
    pub async fn quit(&mut self) {
        self.sequence = 0;
        // COM_QUIT.
        let _ = self.send(&[1]).await;
        let _ = self.stream.shutdown().await;
    }

    /// Sends one packet.
    async fn send(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let octets = u32::try_from(payload.len()).ok().filter(|octets| *octets < 0xff_ffff);
        let octets = octets.ok_or_else(|| failure(FailReason::Internal, "the query is too long"))?;
        let mut packet = octets.to_le_bytes();
        packet[3] = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        // One write, so that it goes in one segment.
        let sent = self.stream.write_all(&[&packet, payload].concat()).await;
        sent.map_err(|error| io_words(&error))?;
        self.stream.flush().await.map_err(|error| io_words(&error))
    }

    /// Receives one packet.
    async fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await.map_err(|error| io_words(&error))?;
        let [a, b, c, sequence] = header;
        let octets = u32::from_le_bytes([a, b, c, 0]);
        if usize::try_from(octets).is_ok_and(|octets| octets > OCTETS_MAX) {
            return Err(broken(&format!("it announces a packet of {octets} octets")));
        }
        if sequence != self.sequence {
            return Err(broken("its packets are out of order"));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut payload = Vec::new();
        let read = (&mut self.stream).take(octets.into()).read_to_end(&mut payload).await;
        let read = read.map_err(|error| io_words(&error))?;
        match u32::try_from(read) == Ok(octets) {
            true => Ok(payload),
            false => Err(failure(FailReason::Connect, CLOSED)),
        }
    }
}

/// What SSLRequest and the login begin with: capabilities, largest packet, character set.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    head.push(UTF8MB4);
    head.extend_from_slice(&[0; 23]);
    head
}

/// The parts of a greeting of version 10.
fn greeting(packet: &[u8]) -> Option<Greeting> {
    let (version, rest) = until_nul(packet.get(1..)?)?;
    // Number of the connection, first part of the nonce, a zero.
    let (_, rest) = rest.split_at_checked(4)?;
    let (first, rest) = rest.split_at_checked(8)?;
    let (low, rest) = rest.get(1..)?.split_at_checked(2)?;
    // Character set, status.
    let (high, rest) = rest.get(3..)?.split_at_checked(2)?;
    let (length, rest) = rest.split_first()?;
    // The second part has at least 13 octets, the last of which is a zero.
    let (second, rest) = rest.get(10..)?.split_at_checked(usize::from(*length).saturating_sub(8).max(13))?;
    let capabilities = u32::from_le_bytes([*low.first()?, *low.get(1)?, *high.first()?, *high.get(1)?]);
    if capabilities & PROTOCOL_41 == 0 || capabilities & SECURE_CONNECTION == 0 {
        return None;
    }
    let method = until_nul(rest).map_or(rest, |(method, _)| method);
    Some(Greeting {
        is_mariadb: String::from_utf8_lossy(version).contains("MariaDB"),
        offers_tls: capabilities & SSL != 0,
        method: clip_bytes(method, 40),
        nonce: [first, second.strip_suffix(b"\0").unwrap_or(second)].concat(),
    })
}

/// What proves that we know the password, by this method.
fn proof(method: &str, password: &[u8], nonce: &[u8], secure: bool) -> Result<Vec<u8>, Failure> {
    match method {
        NATIVE | CACHING if password.is_empty() => Ok(Vec::new()),
        // SHA1(password) XOR SHA1(nonce, SHA1(SHA1(password)))
        NATIVE => {
            let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
            let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
            Ok(mixed(once.as_ref(), &SHA1_FOR_LEGACY_USE_ONLY, [nonce, twice.as_ref()]))
        }
        // SHA256(password) XOR SHA256(SHA256(SHA256(password)), nonce)
        CACHING => {
            let once = digest(&SHA256, password);
            let twice = digest(&SHA256, once.as_ref());
            Ok(mixed(once.as_ref(), &SHA256, [twice.as_ref(), nonce]))
        }
        "sha256_password" | "mysql_clear_password" => in_full(password, secure),
        other => Err(failure(
            FailReason::Auth,
            format!("the server wants a login by {other}, which is not spoken"),
        )),
    }
}

/// One hash, hidden by another one.
fn mixed(once: &[u8], algorithm: &'static Algorithm, parts: [&[u8]; 2]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    once.iter().zip(context.finish().as_ref()).map(|(a, b)| a ^ b).collect()
}

/// The password itself.
fn in_full(password: &[u8], secure: bool) -> Result<Vec<u8>, Failure> {
    match secure {
        true => Ok([password, b"\0"].concat()),
        false => Err(failure(
            FailReason::Auth,
            "the server wants the password itself, which is sent over TLS only: set tls = \"require\"",
        )),
    }
}

/// The words of an ERR packet: its number, since 4.1 a state that begins with `#`, a text.
fn refusal(packet: &[u8]) -> Said {
    let code = packet.get(1..3).and_then(|code| code.try_into().ok()).map_or(0, u16::from_le_bytes);
    let text = packet.get(3..).unwrap_or_default();
    let text = match text.strip_prefix(b"#") {
        Some(rest) => rest.get(5..).unwrap_or_default(),
        None => text,
    };
    Said {
        code,
        text: clip_bytes(text, SAID_CHARS_MAX),
    }
}

/// Whether a packet is an EOF: a row that begins so is longer.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// The name in the definition of a column, behind catalogue, schema, table and original table.
fn column_name(mut packet: &[u8]) -> Option<&[u8]> {
    for _ in 0..4 {
        packet = text(packet)?.1;
    }
    Some(text(packet)?.0)
}

/// The fields of a row.
fn row(mut packet: &[u8], columns: u64) -> Option<Vec<Option<String>>> {
    let mut fields = Vec::new();
    for _ in 0..columns {
        if let Some((0xfb, rest)) = packet.split_first() {
            fields.push(None);
            packet = rest;
            continue;
        }
        let (field, rest) = text(packet)?;
        fields.push(Some(String::from_utf8_lossy(field).into_owned()));
        packet = rest;
    }
    Some(fields)
}

/// A number of variable length, and what follows it.
fn number(octets: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = octets.split_first()?;
    let wide = match first {
        0..=0xfa => return Some((u64::from(*first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(wide)?;
    Some((value.iter().rev().fold(0, |number, octet| number << 8 | u64::from(*octet)), rest))
}

/// Text behind its length, and what follows it.
fn text(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(octets)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// Octets up to a zero, and what follows that.
fn until_nul(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = octets.iter().position(|octet| *octet == 0)?;
    Some((octets.get(..end)?, octets.get(end + 1..)?))
}

/// Something else than a MySQL server.
fn broken(what: &str) -> Failure {
    failure(
        FailReason::Protocol,
        format!("the server does not speak the MySQL protocol: {what}"),
    )
}

/// A connection that broke, or our own bound.
fn io_words(error: &io::Error) -> Failure {
    match failure_in_chain(error, "") {
        Some(found) if found.reason == FailReason::Tls => found,
        _ if error.kind() == io::ErrorKind::InvalidData => broken(&error.to_string()),
        _ => io_failure(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hashed_as_the_servers_do() {
        let nonce = b"abcdefghijklmnopqrst";
        let hex = |octets: Vec<u8>| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        // Computed with Python's hashlib.
        let native = hex(proof(NATIVE, b"s3cret", nonce, false).unwrap());
        let caching = hex(proof(CACHING, b"s3cret", nonce, false).unwrap());
        assert_eq!(native, "8510605a5ec0d3d958058636e0a2ebdfcf34be4c");
        assert_eq!(caching, "5661ac17cec0e6001d3747b3aaa0d0c1927fdc43c56deeab05d4c42d73b2b642");
        assert!(proof(NATIVE, b"", nonce, false).unwrap().is_empty());
        assert_eq!(proof("mysql_clear_password", b"s3cret", nonce, true).unwrap(), b"s3cret\0");
        assert!(proof("mysql_clear_password", b"s3cret", nonce, false).is_err());
        assert!(proof("client_ed25519", b"s3cret", nonce, true).is_err());
    }

    #[test]
    fn a_greeting_cut_anywhere_is_none() {
        let mut packet = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0".to_vec();
        packet.extend_from_slice(b"caching_sha2_password\0");
        let whole = greeting(&packet).unwrap();
        assert_eq!((whole.method.as_str(), whole.offers_tls, whole.is_mariadb), (CACHING, true, false));
        assert_eq!(whole.nonce, b"abcdefghijklmnopqrst");
        for end in 0..packet.len() {
            let _ = greeting(&packet[..end]);
        }
        assert!(greeting(&packet[..40]).is_none());
    }

    #[test]
    fn numbers_and_texts_end_where_their_packet_does() {
        assert_eq!(number(&[0xfa, 1]), Some((250, &[1][..])));
        assert_eq!(number(&[0xfc, 1, 2]), Some((0x201, &[][..])));
        assert_eq!(number(&[0xfd, 1, 2, 3]), Some((0x0003_0201, &[][..])));
        assert_eq!(number(&[0xfe, 1, 0, 0, 0, 0, 0, 0, 0x80]), Some((0x8000_0000_0000_0001, &[][..])));
        for bad in [&[][..], &[0xfb], &[0xff], &[0xfc, 1], &[0xfe, 1, 2]] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(text(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), None);
        assert_eq!(
            row(b"\x01a\xfb\x00", 3),
            Some(vec![Some("a".to_owned()), None, Some(String::new())])
        );
        assert_eq!(row(b"\x01a\xfb", 3), None);
    }
}
