//! The OPT record of a response (RFC 6891 §6.1) and its options.
//!
//! Cookie and keepalive have their room kept free, for the client relies on them. The identifier and the
//! extended error take what the records left, so that neither ever makes an answer truncated. Padding comes last (RFC 7830 §3)
//! and grows what is there to the next multiple of [`PADDED_OCTETS`].

use super::cookie::{COOKIE_OCTETS, Cookie};
use super::query::{Edns, KEEPALIVE, NSID, OPT_OCTETS, PADDING, option};
use super::{Ctx, NoteRef, UDP_OCTETS_MAX};

/// Octets before an option's value.
const OPTION_HEAD_OCTETS: usize = 4;
/// Encrypted responses are padded to a multiple of this (RFC 8467 §4.1).
pub const PADDED_OCTETS: usize = 468;

/// What OPT is answered with.
#[derive(Debug)]
pub(super) struct Opt<'o> {
    /// DO, echoed (RFC 3225 §3).
    dnssec_ok: bool,
    /// The cookie as it was found, where cookies are given and the client sent one.
    pub(super) cookie: Option<Cookie>,
    /// The client's cookie has a length that none has.
    pub(super) is_cookie_malformed: bool,
    /// How long an idle connection is kept, in 100 ms, where the client knows the option (RFC 7828 §3.2.2).
    keepalive: Option<u16>,
    /// The identifier, where asked for.
    nsid: Option<&'o [u8]>,
    /// Whether the response is to be padded.
    is_padded: bool,
    /// What a person may want to know.
    pub(super) note: Option<NoteRef<'o>>,
}

impl<'o> Opt<'o> {
    /// An OPT without options, to be filled.
    pub(super) fn empty() -> Opt<'o> {
        Opt {
            dnssec_ok: false,
            cookie: None,
            is_cookie_malformed: false,
            keepalive: None,
            nsid: None,
            is_padded: false,
            note: None,
        }
    }

    /// Becomes what a query's OPT leads to, where it lies (see [`Query`](super::query::Query) for why).
    #[inline(always)]
    pub(super) fn fill(&mut self, edns: &Edns<'_>, ctx: &Ctx, nsid: &'o [u8]) {
        self.dnssec_ok = edns.dnssec_ok;
        if edns.version != 0 {
            return; // options of another version mean who knows what
        }
        if let (Some(option), Some(secrets)) = (edns.cookie, &ctx.cookies) {
            self.cookie = secrets.look_at(option, ctx.peer.ip(), ctx.wall_seconds);
            self.is_cookie_malformed = self.cookie.is_none();
        }
        if edns.wants & KEEPALIVE != 0 && ctx.transport.has_keepalive() {
            self.keepalive = ctx.keepalive_tenths;
        }
        if edns.wants & NSID != 0 && !nsid.is_empty() {
            self.nsid = Some(nsid);
        }
        // Without encryption padding hides nothing (RFC 7830 §6).
        self.is_padded = edns.wants & PADDING != 0 && ctx.transport.is_encrypted();
    }

    /// Whether the client showed a good server cookie.
    pub(super) fn is_known(&self) -> bool {
        self.cookie.as_ref().is_some_and(|cookie| cookie.is_known)
    }

    /// Octets that have to stay free for it.
    pub(super) fn octets_kept(&self) -> usize {
        let cookie = self.cookie.as_ref().map_or(0, |_| OPTION_HEAD_OCTETS + COOKIE_OCTETS);
        let keepalive = self.keepalive.map_or(0, |_| OPTION_HEAD_OCTETS + 2);
        OPT_OCTETS + cookie + keepalive
    }

    /// Writes it into `room`, behind `before` octets of message; its octets, or none where there is no room at all.
    #[inline(always)]
    pub(super) fn write(&self, room: &mut [u8], before: usize, rcode: u8) -> Option<usize> {
        let [size0, size1] = (UDP_OCTETS_MAX as u16).to_be_bytes();
        let flags = if self.dnssec_ok { 0x80 } else { 0 };
        let head = room.get_mut(..OPT_OCTETS)?;
        head.copy_from_slice(&[0, 0, 41, size0, size1, rcode >> 4, 0, flags, 0, 0, 0]);
        let mut at = OPT_OCTETS;
        if let Some(cookie) = &self.cookie {
            put(room, &mut at, option::COOKIE, &cookie.response, &[]);
        }
        if let Some(keepalive) = self.keepalive {
            put(room, &mut at, option::KEEPALIVE, &keepalive.to_be_bytes(), &[]);
        }
        if let Some(nsid) = self.nsid {
            put(room, &mut at, option::NSID, nsid, &[]);
        }
        if let Some(note) = self.note {
            put(room, &mut at, option::ERROR, &note.code.to_be_bytes(), note.text.as_bytes());
        }
        if self.is_padded {
            pad(room, &mut at, before);
        }
        if at > OPT_OCTETS
            && let Some(length) = room.get_mut(OPT_OCTETS - 2..OPT_OCTETS)
        {
            length.copy_from_slice(&((at - OPT_OCTETS) as u16).to_be_bytes()); // the room is at most 65,535 octets
        }
        Some(at)
    }
}

/// Adds an option whose value is in two parts, if it fits.
#[inline(always)]
fn put(room: &mut [u8], at: &mut usize, code: u16, value: &[u8], rest: &[u8]) {
    let octets = value.len() + rest.len();
    let end = *at + OPTION_HEAD_OCTETS + octets;
    let (Some(taken), Ok(length)) = (room.get_mut(*at..end), u16::try_from(octets)) else {
        return;
    };
    let [c0, c1] = code.to_be_bytes();
    let [l0, l1] = length.to_be_bytes();
    let Some((head, data)) = taken.split_first_chunk_mut() else {
        return;
    };
    *head = [c0, c1, l0, l1];
    let Some((first, second)) = data.split_at_mut_checked(value.len()) else {
        return;
    };
    first.copy_from_slice(value);
    second.copy_from_slice(rest);
    *at = end;
}

/// Adds padding up to the next multiple, or to the end of the room (RFC 8467 §4.1).
fn pad(room: &mut [u8], at: &mut usize, before: usize) {
    let least = before + *at + OPTION_HEAD_OCTETS;
    let padded = least.next_multiple_of(PADDED_OCTETS).min(before + room.len());
    let Some(octets) = padded.checked_sub(least) else {
        return; // not even the option's head fits
    };
    let end = *at + OPTION_HEAD_OCTETS + octets;
    if let Some(taken) = room.get_mut(*at..end) {
        taken.fill(0); // RFC 7830 §3: zeroes, and nothing of an earlier message
        let [c0, c1] = option::PADDING.to_be_bytes();
        let [l0, l1] = (octets as u16).to_be_bytes();
        if let Some(head) = taken.first_chunk_mut() {
            *head = [c0, c1, l0, l1];
        }
        *at = end;
    }
}
