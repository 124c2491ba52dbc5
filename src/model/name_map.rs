//! A persistent map from names in canonical order: what is decided for each of them, and what they answer.
//!
//! A clone costs O(1) and shares everything. Entries lie in chunks, chunks in branches, branches in a trunk, each behind an `Arc`:
//! to change one entry its chunk, its branch and the trunk are copied (up to 64 entries, 128 and n/8192 pointers), all else stays
//! shared. An evacuation changes a hundred thousand at once, and for that [`NameMap::change_many`] writes the chunks anew in one
//! pass, which a tree whose entries can only be changed one by one takes ten times as long for.
//!
//! A child stands beside the least name that it may hold. Chunks that lost entries are not joined with their neighbours: names
//! go seldom, with a reload, and an empty one goes.

use super::Name;
use std::fmt;
use std::sync::Arc;

/// Most entries of a chunk.
const CHUNK_MAX: usize = 64;
/// Most chunks of a branch.
const BRANCH_MAX: usize = 128;
/// With fewer changes than this share of the map, each is made by itself.
const ONE_PASS_FROM_SHARE: usize = 8;

/// Neighbouring entries.
type Chunk<V> = Vec<(Name, V)>;
/// Children with the least name of each; of the first one, names below that are in it too.
type Row<T> = Vec<(Name, Arc<T>)>;
/// Neighbouring chunks.
type Branch<V> = Row<Chunk<V>>;

/// A persistent map from names, in canonical order.
pub struct NameMap<V> {
    /// The branches.
    trunk: Arc<Row<Branch<V>>>,
    /// Number of entries.
    len: usize,
}

/// Which child of a row has a name, if any has.
fn seek<T>(row: &Row<T>, name: &Name) -> usize {
    row.partition_point(|(first, _)| first <= name).saturating_sub(1)
}

/// Takes the second half of what has become too long; where it grew at its end only the last one, so that what comes in order
/// fills every place.
fn split<T>(row: &mut Vec<T>, max: usize, grew_at: usize) -> Option<Vec<T>> {
    let is_last = grew_at + 1 == row.len();
    (row.len() > max).then(|| row.split_off(if is_last { grew_at } else { row.len() / 2 }))
}

/// Puts a new child behind the one of this number.
fn add_child<T>(row: &mut Row<Vec<(Name, T)>>, behind: usize, child: Vec<(Name, T)>) -> Option<usize> {
    let first = child.first()?.0.clone();
    row.insert(behind + 1, (first, Arc::new(child)));
    Some(behind + 1)
}

