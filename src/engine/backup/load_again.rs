//! What archived records have loaded, brought back beside the log for a restore.

use std::io::ErrorKind;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::engine::backup::content;
use crate::engine::load::{Cargo, LoadOperation};
use crate::error::{Damage, Error, Result};
use crate::segment::{Segment, file_name};
use crate::snapshot::{CopyFailure, Repository};
use crate::types::{Index, KeyspaceId, SegmentMeta, SegmentNumber};
use crate::vfs::Access;
use crate::wal::Record;

/// What a record says that it loads.
pub(super) fn loaded_by(engine: &Engine, record: &Record) -> Result<LoadOperation> {
    let load = LoadOperation::decode(&record.payload);
    load.ok_or_else(|| engine.malformed(record.index, "load"))
}

/// A number of a load's segments that the store under construction may have given out, if there is one. From
/// now on it gives out none of them. `first`: the first number that it gave out.
pub(super) fn taken_number(
    engine: &Engine,
    first: SegmentNumber,
    load: &LoadOperation,
) -> Option<SegmentNumber> {
    let mut numbers = load.segments.iter().map(|meta| meta.number);
    let highest = numbers.clone().max().unwrap_or_default();
    // At once, since a flush or a compaction may ask for a number meanwhile.
    let before = engine.reserve_segments_through(highest);
    numbers.find(|number| (first..before).contains(number))
}

/// Copies the segments that a record loads into the store under construction, each verified by its digest
/// and under the number that it had, which stands in it.
pub(super) fn bring(
    repository: &Repository,
    engine: &Engine,
    index: Index,
    load: &LoadOperation,
) -> Result<Cargo> {
    let keyspaces = engine.keyspaces.load_full();
    let tree = keyspaces.get(load.keyspace);
    let tree = tree.ok_or_else(|| engine.malformed(index, "load"))?;
    let segments = load.segments.iter();
    let brought = segments.map(|meta| bring_one(repository, engine, load.keyspace, meta));
    let brought = brought.collect::<Result<Vec<_>>>()?;
    Ok(Mutex::new(Some((tree.clone(), brought))))
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
        Ok(_) => {
            let number = meta.number;
            return Err(damaged(format!("a backup has a segment {number} as well")));
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
