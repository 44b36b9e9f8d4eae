//! Hostile bytes for the log: a log with a past, damaged; and logs that somebody forged.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must stop the fuzzer"
)]

mod forged;
mod history;
mod workload;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use self::history::Content;
use self::workload::{Rest, dir, is_damage, run};
use super::{
    DamagePolicy, Durability, Index, Inspected, Log, LogAccess, LogSetup, RecordKind, inspect,
};
use crate::error::{Error, Result};
use crate::testing::{Input, MemoryVfs, edit_file};

/// Opens logs made of these bytes and checks that recovery never panics, never gives out a record that
/// wasn't appended, and never loses one without a word that was durable, identifier and all, unless
/// both the record and its identifier were damaged.
pub fn wal_recovery(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => forged::run(&mut input),
        _ => damaged(&mut input),
    }
}

/// What was done to a log's files.
#[derive(Debug, Default)]
struct Done {
    logs: BTreeSet<String>,
    identifiers: BTreeSet<String>,
}

impl Done {
    /// Whether a record and its identifier may both be gone.
    fn both(&self) -> bool {
        self.logs.intersection(&self.identifiers).next().is_some()
    }
}

/// A log with a past, whose files are then changed.
fn damaged(input: &mut Input<'_>) {
    let mut rest = run(input);
    let covered = match input.u8() {
        0..192 => 0,
        _ => input.below(rest.history.count() as u64 + 2),
    };
    let done = damage(input, &rest);
    look_around(&rest.disk, &rest);

    let before = files(&rest.disk);
    let outcome = open(&rest, rest.disk.clone(), LogAccess::ReadWrite, covered);
    assert_eq!(files(&rest.disk), before, "an open has changed files");
    let read_only = open(&rest, rest.disk.fork(), LogAccess::ReadOnly, covered);
    match (&outcome, &read_only) {
        (Ok((_, one)), Ok((_, other))) => assert_eq!(one, other, "as a reader sees it"),
        (Err(_), Err(_)) => {}
        (one, other) => panic!("a writer gets {one:?}, a reader {other:?}"),
    }
    let (log, content) = match outcome {
        Ok(opened) => opened,
        Err(error) => {
            assert!(is_damage(&error), "{error}");
            // Identifiers are there to prove, and are proved by the records themselves.
            assert!(
                !done.logs.is_empty(),
                "refused, and every record is whole: {error}"
            );
            return;
        }
    };
    let floor = match (done.logs.is_empty(), done.both()) {
        (true, _) => rest.floor,
        (false, false) => rest.history.identified.min(rest.floor),
        (false, true) => 0,
    };
    let Some(at) = rest.history.find(&content, floor, covered) else {
        let states = rest.history.describe(floor);
        panic!("after {done:?} it holds {content:?}, and should one of\n{states}");
    };
    rest.history.reopened(at);
    go_on(rest, log, &content, covered);
}

/// Does what the input says to the log's files.
fn damage(input: &mut Input<'_>, rest: &Rest) -> Done {
    let mut done = Done::default();
    let names = rest.disk.file_names(dir());
    let names: Vec<String> = names.into_iter().filter(|name| name != "LOCK").collect();
    for _ in 0..input.below(5) {
        if names.is_empty() {
            break;
        }
        let name = &names[input.place(names.len())];
        let path = dir().join(name);
        // Alone, a log can't tell every missing file from a purged one.
        let is_needed = name.ends_with("log");
        let remove = input.u8() == 1 && (rest.options.registry.is_some() || !is_needed);
        let changed = match remove {
            true => rest.disk.remove_file(&path),
            false => edit_file(input, &rest.disk, &path),
        };
        let Some((number, kind)) = name.split_once('.').filter(|_| changed) else {
            continue;
        };
        match kind {
            "log" => done.logs.insert(number.to_owned()),
            "ids" => done.identifiers.insert(number.to_owned()),
            _ => false,
        };
    }
    done
}

