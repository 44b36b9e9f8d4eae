//! Operations of the disk that fail: each in turn, once and for good; and a disk that is full.

use super::*;
use crate::testing::{Fault, FaultKind, OperationKind, SyncFailure, TearUnit};

/// What a workload that met failures knows.
#[derive(Debug, Default)]
struct Told {
    created: bool,
    /// Edits acknowledged.
    acknowledged: usize,
    /// Whether the last edit, or the creation, has an unknown outcome.
    unknown: bool,
}

/// Creates a store and applies all edits, with some opens on the way, and holds every error to its
/// word: what is refused can be done again, and after an unknown outcome nothing can.
fn run(setup: &ManifestSetup, edits: &[Vec<Change>], states: &[ManifestState]) -> Told {
    let mut told = Told::default();
    let Some(mut manifest) = create(setup, &mut told) else {
        return told;
    };
    for (number, edit) in edits.iter().enumerate() {
        if [3, 7].contains(&number) {
            let Some(opened) = retry(|| Manifest::open(setup.clone())) else {
                return told;
            };
            (manifest, _) = opened;
        }
        let done = retry(|| {
            assert_eq!(manifest.state(), &states[number]);
            match manifest.apply(edit) {
                Err(error @ Error::OutcomeUnknown { .. }) => {
                    assert_latched(&mut manifest, &error, &states[number]);
                    told.unknown = true;
                    Err(error)
                }
                other => {
                    assert_eq!(manifest.poisoned(), None);
                    other
                }
            }
        });
        if done.is_none() {
            return told;
        }
        assert_eq!(manifest.state(), &states[number + 1]);
        told.acknowledged = number + 1;
    }
    told
}

fn create(setup: &ManifestSetup, told: &mut Told) -> Option<Manifest> {
    let created = retry(|| {
        let created = Manifest::create(setup.clone(), empty_state());
        told.unknown |= matches!(created, Err(Error::OutcomeUnknown { .. }));
        created
    });
    told.created = created.is_some();
    created
}

/// Does it again once if it can be done again.
fn retry<T>(mut act: impl FnMut() -> Result<T>) -> Option<T> {
    use crate::error::Reaction;
    match act() {
        Ok(done) => Some(done),
        Err(error) if error.reaction() == Reaction::Retry => act().ok(),
        Err(error) => {
            assert_eq!(error.reaction(), Reaction::Stop, "{error}");
            None
        }
    }
}

fn assert_latched(manifest: &mut Manifest, error: &Error, state: &ManifestState) {
    let cause = manifest.poisoned().expect("it latches");
    assert!(error.to_string().contains(&*cause));
    let again = manifest.apply(&[Change::NextSegment(SegmentNumber(99))]);
    assert!(matches!(again, Err(Error::Poisoned { .. })));
    assert_eq!(manifest.state(), state);
}

/// What is on the disk is what was told.
fn check(memory: &MemoryVfs, told: &Told, states: &[ManifestState], case: &str) {
    if !told.created && !Manifest::is_present(memory, dir()).unwrap() {
        let _ = Manifest::create(on(memory), empty_state()).unwrap();
        return;
    }
    let opened = Manifest::open(on(memory));
    let (mut manifest, _) = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
    let last = told.acknowledged + usize::from(told.unknown && told.created);
    let found = (told.acknowledged..=last).find(|&count| *manifest.state() == states[count]);
    assert!(
        found.is_some(),
        "{case}: {told:?} {:?}",
        manifest.position()
    );
    let next = Change::NextSegment(SegmentNumber(50));
    manifest.apply(&[next]).unwrap();
    let (again, report) = Manifest::open(on(memory)).unwrap();
    assert_eq!(again.state(), manifest.state(), "{case}");
    assert_eq!(report, ManifestReport::default(), "{case}");
}

/// Fails the n-th operation for every n, and checks what is there after the failure, after the death of
/// the process, and after a loss of power.
fn fail_every_operation(fault: impl Fn(u64) -> Fault, case: &str) -> u64 {
    let edits = edits();
    let states = states(&edits);
    for n in 1.. {
        let memory = disk();
        let vfs = FaultVfs::on_memory(&memory);
        vfs.inject(fault(n));
        let told = run(&on_faults(&vfs), &edits, &states);
        let case = format!("{case} {n}");
        let dropped = memory.fork();
        dropped.drop_caches();
        check(&dropped, &told, &states, &format!("{case}, caches dropped"));
        let crashed = memory.crash(n, TearUnit::Sector);
        check(&crashed, &told, &states, &format!("{case}, power lost"));
        check(&memory, &told, &states, &format!("{case}, opened again"));
        if vfs.faults_hit() == 0 {
            assert_eq!(told.acknowledged, edits.len());
            return n;
        }
    }
    0
}

#[test]
fn every_operation_fails_once_and_for_good() {
    use FaultKind::*;
    for kind in [Io, IoAfter, NoSpace, ShortWrite] {
        let once = fail_every_operation(|n| Fault::once(n, kind), &format!("{kind:?} once"));
        let for_good = fail_every_operation(|n| Fault::for_good(n, kind), &format!("{kind:?}"));
        assert!(once > 90 && for_good == once, "{once} {for_good}");
    }
}

