//! Loss of power after every change of the disk, and then again in the middle of recovering.

use super::history::History;
use super::workload::{Known, OnError, run};
use super::*;
use crate::vfs::{FaultVfs, TearUnit};

fn open_on(vfs: &Arc<dyn Vfs>, seed: u64, known: &Option<Arc<Known>>) -> Result<(Log, LogReport)> {
    let mut setup = setup_on(Arc::clone(vfs), seed);
    if let Some(known) = known {
        setup.known = known.0.lock().clone();
        setup.registry = Some(Arc::clone(known) as Arc<dyn LogRegistry>);
    }
    Log::open(setup)
}

fn memory(vfs: &MemoryVfs) -> Arc<dyn Vfs> {
    Arc::new(vfs.clone())
}

/// Opens, checks, appends, crashes at every change of that, opens again.
fn check_after(
    disk: &MemoryVfs,
    history: &History,
    known: &Option<Arc<Known>>,
    seed: u64,
    unit: TearUnit,
    what: &str,
) -> usize {
    let mut runs = 0;
    for k in 0.. {
        let (disk, mut history) = (disk.fork(), history.clone());
        // A registry is durable by itself: what a run after the crash adds must not reach the next.
        let known = known.as_ref().map(|known| {
            let metas = known.0.lock().clone();
            Arc::new(Known(metas.into()))
        });
        let vfs = FaultVfs::on_memory(&disk);
        let handle: Arc<dyn Vfs> = Arc::new(vfs.clone());
        vfs.crash_after_changes(k);
        let mut again = || -> Result<()> {
            let (log, report) = open_on(&handle, seed + 1_000, &known)?;
            assert_eq!(report.damage, [], "{what}, then {k}");
            history.check(&log, what);
            let next = log.last_index().0 + 1;
            history.append(&log, next, &[70], Durability::Disk)?;
            history.sync(&log)?;
            history.append(&log, next + 1, &[6_000, 80], Durability::Process)?;
            Ok(())
        };
        let done = match again() {
            Ok(()) => true,
            Err(error) => {
                assert!(vfs.crashed(), "{what}, then {k}: {error}");
                false
            }
        };
        let disk = disk.crash(seed * 31 + k, unit);
        let opened = open_on(&memory(&disk), seed + 2_000, &known);
        let (log, report) = opened.unwrap_or_else(|error| panic!("{what}, then {k}: {error}"));
        assert_eq!(report.damage, [], "{what}, then {k}");
        history.check(&log, &format!("{what}, then {k}"));
        append_synced(&log, log.last_index().0 + 1, 50).unwrap();
        runs += 1;
        if done {
            return runs;
        }
    }
    runs
}

fn every_crash_point(with_registry: bool, identifier_delay: Duration, units: &[TearUnit]) -> usize {
    let mut runs = 0;
    for k in 0.. {
        let disk = MemoryVfs::new();
        let vfs = FaultVfs::on_memory(&disk);
        vfs.crash_after_changes(k);
        let known = with_registry.then(|| Arc::new(Known::default()));
        let mut history = History::new();
        let mut setup = setup_on(Arc::new(vfs.clone()), k);
        setup.options.identifier_delay = identifier_delay;
        setup.registry = known.clone().map(|known| known as Arc<dyn LogRegistry>);
        let done = Log::open(setup).and_then(|(log, _)| run(&log, &mut history, OnError::Stop));
        if let Err(error) = &done {
            assert!(vfs.crashed(), "{k}: {error}");
        }
        for &unit in units {
            for seed in 0..2 {
                let what = format!("crash after {k}, seed {seed}, {unit:?}");
                let crashed = disk.crash(seed * 1_000 + k, unit);
                // Each second crash at every tenth first one; at the others only a few.
                match k % 10 == seed {
                    true => runs += check_after(&crashed, &history, &known, seed, unit, &what),
                    false => {
                        let opened = open_on(&memory(&crashed), 99, &known);
                        let (log, report) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
                        assert_eq!(report.damage, [], "{what}");
                        history.clone().check(&log, &what);
                        runs += 1;
                    }
                }
            }
        }
        if done.is_ok() {
            break;
        }
    }
    runs
}

const BOTH: [TearUnit; 2] = [TearUnit::Sector, TearUnit::Page];

#[test]
fn at_every_crash_point_of_a_log_that_stands_alone() {
    let runs = every_crash_point(false, Duration::from_secs(1), &BOTH);
    println!("{runs} runs");
    assert!(runs > 500, "{runs}");
}

#[test]
fn at_every_crash_point_of_a_log_with_a_registry() {
    let runs = every_crash_point(true, Duration::from_secs(1), &BOTH);
    assert!(runs > 500, "{runs}");
}

#[test]
fn at_every_crash_point_with_identifiers_before_the_acknowledgement() {
    let runs = every_crash_point(false, Duration::ZERO, &BOTH);
    assert!(runs > 500, "{runs}");
}

#[test]
fn positions_are_never_used_twice() {
    let mut disk = MemoryVfs::new();
    let mut seen = Vec::new();
    for round in 0..30u64 {
        let (log, _) = Log::open(setup_on(memory(&disk), round)).unwrap();
        let next = log.last_index().0 + 1;
        let start = log.end_lsn();
        let mut ends = vec![start];
        for index in next..next + 3 {
            ends.push(append(&log, index, 40, Durability::Process).unwrap());
        }
        if round % 3 == 0 {
            log.sync().unwrap();
            log.step_prepare().unwrap();
        }
        for record in read(&log, next).unwrap() {
            seen.push((record.lsn, round, record.index));
        }
        drop(log);
        disk = match round % 2 {
            0 => disk.crash(round, TearUnit::Page),
            _ => disk.kill(),
        };
    }
    let count = seen.len();
    seen.sort();
    seen.dedup_by_key(|one| one.0);
    // The same record may be there after each reopening; a position holds one record for ever.
    assert_eq!(count, 90);
    assert_eq!(seen.len(), 90);
}

/// A torn write of several units of identifiers was called damage, where a later unit of it had come to
/// the disk and an earlier one hadn't.
#[test]
fn a_torn_write_of_many_identifiers_is_no_damage() {
    for seed in 0..60 {
        let disk = MemoryVfs::new();
        let vfs = FaultVfs::on_memory(&disk);
        let handle: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let mut own = setup_on(handle, seed);
        own.options.file_bytes = 256 << 10;
        let (log, _) = Log::open(own).unwrap();
        for index in 1..=700 {
            append(&log, index, 40, Durability::Process).unwrap();
        }
        log.sync().unwrap();
        // The units are written, and the power fails before they are synced.
        vfs.crash_after_changes(1);
        assert!(log.step_identifiers().is_err());
        let mut again = setup(&disk.crash(seed, TearUnit::Page));
        again.options.file_bytes = 256 << 10;
        let (log, report) = Log::open(again).unwrap();
        assert_eq!(report.damage, [], "{seed}");
        assert_eq!(indexes(&log), (1..=700).collect::<Vec<_>>());
    }
}
