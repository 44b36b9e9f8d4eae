//! Damaged files: never a wrong record, never a panic, never a durable record gone without a word.

use super::*;
use crate::vfs::TearUnit;

/// Without parity, which would heal most of what is done here (see `parity.rs`): what is judged is what the rest of
/// the format says.
fn setup(vfs: &MemoryVfs) -> LogSetup<'static> {
    let mut setup = super::setup(vfs);
    setup.options.parity = Parity::Off;
    setup
}

fn open(vfs: &MemoryVfs) -> (Log, LogReport) {
    Log::open(setup(vfs)).unwrap()
}

/// How a log came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Closed.
    Closed,
    /// Open, all identifiers synced.
    Identified,
    /// Open, the last few records without identifiers.
    Bare,
    /// Reopened after a torn write, and appended to.
    Reopened,
}

const ENDS: [End; 4] = [End::Closed, End::Identified, End::Bare, End::Reopened];

/// A small log of a few files; its last index.
fn small_log(end: End) -> (MemoryVfs, u64) {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=4 {
        append_synced(&log, index, 60).unwrap();
    }
    append_synced(&log, 5, 4_000).unwrap();
    log.step_prepare().unwrap();
    for index in 6..=9 {
        append(&log, index, 40, Durability::Process).unwrap();
    }
    log.sync().unwrap();
    log.step_identifiers().unwrap();
    // The second file.
    for index in 10..=11 {
        append_synced(&log, index, 50).unwrap();
    }
    match end {
        End::Closed => log.close().unwrap(),
        End::Identified => drop(log.step_identifiers().unwrap()),
        End::Bare => {}
        End::Reopened => {
            append(&log, 12, 3_000, Durability::Disk).unwrap();
            append(&log, 13, 3_000, Durability::Disk).unwrap();
            drop(log);
            // The torn tail: the first of the two is gone, the second there.
            let disk = (0..).map(|seed| disk.crash(seed, TearUnit::Page));
            let torn = |disk: &MemoryVfs| {
                let (log, report) = open(&disk.fork());
                report.torn_bytes > 0 && log.last_index() == Index(11)
            };
            let disk = disk.take(50).find(torn).unwrap();
            let (log, _) = open(&disk);
            assert_eq!(log.last_index(), Index(11));
            for index in 12..=14 {
                append_synced(&log, index, 70).unwrap();
            }
            log.step_identifiers().unwrap();
            drop(log);
            return (disk.kill(), 14);
        }
    }
    drop(log);
    (disk.kill(), 11)
}

/// Where a position is: the file, and the offset in it.
fn locate(disk: &MemoryVfs, lsn: Lsn) -> (PathBuf, u64) {
    let mut found = None;
    let show = &mut |one| {
        if let Inspected::File {
            path,
            meta: Some(meta),
            ..
        } = one
            && let Some(offset) = lsn.0.checked_sub(meta.first_lsn.0)
            && offset < meta.capacity
        {
            found = Some((path, offset));
        }
    };
    inspect(setup(disk), show).unwrap();
    found.unwrap()
}

/// Damages the byte that many bytes after a position.
fn flip(disk: &MemoryVfs, lsn: Lsn, after: u64) {
    let (path, offset) = locate(disk, lsn);
    assert!(disk.flip_bit(path, offset + after, 2));
}

/// Where a file has anything but zeros, and a few places more.
fn places(disk: &MemoryVfs, name: &str) -> Vec<u64> {
    let bytes = disk.read_file(dir().join(name)).unwrap();
    let is_used = |at: usize| {
        let from = at.saturating_sub(12);
        bytes[from..bytes.len().min(at + 12)]
            .iter()
            .any(|&byte| byte != 0)
    };
    let filler = |at: usize| (20_600..24_400).contains(&at) && bytes.len() == FILE_BYTES as usize;
    (0..bytes.len())
        .filter(|&at| match is_used(at) {
            // The long payload is all alike.
            true => !filler(at) || at % 61 == 0,
            false => at % 499 == 0,
        })
        .map(|at| at as u64)
        .collect()
}

/// What opening a damaged disk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Refused,
    /// Fewer records, all of them right.
    Shorter,
}

