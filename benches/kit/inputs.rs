//! Input of `respond`: queries, zones, and steered names of two regions.

use pointsman::answer::{Ctx, SteeredInput, Transport, UDP_OCTETS_MAX};
use pointsman::model::{Answer, AppId, Decision, Name, Reason, RegionId};
use pointsman::zone::{Source, Zone, read};
use std::net::SocketAddr;
use std::sync::Arc;

/// A steered name of two regions, answered from the one given.
pub fn steered(name: &str, region: &str) -> SteeredInput {
    let name = Name::parse(name).expect("a name");
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

/// The zone `example.` with these records.
pub fn zone(text: String) -> Arc<Zone> {
    let source = Source {
        path: "bench.zone".into(),
        text: text.into_bytes(),
    };
    let apex = Name::parse("example.").expect("a name");
    let loaded = read(&source, &apex, &mut |_, _| Err(String::new())).expect("a sound zone");
    Arc::new(loaded.zone)
}

/// A query for a name, with EDNS.
pub fn query(name: &str, qtype: u8) -> Vec<u8> {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    packet.extend_from_slice(Name::parse(name).expect("a name").wire());
    packet.extend_from_slice(&[0, qtype, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    packet
}

/// A client on loopback, over UDP.
pub fn ctx() -> Ctx {
    Ctx {
        peer: SocketAddr::from(([127, 0, 0, 1], 5353)),
        local: None,
        transport: Transport::Udp,
        size_max: UDP_OCTETS_MAX,
        wall_seconds: 0,
        rotation: 0,
        keepalive_tenths: None,
        cookies: None,
    }
}
