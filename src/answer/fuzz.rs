//! The fuzz body of packets: a plain function that a fuzzer and the seeded smoke test call.

use super::respond::{respond, respond_shortly};
use super::{
    CookieSecrets, Ctx, DropReason, Out, Outcome, STREAM_OCTETS_MAX, Service, Settings, Snapshot, SteeredInput, Transport, UDP_OCTETS_MAX,
};
use crate::model::{Answer, AppId, Decision, Name, Prefix, PrefixSet, Reason, RegionId};
use crate::zone;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// Octets of a header.
const HEADER_OCTETS: usize = 12;

/// A zone with all that answers are made of.
const ZONE: &str = "$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n@ MX 10 ns\nns A 192.0.2.1\nns AAAA 2001:db8::1\n*.wild A 192.0.2.2\n*.wild TXT \"w\"\n\
    sub NS ns.sub\nsub NS ns\nsub DS 1 8 2 abababababababababababababababababababababababababababababababab\nns.sub A 192.0.2.3\n\
    www CNAME app\nwwww CNAME www\nloop CNAME pool\npool CNAME loop\ndn DNAME wild\ndnn DNAME dn\na.b.c TXT \"deep\"\nsrv SRV 1 2 3 ns\n\
    *.cn CNAME x.dn\nup CNAME x.sub\nout CNAME www.example.org.\n";

/// Answers any octets from a small world, over every transport.
///
/// # Panics
/// When a promise is broken; that is what the fuzzer looks for.
pub fn fuzz(packet: &[u8]) {
    static WORLD: OnceLock<Option<Snapshot>> = OnceLock::new();
    if let Some(snapshot) = WORLD.get_or_init(world) {
        fuzz_respond(snapshot, packet);
    }
}

/// The world that is asked.
fn world() -> Option<Snapshot> {
    let apex = Name::parse("example.").ok()?;
    let mut text = ZONE.to_owned();
    for number in 0..60 {
        text.push_str(&format!("big TXT \"number {number} of those that do not fit into a datagram\"\n"));
    }
    let source = zone::Source {
        path: "fuzz.zone".into(),
        text: text.into_bytes(),
    };
    let loaded = zone::read(&source, &apex, &mut |_, _| Err(String::new())).ok()?;
    let closed = zone::Source {
        path: "closed.zone".into(),
        text: b"@ 60 SOA ns h 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.9\n".to_vec(),
    };
    let closed_apex = Name::parse("closed.").ok()?;
    let closed = zone::read(&closed, &closed_apex, &mut |_, _| Err(String::new())).ok()?;
    let v4 = (1..=9).map(|last| [198, 51, 100, last].into()).collect();
    let v6 = vec![[0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()];
    let addresses = Answer::Addresses { v4, v6 };
    let names = [
        ("app.example.", addresses, Reason::AllDownActive),
        ("host.example.", Answer::Host(Name::parse("www.example.").ok()?), Reason::Healthy),
        ("down.example.", Answer::Servfail, Reason::AllDownServfail),
    ];
    let inputs = names.map(|(name, answer, reason)| steered(name, answer, reason));
    let inputs: Option<Vec<SteeredInput>> = inputs.into_iter().collect();
    let settings = Settings {
        service: Service {
            nsid: b"fuzz".to_vec(),
            not_ready: Some("fuzzed".to_owned()),
            ..Service::default()
        },
        access: vec![(closed_apex, PrefixSet::new(&[Prefix::parse("192.0.2.0/24").ok()?]))],
    };
    let zones = [Arc::new(loaded.zone), Arc::new(closed.zone)];
    Some(Snapshot::build_with(&zones, &inputs?, 1, settings))
}

/// A steered name with one answer.
fn steered(name: &str, answer: Answer, reason: Reason) -> Option<SteeredInput> {
    let (name, region, answer) = (Name::parse(name).ok()?, RegionId::new("iad"), Arc::new(answer));
    Some(SteeredInput {
        ttl: 30,
        regions: vec![(region.clone(), answer.clone())],
        is_probed: true,
        decision: Arc::new(Decision {
            name: name.clone(),
            app: AppId::new("app"),
            active: region.clone(),
            region: Some(region),
            answer,
            ttl: 30,
            reason,
            is_home_drained: false,
        }),
        name,
    })
}

/// Whatever comes in, the outcome keeps the promises that a caller relies on.
///
/// # Panics
/// When one is broken.
pub fn fuzz_respond(snapshot: &Snapshot, packet: &[u8]) {
    let mut buffer = vec![0xaa; STREAM_OCTETS_MAX];
    for transport in Transport::ALL {
        let ctx = Ctx {
            peer: SocketAddr::from(([127, 0, 0, 1], 5353)),
            local: None,
            transport,
            size_max: if transport == Transport::Udp {
                UDP_OCTETS_MAX
            } else {
                STREAM_OCTETS_MAX
            },
            wall_seconds: 0,
            rotation: 7,
            cookies: Some(CookieSecrets::new([1; 16], None)),
            keepalive_tenths: Some(100),
        };
        let short = respond_shortly(packet, &ctx, &mut Out::new(&mut buffer));
        if let (Outcome::Reply(reply), Transport::Udp) = (short, transport) {
            assert!(reply.len <= packet.len() + SHORT_MORE_OCTETS, "a short response is short");
        }
        let outcome = respond(snapshot, packet, &ctx, &mut Out::new(&mut buffer));
        assert_eq!(
            matches!(short, Outcome::Drop(_)),
            matches!(outcome, Outcome::Drop(_)),
            "what is answered in full can be answered shortly"
        );
        match outcome {
            Outcome::Drop(DropReason::Short) => assert!(packet.len() < HEADER_OCTETS),
            Outcome::Drop(DropReason::Response) => assert!(packet.get(2).is_some_and(|flags| flags & 0x80 != 0)),
            Outcome::Drop(DropReason::NoRoom) => panic!("the buffer is large enough"),
            Outcome::Drop(DropReason::Forbidden) => assert_eq!(transport, Transport::Quic),
            Outcome::Reply(reply) => {
                assert!(reply.len >= HEADER_OCTETS && reply.len <= ctx.size_max);
                assert_eq!(buffer.get(..2), packet.get(..2), "the ID is echoed");
                assert!(buffer.get(2).is_some_and(|flags| flags & 0x80 != 0), "QR is set");
                assert_eq!(buffer.get(3).map(|flags| flags & 0x0f), Some(reply.rcode & 0x0f));
            }
        }
    }
}

/// What a short response may add to its query: a server cookie to a client's.
const SHORT_MORE_OCTETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzed_world_answers_from_its_zone() {
        let snapshot = world().expect("a sound world");
        let mut packet = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(Name::parse("wwww.example.").unwrap().wire());
        packet.extend_from_slice(&[0, 1, 0, 1]);
        let ctx = Ctx {
            peer: SocketAddr::from(([127, 0, 0, 1], 5353)),
            local: None,
            transport: Transport::Udp,
            size_max: UDP_OCTETS_MAX,
            wall_seconds: 0,
            rotation: 0,
            cookies: None,
            keepalive_tenths: None,
        };
        let mut room = [0; UDP_OCTETS_MAX];
        let outcome = respond(&snapshot, &packet, &ctx, &mut Out::new(&mut room));
        assert!(matches!(outcome, Outcome::Reply(reply) if reply.steered.is_some()), "{outcome:?}");
        assert_eq!(room[7], 2 + 9, "two aliases and nine addresses");
    }
}
