//! Tests of the module as a whole: reading, checks of the whole zone, round trips, fuzzing.

mod lookups;
mod reading;
mod roundtrip;
mod steering;

use super::{Loaded, Source, read};
use crate::model::{Diagnostic, Name};

/// A name.
fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A zone file of its own.
fn source(text: &str) -> Source {
    Source {
        path: "test.zone".into(),
        text: text.as_bytes().to_vec(),
    }
}

/// Reads a text as the zone `e.`, without includes.
fn read_text(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    read(&source(text), &name("e."), &mut |_, _| Err("there are no includes here".into()))
}

/// SOA and NS of the zone `e.` before other lines.
const HEAD: &str = "$ORIGIN e.\n$TTL 300\n@ SOA ns.x. h.x. 1 2 3 4 5\n@ NS ns.x.\n";

/// Reads lines behind [`HEAD`].
fn read_lines(lines: &str) -> Result<Loaded, Vec<Diagnostic>> {
    read_text(&format!("{HEAD}{lines}"))
}

/// The zone of lines behind [`HEAD`], which must be good.
fn zone(lines: &str) -> super::Zone {
    match read_lines(lines) {
        Ok(loaded) => loaded.zone,
        Err(errors) => panic!("{}", show(&errors)),
    }
}

/// Findings as text.
fn show(found: &[Diagnostic]) -> String {
    found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}
