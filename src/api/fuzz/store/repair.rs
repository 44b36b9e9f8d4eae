//! A damaged store is repaired, and what can be read of it is copied.

use std::path::PathBuf;

use super::{Damaged, FOLDER, in_store, quarantine};
use crate::api::fuzz::{OTHER, check};
use crate::api::{Db, salvage, salvage_list};
use crate::engine::{Lost, RepairMode, RepairReport, Severity, repair};
use crate::error::Error;
use crate::testing::{Input, MemoryVfs};

/// Where a salvage copies to.
const SAVED: &str = "saved";

/// A file with its bytes.
type File = (PathBuf, Option<Vec<u8>>);

/// Damages files of a store as these bytes say; then asks what a repair would do, copies what can be read, and
/// repairs it, first without a loss and then with what losses it takes. What only looks changes no byte; what a
/// repaired store holds is right, or among what was given up by name; and evidence is kept.
pub fn store_repair(data: &[u8]) {
    let mut input = Input::new(data);
    let mut damaged = Damaged::of(&mut input);
    let before = damaged.files();
    let listed = repair(damaged.options(), RepairMode::List);
    assert!(before == damaged.files(), "a dry run has written");
    if let Err(error) = &listed {
        damaged.excuse(error, "the dry run");
    }
    copy(&damaged);
    assert!(before == damaged.files(), "a salvage has written");
    let what = input.u8();
    if what & 3 != 0 {
        mend(&mut damaged, listed.as_ref().ok());
    }
    if what & 3 != 1 {
        accept(&mut damaged);
    }
}

/// What can be read of it, in a store of its own.
fn copy(damaged: &Damaged) {
    let listed = salvage_list(damaged.options());
    let other = MemoryVfs::new();
    let to = damaged.options_on(&other).rebased(SAVED.as_ref());
    let to = to.create_if_missing(true);
    let report = match salvage(damaged.options(), to.clone()) {
        Ok(report) => report,
        Err(error) => return no_copy(damaged, &error),
    };
    let listed = listed.expect("it can be copied");
    assert_eq!(listed.is_complete(), report.is_complete(), "the list");
    let db = to.open().expect("the copy opens");
    let found = damaged.nothing_invented(&db);
    found.expect("the copy can be read");
    if !report.is_complete() {
        assert!(!damaged.changed().is_empty(), "{report:?}");
        return;
    }
    if !damaged.may_lose_end() {
        let state = damaged.model.now();
        let found = check::whole(&db, &state);
        found.expect("the copy can be read");
    }
}

fn no_copy(damaged: &Damaged, error: &Error) {
    match error {
        // Nothing is left that says which store it was.
        Error::NotAStore { .. } if !damaged.changed().is_empty() => {}
        error => damaged.excuse(error, "the salvage"),
    }
}

/// A repair that gives up nothing.
fn mend(damaged: &mut Damaged, listed: Option<&RepairReport>) {
    let before = damaged.files();
    let report = match repair(damaged.options(), RepairMode::Mend) {
        Ok(report) => report,
        Err(error) => return damaged.excuse(&error, "the repair"),
    };
    let said = listed.map(|listed| (listed.severity, listed.lost.len()));
    let found = (report.severity_before, report.lost.len());
    assert!(said.is_none_or(|said| said == found), "{said:?}, {found:?}");
    if report.severity_before == Severity::Unopenable {
        assert!(before == damaged.files(), "it gave up, and has written");
        return;
    }
    check_evidence(damaged, &before, &report);
    let db = damaged.options().open();
    let db = db.expect("it opened for the repair");
    // A log that was renewed ends with a record of the repair's own.
    let last = db.last_index().0;
    assert!(
        damaged.floor() <= last,
        "{last} is left of {:?}",
        damaged.floor()
    );
    if damaged.may_lose_end() {
        if let Err(error) = damaged.nothing_invented(&db) {
            damaged.excuse(&error, "a walk");
        }
        return close(damaged, db);
    }
    let refused = damaged.read(&db, &damaged.model.now());
    if report.severity_before <= Severity::Mendable {
        assert_eq!(report.severity, Severity::Whole, "{report:?}");
        assert!(refused.count == 0, "{:?}", refused.first);
    }
    close(damaged, db);
}

