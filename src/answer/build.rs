//! Building a snapshot: zones and steered names to nodes, pieces and slots.
//!
//! A zone is walked in canonical order (RFC 4034 §6.1), in which a name comes before everything below it,
//! so that one remembered name, the last cut or DNAME, tells what is hidden (RFC 1034 §4.2.1, RFC 6672 §2.4).
//! Names that belong to a closer zone of ours are that zone's business, all but the cut itself: it is kept
//! outside the table, because DS is asked of the parent (RFC 4035 §3.1.4.1) and chains that begin in the
//! parent end there.

use super::index::{GlueEnd, NONE, NameHasher, Node, Referral, Rrset, Settings, Snapshot, StoredPiece, World, ZoneRecord, parent};
use super::piece::{PieceRef, PieceWriter, WrittenName};
use super::steered::{Slots, SteeredInput, SteeredNames};
use super::table::NameTable;
use crate::model::{Name, PrefixSet, Rtype};
use crate::zone::{self, RrSet, Zone};
use std::collections::HashMap;
use std::sync::Arc;

impl Snapshot {
    /// Compiles everything. Of two zones or steered names with one name the first counts, and a steered name
    /// outside every zone or hidden by a cut is not answered; the config refuses all of that beforehand.
    pub fn build(zones: &[Arc<Zone>], steered: &[SteeredInput], hash_seed: u64) -> Snapshot {
        Snapshot::build_with(zones, steered, hash_seed, Settings::default())
    }

    /// As [`Snapshot::build`], with settings of the node and its zones.
    pub fn build_with(zones: &[Arc<Zone>], steered: &[SteeredInput], hash_seed: u64, settings: Settings) -> Snapshot {
        let (names, inputs) = SteeredNames::new(steered);
        let mut builder = Builder::new(zones, hash_seed);
        builder.steered = inputs.iter().map(|input| input.name.wire().to_ascii_lowercase()).collect();
        for number in 0..builder.zones.len() {
            builder.enter_zone(number);
        }
        for (id, input) in inputs.iter().enumerate() {
            builder.enter_steered(id as u32, &input.name);
        }
        for number in 0..builder.zones.len() {
            builder.tie_to_parent(number);
        }
        for (apex, prefixes) in settings.access {
            builder.restrict(&apex, prefixes);
        }
        let mut world = builder.world;
        world.steered = Arc::new(names);
        world.shrink();
        Snapshot {
            world: Arc::new(world),
            slots: Slots::new(&inputs),
            service: Arc::new(settings.service),
        }
    }
}

/// A world being built.
struct Builder<'z> {
    /// What is there so far.
    world: World,
    /// The zones, by number.
    zones: Vec<&'z Zone>,
    /// Their numbers by apex in lower case.
    by_apex: HashMap<Vec<u8>, u32>,
    /// The nodes that parent zones have at the apexes of zones served here too, by zone number.
    outer: HashMap<u32, u32>,
    /// Steered names in lower case: their addresses are no glue.
    steered: std::collections::HashSet<Vec<u8>>,
    /// The name above the one entered last: neighbours in canonical order share it, so it need not be looked for again.
    above: Vec<u8>,
    /// Room for one piece after the other.
    writer: PieceWriter,
}