fn outcome(disk: &MemoryVfs, last: u64, what: &str) -> Outcome {
    let opened = Log::open(setup(disk));
    let (log, report) = match opened {
        Ok(opened) => opened,
        Err(Error::Damaged(all)) => {
            assert!(!all.is_empty(), "{what}");
            for damage in &all {
                assert!(damage.path.starts_with(dir()), "{what}: {damage}");
            }
            check_salvage(disk, last, what);
            return Outcome::Refused;
        }
        Err(other) => panic!("{what}: {other}"),
    };
    assert_eq!(report.needed, [], "{what}");
    let found = read(&log, log.first_index().0).unwrap_or_else(|error| panic!("{what}: {error}"));
    check_records(&found, what);
    let indexes: Vec<u64> = found.iter().map(|record| record.index.0).collect();
    assert_eq!(
        indexes,
        (1..=indexes.len() as u64).collect::<Vec<_>>(),
        "{what}"
    );
    match indexes.len() as u64 == last {
        true => Outcome::Whole,
        false => Outcome::Shorter,
    }
}

fn check_records(found: &[Record], what: &str) {
    for record in found {
        let index = record.index.0;
        assert_eq!(
            record.payload,
            payload(index, record.payload.len()),
            "{what}"
        );
        assert_eq!(record.time_us, 1_000 + index, "{what}");
        assert_eq!(record.term, Term(1 + index / 10), "{what}");
    }
}

/// A tolerant reader gets what is readable, and nothing else.
fn check_salvage(disk: &MemoryVfs, last: u64, what: &str) {
    let mut setup = setup(&disk.fork());
    setup.damage = DamagePolicy::Tolerate;
    setup.access = LogAccess::ReadOnly;
    let (log, report) = Log::open(setup).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(!report.needed.is_empty(), "{what}");
    let found = read(&log, 0).unwrap_or_else(|error| panic!("{what}: {error}"));
    check_records(&found, what);
    // (A damaged `End` record can't be told from a lost group, if its identifier is lost too.)
    assert!(found.len() as u64 <= last, "{what}");
    assert!(found.is_sorted_by_key(|record| record.index), "{what}");
}

#[test]
fn every_byte_of_a_small_log_is_flipped() {
    let mut flips = 0;
    for end in ENDS {
        let (disk, last) = small_log(end);
        for name in disk.file_names(dir()) {
            if name == "LOCK" {
                continue;
            }
            let mut refused = 0;
            for at in places(&disk, &name) {
                let damaged = disk.fork();
                assert!(damaged.flip_bit(dir().join(&name), at, (at % 8) as u8));
                let what = format!("{end:?} {name} {at}");
                let outcome = outcome(&damaged, last, &what);
                flips += 1;
                refused += u64::from(outcome == Outcome::Refused);
                match outcome {
                    // Promise 1: rot within the identifiers' delay can pass for a torn tail.
                    Outcome::Shorter => assert_eq!(end, End::Bare, "{what}"),
                    // Identifiers and headers are there twice, or not needed.
                    Outcome::Refused => assert!(name.ends_with("log") && at >= 4096, "{what}"),
                    Outcome::Whole => {}
                }
                let is_record = name == "00000001.log" && (4096..4096 + 100).contains(&at);
                assert!(!is_record || outcome == Outcome::Refused, "{what}");
            }
            if name.ends_with(".log") && name != "00000003.log" {
                assert!(refused > 50, "{end:?} {name}: {refused}");
            }
        }
    }
    println!("{flips} flips");
    assert!(flips > 10_000, "{flips}");
}

#[test]
fn every_file_is_cut_at_every_byte() {
    for end in ENDS {
        let (disk, last) = small_log(end);
        for name in disk.file_names(dir()) {
            if name == "LOCK" {
                continue;
            }
            for at in places(&disk, &name) {
                let damaged = disk.fork();
                assert!(damaged.truncate_file(dir().join(&name), at));
                let what = format!("{end:?} {name} cut at {at}");
                let outcome = outcome(&damaged, last, &what);
                if outcome == Outcome::Shorter {
                    assert_eq!(end, End::Bare, "{what}");
                }
                if name.ends_with(".ids") {
                    assert_eq!(outcome, Outcome::Whole, "{what}");
                }
            }
        }
    }
}

