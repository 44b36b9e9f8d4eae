//! Appending, reading, rotating, closing, reopening.

use super::*;

#[test]
fn what_is_appended_is_read_back_before_and_after_reopening() {
    let vfs = MemoryVfs::new();
    let (log, report) = open(&vfs);
    assert_eq!(report.records, 0);
    assert!(report.ended_cleanly);
    for index in 1..=40 {
        append_synced(&log, index, 700).unwrap();
    }
    assert_eq!(indexes(&log), (1..=40).collect::<Vec<_>>());
    log.close().unwrap();
    drop(log);
    let (log, report) = open(&vfs);
    assert!(report.ended_cleanly);
    assert_eq!(report.damage, []);
    assert!(report.files > 5, "{report:?}");
    assert_eq!(indexes(&log), (1..=40).collect::<Vec<_>>());
    for record in read(&log, 1).unwrap() {
        assert_eq!(record.payload, payload(record.index.0, 700));
        assert_eq!(record.time_us, 1_000 + record.index.0);
    }
    for index in 41..=50 {
        append(&log, index, 100, Durability::Buffered).unwrap();
    }
    assert_eq!(indexes(&log), (1..=50).collect::<Vec<_>>());
    assert!(log.step_prepare().unwrap());
    assert!(!log.step_prepare().unwrap());
    for index in 51..=150 {
        append(&log, index, 100, Durability::Process).unwrap();
    }
    log.sync().unwrap();
    assert!(log.step_identifiers().unwrap());
    drop(log);
    let (log, report) = open(&vfs);
    assert!(!report.ended_cleanly);
    assert_eq!(report.damage, []);
    assert_eq!(indexes(&log), (1..=150).collect::<Vec<_>>());
    assert!(log.purge_before(Index(100)).unwrap() > 5);
    assert!(log.first_index() <= Index(100));
    append_synced(&log, 151, 10).unwrap();
    drop(log);
    let (log, report) = open(&vfs);
    assert_eq!(report.damage, []);
    assert_eq!(log.last_index(), Index(151));
    assert_eq!(*indexes(&log).last().unwrap(), 151);
    log.truncate_after(Index(120)).unwrap();
    assert_eq!(log.last_index(), Index(120));
    append_synced(&log, 121, 10).unwrap();
    drop(log);
    let (log, _) = open(&vfs);
    assert_eq!(log.last_index(), Index(121));
    assert_eq!(read(&log, 119).unwrap().len(), 3);
}
