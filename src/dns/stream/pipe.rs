//! The octets of a connection, plain or inside TLS (RFC 7858): what comes out of `read` and goes into `write` is the same.
//!
//! Nothing waits here: what cannot be done now says so. TLS keeps what it could not send yet itself, at most what rustls
//! allows (64 KiB), and of what came the beginning of a record or of a handshake. A session does not tell how much that is, so it is
//! counted here from outside ([`Pipe::held`]).

use mio::net::TcpStream;
use rustls::ServerConnection;
use std::io::{self, ErrorKind, Read, Write};

/// Records that are looked at before another connection has its turn: a client may send many that carry no octets for us.
const RECORDS_A_TURN: usize = 8;
/// Octets of a record's header.
const HEADER_OCTETS: usize = 5;

/// A connection's two directions.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The socket.
    pub(super) stream: TcpStream,
    /// The session, where TLS is spoken.
    tls: Option<Box<Session>>,
}

/// A TLS session, and what lies in it.
#[derive(Debug)]
struct Session {
    tls: ServerConnection,
    /// Octets written into it and not sent; what encryption adds to them is left out.
    unsent: usize,
    /// Octets that it was given since a handshake or octets for us came out: what is not whole yet is among them.
    unread: usize,
    /// Where the records of what came begin and end.
    borders: Borders,
}

/// Follows records by their headers (RFC 8446 §5.1).
#[derive(Debug, Default)]
struct Borders {
    /// Octets of the present record that have come.
    seen: usize,
    /// Octets behind its header; right once the header is whole.
    length: usize,
}

/// A socket whose records are followed while it is read.
struct Followed<'s> {
    stream: &'s mut TcpStream,
    borders: &'s mut Borders,
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
            tls: tls.map(|tls| {
                Box::new(Session {
                    tls,
                    unsent: 0,
                    unread: 0,
                    borders: Borders::default(),
                })
            }),
        }
    }

    /// Whether a read that did not fill its buffer may have left something behind.
    pub(super) fn hides_more(&self) -> bool {
        self.tls.is_some()
    }

    /// Octets that lie in the session.
    pub(super) fn held(&self) -> usize {
        let in_session = |session: &Session| session.unsent + session.unread.max(session.borders.seen);
        self.tls.as_deref().map_or(0, in_session)
    }

    /// Reads what there is.
    ///
    /// # Errors
    /// When the connection is broken, or what comes is no TLS.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<Got> {
        match &mut self.tls {
            None => patiently(|| self.stream.read(room), Got::Octets),
            Some(session) => session.read(&mut self.stream, room),
        }
    }

    /// Writes as much as is taken now; 0 when nothing is.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.tls else {
            let got = patiently(|| self.stream.write(octets), Got::Octets)?;
            return Ok(if let Got::Octets(octets) = got { octets } else { 0 });
        };
        let mut written = 0;
        while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
            let taken = session.tls.writer().write(rest)?;
            session.unsent += taken;
            written += taken;
            if !session.send(&mut self.stream)? {
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
            Some(session) => session.send(&mut self.stream),
        }
    }

    /// Says good-bye where TLS wants it (RFC 8446 §6.1); whether it arrives nobody waits for.
    pub(super) fn finish(&mut self) {
        if let Some(session) = &mut self.tls {
            session.tls.send_close_notify();
            let _ = session.send(&mut self.stream);
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

impl Session {
    /// Reads what is for us, taking records from the socket while there is nothing.
    fn read(&mut self, stream: &mut TcpStream, room: &mut [u8]) -> io::Result<Got> {
        for _ in 0..RECORDS_A_TURN {
            match self.tls.reader().read(room) {
                Ok(0) => return Ok(Got::End),
                Ok(octets) => return Ok(Got::Octets(octets)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The connection ended without the good-bye; a query is whole or not by its own length.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Got::End),
                Err(error) => return Err(error),
            }
            let mut followed = Followed {
                stream,
                borders: &mut self.borders,
            };
            match patiently(|| self.tls.read_tls(&mut followed), Got::Octets)? {
                Got::Octets(octets) => self.unread += octets,
                // What the session had before the end stands in its reader already, and was read above.
                other => return Ok(other),
            }
            let was_handshaking = self.tls.is_handshaking();
            let state = self.tls.process_new_packets();
            let has_octets = state.as_ref().is_ok_and(|state| state.plaintext_bytes_to_read() > 0);
            if has_octets || was_handshaking && !self.tls.is_handshaking() {
                self.unread = 0;
            }
            // Its answers to a handshake, or the alert that says what is wrong.
            let sent = self.send(stream);
            state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            sent?;
        }
        Ok(Got::Later)
    }

    /// Sends what there is; whether all is gone.
    fn send(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match patiently(|| self.tls.write_tls(stream), Got::Octets)? {
                Got::Nothing => return Ok(false),
                Got::Octets(octets) => self.unsent = self.unsent.saturating_sub(octets),
                _ => {}
            }
        }
        self.unsent = 0;
        Ok(true)
    }
}

impl Borders {
    /// These octets have come.
    fn follow(&mut self, mut octets: &[u8]) {
        while let Some((first, rest)) = octets.split_first() {
            if self.seen < HEADER_OCTETS {
                // The last two octets of a header are the length.
                if self.seen >= HEADER_OCTETS - 2 {
                    self.length = self.length << 8 | usize::from(*first);
                }
                self.seen += 1;
                octets = rest;
            } else {
                let taken = octets.len().min(HEADER_OCTETS + self.length - self.seen);
                self.seen += taken;
                octets = octets.get(taken..).unwrap_or_default();
            }
            if self.seen == HEADER_OCTETS + self.length {
                *self = Borders::default();
            }
        }
    }
}

impl Read for Followed<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let octets = self.stream.read(room)?;
        self.borders.follow(room.get(..octets).unwrap_or_default());
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_not_whole_is_counted_however_it_comes() {
        let record = |length: u16| [&[23, 3, 3][..], &length.to_be_bytes(), &vec![7; usize::from(length)]].concat();
        let octets = [record(0), record(300), record(16_000), record(1)].concat();
        let ends = [5, 310, 16_315, octets.len()];
        for step in [1, 2, 3, 7, 100, 5_000, octets.len()] {
            let (mut borders, mut come) = (Borders::default(), 0);
            for part in octets.chunks(step) {
                borders.follow(part);
                come += part.len();
                let begin = ends.iter().rev().find(|end| **end <= come).unwrap_or(&0);
                assert_eq!(borders.seen, come - begin, "after {come}, {step} at a time");
            }
        }
    }
}
