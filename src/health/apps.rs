//! The applications of a book: in the order of their ids, and found by a hash.
//!
//! Every look at a name asks for the health of its application several times, and an evacuation looks at a hundred thousand names: a
//! tree would compare seventeen ids each time. Which applications there are changes with the config alone, so the index is made
//! then and shared by every clone, while the books are in a persistent vector.

use super::AppBook;
use crate::model::{AppId, SteeredName};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::Arc;

/// The books of the applications. A clone costs O(1).
#[derive(Debug, Clone, Default)]
pub(super) struct Apps {
    /// Where the book of each application stands. The ids are the config's own, so nobody outside can aim for collisions.
    index: Arc<HashMap<AppId, usize, FixedState>>,
    /// In the order of the ids.
    books: imbl::Vector<Arc<AppBook>>,
}

impl Apps {
    /// These books, in the order given.
    pub(super) fn new(books: imbl::Vector<Arc<AppBook>>) -> Apps {
        let index = books.iter().enumerate().map(|(place, book)| (book.app.id.clone(), place));
        Apps {
            index: Arc::new(index.collect()),
            books,
        }
    }

    /// The book of an application.
    pub(super) fn get(&self, app: &AppId) -> Option<&Arc<AppBook>> {
        self.books.get(*self.index.get(app)?)
    }

    /// The book of the application of a name: without a search where the name is of the fleet that the books are of.
    pub(super) fn of(&self, steered: &SteeredName) -> Option<&Arc<AppBook>> {
        let there = self.books.get(steered.place());
        let is_it = |book: &&Arc<AppBook>| Arc::ptr_eq(&book.app, &steered.app) || book.app.id == steered.app.id;
        there.filter(is_it).or_else(|| self.get(&steered.app.id))
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, app: &AppId) -> Option<&mut Arc<AppBook>> {
        self.books.get_mut(*self.index.get(app)?)
    }

    /// Every book, in the order of the ids.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<AppBook>> {
        self.books.iter()
    }

    /// The same, to change them.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Arc<AppBook>> {
        self.books.iter_mut()
    }
}
