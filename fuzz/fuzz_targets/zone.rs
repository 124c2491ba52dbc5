//! Fuzzes octets as a zone file.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pointsman::zone::fuzz::fuzz(octets));
