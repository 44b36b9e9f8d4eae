//! What can still be told of a store by a manifest that can't be read as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::inspect::{Part, inspect};
use super::state::{Change, ManifestState};
use crate::error::Result;
use crate::types::{SegmentNumber, StoreId};
use crate::vfs::Vfs;

/// The newest state that can be read, with all edits after it that can be; some may be missing.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// `None` if there is no state that can be read.
    pub state: Option<ManifestState>,
    /// The store that the files say they belong to.
    pub store_id: Option<StoreId>,
    /// Segments that were taken out of the store.
    pub removed: BTreeSet<SegmentNumber>,
    /// The newest generation that has a file.
    pub generation: u64,
    /// The number of the newest edit that can be read.
    pub sequence: u64,
}

/// Gathers what is readable in either copy of any generation.
///
/// # Errors
/// As [`inspect`].
pub fn remains(vfs: &dyn Vfs, dir: &Path) -> Result<Remains> {
    let mut found = Remains::default();
    let mut states = BTreeMap::new();
    let mut edits: BTreeMap<u64, Vec<Change>> = BTreeMap::new();
    inspect(vfs, dir, &mut |inspected| {
        found.generation = found.generation.max(inspected.generation);
        match inspected.part {
            Part::Header { store_id, .. } => found.store_id = Some(store_id),
            Part::State { sequence, state } => {
                states.insert(sequence, *state);
            }
            Part::Edit { sequence, changes } => {
                edits.insert(sequence, changes);
            }
            Part::Bad { .. } | Part::Unused => {}
        }
    })?;
    let Some((sequence, mut state)) = states.pop_last() else {
        return Ok(found);
    };
    found.sequence = sequence;
    for (sequence, changes) in edits.split_off(&(sequence + 1)) {
        found.sequence = sequence;
        for change in &changes {
            found.note(change);
            // Behind one that is missing, another may make no sense as a whole.
            let mut next = state.clone();
            if next.change(change).is_ok() {
                state = next;
            }
        }
    }
    found.store_id = Some(state.store_id);
    found.state = Some(state);
    Ok(found)
}

impl Remains {
    fn note(&mut self, change: &Change) {
        if let Change::SegmentsReplaced { removed, added, .. } = change {
            self.removed.extend(removed);
            for (_, meta) in added {
                self.removed.remove(&meta.number);
            }
        }
    }
}
