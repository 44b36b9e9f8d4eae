//! Damage in a repository: named and passed over, never a wrong restore.

use kintsu::testing::SeededRng;
use kintsu::{Index, RestorePoint};

use crate::support::backup::*;
use crate::support::driver::Driver;
use crate::support::store::Machine;
use crate::support::{Context, scale};

/// Three backups, at records 5, 12 and 20, and the archive of everything up to 24 if there is one.
fn history(archive: bool) -> Driver {
    let mut driver = if archive { archiving(30) } else { plain(30) };
    for records in [5, 7, 8] {
        write(&mut driver, records).unwrap();
        driver.db().backup_to(REPOSITORY).unwrap();
    }
    write(&mut driver, 1).unwrap();
    load_one(&mut driver, 0).unwrap();
    write(&mut driver, 2).unwrap();
    if archive {
        driver.db().archive_now().unwrap();
    }
    driver
}

/// Restores the newest state of a damaged repository: it is right or refused, and what is lost is said.
fn restore_damaged(driver: &Driver, path: &str, newest: u64) -> Option<u64> {
    let machine = driver.machine.rebooted(driver.machine.memory.fork());
    match restore(&machine, RESTORED, RestorePoint::Newest) {
        Ok(report) => {
            let index = report.index.0;
            open_at(&machine, &driver.model, RESTORED, index);
            assert!(
                index == newest || !report.reached,
                "{path}: record {index} is said to be the newest: {report:?}"
            );
            assert!(index == newest || !report.skipped.is_empty(), "{report:?}");
            Some(index)
        }
        Err(error) => {
            assert!(is_about_damage(&error), "{path}: {error:?}");
            assert!(!is_there(&machine, RESTORED));
            None
        }
    }
}

/// Whether a verification finds anything wrong.
fn finds(machine: &Machine) -> bool {
    let report = repository(machine).verify(|_| {});
    report.map_or(true, |report| !report.damage.is_empty())
}

/// Changes a file, or two, somehow: what is restored is right, or the error names a file of the repository,
/// and a verification has found what the restore met.
#[test]
fn campaign_files_of_a_repository_are_changed_at_random() {
    let driver = history(true);
    let files = repository_files(&driver.machine);
    let newest = driver.model.last;
    let (mut exact, mut older, mut refused) = (0, 0, 0);
    for round in 0..220 * scale() {
        let mut rng = SeededRng::new(round);
        let machine = driver.machine.rebooted(driver.machine.memory.fork());
        let mut changed = Vec::new();
        for _ in 0..rng.between(1, 2) {
            let path = rng.pick(&files).unwrap();
            let before = machine.memory.read_file(path).unwrap_or_default();
            let mut bytes = before.clone();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
            let at = rng.below(used).min(bytes.len().saturating_sub(1) as u64) as usize;
            let end = bytes
                .len()
                .min(at + [1, 16, 512, 4096][rng.below(4) as usize]);
            match rng.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at..end].fill(0),
                2 => bytes[at..end].fill(rng.next_u64() as u8),
                3 => bytes.truncate(at),
                4 => drop(bytes.drain(at..end)),
                _ => bytes.extend(rng.bytes(40)),
            }
            if bytes != before {
                machine.memory.write_file(path, &bytes);
                changed.push(path.clone());
            }
        }
        let _context = Context("round", (round, changed.clone()));
        let found = finds(&machine);
        match restore(&machine, RESTORED, RestorePoint::Newest) {
            Ok(report) => {
                open_at(&machine, &driver.model, RESTORED, report.index.0);
                let is_newest = report.index.0 == newest;
                // Log and identifiers both gone from the same place on: as if never written.
                let is_torn = changed
                    .iter()
                    .filter(|path| path.contains("/log/0"))
                    .count()
                    > 1;
                assert!(
                    is_newest || is_torn || found && !report.reached,
                    "{report:?}"
                );
                exact += u64::from(is_newest);
                older += u64::from(!is_newest);
            }
            Err(error) => {
                assert!(found && is_about_damage(&error), "{error:?}");
                assert!(error.to_string().contains(REPOSITORY), "{error}");
                assert!(!is_there(&machine, RESTORED));
                refused += 1;
            }
        }
    }
    println!("changed repositories: {exact} restored whole, {older} older, {refused} refused");
    assert!(exact > 0 && refused > 0);
}

