//! What a snapshot is made of: the index of names, the RRsets and referrals of all zones, the steered slots.
//!
//! Everything of the zones lies in a few flat arrays that are written once by `build` and shared by all
//! snapshots until the next reload; numbers of 32 bits take the place of pointers.
//!
//! ```text
//! hash ─▶ table: 8 octets a name (hash, node number), probed in a row
//!           └─▶ node: 32 octets, two a line (where its name is, its RRsets, zone, wildcard, slot)
//!                 ├─▶ bytes: the name, and right behind it the name's pieces: what is compared and what is copied
//!                 └─▶ rrset: 32 octets, two a line (type, where its piece is)
//! ```
//!
//! A look-up of a name that nobody asked for lately so touches four lines of cache: entry, node, name with piece, RRset.
//! Misses a response, counted by `cargo bench --bench misses` (a simulation; a million static names and a hundred thousand steered ones, asked all
//! over; none on names in use):
//!
//! | | entry | node | name | RRset or slot | rest | all | of them beyond 32 MiB |
//! |---|---:|---:|---:|---:|---:|---:|---:|
//! | static name | 1.06 | 1.00 | 1.01 | 1.00 | 0.09 | 4.2 | 3.8 |
//! | name that does not exist | 1.22 | | | | | 1.2 | 0.9 |
//! | steered name | 1.19 | 1.00 | 1.01 | 5.03 | 1.00 | 9.2 | 5.6 |
//!
//! `all` is of a first level of 32 KiB; a last level of 1 MiB saves at most one of them. A table that keeps control octets apart, and records
//! across two lines, had 6.0 where a static name has 4.2. The entry, node and name of a static name follow one from the other, the RRset comes with the
//! name, so three waits in a row are left. A static name with one A record takes 120 octets.

use super::cookie::CookieSecrets;
use super::piece::{Fix, PieceRef, WrittenName};
use super::query::LowerName;
use super::steered::{Slot, Slots, SteeredId, SteeredInput, SteeredNames};
use super::table::NameTable;
use crate::model::{Decision, Name, PrefixSet, RateLimit};
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// No node, no slot, nothing: the 32-bit number that is never given.
pub(super) const NONE: u32 = u32::MAX;

/// Everything that is answered, immutable. Cloning is cheap; structure is shared.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the zones say.
    pub(super) world: Arc<World>,
    /// What the steered names answer.
    pub(super) slots: Slots,
    /// What the node adds.
    pub(super) service: Arc<Service>,
}

/// What the node adds to its answers and how it bounds them, whatever is asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// The name server identifier (RFC 5001), given to whoever asks for it; empty: none.
    pub nsid: Vec<u8>,
    /// The secrets of DNS cookies; none: no cookies are given. Lanes hand them to `respond` in [`Ctx`](super::Ctx).
    pub cookies: Option<CookieSecrets>,
    /// How often one network is answered over UDP; none: as often as it asks. The lanes hold to it.
    pub rate_limit: Option<RateLimit>,
    /// Why the node is not all that it should be, said with the answers of steered names (RFC 8914); none: it is.
    pub not_ready: Option<String>,
}

/// What is compiled besides zones and names.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What the node adds.
    pub service: Service,
    /// Who may ask for the names of a zone, by its apex; everybody for the others.
    pub access: Vec<(Name, PrefixSet)>,
}

impl Snapshot {
    /// The snapshot with some names decided anew. Costs what changed, not what there is. Names that are not
    /// steered here are passed over: they need a [`Snapshot::build`].
    pub fn with(&self, changed: &[SteeredInput]) -> Snapshot {
        let mut slots = self.slots.clone();
        for input in changed {
            if let Some(id) = self.world.steered.id(&input.name) {
                slots.change(id, input);
            }
        }
        Snapshot {
            world: self.world.clone(),
            slots,
            service: self.service.clone(),
        }
    }

    /// What the node adds; the same `Arc` in every snapshot that came from one [`Snapshot::build`].
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The snapshot with other decisions on names whose regions answer as before: what health and roles change. Costs what
    /// changed; names that are not steered here are passed over.
    pub fn decided<'d>(&self, decisions: impl IntoIterator<Item = &'d Arc<Decision>>) -> Snapshot {
        let mut slots = self.slots.clone();
        let by_name = decisions.into_iter().map(|decision| (&decision.name, decision.as_ref()));
        slots.decide(self.world.steered.ids_of(by_name));
        Snapshot {
            world: self.world.clone(),
            slots,
            service: self.service.clone(),
        }
    }

    /// RRsets served: those of the zone files and those that the steered names have in any region.
    pub fn rrset_count(&self) -> usize {
        self.world.rrset_count + self.slots.rrset_count()
    }

    /// The steered names; the same `Arc` in every snapshot that came from one [`Snapshot::build`].
    pub fn steered(&self) -> &Arc<SteeredNames> {
        &self.world.steered
    }

    /// The name of an id of this snapshot.
    pub fn steered_name(&self, id: SteeredId) -> Option<&Name> {
        self.world.steered.name(id)
    }

    /// The slot of a node's steered name.
    #[inline(always)]
    pub(super) fn slot(&self, node: &Node) -> Option<(SteeredId, &Slot)> {
        if node.steered == NONE {
            return None;
        }
        let id = SteeredId(node.steered);
        Some((id, self.slots.get(id)?))
    }
}

