//! Differential tests against NSD and Knot from Debian: where the two agree, we agree; where they differ, we
//! are one of them. Compared are rcode, AA, TC, the answer section in chain order, the authority of negatives
//! and referrals, and glue; not NS or additional data of positive answers.

mod answer_support;
#[path = "answer_support/peers.rs"]
mod peers;
#[path = "answer_support/zones.rs"]
mod zones;

use answer_support::*;
use peers::Peer;
use pointsman::answer::{Snapshot, Transport};
use pointsman::model::{Name, Rtype};
use std::collections::BTreeSet;
use std::time::Duration;

/// Zones that only have to be many.
const MANY_ZONES: usize = 2000;

/// The three servers over the same zones.
struct Field {
    ours: Snapshot,
    nsd: Peer,
    knot: Peer,
    apexes: BTreeSet<Name>,
    names: Vec<Name>,
    _folder: tempfile::TempDir,
}

impl Field {
    fn new() -> Field {
        let folder = tempfile::tempdir().unwrap();
        let mut texts: Vec<(String, String)> = zones::rich();
        texts.extend((0..MANY_ZONES).map(|number| {
            let apex = format!("z{number}.many.test.");
            let text = format!(
                "$TTL 60\n{apex} SOA ns.{apex} h.{apex} 1 2 3 4 5\n{apex} NS ns.other.test.\nw.{apex} A 192.0.2.{}\n",
                number % 250
            );
            (apex, text)
        }));
        let mut files = Vec::new();
        let mut read = Vec::new();
        let mut names = Vec::new();
        for (index, (apex, text)) in texts.iter().enumerate() {
            let path = folder.path().join(format!("{index}.zone"));
            std::fs::write(&path, text).unwrap();
            files.push((apex.clone(), path.display().to_string()));
            read.push(zone(apex, text));
            if index < texts.len() - MANY_ZONES || index % 97 == 0 {
                names.extend(read[index].nodes().map(|(name, _)| name.clone()));
            }
        }
        let nsd = Peer::nsd(folder.path(), &files);
        let knot = Peer::knot(folder.path(), &files);
        let last = query(&Name::parse(&files.last().unwrap().0).unwrap(), Rtype::SOA.0, None);
        nsd.wait_for(&last);
        knot.wait_for(&last);
        for (apex, _) in &texts[..texts.len() - MANY_ZONES] {
            knot.wait_for(&query(&Name::parse(apex).unwrap(), Rtype::SOA.0, None));
        }
        Field {
            ours: Snapshot::build(&read, &[], 42),
            nsd,
            knot,
            apexes: texts.iter().map(|(apex, _)| Name::parse(apex).unwrap()).collect(),
            names,
            _folder: folder,
        }
    }

    /// What is compared of a response, field by field.
    fn view(&self, response: &Response, qtype: u16) -> Vec<(&'static str, String)> {
        let sets = rrsets(&response.answer);
        let is_positive = sets.last().is_some_and(|set| set[0].rtype.0 == qtype || qtype == Rtype::ANY.0);
        let referral_ns = |record: &&Record| record.rtype == Rtype::NS && !(response.aa() && self.apexes.contains(&record.owner));
        let mut authority: Vec<Record> = Vec::new();
        let mut glue: Vec<Record> = Vec::new();
        if !is_positive {
            authority.extend(
                response
                    .authority
                    .iter()
                    .filter(|record| record.rtype == Rtype::SOA || referral_ns(record))
                    .cloned(),
            );
            if authority.iter().any(|record| record.rtype == Rtype::NS) {
                glue.extend(
                    response
                        .additional
                        .iter()
                        .filter(|record| matches!(record.rtype, Rtype::A | Rtype::AAAA))
                        .cloned(),
                );
            }
        }
        // RFC 8482 §4.1: ANY is answered with any one RRset, so only whether there is one is compared.
        let answer = if qtype == Rtype::ANY.0 && is_positive {
            "something".to_owned()
        } else {
            format!("{sets:?}")
        };
        vec![
            ("rcode", format!("{}", response.rcode)),
            ("AA", format!("{}", response.aa())),
            ("TC", format!("{}", response.tc())),
            ("answer", answer),
            ("authority", format!("{:?}", sorted(&authority))),
            ("glue", format!("{:?}", sorted(&glue))),
        ]
    }

    /// Compares one packet's responses; what is wrong.
    fn differences(&self, packet: &[u8], qtype: u16) -> Vec<String> {
        let none = vec![("response", "none".to_owned())];
        let view = |response: Option<Response>| response.map_or(none.clone(), |response| self.view(&response, qtype));
        let ours = ask_raw(&self.ours, packet, Transport::Udp).map(|(_, bytes)| Response::decode(&bytes).unwrap());
        let (ours, nsd, knot) = (view(ours), view(self.nsd.ask(packet)), view(self.knot.ask(packet)));
        if ours.len() == 1 || nsd.len() == 1 || knot.len() == 1 {
            let same = ours.len() == nsd.len() || ours.len() == knot.len();
            return if same {
                Vec::new()
            } else {
                vec![format!("ours {ours:?}\n nsd {nsd:?}\n knot {knot:?}")]
            };
        }
        let fields = ours.iter().zip(&nsd).zip(&knot);
        let wrong = fields.filter(|((ours, nsd), knot)| ours != nsd && ours != knot);
        wrong
            .map(|((ours, nsd), knot)| format!("{}\n   ours {}\n   nsd  {}\n   knot {}", ours.0, ours.1, nsd.1, knot.1))
            .collect()
    }
}

/// Collects what is wrong, and fails with the first of it.
#[derive(Default)]
struct Report {
    asked: usize,
    wrong: Vec<String>,
}

