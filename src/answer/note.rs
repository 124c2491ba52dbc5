//! Extended DNS Errors (RFC 8914): a word in the answer for the person who asks why it is as it is.
//!
//! An answer with a note is still an answer: the note changes neither its code nor its records, is sent to clients with
//! EDNS only, and is left out where it would not fit.

/// A note on a steered name's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The INFO-CODE (RFC 8914 §4); 0 leaves all to the text.
    pub code: u16,
    /// The text, UTF-8.
    pub text: String,
}

impl Note {
    /// Other Error (RFC 8914 §4.1): none of the registered codes fits.
    pub const OTHER: u16 = 0;
    /// Not Ready (RFC 8914 §4.15): the server is not fully functional.
    pub const NOT_READY: u16 = 14;

    /// A view of it.
    pub(super) fn view(&self) -> NoteRef<'_> {
        NoteRef {
            code: self.code,
            text: &self.text,
        }
    }
}

/// A note on its way into a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoteRef<'n> {
    /// See [`Note::code`].
    pub(super) code: u16,
    /// See [`Note::text`].
    pub(super) text: &'n str,
}

/// Prohibited (RFC 8914 §4.19): the zone's `allow-query` does not have the client.
pub(super) const PROHIBITED: NoteRef<'static> = NoteRef { code: 18, text: "" };
/// Not Authoritative (RFC 8914 §4.21): the name is in no zone of this server.
pub(super) const NOT_AUTHORITATIVE: NoteRef<'static> = NoteRef { code: 20, text: "" };
/// Not Supported (RFC 8914 §4.22): transfers, notifications and other classes.
pub(super) const NOT_OFFERED: NoteRef<'static> = NoteRef { code: 21, text: "" };
