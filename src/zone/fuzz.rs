//! Fuzz body of the zone reader: a plain function that a fuzzer and the seeded smoke test call.

use super::{Source, ZoneSet, lookup, parse_rdata, print_rdata, read};
use crate::model::{Name, Rtype};
use std::sync::Arc;

/// Reads the octets as a zone file that may include itself under another name, and holds the reader to its
/// promises: no panic, an error where there is no zone, what is printed reads back, every name is answered.
///
/// # Panics
/// When a promise is broken; that is what the fuzzer looks for.
pub fn fuzz(bytes: &[u8]) {
    let source = Source {
        path: "fuzz.zone".into(),
        text: bytes.to_vec(),
    };
    let mut included = 0;
    let mut include = |path: &str, _from: &str| {
        included += 1;
        if included > 3 {
            return Err("enough".to_string());
        }
        Ok(Source {
            path: format!("{included}-{path}"),
            text: bytes.get(bytes.len() / 2..).unwrap_or_default().to_vec(),
        })
    };
    let apex = Name::parse("example.net.").unwrap_or_else(|_| Name::root());
    match read(&source, &apex, &mut include) {
        Err(errors) => assert!(
            !errors.is_empty() && errors.iter().all(|error| !error.to_string().is_empty()),
            "no zone and no error"
        ),
        Ok(loaded) => {
            let zone = Arc::new(loaded.zone);
            let zones = ZoneSet::new([zone.clone()]);
            for (name, node) in zone.nodes() {
                for rrset in &node.rrsets {
                    for rdata in &rrset.rdata {
                        let text = print_rdata(rrset.rtype, rdata);
                        assert_eq!(parse_rdata(rrset.rtype, &text, &apex).as_deref(), Ok(rdata), "{text}");
                    }
                    lookup(&zones, name, rrset.rtype);
                }
                lookup(&zones, name, Rtype::ANY);
            }
        }
    }
}