impl Report {
    fn add(&mut self, question: String, differences: Vec<String>) {
        self.asked += 1;
        self.wrong
            .extend(differences.into_iter().map(|difference| format!("{question}: {difference}")));
    }

    fn finish(self, at_least: usize) {
        let shown: Vec<&String> = self.wrong.iter().take(30).collect();
        assert!(
            self.wrong.is_empty(),
            "{} of {} differ\n{}",
            self.wrong.len(),
            self.asked,
            shown.iter().map(|one| format!("{one}\n")).collect::<String>()
        );
        assert!(self.asked >= at_least, "only {} questions asked", self.asked);
    }
}

/// Types worth asking for at every name.
const TYPES: [Rtype; 14] = [
    Rtype::A,
    Rtype::AAAA,
    Rtype::TXT,
    Rtype::MX,
    Rtype::CNAME,
    Rtype::DNAME,
    Rtype::NS,
    Rtype::DS,
    Rtype::SOA,
    Rtype::SRV,
    Rtype::PTR,
    Rtype::CAA,
    Rtype(65_280),
    Rtype::ANY,
];

#[test]
fn where_nsd_and_knot_agree_we_agree_and_where_they_differ_we_are_one_of_them() {
    let field = Field::new();
    let mut report = Report::default();
    let mut names: BTreeSet<Name> = field.names.iter().cloned().collect();
    for name in &field.names {
        // Below, beside and above what exists.
        names.extend(
            ["q", "*", "Q.W", "deep.er.q"]
                .iter()
                .filter_map(|label| Name::parse(&format!("{label}.{name}")).ok()),
        );
        names.extend(name.parent());
    }
    // Below a name server's name the peers compress against the question what we compress against the cut: some octets,
    // and at the very edge of 512 one glue RRset, of difference.
    let edges = ["big.rich.test.", "huge.rich.test."].map(|edge| Name::parse(edge).unwrap());
    let below_server = |name: &Name| {
        edges.iter().any(|edge| {
            name.is_below(edge)
                && field
                    .names
                    .iter()
                    .any(|server| server != edge && server.is_below(edge) && name.is_at_or_below(server))
        })
    };
    names.retain(|name| !below_server(name));
    for (index, name) in names.iter().enumerate() {
        for qtype in TYPES {
            let edns: &[Edns] = match index % 3 {
                0 => &[None, Some((1232, true))],
                1 => &[Some((512, false)), Some((4096, false))],
                _ => &[Some((700, true)), None],
            };
            for edns in edns {
                let packet = query(name, qtype.0, *edns);
                report.add(format!("{name} {qtype} {edns:?}"), field.differences(&packet, qtype.0));
            }
        }
    }
    odd_packets(&field, &mut report);
    whole_answers(&field, &mut report);
    report.finish(5000);
}

/// Packets that are not ordinary questions.
fn odd_packets(field: &Field, report: &mut Report) {
    for name in ["www.rich.test.", "nx.rich.test.", "x.sub.rich.test."].map(|name| Name::parse(name).unwrap()) {
        // Class ANY is answered like IN.
        let packet = query_with(name.wire(), 1, 255, None);
        report.add(format!("{name} class ANY"), field.differences(&packet, 1));
    }
    for (what, packet) in zones::odd_packets() {
        let wait = Duration::from_millis(300);
        let rcode = |bytes: Option<Vec<u8>>| {
            bytes.map_or("none".to_owned(), |bytes| {
                format!("{}", Response::decode(&bytes).map_or(99, |response| response.rcode))
            })
        };
        let ours = rcode(ask_raw(&field.ours, &packet, Transport::Udp).map(|(_, bytes)| bytes));
        let nsd = rcode(field.nsd.exchange(&packet, wait));
        let knot = rcode(field.knot.exchange(&packet, wait));
        // NOTIFY and AXFR over UDP are REFUSED by our own contract; NSD and Knot say NXDOMAIN, NOTAUTH and NOTIMP.
        let is_ours_alone = ["opcode 4", "qtype 252"].contains(&what.as_str()) && ours == "5";
        let wrong = ours != nsd && ours != knot && !is_ours_alone;
        report.add(
            what,
            if wrong {
                vec![format!("ours {ours}, nsd {nsd}, knot {knot}")]
            } else {
                Vec::new()
            },
        );
    }
}

/// What is truncated over UDP comes whole over TCP.
fn whole_answers(field: &Field, report: &mut Report) {
    for (label, qtype) in [
        ("many", Rtype::A),
        ("texts", Rtype::TXT),
        ("types", Rtype::MX),
        ("big", Rtype::A),
        ("huge", Rtype::A),
        ("chain0", Rtype::A),
    ] {
        let name = Name::parse(&format!("{label}.rich.test.")).unwrap();
        let packet = query(&name, qtype.0, None);
        let view = |bytes: Option<Vec<u8>>| self_view(field, bytes, qtype);
        let ours = view(ask_raw(&field.ours, &packet, Transport::Tcp).map(|(_, bytes)| bytes));
        let (nsd, knot) = (view(field.nsd.exchange_tcp(&packet)), view(field.knot.exchange_tcp(&packet)));
        let wrong = ours
            .iter()
            .zip(nsd.iter().zip(&knot))
            .filter(|(ours, (nsd, knot))| ours != nsd && ours != knot);
        report.add(
            format!("{name} {qtype} over TCP"),
            wrong.map(|(ours, _)| format!("{ours:?}")).collect(),
        );
    }
}

/// What is compared of a response in bytes.
fn self_view(field: &Field, bytes: Option<Vec<u8>>, qtype: Rtype) -> Vec<(&'static str, String)> {
    field.view(&Response::decode(&bytes.expect("an answer over TCP")).unwrap(), qtype.0)
}
