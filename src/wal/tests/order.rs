//! Indexes: what may come next, gaps, truncation, purging.

use super::*;
use crate::vfs::TearUnit;

fn refused(log: &Log, index: u64) -> bool {
    matches!(
        append(log, index, 10, Durability::Disk),
        Err(Error::LogOrder { .. })
    )
}

#[test]
fn an_index_is_the_next_or_one_that_is_there() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    assert!(refused(&log, 0) && refused(&log, 2) && refused(&log, u64::MAX));
    assert_eq!((log.first_index(), log.last_index()), (Index(1), Index(0)));
    assert_eq!(log.append(&[], Durability::Disk).unwrap(), log.end_lsn());
    append_synced(&log, 1, 10).unwrap();
    assert!(refused(&log, 3) && refused(&log, 0));
    append_synced(&log, 2, 10).unwrap();
    append_synced(&log, 1, 20).unwrap();
    assert_eq!(indexes(&log), [1]);
    let one = payload(2, 10);
    let record = |kind, index| Append::new(kind, Index(index), &one);
    let group = [record(RecordKind::Batch, 2), record(RecordKind::Noop, 4)];
    assert!(matches!(
        log.append(&group, Durability::Disk),
        Err(Error::LogOrder { .. })
    ));
    for kind in [RecordKind::Truncate, RecordKind::End] {
        let group = [record(kind, 2)];
        assert!(matches!(
            log.append(&group, Durability::Disk),
            Err(Error::LogOrder { .. })
        ));
    }
    let group = [
        record(RecordKind::Config, 2),
        record(RecordKind::Catalog, 3),
    ];
    log.append(&group, Durability::Disk).unwrap();
    assert_eq!(indexes(&log), [1, 2, 3]);
    assert!(log.sync_to(Lsn(log.end_lsn().0 + 1)).is_err());
    log.sync().unwrap();
}

#[test]
fn a_gap_is_a_new_beginning() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=5 {
        append_synced(&log, index, 10).unwrap();
    }
    log.skip_to(Index(4));
    assert!(refused(&log, 7));
    log.skip_to(Index(20));
    assert!(refused(&log, 19) && refused(&log, 21));
    append_synced(&log, 20, 10).unwrap();
    assert!(refused(&log, 22) && refused(&log, 19));
    append_synced(&log, 21, 10).unwrap();
    let check = |log: &Log| {
        assert_eq!(
            (log.first_index(), log.last_index()),
            (Index(20), Index(21))
        );
        assert_eq!(indexes(log), [20, 21]);
        assert!(matches!(log.read_from(Index(5)), Err(Error::Purged { .. })));
    };
    check(&log);
    drop(log);
    let (log, report) = open(&disk.crash(1, TearUnit::Page));
    assert_eq!(report.damage, []);
    check(&log);
    // A log that begins late.
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    log.skip_to(Index(100));
    append_synced(&log, 100, 10).unwrap();
    drop(log);
    assert_eq!(indexes(&open(&disk).0), [100]);
}

#[test]
fn truncation_is_a_record_and_survives() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=30 {
        append_synced(&log, index, 700).unwrap();
    }
    log.truncate_after(Index(30)).unwrap();
    log.truncate_after(Index(99)).unwrap();
    assert_eq!(log.last_index(), Index(30));
    log.truncate_after(Index(15)).unwrap();
    assert_eq!(log.last_term(), Term(1 + 15 / 10));
    let crashed = disk.crash(3, TearUnit::Page);
    let (log, _) = open(&crashed);
    assert_eq!(indexes(&log), (1..=15).collect::<Vec<_>>());
    assert_eq!(log.last_term(), Term(2));
    assert_eq!(log.last_time_us(), 1_030);
    log.truncate_after(Index(0)).unwrap();
    assert_eq!((log.first_index(), log.last_index()), (Index(1), Index(0)));
    assert_eq!(read(&log, 0).unwrap(), []);
    drop(log);
    let (log, _) = open(&crashed);
    assert_eq!((log.first_index(), log.last_index()), (Index(1), Index(0)));
    append_synced(&log, 1, 10).unwrap();
    assert_eq!(indexes(&log), [1]);
}

#[test]
fn purging_takes_whole_files_from_the_front() {
    let disk = MemoryVfs::new();
    let registry = Arc::new(super::workload::Known::default());
    let mut setup = setup(&disk);
    setup.registry = Some(registry.clone());
    let (log, _) = Log::open(setup).unwrap();
    for index in 1..=60 {
        append_synced(&log, index, 700).unwrap();
    }
    let files = |disk: &MemoryVfs| {
        let names = disk.file_names(dir());
        names.iter().filter(|name| name.ends_with(".log")).count() as u64
    };
    let before = files(&disk);
    let bytes = log.bytes_retained();
    assert_eq!(log.purge_before(Index(1)).unwrap(), 0);
    let removed = log.purge_before(Index(31)).unwrap();
    assert!(removed > 2);
    assert_eq!(files(&disk), before - removed);
    assert_eq!(registry.0.lock().len() as u64, before - removed);
    assert!(log.bytes_retained() < bytes);
    let first = log.first_index().0;
    assert!(first <= 31 && first > 20, "{first}");
    assert_eq!(indexes(&log), (first..=60).collect::<Vec<_>>());
    // Never the newest.
    log.purge_before(Index(1_000)).unwrap();
    assert_eq!(files(&disk), 1);
    assert_eq!(log.last_index(), Index(60));
    drop(log);
    let mut setup = super::setup(&disk.crash(1, TearUnit::Page));
    setup.known = registry.0.lock().clone();
    let (log, report) = Log::open(setup).unwrap();
    assert_eq!(report.damage, []);
    assert_eq!(log.last_index(), Index(60));
}