impl<V> NameMap<V> {
    /// Without entries.
    pub fn new() -> NameMap<V> {
        NameMap {
            trunk: Arc::new(Vec::new()),
            len: 0,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is such a name.
    pub fn contains_key(&self, name: &Name) -> bool {
        self.get(name).is_some()
    }

    /// The value of a name.
    pub fn get(&self, name: &Name) -> Option<&V> {
        let (_, branch) = self.trunk.get(seek(&self.trunk, name))?;
        let (_, chunk) = branch.get(seek(branch, name))?;
        let at = chunk.binary_search_by(|(key, _)| key.cmp(name)).ok()?;
        chunk.get(at).map(|(_, value)| value)
    }

    /// Every entry in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &V)> {
        self.entries((0, 0, 0))
    }

    /// The entries from a name on, in order.
    pub fn iter_from<'m>(&'m self, first: &Name) -> impl Iterator<Item = (&'m Name, &'m V)> + use<'m, V> {
        let branch = seek(&self.trunk, first);
        let chunks = self.trunk.get(branch).map(|(_, chunks)| chunks);
        let chunk = chunks.map_or(0, |chunks| seek(chunks, first));
        let entries = chunks.and_then(|chunks| chunks.get(chunk));
        let entry = entries.map_or(0, |(_, entries)| entries.partition_point(|(name, _)| name < first));
        self.entries((branch, chunk, entry))
    }

    /// The entries from a place on.
    fn entries(&self, (branch, chunk, entry): (usize, usize, usize)) -> impl Iterator<Item = (&Name, &V)> {
        let branches = self
            .trunk
            .iter()
            .skip(branch)
            .zip(std::iter::once(chunk).chain(std::iter::repeat(0)));
        let chunks = branches.flat_map(|((_, chunks), skip)| chunks.iter().skip(skip));
        let places = std::iter::once(entry).chain(std::iter::repeat(0));
        let entries = chunks.zip(places).flat_map(|((_, entries), skip)| entries.iter().skip(skip));
        entries.map(|(name, value)| (name, value))
    }

    /// Every name in order.
    pub fn keys(&self) -> impl Iterator<Item = &Name> {
        self.iter().map(|(name, _)| name)
    }

    /// Every value in the order of the names.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<V: Clone> NameMap<V> {
    /// The chunk in which a name is or would be, to be changed, with its place and that of its branch; none in an empty map.
    fn chunk_mut(&mut self, name: &Name) -> Option<(usize, usize, &mut Chunk<V>)> {
        let at = seek(&self.trunk, name);
        let branch = Arc::make_mut(&mut Arc::make_mut(&mut self.trunk).get_mut(at)?.1);
        let chunk_at = seek(branch, name);
        let chunk = Arc::make_mut(&mut branch.get_mut(chunk_at)?.1);
        Some((at, chunk_at, chunk))
    }

    /// The value of a name, to be changed.
    pub fn get_mut(&mut self, name: &Name) -> Option<&mut V> {
        // What is not there copies nothing.
        self.get(name)?;
        let (_, _, chunk) = self.chunk_mut(name)?;
        let at = chunk.binary_search_by(|(key, _)| key.cmp(name)).ok()?;
        chunk.get_mut(at).map(|(_, value)| value)
    }

    /// Puts a value in; gives the one that was there.
    pub fn insert(&mut self, name: Name, value: V) -> Option<V> {
        let Some((branch_at, chunk_at, chunk)) = self.chunk_mut(&name) else {
            let chunk: Chunk<V> = vec![(name.clone(), value)];
            self.trunk = Arc::new(vec![(name.clone(), Arc::new(vec![(name, Arc::new(chunk))]))]);
            self.len = 1;
            return None;
        };
        let at = match chunk.binary_search_by(|(key, _)| key.cmp(&name)) {
            Ok(at) => return chunk.get_mut(at).map(|(_, there)| std::mem::replace(there, value)),
            Err(at) => at,
        };
        chunk.insert(at, (name, value));
        let rest = split(chunk, CHUNK_MAX, at);
        self.len += 1;
        let trunk = Arc::make_mut(&mut self.trunk);
        let branch = trunk.get_mut(branch_at).map(|(_, branch)| Arc::make_mut(branch))?;
        let grew_at = add_child(branch, chunk_at, rest?)?;
        let rest = split(branch, BRANCH_MAX, grew_at);
        add_child(trunk, branch_at, rest?);
        None
    }

    /// Takes a name out; gives its value.
    pub fn remove(&mut self, name: &Name) -> Option<V> {
        self.get(name)?;
        let (branch_at, chunk_at, chunk) = self.chunk_mut(name)?;
        let at = chunk.binary_search_by(|(key, _)| key.cmp(name)).ok()?;
        let (_, value) = chunk.remove(at);
        let is_empty = chunk.is_empty();
        self.len -= 1;
        if is_empty {
            let trunk = Arc::make_mut(&mut self.trunk);
            let branch = trunk.get_mut(branch_at).map(|(_, branch)| Arc::make_mut(branch))?;
            branch.remove(chunk_at);
            if branch.is_empty() {
                trunk.remove(branch_at);
            }
        }
        Some(value)
    }

    /// Changes many values, given what to change in the order of the names at best; names that are not there are passed over, and of
    /// two changes of one name the later comes after the earlier.
    pub fn change_many<'c, C>(&mut self, changes: &'c [C], name_of: impl Fn(&C) -> &Name, mut changed: impl FnMut(&V, &'c C) -> V) {
        let mut rest: Vec<&'c C> = Vec::new();
        if changes.len().saturating_mul(ONE_PASS_FROM_SHARE) < self.len {
            rest.extend(changes);
        } else {
            let mut ahead = changes.iter().peekable();
            let branches = Arc::make_mut(&mut self.trunk).iter_mut();
            for (_, chunk) in branches.flat_map(|(_, branch)| Arc::make_mut(branch).iter_mut()) {
                let is_beyond = |change: &&C| chunk.last().is_none_or(|(last, _)| last < name_of(change));
                if ahead.peek().is_none_or(is_beyond) {
                    continue;
                }
                let anew = chunk.iter().map(|(name, value)| {
                    while let Some(change) = ahead.next_if(|change| name_of(change) < name) {
                        // Not there, or not in order.
                        rest.push(change);
                    }
                    let change = ahead.next_if(|change| name_of(change) == name);
                    (name.clone(), change.map_or_else(|| value.clone(), |change| changed(value, change)))
                });
                *chunk = Arc::new(anew.collect());
            }
            rest.extend(ahead);
        }
        for change in rest {
            if let Some(value) = self.get_mut(name_of(change)) {
                *value = changed(value, change);
            }
        }
    }
}

