//! The algorithm of RFC 1034 §4.3.2 over the index: from a name to the records of the response.
//!
//! Each turn finds the closest encloser of the current name, which says what kind of answer it is; a CNAME
//! or DNAME makes a new current name and another turn. Chains stay in the zone of the question: where they
//! leave it the resolver asks again itself; where they meet a delegation the referral follows the chain.
//!
//! Invariant: each turn but the last adds a place, of which there are [`PLACES_MAX`](super::message::PLACES_MAX).

use super::index::{NONE, Node, Rrset, Snapshot};
use super::message::{Full, Message, Owner, Place, RECORD_OCTETS, Section};
use super::note::{self, NoteRef};
use super::piece::{PieceRef, WrittenName};
use super::query::{LowerName, Query, QueryName};
use super::steered::{A_OCTETS, AAAA_OCTETS, Slot, SteeredId};
use super::{Ctx, Kind, Steered};
use crate::model::{NAME_OCTETS_MAX, Rtype, rcode};

/// RCODE of a DNAME whose target would be too long a name (RFC 6672 §2.2).
const YXDOMAIN: u8 = 6;

/// What a turn ended with.
enum Turn {
    /// The response is complete.
    Done,
    /// There is a new current name.
    Again,
}

/// What a walk came to, besides the records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walked<'s> {
    /// The steered name that was answered.
    pub(super) steered: Option<Steered>,
    /// What kind of answer it is.
    pub(super) kind: Kind,
    /// See [`Reply::about`](super::Reply::about).
    pub(super) about: u32,
    /// What a person may want to know.
    pub(super) note: Option<NoteRef<'s>>,
}

impl Walked<'_> {
    /// Nowhere.
    pub(super) const NOTHING: Walked<'static> = Walked {
        steered: None,
        kind: Kind::Error,
        about: 0,
        note: None,
    };
}

/// A walk from the question to the end of the chain.
pub(super) struct Walk<'s, 'w, 'm> {
    /// What there is.
    snapshot: &'s Snapshot,
    /// The response.
    message: &'w mut Message<'m>,
    /// The type asked for.
    qtype: Rtype,
    /// The current name.
    name: LowerName,
    /// Where it stands.
    place: u8,
    /// The zone of the question.
    zone: u32,
    /// The circumstances.
    ctx: &'w Ctx,
    /// What it has come to; the caller's, who reads it where it was written.
    walked: &'w mut Walked<'s>,
}

impl<'s, 'w, 'm> Walk<'s, 'w, 'm> {
    /// At the question.
    pub(super) fn new(
        snapshot: &'s Snapshot,
        message: &'w mut Message<'m>,
        query: &Query<'_>,
        ctx: &'w Ctx,
        walked: &'w mut Walked<'s>,
    ) -> Self {
        Walk {
            snapshot,
            message,
            qtype: Rtype(query.qtype),
            name: LowerName::ROOT,
            place: 0,
            zone: NONE,
            ctx,
            walked,
        }
    }

    /// Writes the answer to the question for a name.
    #[inline(always)]
    pub(super) fn run(&mut self, qname: &QueryName<'_>) {
        let world = &*self.snapshot.world;
        // A question's name is never too long for one, or the question could not have been read.
        let _ = self.name.set(qname);
        let Some((node, is_whole)) = world.closest(&self.name) else {
            return self.refuse(note::NOT_AUTHORITATIVE);
        };
        // RFC 4035 §3.1.4.1: DS belongs to the parent's side of a cut.
        let wants_parent = self.qtype == Rtype::DS && is_whole && node.is(Node::APEX);
        let outer = if wants_parent { world.node(node.extra) } else { None };
        let node = outer.unwrap_or(node);
        let is_whole = is_whole && node.name_len as usize == self.name.wire().len();
        self.zone = node.zone;
        if !world.admits(node.zone, self.ctx.peer.ip()) {
            return self.refuse(note::PROHIBITED);
        }
        self.walked.kind = Kind::Positive;
        self.walked.about = node.name_at;
        if !self.is_below_cut(node, is_whole) {
            self.message.set_authoritative();
        }
        let mut turn = self.turn(node, is_whole);
        while let Turn::Again = turn {
            turn = match self.in_zone() {
                Some((node, is_whole)) => self.turn(node, is_whole),
                None => Turn::Done,
            };
        }
    }

    /// Refuses the question, with a word on why.
    fn refuse(&mut self, note: NoteRef<'static>) {
        self.message.set_rcode(rcode::REFUSED);
        self.walked.note = Some(note);
    }

    /// The closest encloser of the current name in the zone of the question; none when the name lies outside
    /// it. Where a closer zone of ours has it, the node that the zone of the question itself has there.
    fn in_zone(&self) -> Option<(&'s Node, bool)> {
        let world = &*self.snapshot.world;
        let (mut node, is_whole) = world.closest(&self.name)?;
        let mut is_ours = is_whole;
        while node.zone != self.zone {
            let apex = world.node(world.zone(node)?.apex)?;
            node = world.node(apex.extra)?;
            is_ours = usize::from(node.name_len) == self.name.wire().len();
        }
        Some((node, is_ours))
    }

