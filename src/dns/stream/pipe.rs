//! The octets of a connection, plain or inside TLS (RFC 7858): what comes out of `read` and goes into `write` is the same.
//!
//! Nothing waits here: what cannot be done now says so. TLS keeps what it could not send yet itself, at most what rustls
//! allows (64 KiB).

use mio::net::TcpStream;
use rustls::ServerConnection;
use std::io::{self, ErrorKind, Read, Write};

/// Records that are looked at before another connection has its turn: a client may send many that carry no octets for us.
const RECORDS_A_TURN: usize = 8;

/// A connection's two directions.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The socket.
    pub(super) stream: TcpStream,
    /// The session, where TLS is spoken.
    tls: Option<Box<ServerConnection>>,
}

/// What `read` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// So many octets, at least one; if the buffer is full there may be more.
    Octets(usize),
    /// None now; the poll will say when there are.
    Nothing,
    /// None yet, but there is more to look at.
    Later,
    /// The client sends no more.
    End,
}

impl Pipe {
    /// A new connection.
    pub(super) fn new(stream: TcpStream, tls: Option<ServerConnection>) -> Pipe {
        Pipe {
            stream,
            tls: tls.map(Box::new),
        }
    }

    /// Whether a read that did not fill its buffer may have left something behind.
    pub(super) fn hides_more(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads what there is.
    ///
    /// # Errors
    /// When the connection is broken, or what comes is no TLS.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<Got> {
        match &mut self.tls {
            None => patiently(|| self.stream.read(room), Got::Octets),
            Some(tls) => read_tls(tls, &mut self.stream, room),
        }
    }

    /// Writes as much as is taken now; 0 when nothing is.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let got = patiently(|| self.stream.write(octets), Got::Octets)?;
            return Ok(if let Got::Octets(octets) = got { octets } else { 0 });
        };
        let mut written = 0;
        while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
            written += tls.writer().write(rest)?;
            if !send_tls(tls, &mut self.stream)? {
                break;
            }
        }
        Ok(written)
    }

    /// Sends what TLS has kept back; whether all is gone.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            None => Ok(true),
            Some(tls) => send_tls(tls, &mut self.stream),
        }
    }

    /// Says good-bye where TLS wants it (RFC 8446 §6.1); whether it arrives nobody waits for.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = send_tls(tls, &mut self.stream);
        }
    }
}

/// Does one system call, again if a signal came between; 0 octets are the end.
fn patiently(mut call: impl FnMut() -> io::Result<usize>, done: impl Fn(usize) -> Got) -> io::Result<Got> {
    loop {
        match call() {
            Ok(0) => return Ok(Got::End),
            Ok(octets) => return Ok(done(octets)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Got::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads from a session, taking records from the socket while it has nothing to give.
fn read_tls(tls: &mut ServerConnection, stream: &mut TcpStream, room: &mut [u8]) -> io::Result<Got> {
    for _ in 0..RECORDS_A_TURN {
        match tls.reader().read(room) {
            Ok(0) => return Ok(Got::End),
            Ok(octets) => return Ok(Got::Octets(octets)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The connection ended without the good-bye; a query is whole or not by its own length.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Got::End),
            Err(error) => return Err(error),
        }
        match patiently(|| tls.read_tls(stream), Got::Octets)? {
            Got::Octets(_) => {}
            // What the session had before the end stands in its reader already, and was read above.
            other => return Ok(other),
        }
        let state = tls.process_new_packets();
        // Its answers to a handshake, or the alert that says what is wrong.
        let sent = send_tls(tls, stream);
        state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        sent?;
    }
    Ok(Got::Later)
}

/// Sends what a session has; whether all is gone.
fn send_tls(tls: &mut ServerConnection, stream: &mut TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        if patiently(|| tls.write_tls(stream), Got::Octets)? == Got::Nothing {
            return Ok(false);
        }
    }
    Ok(true)
}
