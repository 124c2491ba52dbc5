//! Reads the keys of `kind = "icmp"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value;
use super::{Read, expect, or_default};
use crate::model::{IcmpProbe, ProbeKind};

/// Fewest octets of a payload: what tells an answer from another one.
const PAYLOAD_OCTETS_MIN: u64 = 16;
/// Most octets of a payload: those of a jumbo frame.
const PAYLOAD_OCTETS_MAX: u64 = 8_952;

/// Reads the keys of `kind = "icmp"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.icmp");
    let payload_octets = table.value(findings, "payload-octets", |value| {
        let octets = value::number(value, PAYLOAD_OCTETS_MIN, PAYLOAD_OCTETS_MAX)?;
        Ok(u16::try_from(octets).unwrap_or(u16::MAX))
    });
    let payload_octets = or_default(table, "payload-octets", payload_octets, 32);
    let expect = expect::facts(table, findings, "probe.icmp.expect", &["rtt-ms"]);
    let kind = ProbeKind::Icmp(IcmpProbe {
        payload_octets: payload_octets?,
    });
    let expect = expect?;
    Some(Read {
        expect,
        ..Read::plain(kind)
    })
}