    /// Whether a delegation answers: at the cut all but DS, below it everything (RFC 1034 §4.2.1).
    fn is_below_cut(&self, node: &Node, is_whole: bool) -> bool {
        node.is(Node::CUT) && !(is_whole && self.qtype == Rtype::DS)
    }

    /// One turn, given the closest encloser.
    #[inline(always)]
    fn turn(&mut self, node: &'s Node, is_whole: bool) -> Turn {
        let world = &*self.snapshot.world;
        if self.is_below_cut(node, is_whole) {
            return self.referral(node);
        }
        if is_whole {
            return self.data(node);
        }
        if node.is(Node::DNAME) {
            return self.dname(node);
        }
        match world.node(node.wildcard) {
            Some(wildcard) => self.data(wildcard),
            None => {
                self.message.set_rcode(rcode::NXDOMAIN);
                self.negative(Kind::NxDomain, None)
            }
        }
    }

    /// The current name as owner.
    #[inline(always)]
    fn owner(&self) -> Owner {
        Owner {
            place: self.place,
            octets: self.name.wire().len() as u8,
        }
    }

    /// Answers from a node that is the current name or the wildcard that it matches.
    #[inline(always)]
    fn data(&mut self, node: &'s Node) -> Turn {
        let world = &*self.snapshot.world;
        if let Some((id, slot)) = self.snapshot.slot(node) {
            return self.steered(node, id, slot);
        }
        let wants_cname = matches!(self.qtype, Rtype::CNAME | Rtype::ANY);
        if node.is(Node::CNAME) && !wants_cname {
            return match world.rrset(node, Rtype::CNAME.0) {
                Some(rrset) => self.cname(node, rrset),
                None => Turn::Done,
            };
        }
        match self.wanted(node) {
            Some(rrset) => {
                let piece = world.piece(&rrset.piece, node.name_len);
                let joined = self.message.join(Section::Answer, piece, self.owner());
                self.end(joined)
            }
            None => self.negative(Kind::NoData, None),
        }
    }

