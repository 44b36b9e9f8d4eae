//! What a second review found in the archive: each test fails without its mend.

use kintsu::testing::{Fault, FaultKind, OperationKind};
use kintsu::{Durability, Error, Index, RestorePoint};

use crate::support::backup::*;
use crate::support::check::Survived;
use crate::support::store::Machine;

fn put(db: &kintsu::Db, key: &str) {
    let mut batch = kintsu::WriteBatch::new();
    batch.put(key, vec![5; 100]);
    db.write_with(batch, Durability::Disk).unwrap();
}

/// The volume's lock was held by whoever still had a subscription.
#[test]
fn a_store_that_was_dropped_lets_its_archive_go() {
    let machine = Machine::new(61);
    let open = || machine.options().archive_to(REPOSITORY).open().unwrap();
    let db = open();
    put(&db, "first");
    db.archive_now().unwrap();
    let feed = db.subscribe(Index(1)).unwrap();
    drop(db);
    let db = open();
    put(&db, "second");
    assert_eq!(db.archive_now().unwrap(), Index(2));
    drop(feed);
}

/// Two stores that archived side by side took the repository from each other at each record.
#[test]
fn two_stores_do_not_take_one_repository_from_each_other_for_ever() {
    let mut driver = archiving(62);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    driver.db().archive_now().unwrap();
    let machine = driver.machine.clone();
    restore(&machine, "a test", RestorePoint::Newest).unwrap();
    let options = machine.options_at("a test");
    let test = options.archive_to(REPOSITORY).open().unwrap();
    let mut refused = 0;
    for _ in 0..30 {
        for db in [driver.db(), &test] {
            put(db, "side by side");
            match db.archive_now() {
                Ok(_) => {}
                Err(Error::Repository { why, .. }) => {
                    assert!(why.contains("its own repository"), "{why}");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused >= 25, "{refused}");
    let names = machine.memory.file_names("repository/log");
    let volumes = names.iter().filter(|name| name.ends_with(".volume"));
    assert!(volumes.count() <= 5, "{names:?}");
}

/// A volume that was begun after damage, and has nothing yet, was taken for one that goes on where the damaged
/// one ended.
#[test]
fn an_empty_volume_does_not_stand_for_what_a_damaged_one_has() {
    let mut driver = archiving(63);
    write(&mut driver, 3).unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 9).unwrap();
    driver.db().archive_now().unwrap();
    driver.close().unwrap();
    let machine = driver.machine.clone();
    let logs = repository_files(&machine).into_iter();
    let logs: Vec<_> = logs.filter(|path| path.ends_with(".log")).collect();
    let bytes = machine.memory.read_file(&logs[0]).unwrap();
    // The last record, before the page of the end marker.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 4096 * 4096;
    let used = bytes[..end].iter().rposition(|byte| *byte != 0).unwrap();
    machine.memory.flip_bit(&logs[0], used as u64 - 2, 1);
    let whole = restore(&machine, "without it", RestorePoint::Newest).map(|r| (r.index, r.reached));
    // As a crash leaves it between the volume's description and its first record.
    driver.open(Survived::ProcessDeath).unwrap();
    machine.faults.inject(
        Fault::once(1, FaultKind::Io)
            .only(&[OperationKind::Write])
            .on("00000001.log"),
    );
    assert!(driver.db().archive_now().is_err());
    driver.let_go();
    let volumes = repository_files(&machine).into_iter();
    let volumes = volumes.filter(|path| path.ends_with(".volume"));
    assert_eq!(volumes.count(), 2);
    let after = restore(&machine, "with it", RestorePoint::Newest);
    let after = after.map(|r| (r.index, r.reached));
    assert_eq!(format!("{whole:?}"), format!("{after:?}"));
    assert_eq!(whole.unwrap(), (Index(11), false));
}
