//! What one flush makes durable.

use std::sync::Arc;

use crate::engine::conflicts::WindowPiece;
use crate::engine::tree::{Frozen, Tree};
use crate::manifest::{Change, ManifestState};
use crate::memtable::Memtable;
use crate::segment::Segment;
use crate::types::{Index, KeyspaceId};

/// Memtables frozen together.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Every record through this one is in this generation or an older one.
    pub(super) covered: Index,
    /// The time of that record.
    pub(super) covered_time_us: u64,
    pub(super) tables: Vec<(Arc<Tree>, Frozen)>,
    /// Keyspaces created and dropped in it.
    pub(super) catalog: Vec<Change>,
    /// What the conflict window has of its records.
    pub(super) window: WindowPiece,
}

impl Generation {
    /// What one record loaded into a tree.
    pub(super) fn of_load(
        index: Index,
        time_us: u64,
        tree: Arc<Tree>,
        segments: Arc<Vec<Arc<Segment>>>,
    ) -> Self {
        Self {
            covered: index,
            covered_time_us: time_us,
            tables: vec![(tree, Frozen::Loaded(segments))],
            catalog: Vec::new(),
            window: WindowPiece::default(),
        }
    }

    /// The memtables of trees through a record, and what was done to the catalog.
    pub(super) fn of_tables(
        covered: Index,
        time_us: u64,
        tables: Vec<(Arc<Tree>, Arc<Memtable>)>,
        catalog: Vec<Change>,
    ) -> Self {
        let tables = tables.into_iter();
        Self {
            covered,
            covered_time_us: time_us,
            tables: tables
                .map(|(tree, table)| (tree, Frozen::Memtable(table)))
                .collect(),
            catalog,
            window: WindowPiece::default(),
        }
    }
}

impl Generation {
    /// Whether a tree is gone at its end.
    pub(super) fn drops(&self, tree: &Tree) -> bool {
        let is_drop = |change: &Change| matches!(change, Change::KeyspaceDropped { id, .. } if *id == tree.id);
        self.catalog.iter().any(is_drop)
    }

    /// The keyspaces that there are at its end, by what the manifest says of its beginning.
    pub(super) fn known_at_its_end(&self, state: &ManifestState) -> Vec<KeyspaceId> {
        let mut known: Vec<KeyspaceId> = state.keyspaces.keys().copied().collect();
        for change in &self.catalog {
            match change {
                Change::KeyspaceCreated { id, .. } => known.push(*id),
                Change::KeyspaceDropped { id, .. } => known.retain(|k| k != id),
                _ => {}
            }
        }
        known
    }
}