/// What the zones say.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Node numbers by name.
    pub(super) table: NameTable,
    /// Hashes names, seeded so that nobody outside can aim for collisions.
    pub(super) hasher: NameHasher,
    /// Most labels of any name in the table.
    pub(super) labels_max: u8,
    /// Nodes by number. Those that only [`Node::extra`] leads to are not in the table.
    pub(super) nodes: Vec<Node>,
    /// RRsets; those of a node are neighbours, sorted by type.
    pub(super) rrsets: Vec<Rrset>,
    /// Zones by number.
    pub(super) zones: Vec<ZoneRecord>,
    /// Who may ask, for the zones that say so.
    pub(super) access: Vec<PrefixSet>,
    /// Referrals by number.
    pub(super) referrals: Vec<Referral>,
    /// Where the glue RRsets of referrals end.
    pub(super) glue_ends: Vec<GlueEnd>,
    /// Names, pieces and targets of CNAMEs and DNAMEs.
    pub(super) bytes: Vec<u8>,
    /// Pointers of the pieces.
    pub(super) fixes: Vec<Fix>,
    /// The steered names.
    pub(super) steered: Arc<SteeredNames>,
    /// RRsets of the zone files.
    pub(super) rrset_count: usize,
}

/// Hashes wire names in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct NameHasher(FixedState);

impl NameHasher {
    /// A hasher of its own for each seed.
    pub(super) fn new(seed: u64) -> NameHasher {
        NameHasher(FixedState::with_seed(seed))
    }

    /// The hash of a wire name in lower case.
    #[inline(always)]
    pub(super) fn hash(&self, name: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(name);
        hasher.finish()
    }
}

/// A name that exists. Aligned so that it lies in one line of cache, two of them a line.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Node {
    /// Where its name (lower case) lies.
    pub(super) name_at: u32,
    /// Its first RRset.
    pub(super) rrsets_at: u32,
    /// Its zone.
    pub(super) zone: u32,
    /// The node of `*` below it, or [`NONE`].
    pub(super) wildcard: u32,
    /// With [`Node::CUT`] its referral; with [`Node::APEX`] the node that the parent zone, served here too, has for this name, or [`NONE`].
    pub(super) extra: u32,
    /// Number of its slot, or [`NONE`].
    pub(super) steered: u32,
    /// Its RRsets.
    pub(super) rrset_count: u16,
    /// Octets of its name.
    pub(super) name_len: u8,
    /// What it is.
    pub(super) flags: u8,
}

impl Node {
    /// The apex of its zone.
    pub(super) const APEX: u8 = 1;
    /// A zone cut: has NS and is no apex.
    pub(super) const CUT: u8 = 2;
    /// Has a DNAME.
    pub(super) const DNAME: u8 = 4;
    /// Has a CNAME.
    pub(super) const CNAME: u8 = 8;

    /// Whether it is any of these.
    pub(super) fn is(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// A piece in the arenas.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StoredPiece {
    /// Its octets.
    pub(super) at: u32,
    /// How many.
    pub(super) len: u32,
    /// Its pointers.
    pub(super) fixes_at: u32,
    /// How many.
    pub(super) fixes_len: u16,
    /// Records.
    pub(super) records: u16,
}

/// An RRset; aligned as a node is.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Rrset {
    /// Its records.
    pub(super) piece: StoredPiece,
    /// For CNAME and DNAME: how the target is written.
    pub(super) written: WrittenName,
    /// For CNAME (lower case) and DNAME (as in the file): where the target lies, its length before it.
    pub(super) target_at: u32,
    /// Its type.
    pub(super) rtype: u16,
}

/// A zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct ZoneRecord {
    /// The node of its apex.
    pub(super) apex: u32,
    /// Who may ask: a number in [`World::access`], or [`NONE`] for everybody.
    pub(super) access: u32,
    /// Octets of its apex.
    pub(super) apex_octets: u8,
    /// The SOA record with the TTL of negative answers (RFC 2308 §3).
    pub(super) negative: StoredPiece,
}

/// What is answered at and below a zone cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Referral {
    /// NS records, then glue.
    pub(super) piece: StoredPiece,
    /// Octets of the NS records.
    pub(super) ns_octets: u32,
    /// NS records.
    pub(super) ns_records: u16,
    /// Glue RRsets.
    pub(super) glue_len: u16,
    /// The first of their ends.
    pub(super) glue_at: u32,
}

