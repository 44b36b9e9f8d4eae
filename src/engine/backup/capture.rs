//! One moment of a store, held while it is copied: what the manifest says, and the segments it names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::engine::Engine;
use crate::environment::Entropy;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, ManifestAccess, ManifestSetup, ManifestState};
use crate::segment::Segment;
use crate::types::Index;
use crate::vfs::Vfs;

/// What is to be copied. As long as this lives, no file of it is removed.
pub(super) struct Captured {
    /// Without log files: the segments hold everything.
    pub(super) state: ManifestState,
    pub(super) segments: Vec<Arc<Segment>>,
    /// It holds every record through this one.
    pub(super) index: Index,
    /// The time of that record.
    pub(super) time_us: u64,
}

impl Engine {
    /// Flushes, and holds what there is then.
    pub(super) fn capture(&self) -> Result<Captured> {
        self.flush()?;
        // What can't be opened can't be copied: what is left of it can.
        for tree in self.keyspaces.load_full().trees() {
            self.fence_broken(tree)?;
        }
        // Whoever changes what the manifest says changes the trees under the same lock.
        let manifest = self.manifest.lock();
        let mut state = manifest.state().clone();
        // A tree is put among the dropped before it is taken out of the keyspaces.
        let keyspaces = self.keyspaces.load_full();
        let dropped = self.dropped.lock();
        let trees = keyspaces
            .trees()
            .chain(dropped.iter().map(|(_, tree)| tree));
        let mut open = HashMap::new();
        for tree in trees {
            for (_, segment) in tree.load().segments() {
                open.insert(segment.meta().number, segment.clone());
            }
        }
        drop(dropped);
        drop(manifest);
        let mut segments = Vec::new();
        for number in state.keyspaces.values().flat_map(|k| k.segments.keys()) {
            let segment = open.remove(number).ok_or_else(|| Error::ManifestEdit {
                why: format!("segment {number} is named and not open"),
            })?;
            segments.push(segment);
        }
        let covered = || state.keyspaces.values().map(|keyspace| keyspace.covered);
        let (index, highest) = (covered().min(), covered().max());
        if index != highest {
            // A flush makes all keyspaces cover the same record.
            let why = format!("the keyspaces cover {index:?} to {highest:?} after a flush");
            return Err(Error::ManifestEdit { why });
        }
        state.log_files.clear();
        state.activity.clear();
        Ok(Captured {
            segments,
            index: index.unwrap_or_default(),
            time_us: state.covered_time_us,
            state,
        })
    }

    /// Writes the manifest of a store that is built in a folder.
    pub(super) fn create_manifest(&self, dir: &Path, state: ManifestState) -> Result<()> {
        create_manifest(
            self.options.vfs.clone(),
            self.options.entropy.clone(),
            dir,
            state,
        )
    }
}

/// Writes the manifest of a store that is built in a folder.
pub(super) fn create_manifest(
    vfs: Arc<dyn Vfs>,
    entropy: Arc<dyn Entropy>,
    dir: &Path,
    state: ManifestState,
) -> Result<()> {
    let setup = ManifestSetup {
        dir: dir.to_owned(),
        vfs,
        entropy,
        access: ManifestAccess::ReadWrite,
    };
    let created = Manifest::create(setup, state).map(drop);
    created.map_err(|error| not_final(error, dir))
}

/// That a store under construction, or an archive, takes no more writes says nothing of any other store: it
/// is built, or opened, again.
pub(super) fn not_final(error: Error, dir: &Path) -> Error {
    match error {
        Error::OutcomeUnknown { cause } | Error::Poisoned { cause } => {
            let source = std::io::Error::other(cause.to_string());
            Error::io("write to", dir, source)
        }
        other => other,
    }
}
