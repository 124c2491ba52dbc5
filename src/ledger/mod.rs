//! Encoding, hash chain, replay, verification.
