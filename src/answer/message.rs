//! A response while it is being written: sections in order, counts, and where names stand.
//!
//! Names of a chain (the question, then each CNAME target) stand at *places*; a suffix of such a name is
//! addressed by its length in octets, which stays the same however the name in front of it changes. That
//! is what makes pieces relocatable: a pointer "to the suffix of 13 octets" is right for the owner that
//! the zone has, for a wildcard's match and at the end of a chain.
//!
//! Invariants: a place's tail is an earlier place, so resolving ends; every place lies in the first 16 KiB,
//! which the limits on chains guarantee (see [`PLACES_MAX`]).

use super::Out;
use super::index::{GlueEnd, Referral};
use super::opt::Opt;
use super::piece::{PieceRef, Target};
use super::query::{HEADER_OCTETS, Query};

/// Most names in a chain, the question's included: 5 aliases are followed, as in Knot; a resolver asks on from
/// there. Each adds at most 12 + 255 octets of CNAME and as much of DNAME, so the last place stays below 3 KiB,
/// where 14-bit pointers reach, and so do pointers into the first 4 KiB of a piece behind it.
pub(super) const PLACES_MAX: usize = crate::zone::ALIASES_MAX + 1;
/// Where the question's name stands.
pub(super) const QNAME_AT: usize = HEADER_OCTETS;

/// AA in the third octet of the header.
const AA: u8 = 0x04;
/// TC in the third octet of the header.
const TC: u8 = 0x02;

/// Where a name of the chain stands in the message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Offset of its first octet.
    pub(super) at: u16,
    /// Octets of the whole name, uncompressed.
    pub(super) len: u8,
    /// Octets written in full before the pointer; `len` when there is none.
    pub(super) plain: u8,
    /// The place whose suffix the pointer leads to.
    pub(super) tail: u8,
}

/// An owner: the suffix of `octets` octets of the name at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    /// Index of the place.
    pub(super) place: u8,
    /// Length of the suffix.
    pub(super) octets: u8,
}

/// The sections that RRsets are joined to; glue comes with its referral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
}

/// A record or RRset did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The response being written.
pub(super) struct Message<'m> {
    /// The caller's buffer.
    buf: &'m mut [u8],
    /// Octets written.
    at: usize,
    /// Octets of header and question.
    head_len: usize,
    /// Most octets, room for OPT already taken off.
    limit: usize,
    /// Octets kept free behind `limit` for OPT.
    opt_octets: usize,
    /// Questions: one, or none where only a cookie is asked for.
    questions: u16,
    /// Records in answer, authority and additional section.
    counts: [u16; 3],
    /// Where the names of the chain stand.
    places: [Place; PLACES_MAX],
    /// How many of them.
    place_count: u8,
    /// AA and TC.
    flags: u8,
    /// Response code with the upper bits.
    rcode: u8,
}

