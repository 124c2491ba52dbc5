//! Promise 4 under kill -9: a server under a stream of switches is killed hundreds of times at random moments; nothing that was
//! acknowledged is lost, the chain verifies every time, and the node answers from its own disk.

mod support;

use pointsman::ledger::{self, Receipt};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use support::{PLAIN, Site};

/// How often the server is killed; a soak kills more.
fn kills() -> usize {
    if std::env::var_os("POINTSMAN_SOAK").is_some() { 2000 } else { 200 }
}

/// Numbers that look random and are the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Switches as fast as it can until the server is gone; sends each receipt with the region switched to.
fn stream(api: SocketAddr, first: bool, receipts: mpsc::Sender<(Receipt, bool)>) {
    let mut to_fra = first;
    loop {
        let region = if to_fra { "fra" } else { "iad" };
        let body = format!(r#"{{"to":"{region}","reason":"stream","override":["target-healthy"]}}"#);
        let request = format!(
            "POST /v1/names/shop.example.net./switch HTTP/1.1\r\nHost: {api}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let Some((200, answer)) = support::http(api, &request) else {
            return;
        };
        // An answer that was cut off by the kill was not received.
        let Ok(answer) = serde_json::from_str::<serde_json::Value>(&answer) else {
            return;
        };
        if answer["changed"] == true {
            let receipt = format!("{}:{}", answer["seq"], answer["hash"].as_str().unwrap()).parse().unwrap();
            if receipts.send((receipt, to_fra)).is_err() {
                return;
            }
        }
        to_fra = !to_fra;
    }
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let site = Site::new(PLAIN);
    let mut dice = Dice(42);
    let mut acknowledged: Vec<Receipt> = Vec::new();
    let mut torn = 0;
    for round in 0..kills() {
        let server = site.serve();
        let (sender, receipts) = mpsc::channel();
        let (api, first) = (site.api, dice.below(2) == 0);
        let client = thread::spawn(move || stream(api, first, sender));
        // So many receipts, then a moment later: the kill falls anywhere in a command's way.
        let mut last = None;
        for _ in 0..=dice.below(6) {
            last = Some(
                receipts
                    .recv_timeout(support::PATIENCE)
                    .unwrap_or_else(|_| panic!("no receipt in round {round}: {}", site.log())),
            );
            acknowledged.extend(last.map(|(receipt, _)| receipt));
        }
        for _ in 0..dice.below(20_000) {
            std::hint::spin_loop();
        }
        server.kill();
        client.join().unwrap();
        while let Ok((receipt, region)) = receipts.try_recv() {
            acknowledged.push(receipt);
            last = Some((receipt, region));
        }

        let octets = std::fs::read(pointsman::store::ledger_path(&site.data())).unwrap();
        let mut hashes = BTreeMap::new();
        let mut active = None;
        let scan = ledger::scan(&octets, |entry| {
            hashes.insert(entry.seq, entry.hash);
            if let Some(change) = entry.draft.body.moves().first() {
                active = Some(change.to.as_str() == "fra");
            }
        })
        .unwrap_or_else(|error| panic!("round {round}: {error}"));
        torn += usize::from(!scan.torn.is_empty());
        let from = acknowledged.len().saturating_sub(20);
        for receipt in &acknowledged[if round % 20 == 0 { 0 } else { from }..] {
            assert_eq!(
                hashes.get(&receipt.seq),
                Some(&receipt.hash),
                "round {round}: entry {} was acknowledged and is lost",
                receipt.seq
            );
        }
        // What is durable is what is answered after the next start.
        let server = site.serve();
        let address: IpAddr = if active == Some(true) { "127.0.2.1" } else { "127.0.1.1" }.parse().unwrap();
        assert_eq!(site.a("shop.example.net."), [address], "round {round}, last acknowledged {last:?}");
        server.kill();
    }
    println!(
        "{} switches acknowledged, {torn} torn lines, {} kills",
        acknowledged.len(),
        2 * kills()
    );
}
