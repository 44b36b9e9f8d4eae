//! Operations that fail: each in turn, once and for good; syncs; a full disk.

use super::history::History;
use super::workload::{Known, OnError, run};
use super::*;
use crate::vfs::{Fault, FaultKind, FaultVfs, OperationKind, SyncFailure, TearUnit};

/// Opens, once more if that is refused, and runs the workload as far as it gets.
fn try_all(setup: impl Fn() -> LogSetup<'static>, history: &mut History) -> Result<()> {
    let (log, _) = Log::open(setup()).or_else(|_| Log::open(setup()))?;
    let done = run(&log, history, OnError::GoOn);
    if let Some(cause) = log.poisoned() {
        // Latched: nothing more is taken, reads go on.
        let next = log.last_index().0 + 1;
        let refused = append(&log, next, 10, Durability::Buffered).unwrap_err();
        assert!(
            matches!(refused, Error::Poisoned { .. } | Error::Closed),
            "{refused}"
        );
        assert!(refused.to_string().contains(&*cause) || matches!(refused, Error::Closed));
        assert!(log.step_identifiers().is_err());
    }
    done
}

/// A registry of its own for each disk, as it was at the fork.
fn setup_with(disk: &MemoryVfs, known: &Known) -> LogSetup<'static> {
    let mut setup = setup(disk);
    setup.known = known.0.lock().clone();
    setup.registry = Some(Arc::new(Known(setup.known.clone().into())));
    setup
}

fn check(disk: &MemoryVfs, known: &Known, history: &History, what: &str) {
    let setup = setup_with(disk, known);
    let (log, report) = Log::open(setup).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.needed, [], "{what}");
    let mut history = history.clone();
    history.check(&log, what);
    append_synced(&log, log.last_index().0 + 1, 50).unwrap();
}

fn every_operation_fails(kind: FaultKind, once: bool, sync_failure: SyncFailure) -> u64 {
    for n in 1.. {
        let disk = MemoryVfs::new();
        let vfs = FaultVfs::on_memory(&disk);
        let fault = match once {
            true => Fault::once(n, kind),
            false => Fault::for_good(n, kind),
        };
        vfs.inject(fault.sync_failure(sync_failure));
        let known = Arc::new(Known::default());
        let mut history = History::new();
        let make = || {
            let mut setup = setup_on(Arc::new(vfs.clone()), n);
            setup.known = known.0.lock().clone();
            setup.registry = Some(known.clone());
            setup
        };
        let _ = try_all(make, &mut history);
        let what = format!("{kind:?} at {n}, once {once}, {sync_failure:?}");
        for seed in 0..2 {
            check(&disk.crash(seed, TearUnit::Page), &known, &history, &what);
        }
        // The process dies, the machine goes on; what is read then must survive a crash.
        let killed = disk.kill();
        {
            let setup = setup_with(&killed, &known);
            let (log, _) = Log::open(setup).unwrap_or_else(|error| panic!("{what}: {error}"));
            history.check(&log, &what);
        }
        check(&killed.crash(5, TearUnit::Page), &known, &history, &what);
        if vfs.faults_hit() == 0 {
            return n;
        }
    }
    0
}

#[test]
fn every_operation_fails_once() {
    for kind in [
        FaultKind::Io,
        FaultKind::NoSpace,
        FaultKind::ShortWrite,
        FaultKind::IoAfter,
    ] {
        let n = every_operation_fails(kind, true, SyncFailure::PagesKept);
        assert!(n > 100, "{kind:?}: {n}");
    }
}

#[test]
fn every_operation_fails_for_good() {
    for kind in [FaultKind::Io, FaultKind::NoSpace] {
        let n = every_operation_fails(kind, false, SyncFailure::PagesReverted);
        assert!(n > 100, "{kind:?}: {n}");
    }
}

#[test]
fn every_sync_fails_and_the_cache_reverts() {
    let n = every_operation_fails(FaultKind::Io, true, SyncFailure::PagesReverted);
    assert!(n > 100, "{n}");
}

