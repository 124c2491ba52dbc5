//! ns per `respond` by kind of answer, and the time to publish one changed name among many.

mod kit;

use criterion::{Criterion, criterion_group, criterion_main};
use kit::inputs::{self, query};
use pointsman::answer::{CookieSecrets, Ctx, Out, Outcome, Snapshot, SteeredInput, UDP_OCTETS_MAX, respond};
use std::hint::black_box;

/// A steered name by its number.
fn app(number: usize, region: &str) -> SteeredInput {
    inputs::steered(&format!("app{number}.example."), region)
}

/// A zone of many names with so many steered ones.
fn snapshot(names: usize) -> Snapshot {
    let mut text = "$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.wild A 192.0.2.2\nsub NS ns.sub\nns.sub A 192.0.2.3\n\
        www CNAME app7\ndn DNAME wild\n"
        .to_owned();
    for number in 0..10_000 {
        text.push_str(&format!("host{number} A 192.0.2.4\nhost{number} A 192.0.2.5\n"));
    }
    let inputs: Vec<SteeredInput> = (0..names).map(|number| app(number, "iad")).collect();
    Snapshot::build(&[inputs::zone(text)], &inputs, 42)
}

/// One kind of answer after the other.
fn answering(criterion: &mut Criterion) {
    let snapshot = snapshot(1_000);
    let mut ctx = Ctx {
        cookies: Some(CookieSecrets::new([7; 16], None)),
        ..inputs::ctx()
    };
    let mut room = [0; UDP_OCTETS_MAX];
    let mut group = criterion.benchmark_group("respond");
    let cases = [
        ("hit", "host77.example.", 1),
        ("nodata", "host77.example.", 28),
        ("nxdomain", "nothing.example.", 1),
        ("wildcard", "some.wild.example.", 1),
        ("referral", "www.sub.example.", 1),
        ("steered", "app77.example.", 1),
        ("alias to steered", "www.example.", 1),
        ("dname", "x.dn.example.", 1),
        ("refused", "www.other.", 1),
    ];
    for (what, name, qtype) in cases {
        let packet = query(name, qtype);
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                ctx.rotation = ctx.rotation.wrapping_add(1);
                respond(&snapshot, black_box(&packet), &ctx, &mut Out::new(&mut room))
            });
        });
    }
    let mut bare = query("host77.example.", 1);
    let first = with_option(&bare, 10, b"clientck");
    let outcome = respond(&snapshot, &first, &ctx, &mut Out::new(&mut room));
    let Outcome::Reply(reply) = outcome else { return };
    let known = with_option(&bare, 10, &room[reply.len - 24..reply.len]);
    bare.truncate(bare.len() - 11);
    bare[11] = 0;
    let options = [
        ("hit without EDNS", bare),
        ("hit, client cookie", first),
        ("hit, server cookie", known),
        ("hit, NSID asked", with_option(&query("host77.example.", 1), 3, b"")),
    ];
    for (what, packet) in options {
        group.bench_function(what, |bencher| {
            bencher.iter(|| respond(&snapshot, black_box(&packet), &ctx, &mut Out::new(&mut room)));
        });
    }
    group.finish();
}

/// A query that ends with an empty OPT, with an option in it.
fn with_option(packet: &[u8], code: u8, value: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet.truncate(packet.len() - 2);
    let octets = value.len() as u8;
    packet.extend_from_slice(&[0, 4 + octets, 0, code, 0, octets]);
    packet.extend_from_slice(value);
    packet
}

/// One changed name: the time must not grow with the number of names.
fn publishing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish one change");
    for names in [1_000, 10_000, 100_000] {
        let mut current = snapshot(names);
        let [iad, fra] = ["iad", "fra"].map(|region| [app(names / 2, region)]);
        let mut is_iad = true;
        group.bench_function(format!("among {names}"), |bencher| {
            bencher.iter(|| {
                is_iad = !is_iad;
                current = current.with(if is_iad { &iad } else { &fra });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, answering, publishing);
criterion_main!(benches);