    /// The RRset that answers the question at a node: that of its type, for ANY one of those there (RFC 8482 §4.1).
    #[inline(always)]
    fn wanted(&self, node: &Node) -> Option<&'s Rrset> {
        let world = &*self.snapshot.world;
        match self.qtype {
            Rtype::ANY => world.rrsets(node).first(),
            qtype => world.rrset(node, qtype.0),
        }
    }

    /// Answers from a steered name: A, AAAA and CNAME as decided, the other types as the zone file has them.
    fn steered(&mut self, node: &'s Node, id: SteeredId, slot: &'s Slot) -> Turn {
        let laid = &*slot.now;
        let is_decided = matches!(self.qtype, Rtype::A | Rtype::AAAA | Rtype::CNAME | Rtype::ANY);
        let fact = Steered { id, region: slot.region };
        if laid.servfail && is_decided {
            self.message.clear();
            self.message.set_rcode(rcode::SERVFAIL);
            self.answered(fact, slot);
            return Turn::Done;
        }
        if let Some(host) = &laid.host {
            self.answered(fact, slot);
            let is_end = matches!(self.qtype, Rtype::CNAME | Rtype::ANY);
            let target = if is_end { None } else { host.target() };
            return self.chain(host.piece.view(), host.written, target);
        }
        let (records, octets) = match self.decided_type(node, slot) {
            Rtype::A => (&laid.v4, A_OCTETS),
            Rtype::AAAA => (&laid.v6, AAAA_OCTETS),
            _ => (&laid.v4, 0),
        };
        if octets > 0 && !records.is_empty() {
            self.answered(fact, slot);
            let first = self.ctx.rotation as usize % (records.len() / octets);
            let joined = self.message.join_rotated(records, octets, first, self.owner());
            return self.end(joined);
        }
        match self.wanted(node) {
            Some(rrset) => {
                let piece = self.snapshot.world.piece(&rrset.piece, node.name_len);
                let joined = self.message.join(Section::Answer, piece, self.owner());
                self.end(joined)
            }
            None => self.negative(Kind::NoData, Some(slot.ttl)),
        }
    }

    /// Remembers that a steered name's data was answered.
    fn answered(&mut self, fact: Steered, slot: &'s Slot) {
        self.walked.steered = Some(fact);
        let not_ready = self.snapshot.service.not_ready.as_deref();
        self.walked.note = slot.note.or_else(|| not_ready.map(note::not_ready));
    }

    /// The type that is answered from the slot, or any other where the zone file answers. For ANY it is the lowest at the name.
    fn decided_type(&self, node: &Node, slot: &Slot) -> Rtype {
        if self.qtype != Rtype::ANY {
            return self.qtype;
        }
        let lowest = self.snapshot.world.rrsets(node).first().map_or(u16::MAX, |rrset| rrset.rtype);
        match (slot.now.v4.is_empty(), slot.now.v6.is_empty()) {
            (false, _) => Rtype::A,
            (true, false) if lowest > Rtype::AAAA.0 => Rtype::AAAA,
            _ => Rtype::ANY,
        }
    }

    /// Adds a CNAME of a zone file and goes on with its target.
    fn cname(&mut self, node: &'s Node, rrset: &'s Rrset) -> Turn {
        let world = &*self.snapshot.world;
        let target = LowerName::new(world.target(rrset));
        self.chain(world.piece(&rrset.piece, node.name_len), rrset.written, target)
    }

    /// Adds a CNAME and makes its target, if the chain is to go on, the current name.
    fn chain(&mut self, piece: PieceRef<'_>, written: WrittenName, target: Option<LowerName>) -> Turn {
        if self.message.is_chain_full() {
            return Turn::Done;
        }
        let start = self.message.position();
        if let Err(full) = self.message.join(Section::Answer, piece, self.owner()) {
            return self.end(Err(full));
        }
        let Some(target) = target else {
            return Turn::Done;
        };
        self.go_on(start + written.at as usize, written.plain, target)
    }

    /// Makes `target`, which stands at `at`, the current name. Each name is followed once: a loop ends where it
    /// would begin again.
    fn go_on(&mut self, at: usize, plain: u8, target: LowerName) -> Turn {
        if self.message.chain_holds(target.wire()) {
            return Turn::Done;
        }
        let place = Place {
            at: at as u16, // pieces of one CNAME each: see PLACES_MAX
            len: target.wire().len() as u8,
            plain,
            tail: self.place,
        };
        let Some(place) = self.message.add_place(place) else {
            return Turn::Done;
        };
        self.place = place;
        self.name = target;
        Turn::Again
    }

    /// Redirects the current name by the DNAME of its closest encloser (RFC 6672 §3.2).
    fn dname(&mut self, node: &'s Node) -> Turn {
        let world = &*self.snapshot.world;
        let Some(rrset) = world.rrset(node, Rtype::DNAME.0) else {
            return Turn::Done;
        };
        if self.message.is_chain_full() {
            return Turn::Done;
        }
        let piece = world.piece(&rrset.piece, node.name_len);
        let owner = Owner {
            place: self.place,
            octets: node.name_len,
        };
        // A DNAME that redirected an earlier name of the chain is in the answer already.
        let is_there = self.message.chain_was_below(self.place, world.name(node));
        let joined = if is_there {
            Ok(())
        } else {
            self.message.join(Section::Answer, piece, owner)
        };
        if joined.is_err() {
            return self.end(joined);
        }
        let mut made = [0; NAME_OCTETS_MAX];
        let own = self.name.wire();
        let kept = own.get(..own.len() - usize::from(node.name_len).min(own.len())).unwrap_or(&[]);
        let target = world.target(rrset);
        let octets = kept.len() + target.len();
        let Some(made) = made.get_mut(..octets) else {
            self.message.set_rcode(YXDOMAIN);
            return Turn::Done;
        };
        for (to, from) in made.iter_mut().zip(kept.iter().chain(target)) {
            *to = *from;
        }
        let start = self.message.position();
        let ttl = piece
            .bytes
            .get(6..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |ttl| u32::from_be_bytes(*ttl));
        if let Err(full) = self.message.join_cname(self.owner(), ttl, made) {
            return self.end(Err(full));
        }
        match LowerName::new(made) {
            // The CNAME just made answers a question for CNAME.
            Some(target) if self.qtype != Rtype::CNAME => self.go_on(start + RECORD_OCTETS, octets as u8, target),
            _ => Turn::Done,
        }
    }

    /// Answers with a zone cut's name servers (RFC 1034 §4.3.2 step 3b).
    fn referral(&mut self, node: &'s Node) -> Turn {
        let world = &*self.snapshot.world;
        let Some(referral) = world.referrals.get(node.extra as usize) else {
            return Turn::Done;
        };
        let owner = Owner {
            place: self.place,
            octets: node.name_len,
        };
        self.walked.kind = Kind::Referral;
        self.walked.about = node.name_at;
        let piece = world.piece(&referral.piece, node.name_len);
        let joined = self.message.join_referral(piece, referral, world.glue_ends(referral), owner);
        self.end(joined)
    }

    /// Adds the SOA of a negative answer (RFC 2308 §3), at a steered name with at most the name's TTL.
    fn negative(&mut self, kind: Kind, ttl_max: Option<u32>) -> Turn {
        let world = &*self.snapshot.world;
        self.walked.kind = kind;
        if kind == Kind::NxDomain {
            self.walked.about = self.zone; // whatever the name: they are all alike, and there are as many as one likes
        }
        let Some(zone) = world.zones.get(self.zone as usize) else {
            return Turn::Done;
        };
        let owner = Owner {
            place: self.place,
            octets: zone.apex_octets,
        };
        let start = self.message.position();
        let joined = self
            .message
            .join(Section::Authority, world.piece(&zone.negative, zone.apex_octets), owner);
        if let (Ok(()), Some(ttl_max)) = (joined, ttl_max) {
            self.message.cap_ttl(start, ttl_max);
        }
        self.end(joined)
    }

    /// Ends the walk; what did not fit is said by TC.
    fn end(&mut self, joined: Result<(), Full>) -> Turn {
        if joined.is_err() {
            self.message.set_truncated();
        }
        Turn::Done
    }
}
