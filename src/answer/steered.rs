//! Steered names: every region's answer and the one decided now, in wire form, in slots that snapshots share.
//!
//! Slots lie in chunks, chunks in branches, branches in a short trunk; each behind an `Arc`. To change one
//! slot its chunk, its branch and the trunk are copied (32 slots, 64 and n/2048 pointers), all else is shared.

use super::message::record_head;
use super::note::{self, NoteRef};
use super::piece::{Piece, PieceWriter, WrittenName};
use super::query::LowerName;
use crate::model::{Answer, Decision, Name, RegionId, Rtype};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::Arc;

/// Slots of a chunk.
const CHUNK_SLOTS: usize = 32;
/// Chunks of a branch.
const BRANCH_CHUNKS: usize = 64;

/// Number of a steered name among those of a snapshot; the same in every snapshot that came from one
/// [`Snapshot::build`](super::Snapshot::build).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SteeredId(pub(super) u32);

impl SteeredId {
    /// As an index, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is to be answered for one steered name.
#[derive(Debug, Clone)]
pub struct SteeredInput {
    /// The name.
    pub name: Name,
    /// The TTL of its answers, which also caps that of negative answers, seconds.
    pub ttl: u32,
    /// Every region's full answer, in the order of the config.
    pub regions: Vec<(RegionId, Arc<Answer>)>,
    /// What is answered now.
    pub decision: Arc<Decision>,
    /// Whether probes count for it, so that not to know its health is worth a word.
    pub is_probed: bool,
}

/// The steered names of a snapshot and their regions: what counters are named by.
#[derive(Debug, Default)]
pub struct SteeredNames {
    /// By id.
    names: Vec<(Name, Box<[RegionId]>)>,
    /// The way back. The names are the config's own, so nobody outside can aim for collisions.
    ids: HashMap<Name, SteeredId, FixedState>,
}

impl SteeredNames {
    /// Numbers them in the order given; of two inputs with one name the first counts.
    pub(super) fn new(inputs: &[SteeredInput]) -> (SteeredNames, Vec<&SteeredInput>) {
        let mut names = SteeredNames::default();
        let mut kept = Vec::with_capacity(inputs.len());
        for input in inputs {
            let id = SteeredId(u32::try_from(names.names.len()).unwrap_or(u32::MAX));
            if names.ids.contains_key(&input.name) {
                continue;
            }
            names.ids.insert(input.name.clone(), id);
            let regions = input.regions.iter().map(|(region, _)| region.clone()).collect();
            names.names.push((input.name.clone(), regions));
            kept.push(input);
        }
        (names, kept)
    }

    /// Number of steered names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The ids of names, those that are not steered here passed over: quickest where they come in the order of the ids.
    pub(super) fn ids_of<'d, D>(&self, names: impl Iterator<Item = (&'d Name, D)>) -> impl Iterator<Item = (SteeredId, D)> {
        let mut next = SteeredId(0);
        names.filter_map(move |(name, of)| {
            let id = match self.name(next) {
                Some(expected) if expected == name => next,
                _ => self.id(name)?,
            };
            next = SteeredId(id.0 + 1);
            Some((id, of))
        })
    }

    /// The id of a name.
    pub fn id(&self, name: &Name) -> Option<SteeredId> {
        self.ids.get(name).copied()
    }

    /// The name of an id of this snapshot.
    pub fn name(&self, id: SteeredId) -> Option<&Name> {
        self.names.get(id.index()).map(|(name, _)| name)
    }

    /// The regions of a name, in the order of the config.
    pub fn regions(&self, id: SteeredId) -> &[RegionId] {
        self.names.get(id.index()).map_or(&[], |(_, regions)| regions)
    }

    /// Every id.
    pub fn ids(&self) -> impl Iterator<Item = SteeredId> {
        (0..self.names.len()).map(|index| SteeredId(index as u32))
    }
}

/// An answer in wire form.
#[derive(Debug, Default)]
pub(super) struct Laid {
    /// The A records, each [`A_OCTETS`] long, owner a pointer to the question.
    pub(super) v4: Box<[u8]>,
    /// The AAAA records, each [`AAAA_OCTETS`] long.
    pub(super) v6: Box<[u8]>,
    /// The CNAME, where it is one.
    pub(super) host: Option<Host>,
    /// SERVFAIL for A, AAAA, CNAME and ANY.
    pub(super) servfail: bool,
}

