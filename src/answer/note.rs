//! Extended DNS Errors (RFC 8914): a word in the answer for the person who asks why it is as it is.
//!
//! An answer with a note is still an answer: the note changes neither its code nor its records, is sent to clients with
//! EDNS only, and is left out where it would not fit. Texts are made beforehand.

use crate::model::{Decision, Reason};

/// A note on its way into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoteRef<'n> {
    /// The INFO-CODE (RFC 8914 §4).
    pub(super) code: u16,
    /// The text, UTF-8.
    pub(super) text: &'n str,
}

/// Prohibited (RFC 8914 §4.19): the zone's `allow-query` does not have the client.
pub(super) const PROHIBITED: NoteRef<'static> = NoteRef { code: 18, text: "" };
/// Not Authoritative (RFC 8914 §4.21): the name is in no zone of this server.
pub(super) const NOT_AUTHORITATIVE: NoteRef<'static> = NoteRef { code: 20, text: "" };
/// Not Supported (RFC 8914 §4.22): transfers, notifications and other classes.
pub(super) const NOT_OFFERED: NoteRef<'static> = NoteRef { code: 21, text: "" };

/// Not Ready (RFC 8914 §4.15): the server is not fully functional.
pub(super) fn not_ready(text: &str) -> NoteRef<'_> {
    NoteRef { code: 14, text }
}

/// What is to be said of a steered name's answer: that nobody is well, that nobody knows, or that it is not the home's because that is
/// drained. Nothing where all is as it should be, and nothing about the health of names that are not probed: there nobody ever knows.
pub(super) fn on(decision: &Decision, is_probed: bool) -> Option<NoteRef<'static>> {
    // Other Error (RFC 8914 §4.1): the registered codes are about resolving.
    let other = |text| Some(NoteRef { code: 0, text });
    match decision.reason {
        Reason::AllDownActive => other("all-down-active: the active region is unhealthy, all of it is answered"),
        Reason::AllDownAll => other("all-down-all: the active region is unhealthy, every permitted region is answered"),
        Reason::AllDownServfail => other("all-down-servfail: the active region is unhealthy, SERVFAIL as configured"),
        Reason::AllDownInstead => other("all-down-instead: the active region is unhealthy, the configured stand-in is answered"),
        Reason::WaitingToMove => other("waiting-to-move: the active region is unhealthy, a move is under way"),
        Reason::Unknown if is_probed => other("unknown: no fresh evidence on the active region"),
        _ if decision.is_home_drained => other("drained: the home region is drained, the active one is answered"),
        Reason::Unknown | Reason::Healthy | Reason::Degraded => None,
    }
}
