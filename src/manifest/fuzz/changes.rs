//! Edits that the input makes up.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::manifest::{Change, KeyspaceState, ManifestState};
use crate::testing::Input;
use crate::types::{
    FileId, Index, KeyspaceId, LogFileMeta, LogNumber, Lsn, Mode, Parity, SegmentMeta,
    SegmentNumber, StoreId, Term,
};

/// The state of a new store.
pub(super) fn empty_state() -> ManifestState {
    let keyspace = KeyspaceState {
        name: "default".into(),
        created: Index(0),
        covered: Index(0),
        covered_term: Term(0),
        options: Vec::new(),
        segments: BTreeMap::new(),
        fences: Vec::new(),
    };
    ManifestState {
        store_id: StoreId(0x5702e),
        mode: Mode::Standalone,
        cluster_id: 0,
        member_id: 0,
        created_us: 1_577_836_800_000_000,
        next_segment: SegmentNumber(1),
        next_keyspace: KeyspaceId(1),
        covered_time_us: 0,
        catalog_index: Index(0),
        activity: Vec::new(),
        conflict_window: vec![Arc::new(*b"opaque")],
        keyspaces: BTreeMap::from([(KeyspaceId::DEFAULT, keyspace)]),
        log_files: BTreeMap::new(),
    }
}

/// An edit, most of the time one that makes sense for the state.
pub(super) fn changes(input: &mut Input<'_>, state: &ManifestState) -> Vec<Change> {
    let mut state = state.clone();
    let mut changes = Vec::new();
    for _ in 0..1 + input.below(3) {
        let change = change(input, &state);
        let _ = state.change(&change);
        changes.push(change);
    }
    changes
}

fn change(input: &mut Input<'_>, state: &ManifestState) -> Change {
    match input.u8() {
        0..40 => Change::KeyspaceCreated {
            id: KeyspaceId(state.next_keyspace.0.wrapping_add(input.u8().into())),
            name: String::from_utf8_lossy(input.bytes(20)).into_owned(),
            index: Index(state.catalog_index.0.saturating_add(input.below(3))),
            options: input.bytes(20).to_vec(),
        },
        40..60 => Change::KeyspaceDropped {
            id: some(input, state.keyspaces.keys()),
            index: Index(state.catalog_index.0.saturating_add(input.below(3))),
        },
        60..170 => segments(input, state),
        170..200 => Change::LogFilePrepared(log_file(input, state)),
        200..220 => {
            let count = input.below(3);
            let numbers = (0..count).map(|_| some(input, state.log_files.keys()));
            Change::LogFilesRemoved(numbers.collect())
        }
        220..222 => Change::ConflictWindow {
            dropped: input.below(3),
            added: input.bytes(40).into(),
        },
        222..230 => Change::Activity(input.bytes(40).to_vec()),
        230..250 => Change::NextSegment(SegmentNumber(
            state.next_segment.0.saturating_add(input.below(9)),
        )),
        _ => Change::NextSegment(SegmentNumber(input.number())),
    }
}

/// One of what there is; else one that there isn't.
fn some<'a, T: Copy + Default + 'a>(
    input: &mut Input<'_>,
    mut all: impl ExactSizeIterator<Item = &'a T>,
) -> T {
    let at = input.place(all.len() + 1);
    all.nth(at).copied().unwrap_or_default()
}

fn segments(input: &mut Input<'_>, state: &ManifestState) -> Change {
    let keyspace = some(input, state.keyspaces.keys());
    let there = state.keyspaces.get(&keyspace);
    let mut removed = Vec::new();
    for number in there.iter().flat_map(|there| there.segments.keys()) {
        if removed.len() < 4 && input.u8() < 60 {
            removed.push(*number);
        }
    }
    let mut added = Vec::new();
    for nth in 0..input.below(3) {
        let number = state.next_segment.0.saturating_add(nth);
        added.push((input.u8() % 7, segment(input, number)));
    }
    let covered = input.flag().then(|| {
        let covered = there.map_or((0, 0), |there| (there.covered.0, there.covered_term.0));
        let index = covered.0.saturating_add(input.below(10));
        (Index(index), Term(covered.1.saturating_add(input.below(2))))
    });
    Change::SegmentsReplaced {
        keyspace,
        removed,
        added,
        covered,
    }
}

fn segment(input: &mut Input<'_>, number: u64) -> SegmentMeta {
    let mut smallest_key = input.bytes(12).to_vec();
    if input.u8() > 250 {
        // An edit of several units, or one that finds no room.
        smallest_key.resize(60_000, b's');
    }
    let largest_key = [&smallest_key[..], input.bytes(4)].concat();
    let index = input.number() / 2;
    SegmentMeta {
        number: SegmentNumber(number),
        file_id: FileId(u128::from(number) << 70 | 5),
        bytes: input.number(),
        content_bytes: input.number(),
        parity: input.pick(&[Parity::Off, Parity::Standard, Parity::Strong]),
        digest: u128::from(input.u64()) << 60,
        entries: 100,
        deletes: input.below(101),
        range_deletes: input.below(3),
        smallest_key,
        largest_key,
        is_endless: input.below(8) == 0,
        smallest_index: Index(index),
        largest_index: Index(index + input.below(5)),
        loaded_at: Index(input.below(3)),
    }
}

fn log_file(input: &mut Input<'_>, state: &ManifestState) -> LogFileMeta {
    let last = state.log_files.last_key_value().map(|(_, last)| last);
    let (number, end) = last.map_or((0, 0), |last| {
        (
            last.number.0,
            last.first_lsn.0.saturating_add(last.capacity),
        )
    });
    LogFileMeta {
        number: LogNumber(number.saturating_add(1 + input.below(2))),
        file_id: FileId(u128::from(input.u64())),
        salt: input.u64(),
        first_lsn: Lsn(end.saturating_add(input.below(3))),
        capacity: 1 << (12 + input.below(20)),
        first_index: Index(0),
        previous_number: LogNumber(number),
        previous_end_lsn: Lsn(input.number()),
        parity: Parity::Off,
    }
}