/// A CNAME in wire form.
#[derive(Debug)]
pub(super) struct Host {
    /// The record.
    pub(super) piece: Piece,
    /// How its target is written.
    pub(super) written: WrittenName,
    /// Its target, to go on with.
    pub(super) target: Box<[u8]>,
}

/// Octets of an A record whose owner is a pointer.
pub(super) const A_OCTETS: usize = 16;
/// Octets of an AAAA record whose owner is a pointer.
pub(super) const AAAA_OCTETS: usize = 28;

impl Laid {
    /// Lays an answer.
    fn new(name: &Name, answer: &Answer, ttl: u32) -> Laid {
        let mut laid = Laid::default();
        match answer {
            Answer::Addresses { v4, v6 } => {
                laid.v4 = records(Rtype::A, ttl, v4.iter().map(|address| address.octets()));
                laid.v6 = records(Rtype::AAAA, ttl, v6.iter().map(|address| address.octets()));
            }
            Answer::Host(target) => {
                let mut writer = PieceWriter::new(name.wire());
                let written = writer.record(Rtype::CNAME, ttl, target.wire());
                laid.host = written.map(|written| Host {
                    piece: writer.finish(),
                    written,
                    target: target.wire().to_ascii_lowercase().into(),
                });
            }
            Answer::Servfail => laid.servfail = true,
        }
        laid
    }

    /// RRsets in it.
    fn rrsets(&self) -> [bool; 3] {
        [!self.v4.is_empty(), !self.v6.is_empty(), self.host.is_some()]
    }
}

impl Host {
    /// The target as it is looked up.
    pub(super) fn target(&self) -> Option<LowerName> {
        LowerName::new(&self.target)
    }
}

/// Address records one behind the other.
fn records<const N: usize>(rtype: Rtype, ttl: u32, addresses: impl Iterator<Item = [u8; N]>) -> Box<[u8]> {
    let head = record_head(super::message::QNAME_AT as u16, rtype.0, ttl, N as u16);
    let mut bytes = Vec::new();
    for address in addresses {
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&address);
    }
    bytes.into()
}

/// One region's full answer, as given and in wire form.
#[derive(Debug)]
struct RegionAnswer {
    /// The region.
    region: RegionId,
    /// As given: an equal decision takes the wire form over.
    answer: Arc<Answer>,
    /// In wire form.
    laid: Arc<Laid>,
}

/// What a steered name answers, and would answer from each region.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Every region's full answer.
    regions: Arc<[RegionAnswer]>,
    /// TTL of the name, seconds: caps that of negative answers.
    pub(super) ttl: u32,
    /// What is answered now.
    pub(super) now: Arc<Laid>,
    /// The region it is of.
    pub(super) region: Option<u16>,
    /// A word on it (RFC 8914).
    pub(super) note: Option<NoteRef<'static>>,
    /// See [`SteeredInput::is_probed`].
    is_probed: bool,
}

impl Slot {
    /// Compiles every answer of a name.
    fn new(input: &SteeredInput) -> Slot {
        let regions = input.regions.iter().map(|(region, answer)| RegionAnswer {
            region: region.clone(),
            answer: answer.clone(),
            laid: Arc::new(Laid::new(&input.name, answer, input.ttl)),
        });
        Slot::decided(regions.collect(), (input.ttl, input.is_probed), &input.decision)
    }

    /// The slot with this decision, given every region's answer, the name's TTL and whether it is probed.
    fn decided(regions: Arc<[RegionAnswer]>, (ttl, is_probed): (u32, bool), decision: &Decision) -> Slot {
        let region = decision.region.as_ref();
        let index = region.and_then(|region| regions.iter().position(|one| one.region == *region));
        // The answer of the region that is answered, nearly always: a switch changes a pointer.
        let of_region = index.and_then(|index| regions.get(index));
        let full = of_region.into_iter().chain(regions.iter());
        let full = full.into_iter().find(|one| one.answer == decision.answer && decision.ttl == ttl);
        let now = match full {
            Some(full) => full.laid.clone(),
            None => Arc::new(Laid::new(&decision.name, &decision.answer, decision.ttl)),
        };
        Slot {
            ttl,
            now,
            region: index.and_then(|index| u16::try_from(index).ok()),
            note: note::on(decision, is_probed),
            is_probed,
            regions,
        }
    }

