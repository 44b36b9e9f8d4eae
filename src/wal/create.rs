//! Makes log files: written under a temporary name, synced, renamed, the folder synced, registered. (The parity's
//! file has nothing in it yet that could be half written.)

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::{LogFileMeta, Parity, StoreId};
use crate::vfs::{Access, File};

use super::format::{FileHeader, HeaderKind, UNIT_BYTES};
use super::identify::{IdentifierFile, reserve_at_first};
use super::names;
use super::options::LogSetup;
use super::protect::ParityFile;
use super::writer::NewFile;

/// Makes a log file and its sidecar. Once this has returned `Ok` both are durable, names included, and
/// the registry knows.
///
/// # Errors
/// What the disk or the registry answers; `OutcomeUnknown` if it is the folder's sync that failed. Nothing of the log is touched then, and the number must not
/// be used again. What was made is removed as far as that works, unless the registry may know it.
pub(crate) fn create_file(
    setup: &LogSetup<'_>,
    store_id: StoreId,
    meta: LogFileMeta,
) -> Result<NewFile> {
    let made = try_create(setup, store_id, &meta);
    if let (Ok(_), Some(registry)) = (&made, &setup.registry) {
        registry.prepared(&meta)?;
    }
    if made.is_err() {
        for path in names::all_paths(&setup.dir, meta.number, meta.parity) {
            // What stays behind is void, and removed by a later purge.
            let _ = setup.vfs.remove(&names::temporary(&path));
            let _ = setup.vfs.remove(&path);
        }
    }
    made
}

fn try_create(setup: &LogSetup<'_>, store_id: StoreId, meta: &LogFileMeta) -> Result<NewFile> {
    let header = FileHeader {
        store_id,
        meta: meta.clone(),
    };
    let sidecar_path = names::identifiers_path(&setup.dir, meta.number);
    let reserved = UNIT_BYTES + reserve_at_first(meta.capacity);
    let mut unit = header.encode(HeaderKind::Identifiers);
    // Zeros, so that the syncs to come needn't turn reserved space into written space (ext4).
    unit.resize(usize::try_from(reserved).unwrap_or(unit.len()), 0);
    let sidecar = publish(setup, &sidecar_path, &unit, reserved)?;
    let path = names::log_path(&setup.dir, meta.number);
    let unit = header.encode(HeaderKind::Log);
    let file = publish(setup, &path, &unit, meta.capacity)?;
    let parity = match meta.parity {
        Parity::Off => None,
        _ => Some(Arc::new(ParityFile::create(setup, meta, &file)?)),
    };
    let synced = setup.vfs.sync_dir(&setup.dir);
    // Final: others may have names to be made durable there, and asking again proves nothing.
    synced.map_err(|e| Error::OutcomeUnknown {
        cause: Error::io("sync", &setup.dir, e).to_string().into(),
    })?;
    let identifiers = IdentifierFile::new(sidecar_path, sidecar, meta, reserved);
    Ok(NewFile {
        meta: meta.clone(),
        path,
        file,
        identifiers: Arc::new(identifiers),
        parity,
    })
}

/// Makes a preallocated file that begins with `bytes`, all of it durable but its name.
fn publish(
    setup: &LogSetup<'_>,
    path: &Path,
    bytes: &[u8],
    capacity: u64,
) -> Result<Arc<dyn File>> {
    let temporary = names::temporary(path);
    let created = setup.vfs.open(&temporary, Access::CreateOrTruncate);
    let file = created.map_err(|e| Error::io("create", &temporary, e))?;
    let taken = file.preallocate(capacity);
    taken.map_err(|e| Error::io("make room in", &temporary, e))?;
    let written = file.write_at(bytes, 0);
    written.map_err(|e| Error::io("write", &temporary, e))?;
    file.sync_data()
        .map_err(|e| Error::io("sync", &temporary, e))?;
    drop(file);
    let renamed = setup.vfs.rename(&temporary, path);
    renamed.map_err(|e| Error::io("publish", path, e))?;
    let opened = setup.vfs.open(path, Access::Write);
    opened.map_err(|e| Error::io("open", path, e))
}
