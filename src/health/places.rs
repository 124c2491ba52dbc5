//! Where each endpoint of a region stands among its fellows.
//!
//! Sorted by endpoint and searched by halves: of a hundred thousand applications most have one or two endpoints a region, for
//! which a map would be ten times the memory.

use crate::model::Endpoint;
use std::sync::Arc;

/// The place of each endpoint.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<[(Endpoint, usize)]>);

impl Places {
    /// The places of endpoints in their order.
    pub(super) fn of<'e>(endpoints: impl Iterator<Item = &'e Endpoint>) -> Places {
        let mut places: Vec<(Endpoint, usize)> = endpoints.enumerate().map(|(place, endpoint)| (endpoint.clone(), place)).collect();
        places.sort();
        Places(places.into())
    }

    /// Where an endpoint stands.
    pub(super) fn find(&self, endpoint: &Endpoint) -> Option<usize> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(endpoint)).ok()?;
        self.0.get(at).map(|(_, place)| *place)
    }
}