/// Every file with its bytes, the lock aside.
fn files(disk: &MemoryVfs) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.file_names(dir()).into_iter();
    let names = names.filter(|name| name != "LOCK");
    names
        .map(|name| {
            let bytes = disk.read_file(dir().join(&name));
            (name, bytes)
        })
        .collect()
}

/// Opens a log and reads all of it.
fn open(rest: &Rest, disk: MemoryVfs, access: LogAccess, covered: u64) -> Result<(Log, Content)> {
    let mut setup = rest.options.setup(Arc::new(disk));
    setup.access = access;
    setup.needed_above = Index(covered);
    let (log, report) = Log::open(setup)?;
    assert_eq!(report.needed, [], "needed, and not refused");
    let content = rest.history.read(&log);
    let content = content.unwrap_or_else(|error| panic!("opened, and can't be read: {error}"));
    Ok((log, content))
}

/// Those who look at damage see records that were appended, and come to an end.
fn look_around(disk: &MemoryVfs, rest: &Rest) {
    for access in [LogAccess::ReadWrite, LogAccess::ReadOnly] {
        let mut setup = rest.options.setup(Arc::new(disk.fork()));
        setup.damage = DamagePolicy::Tolerate;
        setup.access = access;
        let (log, _) = Log::open(setup).unwrap_or_else(|error| panic!("tolerantly: {error}"));
        let mut reader = log.read_from(Index(0)).expect("a tolerant reader");
        let mut last = None;
        while let Some(record) = reader.next().expect("a tolerant reader goes on") {
            rest.history.check_record(&record);
            assert!(last < Some(record.lsn), "a record was read twice");
            last = Some(record.lsn);
        }
    }
    show_all(rest.options.setup(Arc::new(disk.clone())), disk).expect("it can be looked at");
}

/// Shows everything; there can't be more parts than bytes.
fn show_all(setup: LogSetup<'_>, disk: &MemoryVfs) -> Result<()> {
    let bytes: u64 = disk
        .file_names(dir())
        .iter()
        .filter_map(|name| disk.file_bytes(dir().join(name)))
        .sum();
    let mut parts = 0;
    inspect(setup, &mut |part| {
        if let Inspected::Record { bytes: length, .. } = part {
            assert!(length <= bytes, "a record longer than its file");
        }
        parts += 1;
        assert!(parts <= bytes + 16, "it finds no end");
    })
}

/// What recovery has decided on holds: the log is appended to, let go, and opened again.
fn go_on(mut rest: Rest, log: Log, before: &Content, covered: u64) {
    let index = log.last_index().0 + 1;
    let tag = rest.history.append(index, 9, RecordKind::Batch, 50);
    let end = log.append(&[rest.history.record(tag)], Durability::Disk);
    let done = end.and_then(|end| log.sync_to(end));
    done.unwrap_or_else(|error| panic!("it can't be appended to: {error}"));
    drop(log);
    let mut expected = before.clone();
    expected.records.push((index, tag));
    for disk in [
        rest.disk.kill(),
        rest.disk.crash(1, crate::testing::TearUnit::Sector),
    ] {
        match open(&rest, disk, LogAccess::ReadWrite, covered) {
            Ok((_, mut content)) => {
                // The append has written identifiers anew for what was whole: where all that was lost is
                // covered, records before it may join those after it again.
                assert!(
                    content.first <= expected.first,
                    "after an append: {content:?}"
                );
                content.records.retain(|one| one.0 >= expected.first);
                assert_eq!(content.records, expected.records, "after an append");
            }
            Err(error) => panic!("it opened, was appended to, and doesn't open again: {error}"),
        }
    }
}

/// Where files of a log are, for those that are made here.
fn path(number: u64, kind: &str) -> PathBuf {
    dir().join(format!("{number:08}.{kind}"))
}

/// What may come of opening a log that nobody has vouched for.
fn is_refusal(error: &Error) -> bool {
    is_damage(error)
        || matches!(
            error,
            Error::ForeignFile { .. } | Error::NewerFormat { .. } | Error::LogOrder { .. }
        )
}