/// The end of a glue RRset in its referral.
#[derive(Debug, Clone, Copy)]
pub(super) struct GlueEnd {
    /// Octets of the referral up to its end.
    pub(super) octets: u32,
    /// Records in it.
    pub(super) records: u16,
    /// Whether the name server lies below the cut, so that nobody finds it without (RFC 9471 §2.1).
    pub(super) is_required: bool,
}

impl World {
    /// The node of a name that is in the table.
    #[inline(always)]
    pub(super) fn find(&self, name: &[u8]) -> Option<&Node> {
        self.node(self.find_number(name)?)
    }

    /// The number of the node of a name that is in the table.
    #[inline(always)]
    pub(super) fn find_number(&self, name: &[u8]) -> Option<u32> {
        self.find_hashed(name, self.hasher.hash(name))
    }

    /// The same, for who has the name's hash already.
    #[inline(always)]
    pub(super) fn find_hashed(&self, name: &[u8], hash: u64) -> Option<u32> {
        let is_it = |number| self.node(number).is_some_and(|node| self.name(node) == name);
        self.table.find(hash, is_it)
    }

    /// The node of the longest suffix of `name` that exists, and whether it is the whole name: the closest
    /// encloser (RFC 4592 §3.3.1). None where no zone of ours encloses it.
    #[inline(always)]
    pub(super) fn closest(&self, name: &LowerName) -> Option<(&Node, bool)> {
        let mut rest = name.wire();
        // Names with more labels than any of ours need no look-up: this bounds the work for absurd ones.
        let excess = name.labels().saturating_sub(self.labels_max);
        for _ in 0..excess {
            rest = parent(rest)?;
        }
        let mut is_whole = excess == 0;
        loop {
            if let Some(node) = self.find(rest) {
                return Some((node, is_whole));
            }
            rest = parent(rest)?;
            is_whole = false;
        }
    }

    /// A node by its number.
    #[inline(always)]
    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    /// The name of a node, in lower case.
    #[inline(always)]
    pub(super) fn name(&self, node: &Node) -> &[u8] {
        self.octets(node.name_at, usize::from(node.name_len))
    }

    /// The RRsets of a node, sorted by type.
    #[inline(always)]
    pub(super) fn rrsets(&self, node: &Node) -> &[Rrset] {
        let at = node.rrsets_at as usize;
        self.rrsets.get(at..at + usize::from(node.rrset_count)).unwrap_or(&[])
    }

    /// The RRset of a type at a node.
    #[inline(always)]
    pub(super) fn rrset(&self, node: &Node, rtype: u16) -> Option<&Rrset> {
        self.rrsets(node).iter().find(|rrset| rrset.rtype == rtype)
    }

    /// The zone of a node.
    #[inline(always)]
    pub(super) fn zone(&self, node: &Node) -> Option<&ZoneRecord> {
        self.zones.get(node.zone as usize)
    }

    /// Whether a client may ask for the names of a zone.
    pub(super) fn admits(&self, zone: u32, client: IpAddr) -> bool {
        let access = self.zones.get(zone as usize).map_or(NONE, |zone| zone.access);
        access == NONE || self.access.get(access as usize).is_none_or(|set| set.contains(client))
    }

    /// The piece as it can be joined; it was laid for an owner of `laid_octets` octets.
    #[inline(always)]
    pub(super) fn piece(&self, piece: &StoredPiece, laid_octets: u8) -> PieceRef<'_> {
        let fixes = piece.fixes_at as usize;
        PieceRef {
            bytes: self.octets(piece.at, piece.len as usize),
            fixes: self.fixes.get(fixes..fixes + usize::from(piece.fixes_len)).unwrap_or(&[]),
            records: piece.records,
            laid_octets,
        }
    }

    /// The target of a CNAME or DNAME.
    pub(super) fn target(&self, rrset: &Rrset) -> &[u8] {
        let len = self.octets(rrset.target_at, 1).first().copied().unwrap_or(0);
        self.octets(rrset.target_at.saturating_add(1), usize::from(len))
    }

    /// The ends of a referral's glue RRsets.
    pub(super) fn glue_ends(&self, referral: &Referral) -> &[GlueEnd] {
        let at = referral.glue_at as usize;
        self.glue_ends.get(at..at + usize::from(referral.glue_len)).unwrap_or(&[])
    }

    /// A stretch of the arena.
    #[inline(always)]
    fn octets(&self, at: u32, len: usize) -> &[u8] {
        self.bytes.get(at as usize..at as usize + len).unwrap_or(&[])
    }
}

/// A wire name without its first label; none for the root.
#[inline(always)]
pub(super) fn parent(name: &[u8]) -> Option<&[u8]> {
    match usize::from(*name.first()?) {
        0 => None,
        len => name.get(1 + len..),
    }
}