#[test]
fn campaign_every_file_of_a_repository_is_damaged() {
    let (mut exact, mut older, mut refused) = (0, 0, 0);
    for archive in [false, true] {
        let driver = history(archive);
        let newest = if archive { 24 } else { 20 };
        for path in repository_files(&driver.machine) {
            let _path = Context("file", path.clone());
            let bytes = driver.machine.memory.file_bytes(&path).unwrap();
            // Of a log file, which is mostly room, the part that is in use.
            let used = bytes.min(if path.ends_with(".log") {
                14_000
            } else {
                u64::MAX
            });
            let whole = driver.machine.memory.read_file(&path).unwrap();
            for place in (0..24).map(|step| step * used.saturating_sub(1) / 23) {
                let _place = Context("byte", place);
                driver
                    .machine
                    .memory
                    .flip_bit(&path, place, (place % 8) as u8);
                let report = repository(&driver.machine).verify(|_| {});
                match restore_damaged(&driver, &path, newest) {
                    Some(index) if index == newest => exact += 1,
                    Some(_) => older += 1,
                    None => refused += 1,
                }
                if !path.contains("/log/0") || !path.ends_with(".log") && !path.ends_with(".ids") {
                    let found = report.map_or(true, |report| !report.damage.is_empty());
                    assert!(found, "verify finds nothing");
                }
                driver.machine.memory.write_file(&path, &whole);
            }
            for cut in [0, used / 2, used.saturating_sub(1)] {
                let _cut = Context("cut at", cut);
                driver.machine.memory.truncate_file(&path, cut);
                restore_damaged(&driver, &path, newest);
                driver.machine.memory.write_file(&path, &whole);
            }
            driver.machine.memory.remove_file(&path);
            let _gone = Context("removed", ());
            let machine = driver.machine.rebooted(driver.machine.memory.fork());
            let found = finds(&machine);
            match restore(&machine, RESTORED, RestorePoint::Newest) {
                Ok(report) => {
                    open_at(&machine, &driver.model, RESTORED, report.index.0);
                    // Nothing tells that there was a backup whose description is gone, or a log file that
                    // was the last of its volume.
                    let is_trackless = path.ends_with(".backup") || path.ends_with(".log");
                    assert!(
                        report.index.0 == newest || is_trackless || found,
                        "{report:?}"
                    );
                }
                Err(error) => assert!(found && is_about_damage(&error), "{error:?}"),
            }
            driver.machine.memory.write_file(&path, &whole);
        }
    }
    println!(
        "damaged repositories: {exact} restored whole, {older} older and said so, {refused} refused"
    );
    assert!(exact > 0 && older > 0 && refused > 0);
}

#[test]
fn a_damaged_newest_backup_is_passed_over_for_an_older_one_and_more_log() {
    for archive in [false, true] {
        let driver = history(archive);
        let segments = repository(&driver.machine).backups().unwrap();
        assert_eq!(segments.len(), 3);
        let names = driver.machine.memory.file_names("repository/backups");
        let last = format!("repository/backups/{}", names.last().unwrap());
        // A segment that only the newest backup has.
        let machine = driver.machine.rebooted(driver.machine.memory.fork());
        let before = machine.memory.file_names("repository/segments");
        machine.memory.remove_file(&last);
        repository(&machine).prune(2).unwrap();
        let after = machine.memory.file_names("repository/segments");
        let only = before.iter().find(|name| !after.contains(name)).unwrap();
        let path = format!("repository/segments/{only}");
        driver.machine.memory.flip_bit(&path, 100, 3);

        let machine = driver.machine.rebooted(driver.machine.memory.fork());
        let report = restore(&machine, RESTORED, RestorePoint::Newest).unwrap();
        let index = if archive { 24 } else { 12 };
        assert_eq!((report.index, report.reached), (Index(index), archive));
        assert_eq!(report.skipped.len(), 1);
        assert!(
            report.skipped[0].why.to_string().contains(only),
            "{report:?}"
        );
        works_at(&machine, &driver.model, RESTORED, index);
        let verified = repository(&machine).verify(|_| {}).unwrap();
        assert_eq!(verified.damage.len(), 1);
        // Once the damaged file has been removed, the next backup brings it back.
        machine.memory.remove_file(&path);
        driver.machine.memory.remove_file(&path);
        let report = driver.db().backup_to(REPOSITORY).unwrap();
        assert!(report.segments_copied >= 1);
        assert!(
            repository(&driver.machine)
                .verify(|_| {})
                .unwrap()
                .damage
                .is_empty()
        );
    }
}

#[test]
fn a_damaged_segment_of_the_store_is_never_backed_up() {
    let mut driver = plain(31);
    write(&mut driver, 9).unwrap();
    driver.flush().unwrap();
    driver.db().backup_to(REPOSITORY).unwrap();
    write(&mut driver, 9).unwrap();
    driver.flush().unwrap();
    let names = driver.machine.memory.file_names("store");
    let newest = names
        .iter()
        .rfind(|name| name.ends_with(".segment"))
        .unwrap();
    driver
        .machine
        .memory
        .flip_bit(format!("store/{newest}"), 70, 1);
    let refused = driver.db().backup_to(REPOSITORY).unwrap_err();
    assert!(refused.to_string().contains(newest), "{refused}");
    check_restore(&driver.machine, &driver.model, RestorePoint::Newest, 9);
}
