//! Power lost after every change of the disk in a workload, and again while recovering from that.

use super::*;
use crate::testing::TearUnit;

const TEAR_UNITS: [TearUnit; 2] = [TearUnit::Sector, TearUnit::Page];

/// How far a workload got.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Whether `create` returned.
    created: bool,
    /// Edits acknowledged.
    acknowledged: usize,
}

/// Creates a store and applies all edits, closing and opening it after some; ends at the first error.
fn run(setup: &ManifestSetup, edits: &[Vec<Change>], progress: &mut Progress) -> Result<()> {
    let mut manifest = Manifest::create(setup.clone(), empty_state())?;
    progress.created = true;
    for (number, edit) in edits.iter().enumerate() {
        if [3, 6, 7].contains(&number) {
            manifest = Manifest::open(setup.clone())?.0;
        }
        manifest.apply(edit)?;
        progress.acknowledged = number + 1;
    }
    Ok(())
}

/// Opens what a crash left; says how many edits are there. Nothing but the edit in flight may be in
/// doubt, and nothing may be reported as damage.
fn recovered(
    memory: &MemoryVfs,
    states: &[ManifestState],
    progress: Progress,
) -> Option<(Manifest, usize)> {
    if !progress.created && !Manifest::is_present(memory, dir()).unwrap() {
        let error = Manifest::open(on(memory)).unwrap_err();
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
        return None;
    }
    let before = names(memory);
    let (manifest, report) = Manifest::open(on(memory)).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(names(memory), before);
    let acknowledged = progress.acknowledged;
    let last = (acknowledged + usize::from(progress.created)).min(states.len() - 1);
    let found = (acknowledged..=last).find(|&count| *manifest.state() == states[count]);
    let found = found.unwrap_or_else(|| panic!("{progress:?}: {:?}", manifest.state()));
    // The same once more, by a reader and by another writer.
    for setup in [read_only(memory), on(memory)] {
        let (again, same) = Manifest::open(setup).unwrap();
        assert_eq!(
            (again.state(), again.position(), same),
            (manifest.state(), manifest.position(), report.clone())
        );
    }
    Some((manifest, found))
}

fn names(memory: &MemoryVfs) -> Vec<String> {
    memory.file_names(dir())
}

/// Applies one more edit to what a crash left, with the power failing again at every change, and
/// checks each outcome.
fn crash_again(
    memory: &MemoryVfs,
    states: &[ManifestState],
    count: usize,
    edit: &[Change],
    seed: u64,
) {
    for k in 0.. {
        let memory = memory.fork();
        let vfs = FaultVfs::on_memory(&memory);
        let (mut manifest, _) = Manifest::open(on_faults(&vfs)).unwrap();
        vfs.crash_after_changes(k);
        let done = manifest.apply(edit).is_ok();
        let progress = Progress {
            created: true,
            acknowledged: count + usize::from(done),
        };
        let crashed = memory.crash(seed ^ k, TEAR_UNITS[(seed + k) as usize % 2]);
        let (mut manifest, count) = recovered(&crashed, states, progress).unwrap();
        if let Some(next) = states.get(count + 1) {
            manifest.apply(&edits()[count]).unwrap();
            assert_eq!(manifest.state(), next);
            let (again, report) = Manifest::open(on(&crashed)).unwrap();
            assert_eq!((again.state(), report), (next, ManifestReport::default()));
        }
        if !vfs.crashed() {
            return;
        }
    }
}

#[test]
fn power_lost_after_every_change() {
    let edits = edits();
    let states = states(&edits);
    let (mut crashes, mut in_flight) = (0, [0, 0]);
    for k in 0.. {
        let memory = disk();
        let vfs = FaultVfs::on_memory(&memory);
        vfs.crash_after_changes(k);
        let mut progress = Progress::default();
        let done = run(&on_faults(&vfs), &edits, &mut progress).is_ok();
        for seed in 0..6 {
            for unit in TEAR_UNITS {
                crashes += 1;
                let crashed = memory.crash(seed * 1000 + k, unit);
                let Some((_, count)) = recovered(&crashed, &states, progress) else {
                    Manifest::create(on(&crashed), empty_state()).unwrap();
                    continue;
                };
                in_flight[count - progress.acknowledged] += 1;
                if seed == 0 && unit == TEAR_UNITS[k as usize % 2] && count < edits.len() {
                    crash_again(&crashed, &states, count, &edits[count], k);
                }
            }
        }
        if done {
            assert!(!vfs.crashed());
            break;
        }
    }
    assert!(crashes > 1000, "{crashes}");
    assert!(in_flight.iter().all(|count| *count > 100), "{in_flight:?}");
}

#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let edits = edits();
    let states = states(&edits);
    for k in 0.. {
        let memory = disk();
        let vfs = FaultVfs::on_memory(&memory);
        vfs.crash_after_changes(k);
        let mut progress = Progress::default();
        let done = run(&on_faults(&vfs), &edits, &mut progress).is_ok();
        // The page cache outlives the process; what a new one has believed outlives the power too.
        let killed = memory.kill();
        if let Some((manifest, count)) = recovered(&killed, &states, progress) {
            let crashed = killed.crash(k, TearUnit::Sector);
            let (again, report) = Manifest::open(on(&crashed)).unwrap();
            assert_eq!(again.state(), manifest.state());
            assert_eq!(
                (again.position(), report.damage),
                (manifest.position(), vec![])
            );
            if k % 5 == 0 && count < edits.len() {
                crash_again(&killed, &states, count, &edits[count], k);
            }
        }
        if done {
            break;
        }
    }
}