    /// The slot changed to what is given; regions that did not change are not compiled again.
    fn changed(&self, input: &SteeredInput) -> Slot {
        let same = self.ttl == input.ttl && self.is_probed == input.is_probed && self.regions.len() == input.regions.len() && {
            let mut pairs = self.regions.iter().zip(&input.regions);
            pairs.all(|(mine, (region, answer))| mine.region == *region && mine.answer == *answer)
        };
        if same {
            Slot::decided(self.regions.clone(), (input.ttl, input.is_probed), &input.decision)
        } else {
            Slot::new(input)
        }
    }

    /// RRsets that the name has in any region: what a reload counts, so that health does not look like removal.
    fn rrset_count(&self) -> usize {
        let all = self.regions.iter().map(|one| one.laid.rrsets());
        let any = all.fold([false; 3], |any, has| [any[0] || has[0], any[1] || has[1], any[2] || has[2]]);
        any.iter().filter(|has| **has).count()
    }
}

/// Neighbouring slots. One piece of memory: a list behind a pointer of its own would be a line of cache more a query.
type Chunk = Arc<[Slot]>;

/// All slots of a snapshot: branches of neighbouring chunks.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Vec<Arc<[Chunk]>>);

impl Slots {
    /// Compiles every name, in the order of the ids.
    pub(super) fn new(inputs: &[&SteeredInput]) -> Slots {
        let chunk = |inputs: &[&SteeredInput]| -> Chunk { inputs.iter().map(|input| Slot::new(input)).collect() };
        let branch = |inputs: &[&SteeredInput]| inputs.chunks(CHUNK_SLOTS).map(chunk).collect();
        Slots(inputs.chunks(CHUNK_SLOTS * BRANCH_CHUNKS).map(branch).collect())
    }

    /// The slot of a name.
    pub(super) fn get(&self, id: SteeredId) -> Option<&Slot> {
        let (branch, chunk, slot) = Slots::path(id);
        self.0.get(branch)?.get(chunk)?.get(slot)
    }

    /// Changes one slot, copying the way to it where other snapshots share it.
    pub(super) fn change(&mut self, id: SteeredId, input: &SteeredInput) {
        if let Some(slot) = self.get_mut(id) {
            *slot = slot.changed(input);
        }
    }

    /// Changes what slots answer now. Of neighbours that come one after the other the way is copied once.
    pub(super) fn decide<'d>(&mut self, decided: impl Iterator<Item = (SteeredId, &'d Decision)>) {
        let mut decided = decided.peekable();
        while let Some((id, decision)) = decided.next() {
            let (branch, chunk, first) = Slots::path(id);
            let Some(chunk) = self.0.get_mut(branch).and_then(|branch| Arc::make_mut(branch).get_mut(chunk)) else {
                continue;
            };
            let (mut due, mut last) = (Some((first, decision)), id);
            let slots = chunk.iter().enumerate().map(|(at, slot)| {
                let Some((_, decision)) = due.take_if(|(due, _)| *due == at) else {
                    return slot.clone();
                };
                // The next one too, where it is further on in this chunk.
                let next = decided.next_if(|(next, _)| *next > last && next.index() / CHUNK_SLOTS == last.index() / CHUNK_SLOTS);
                due = next.map(|(next, decision)| {
                    last = next;
                    (Slots::path(next).2, decision)
                });
                Slot::decided(slot.regions.clone(), (slot.ttl, slot.is_probed), decision)
            });
            *chunk = slots.collect();
        }
    }

    /// A slot to change: its chunk and branch are this snapshot's own afterwards.
    fn get_mut(&mut self, id: SteeredId) -> Option<&mut Slot> {
        let (branch, chunk, slot) = Slots::path(id);
        let chunks = self.0.get_mut(branch).map(Arc::make_mut)?;
        let slots = chunks.get_mut(chunk).map(Arc::make_mut)?;
        slots.get_mut(slot)
    }

    /// RRsets of all steered names.
    pub(super) fn rrset_count(&self) -> usize {
        let chunks = self.0.iter().flat_map(|branch| branch.iter());
        chunks.flat_map(|chunk| chunk.iter()).map(Slot::rrset_count).sum()
    }

    /// Where a slot lies.
    fn path(id: SteeredId) -> (usize, usize, usize) {
        let index = id.index();
        let chunk = index / CHUNK_SLOTS;
        (chunk / BRANCH_CHUNKS, chunk % BRANCH_CHUNKS, index % CHUNK_SLOTS)
    }
}
