//! Looking many names up in a map that is in canonical order.
//!
//! One of a hundred thousand names takes some seventeen comparisons to find, each at another place in memory. Who wants many of
//! them, in their order, walks along the map instead: one comparison a name. For few names the walk would be the longer way,
//! so the finder chooses by their number.

use super::Name;
use std::cmp::Ordering;
use std::iter::Peekable;

/// With fewer names wanted than this share of the map, each is looked up by itself.
const WALK_FROM_SHARE: usize = 8;

/// Finds the entries of names.
pub struct Finder<G, I: Iterator> {
    /// Looks one up.
    get: G,
    /// The entries that have not been passed; none where a walk would not pay.
    along: Option<Peekable<I>>,
}

impl<'m, V, G, I> Finder<G, I>
where
    G: Fn(&Name) -> Option<V>,
    I: Iterator<Item = (&'m Name, V)>,
{
    /// For so many wanted names, from this one on, of a map of so many: its look-up, and its entries from a name on, in order.
    pub fn new((wanted, first): (usize, Option<&Name>), all: usize, get: G, entries: impl FnOnce(&Name) -> I) -> Finder<G, I> {
        let walks = wanted.saturating_mul(WALK_FROM_SHARE) >= all;
        let along = walks.then(|| entries(first.unwrap_or(&Name::root())).peekable());
        Finder { get, along }
    }

    /// The entry of a name. Quick for names that come in canonical order; any other order is right too.
    pub fn find(&mut self, name: &Name) -> Option<V> {
        let Some(along) = &mut self.along else {
            return (self.get)(name);
        };
        while let Some((key, _)) = along.peek() {
            match (*key).cmp(name) {
                Ordering::Less => along.next(),
                Ordering::Equal => return along.next().map(|(_, value)| value),
                Ordering::Greater => break,
            };
        }
        // Not there, or it was passed before: only a look-up knows.
        (self.get)(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn a_walk_finds_what_look_ups_find(
            there in prop::collection::btree_set(0..40u8, 0..20),
            wanted in prop::collection::vec(0..40u8, 0..30),
            is_sorted in any::<bool>(),
        ) {
            let name = |number: &u8| Name::parse(&format!("n{number:03}.example.")).unwrap();
            let map: BTreeMap<Name, u8> = there.iter().map(|number| (name(number), *number)).collect();
            let mut wanted = wanted;
            if is_sorted {
                wanted.sort();
            }
            let least = wanted.iter().min().map(name);
            for (count, first) in [(0, None), (wanted.len(), least.as_ref()), (1_000, None), (1_000, wanted.first().map(name).as_ref())] {
                let mut finder = Finder::new((count, first), map.len(), |name| map.get(name), |first| map.range::<Name, _>(first..));
                for number in &wanted {
                    prop_assert_eq!(finder.find(&name(number)), there.get(number), "{}", number);
                }
            }
        }
    }
}