/// The page cache goes on showing what a failed sync has lost; a reopened log must not believe it.
#[test]
fn what_only_the_cache_shows_is_not_believed() {
    for durability in [Durability::Process, Durability::Disk] {
        let disk = MemoryVfs::new();
        let vfs = FaultVfs::on_memory(&disk);
        let (log, _) = Log::open(setup_on(Arc::new(vfs.clone()), 1)).unwrap();
        append_synced(&log, 1, 100).unwrap();
        log.step_identifiers().unwrap();
        vfs.inject(Fault::once(1, FaultKind::Io).only(&[OperationKind::SyncData]));
        let end = append(&log, 2, 100, durability).unwrap();
        assert!(matches!(
            log.sync_to(end),
            Err(Error::OutcomeUnknown { .. })
        ));
        assert!(matches!(
            log.sync_to(end),
            Err(Error::OutcomeUnknown { .. })
        ));
        assert!(matches!(
            log.truncate_after(Index(1)),
            Err(Error::Poisoned { .. })
        ));
        assert!(matches!(log.close(), Err(Error::Poisoned { .. })));
        assert_eq!(indexes(&log), [1, 2]);
        drop(log);
        let (log, report) = open(&disk.kill());
        assert_eq!(indexes(&log), [1]);
        assert_eq!(report.torn_bytes, 0);
        // The same end record in the cache only: the log wasn't closed.
        let (log, _) = open(&disk.crash(3, TearUnit::Page));
        assert_eq!(indexes(&log), [1]);
    }
}

#[test]
fn a_failed_close_is_no_close() {
    let disk = MemoryVfs::new();
    let vfs = FaultVfs::on_memory(&disk);
    let (log, _) = Log::open(setup_on(Arc::new(vfs.clone()), 1)).unwrap();
    append_synced(&log, 1, 100).unwrap();
    vfs.inject(Fault::once(1, FaultKind::Io).only(&[OperationKind::SyncData]));
    assert!(matches!(log.close(), Err(Error::OutcomeUnknown { .. })));
    drop(log);
    let (log, report) = open(&disk.kill());
    assert!(!report.ended_cleanly);
    assert_eq!(indexes(&log), [1]);
}

#[test]
fn a_full_disk_refuses_and_goes_on_once_there_is_room() {
    for delay in [Duration::ZERO, Duration::from_secs(1)] {
        let disk = MemoryVfs::new();
        let make = |disk: &MemoryVfs| {
            let mut setup = setup(disk);
            setup.options.identifier_delay = delay;
            setup
        };
        let (log, _) = Log::open(make(&disk)).unwrap();
        append_synced(&log, 1, 100).unwrap();
        let used = FILE_BYTES + 10 * 4096;
        disk.set_capacity(Some(used));
        let mut last = 1;
        let refused = loop {
            match append_synced(&log, last + 1, 1_000) {
                Ok(()) => last += 1,
                Err(error) => break error,
            }
            assert!(last < 100);
        };
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
        assert_eq!(log.poisoned(), None);
        assert!(matches!(log.step_prepare(), Err(Error::NoSpace { .. })));
        assert_eq!(indexes(&log), (1..=last).collect::<Vec<_>>());
        // To the last page: opening still works, closing too.
        disk.set_capacity(Some(0));
        let crashed = disk.crash(1, TearUnit::Page);
        crashed.set_capacity(Some(0));
        let (reopened, _) = Log::open(make(&crashed)).unwrap();
        assert_eq!(indexes(&reopened), (1..=last).collect::<Vec<_>>());
        let refused = append_synced(&reopened, last + 1, 10).unwrap_err();
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
        crashed.set_capacity(None);
        append_synced(&reopened, last + 1, 10).unwrap();
        reopened.close().unwrap();
        // And the log that never closed goes on as well.
        disk.set_capacity(None);
        append_synced(&log, last + 1, 1_000).unwrap();
        disk.set_capacity(Some(0));
        log.close().unwrap();
        let (log, report) = Log::open(make(&disk.crash(2, TearUnit::Sector))).unwrap();
        assert!(report.ended_cleanly);
        assert_eq!(indexes(&log), (1..=last + 1).collect::<Vec<_>>());
    }
}

