//! Changes to a state, without a disk.

use super::*;

fn refused(state: &ManifestState, change: Change, why: &str) {
    let said = state.with(&[change]).unwrap_err();
    assert!(said.contains(why), "{said:?} doesn't say {why:?}");
}

fn replaced(removed: &[u64], added: &[u64], covered: Option<(u64, u64)>) -> Change {
    Change::SegmentsReplaced {
        keyspace: KeyspaceId::DEFAULT,
        removed: removed.iter().copied().map(SegmentNumber).collect(),
        added: added
            .iter()
            .map(|number| (0, segment(*number, 3)))
            .collect(),
        covered: covered.map(|(index, term)| (Index(index), Term(term))),
    }
}

fn created(id: u32, name: &str, index: u64) -> Change {
    Change::KeyspaceCreated {
        id: KeyspaceId(id),
        name: name.into(),
        index: Index(index),
        options: vec![],
    }
}

#[test]
fn every_edit_of_the_workload_keeps_a_state_sound() {
    for state in states(&edits()) {
        assert_eq!(state.check(), Ok(()));
    }
    let last = states(&edits()).pop().unwrap();
    assert_eq!(last.next_segment, SegmentNumber(10));
    assert_eq!(last.next_keyspace, KeyspaceId(2));
    assert_eq!(last.catalog_index, Index(9));
    let default = &last.keyspaces[&KeyspaceId::DEFAULT];
    assert_eq!(default.covered, Index(9));
    let segments: Vec<_> = default.segments.iter().map(|(n, s)| (n.0, s.0)).collect();
    assert_eq!(segments, [(6, 2), (9, 0)]);
    assert_eq!(last.log_files.keys().collect::<Vec<_>>(), [&LogNumber(2)]);
}

#[test]
fn a_new_keyspace_is_covered_up_to_its_creation() {
    let state = empty_state().with(&[created(4, "new", 12)]).unwrap();
    let keyspace = &state.keyspaces[&KeyspaceId(4)];
    assert_eq!((keyspace.created, keyspace.covered), (Index(12), Index(12)));
    assert_eq!(state.next_keyspace, KeyspaceId(5));
}

#[test]
fn keyspaces_that_clash_are_refused() {
    let state = empty_state().with(&[created(1, "one", 5)]).unwrap();
    refused(&state, created(1, "two", 6), "in use");
    refused(&state, created(0, "two", 6), "in use");
    refused(&state, created(2, "one", 6), "exists already");
    refused(&state, created(2, "two", 4), "can't go back");
    refused(&state, created(u32::MAX, "two", 6), "used up");
    refused(&state, created(2, &"x".repeat(256), 6), "limit");
    let drop = |id, index| Change::KeyspaceDropped {
        id: KeyspaceId(id),
        index: Index(index),
    };
    refused(&state, drop(2, 6), "doesn't exist");
    refused(&state, drop(1, 4), "can't go back");
    // An id is never used again, a name can be.
    let state = state.with(&[drop(1, 6)]).unwrap();
    refused(&state, created(1, "one", 7), "in use");
    assert!(state.with(&[created(2, "one", 7)]).is_ok());
}

#[test]
fn segments_that_clash_are_refused() {
    let state = empty_state()
        .with(&[created(1, "one", 5), replaced(&[], &[3], Some((7, 2)))])
        .unwrap();
    assert_eq!(state.next_segment, SegmentNumber(4));
    refused(&state, replaced(&[], &[3], None), "exists already");
    refused(&state, replaced(&[], &[4, 4], None), "exists already");
    refused(&state, replaced(&[2], &[], None), "no segment 2");
    refused(&state, replaced(&[3, 3], &[], None), "no segment 3");
    refused(&state, replaced(&[], &[], Some((6, 2))), "can't go back");
    refused(&state, replaced(&[], &[], Some((8, 1))), "can't go back");
    let elsewhere = |number| Change::SegmentsReplaced {
        keyspace: KeyspaceId(number),
        removed: vec![],
        added: vec![(0, segment(3, 3))],
        covered: None,
    };
    refused(&state, elsewhere(1), "exists already");
    refused(&state, elsewhere(2), "no keyspace 2");
    // Moving to another level, going below a number taken meanwhile, covering the same again.
    assert!(state.with(&[replaced(&[3], &[3], None)]).is_ok());
    assert!(state.with(&[replaced(&[], &[2], Some((7, 2)))]).is_ok());
}

