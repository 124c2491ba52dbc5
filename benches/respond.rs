//! ns per `respond` by kind of answer, and the time to publish one changed name among many.

use criterion::{Criterion, criterion_group, criterion_main};
use pointsman::answer::{CookieSecrets, Ctx, Out, Outcome, Snapshot, SteeredInput, Transport, UDP_OCTETS_MAX, respond};
use pointsman::model::{Answer, AppId, Decision, Name, Reason, RegionId};
use pointsman::zone::{Source, read};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

/// A steered name of two regions, answered from the one given.
fn steered(number: usize, region: &str) -> SteeredInput {
    let name = Name::parse(&format!("app{number}.example.")).expect("a name");
    let addresses = |net: u8| {
        Arc::new(Answer::Addresses {
            v4: vec![[192, 0, net, 1].into(), [192, 0, net, 2].into()],
            v6: vec![[0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(net)].into()],
        })
    };
    let answer = addresses(if region == "iad" { 2 } else { 3 });
    SteeredInput {
        name: name.clone(),
        ttl: 30,
        regions: vec![(RegionId::new("iad"), addresses(2)), (RegionId::new("fra"), addresses(3))],
        decision: Arc::new(Decision {
            name,
            app: AppId::new("app"),
            active: RegionId::new(region),
            region: Some(RegionId::new(region)),
            answer,
            ttl: 30,
            reason: Reason::Healthy,
            is_home_drained: false,
        }),
        is_probed: true,
    }
}

/// A zone of many names with so many steered ones.
fn snapshot(names: usize) -> Snapshot {
    let mut text = "$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n*.wild A 192.0.2.2\nsub NS ns.sub\nns.sub A 192.0.2.3\n\
        www CNAME app7\ndn DNAME wild\n"
        .to_owned();
    for number in 0..10_000 {
        text.push_str(&format!("host{number} A 192.0.2.4\nhost{number} A 192.0.2.5\n"));
    }
    let source = Source {
        path: "bench.zone".into(),
        text: text.into_bytes(),
    };
    let apex = Name::parse("example.").expect("a name");
    let loaded = read(&source, &apex, &mut |_, _| Err(String::new())).expect("a sound zone");
    let inputs: Vec<SteeredInput> = (0..names).map(|number| steered(number, "iad")).collect();
    Snapshot::build(&[Arc::new(loaded.zone)], &inputs, 42)
}

/// A query for a name, with EDNS.
fn query(name: &str, qtype: u8) -> Vec<u8> {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(Name::parse(name).expect("a name").wire());
    packet.extend_from_slice(&[0, qtype, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    packet
}

/// One kind of answer after the other.
fn answering(criterion: &mut Criterion) {
    let snapshot = snapshot(1_000);
    let mut ctx = Ctx {
        peer: SocketAddr::from(([127, 0, 0, 1], 5353)),
        local: None,
        transport: Transport::Udp,
        size_max: UDP_OCTETS_MAX,
        wall_seconds: 0,
        rotation: 0,
        keepalive_tenths: None,
        cookies: Some(CookieSecrets::new([7; 16], None)),
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
        let [iad, fra] = ["iad", "fra"].map(|region| [steered(names / 2, region)]);
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
