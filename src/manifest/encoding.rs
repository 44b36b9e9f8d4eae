//! Bytes of a state and of an edit, as they stand in a frame (`docs/format-manifest.md`).
//!
//! Each value has one encoding: what decodes encodes to the same bytes again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::state::{Change, KeyspaceState, ManifestState};
use crate::codec::{Reader, put_prefixed, put_varint};
use crate::types::{
    Fence, FileId, Index, KeyspaceId, LogFileMeta, LogNumber, Lsn, Mode, Parity, SegmentMeta,
    SegmentNumber, StoreId, Term,
};

const KEYSPACE_CREATED: u8 = 1;
const KEYSPACE_DROPPED: u8 = 2;
const SEGMENTS_REPLACED: u8 = 3;
const LOG_FILE_PREPARED: u8 = 4;
const LOG_FILES_REMOVED: u8 = 5;
const NEXT_SEGMENT: u8 = 6;
const COVERED_TIME: u8 = 7;
const ACTIVITY: u8 = 8;
const CONFLICT_WINDOW: u8 = 9;
const FENCED: u8 = 10;

/// Appends a whole state.
pub(super) fn put_state(out: &mut Vec<u8>, state: &ManifestState) {
    out.extend_from_slice(&state.store_id.0.to_le_bytes());
    out.push(state.mode as u8);
    out.extend_from_slice(&state.cluster_id.to_le_bytes());
    put_varint(out, state.member_id);
    put_varint(out, state.created_us);
    put_varint(out, state.next_segment.0);
    put_varint(out, u64::from(state.next_keyspace.0));
    put_varint(out, state.covered_time_us);
    put_varint(out, state.catalog_index.0);
    put_prefixed(out, &state.activity);
    put_varint(out, state.conflict_window.len() as u64);
    for piece in &state.conflict_window {
        put_prefixed(out, piece);
    }
    put_varint(out, state.keyspaces.len() as u64);
    for (id, keyspace) in &state.keyspaces {
        put_varint(out, u64::from(id.0));
        put_keyspace(out, keyspace);
    }
    put_varint(out, state.log_files.len() as u64);
    for meta in state.log_files.values() {
        put_log_file(out, meta);
    }
}

/// The state that `bytes` are, if they are exactly one and it makes sense.
pub(super) fn decode_state(bytes: &[u8]) -> Option<ManifestState> {
    let mut reader = Reader::new(bytes);
    let state = read_state(&mut reader)?;
    (reader.is_empty() && state.check().is_ok()).then_some(state)
}

fn read_state(reader: &mut Reader<'_>) -> Option<ManifestState> {
    let mut state = ManifestState {
        store_id: StoreId(reader.u128()?),
        mode: Mode::from_byte(reader.u8()?)?,
        cluster_id: reader.u128()?,
        member_id: reader.varint()?,
        created_us: reader.varint()?,
        next_segment: SegmentNumber(reader.varint()?),
        next_keyspace: read_keyspace_id(reader)?,
        covered_time_us: reader.varint()?,
        catalog_index: Index(reader.varint()?),
        activity: reader.prefixed()?.to_vec(),
        conflict_window: read_list(reader, |reader| Some(reader.prefixed()?.into()))?,
        keyspaces: BTreeMap::new(),
        log_files: BTreeMap::new(),
    };
    for _ in 0..reader.varint()? {
        let id = read_keyspace_id(reader)?;
        insert_last(&mut state.keyspaces, id, read_keyspace(reader)?)?;
    }
    for _ in 0..reader.varint()? {
        let meta = read_log_file(reader)?;
        insert_last(&mut state.log_files, meta.number, meta)?;
    }
    Some(state)
}

/// Inserts above all that is there, so that a map has one order in which it can be written.
fn insert_last<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Option<()> {
    if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
        return None;
    }
    map.insert(key, value);
    Some(())
}

/// Appends an edit.
pub(super) fn put_edit(out: &mut Vec<u8>, changes: &[Change]) {
    put_varint(out, changes.len() as u64);
    for change in changes {
        put_change(out, change);
    }
}

