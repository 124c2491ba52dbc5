//! Reads the keys of `kind = "dns"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value;
use super::{Read, or_default, port};
use crate::model::{DnsProbe, ProbeKind, Rtype, rcode};

/// Reads the keys of `kind = "dns"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.dns");
    let port = table.value(findings, "port", port);
    let qname = table.required(findings, "qname", "qname = \"example.net.\"", value::name);
    let qtype = table.value(findings, "qtype", value::rtype);
    let (port, qtype) = (or_default(table, "port", port, 53), or_default(table, "qtype", qtype, Rtype::A));
    let (mut expected_rcode, mut data) = (Some(rcode::NOERROR), Some(Vec::new()));
    if let Some((entries, span)) = table.table(findings, "expect") {
        let mut inner = Table::new(entries, span, "probe.dns.expect");
        let written = inner.value(findings, "rcode", value::rcode);
        expected_rcode = or_default(&inner, "rcode", written, rcode::NOERROR);
        let written = inner.array(findings, "data", "an array of strings", value::filled_text);
        data = or_default(&inner, "data", written, Vec::new()).map(|data| data.into_iter().map(|one| one.value).collect());
        if let (Some(code), Some(data)) = (expected_rcode, &data)
            && code != rcode::NOERROR
            && !data.is_empty()
        {
            findings.error(inner.key_span("data"), "`data` is looked for in answers with NOERROR only");
        }
        inner.finish(findings);
    }
    let expect_is_bad = table.is_bad("expect");
    Some(Read::plain(ProbeKind::Dns(DnsProbe {
        port: port?,
        qname: qname?.value,
        qtype: qtype?,
        rcode: expected_rcode?,
        data: data.filter(|_| !expect_is_bad)?,
    })))
}
