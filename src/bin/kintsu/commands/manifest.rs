//! `kintsu manifest STORE`

use std::path::Path;

use kintsu::LogFileMeta;
use kintsu::inspect::{
    self, Fence, InspectedManifest, KeyspaceState, ManifestChange, ManifestPart, ManifestState,
    SegmentMeta,
};
use kintsu::vfs::DiskVfs;
use serde_json::{Value, json};

use super::dump::{Dump, DumpArguments, verdict};
use crate::console::Console;
use crate::escape::escape;
use crate::failure::Outcome;
use crate::format::to_json;

/// Its arguments.
pub type Arguments = DumpArguments;

/// Shows each generation and copy of the manifest, edit by edit.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let mut dump = Dump::new(arguments, console);
    let mut file = None;
    let mut bad = false;
    inspect::manifest(&DiskVfs, &arguments.store.store, &mut |found| {
        if file.as_ref() != Some(&found.path) {
            let value = json!({ "manifest": { "file": found.path.to_string_lossy() } });
            dump.file(&format!("{}:", found.path.display()), &value);
            file = Some(found.path.clone());
            bad = false;
        }
        // The last edit can be one that a crash cut short. A bad header can't be, nor an edit that
        // others follow.
        match &found.part {
            ManifestPart::Bad { .. } => bad = true,
            ManifestPart::State { .. } | ManifestPart::Edit { .. } if bad => dump.damaged = true,
            _ => {}
        }
        dump.damaged |= bad && found.offset == 0;
        show(&mut dump, &found);
    })?;
    dump.finish()
}

/// All log files that any whole part of the manifest speaks of; none if it can't be read at all.
pub fn known_log_files(store: &Path) -> Vec<LogFileMeta> {
    let mut known = std::collections::BTreeMap::new();
    let mut gather = |found: InspectedManifest| match found.part {
        ManifestPart::State { state, .. } => known.extend(state.log_files),
        ManifestPart::Edit { changes, .. } => {
            for change in changes {
                if let ManifestChange::LogFilePrepared(meta) = change {
                    known.insert(meta.number, meta);
                }
            }
        }
        _ => {}
    };
    // Without a manifest, the log is read by what stands in its own files.
    let _ = inspect::manifest(&DiskVfs, store, &mut gather);
    known.into_values().collect()
}

fn show(dump: &mut Dump<'_>, found: &InspectedManifest) {
    let place = format!("{:>10}  {:>6} bytes", found.offset, found.bytes);
    let (kind, text, value) = match &found.part {
        ManifestPart::Header {
            version,
            store_id,
            file_id,
        } => (
            "header",
            format!("format {version}, store {store_id}  good"),
            json!({
                "version": version,
                "store_id": store_id.to_string(),
                "file_id": file_id.to_string(),
            }),
        ),
        ManifestPart::State { sequence, state } => {
            let value = json!({ "sequence": sequence, "state": state_json(state) });
            (
                "state",
                format!("up to edit {sequence}: {}  good", state_text(state)),
                value,
            )
        }
        ManifestPart::Edit { sequence, changes } => {
            let texts: Vec<_> = changes.iter().map(change_text).collect();
            let value = json!({
                "sequence": sequence,
                "changes": changes.iter().map(change_json).collect::<Vec<_>>(),
            });
            (
                "edit",
                format!("{sequence}: {}  good", texts.join("; ")),
                value,
            )
        }
        ManifestPart::Bad { what } => ("bad", verdict(Some(what)), json!({ "what": what })),
        ManifestPart::Unused => ("unused", String::new(), Value::Null),
    };
    let good = !matches!(found.part, ManifestPart::Bad { .. });
    let value = json!({ kind: {
        "offset": found.offset,
        "bytes": found.bytes,
        "good": good,
        "content": value,
    }});
    dump.part(good, &format!("{place}  {kind:<6}  {text}"), &value);
}

fn state_text(state: &ManifestState) -> String {
    let keyspaces = state.keyspaces.iter().map(|(id, keyspace)| {
        let segments = keyspace.segments.iter();
        let segments: Vec<_> = segments
            .map(|(number, (level, _))| format!("{number} in level {level}"))
            .collect();
        format!(
            "keyspace {id} {} covered to record {} by segments [{}]",
            escape(keyspace.name.as_bytes()),
            keyspace.covered,
            segments.join(", ")
        )
    });
    let keyspaces: Vec<_> = keyspaces.collect();
    let logs: Vec<_> = state.log_files.keys().map(ToString::to_string).collect();
    format!(
        "{}; log files [{}]; {} bytes of conflict window",
        keyspaces.join("; "),
        logs.join(", "),
        window_bytes(state)
    )
}

fn change_text(change: &ManifestChange) -> String {
    match change {
        ManifestChange::KeyspaceCreated {
            id, name, index, ..
        } => {
            format!(
                "keyspace {id} {} created by record {index}",
                escape(name.as_bytes())
            )
        }
        ManifestChange::KeyspaceDropped { id, index } => {
            format!("keyspace {id} dropped by record {index}")
        }
        ManifestChange::SegmentsReplaced {
            keyspace,
            removed,
            added,
            covered,
        } => {
            let removed: Vec<_> = removed.iter().map(ToString::to_string).collect();
            let added: Vec<_> = added
                .iter()
                .map(|(level, meta)| format!("{} in level {level}", meta.number))
                .collect();
            let covered = covered.map_or_else(String::new, |(index, _)| {
                format!(", covered to record {index}")
            });
            format!(
                "keyspace {keyspace}: segments [{}] replaced by [{}]{covered}",
                removed.join(", "),
                added.join(", ")
            )
        }
        ManifestChange::Fenced { keyspace, fences } => {
            let count = fences.len();
            format!("keyspace {keyspace}: {count} ranges of keys have lost something")
        }
        ManifestChange::LogFilePrepared(meta) => format!("log file {} prepared", meta.number),
        ManifestChange::LogFilesRemoved(numbers) => {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            format!("log files [{}] removed", numbers.join(", "))
        }
        ManifestChange::NextSegment(number) => format!("segments below {number} are taken"),
        ManifestChange::CoveredTime(us) => format!("the time of what is covered is {us} µs"),
        ManifestChange::Activity(_) => "what the store has done so far".to_owned(),
        ManifestChange::ConflictWindow { dropped, added } => {
            let bytes = added.len();
            format!("conflict window {bytes} bytes on, {dropped} pieces dropped")
        }
    }
}