/// What is refused must leave no trace, not even in the order of what comes after.
#[test]
fn a_registry_that_fails_refuses_without_latching() {
    #[derive(Debug, Default)]
    struct Failing(std::sync::atomic::AtomicBool);
    impl LogRegistry for Failing {
        fn prepared(&self, _: &LogFileMeta) -> Result<()> {
            match self.0.load(std::sync::atomic::Ordering::Relaxed) {
                true => Err(Error::Closed),
                false => Ok(()),
            }
        }
        fn removed(&self, _: &[LogNumber]) -> Result<()> {
            self.prepared(&LogFileMeta {
                number: LogNumber(1),
                file_id: FileId(1),
                salt: 0,
                first_lsn: Lsn(0),
                capacity: 0,
                first_index: Index(0),
                previous_number: LogNumber(0),
                previous_end_lsn: Lsn(0),
                parity: Parity::Standard,
            })
        }
    }
    let disk = MemoryVfs::new();
    let registry = Arc::new(Failing::default());
    let mut setup = setup(&disk);
    setup.registry = Some(registry.clone());
    let (log, _) = Log::open(setup).unwrap();
    let fail = |fails| {
        registry
            .0
            .store(fails, std::sync::atomic::Ordering::Relaxed)
    };
    fail(true);
    assert!(append_synced(&log, 1, 10).is_err());
    fail(false);
    for index in 1..=40 {
        append_synced(&log, index, 900).unwrap();
    }
    fail(true);
    assert!(log.step_prepare().is_err());
    let names = disk.file_names(dir());
    assert!(log.purge_before(Index(30)).is_err());
    assert_eq!(disk.file_names(dir()), names);
    assert_eq!(indexes(&log), (1..=40).collect::<Vec<_>>());
    fail(false);
    assert!(log.purge_before(Index(30)).unwrap() > 0);
    assert_eq!(log.poisoned(), None);
    append_synced(&log, 41, 900).unwrap();
    drop(log);
    let (log, _) = open(&disk.crash(1, TearUnit::Page));
    assert_eq!(log.last_index(), Index(41));
}

/// A log of several files, open and not closed.
fn several_files() -> MemoryVfs {
    let disk = MemoryVfs::new();
    let mut own = setup(&disk);
    // What is damaged is to show.
    own.options.parity = Parity::Off;
    let (log, _) = Log::open(own).unwrap();
    for index in 1..=20 {
        append_synced(&log, index, 1_000).unwrap();
    }
    log.step_identifiers().unwrap();
    append_synced(&log, 21, 1_000).unwrap();
    drop(log);
    disk.kill()
}

/// An error while reading is an error, never the end of the log.
#[test]
fn every_operation_of_an_open_fails_and_none_is_taken_for_the_end() {
    let disk = several_files();
    let all = (1..=21).collect::<Vec<_>>();
    let mut runs = 0;
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::IoAfter] {
        for access in [LogAccess::ReadWrite, LogAccess::ReadOnly] {
            for n in 1.. {
                let vfs = FaultVfs::on_memory(&disk.fork());
                vfs.inject(Fault::once(n, kind));
                let mut setup = setup_on(Arc::new(vfs.clone()), 1);
                setup.access = access;
                match Log::open(setup) {
                    Ok((log, report)) => {
                        assert_eq!(report.damage, [], "{kind:?} {n}");
                        // The fault may meet the reading in place of the opening.
                        if let Ok(records) = read(&log, 1) {
                            let indexes = records.iter().map(|record| record.index.0);
                            assert_eq!(indexes.collect::<Vec<_>>(), all, "{kind:?} {n}");
                        }
                    }
                    Err(error) => {
                        let from_disk = matches!(error, Error::Io { .. } | Error::NoSpace { .. });
                        assert!(from_disk, "{kind:?} {n}: {error}");
                    }
                }
                runs += 1;
                if vfs.faults_hit() == 0 {
                    break;
                }
            }
        }
    }
    assert!(runs > 100, "{runs}");
}

