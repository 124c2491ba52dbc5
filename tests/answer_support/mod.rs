//! What the tests of `answer` share: zones from text, queries in bytes, responses decoded by a decoder of
//! the tests' own (and by hickory's, which must agree that the message is sound).

#![allow(dead_code)] // each test binary uses its part

use pointsman::answer::{
    CookieSecrets, Ctx, Out, Outcome, Reply, STREAM_OCTETS_MAX, Snapshot, SteeredInput, Transport, UDP_OCTETS_MAX, respond,
};
use pointsman::model::{Answer, AppId, Decision, Name, Reason, RegionId, Rtype};
use pointsman::zone::{Source, Zone, read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// A zone from text; the test fails with the reader's findings if it has errors.
pub fn zone(apex: &str, text: &str) -> Arc<Zone> {
    match try_zone(apex, text) {
        Ok(zone) => zone,
        Err(findings) => panic!("zone {apex}: {findings}\n{text}"),
    }
}

/// A zone from text, or what is wrong with it.
pub fn try_zone(apex: &str, text: &str) -> Result<Arc<Zone>, String> {
    let source = Source {
        path: "test.zone".to_owned(),
        text: text.as_bytes().to_vec(),
    };
    let apex = Name::parse(apex).unwrap();
    let loaded = read(&source, &apex, &mut |_, _| Err("no includes".to_owned()));
    loaded.map(|loaded| Arc::new(loaded.zone)).map_err(|found| format!("{found:#?}"))
}

/// A steered name with its regions' answers and the one decided.
pub fn steered(name: &str, ttl: u32, regions: &[(&str, Answer)], region: Option<&str>, answer: Answer) -> SteeredInput {
    let regions: Vec<(RegionId, Arc<Answer>)> = regions
        .iter()
        .map(|(region, answer)| (RegionId::new(region), Arc::new(answer.clone())))
        .collect();
    SteeredInput {
        name: Name::parse(name).unwrap(),
        ttl,
        decision: Arc::new(Decision {
            name: Name::parse(name).unwrap(),
            app: AppId::new("app"),
            active: regions.first().map_or(RegionId::new("none"), |(region, _)| region.clone()),
            region: region.map(RegionId::new),
            answer: Arc::new(answer),
            ttl,
            reason: Reason::Healthy,
            is_home_drained: false,
        }),
        regions,
        is_probed: true,
    }
}

/// Addresses as an answer.
pub fn addresses(list: &[&str]) -> Answer {
    let parsed = list.iter().map(|text| text.parse::<std::net::IpAddr>().unwrap());
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in parsed {
        match address {
            std::net::IpAddr::V4(address) => v4.push(address),
            std::net::IpAddr::V6(address) => v6.push(address),
        }
    }
    Answer::Addresses { v4, v6 }
}

/// EDNS of a query: UDP size and DO.
pub type Edns = Option<(u16, bool)>;

/// A query in bytes.
pub fn query(qname: &Name, qtype: u16, edns: Edns) -> Vec<u8> {
    query_with(qname.wire(), qtype, 1, edns)
}

/// A query in bytes for any name bytes and class. Each has another ID, so that a late answer is told from the right one.
pub fn query_with(qname: &[u8], qtype: u16, qclass: u16, edns: Edns) -> Vec<u8> {
    static NEXT_ID: AtomicU16 = AtomicU16::new(1);
    let [id0, id1] = NEXT_ID.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut bytes = vec![id0, id1, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    bytes.extend_from_slice(qname);
    bytes.extend_from_slice(&qtype.to_be_bytes());
    bytes.extend_from_slice(&qclass.to_be_bytes());
    if let Some((size, dnssec_ok)) = edns {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    }
    bytes
}

/// A query for type A with these EDNS options.
pub fn query_options(qname: &str, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = query(&Name::parse(qname).unwrap(), 1, Some((1232, false)));
    bytes.truncate(bytes.len() - 2);
    let data: Vec<u8> = options.iter().flat_map(|(code, value)| option(*code, value)).collect();
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// An EDNS option in wire form.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = code.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The circumstances of a query.
pub fn ctx(transport: Transport, rotation: u32) -> Ctx {
    Ctx {
        peer: SocketAddr::from(([127, 0, 0, 1], 5353)),
        local: None,
        transport,
        size_max: match transport {
            Transport::Udp => UDP_OCTETS_MAX,
            _ => STREAM_OCTETS_MAX,
        },
        wall_seconds: 1_800_000_000,
        rotation,
        keepalive_tenths: (transport != Transport::Udp).then_some(100),
        cookies: Some(CookieSecrets::new(*b"sixteen octets..", None)),
    }
}

/// Asks, and gives the facts and the bytes; none when the packet was dropped.
pub fn ask_raw(snapshot: &Snapshot, packet: &[u8], transport: Transport) -> Option<(Reply, Vec<u8>)> {
    let mut room = vec![0xaa; STREAM_OCTETS_MAX];
    match respond(snapshot, packet, &ctx(transport, 0), &mut Out::new(&mut room)) {
        Outcome::Reply(reply) => {
            room.truncate(reply.len);
            Some((reply, room))
        }
        Outcome::Drop(_) => None,
    }
}

/// Asks and decodes, checking that hickory reads the same message.
pub fn ask(snapshot: &Snapshot, packet: &[u8], transport: Transport) -> Response {
    ask_with(snapshot, packet, &ctx(transport, 0))
}

/// The same in circumstances of the caller's.
pub fn ask_with(snapshot: &Snapshot, packet: &[u8], ctx: &Ctx) -> Response {
    let mut bytes = vec![0xaa; STREAM_OCTETS_MAX];
    let Outcome::Reply(reply) = respond(snapshot, packet, ctx, &mut Out::new(&mut bytes)) else {
        panic!("no response to {packet:02x?}");
    };
    bytes.truncate(reply.len);
    let response = Response::decode(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    let hickory = hickory_proto::op::Message::from_vec(&bytes).unwrap_or_else(|error| panic!("hickory: {error}: {bytes:02x?}"));
    assert_eq!(hickory.answers.len(), response.answer.len());
    assert_eq!(hickory.authorities.len(), response.authority.len());
    assert_eq!(hickory.additionals.len(), response.additional.len());
    assert_eq!(u16::from(reply.rcode), response.rcode);
    response
}

/// A record, names in lower case, data uncompressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Owner.
    pub owner: Name,
    /// Type.
    pub rtype: Rtype,
    /// TTL.
    pub ttl: u32,
    /// Data, names in it uncompressed and in lower case.
    pub rdata: Vec<u8>,
}

/// A decoded response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// ID.
    pub id: u16,
    /// Third and fourth octet.
    pub flags: u16,
    /// Response code with the upper bits of EDNS.
    pub rcode: u16,
    /// Question as it stands in the message.
    pub question: Vec<u8>,
    /// Answer section in order.
    pub answer: Vec<Record>,
    /// Authority section.
    pub authority: Vec<Record>,
    /// Additional section without OPT.
    pub additional: Vec<Record>,
    /// EDNS: size, version, flags.
    pub edns: Option<(u16, u8, u16)>,
    /// Options of EDNS in order.
    pub options: Vec<(u16, Vec<u8>)>,
    /// Octets of the message.
    pub len: usize,
}

impl Response {
    /// The value of an EDNS option that is there once at most.
    pub fn option(&self, code: u16) -> Option<&[u8]> {
        let mut found = self.options.iter().filter(|(one, _)| *one == code);
        let value = found.next().map(|(_, value)| value.as_slice());
        assert!(found.next().is_none(), "option {code} twice");
        value
    }

    /// AA.
    pub fn aa(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    /// TC.
    pub fn tc(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// Decodes a message strictly: everything must be there and nothing more.
    pub fn decode(bytes: &[u8]) -> Result<Response, String> {
        let mut reader = Reader { bytes, at: 0 };
        let id = reader.u16()?;
        let flags = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let start = reader.at;
        for _ in 0..counts[0] {
            reader.name()?;
            reader.take(4)?;
        }
        let question = bytes[start..reader.at].to_vec();
        let mut sections = [Vec::new(), Vec::new(), Vec::new()];
        let mut edns = None;
        let mut options = Vec::new();
        let mut rcode = flags & 0x0f;
        for (section, count) in sections.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                let (record, class) = reader.record()?;
                if record.rtype == Rtype::OPT {
                    rcode |= ((record.ttl >> 24) as u16) << 4;
                    edns = Some((class, (record.ttl >> 16) as u8, record.ttl as u16));
                    let mut reader = Reader {
                        bytes: &record.rdata,
                        at: 0,
                    };
                    while reader.at < record.rdata.len() {
                        let (code, octets) = (reader.u16()?, reader.u16()?);
                        options.push((code, reader.take(usize::from(octets))?));
                    }
                } else {
                    section.push(record);
                }
            }
        }
        if reader.at != bytes.len() {
            return Err(format!("{} octets behind the message", bytes.len() - reader.at));
        }
        let [answer, authority, additional] = sections;
        Ok(Response {
            id,
            flags,
            rcode,
            question,
            answer,
            authority,
            additional,
            edns,
            options,
            len: bytes.len(),
        })
    }
}

/// Reads a message.
struct Reader<'m> {
    /// The message.
    bytes: &'m [u8],
    /// Offset of the next octet.
    at: usize,
}

impl Reader<'_> {
    /// The next octets.
    fn take(&mut self, octets: usize) -> Result<Vec<u8>, String> {
        let taken = self.bytes.get(self.at..self.at + octets).ok_or("cut short")?.to_vec();
        self.at += octets;
        Ok(taken)
    }

    /// The next 16 bits.
    fn u16(&mut self) -> Result<u16, String> {
        let octets = self.take(2)?;
        Ok(u16::from_be_bytes([octets[0], octets[1]]))
    }

    /// The next name, decompressed, in lower case.
    fn name(&mut self) -> Result<Name, String> {
        let mut wire = Vec::new();
        let mut at = self.at;
        let mut end = None;
        loop {
            let len = *self.bytes.get(at).ok_or("name cut short")?;
            if len & 0xc0 == 0xc0 {
                let low = *self.bytes.get(at + 1).ok_or("pointer cut short")?;
                end = end.or(Some(at + 2));
                let target = usize::from(len & 0x3f) << 8 | usize::from(low);
                if target >= at {
                    return Err(format!("pointer at {at} leads on to {target}"));
                }
                at = target;
                continue;
            }
            let next = at + 1 + usize::from(len);
            wire.extend_from_slice(self.bytes.get(at..next).ok_or("label cut short")?);
            at = next;
            if len == 0 {
                break;
            }
        }
        self.at = end.unwrap_or(at);
        Name::from_wire(&wire.to_ascii_lowercase()).map_err(|error| format!("{error}"))
    }

    /// The next record and its class.
    fn record(&mut self) -> Result<(Record, u16), String> {
        let owner = self.name()?;
        let rtype = Rtype(self.u16()?);
        let class = self.u16()?;
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let len = usize::from(self.u16()?);
        let end = self.at + len;
        let (before, names) = layout(rtype);
        let mut rdata = self.take(before.min(len))?;
        for _ in 0..names {
            rdata.extend_from_slice(self.name()?.wire());
        }
        if self.at > end {
            return Err(format!("data of {rtype} too short"));
        }
        rdata.extend_from_slice(&self.take(end - self.at)?);
        Ok((Record { owner, rtype, ttl, rdata }, class))
    }
}

