//! `respond`: query bytes in, response bytes out; what is refused, and why, before any name is looked up.

use super::follow::Walk;
use super::index::Snapshot;
use super::message::{Message, write_header};
use super::query::{HEADER_OCTETS, Header, OPCODE_NOTIFY, OPCODE_QUERY, Query, UDP_OCTETS_MIN};
use super::{Ctx, DropReason, Out, Outcome, Reply, Transport, UDP_OCTETS_MAX};
use crate::model::{CLASS_IN, Rtype, rcode};

/// Class ANY, which only questions can have (RFC 1035 §3.2.5).
const CLASS_ANY: u16 = 255;

/// Answers a query.
///
/// The response is in `out`, its length in the outcome. Total: any bytes are answered or dropped.
pub fn respond(snapshot: &Snapshot, query: &[u8], ctx: &Ctx, out: &mut Out<'_>) -> Outcome {
    let Some(header) = Header::read(query) else {
        return Outcome::Drop(DropReason::Short);
    };
    if header.is_response {
        return Outcome::Drop(DropReason::Response);
    }
    if header.opcode != OPCODE_QUERY && header.opcode != OPCODE_NOTIFY {
        return bare(query, rcode::NOTIMP, out);
    }
    let Ok(query_read) = Query::read(query, header) else {
        return bare(query, rcode::FORMERR, out);
    };
    let Some(mut message) = Message::start(out, &query_read, size_limit(&query_read, ctx)) else {
        return Outcome::Drop(DropReason::NoRoom);
    };
    let mut steered = None;
    match refusal(&query_read, header) {
        Some(rcode) => message.set_rcode(rcode),
        None => steered = Walk::new(snapshot, &mut message, query_read.qname, query_read.qtype, ctx.rotation).run(),
    }
    let (len, rcode) = message.finish(UDP_OCTETS_MAX as u16);
    Outcome::Reply(Reply { len, rcode, steered })
}

/// The response code of what is not answered, whatever the zones hold.
fn refusal(query: &Query<'_>, header: Header) -> Option<u8> {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Some(rcode::BADVERS); // RFC 6891 §6.1.3
    }
    let is_transfer = matches!(Rtype(query.qtype), Rtype::AXFR | Rtype::IXFR);
    // Class ANY asks for whatever class there is (RFC 1035 §3.2.5): there is IN. NSD and Knot answer it too.
    let is_served = query.qclass == CLASS_IN || query.qclass == CLASS_ANY;
    let is_refused = header.opcode == OPCODE_NOTIFY || !is_served || is_transfer;
    is_refused.then_some(rcode::REFUSED)
}

/// Most octets of the response (RFC 1035 §4.2.1, RFC 6891 §6.2.5).
fn size_limit(query: &Query<'_>, ctx: &Ctx) -> usize {
    match ctx.transport {
        Transport::Tcp | Transport::Tls | Transport::Quic | Transport::Https => ctx.size_max,
        Transport::Udp => {
            let offered = query.edns.map_or(UDP_OCTETS_MIN, |edns| usize::from(edns.size));
            offered.max(UDP_OCTETS_MIN).min(ctx.size_max)
        }
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
        steered: None,
    })
}

/// Body of the packet fuzzer: whatever comes in, the outcome keeps the promises that a caller relies on.
///
/// # Panics
/// When one is broken.
pub fn fuzz_respond(snapshot: &Snapshot, packet: &[u8]) {
    let mut buffer = vec![0xaa; super::STREAM_OCTETS_MAX];
    for transport in Transport::ALL {
        let ctx = Ctx {
            peer: std::net::SocketAddr::from(([127, 0, 0, 1], 5353)),
            local: None,
            transport,
            size_max: if transport == Transport::Udp {
                UDP_OCTETS_MAX
            } else {
                super::STREAM_OCTETS_MAX
            },
            wall_seconds: 0,
            rotation: 7,
            keepalive_tenths: Some(100),
        };
        match respond(snapshot, packet, &ctx, &mut Out::new(&mut buffer)) {
            Outcome::Drop(DropReason::Short) => assert!(packet.len() < HEADER_OCTETS),
            Outcome::Drop(DropReason::Response) => assert!(packet.get(2).is_some_and(|flags| flags & 0x80 != 0)),
            Outcome::Drop(DropReason::NoRoom) => panic!("the buffer is large enough"),
            Outcome::Reply(reply) => {
                assert!(reply.len >= HEADER_OCTETS && reply.len <= ctx.size_max);
                assert_eq!(buffer.get(..2), packet.get(..2), "the ID is echoed");
                assert!(buffer.get(2).is_some_and(|flags| flags & 0x80 != 0), "QR is set");
                assert_eq!(buffer.get(3).map(|flags| flags & 0x0f), Some(reply.rcode & 0x0f));
            }
        }
    }
}