impl<V: Clone> FromIterator<(Name, V)> for NameMap<V> {
    fn from_iter<I: IntoIterator<Item = (Name, V)>>(entries: I) -> NameMap<V> {
        let mut map = NameMap::new();
        for (name, value) in entries {
            map.insert(name, value);
        }
        map
    }
}

impl<V> Clone for NameMap<V> {
    fn clone(&self) -> NameMap<V> {
        NameMap {
            trunk: self.trunk.clone(),
            len: self.len,
        }
    }
}

impl<V> Default for NameMap<V> {
    fn default() -> NameMap<V> {
        NameMap::new()
    }
}

impl<V: PartialEq> PartialEq for NameMap<V> {
    fn eq(&self, other: &NameMap<V>) -> bool {
        Arc::ptr_eq(&self.trunk, &other.trunk) || (self.len == other.len && self.iter().eq(other.iter()))
    }
}

impl<V: fmt::Debug> fmt::Debug for NameMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What is done to a map.
    #[derive(Debug, Clone)]
    enum Step {
        Insert(u16, u8),
        Remove(u16),
        Change(u16, u8),
        ChangeMany(Vec<(u16, u8)>, bool),
    }

    /// Names enough for several branches.
    const NAMES: u16 = 20_000;

    fn name(number: u16) -> Name {
        Name::parse(&format!("n{number:05}.example.")).unwrap()
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = || 0..NAMES;
        prop_oneof![
            (number(), any::<u8>()).prop_map(|(number, to)| Step::Insert(number, to)),
            number().prop_map(Step::Remove),
            (number(), any::<u8>()).prop_map(|(number, to)| Step::Change(number, to)),
            (prop::collection::vec((number(), any::<u8>()), 0..40), any::<bool>()).prop_map(|(all, sorted)| Step::ChangeMany(all, sorted)),
        ]
    }

    /// Does a step to the map and to the reference.
    fn take(map: &mut NameMap<Vec<u8>>, reference: &mut BTreeMap<Name, Vec<u8>>, step: &Step) {
        match step {
            Step::Insert(number, to) => assert_eq!(map.insert(name(*number), vec![*to]), reference.insert(name(*number), vec![*to])),
            Step::Remove(number) => assert_eq!(map.remove(&name(*number)), reference.remove(&name(*number))),
            Step::Change(number, to) => {
                let (mine, theirs) = (map.get_mut(&name(*number)), reference.get_mut(&name(*number)));
                assert_eq!(mine, theirs);
                mine.into_iter().chain(theirs).for_each(|value| value.push(*to));
            }
            Step::ChangeMany(changes, sorted) => {
                let mut changes: Vec<(Name, u8)> = changes.iter().map(|(number, to)| (name(*number), *to)).collect();
                if *sorted {
                    changes.sort();
                }
                map.change_many(
                    &changes,
                    |(name, _)| name,
                    |value, (_, to)| value.iter().copied().chain([*to]).collect(),
                );
                for (name, to) in &changes {
                    reference.get_mut(name).into_iter().for_each(|value| value.push(*to));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn it_is_what_a_sorted_map_is(
            // From nothing, from a few, and from several branches, filled in order or crosswise.
            (start, stride) in prop_oneof![Just((0, 1)), Just((150, 7)), Just((9_000, 1)), Just((9_000, 7_919))],
            steps in prop::collection::vec(step(), 0..60),
            from in 0..NAMES,
        ) {
            let filled = (0..start).map(|number: u16| (name((u32::from(number) * stride % u32::from(NAMES)) as u16), vec![0]));
            let mut reference: BTreeMap<Name, Vec<u8>> = filled.clone().collect();
            let mut map: NameMap<Vec<u8>> = filled.collect();
            for step in &steps {
                let (before, reference_before) = (map.clone(), reference.clone());
                take(&mut map, &mut reference, step);
                // Whoever holds the map from before sees nothing of it.
                prop_assert!(before.iter().eq(reference_before.iter()), "{step:?}");
                prop_assert_eq!(map.len(), reference.len());
                prop_assert_eq!(map == before, reference == reference_before);
            }
            prop_assert!(map.iter().eq(reference.iter()));
            prop_assert!(map.iter_from(&name(from)).eq(reference.range(name(from)..)));
            prop_assert!((0..NAMES).step_by(37).all(|number| map.get(&name(number)) == reference.get(&name(number))));
        }
    }

    #[test]
    fn what_comes_in_order_fills_every_place_and_what_goes_leaves_none() {
        let mut map: NameMap<u16> = (0..NAMES).map(|number| (name(number), number)).collect();
        let chunks = |map: &NameMap<u16>| map.trunk.iter().map(|(_, branch)| branch.len()).sum::<usize>();
        assert_eq!(chunks(&map), usize::from(NAMES).div_ceil(CHUNK_MAX));
        (0..NAMES).for_each(|number| assert_eq!(map.remove(&name(number)), Some(number)));
        assert!(map.is_empty() && map.trunk.is_empty() && map.iter().next().is_none());
        assert_eq!(map.insert(name(1), 1), None);
        assert_eq!(map, [(name(1), 1)].into_iter().collect());
    }

    #[test]
    fn a_change_of_one_copies_one_way_and_a_change_of_many_only_their_chunks() {
        let before: NameMap<u16> = (0..NAMES).map(|number| (name(number), 0)).collect();
        let shared = |after: &NameMap<u16>| {
            let chunks = |map: &NameMap<u16>| {
                map.trunk
                    .iter()
                    .flat_map(|(_, branch)| branch.iter().map(|(_, chunk)| chunk.clone()))
                    .collect::<Vec<_>>()
            };
            let (before, after) = (chunks(&before), chunks(after));
            before
                .iter()
                .zip(&after)
                .filter(|(before, after)| !Arc::ptr_eq(before, after))
                .count()
        };
        let mut one = before.clone();
        *one.get_mut(&name(5_000)).unwrap() = 1;
        assert_eq!((shared(&one), one.get_mut(&Name::root())), (1, None));
        let mut half = before.clone();
        let changes: Vec<Name> = (0..NAMES / 2).map(name).collect();
        half.change_many(&changes, |name| name, |_, _| 1);
        assert_eq!(shared(&half), (usize::from(NAMES) / 2).div_ceil(CHUNK_MAX));
    }
}