/// Positions that a void file owned must not be given out again, so it outlives the purge.
#[test]
fn a_void_file_above_the_log_stays_until_there_is_a_newer_one() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    append_synced(&log, 1, 10).unwrap();
    log.step_prepare().unwrap();
    drop(log);
    let (log, _) = open(&disk);
    log.purge_before(Index(9)).unwrap();
    assert!(disk.file_names(dir()).contains(&"00000002.log".to_owned()));
    append_synced(&log, 2, 10).unwrap();
    log.purge_before(Index(1)).unwrap();
    let names = disk.file_names(dir());
    assert!(!names.contains(&"00000002.log".to_owned()), "{names:?}");
    assert!(!names.contains(&"00000002.ids".to_owned()), "{names:?}");
    assert!(names.contains(&"00000003.log".to_owned()), "{names:?}");
    drop(log);
    assert_eq!(indexes(&open(&disk).0), [1, 2]);
}

#[test]
fn options_are_validated_and_groups_bounded() {
    let disk = MemoryVfs::new();
    let wrong: [fn(&mut LogOptions); 4] = [
        |options| options.file_bytes = FILE_BYTES_MIN - 1,
        |options| options.file_bytes = FILE_BYTES_MAX + 1,
        |options| options.identifier_delay = Duration::from_secs(61),
        |options| options.buffer_bytes = (1 << 30) + 1,
    ];
    for change in wrong {
        let mut setup = setup(&disk);
        change(&mut setup.options);
        assert!(matches!(Log::open(setup), Err(Error::InvalidOption { .. })));
    }
    let mut missing = setup(&disk);
    missing.access = LogAccess::ReadOnly;
    missing.dir = "/nowhere".into();
    assert!(matches!(Log::open(missing), Err(Error::NotAStore { .. })));
}

/// What a background thread asks for before it works.
#[test]
fn identifiers_are_due_after_their_delay() {
    #[derive(Debug, Default)]
    struct Hand(std::sync::atomic::AtomicU64);
    impl crate::environment::Clock for Hand {
        fn wall_us(&self) -> u64 {
            0
        }
        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
        }
    }
    let disk = MemoryVfs::new();
    let clock = Arc::new(Hand::default());
    let mut setup = setup(&disk);
    setup.clock = clock.clone();
    setup.options.identifier_delay = Duration::from_millis(10);
    let (log, _) = Log::open(setup).unwrap();
    let advance = |ms| clock.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    assert!(!log.identifiers_due());
    append(&log, 1, 10, Durability::Disk).unwrap();
    advance(50);
    assert!(!log.identifiers_due());
    log.sync().unwrap();
    advance(9);
    append_synced(&log, 2, 10).unwrap();
    assert!(!log.identifiers_due());
    advance(1);
    assert!(log.identifiers_due());
    assert!(log.step_identifiers().unwrap());
    assert!(!log.identifiers_due());
    assert!(!log.step_identifiers().unwrap());
    // Where nobody comes, a sync does it.
    append_synced(&log, 3, 10).unwrap();
    advance(70);
    assert!(log.identifiers_due());
    append_synced(&log, 4, 10).unwrap();
    assert!(!log.identifiers_due());
    assert!(!log.step_identifiers().unwrap());
}

/// A log that nobody looks after keeps no heap of identifiers, and loses none.
#[test]
fn a_log_alone_identifies_itself() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=200 {
        append(&log, index, 900, Durability::Process).unwrap();
    }
    drop(log);
    let mut sealed = 0;
    inspect(setup(&disk), &mut |one| {
        if let Inspected::IdentifierUnit {
            unit: Some(unit), ..
        } = one
        {
            sealed += usize::from(unit.sealed);
        }
    })
    .unwrap();
    assert!(sealed >= 3, "{sealed}");
}

/// Names that nobody of ours gave are nobody's business, however close they come.
#[test]
fn foreign_names_in_the_folder_are_left_alone() {
    let disk = MemoryVfs::new();
    let foreign = [
        "18446744073709551615.log",
        "18446744073709551614.ids",
        "1.log",
        "00000001.segment",
        "00000001.log.bak",
        "notes.txt",
        "vote.a",
    ];
    for name in foreign {
        assert!(disk.write_file(dir().join(name), b"not ours"));
    }
    let (log, report) = open(&disk);
    assert_eq!(report.damage, []);
    for index in 1..=30 {
        append_synced(&log, index, 900).unwrap();
    }
    log.purge_before(Index(30)).unwrap();
    log.close().unwrap();
    for name in foreign {
        assert_eq!(disk.read_file(dir().join(name)).unwrap(), b"not ours");
    }
    // An unpublished file is litter, and a file that was never finished is void.
    assert!(disk.write_file(dir().join("00000050.log.tmp"), b"half"));
    assert!(disk.write_file(dir().join("00000051.log"), [0; 8192]));
    drop(log);
    let (log, report) = open(&disk);
    assert_eq!(report.needed, []);
    append_synced(&log, 31, 10).unwrap();
    log.purge_before(Index(1)).unwrap();
    let names = disk.file_names(dir());
    assert!(names.contains(&"00000052.log".to_owned()), "{names:?}");
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("0000005") && !name.starts_with("00000052"))
    );
}