#[test]
fn a_reader_meets_an_error_and_goes_on_where_it_was() {
    let disk = several_files();
    for n in 1..10 {
        let vfs = FaultVfs::on_memory(&disk.fork());
        let (log, _) = Log::open(setup_on(Arc::new(vfs.clone()), 1)).unwrap();
        vfs.inject(Fault::once(n, FaultKind::Io));
        let mut reader = log.read_from(Index(1)).unwrap();
        let (mut found, mut errors) = (Vec::new(), 0);
        loop {
            match reader.next() {
                Ok(Some(record)) => found.push(record.index.0),
                Ok(None) => break,
                Err(Error::Io { .. }) => errors += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(found, (1..=21).collect::<Vec<_>>());
        assert_eq!(errors, vfs.faults_hit());
    }
}

/// A disk with a sector in one file that can't be read: the file, and where.
#[derive(Debug)]
struct BadSector(MemoryVfs, PathBuf, u64);

#[derive(Debug)]
struct BadFile(Arc<dyn crate::vfs::File>, u64);

impl crate::vfs::File for BadFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        if offset < self.1 + 512 && offset + buffer.len() as u64 > self.1 {
            return Err(std::io::Error::other("bad sector"));
        }
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
        unreachable!()
    }
    fn sync_data(&self) -> std::io::Result<()> {
        unreachable!()
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        unreachable!()
    }
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn preallocate(&self, _: u64) -> std::io::Result<()> {
        unreachable!()
    }
}

impl Vfs for BadSector {
    fn open(
        &self,
        path: &std::path::Path,
        access: crate::vfs::Access,
    ) -> std::io::Result<Arc<dyn crate::vfs::File>> {
        let file = self.0.open(path, access)?;
        match path == self.1 {
            true => Ok(Arc::new(BadFile(file, self.2))),
            false => Ok(file),
        }
    }
    fn create_dir_all(&self, _: &std::path::Path) -> std::io::Result<()> {
        unreachable!()
    }
    fn list(&self, path: &std::path::Path) -> std::io::Result<Vec<crate::vfs::DirEntry>> {
        self.0.list(path)
    }
    fn rename(&self, _: &std::path::Path, _: &std::path::Path) -> std::io::Result<()> {
        unreachable!()
    }
    fn remove(&self, _: &std::path::Path) -> std::io::Result<()> {
        unreachable!()
    }
    fn sync_dir(&self, _: &std::path::Path) -> std::io::Result<()> {
        unreachable!()
    }
    fn lock(&self, _: &std::path::Path) -> std::io::Result<Box<dyn crate::vfs::Lock>> {
        unreachable!()
    }
    fn file_system(&self, path: &std::path::Path) -> std::io::Result<crate::vfs::FileSystem> {
        self.0.file_system(path)
    }
}

/// What can't be read counts as damaged for one who salvages, and as an error for everyone else.
#[test]
fn a_bad_sector_is_an_error_or_salvaged_around() {
    let disk = several_files();
    let (log, _) = open(&disk.fork());
    let third = read(&log, 3).unwrap()[0].lsn;
    let path = dir().join("00000001.log");
    let bad = BadSector(disk, path.clone(), third.0 - 4096 + 100);
    let bad: Arc<dyn Vfs> = Arc::new(bad);
    let make = |damage| {
        let mut setup = setup_on(Arc::clone(&bad), 1);
        setup.access = LogAccess::ReadOnly;
        setup.damage = damage;
        setup
    };
    let refused = Log::open(make(DamagePolicy::Refuse)).unwrap_err();
    assert!(
        matches!(&refused, Error::Io { path: at, .. } if *at == path),
        "{refused}"
    );
    let (log, report) = Log::open(make(DamagePolicy::Tolerate)).unwrap();
    assert_eq!(report.needed[0].indexes, Some((Index(3), Index(3))));
    let found: Vec<u64> = read(&log, 0)
        .unwrap()
        .iter()
        .map(|one| one.index.0)
        .collect();
    assert_eq!(
        found,
        (1..=21).filter(|&index| index != 3).collect::<Vec<_>>()
    );
    let mut shown = 0;
    inspect(make(DamagePolicy::Tolerate), &mut |_| shown += 1).unwrap();
    assert!(shown > 21);
}
