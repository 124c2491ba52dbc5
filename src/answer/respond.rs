//! `respond`: query bytes in, response bytes out; what is refused, and why, before any name is looked up.

use super::follow::{Walk, Walked};
use super::index::Snapshot;
use super::message::{Message, write_header};
use super::opt::Opt;
use super::query::{HEADER_OCTETS, Header, KEEPALIVE, OPCODE_NOTIFY, OPCODE_QUERY, Query, UDP_OCTETS_MIN};
use super::{Ctx, DropReason, NoteRef, Out, Outcome, Reply, Transport, note};
use crate::model::{CLASS_IN, Rtype, rcode};

/// Class ANY, which only questions can have (RFC 1035 §3.2.5).
const CLASS_ANY: u16 = 255;

/// Answers a query.
///
/// The response is in `out`, its length in the outcome. Total: any bytes are answered or dropped.
pub fn respond(snapshot: &Snapshot, query: &[u8], ctx: &Ctx, out: &mut Out<'_>) -> Outcome {
    let mut read = Query::empty();
    if let Err(outcome) = fill(&mut read, query, ctx, out) {
        return outcome;
    }
    let mut opt = read.edns.as_ref().map(|_| Opt::empty());
    if let (Some(edns), Some(opt)) = (&read.edns, &mut opt) {
        opt.fill(edns, ctx, &snapshot.service.nsid);
    }
    let kept = opt.as_ref().map_or(0, Opt::octets_kept);
    let Some(mut message) = Message::start(out, &read, size_limit(&read, ctx), kept) else {
        return Outcome::Drop(DropReason::NoRoom);
    };
    let mut walked = Walked::NOTHING;
    match refusal(&read, query, opt.as_ref()) {
        Some((rcode, note)) => {
            message.set_rcode(rcode);
            walked.note = note;
        }
        None => {
            let mut walk = Walk::new(snapshot, &mut message, &read, ctx, &mut walked);
            walk.run(&read.qname);
        }
    }
    if let Some(opt) = &mut opt {
        opt.note = walked.note;
    }
    let (len, rcode) = message.finish(opt.as_ref());
    Outcome::Reply(Reply {
        len,
        rcode,
        steered: walked.steered,
        kind: walked.kind,
        about: walked.about,
        is_known: opt.as_ref().is_some_and(Opt::is_known),
    })
}

/// The shortest response that lets a sincere client go on, for a query that is answered too often: with a cookie option
/// BADCOOKIE and a server cookie to come back with (RFC 7873 §5.2.3), else TC, which leads it to TCP.
pub fn respond_shortly(query: &[u8], ctx: &Ctx, out: &mut Out<'_>) -> Outcome {
    let mut read = Query::empty();
    if let Err(outcome) = fill(&mut read, query, ctx, out) {
        return outcome;
    }
    let mut opt = read.edns.as_ref().map(|_| Opt::empty());
    if let (Some(edns), Some(opt)) = (&read.edns, &mut opt) {
        opt.fill(edns, ctx, &[]);
    }
    let kept = opt.as_ref().map_or(0, Opt::octets_kept);
    let Some(mut message) = Message::start(out, &read, size_limit(&read, ctx), kept) else {
        return Outcome::Drop(DropReason::NoRoom);
    };
    match refusal(&read, query, opt.as_ref()) {
        Some((rcode, _)) => message.set_rcode(rcode),
        None if opt.as_ref().is_some_and(|opt| opt.cookie.is_some()) => message.set_rcode(rcode::BADCOOKIE),
        None => message.set_truncated(),
    }
    let (len, rcode) = message.finish(opt.as_ref());
    Outcome::Reply(Reply {
        len,
        rcode,
        ..Reply::ERROR
    })
}

/// Reads a query.
///
/// # Errors
/// What becomes of a packet that is none.
#[inline(always)]
fn fill<'q>(read: &mut Query<'q>, query: &'q [u8], ctx: &Ctx, out: &mut Out<'_>) -> Result<(), Outcome> {
    let Some(header) = Header::read(query) else {
        return Err(Outcome::Drop(DropReason::Short));
    };
    if header.is_response {
        return Err(Outcome::Drop(DropReason::Response));
    }
    if header.opcode != OPCODE_QUERY && header.opcode != OPCODE_NOTIFY {
        return Err(bare(query, rcode::NOTIMP, out));
    }
    match read.fill(query, header) {
        // Who gives no cookies does not know the query that only asks for one either.
        Ok(()) if !read.is_cookie_only || ctx.cookies.is_some() => match &read.edns {
            Some(edns) if ctx.transport == Transport::Quic && edns.wants & KEEPALIVE != 0 => Err(Outcome::Drop(DropReason::Forbidden)),
            _ => Ok(()),
        },
        _ => Err(bare(query, rcode::FORMERR, out)),
    }
}

/// The response code of what is not answered, whatever the zones hold, and a word for whoever wonders.
fn refusal(read: &Query<'_>, query: &[u8], opt: Option<&Opt<'_>>) -> Option<(u8, Option<NoteRef<'static>>)> {
    if let (Some(edns), Some(opt)) = (&read.edns, opt) {
        if edns.version != 0 {
            return Some((rcode::BADVERS, None)); // RFC 6891 §6.1.3
        }
        if opt.is_cookie_malformed {
            return Some((rcode::FORMERR, None)); // RFC 7873 §5.2.2
        }
        if read.is_cookie_only {
            let is_bad = opt.cookie.as_ref().is_some_and(|cookie| cookie.is_bad);
            return Some((if is_bad { rcode::BADCOOKIE } else { rcode::NOERROR }, None)); // RFC 7873 §5.4
        }
    }
    let is_notify = Header::read(query).is_some_and(|header| header.opcode == OPCODE_NOTIFY);
    let is_transfer = matches!(Rtype(read.qtype), Rtype::AXFR | Rtype::IXFR);
    // Class ANY asks for whatever class there is (RFC 1035 §3.2.5): there is IN. NSD and Knot answer it too.
    let is_served = read.qclass == CLASS_IN || read.qclass == CLASS_ANY;
    let is_refused = is_notify || !is_served || is_transfer;
    is_refused.then_some((rcode::REFUSED, Some(note::NOT_OFFERED)))
}

/// Most octets of the response (RFC 1035 §4.2.1, RFC 6891 §6.2.5).
fn size_limit(query: &Query<'_>, ctx: &Ctx) -> usize {
    match ctx.transport {
        Transport::Udp => {
            let offered = query.edns.as_ref().map_or(UDP_OCTETS_MIN, |edns| usize::from(edns.size));
            offered.max(UDP_OCTETS_MIN).min(ctx.size_max)
        }
        _ => ctx.size_max,
    }
}

/// A response that is a header and nothing else, to what could not be read further.
fn bare(query: &[u8], rcode: u8, out: &mut Out<'_>) -> Outcome {
    let (Some(head), Some(room)) = (query.get(..HEADER_OCTETS), out.bytes.get_mut(..HEADER_OCTETS)) else {
        return Outcome::Drop(DropReason::NoRoom);
    };
    room.copy_from_slice(head);
    write_header(room, 0, rcode, [0; 4]);
    Outcome::Reply(Reply {
        len: HEADER_OCTETS,
        rcode,
        ..Reply::ERROR
    })
}
