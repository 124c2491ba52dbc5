//! The hash table from names to nodes: one line of cache for nearly every look-up.
//!
//! An entry is eight octets: 32 bits of the name's hash beside the node's number. A name's place is its hash's lower bits, a
//! taken place moves it on to the next (linear probing); at most five of eight places are taken, so that eight entries, one
//! line, nearly always decide. A general table keeps its control octets apart from its entries and so costs two lines. The
//! names stay in the arena, and growing needs none of them, since an entry holds its hash.
//!
//! Nothing is ever removed: a reload builds another table.

/// Node numbers by the hashes of their names.
#[derive(Debug, Clone, Default)]
pub(super) struct NameTable {
    /// Hash in the upper half, number and 1 in the lower; 0: free. A power of two of them, or none.
    entries: Box<[u64]>,
    /// How many are taken.
    taken: usize,
}

impl NameTable {
    /// A table with room for so many names.
    pub(super) fn with_capacity(names: usize) -> NameTable {
        NameTable {
            entries: vec![0; places_for(names)].into(),
            taken: 0,
        }
    }

    /// The node of a name, by its hash and a comparison.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let mask = self.entries.len().checked_sub(1)?;
        let mut place = tag as usize & mask;
        loop {
            // There is always a free place, so this ends.
            let entry = *self.entries.get(place)?;
            if entry == 0 {
                return None;
            }
            let number = (entry as u32).wrapping_sub(1);
            if (entry >> 32) as u32 == tag && is_it(number) {
                return Some(number);
            }
            place = (place + 1) & mask;
        }
    }

    /// Adds a node whose name is not there; its number is below the largest of 32 bits.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        if places_for(self.taken + 1) > self.entries.len() {
            let old = std::mem::replace(&mut self.entries, vec![0; places_for(2 * (self.taken + 1))].into());
            old.iter().filter(|entry| **entry != 0).for_each(|entry| self.put(*entry));
        }
        self.put(u64::from(tag_of(hash)) << 32 | u64::from(number.wrapping_add(1)));
        self.taken += 1;
    }

    /// Puts an entry into the first free place from its own on.
    fn put(&mut self, entry: u64) {
        let mask = self.entries.len().saturating_sub(1);
        let mut place = (entry >> 32) as usize & mask;
        while let Some(taken) = self.entries.get_mut(place) {
            if *taken == 0 {
                *taken = entry;
                return;
            }
            place = (place + 1) & mask;
        }
    }
}

/// The half of a hash that an entry holds; both halves are in it.
fn tag_of(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Places for so many names: a power of two, at most five eighths of it taken.
fn places_for(names: usize) -> usize {
    match names {
        0 => 0,
        names => (names * 8 / 5 + 1).next_power_of_two(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_finds_what_was_put_in_and_nothing_else(
            hashes in prop::collection::vec(prop_oneof![0..8u64, any::<u64>(), Just(u64::MAX), Just(1 << 32)], 0..200),
            room in 0..50usize,
        ) {
            let mut table = NameTable::with_capacity(room);
            let mut wanted: HashMap<u64, u32> = HashMap::new();
            let mut names: Vec<u64> = Vec::new();
            // The hash stands for the name, so equal ones are one name.
            for hash in hashes {
                if wanted.contains_key(&hash) {
                    continue;
                }
                prop_assert_eq!(table.find(hash, |number| names[number as usize] == hash), None);
                let number = names.len() as u32;
                table.insert(hash, number);
                names.push(hash);
                wanted.insert(hash, number);
                for (hash, number) in &wanted {
                    prop_assert_eq!(table.find(*hash, |number| names[number as usize] == *hash), Some(*number));
                }
            }
            prop_assert!(names.len() * 8 <= table.entries.len() * 5 || names.is_empty());
        }
    }
}
