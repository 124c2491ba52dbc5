//! Fuzzes octets as a DNS query.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pointsman::answer::fuzz::fuzz(octets));