impl<'z> Builder<'z> {
    /// Numbers the zones.
    fn new(zones: &'z [Arc<Zone>], hash_seed: u64) -> Builder<'z> {
        let mut by_apex = HashMap::new();
        let mut kept: Vec<&Zone> = Vec::new();
        for zone in zones {
            let apex = zone.apex().wire().to_ascii_lowercase();
            by_apex.entry(apex).or_insert_with(|| {
                kept.push(zone);
                kept.len() as u32 - 1
            });
        }
        let mut world = World {
            hasher: NameHasher::new(hash_seed),
            ..World::default()
        };
        // Growing means copying: names without records of their own (empty non-terminals) and what is hidden make this an estimate.
        let (names, rrsets) = kept.iter().fold((0, 0), |(names, rrsets), zone| {
            (names + zone.nodes().len(), rrsets + zone.rrset_count())
        });
        world.table = NameTable::with_capacity(names);
        world.nodes.reserve(names);
        world.rrsets.reserve(rrsets);
        Builder {
            world,
            zones: kept,
            by_apex,
            outer: HashMap::new(),
            steered: std::collections::HashSet::new(),
            above: Vec::new(),
            writer: PieceWriter::new(&[]),
        }
    }

    /// Enters every name of a zone that its questions can reach.
    fn enter_zone(&mut self, number: usize) {
        let Some(zone) = self.zones.get(number).copied() else {
            return;
        };
        let number = number as u32;
        self.enter_apex(number, zone);
        let has_children = self.by_apex.len() > 1;
        let mut hidden_by: Option<&Name> = None;
        let mut wire = Vec::new();
        for (name, node) in zone.nodes() {
            self.world.rrset_count += node.rrsets.len();
            if hidden_by.is_some_and(|top| name.is_below(top)) {
                continue;
            }
            let is_apex = name == zone.apex();
            let closer = if has_children && !is_apex {
                self.closer_zone(name, zone.apex())
            } else {
                None
            };
            wire.clear();
            wire.extend_from_slice(name.wire());
            wire.make_ascii_lowercase();
            let is_cut = !is_apex && node.rrsets.iter().any(|set| set.rtype == Rtype::NS);
            let is_dname = node.rrsets.iter().any(|set| set.rtype == Rtype::DNAME);
            hidden_by = (is_cut || is_dname).then_some(name);
            match closer {
                // What lies below another zone's apex makes the apex exist here: as an empty non-terminal.
                Some((child, false)) => {
                    let apex = self.zones.get(child as usize).map(|child| child.apex().wire().to_ascii_lowercase());
                    self.enter_aside(child, apex.as_ref().unwrap_or(&wire), number);
                }
                Some((child, true)) => {
                    let aside = self.enter_aside(child, &wire, number);
                    self.fill(aside, zone, name, &node.rrsets, is_cut);
                }
                None => {
                    let entered = self.enter(&wire, number);
                    self.fill(entered, zone, name, &node.rrsets, is_cut);
                }
            }
        }
    }

    /// Makes the zone's record and its apex.
    fn enter_apex(&mut self, number: u32, zone: &Zone) {
        let apex = zone.apex().wire().to_ascii_lowercase();
        let mut writer = PieceWriter::new(&apex);
        let soa = zone
            .node(zone.apex())
            .and_then(|node| node.rrsets.iter().find(|set| set.rtype == Rtype::SOA));
        // The reader lets no zone pass that has no SOA; without one negative answers would carry none.
        if let Some((soa, rdata)) = soa.and_then(|soa| Some((soa, soa.rdata.first()?))) {
            writer.record(Rtype::SOA, soa.ttl.min(zone.soa().minimum), rdata);
        }
        let negative = self.world.store(writer.laid());
        let node = self.new_node(&apex, number);
        self.world.zones.push(ZoneRecord {
            apex: node,
            access: NONE,
            apex_octets: apex.len() as u8,
            negative,
        });
        self.put(node, &apex, self.world.hasher.hash(&apex));
        if let Some(node) = self.world.nodes.get_mut(node as usize) {
            node.flags |= Node::APEX;
        }
    }

    /// Lets only these clients ask for the names of a zone.
    fn restrict(&mut self, apex: &Name, prefixes: PrefixSet) {
        let number = self.by_apex.get(&apex.wire().to_ascii_lowercase());
        if let Some(zone) = number.and_then(|number| self.world.zones.get_mut(*number as usize)) {
            zone.access = self.world.access.len() as u32;
            self.world.access.push(prefixes);
        }
    }

    /// The topmost zone of ours below `apex` that `name` belongs to, and whether the name is its apex.
    fn closer_zone(&self, name: &Name, apex: &Name) -> Option<(u32, bool)> {
        let wire = name.wire().to_ascii_lowercase();
        let suffixes = std::iter::successors(Some(&wire[..]), |rest| parent(rest));
        let below = suffixes.take_while(|suffix| suffix.len() > apex.wire().len());
        let zones = below.filter_map(|suffix| Some((*self.by_apex.get(suffix)?, suffix.len() == wire.len())));
        zones.last()
    }

    /// The node that a zone has at the apex of another zone of ours; its ancestors exist like any node's.
    fn enter_aside(&mut self, child: u32, wire: &[u8], zone: u32) -> u32 {
        if let Some(aside) = self.outer.get(&child) {
            return *aside;
        }
        if let Some(above) = parent(wire) {
            self.enter(above, zone);
        }
        let aside = self.new_node(wire, zone);
        self.outer.insert(child, aside);
        aside
    }

    /// The node of a name, made where it does not exist, with all empty non-terminals above it (RFC 4592 §2.2.2).
    fn enter(&mut self, wire: &[u8], zone: u32) -> u32 {
        let hash = self.world.hasher.hash(wire);
        if let Some(number) = self.world.find_hashed(wire, hash) {
            return number;
        }
        let is_wildcard = wire.starts_with(b"\x01*");
        let above = match parent(wire) {
            Some(above) if is_wildcard || above != self.above => {
                let number = self.enter(above, zone);
                self.above.clear();
                self.above.extend_from_slice(above);
                Some(number)
            }
            _ => None,
        };
        let number = self.new_node(wire, zone);
        self.put(number, wire, hash);
        let above = above.filter(|_| is_wildcard);
        if let Some(above) = above.and_then(|above| self.world.nodes.get_mut(above as usize)) {
            above.wildcard = number;
        }
        number
    }

    /// An empty node, in no table yet.
    fn new_node(&mut self, wire: &[u8], zone: u32) -> u32 {
        let number = self.world.nodes.len() as u32;
        let name_at = self.world.bytes.len() as u32;
        self.world.bytes.extend_from_slice(wire);
        self.world.nodes.push(Node {
            name_at,
            rrsets_at: 0,
            zone,
            wildcard: NONE,
            extra: NONE,
            steered: NONE,
            rrset_count: 0,
            name_len: wire.len() as u8,
            flags: 0,
        });
        number
    }

    /// Puts a node into the table, with the hash of its name.
    fn put(&mut self, number: u32, wire: &[u8], hash: u64) {
        let world = &mut self.world;
        let labels = std::iter::successors(Some(wire), |rest| parent(rest)).count() - 1;
        world.labels_max = world.labels_max.max(labels as u8);
        world.table.insert(hash, number);
    }

    /// Gives a node its RRsets and, at a cut, its referral.
    fn fill(&mut self, number: u32, zone: &Zone, name: &Name, sets: &[RrSet], is_cut: bool) {
        let rrsets_at = self.world.rrsets.len() as u32;
        let mut flags = 0;
        for set in sets {
            flags |= match set.rtype {
                Rtype::CNAME => Node::CNAME,
                Rtype::DNAME => Node::DNAME,
                _ => 0,
            };
            let rrset = self.rrset(name, set);
            self.world.rrsets.push(rrset);
        }
        let mut extra = NONE;
        if is_cut {
            flags |= Node::CUT;
            extra = self.world.referrals.len() as u32;
            let referral = self.referral(zone, name, sets);
            self.world.referrals.push(referral);
        }
        if let Some(node) = self.world.nodes.get_mut(number as usize) {
            node.rrsets_at = rrsets_at;
            node.rrset_count = sets.len() as u16;
            node.flags |= flags;
            if is_cut {
                node.extra = extra;
            }
        }
    }

    /// Compiles an RRset.
    fn rrset(&mut self, owner: &Name, set: &RrSet) -> Rrset {
        self.writer.restart(owner.wire());
        let mut written = None;
        for rdata in &set.rdata {
            written = self.writer.record(set.rtype, set.ttl, rdata);
        }
        let mut target_at = 0;
        let target = set.rdata.first().unwrap_or(&[]);
        if set.rtype == Rtype::CNAME || set.rtype == Rtype::DNAME {
            target_at = self.world.bytes.len() as u32;
            self.world.bytes.push(target.len() as u8);
            self.world.bytes.extend_from_slice(target);
        }
        Rrset {
            piece: self.world.store(self.writer.laid()),
            written: written.unwrap_or(WrittenName { at: 0, plain: 0 }),
            target_at,
            rtype: set.rtype.0,
        }
    }

    /// Compiles what is answered at a cut: its NS and the addresses of those name servers that this zone
    /// knows, first those that nobody finds otherwise (RFC 9471 §3.1).
    fn referral(&mut self, zone: &Zone, cut: &Name, sets: &[RrSet]) -> Referral {
        let mut writer = PieceWriter::new(cut.wire());
        let mut servers: Vec<Name> = Vec::new();
        for set in sets.iter().filter(|set| set.rtype == Rtype::NS) {
            for rdata in &set.rdata {
                writer.record(Rtype::NS, set.ttl, rdata);
                servers.extend(Name::from_wire(rdata).ok().filter(|server| !servers.contains(server)));
            }
        }
        let (ns_octets, ns_records) = (writer.len() as u32, writer.records() as u16);
        let glue_at = self.world.glue_ends.len();
        for is_required in [true, false] {
            for server in servers.iter().filter(|server| server.is_at_or_below(cut) == is_required) {
                self.glue(&mut writer, zone, server, is_required);
            }
        }
        Referral {
            piece: self.world.store(writer.laid()),
            ns_octets,
            ns_records,
            glue_len: (self.world.glue_ends.len() - glue_at) as u16,
            glue_at: glue_at as u32,
        }
    }

    /// Adds the addresses of a name server.
    fn glue(&mut self, writer: &mut PieceWriter, zone: &Zone, server: &Name, is_required: bool) {
        if !server.is_at_or_below(zone.apex()) || self.steered.contains(&server.wire().to_ascii_lowercase()) {
            return;
        }
        let node = zone.node(server).or_else(|| wildcard_for(zone, server));
        let sets = node.map_or(&[][..], |node| &node.rrsets[..]);
        for set in sets.iter().filter(|set| set.rtype == Rtype::A || set.rtype == Rtype::AAAA) {
            for rdata in &set.rdata {
                writer.record_of(server.wire(), set.rtype, set.ttl, rdata);
            }
            self.world.glue_ends.push(GlueEnd {
                octets: writer.len() as u32,
                records: set.rdata.len() as u16,
                is_required,
            });
        }
    }

    /// Marks the node of a steered name, made where the zone file has nothing there.
    fn enter_steered(&mut self, id: u32, name: &Name) {
        let wire = name.wire().to_ascii_lowercase();
        let Some((closest, is_whole)) = self.closest(&wire) else {
            return; // in no zone of ours
        };
        let hidden = closest.is(Node::CUT) || (!is_whole && closest.is(Node::DNAME));
        if hidden {
            return;
        }
        let zone = closest.zone;
        let number = self.enter(&wire, zone);
        if let Some(node) = self.world.nodes.get_mut(number as usize) {
            node.steered = id;
        }
    }

    /// The closest encloser of a name, and whether it is the name itself.
    fn closest(&self, wire: &[u8]) -> Option<(Node, bool)> {
        let mut suffixes = std::iter::successors(Some(wire), |rest| parent(rest));
        let (node, len) = suffixes.find_map(|suffix| Some((*self.world.find(suffix)?, suffix.len())))?;
        Some((node, len == wire.len()))
    }

    /// Leads from a zone's apex to what its parent zone, if that is served here too, answers for that name.
    fn tie_to_parent(&mut self, number: usize) {
        let Some(zone) = self.zones.get(number) else {
            return;
        };
        let apex = zone.apex().wire().to_ascii_lowercase();
        let above = parent(&apex).and_then(|above| self.closest(above));
        let Some((closest, _)) = above else {
            return;
        };
        // Without a node of its own for the name, the parent answers from its closest encloser, be it a cut.
        let aside = self.outer.get(&(number as u32)).copied();
        let outer = aside.or_else(|| self.world.find_number(self.world.name(&closest))).unwrap_or(NONE);
        let number = self.world.find_number(&apex);
        if let Some(node) = number.and_then(|number| self.world.nodes.get_mut(number as usize)) {
            node.extra = outer;
        }
    }
}

/// The wildcard that stands for a name that does not exist (RFC 4592 §3.3), which gives a name server its
/// addresses as it would any other question's name.
fn wildcard_for<'z>(zone: &'z Zone, name: &Name) -> Option<&'z zone::Node> {
    if zone.exists(name) {
        return None;
    }
    let encloser = std::iter::successors(name.parent(), Name::parent).find(|above| zone.exists(above))?;
    zone.node(&encloser.child(b"*").ok()?)
}

impl World {
    /// Copies a piece into the arenas.
    fn store(&mut self, piece: PieceRef<'_>) -> StoredPiece {
        let stored = StoredPiece {
            at: self.bytes.len() as u32,
            len: piece.bytes.len() as u32,
            fixes_at: self.fixes.len() as u32,
            fixes_len: u16::try_from(piece.fixes.len()).unwrap_or(u16::MAX),
            records: piece.records,
        };
        self.bytes.extend_from_slice(piece.bytes);
        self.fixes.extend_from_slice(piece.fixes);
        stored
    }

    /// Gives back what growing the arrays left over.
    fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        self.rrsets.shrink_to_fit();
        self.referrals.shrink_to_fit();
        self.glue_ends.shrink_to_fit();
        self.bytes.shrink_to_fit();
        self.fixes.shrink_to_fit();
    }
}