/// Octets before the names in a type's data, and the number of names.
fn layout(rtype: Rtype) -> (usize, usize) {
    match rtype {
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME | Rtype::MB | Rtype::MG | Rtype::MR => (0, 1),
        Rtype::SOA | Rtype::MINFO | Rtype::RP => (0, 2),
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX => (2, 1),
        Rtype::PX => (2, 2),
        Rtype::SRV => (6, 1),
        _ => (0, 0),
    }
}

/// Data in wire form as [`Reader::record`] gives it: names in lower case.
pub fn plain_rdata(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    let (before, names) = layout(rtype);
    let mut reader = Reader { bytes: rdata, at: 0 };
    let mut plain = reader.take(before.min(rdata.len())).unwrap();
    for _ in 0..names {
        plain.extend_from_slice(reader.name().unwrap().wire());
    }
    plain.extend_from_slice(&rdata[reader.at..]);
    plain
}

/// Splits an answer section into RRsets in order, records of each sorted: chains have an order, RRsets none.
pub fn rrsets(records: &[Record]) -> Vec<Vec<Record>> {
    let mut sets: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match sets.last_mut() {
            Some(last) if last[0].owner == record.owner && last[0].rtype == record.rtype => last.push(record.clone()),
            _ => sets.push(vec![record.clone()]),
        }
    }
    for set in &mut sets {
        set.sort();
    }
    sets
}

/// Records without order.
pub fn sorted(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    records.sort();
    records
}