/// The edit that `bytes` are, if they are exactly one.
pub(super) fn decode_edit(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut reader = Reader::new(bytes);
    let mut changes = Vec::new();
    for _ in 0..reader.varint()? {
        changes.push(read_change(&mut reader)?);
    }
    reader.is_empty().then_some(changes)
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::KeyspaceCreated {
            id,
            name,
            index,
            options,
        } => {
            out.push(KEYSPACE_CREATED);
            put_varint(out, u64::from(id.0));
            put_prefixed(out, name.as_bytes());
            put_varint(out, index.0);
            put_prefixed(out, options);
        }
        Change::KeyspaceDropped { id, index } => {
            out.push(KEYSPACE_DROPPED);
            put_varint(out, u64::from(id.0));
            put_varint(out, index.0);
        }
        Change::SegmentsReplaced {
            keyspace,
            removed,
            added,
            covered,
        } => {
            out.push(SEGMENTS_REPLACED);
            put_varint(out, u64::from(keyspace.0));
            put_numbers(out, removed.iter().map(|number| number.0));
            put_varint(out, added.len() as u64);
            for (level, meta) in added {
                put_segment(out, *level, meta);
            }
            out.push(u8::from(covered.is_some()));
            if let Some((index, term)) = covered {
                put_varint(out, index.0);
                put_varint(out, term.0);
            }
        }
        Change::Fenced { keyspace, fences } => {
            out.push(FENCED);
            put_varint(out, u64::from(keyspace.0));
            put_fences(out, fences);
        }
        Change::LogFilePrepared(meta) => {
            out.push(LOG_FILE_PREPARED);
            put_log_file(out, meta);
        }
        Change::LogFilesRemoved(numbers) => {
            out.push(LOG_FILES_REMOVED);
            put_numbers(out, numbers.iter().map(|number| number.0));
        }
        Change::NextSegment(next) => {
            out.push(NEXT_SEGMENT);
            put_varint(out, next.0);
        }
        Change::CoveredTime(time_us) => {
            out.push(COVERED_TIME);
            put_varint(out, *time_us);
        }
        Change::Activity(activity) => {
            out.push(ACTIVITY);
            put_prefixed(out, activity);
        }
        Change::ConflictWindow { dropped, added } => {
            out.push(CONFLICT_WINDOW);
            put_varint(out, *dropped);
            put_prefixed(out, added);
        }
    }
}

fn put_numbers(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = u64>) {
    put_varint(out, numbers.len() as u64);
    for number in numbers {
        put_varint(out, number);
    }
}

fn read_change(reader: &mut Reader<'_>) -> Option<Change> {
    Some(match reader.u8()? {
        KEYSPACE_CREATED => Change::KeyspaceCreated {
            id: read_keyspace_id(reader)?,
            name: read_name(reader)?,
            index: Index(reader.varint()?),
            options: reader.prefixed()?.to_vec(),
        },
        KEYSPACE_DROPPED => Change::KeyspaceDropped {
            id: read_keyspace_id(reader)?,
            index: Index(reader.varint()?),
        },
        SEGMENTS_REPLACED => Change::SegmentsReplaced {
            keyspace: read_keyspace_id(reader)?,
            removed: read_list(reader, |reader| Some(SegmentNumber(reader.varint()?)))?,
            added: read_list(reader, read_segment)?,
            covered: match reader.u8()? {
                0 => None,
                1 => Some((Index(reader.varint()?), Term(reader.varint()?))),
                _ => return None,
            },
        },
        LOG_FILE_PREPARED => Change::LogFilePrepared(read_log_file(reader)?),
        LOG_FILES_REMOVED => Change::LogFilesRemoved(read_list(reader, |reader| {
            Some(LogNumber(reader.varint()?))
        })?),
        NEXT_SEGMENT => Change::NextSegment(SegmentNumber(reader.varint()?)),
        COVERED_TIME => Change::CoveredTime(reader.varint()?),
        ACTIVITY => Change::Activity(reader.prefixed()?.to_vec()),
        CONFLICT_WINDOW => Change::ConflictWindow {
            dropped: reader.varint()?,
            added: reader.prefixed()?.into(),
        },
        FENCED => Change::Fenced {
            keyspace: read_keyspace_id(reader)?,
            fences: read_list(reader, read_fence)?,
        },
        _ => return None,
    })
}

/// Reads a count and then as many items; every item takes at least a byte, so the list can't outgrow
/// its input by much whatever the count says.
fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut items = Vec::new();
    for _ in 0..reader.varint()? {
        items.push(read(reader)?);
    }
    Some(items)
}

fn put_keyspace(out: &mut Vec<u8>, keyspace: &KeyspaceState) {
    put_prefixed(out, keyspace.name.as_bytes());
    put_varint(out, keyspace.created.0);
    put_varint(out, keyspace.covered.0);
    put_varint(out, keyspace.covered_term.0);
    put_prefixed(out, &keyspace.options);
    put_varint(out, keyspace.segments.len() as u64);
    for (level, meta) in keyspace.segments.values() {
        put_segment(out, *level, meta);
    }
    put_fences(out, &keyspace.fences);
}

fn read_keyspace(reader: &mut Reader<'_>) -> Option<KeyspaceState> {
    let mut keyspace = KeyspaceState {
        name: read_name(reader)?,
        created: Index(reader.varint()?),
        covered: Index(reader.varint()?),
        covered_term: Term(reader.varint()?),
        options: reader.prefixed()?.to_vec(),
        segments: BTreeMap::new(),
        fences: Vec::new(),
    };
    for _ in 0..reader.varint()? {
        let (level, meta) = read_segment(reader)?;
        insert_last(&mut keyspace.segments, meta.number, (level, meta))?;
    }
    keyspace.fences = read_list(reader, read_fence)?;
    Some(keyspace)
}

