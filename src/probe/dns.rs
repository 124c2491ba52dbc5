//! `kind = "dns"`: one query over UDP, again over TCP when the answer is truncated.

use super::query::Query;
use super::words::{clip, failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{DnsProbe, FailReason, Failure, ProbeTarget, rcode};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use std::net::{IpAddr, SocketAddr};

/// Most different answers that a message names.
const ANSWERS_NAMED_MAX: usize = 4;

/// One probe at one address.
pub(super) struct Dns {
    /// Where to.
    peer: SocketAddr,
    /// What to ask and what to expect.
    probe: DnsProbe,
}

impl Dns {
    /// The probe at its target.
    pub fn new(probe: &DnsProbe, target: &ProbeTarget) -> Dns {
        Dns {
            peer: SocketAddr::new(target.address, probe.port),
            probe: probe.clone(),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Result<String, Failure> {
        let query = Query::new(&self.probe.qname, RecordType::from(self.probe.qtype.0))?;
        self.judge(&query.ask(self.peer, stage).await?)
    }

    /// Whether the answer is as expected.
    fn judge(&self, answer: &Message) -> Result<String, Failure> {
        let code = u16::from(answer.metadata.response_code);
        if code != u16::from(self.probe.rcode) {
            let name = u8::try_from(code).map_or_else(|_| format!("RCODE{code}").into(), rcode::name);
            let message = format!("answer is {name}, expected {}", rcode::name(self.probe.rcode));
            return Err(failure(FailReason::Status, message));
        }
        if self.probe.data.is_empty() {
            return Ok(format!("answer is {}", rcode::name(self.probe.rcode)));
        }
        let wanted = RecordType::from(self.probe.qtype.0);
        let records = answer.answers.iter().filter(|record| record.record_type() == wanted);
        let found: Vec<String> = records.map(|record| record.data.to_string()).collect();
        if found.iter().any(|one| self.probe.data.iter().any(|data| alike(one, data))) {
            return Ok(format!("answer is {}", list(&found)));
        }
        let kind = self.probe.qtype;
        let expected = list(&self.probe.data);
        let message = match found.len() {
            0 => format!("answer has no {kind} record, expected {expected}"),
            _ => format!("answer is {}, expected {expected}", list(&found)),
        };
        Err(failure(FailReason::Content, message))
    }
}

impl Kind for Dns {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move { Found::of(self.check(stage).await) })
    }
}

/// Whether two presentation forms say the same: addresses by value, the rest without case, quotes and final dot.
fn alike(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => plain(a) == plain(b),
    }
}

/// The form in which [`alike`] compares.
fn plain(text: &str) -> String {
    let words = text.split_ascii_whitespace().map(|word| {
        let word = word.replace('"', "").to_ascii_lowercase();
        word.strip_suffix('.').map(str::to_owned).unwrap_or(word)
    });
    words.collect::<Vec<String>>().join(" ")
}

/// Some of the data, for a message.
fn list(data: &[String]) -> String {
    let mut named: Vec<String> = data.iter().take(ANSWERS_NAMED_MAX).map(|one| clip(one, 60)).collect();
    if data.len() > ANSWERS_NAMED_MAX {
        named.push("…".to_owned());
    }
    named.join(" or ")
}
