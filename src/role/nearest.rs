//! What somebody may have meant who mistyped a word.
//!
//! Among a hundred thousand names this is asked for by anybody who may read, so strangers are given up early: a word of quite
//! another length at once, any other after as many rows of the table as it may have mistakes.

/// Most mistakes, however long the word is: who makes more has not mistyped it.
const MISTAKES_MAX: usize = 10;

/// `; did you mean …?` with the nearest of some words, if one is near enough.
pub fn nearest(word: &str, known: impl Iterator<Item = String>) -> String {
    let word: Vec<char> = word.chars().collect();
    // A third of the word may be wrong: that covers swapped and forgotten letters, and keeps strangers out.
    let limit = (word.len() / 3).clamp(1, MISTAKES_MAX);
    let mut best: Option<(usize, String)> = None;
    let mut table = Table::default();
    for other in known {
        // Nothing farther away than the best so far can win.
        let limit = best.as_ref().map_or(limit, |(distance, _)| *distance);
        let Some(distance) = table.distance(&word, other.chars(), limit) else {
            continue;
        };
        let found = (distance, other);
        if best.as_ref().is_none_or(|best| found < *best) {
            best = Some(found);
        }
    }
    best.map_or(String::new(), |(_, other)| format!("; did you mean {other}?"))
}

/// Rows of the table of distances between beginnings, kept from word to word; each is one longer than the word.
#[derive(Default)]
struct Table {
    older: Vec<usize>,
    old: Vec<usize>,
    new: Vec<usize>,
}

impl Table {
    /// Edits from one word to another, in characters: one is a character more, less, changed, or two neighbours swapped. None
    /// where more than `limit` are needed.
    fn distance(&mut self, word: &[char], other: impl Iterator<Item = char> + Clone, limit: usize) -> Option<usize> {
        // One more than may be is enough to know.
        let longest = word.len().saturating_add(limit);
        let length = other.clone().take(longest.saturating_add(1)).count();
        if length.abs_diff(word.len()) > limit {
            return None;
        }
        self.old.clear();
        self.old.extend(0..=word.len());
        let mut before: Option<char> = None;
        for (row, x) in other.enumerate() {
            self.new.clear();
            self.new.push(row + 1);
            for (column, y) in word.iter().enumerate() {
                let at = |cells: &[usize], column: usize| cells.get(column).copied().unwrap_or(usize::MAX / 2);
                let changed = at(&self.old, column) + usize::from(x != *y);
                let one_off = at(&self.old, column + 1).min(at(&self.new, column)) + 1;
                let is_swap = column > 0 && before == Some(*y) && word.get(column - 1) == Some(&x);
                let swapped = if is_swap { at(&self.older, column - 1) + 1 } else { usize::MAX };
                self.new.push(changed.min(one_off).min(swapped));
            }
            // Distances grow along every way through the table. A swap passes a row over, but costs one itself, and a row is at
            // most one above the row before it: nothing below comes back under the limit.
            if self.new.iter().all(|&cell| cell > limit) {
                return None;
            }
            std::mem::swap(&mut self.older, &mut self.old);
            std::mem::swap(&mut self.old, &mut self.new);
            before = Some(x);
        }
        self.old.last().copied().filter(|&distance| distance <= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    /// The distance, where it is within a limit.
    fn within(a: &str, b: &str, limit: usize) -> Option<usize> {
        Table::default().distance(&a.chars().collect::<Vec<_>>(), b.chars(), limit)
    }

    #[test]
    fn hints_name_the_nearest_and_only_the_near() {
        let known = || ["iad", "fra", "eu-west-1"].map(str::to_owned).into_iter();
        assert_eq!(nearest("far", known()), "; did you mean fra?");
        assert_eq!(nearest("eu-wset-l", known()), "; did you mean eu-west-1?");
        assert_eq!(nearest("sin", known()), "");
        assert_eq!(nearest("", known()), "");
        let alike = || ["shop-c", "shop-a", "shop-b"].map(str::to_owned).into_iter();
        assert_eq!(nearest("shop-d", alike()), "; did you mean shop-a?");
    }

    #[test]
    fn a_stranger_is_given_up_after_as_many_rows_as_there_may_be_mistakes() {
        let word: Vec<char> = "a".repeat(250).chars().collect();
        let drawn = Cell::new(0);
        let stranger = "b".repeat(250);
        let counted = stranger.chars().inspect(|_| drawn.set(drawn.get() + 1));
        // Counting its length draws them once too.
        assert_eq!(Table::default().distance(&word, counted, 10), None);
        assert!(drawn.get() <= 250 + 12, "{}", drawn.get());
        let short = "a".repeat(239);
        drawn.set(0);
        let counted = short.chars().inspect(|_| drawn.set(drawn.get() + 1));
        assert_eq!(Table::default().distance(&word, counted, 10), None);
        assert_eq!(drawn.get(), 239, "only its length was counted");
    }

    proptest! {
        #[test]
        fn giving_up_early_changes_no_distance(a in "[abc]{0,8}", b in "[abc]{0,8}", limit in 0..9usize) {
            let whole = within(&a, &b, 16);
            prop_assert!(whole.is_some());
            prop_assert_eq!(within(&a, &b, limit), whole.filter(|distance| *distance <= limit));
            prop_assert_eq!(within(&b, &a, 16), whole);
        }
    }
}
