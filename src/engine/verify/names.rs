//! Whether the folder holds all and only what the manifest names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::engine::Engine;
use crate::engine::folder::is_data;
use crate::error::{Error, Result};
use crate::segment::file_name;
use crate::snapshot::{LINEAGE_COPY_FILE, LINEAGE_FILE};

/// The folder's files.
pub(super) struct Names {
    /// Those of the store, whether they are there or not.
    pub(super) named: BTreeSet<PathBuf>,
    /// Those that have such a name, and aren't.
    pub(super) leftover: Vec<String>,
}

/// What is there, and what should be.
pub(super) fn look(engine: &Engine) -> Result<Names> {
    let dir = &engine.options.path;
    let (state, generation) = {
        let manifest = engine.manifest.lock();
        (manifest.state().clone(), manifest.position().0)
    };
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut may_be: BTreeSet<String> = BTreeSet::new();
    for side in ["a", "b"] {
        named.insert(format!("manifest-{generation:08}.{side}"));
    }
    let segments = state.keyspaces.values().flat_map(|k| k.segments.keys());
    named.extend(segments.map(|number| file_name(*number)));
    for tree in engine.keyspaces.load().trees() {
        let tables = tree.load();
        let loaded = tables.loaded().flat_map(|loaded| loaded.iter());
        named.extend(loaded.map(|segment| file_name(segment.meta().number)));
    }
    for number in state.log_files.keys() {
        named.extend(["log", "ids"].map(|kind| format!("{:08}.{kind}", number.0)));
        // It is written anew where it is gone, and nothing is lost with it.
        may_be.insert(format!("{:08}.parity", number.0));
    }
    let entries = engine.options.vfs.list(dir);
    let entries = entries.map_err(|error| Error::io("list the folder", dir, error))?;
    let mut leftover = Vec::new();
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let is_by_itself = [LINEAGE_FILE, LINEAGE_COPY_FILE, "vote.a", "vote.b"];
        if is_by_itself.contains(&entry.name.as_str()) || may_be.contains(&entry.name) {
            named.insert(entry.name);
        } else if entry.name.ends_with(".tmp")
            || is_data(&entry.name) && !named.contains(&entry.name)
        {
            leftover.push(entry.name);
        }
    }
    leftover.sort();
    let named = named.into_iter().map(|name| dir.join(name)).collect();
    Ok(Names { named, leftover })
}