fn window_bytes(state: &ManifestState) -> usize {
    state.conflict_window.iter().map(|piece| piece.len()).sum()
}

fn state_json(state: &ManifestState) -> Value {
    let keyspace = |(id, keyspace): (&kintsu::KeyspaceId, &KeyspaceState)| {
        let segments = keyspace.segments.values();
        json!({
            "id": id.0,
            "name": keyspace.name,
            "created": keyspace.created.0,
            "covered": keyspace.covered.0,
            "segments": segments.map(|(level, meta)| segment_json(*level, meta)).collect::<Vec<_>>(),
            "fences": keyspace.fences.iter().map(fence_json).collect::<Vec<_>>(),
        })
    };
    json!({
        "store_id": state.store_id.to_string(),
        "mode": format!("{:?}", state.mode).to_lowercase(),
        "created_us": state.created_us,
        "next_segment": state.next_segment.0,
        "next_keyspace": state.next_keyspace.0,
        "covered_time_us": state.covered_time_us,
        "catalog_index": state.catalog_index.0,
        "conflict_window_bytes": window_bytes(state),
        "keyspaces": state.keyspaces.iter().map(keyspace).collect::<Vec<_>>(),
        "log_files": state.log_files.values().map(log_file_json).collect::<Vec<_>>(),
    })
}

fn change_json(change: &ManifestChange) -> Value {
    match change {
        ManifestChange::KeyspaceCreated {
            id, name, index, ..
        } => {
            json!({ "keyspace_created": { "id": id.0, "name": name, "index": index.0 } })
        }
        ManifestChange::KeyspaceDropped { id, index } => {
            json!({ "keyspace_dropped": { "id": id.0, "index": index.0 } })
        }
        ManifestChange::SegmentsReplaced {
            keyspace,
            removed,
            added,
            covered,
        } => {
            let added = added.iter().map(|(level, meta)| segment_json(*level, meta));
            json!({ "segments_replaced": {
                "keyspace": keyspace.0,
                "removed": removed.iter().map(|number| number.0).collect::<Vec<_>>(),
                "added": added.collect::<Vec<_>>(),
                "covered": covered.map(|(index, _)| index.0),
            }})
        }
        ManifestChange::Fenced { keyspace, fences } => {
            json!({ "fenced": { "keyspace": keyspace.0, "fences": fences.iter().map(fence_json).collect::<Vec<_>>() } })
        }
        ManifestChange::LogFilePrepared(meta) => {
            json!({ "log_file_prepared": log_file_json(meta) })
        }
        ManifestChange::LogFilesRemoved(numbers) => {
            json!({ "log_files_removed": numbers.iter().map(|number| number.0).collect::<Vec<_>>() })
        }
        ManifestChange::NextSegment(number) => json!({ "next_segment": number.0 }),
        ManifestChange::CoveredTime(us) => json!({ "covered_time_us": us }),
        ManifestChange::Activity(activity) => json!({ "activity_bytes": activity.len() }),
        ManifestChange::ConflictWindow { dropped, added } => {
            json!({ "conflict_window": { "dropped_pieces": dropped, "added_bytes": added.len() } })
        }
    }
}

fn fence_json(fence: &Fence) -> Value {
    json!({
        "from": to_json(&fence.from),
        "to": fence.to.as_ref().map(|to| to_json(to)),
        "oldest": fence.oldest.0,
        "newest": fence.newest.0,
        "segment": fence.segment.0,
        "offset": fence.offset,
        "bytes": fence.bytes,
        "what": fence.what,
    })
}

fn segment_json(level: u8, meta: &SegmentMeta) -> Value {
    json!({
        "number": meta.number.0,
        "level": level,
        "file_id": meta.file_id.to_string(),
        "bytes": meta.bytes,
        "content_bytes": meta.content_bytes,
        "parity": meta.parity.name(),
        "digest": format!("{:032x}", meta.digest),
        "entries": meta.entries,
        "deletes": meta.deletes,
        "range_deletes": meta.range_deletes,
        "smallest_key": to_json(&meta.smallest_key),
        "largest_key": to_json(&meta.largest_key),
        "is_endless": meta.is_endless,
        "smallest_index": meta.smallest_index.0,
        "largest_index": meta.largest_index.0,
    })
}

fn log_file_json(meta: &LogFileMeta) -> Value {
    json!({
        "number": meta.number.0,
        "file_id": meta.file_id.to_string(),
        "first_position": meta.first_lsn.0,
        "capacity": meta.capacity,
        "first_index": meta.first_index.0,
        "previous_number": meta.previous_number.0,
        "previous_end_position": meta.previous_end_lsn.0,
        "parity": meta.parity.name(),
    })
}