impl<'m> Message<'m> {
    /// Begins a response: header and question are those of the query, and `opt_octets` stay free for OPT. None when the
    /// buffer is too small for them.
    #[inline(always)]
    pub(super) fn start(out: &'m mut Out<'_>, query: &Query<'_>, limit: usize, opt_octets: usize) -> Option<Message<'m>> {
        let buf = &mut *out.bytes;
        let limit = limit.min(buf.len()).checked_sub(opt_octets)?;
        let head_len = query.head.len();
        if head_len > limit {
            return None;
        }
        buf.get_mut(..head_len)?.copy_from_slice(query.head);
        let mut places = [Place::default(); PLACES_MAX];
        let len = u8::try_from(query.qname.wire.len()).ok()?;
        *places.first_mut()? = Place {
            at: QNAME_AT as u16,
            len,
            plain: len,
            tail: 0,
        };
        Some(Message {
            buf,
            at: head_len,
            head_len,
            limit,
            opt_octets,
            questions: u16::from(!query.is_cookie_only),
            counts: [0; 3],
            places,
            place_count: 1,
            flags: 0,
            rcode: 0,
        })
    }

    /// Sets the response code.
    pub(super) fn set_rcode(&mut self, rcode: u8) {
        self.rcode = rcode;
    }

    /// Says that the answer is authoritative.
    pub(super) fn set_authoritative(&mut self) {
        self.flags |= AA;
    }

    /// Says that something was left out (RFC 2181 §9).
    pub(super) fn set_truncated(&mut self) {
        self.flags |= TC;
    }

    /// Throws every record away and the AA and TC flags with them.
    pub(super) fn clear(&mut self) {
        self.at = self.head_len;
        self.counts = [0; 3];
        self.flags = 0;
    }

    /// Offset of the next octet to be written.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Where the suffix of `octets` octets of the name at a place stands.
    #[inline(always)]
    fn resolve(&self, place: u8, octets: u8) -> u16 {
        let mut index = place;
        loop {
            let Some(place) = self.places.get(usize::from(index)) else {
                return QNAME_AT as u16;
            };
            let skipped = place.len.saturating_sub(octets);
            if skipped < place.plain || place.tail >= index {
                return place.at + u16::from(skipped);
            }
            index = place.tail;
        }
    }

    /// Adds a place; its index, or none when the chain is too long.
    pub(super) fn add_place(&mut self, place: Place) -> Option<u8> {
        let index = self.place_count;
        *self.places.get_mut(usize::from(index))? = place;
        self.place_count += 1;
        Some(index)
    }

    /// Whether no further alias may be followed.
    pub(super) fn is_chain_full(&self) -> bool {
        usize::from(self.place_count) >= PLACES_MAX
    }

    /// Whether a name (lower case) is already one of the chain's.
    pub(super) fn chain_holds(&self, name: &[u8]) -> bool {
        (0..self.place_count).any(|place| self.is_name_at(place, name))
    }

    /// Whether a name of the chain before `place` lay below `owner` (lower case).
    pub(super) fn chain_was_below(&self, place: u8, owner: &[u8]) -> bool {
        (0..place).any(|place| {
            let mut octets = self.places.get(usize::from(place)).map_or(0, |place| place.len);
            while usize::from(octets) > owner.len() {
                let label = self.buf.get(usize::from(self.resolve(place, octets))).copied().unwrap_or(0);
                octets = octets.saturating_sub(1 + label);
            }
            usize::from(octets) == owner.len() && self.is_suffix_at(place, owner)
        })
    }

    /// Whether the name at a place is this one.
    fn is_name_at(&self, place: u8, name: &[u8]) -> bool {
        self.places
            .get(usize::from(place))
            .is_some_and(|place| usize::from(place.len) == name.len())
            && self.is_suffix_at(place, name)
    }

    /// Whether the last labels of the name at a place, as many octets as `suffix` has, are these: compared label for label.
    fn is_suffix_at(&self, place: u8, suffix: &[u8]) -> bool {
        let mut rest = suffix;
        while let Some((label, behind)) = rest.split_at_checked(1 + rest.first().map_or(0, |len| usize::from(*len))) {
            let at = usize::from(self.resolve(place, rest.len() as u8));
            let same = self
                .buf
                .get(at..at + label.len())
                .is_some_and(|written| written.eq_ignore_ascii_case(label));
            if !same {
                return false;
            }
            if behind.is_empty() {
                return true;
            }
            rest = behind;
        }
        false
    }

    /// Takes `octets` more octets for `records` records of a section.
    ///
    /// # Errors
    /// When they do not fit; nothing is changed then.
    #[inline(always)]
    fn take(&mut self, section: Section, records: u16, octets: usize) -> Result<(usize, &mut [u8]), Full> {
        let start = self.at;
        let end = start + octets;
        if end > self.limit {
            return Err(Full);
        }
        let [answer, authority, _] = &mut self.counts;
        let count = match section {
            Section::Answer => answer,
            Section::Authority => authority,
        };
        *count = count.saturating_add(records); // 65,535 octets hold fewer records
        self.at = end;
        let taken = self.buf.get_mut(start..end).ok_or(Full)?;
        Ok((start, taken))
    }

    /// Whether a piece that was laid for an owner of `octets` octets right behind the question is right as it is.
    #[inline(always)]
    fn is_as_laid(&self, owner: Owner) -> bool {
        owner.place == 0 && self.at == self.head_len && self.places.first().is_some_and(|qname| qname.len == owner.octets)
    }

    /// Joins a piece with this owner: copies it and, away from the place it was laid for, patches its pointers.
    ///
    /// # Errors
    /// When it does not fit; nothing is changed then.
    #[inline(always)]
    pub(super) fn join(&mut self, section: Section, piece: PieceRef<'_>, owner: Owner) -> Result<(), Full> {
        let as_laid = self.is_as_laid(owner) && piece.laid_octets == owner.octets;
        let owner_at = self.resolve(owner.place, owner.octets);
        let start = self.at;
        self.take(section, piece.records, piece.bytes.len())?.1.copy_from_slice(piece.bytes);
        if as_laid {
            return Ok(());
        }
        for fix in piece.fixes {
            if usize::from(fix.at) >= piece.bytes.len() {
                break; // of a referral whose glue does not fit
            }
            let target = match fix.target() {
                Target::Owner => owner_at,
                Target::Suffix(octets) => self.resolve(owner.place, octets),
                Target::Local(offset) => (start as u16).saturating_add(offset),
            };
            self.set_pointer(start + usize::from(fix.at), target);
        }
        Ok(())
    }

    /// Writes a compression pointer (RFC 1035 §4.1.4).
    fn set_pointer(&mut self, at: usize, target: u16) {
        if let Some(pointer) = self.buf.get_mut(at..at + 2) {
            pointer.copy_from_slice(&(0xc000 | target).to_be_bytes());
        }
    }

    /// Joins a referral: its NS, then as many of its glue RRsets as fit.
    ///
    /// # Errors
    /// When the NS do not fit, or of glue that nobody can do without not even one RRset does. RFC 9471 §3.1 asks for
    /// TC as soon as one is missing; neither NSD nor Knot does that, and a resolver gets on with the ones it has.
    pub(super) fn join_referral(&mut self, piece: PieceRef<'_>, referral: &Referral, glue: &[GlueEnd], owner: Owner) -> Result<(), Full> {
        let room = self.limit.saturating_sub(self.at);
        let fitting = glue.partition_point(|end| end.octets as usize <= room);
        let (kept, left) = glue.split_at_checked(fitting).unwrap_or((glue, &[]));
        let octets = kept.last().map_or(referral.ns_octets, |end| end.octets) as usize;
        let part = PieceRef {
            bytes: piece.bytes.get(..octets).ok_or(Full)?,
            records: referral.ns_records,
            ..piece
        };
        self.join(Section::Authority, part, owner)?;
        let [_, _, additional] = &mut self.counts;
        *additional = kept.iter().fold(*additional, |sum, end| sum.saturating_add(end.records));
        if left.first().is_some_and(|end| end.is_required) {
            Err(Full)
        } else {
            Ok(())
        }
    }

    /// Joins records of one length, beginning with the record number `first` and going round: the rotated
    /// addresses of a steered name. Each record begins with a pointer to its owner.
    ///
    /// # Errors
    /// When they do not fit; nothing is changed then.
    pub(super) fn join_rotated(&mut self, records: &[u8], record_octets: usize, first: usize, owner: Owner) -> Result<(), Full> {
        let owner_at = self.resolve(owner.place, owner.octets);
        let (before, behind) = records.split_at_checked(first * record_octets).unwrap_or((&[], records));
        let count = u16::try_from(records.len() / record_octets).map_err(|_| Full)?;
        let (start, taken) = self.take(Section::Answer, count, records.len())?;
        let (head, tail) = taken.split_at_mut_checked(behind.len()).ok_or(Full)?;
        head.copy_from_slice(behind);
        tail.copy_from_slice(before);
        if owner_at != QNAME_AT as u16 {
            for record in 0..usize::from(count) {
                self.set_pointer(start + record * record_octets, owner_at);
            }
        }
        Ok(())
    }

    /// Joins a CNAME that was made here (RFC 6672 §3.1), its target in full.
    ///
    /// # Errors
    /// When it does not fit; nothing is changed then.
    pub(super) fn join_cname(&mut self, owner: Owner, ttl: u32, target: &[u8]) -> Result<(), Full> {
        let owner_at = self.resolve(owner.place, owner.octets);
        let (_, taken) = self.take(Section::Answer, 1, RECORD_OCTETS + target.len())?;
        let (head, data) = taken.split_at_mut_checked(RECORD_OCTETS).ok_or(Full)?;
        head.copy_from_slice(&record_head(owner_at, CNAME, ttl, target.len() as u16));
        data.copy_from_slice(target);
        Ok(())
    }

    /// Replaces the TTL of the record that begins at `start` with a pointer as its owner, if it is higher.
    pub(super) fn cap_ttl(&mut self, start: usize, ttl_max: u32) {
        if let Some(ttl) = self.buf.get_mut(start + 6..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *ttl = u32::from_be_bytes(*ttl).min(ttl_max).to_be_bytes();
        }
    }

    /// Adds OPT where the query had one, writes the header; the length and the response code.
    #[inline(always)]
    pub(super) fn finish(mut self, opt: Option<&Opt<'_>>) -> (usize, u8) {
        let [answer, authority, mut additional] = self.counts;
        if let Some(opt) = opt {
            // What OPT need not have may take what the records left free, and never what a record needs.
            let end = (self.limit + self.opt_octets).min(self.buf.len());
            let room = self.buf.get_mut(self.at..end).unwrap_or(&mut []);
            if let Some(octets) = opt.write(room, self.at, self.rcode) {
                self.at += octets;
                additional = additional.saturating_add(1);
            }
        }
        write_header(self.buf, self.flags, self.rcode, [self.questions, answer, authority, additional]);
        (self.at, self.rcode)
    }
}

/// Octets of a record before its data when its owner is a pointer.
pub(super) const RECORD_OCTETS: usize = 12;
/// Number of the CNAME type.
const CNAME: u16 = 5;

/// What stands before the data of a record: a pointer as owner, type, class IN, TTL and length.
pub(super) fn record_head(owner_at: u16, rtype: u16, ttl: u32, data_octets: u16) -> [u8; RECORD_OCTETS] {
    let [o0, o1] = (0xc000 | owner_at).to_be_bytes();
    let [t0, t1] = rtype.to_be_bytes();
    let [l0, l1, l2, l3] = ttl.to_be_bytes();
    let [d0, d1] = data_octets.to_be_bytes();
    [o0, o1, t0, t1, 0, 1, l0, l1, l2, l3, d0, d1]
}

/// Writes flags, response code and counts over the header of the query that the buffer begins with. ID,
/// opcode and RD stay; QR is set; RA, AD and CD are cleared: recursion is not offered and nothing is
/// validated here.
#[inline(always)]
pub(super) fn write_header(buf: &mut [u8], flags: u8, rcode: u8, counts: [u16; 4]) {
    let Some(head) = buf.first_chunk_mut::<HEADER_OCTETS>() else {
        return;
    };
    let [qd, an, ns, ar] = counts.map(u16::to_be_bytes);
    let [id0, id1, asked, ..] = *head;
    *head = [
        id0,
        id1,
        0x80 | asked & 0x79 | flags,
        rcode & 0x0f,
        qd[0],
        qd[1],
        an[0],
        an[1],
        ns[0],
        ns[1],
        ar[0],
        ar[1],
    ];
}
