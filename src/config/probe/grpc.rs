//! Reads the keys of `kind = "grpc"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value::{self, Bad};
use super::{Read, or_default, port, secure};
use crate::model::{GrpcProbe, ProbeKind};

/// Longest name of a service, octets.
const SERVICE_OCTETS_MAX: usize = 1024;

/// Reads the keys of `kind = "grpc"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.grpc");
    let port = table.required(findings, "port", "port = 50051", port);
    let service = table.value(findings, "service", |value| match value::text(value)? {
        service if service.len() > SERVICE_OCTETS_MAX => Err(Bad::new(format!("must not be longer than {SERVICE_OCTETS_MAX} octets"))),
        service => Ok(service),
    });
    let service = or_default(table, "service", service, String::new());
    let tls = secure::read(table, findings, &[("off", None), ("require", Some(()))]);
    Some(Read::plain(ProbeKind::Grpc(GrpcProbe {
        port: port?.value,
        service: service?,
        tls: tls?.map(|((), options)| options),
    })))
}
