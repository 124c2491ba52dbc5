//! Identifiers and counters: regions, applications, and one newtype a counter so that they cannot be mixed up.
//!
//! [`Seq`] counts ledger entries, [`Generation`] counts published snapshots of one process, [`Serial`]
//! is a zone's SOA serial with the arithmetic of RFC 1982 and therefore without `Ord`.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::cmp::Ordering;
use std::fmt;

/// Makes a cheap, ordered string identifier. A short one stands in place: two threads that copy one region's a hundred thousand
/// times would otherwise contend for its count of owners, and every comparison would fetch the text from elsewhere.
macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(SmolStr);

        impl $name {
            /// Takes the text as it is; the config checks its form.
            pub fn new(text: &str) -> $name {
                $name(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id! {
    /// A region: a place that can serve applications, `iad`.
    RegionId
}
string_id! {
    /// An application, `shop`: a label for what belongs together, never the key of a role.
    AppId
}

/// Makes a counter that starts at 0 ("none yet") and only ever grows.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            pub fn next(self) -> $name {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Number of a ledger entry, from 1. The version of a name is the `Seq` of the last entry that changed its roles.
    Seq
}
counter! {
    /// Number of a published snapshot, from 1 at each start; never compared across starts or nodes.
    Generation
}

/// A zone's SOA serial. Compared by RFC 1982, where some pairs have no order; hence no `Ord`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub u32);

impl Serial {
    /// Whether this serial is later than `other` (RFC 1982 §3.2); false where the order is undefined.
    pub fn is_after(self, other: Serial) -> bool {
        self.partial_cmp(&other) == Some(Ordering::Greater)
    }
}

impl PartialOrd for Serial {
    fn partial_cmp(&self, other: &Serial) -> Option<Ordering> {
        match self.0.wrapping_sub(other.0) {
            0 => Some(Ordering::Equal),
            0x8000_0000 => None,
            difference if difference < 0x8000_0000 => Some(Ordering::Greater),
            _ => Some(Ordering::Less),
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_wrap_as_in_rfc_1982() {
        assert!(Serial(1).is_after(Serial(0)));
        assert!(Serial(0).is_after(Serial(u32::MAX)));
        assert!(!Serial(0).is_after(Serial(0)));
        assert_eq!(Serial(0).partial_cmp(&Serial(0x8000_0000)), None);
    }
}
