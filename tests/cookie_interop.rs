//! Cookies between implementations (RFC 9018): with one secret, NSD, Knot and this server accept what the others made, so
//! that they can stand behind one address.

mod answer_support;
#[allow(dead_code)]
#[path = "answer_support/peers.rs"]
mod peers;

use answer_support::*;
use peers::Peer;
use pointsman::answer::{CookieSecrets, Ctx, Out, Outcome, Snapshot, Transport, respond};
use pointsman::model::Name;
use std::time::{SystemTime, UNIX_EPOCH};

const COOKIE: u16 = 10;
const SECRET: [u8; 16] = [
    0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf,
];
const ZONE: &str = "$TTL 60\nexample. SOA ns.example. h.example. 1 2 3 4 5\nexample. NS ns.example.\nns.example. A 192.0.2.1\n";

/// Our own answer to a client at the loopback address: the cookie in it, and whether the query's was good.
fn ours(snapshot: &Snapshot, cookie: &[u8]) -> (Vec<u8>, bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ctx = Ctx {
        cookies: Some(CookieSecrets::new(SECRET, None)),
        wall_seconds: now,
        ..ctx(Transport::Udp, 0)
    };
    let mut room = vec![0; 1232];
    let packet = query_options("ns.example.", &[(COOKIE, cookie)]);
    let Outcome::Reply(reply) = respond(snapshot, &packet, &ctx, &mut Out::new(&mut room)) else {
        panic!("no answer");
    };
    let response = Response::decode(&room[..reply.len]).unwrap();
    (response.option(COOKIE).unwrap().to_vec(), reply.is_known)
}

#[test]
fn rfc9018_nsd_and_knot_accept_our_cookies_and_we_theirs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("example.zone"), ZONE).unwrap();
    let zones = [("example.".to_owned(), "example.zone".to_owned())];
    let hex: String = SECRET.iter().map(|octet| format!("{octet:02x}")).collect();
    let snapshot = Snapshot::build(&[zone("example.", ZONE)], &[], 1);
    let nsd = Peer::nsd_with(folder.path(), &zones, &format!(" answer-cookie: yes\n cookie-secret: \"{hex}\"\n"));
    let knot = Peer::knot_with(
        folder.path(),
        &zones,
        &format!("mod-cookies:\n  - id: shared\n    secret: 0x{hex}\n"),
        "    global-module: mod-cookies/shared\n",
    );
    for peer in [nsd, knot] {
        peer.wait_for(&query(&Name::parse("example.").unwrap(), 6, None));
        let theirs = |cookie: &[u8]| {
            let response = peer.ask(&query_options("ns.example.", &[(COOKIE, cookie)])).expect("an answer");
            (response.rcode, response.option(COOKIE).unwrap_or_default().to_vec())
        };
        let (_, made) = theirs(b"clientck");
        assert_eq!(made.len(), 24, "{}", peer.name);
        let (returned, is_known) = ours(&snapshot, &made);
        assert!(
            is_known && returned == made,
            "{}: {made:02x?} came back as {returned:02x?}",
            peer.name
        );
        let (made, _) = ours(&snapshot, b"clientck");
        assert_eq!(theirs(&made), (0, made.clone()), "{}", peer.name);
        let mut spoilt = made.clone();
        spoilt[20] ^= 1;
        assert!(!ours(&snapshot, &spoilt).1);
        assert_ne!(theirs(&spoilt).1, spoilt, "{}: the test can tell a bad one", peer.name);
    }
}
