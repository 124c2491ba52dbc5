//! Fuzzes octets as a config and what it names.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pointsman::config::fuzz::fuzz(octets));