fn close(damaged: &mut Damaged, db: Db) {
    if let Err(error) = db.close() {
        damaged.excuse(&error, "the close");
    }
    damaged.disk = damaged.disk.kill();
}

/// A repair that gives up what is lost.
fn accept(damaged: &mut Damaged) {
    let before = damaged.files();
    let report = match repair(damaged.options(), RepairMode::AcceptLoss) {
        Ok(report) => report,
        Err(error) => return damaged.excuse(&error, "the repair"),
    };
    // Nothing writes a lineage anew of which both copies are lost: the store opens, and is said to be damaged.
    let is_lineage = |lost: &Lost| lost.damage.path == in_store("lineage");
    let keeps_loss = report.lost.iter().any(is_lineage);
    assert!(
        report.severity < Severity::Damaged || keeps_loss,
        "{:?} damaged: {report:?}",
        damaged.changed()
    );
    check_evidence(damaged, &before, &report);
    let options = damaged.options();
    let db = options.open().expect("it was repaired");
    let found = damaged.nothing_invented(&db);
    found.unwrap_or_else(|error| panic!("repaired, and refused: {error:?}"));
    compare(damaged, &db, &report);
    db.close().expect("it was repaired");
}

/// What is there is what was written last, but where something newer was given up.
fn compare(damaged: &Damaged, db: &Db, report: &RepairReport) {
    if damaged.may_lose_end() {
        return;
    }
    let state = damaged.model.now();
    for in_other in [false, true] {
        let name = if in_other { OTHER } else { "default" };
        let given_up = |key: &[u8]| report.lost.iter().any(|lost| covers(lost, name, key));
        let Some(pairs) = state.pairs(in_other) else {
            continue;
        };
        let Ok(keyspace) = db.keyspace(name) else {
            assert!(!report.lost.is_empty(), "a keyspace is gone: {report:?}");
            continue;
        };
        for (key, value) in pairs.iter().filter(|(key, _)| !given_up(key)) {
            let found = keyspace.get(key).expect("it was repaired");
            assert!(
                found.as_deref() == Some(value),
                "{:?} damaged: {} isn't what it was, and isn't named: {:?}",
                damaged.changed(),
                key[..key.len().min(20)].escape_ascii(),
                report.lost
            );
        }
        for pair in keyspace.range(..).expect("it was repaired") {
            let (key, _) = pair.expect("it was repaired");
            let is_due = pairs.contains_key(&key[..]) || given_up(&key);
            assert!(is_due, "{key:?} came back: {report:?}");
        }
    }
}

fn covers(lost: &Lost, name: &str, key: &[u8]) -> bool {
    lost.keyspace
        .as_deref()
        .is_none_or(|keyspace| keyspace == name)
        && lost.from.as_deref().is_none_or(|from| from <= key)
        && lost.to.as_deref().is_none_or(|to| key <= to)
}

/// What was replaced, or given up, is in quarantine as it was.
fn check_evidence(damaged: &Damaged, before: &[File], report: &RepairReport) {
    let folder = quarantine();
    let kept: Vec<File> = damaged
        .disk
        .file_names(&folder)
        .into_iter()
        .map(|name| {
            let path = folder.join(name);
            let bytes = damaged.disk.read_file(&path);
            (path, bytes)
        })
        .collect();
    for (path, bytes) in before {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_in_store = path
            .parent()
            .is_some_and(|parent| parent == std::path::Path::new(FOLDER));
        let is_damaged = damaged.changed().contains(&*name) && is_in_store;
        let is_replaced =
            name.ends_with(".segment") && damaged.disk.read_file(in_store(&name)) != *bytes;
        let is_due = report.quarantined.iter().any(|kept| **kept == *name) || is_replaced;
        if !is_damaged || !is_due {
            continue;
        }
        let is_it = |(_, kept): &File| kept == bytes;
        assert!(
            kept.iter().any(is_it),
            "{name} was replaced, and isn't kept: {report:?}"
        );
    }
    for name in &report.quarantined {
        let begins = |(path, _): &File| {
            path.file_name()
                .is_some_and(|kept| kept.to_string_lossy().starts_with(name))
        };
        assert!(kept.iter().any(begins), "{name} isn't in quarantine");
    }
}
