//! Fuzzes octets as lines of a ledger.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pointsman::ledger::fuzz_line(octets));