#[test]
fn a_segment_that_makes_no_sense_is_refused() {
    let add = |change: fn(&mut SegmentMeta)| {
        let mut meta = segment(3, 3);
        change(&mut meta);
        Change::SegmentsReplaced {
            keyspace: KeyspaceId::DEFAULT,
            removed: vec![],
            added: vec![(0, meta)],
            covered: None,
        }
    };
    let state = empty_state();
    refused(&state, add(|meta| meta.largest_key = vec![]), "ends before");
    refused(
        &state,
        add(|meta| meta.largest_index = Index(2)),
        "ends before",
    );
    refused(&state, add(|meta| meta.deletes = 101), "deletions");
    refused(
        &state,
        add(|meta| meta.largest_key = vec![b'b'; 65_538]),
        "limit",
    );
    refused(
        &state,
        add(|meta| meta.number = SegmentNumber(u64::MAX)),
        "used up",
    );
}

#[test]
fn log_files_only_go_up() {
    let prepared = |change: fn(&mut LogFileMeta)| {
        let mut meta = log_file(5);
        change(&mut meta);
        Change::LogFilePrepared(meta)
    };
    let state = empty_state().with(&[prepared(|_| ())]).unwrap();
    refused(&state, prepared(|_| ()), "not above");
    refused(&state, Change::LogFilePrepared(log_file(4)), "not above");
    let lower =
        |meta: &mut LogFileMeta| (meta.number, meta.first_lsn) = (LogNumber(6), Lsn((6 << 26) - 1));
    refused(&state, prepared(lower), "inside file 5");
    let far =
        |meta: &mut LogFileMeta| (meta.number, meta.first_lsn) = (LogNumber(6), Lsn(u64::MAX));
    refused(&state, prepared(far), "beyond the last position");
    let itself =
        |meta: &mut LogFileMeta| (meta.number, meta.previous_number) = (LogNumber(6), LogNumber(6));
    refused(&state, prepared(itself), "can't follow");
    let removed =
        |numbers: &[u64]| Change::LogFilesRemoved(numbers.iter().copied().map(LogNumber).collect());
    refused(&state, removed(&[4]), "doesn't exist");
    refused(&state, removed(&[5, 5]), "doesn't exist");
    assert!(state.with(&[removed(&[5])]).unwrap().log_files.is_empty());
    assert!(state.with(&[Change::LogFilePrepared(log_file(6))]).is_ok());
}

#[test]
fn the_next_segment_only_goes_up() {
    let next = |number| Change::NextSegment(SegmentNumber(number));
    let state = empty_state().with(&[next(7)]).unwrap();
    assert_eq!(state.next_segment, SegmentNumber(7));
    refused(&state, next(6), "can't go back");
    assert_eq!(state.with(&[next(7)]), Ok(state));
}

#[test]
fn an_edit_that_fails_at_its_end_does_nothing() {
    let memory = disk();
    let mut manifest = Manifest::create(on(&memory), empty_state()).unwrap();
    let changes = [replaced(&[], &[1], None), replaced(&[2], &[], None)];
    let error = manifest.apply(&changes).unwrap_err();
    assert!(matches!(error, Error::ManifestEdit { .. }), "{error}");
    assert_eq!(error.reaction(), crate::error::Reaction::Refuse);
    assert_eq!(manifest.state(), &empty_state());
    assert_eq!(manifest.poisoned(), None);
    manifest.apply(&changes[..1]).unwrap();
    let (again, _) = Manifest::open(on(&memory)).unwrap();
    assert_eq!(again.state(), manifest.state());
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let good = states(&edits()).swap_remove(4);
    assert_eq!(good.check(), Ok(()));
    let changes: [fn(&mut ManifestState); 7] = [
        |state| state.next_keyspace = KeyspaceId(1),
        |state| state.next_segment = SegmentNumber(4),
        |state| {
            let other = state.keyspaces[&KeyspaceId(1)].clone();
            state.keyspaces.get_mut(&KeyspaceId::DEFAULT).unwrap().name = other.name;
        },
        |state| {
            let default = state.keyspaces[&KeyspaceId::DEFAULT].segments.clone();
            state.keyspaces.get_mut(&KeyspaceId(1)).unwrap().segments = default;
        },
        |state| {
            let segments = &mut state
                .keyspaces
                .get_mut(&KeyspaceId::DEFAULT)
                .unwrap()
                .segments;
            let moved = segments.remove(&SegmentNumber(4)).unwrap();
            segments.insert(SegmentNumber(3), moved);
        },
        |state| {
            let moved = state.log_files.remove(&LogNumber(1)).unwrap();
            state.log_files.insert(LogNumber(9), moved);
        },
        |state| state.log_files.get_mut(&LogNumber(1)).unwrap().capacity += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut state = good.clone();
        change(&mut state);
        assert!(state.check().is_err(), "change {number}");
        let memory = disk();
        let created = Manifest::create(on(&memory), state);
        assert!(matches!(created, Err(Error::ManifestEdit { .. })));
        assert!(!Manifest::is_present(&memory, dir()).unwrap());
    }
}