/// What is believed at an open after the failure, without the disk having been away, is on the disk.
fn check_believed(fault: Fault) {
    let (edits, memory) = (edits(), disk());
    let vfs = FaultVfs::on_memory(&memory);
    vfs.inject(fault);
    run(&on_faults(&vfs), &edits, &states(&edits));
    vfs.clear_faults();
    let Ok((believed, _)) = Manifest::open(on_faults(&vfs)) else {
        assert!(!Manifest::is_present(&memory, dir()).unwrap());
        return;
    };
    for seed in 0..3 {
        let crashed = memory.crash(seed, TearUnit::Page);
        let (manifest, _) = Manifest::open(on(&crashed)).unwrap();
        assert_eq!(manifest.state(), believed.state());
        assert_eq!(manifest.position(), believed.position());
    }
}

#[test]
fn every_sync_loses_its_pages() {
    use SyncFailure::*;
    for failure in [PagesKept, PagesReverted, ReportedLate] {
        let fault = |n| {
            let fault = Fault::once(n, FaultKind::Io).only(&[OperationKind::SyncData]);
            fault.sync_failure(failure)
        };
        let syncs = fail_every_operation(fault, &format!("{failure:?}"));
        assert!(syncs > 20, "{syncs}");
        for n in 1..syncs {
            check_believed(fault(n));
        }
    }
    for failure in [PagesKept, PagesReverted] {
        let fault = |n| {
            let fault = Fault::once(n, FaultKind::Io).only(&[OperationKind::SyncDir]);
            fault.sync_failure(failure)
        };
        fail_every_operation(fault, &format!("folder, {failure:?}"));
    }
}

#[test]
fn a_full_disk_refuses_a_new_generation_and_nothing_else() {
    let memory = store(&small_edits());
    let used = |memory: &MemoryVfs| {
        memory.set_capacity(Some(u64::MAX));
        u64::MAX / 4096 * 4096 - memory.bytes_free().unwrap()
    };
    let full = used(&memory);
    memory.set_capacity(Some(full));
    assert_eq!(memory.bytes_free(), Some(0));
    for setup in [read_only(&memory), on(&memory)] {
        let (manifest, report) = Manifest::open(setup).unwrap();
        assert_eq!(report, ManifestReport::default());
        assert_eq!(Some(manifest.state()), states(&small_edits()).last());
    }
    let (mut manifest, _) = Manifest::open(on(&memory)).unwrap();
    // Room for nothing, for one copy, for both without the last page.
    let two_copies = full;
    for room in [0, 4096, two_copies / 2, two_copies - 4096] {
        memory.set_capacity(Some(full + room));
        let error = manifest.apply(&flush(9, 1)).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert_eq!(manifest.poisoned(), None);
        assert_eq!(memory.bytes_free(), Some(room), "space was given back");
        assert_eq!(memory.file_names(dir()).len(), 2);
    }
    memory.set_capacity(Some(full + two_copies));
    manifest.apply(&flush(9, 1)).unwrap();
    assert_eq!(manifest.position(), (2, 5));
    // Within a generation an edit needs no room.
    memory.set_capacity(Some(full));
    for number in 10..60 {
        assert_eq!(memory.bytes_free(), Some(0));
        manifest.apply(&flush(number, 1)).unwrap();
    }
    assert_eq!(manifest.position(), (2, 55));
    let (again, report) = Manifest::open(on(&memory)).unwrap();
    assert_eq!(
        (again.state(), report),
        (manifest.state(), ManifestReport::default())
    );
}

#[test]
fn old_generations_that_cannot_be_removed_go_with_a_later_one() {
    let memory = store(&small_edits());
    let vfs = FaultVfs::on_memory(&memory);
    let faults = [Fault::for_good(1, FaultKind::Io).only(&[OperationKind::Remove])];
    faults.into_iter().for_each(|fault| vfs.inject(fault));
    for number in 4..6 {
        let (mut manifest, _) = Manifest::open(on_faults(&vfs)).unwrap();
        manifest.apply(&flush(number, 1)).unwrap();
    }
    assert_eq!(memory.file_names(dir()).len(), 6);
    memory.write_file(dir().join("manifest-00000009.b.tmp"), b"left over");
    vfs.clear_faults();
    let (mut manifest, report) = Manifest::open(on_faults(&vfs)).unwrap();
    assert_eq!(report, ManifestReport::default());
    manifest.apply(&flush(7, 1)).unwrap();
    assert_eq!(
        memory.file_names(dir()),
        ["manifest-00000004.a", "manifest-00000004.b"]
    );
}

#[test]
fn units_that_the_disk_cannot_read_are_read_from_the_other_copy() {
    let memory = store(&small_edits());
    for side in Side::BOTH {
        let vfs = FaultVfs::on_memory(&memory);
        let name = format!("manifest-00000001.{side}");
        vfs.inject(
            Fault::for_good(1, FaultKind::Io)
                .only(&[OperationKind::Read])
                .on(name),
        );
        let (manifest, report) = Manifest::open(on_faults(&vfs)).unwrap();
        assert_eq!(Some(manifest.state()), states(&small_edits()).last());
        assert!(!report.damage.is_empty());
        // A failure that passes is none.
        let vfs = FaultVfs::on_memory(&memory);
        vfs.inject(Fault::once(1, FaultKind::Io).only(&[OperationKind::Read]));
        let (_, report) = Manifest::open(on_faults(&vfs)).unwrap();
        assert_eq!(report, ManifestReport::default());
    }
    let vfs = FaultVfs::on_memory(&memory);
    vfs.inject(Fault::for_good(1, FaultKind::Io).only(&[OperationKind::Read]));
    let error = Manifest::open(on_faults(&vfs)).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
}