#[test]
fn every_block_is_zeroed() {
    for end in ENDS {
        let (disk, last) = small_log(end);
        for name in disk.file_names(dir()) {
            if name == "LOCK" {
                continue;
            }
            for block_bytes in [512, 4096] {
                let bytes = disk.file_bytes(dir().join(&name)).unwrap();
                for at in (0..bytes).step_by(block_bytes) {
                    let damaged = disk.fork();
                    let zeros = vec![0; block_bytes];
                    assert!(damaged.overwrite(dir().join(&name), at, &zeros));
                    let what = format!("{end:?} {name} zeroed at {at}, {block_bytes}");
                    if outcome(&damaged, last, &what) == Outcome::Shorter {
                        assert_eq!(end, End::Bare, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_file_is_missing_or_empty_or_anothers() {
    for end in ENDS {
        let (disk, last) = small_log(end);
        let names: Vec<String> = disk.file_names(dir());
        for name in names.iter().filter(|name| *name != "LOCK") {
            let path = dir().join(name);
            let what = format!("{end:?} {name}");
            let expect = |damaged: &MemoryVfs, how: &str| {
                let found = outcome(damaged, last, &format!("{what} {how}"));
                let harmless = name.ends_with(".ids");
                assert!(
                    !harmless || found == Outcome::Whole,
                    "{what} {how}: {found:?}"
                );
                assert!(
                    found != Outcome::Shorter || end == End::Bare,
                    "{what} {how}"
                );
            };
            let empty = disk.fork();
            assert!(empty.truncate_file(&path, 0));
            expect(&empty, "empty");
            for other in names
                .iter()
                .filter(|other| *other != name && *other != "LOCK")
            {
                let swapped = disk.fork();
                let bytes = disk.read_file(dir().join(other)).unwrap();
                assert!(swapped.write_file(&path, bytes));
                expect(&swapped, &format!("replaced by {other}"));
            }
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    for end in ENDS {
        let (disk, _) = small_log(end);
        let registered = [1, 2, 3].map(|number| {
            let path = dir().join(format!("{number:08}.log"));
            let unit = disk.read_file(path)?;
            let header = super::super::format::FileHeader::decode(
                super::super::format::HeaderKind::Log,
                &unit[..4096],
            );
            header.ok().map(|header| header.meta)
        });
        let known: Vec<LogFileMeta> = registered.into_iter().flatten().collect();
        assert_eq!(known.len(), 2 + usize::from(end == End::Reopened));
        for gone in known.iter().map(|meta| meta.number) {
            let damaged = disk.fork();
            assert!(damaged.remove_file(dir().join(format!("{:08}.log", gone.0))));
            let mut with_registry = setup(&damaged);
            with_registry.known = known.clone();
            let Err(Error::Damaged(all)) = Log::open(with_registry).map(|_| ()) else {
                panic!("{end:?}: {gone} is missing, and nobody says so");
            };
            let text = all[0].to_string();
            assert!(text.contains(&format!("{:08}.log", gone.0)), "{text}");
            assert!(text.contains("missing"), "{text}");
            // Alone it can tell all but the oldest (as if purged).
            let alone = Log::open(setup(&damaged));
            let is_oldest = gone == LogNumber(1);
            let is_last_and_reopened = end == End::Reopened && gone == LogNumber(3);
            assert_eq!(
                alone.is_ok(),
                is_oldest || is_last_and_reopened,
                "{end:?} {gone}"
            );
        }
    }
}

#[test]
fn both_headers_bad_is_read_with_the_registry_and_refused_without() {
    let (disk, last) = small_log(End::Identified);
    let unit = disk.read_file(dir().join("00000001.log")).unwrap();
    let header = super::super::format::FileHeader::decode(
        super::super::format::HeaderKind::Log,
        &unit[..4096],
    );
    let known = header.unwrap().meta;
    for name in ["00000001.log", "00000001.ids"] {
        assert!(disk.flip_bit(dir().join(name), 20, 3));
    }
    assert!(matches!(Log::open(setup(&disk)), Err(Error::Damaged(_))));
    let mut setup = setup(&disk);
    setup.known = vec![known];
    let (log, report) = Log::open(setup).unwrap();
    assert_eq!(indexes(&log), (1..=last).collect::<Vec<_>>());
    assert_eq!(report.damage.len(), 2);
}

#[test]
fn damage_is_named_exactly() {
    let (disk, _) = small_log(End::Identified);
    let (log, _) = open(&disk);
    let third = read(&log, 3).unwrap().remove(0);
    drop(log);
    let (path, offset) = locate(&disk, third.lsn);
    flip(&disk, third.lsn, 40);
    let Err(Error::Damaged(all)) = Log::open(setup(&disk)).map(|_| ()) else {
        panic!("opened");
    };
    assert_eq!(all.len(), 1, "{all:?}");
    let damage = &all[0];
    assert_eq!(damage.path, path);
    assert_eq!(damage.offset, offset);
    assert!(damage.bytes >= 60 && damage.bytes < 200, "{damage}");
    assert_eq!(
        damage.lsns,
        Some((third.lsn, Lsn(third.lsn.0 + damage.bytes)))
    );
    assert_eq!(damage.indexes, Some((Index(3), Index(3))));

    // The log above it is enough: reported, not refused.
    let mut enough = setup(&disk);
    enough.needed_above = Index(3);
    let (log, report) = Log::open(enough).unwrap();
    assert_eq!(report.damage, all);
    assert_eq!(report.needed, []);
    assert_eq!(log.first_index(), Index(4));
    assert_eq!(indexes(&log)[0], 4);
    assert!(matches!(log.read_from(Index(2)), Err(Error::Purged { .. })));
    append_synced(&log, 12, 10).unwrap();
    drop(log);
    let mut enough = setup(&disk);
    enough.needed_above = Index(2);
    assert!(matches!(Log::open(enough), Err(Error::Damaged(_))));

    // A tolerant one reads around it.
    let mut tolerant = setup(&disk);
    tolerant.damage = DamagePolicy::Tolerate;
    let (log, _) = Log::open(tolerant).unwrap();
    let found: Vec<u64> = read(&log, 0)
        .unwrap()
        .iter()
        .map(|one| one.index.0)
        .collect();
    assert_eq!(found, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

/// All that is damaged is named, in one go.
#[test]
fn all_damage_is_named() {
    let (disk, _) = small_log(End::Identified);
    let (log, _) = open(&disk);
    let records = read(&log, 1).unwrap();
    drop(log);
    for index in [2, 4, 5] {
        flip(&disk, records[index - 1].lsn, 2);
    }
    let Err(Error::Damaged(all)) = Log::open(setup(&disk)).map(|_| ()) else {
        panic!("opened");
    };
    let named: Vec<_> = all
        .iter()
        .map(|damage| damage.indexes.unwrap().0.0)
        .collect();
    assert_eq!(named, [2, 4, 5]);
}

#[test]
fn a_damaged_record_that_was_superseded_harms_nobody() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=6 {
        append_synced(&log, index, 60).unwrap();
    }
    let old: Vec<Record> = read(&log, 1).unwrap();
    append_synced(&log, 4, 70).unwrap();
    log.truncate_after(Index(3)).unwrap();
    for index in 4..=5 {
        append_synced(&log, index, 80).unwrap();
    }
    log.step_identifiers().unwrap();
    drop(log);
    for index in [4, 5, 6] {
        let damaged = disk.fork();
        flip(&damaged, old[index - 1].lsn, 30);
        let (log, report) = open(&damaged);
        assert_eq!(report.damage.len(), 1);
        assert!(
            report.damage[0].what.contains("superseded"),
            "{}",
            report.damage[0]
        );
        assert_eq!(indexes(&log), [1, 2, 3, 4, 5]);
        // The one that superseded it is needed.
        flip(&damaged, read(&log, 5).unwrap()[0].lsn, 30);
        drop(log);
        assert!(matches!(
            Log::open(setup(&damaged.kill())),
            Err(Error::Damaged(_))
        ));
    }
    // A lost truncation would bring back what it took away.
    let mut found = Vec::new();
    inspect(setup(&disk), &mut |one| {
        if let Inspected::Record { lsn, kind, .. } = one
            && kind == RecordKind::Truncate
        {
            found.push(lsn);
        }
    })
    .unwrap();
    assert_eq!(found.len(), 1);
    let damaged = disk.fork();
    flip(&damaged, found[0], 5);
    // It was itself superseded by what was appended at the same index.
    assert_eq!(indexes(&open(&damaged).0), [1, 2, 3, 4, 5]);
}

#[test]
fn a_damaged_truncation_at_the_end_is_refused() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=6 {
        append_synced(&log, index, 60).unwrap();
    }
    log.truncate_after(Index(3)).unwrap();
    log.step_identifiers().unwrap();
    let end = log.end_lsn();
    drop(log);
    flip(&disk, Lsn(end.0 - 1), 0);
    assert!(matches!(Log::open(setup(&disk)), Err(Error::Damaged(_))));
    let mut below = setup(&disk);
    below.needed_above = Index(100);
    assert!(matches!(Log::open(below), Err(Error::Damaged(_))));
}

/// What another file, or another life of this one, left on the disk never passes.
#[test]
fn stale_records_under_another_salt_are_none() {
    let (disk, last) = small_log(End::Identified);
    // The same log, made with other randomness: the same positions, other salts.
    let other = MemoryVfs::new();
    let (log, _) = Log::open(setup_on(Arc::new(other.clone()), 4_711)).unwrap();
    for index in 1..=4 {
        append_synced(&log, index, 60).unwrap();
    }
    append_synced(&log, 5, 4_000).unwrap();
    drop(log);
    let stale = other.read_file(dir().join("00000001.log")).unwrap();
    let swapped = disk.fork();
    assert!(swapped.overwrite(dir().join("00000001.log"), 4096, &stale[4096..]));
    assert_eq!(outcome(&swapped, last, "stale records"), Outcome::Refused);
}

#[test]
fn foreign_and_newer_files_are_refused_by_name() {
    let (disk, _) = small_log(End::Closed);
    let mut other = setup(&disk);
    other.store_id = StoreId(99);
    assert!(matches!(Log::open(other), Err(Error::ForeignFile { .. })));
    let path = dir().join("00000001.log");
    let mut unit = disk.read_file(&path).unwrap()[..4096].to_vec();
    let header =
        super::super::format::FileHeader::decode(super::super::format::HeaderKind::Log, &unit);
    let file_id = header.unwrap().meta.file_id;
    unit[8] = 9;
    let checksum = crate::codec::block_checksum(file_id, 0, &unit[..4088]);
    unit[4088..].copy_from_slice(&checksum.to_le_bytes());
    assert!(disk.overwrite(&path, 0, &unit));
    let found = Log::open(setup(&disk)).unwrap_err();
    assert!(
        matches!(found, Error::NewerFormat { found: 9, .. }),
        "{found}"
    );
    let mut adopting = setup(&disk);
    adopting.store_id = StoreId(0);
    assert!(matches!(
        Log::open(adopting),
        Err(Error::NewerFormat { .. })
    ));
}

/// A record and the identifier that would tell what it was, both gone: refused, though what came after
/// is whole.
#[test]
fn a_record_of_unknown_identity_is_refused() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=4 {
        append_synced(&log, index, 60).unwrap();
        log.step_identifiers().unwrap();
    }
    let second = read(&log, 2).unwrap()[0].lsn;
    drop(log);
    // The second unit of identifiers, after the header.
    assert!(disk.flip_bit(dir().join("00000001.ids"), 2 * 4096 + 50, 1));
    let (log, report) = open(&disk.fork());
    assert_eq!(report.damage.len(), 1);
    assert_eq!(indexes(&log), [1, 2, 3, 4]);
    drop(log);
    flip(&disk, second, 12);
    let Err(Error::Damaged(all)) = Log::open(setup(&disk)).map(|_| ()) else {
        panic!("opened");
    };
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].what.contains("identifier"), "{}", all[0]);
    let (from, to) = all[0].lsns.unwrap();
    assert!(from <= second && second < to, "{}", all[0]);
    // Only those below the next whole record can be missing.
    let mut enough = setup(&disk);
    enough.needed_above = Index(2);
    assert_eq!(indexes(&Log::open(enough).unwrap().0), [3, 4]);
}

/// A whole record of this very file and place, but not the one that was made durable there.
#[test]
fn a_record_that_is_whole_but_another_is_refused() {
    use super::super::format::{Envelope, FileHeader, HeaderKind, encode_record};
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=3 {
        append_synced(&log, index, 60).unwrap();
    }
    log.step_identifiers().unwrap();
    let records = read(&log, 1).unwrap();
    drop(log);
    let path = dir().join("00000001.log");
    let unit = disk.read_file(&path).unwrap()[..4096].to_vec();
    let meta = FileHeader::decode(HeaderKind::Log, &unit).unwrap().meta;
    let forge = |index: u64, text: &str| {
        let place = Envelope {
            lsn: records[1].lsn,
            watermark: records[1].lsn,
            previous: Some(records[0].lsn),
        };
        let mut bytes = Vec::new();
        let append = Append::new(RecordKind::Batch, Index(index), text.as_bytes());
        encode_record(&mut bytes, meta.salt, &place, &append);
        let forged = disk.fork();
        assert!(forged.overwrite(&path, records[1].lsn.0 - meta.first_lsn.0, &bytes));
        forged
    };
    for (index, text) in [(2, "record 2 of another life"), (3, "x"), (2, "")] {
        let forged = forge(index, text);
        let Err(Error::Damaged(all)) = Log::open(setup(&forged)).map(|_| ()) else {
            panic!("{text:?} passed");
        };
        assert_eq!(all[0].lsns.unwrap().0, records[1].lsn, "{all:?}");
        assert_eq!(all[0].indexes, Some((Index(2), Index(2))), "{all:?}");
        let mut tolerant = setup(&forged);
        tolerant.damage = DamagePolicy::Tolerate;
        let (log, _) = Log::open(tolerant).unwrap();
        let found: Vec<u64> = read(&log, 0)
            .unwrap()
            .iter()
            .map(|one| one.index.0)
            .collect();
        assert_eq!(found, [1, 3]);
    }
}

/// The place of a file without headers is unknown; as the log's last hole it hid those before it.
#[test]
fn a_tolerant_reader_goes_around_damage_before_a_file_without_headers() {
    let (disk, _) = small_log(End::Identified);
    let third = read(&open(&disk).0, 3).unwrap().remove(0);
    flip(&disk, third.lsn, 40);
    for name in ["00000002.log", "00000002.ids"] {
        assert!(disk.flip_bit(dir().join(name), 20, 3));
    }
    let mut tolerant = setup(&disk);
    tolerant.damage = DamagePolicy::Tolerate;
    let (log, report) = Log::open(tolerant).unwrap();
    assert_eq!(report.needed.len(), 2, "{:?}", report.needed);
    let found = read(&log, 0).unwrap();
    let found: Vec<u64> = found.iter().map(|record| record.index.0).collect();
    assert_eq!(found, [1, 2, 4, 5, 6, 7, 8, 9]);
}

/// What a purge removed may come back in part: the registry knows that it is no longer needed.
#[test]
fn half_of_a_purged_file_that_a_crash_brings_back_is_no_damage() {
    let disk = MemoryVfs::new();
    let known = Arc::new(super::workload::Known::default());
    let registered = |disk: &MemoryVfs| {
        let mut setup = setup(disk);
        setup.known = known.0.lock().clone();
        setup.registry = Some(known.clone());
        setup
    };
    let (log, _) = Log::open(registered(&disk)).unwrap();
    for index in 1..=40 {
        append_synced(&log, index, 700).unwrap();
    }
    let before = disk.fork();
    assert!(log.purge_before(Index(20)).unwrap() > 0);
    let first = log.first_index();
    drop(log);
    for name in ["00000001.log", "00000001.ids"] {
        let path = dir().join(name);
        let disk = disk.fork();
        assert!(disk.write_file(&path, before.read_file(&path).unwrap()));
        let (log, report) = Log::open(registered(&disk)).unwrap();
        assert_eq!(report.damage, [], "{name}");
        assert_eq!(log.first_index(), first, "{name}");
    }
}

/// Where all that is damaged is covered, and nothing comes after it, a reader from the first index met
/// the damage. Found by the fuzzer.
#[test]
fn a_reader_above_the_last_record_does_not_meet_damage_below() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    for index in 1..=2 {
        append_synced(&log, index, 60).unwrap();
    }
    log.step_identifiers().unwrap();
    let second = read(&log, 2).unwrap()[0].lsn;
    drop(log);
    flip(&disk, second, 40);
    let mut setup = setup(&disk);
    setup.needed_above = Index(2);
    let (log, report) = Log::open(setup).unwrap();
    assert_eq!((report.damage.len(), report.needed.len()), (1, 0));
    assert_eq!((log.first_index(), log.last_index()), (Index(3), Index(2)));
    assert_eq!(read(&log, 3).unwrap(), []);
    assert!(matches!(read(&log, 2), Err(Error::Purged { .. })));
}

/// One hole was skipped behind padding, and the next one right after it was run into. Found by the fuzzer.
#[test]
fn a_reader_goes_around_damage_behind_padding_record_by_record() {
    let disk = MemoryVfs::new();
    let (log, _) = open(&disk);
    append_synced(&log, 1, 60).unwrap();
    for index in 2..=5 {
        append(&log, index, 60, Durability::Process).unwrap();
    }
    log.sync().unwrap();
    log.step_identifiers().unwrap();
    let records = read(&log, 2).unwrap();
    drop(log);
    for record in &records[..2] {
        flip(&disk, record.lsn, 2);
    }
    let mut tolerant = setup(&disk);
    tolerant.damage = DamagePolicy::Tolerate;
    let (log, report) = Log::open(tolerant).unwrap();
    assert_eq!(report.needed.len(), 2, "{:?}", report.needed);
    let found = read(&log, 0).unwrap();
    let found: Vec<u64> = found.iter().map(|record| record.index.0).collect();
    assert_eq!(found, [1, 4, 5]);
}
