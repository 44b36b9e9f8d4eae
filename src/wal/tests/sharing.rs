//! More than one at the same log: threads, readers beside a writer, two writers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::vfs::TearUnit;

#[test]
fn two_threads_append_and_sync_and_jobs_run_meanwhile() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    let turn = parking_lot::Mutex::new(0u64);
    let durable = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let (index, end) = {
                            let mut turn = turn.lock();
                            if *turn == 400 {
                                return;
                            }
                            *turn += 1;
                            (*turn, append(&log, *turn, 300, Durability::Disk).unwrap())
                        };
                        log.sync_to(end).unwrap();
                        durable.fetch_max(index, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                log.step_prepare().unwrap();
                log.step_identifiers().unwrap();
                let seen = durable.load(Ordering::SeqCst);
                let (last, first) = (log.last_index(), log.first_index());
                let found = read(&log, first.0).unwrap();
                assert!(found.last().is_none_or(|one| one.index >= last));
                assert!(last.0 >= seen);
                let crashed = disk.crash(seen, TearUnit::Page);
                let (after, report) = open(&crashed);
                assert_eq!(report.damage, []);
                assert!(
                    after.last_index().0 >= seen,
                    "{} of {seen}",
                    after.last_index()
                );
                log.purge_before(Index(seen.saturating_sub(50))).unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    log.close().unwrap();
    drop(log);
    assert_eq!(*indexes(&open(&disk).0).last().unwrap(), 400);
}

#[test]
fn a_reader_beside_a_writer_never_cries_damage() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    append_synced(&log, 1, 10).unwrap();
    let durable = AtomicU64::new(1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 2..=500 {
                let durability = match index % 5 {
                    0 => Durability::Buffered,
                    1 => Durability::Process,
                    _ => Durability::Disk,
                };
                append(&log, index, 50 + index as usize % 7 * 400, durability).unwrap();
                if index % 3 == 0 {
                    log.sync().unwrap();
                    durable.store(index, Ordering::SeqCst);
                }
                if index % 10 == 0 {
                    log.step_identifiers().unwrap();
                    log.step_prepare().unwrap();
                }
                if index % 50 == 0 {
                    log.purge_before(Index(index - 40)).unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut looks = 0;
        while looks == 0 || !done.load(Ordering::SeqCst) {
            let seen = durable.load(Ordering::SeqCst);
            let mut setup = setup(&disk);
            setup.access = LogAccess::ReadOnly;
            let (reader, report) = Log::open(setup).unwrap();
            assert_eq!(report.damage, []);
            assert!(reader.last_index().0 >= seen);
            match read(&reader, reader.first_index().0) {
                Ok(found) => assert_eq!(found.last().unwrap().index, reader.last_index()),
                Err(Error::Purged { .. }) => {}
                Err(other) => panic!("{other}"),
            }
            assert!(matches!(
                append(&reader, 1, 1, Durability::Disk),
                Err(Error::ReadOnly)
            ));
            assert!(matches!(
                reader.purge_before(Index(9)),
                Err(Error::ReadOnly)
            ));
            assert!(!reader.step_prepare().unwrap());
            looks += 1;
        }
    });
}

#[test]
fn a_log_that_stands_alone_has_one_writer() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    assert!(matches!(Log::open(setup(&disk)), Err(Error::Locked { .. })));
    drop(log);
    let (_log, _) = open(&disk);
}

#[test]
fn a_reader_goes_on_while_the_log_changes_under_it() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=40 {
        append_synced(&log, index, 1_500).unwrap();
    }
    let mut reader = log.read_from(Index(5)).unwrap();
    for index in 5..10 {
        assert_eq!(reader.next().unwrap().unwrap().index, Index(index));
    }
    let mut late = log.read_from(Index(1)).unwrap();
    log.truncate_after(Index(20)).unwrap();
    append_synced(&log, 21, 10).unwrap();
    let mut rest = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.payload, payload(record.index.0, 1_500));
        rest.push(record.index.0);
    }
    assert_eq!(rest, (10..=40).collect::<Vec<_>>());
    log.purge_before(Index(15)).unwrap();
    assert!(matches!(late.next(), Err(Error::Purged { .. })));
    assert!(matches!(log.read_from(Index(1)), Err(Error::Purged { .. })));
    assert!(matches!(
        log.truncate_after(Index(1)),
        Err(Error::Purged { .. })
    ));
}