fn put_fences(out: &mut Vec<u8>, fences: &[Fence]) {
    put_varint(out, fences.len() as u64);
    for fence in fences {
        put_prefixed(out, &fence.from);
        out.push(u8::from(fence.to.is_some()));
        if let Some(to) = &fence.to {
            put_prefixed(out, to);
        }
        put_varint(out, fence.oldest.0);
        put_varint(out, fence.newest.0);
        put_varint(out, fence.segment.0);
        put_varint(out, fence.offset);
        put_varint(out, fence.bytes);
        put_prefixed(out, fence.what.as_bytes());
    }
}

fn read_fence(reader: &mut Reader<'_>) -> Option<Fence> {
    Some(Fence {
        from: Bytes::copy_from_slice(reader.prefixed()?),
        to: match read_bool(reader)? {
            true => Some(Bytes::copy_from_slice(reader.prefixed()?)),
            false => None,
        },
        oldest: Index(reader.varint()?),
        newest: Index(reader.varint()?),
        segment: SegmentNumber(reader.varint()?),
        offset: reader.varint()?,
        bytes: reader.varint()?,
        what: read_name(reader)?,
    })
}

/// Appends what there is to say of a segment, with its level.
pub(crate) fn put_segment(out: &mut Vec<u8>, level: u8, meta: &SegmentMeta) {
    out.push(level);
    put_varint(out, meta.number.0);
    out.extend_from_slice(&meta.file_id.0.to_le_bytes());
    put_varint(out, meta.bytes);
    put_varint(out, meta.content_bytes);
    out.push(meta.parity.byte());
    out.extend_from_slice(&meta.digest.to_le_bytes());
    put_varint(out, meta.entries);
    put_varint(out, meta.deletes);
    put_varint(out, meta.range_deletes);
    put_prefixed(out, &meta.smallest_key);
    put_prefixed(out, &meta.largest_key);
    out.push(meta.is_endless.into());
    put_varint(out, meta.smallest_index.0);
    put_varint(out, meta.largest_index.0);
    put_varint(out, meta.loaded_at.0);
}

/// What [`put_segment`] has written.
pub(crate) fn read_segment(reader: &mut Reader<'_>) -> Option<(u8, SegmentMeta)> {
    let level = reader.u8()?;
    let meta = SegmentMeta {
        number: SegmentNumber(reader.varint()?),
        file_id: FileId(reader.u128()?),
        bytes: reader.varint()?,
        content_bytes: reader.varint()?,
        parity: Parity::from_byte(reader.u8()?)?,
        digest: reader.u128()?,
        entries: reader.varint()?,
        deletes: reader.varint()?,
        range_deletes: reader.varint()?,
        smallest_key: reader.prefixed()?.to_vec(),
        largest_key: reader.prefixed()?.to_vec(),
        is_endless: read_bool(reader)?,
        smallest_index: Index(reader.varint()?),
        largest_index: Index(reader.varint()?),
        loaded_at: Index(reader.varint()?),
    };
    Some((level, meta))
}

fn read_bool(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn put_log_file(out: &mut Vec<u8>, meta: &LogFileMeta) {
    put_varint(out, meta.number.0);
    out.extend_from_slice(&meta.file_id.0.to_le_bytes());
    out.extend_from_slice(&meta.salt.to_le_bytes());
    put_varint(out, meta.first_lsn.0);
    put_varint(out, meta.capacity);
    put_varint(out, meta.first_index.0);
    put_varint(out, meta.previous_number.0);
    put_varint(out, meta.previous_end_lsn.0);
    out.push(meta.parity.byte());
}

fn read_log_file(reader: &mut Reader<'_>) -> Option<LogFileMeta> {
    Some(LogFileMeta {
        number: LogNumber(reader.varint()?),
        file_id: FileId(reader.u128()?),
        salt: reader.u64()?,
        first_lsn: Lsn(reader.varint()?),
        capacity: reader.varint()?,
        first_index: Index(reader.varint()?),
        previous_number: LogNumber(reader.varint()?),
        previous_end_lsn: Lsn(reader.varint()?),
        parity: Parity::from_byte(reader.u8()?)?,
    })
}

fn read_name(reader: &mut Reader<'_>) -> Option<String> {
    let bytes = reader.prefixed()?;
    Some(std::str::from_utf8(bytes).ok()?.to_owned())
}

fn read_keyspace_id(reader: &mut Reader<'_>) -> Option<KeyspaceId> {
    Some(KeyspaceId(u32::try_from(reader.varint()?).ok()?))
}
