//! A store with a small history that has everything in it, a repository beside it, and checks of what is
//! restored from that.

use std::time::Duration;

use kintsu::environment::Clock;
use kintsu::{Durability, Error, Index, Options, Repository, RestorePoint, RestoreReport, Result};

use super::check::Survived;
use super::driver::Driver;
use super::model::{Change, Effect, Model};
use super::store::Machine;
use super::workload::value;

pub const REPOSITORY: &str = "repository";
pub const RESTORED: &str = "restored";
pub const SNAPSHOT: &str = "snapshot";

/// A store that archives its log, open.
pub fn archiving(seed: u64) -> Driver {
    let mut driver = Driver::new(Machine::new(seed));
    let retained_max = 1 << 20;
    driver = driver.tuned(move |options| {
        let options = options.archive_to(REPOSITORY);
        options.log_retained_bytes_max(retained_max)
    });
    driver.open(Survived::ProcessDeath).unwrap();
    driver
}

/// A store that doesn't, open.
pub fn plain(seed: u64) -> Driver {
    let mut driver = Driver::new(Machine::new(seed));
    driver.open(Survived::ProcessDeath).unwrap();
    driver
}

fn change(keyspace: usize, key: &str, effect: Effect) -> Change {
    let key = key.as_bytes().to_vec();
    Change {
        keyspace,
        key,
        effect,
    }
}

/// One record, of a kind that its number decides; a millisecond passes before it.
pub fn write_one(driver: &mut Driver) -> Result<()> {
    driver.machine.clock.advance(Duration::from_millis(1));
    let number = driver.model.last + 1;
    let live = driver.model.live(driver.model.last);
    let other = live.last().copied().unwrap_or(0);
    let key = format!("key {}", number % 7);
    let effect = |number: u64| match number % 5 {
        0 => Effect::Delete,
        1 => Effect::Merge(value(number, 5)),
        2 => Effect::PutExpiring(4_000, value(number, 9)),
        3 => Effect::DeleteTo(Some(b"key 3".to_vec())),
        _ => Effect::Put(value(number, 300)),
    };
    match number {
        4 => driver.create_keyspace("users"),
        19 => driver.drop_keyspace("users"),
        21 => driver.create_keyspace("users"),
        _ => {
            let changes = vec![
                change(0, &format!("own {number}"), Effect::Put(value(number, 40))),
                change(other, &key, effect(number)),
                change(0, &key, effect(number / 2)),
            ];
            let durability = [Durability::Disk, Durability::Buffered][number as usize % 2];
            driver.write(changes, durability)
        }
    }
}

/// Keys in one load.
pub const LOADED: u64 = 60;

/// One record that loads several segments into a keyspace, on top of keys that others write; a millisecond
/// passes before it.
pub fn load_one(driver: &mut Driver, keyspace: usize) -> Result<()> {
    driver.machine.clock.advance(Duration::from_millis(1));
    let number = driver.model.last + 1;
    let put = |n: u64| {
        let value = Effect::Put(value(number * 1000 + n, 150));
        change(keyspace, &format!("key {n:03}"), value)
    };
    driver.load((0..LOADED).map(put).collect())
}

/// One record that deletes all that the default keyspace has; a millisecond passes before it.
pub fn wipe(driver: &mut Driver) {
    driver.machine.clock.advance(Duration::from_millis(1));
    let all = vec![change(0, "", Effect::DeleteTo(None))];
    driver.write(all, Durability::Disk).unwrap();
}

/// So many records.
pub fn write(driver: &mut Driver, records: u64) -> Result<()> {
    (0..records).try_for_each(|_| write_one(driver))
}

/// The repository on a machine's disk.
pub fn repository(machine: &Machine) -> Repository {
    Repository::new(REPOSITORY).on_disk_of(&machine.options())
}

pub fn restore(machine: &Machine, to: &str, point: RestorePoint) -> Result<RestoreReport> {
    repository(machine).restore(machine.options_at(to), point)
}

/// The store in a folder, open, checked key by key: it must hold the records through `index`.
pub fn open_at(machine: &Machine, model: &Model, folder: &'static str, index: u64) -> Driver {
    let mut model = model.clone();
    (model.process, model.disk) = (0, 0);
    let there = machine.clone();
    let mut driver = Driver::resume(machine.clone(), model);
    driver = driver.tuned(move |_: Options| there.options_at(folder));
    driver.open(Survived::ProcessDeath).unwrap();
    assert_eq!(driver.model.last, index, "the last record in {folder}");
    driver
}

/// The same, and then writes to it, loses power, and checks again.
pub fn works_at(machine: &Machine, model: &Model, folder: &'static str, index: u64) {
    let machine = machine.rebooted(machine.memory.fork());
    let mut driver = open_at(&machine, model, folder, index);
    write(&mut driver, 3).unwrap();
    driver.flush().unwrap();
    write(&mut driver, 2).unwrap();
    driver.sync().unwrap();
    let disk = driver
        .machine
        .memory
        .crash(index, kintsu::testing::TearUnit::Page);
    let model = driver.model.clone();
    let after = machine.rebooted(disk);
    drop(driver);
    open_at(&after, &model, folder, index + 5);
}

/// Restores to a point on a copy of the disk, and checks all of it.
pub fn check_restore(machine: &Machine, model: &Model, point: RestorePoint, index: u64) {
    let machine = machine.rebooted(machine.memory.fork());
    let report = restore(&machine, "checked", point).unwrap();
    assert_eq!(report.index, Index(index), "{point:?}: {report:?}");
    assert!(report.reached, "{point:?}: {report:?}");
    open_at(&machine, model, "checked", index);
}

/// Whether a folder of a disk holds anything but what is never taken for a store.
pub fn is_there(machine: &Machine, folder: &str) -> bool {
    let names = machine.memory.file_names(folder);
    names.iter().any(|name| name != "LOCK")
}

/// The wall clock.
pub fn now_us(machine: &Machine) -> u64 {
    machine.clock.wall_us()
}

/// Every file below a folder of the repository, with its path.
pub fn repository_files(machine: &Machine) -> Vec<String> {
    let volumes = (0..40).map(|number| format!("{REPOSITORY}/log/{number:08}"));
    let folders = ["", "/segments", "/backups", "/log"].map(|f| format!("{REPOSITORY}{f}"));
    let folders = folders.into_iter().chain(volumes);
    let files = folders.flat_map(|folder| {
        let names = machine.memory.file_names(&folder).into_iter();
        names.map(move |name| format!("{folder}/{name}"))
    });
    files.filter(|path| !path.ends_with("LOCK")).collect()
}

/// Whether an error is one that damage in a repository may lead to.
pub fn is_about_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Damaged(_)
            | Error::Repository { .. }
            | Error::NewerFormat { .. }
            | Error::ForeignFile { .. }
            | Error::ArchiveGap { .. }
    )
}
