//! What archived records have loaded, brought back beside the log for a restore.

use std::io::ErrorKind;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::engine::backup::content;
use crate::engine::load::{Cargo, LoadOperation};
use crate::error::{Damage, Error, Result};
use crate::segment::{Segment, file_name};
use crate::snapshot::{CopyFailure, Repository};
use crate::types::{KeyspaceId, SegmentMeta};
use crate::vfs::Access;
use crate::wal::Record;

/// Copies the segments that a record loads into the store under construction, each verified by its digest
/// and under the number that it had, which stands in it. Returns them, and their bytes.
pub(super) fn bring(
    repository: &Repository,
    engine: &Engine,
    record: &Record,
) -> Result<(Cargo, u64)> {
    let load = LoadOperation::decode(&record.payload);
    let load = load.ok_or_else(|| engine.malformed(record.index, "load"))?;
    let keyspaces = engine.keyspaces.load_full();
    let tree = keyspaces.get(load.keyspace);
    let tree = tree.ok_or_else(|| engine.malformed(record.index, "load"))?;
    let (mut segments, mut bytes) = (Vec::new(), 0);
    for meta in &load.segments {
        segments.push(bring_one(repository, engine, load.keyspace, meta)?);
        bytes += meta.bytes;
    }
    Ok((Mutex::new(Some((tree.clone(), segments))), bytes))
}

fn bring_one(
    repository: &Repository,
    engine: &Engine,
    keyspace: KeyspaceId,
    meta: &SegmentMeta,
) -> Result<Segment> {
    let source = repository.segment_path(meta.digest);
    let damaged = |what: String| Error::damaged(Damage::new(&source, 0, meta.bytes, what));
    let target = engine.options.path.join(file_name(meta.number));
    match engine.options.vfs.open(&target, Access::Read) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("open", &target, error)),
        // Its note can't be read, or it would have been kept free.
        Ok(_) => {
            let number = meta.number;
            return Err(damaged(format!(
                "the number {number} that it needs is taken: the note of its load is missing or damaged"
            )));
        }
    }
    let fetched = repository.fetch_segment(&content(meta), &target);
    fetched.map_err(|failure| match failure {
        CopyFailure::Source(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            damaged("a segment that an archived record loads is missing".to_owned())
        }
        other => other.into_error(),
    })?;
    let segment = engine.open_segment(meta)?;
    if segment.keyspace() == keyspace {
        Ok(segment)
    } else {
        let found = segment.keyspace();
        Err(damaged(format!(
            "it belongs to keyspace {found}, not {keyspace}"
        )))
    }
}
