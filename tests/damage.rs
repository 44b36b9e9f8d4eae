//! Damage to a small store without parity, closed or killed, and to whole files of it (`tests/campaign` has bits,
//! blocks and cuts of a store with it): never a wrong answer, never a panic, never an acknowledged write silently missing. Either all is right, because the damage was healed or touches
//! nothing, or it is refused with the name of the file, and then the attempt has changed nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use kintsu::testing::MemoryVfs;
use kintsu::{Durability, Error, Job};

use support::check;
use support::driver::Driver;
use support::model::Model;
use support::store::{FOLDER, Machine, files, path};
use support::workload::Step;
use support::{Context, scale};

use Durability::{Disk, Process};

/// A store at rest: its disk, and what it must answer.
struct Sample {
    name: &'static str,
    machine: Machine,
    model: Model,
    /// Names of its files with their bytes.
    files: Vec<(String, Vec<u8>)>,
}

/// Segments in two levels, a sealed and an unsealed log file, identifiers of all records, both copies of
/// the manifest.
const WORKLOAD: &[Step] = &[
    Step::Open,
    Step::Create("users"),
    Step::Batch(60, Disk),
    Step::Put("a", 900, Disk),
    Step::Flush,
    Step::Batch(60, Disk),
    Step::Delete("a", Disk),
    Step::Flush,
    Step::All(Job::Compact),
    Step::All(Job::Reclaim),
    Step::Put("b", 300, Disk),
    Step::Batch(40, Disk),
    Step::Flush,
    // From here on the log alone has it.
    Step::Put("d", 10, Process),
    Step::Put("e", 10, Process),
    Step::Batch(50, Disk),
    Step::Delete("b", Disk),
    Step::Create("late"),
    // Doesn't fit any more.
    Step::Put("f", 30_000, Disk),
    Step::Put("g", 3_000, Disk),
    Step::Batch(30, Process),
    Step::Put("h", 10, Disk),
];

const IDENTIFIERS: &[Step] = &[Step::Advance(20), Step::All(Job::SyncIdentifiers)];

fn take_sample(name: &'static str, seed: u64, steps: &[&[Step]]) -> Sample {
    let mut driver = Driver::new(Machine::new(seed));
    for steps in steps {
        driver.run(steps).unwrap();
    }
    let model = driver.model.clone();
    let machine = driver.machine.rebooted(driver.machine.memory.kill());
    let files = machine.files();
    Sample {
        name,
        machine,
        model,
        files,
    }
}

fn killed() -> Sample {
    take_sample("killed", 17, &[WORKLOAD, IDENTIFIERS])
}

fn closed() -> Sample {
    take_sample("closed", 17, &[WORKLOAD, &[Step::Close]])
}

/// How an attempt to read everything ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// All is right, and nothing was reported.
    Right,
    /// All is right, and the damage was reported.
    Healed,
    /// The open was refused as damaged.
    Refused,
    /// The open was refused because the file seems to be of another store or a newer version.
    NotOurs,
    /// The store opened, and a read that needs what is damaged was refused.
    ReadRefused,
}

fn kind_of(file: &str) -> &str {
    match file.rsplit_once('.') {
        Some((stem, _)) if stem.starts_with("manifest") => "manifest",
        Some((_, kind)) => kind,
        None => file,
    }
}

/// Counts of verdicts for each kind of file.
#[derive(Debug, Default)]
struct Tally(BTreeMap<String, BTreeMap<Verdict, u64>>);

impl Tally {
    fn count(&mut self, file: &str, verdict: Verdict) {
        let kind = kind_of(file);
        *self
            .0
            .entry(kind.into())
            .or_default()
            .entry(verdict)
            .or_default() += 1;
    }

    fn print(&self, what: &str, sample: &Sample) {
        for (kind, verdicts) in &self.0 {
            println!(
                "damage, {what}, {} store, {kind}: {verdicts:?}",
                sample.name
            );
        }
    }

    fn total(&self, wanted: Verdict) -> u64 {
        let all = self.0.values().flat_map(|verdicts| verdicts.iter());
        all.filter(|(verdict, _)| **verdict == wanted)
            .map(|(_, count)| count)
            .sum()
    }
}

/// Whether an error names one of the files.
fn names(error: &Error, files: &[&str]) -> bool {
    let is = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.iter().any(|file| *file == name)
    };
    match error {
        Error::Damaged(damage) => damage.iter().any(|damage| is(&damage.path)),
        Error::ForeignFile { path, .. } | Error::NewerFormat { path, .. } => is(path),
        _ => false,
    }
}

/// Opens a damaged store and reads everything. `changed` are the files that were tampered with.
fn judge(sample: &Sample, disk: &MemoryVfs, changed: &[&str]) -> Verdict {
    let machine = sample.machine.rebooted(disk.clone());
    let before = disk.fork();
    let opened = machine.options().open();
    let db = match opened {
        Ok(db) => db,
        Err(error) => {
            assert!(
                names(&error, changed),
                "{changed:?} changed, but: {error:?}"
            );
            assert!(
                files(&before) == files(disk),
                "a refused open has changed files: {error}"
            );
            return match error {
                Error::Damaged(_) => Verdict::Refused,
                _ => Verdict::NotOurs,
            };
        }
    };
    let model = &sample.model;
    assert_eq!(
        db.last_index().0,
        model.last,
        "records are missing, and nobody says so"
    );
    match check::whole(&db, model) {
        Ok(()) if db.recovery_report().damage.is_empty() => Verdict::Right,
        Ok(()) => Verdict::Healed,
        Err(error) => {
            assert!(matches!(error, Error::Damaged(_)), "{error:?}");
            assert!(
                names(&error, changed),
                "{changed:?} changed, but: {error:?}"
            );
            Verdict::ReadRefused
        }
    }
}

/// The end of what is written in a file: what follows is preallocated zeros.
fn end_of_content(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Xor patterns for a byte: one bit, another with each offset; in small files also zero.
fn patterns(bytes: &[u8], offset: usize) -> Vec<u8> {
    let byte = bytes[offset];
    if scale() > 1 {
        return (0..8).map(|bit| 1 << bit).chain([0xff, byte]).collect();
    }
    let bit = 1u8 << (offset.wrapping_mul(7) / 8 % 8);
    match bytes.len() < 32 << 10 && byte != 0 {
        true => vec![bit, byte],
        false => vec![bit],
    }
}

/// Changes every byte whose offset leaves `part` when divided by `parts`.
fn every_byte(sample: &Sample, part: usize, parts: usize) {
    let mut tally = Tally::default();
    for (name, bytes) in &sample.files {
        let _file = Context("file", name);
        // Past the last unit that is written in a few bytes stand for all of it.
        let end = end_of_content(bytes).next_multiple_of(4096);
        let offsets = (0..bytes.len()).filter(|at| *at < end || at % 97 < scale() as usize);
        for offset in offsets.filter(|at| at % parts == part) {
            for pattern in patterns(bytes, offset) {
                let _offset = Context("offset, pattern", (offset, pattern));
                if pattern == 0 {
                    continue;
                }
                let disk = sample.machine.memory.fork();
                let byte = bytes[offset] ^ pattern;
                assert!(disk.overwrite(path(name), offset as u64, [byte]));
                tally.count(name, judge(sample, &disk, &[name]));
            }
        }
    }
    tally.print("every byte", sample);
    let refused = tally.total(Verdict::Refused) + tally.total(Verdict::ReadRefused);
    assert!(refused > 0);
}

#[test]
fn undamaged_samples_are_as_meant() {
    let sample = killed();
    let kinds = |end: &str| {
        sample
            .files
            .iter()
            .filter(|(name, _)| name.ends_with(end))
            .count()
    };
    assert_eq!(
        (kinds(".log"), kinds(".ids")),
        (2, 2),
        "{:?}",
        names_of(&sample)
    );
    assert_eq!((kinds(".a"), kinds(".b")), (1, 1));
    assert!(kinds(".segment") >= 3);
    for sample in [killed(), closed()] {
        let disk = sample.machine.memory.fork();
        assert_eq!(judge(&sample, &disk, &[]), Verdict::Right);
        let db = sample
            .machine
            .rebooted(disk.fork())
            .options()
            .open()
            .unwrap();
        let levels = &db.statistics().keyspaces[0].level_segments;
        assert!(levels.len() >= 2 && levels[0] > 0, "{levels:?}");
    }
}

fn names_of(sample: &Sample) -> Vec<&str> {
    sample.files.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn every_third_byte_of_a_closed_store() {
    let (part, parts) = if scale() > 1 { (0, 1) } else { (1, 3) };
    every_byte(&closed(), part, parts);
}

#[test]
fn every_block_zeroed_or_garbage() {
    let sample = closed();
    let mut tally = Tally::default();
    for (name, bytes) in &sample.files {
        for block in [512, 4096] {
            for start in (0..bytes.len()).step_by(block) {
                let end = (start + block).min(bytes.len());
                for fill in [0x00, 0xa5, 0xff] {
                    let _place = Context("file, block, fill", (name, start, end, fill));
                    let disk = sample.machine.memory.fork();
                    disk.overwrite(path(name), start as u64, vec![fill; end - start]);
                    tally.count(name, judge(&sample, &disk, &[name]));
                }
            }
        }
    }
    tally.print("every block", &sample);
}

/// Files deleted, emptied, lengthened, replaced by another of the same kind, or by the file of the same
/// name of another store.
#[test]
fn every_file_replaced() {
    for sample in [killed(), closed()] {
        let other = take_sample("other", 18, &[WORKLOAD, IDENTIFIERS]);
        let mut tally = Tally::default();
        for (name, bytes) in &sample.files {
            let mut contents: Vec<(&str, Option<Vec<u8>>)> = vec![
                ("deleted", None),
                ("emptied", Some(Vec::new())),
                ("longer", Some([bytes.as_slice(), &[0; 100]].concat())),
                (
                    "with garbage behind",
                    Some([bytes.as_slice(), &[0xa5; 5000]].concat()),
                ),
                ("zeroed", Some(vec![0; bytes.len()])),
            ];
            for (sibling, bytes) in &sample.files {
                if sibling != name && kind_of(sibling) == kind_of(name) {
                    contents.push(("replaced by a sibling", Some(bytes.clone())));
                }
            }
            for (foreign, bytes) in &other.files {
                if foreign == name {
                    contents.push(("replaced by another store's", Some(bytes.clone())));
                }
            }
            for (what, content) in contents {
                let _place = Context("file", (name, what));
                let disk = sample.machine.memory.fork();
                match content {
                    Some(bytes) => assert!(disk.write_file(path(name), bytes)),
                    None => assert!(disk.remove_file(path(name))),
                }
                // Which of two copies is the foreign one can't be told.
                let named = [
                    name.as_str(),
                    &name.replace(".a", ".b"),
                    &name.replace(".b", ".a"),
                ];
                let verdict = judge(&sample, &disk, &named);
                tally.count(name, verdict);
            }
        }
        tally.print("every file", &sample);
    }
}

/// A log file in which everything is right but that it isn't what was written: as if the disk had played
/// a write of another time. Identifiers tell.
#[test]
fn a_log_file_that_is_right_and_yet_another() {
    let sample = killed();
    let mut steps = WORKLOAD.to_vec();
    let last = steps
        .iter_mut()
        .rfind(|step| matches!(step, Step::Put("g", ..)));
    *last.unwrap() = Step::Put("z", 3_000, Disk);
    let twin = take_sample("twin", 17, &[&steps, IDENTIFIERS]);
    let mut tally = Tally::default();
    for (name, bytes) in &twin.files {
        let own = sample.files.iter().find(|(own, _)| own == name).unwrap();
        if own.1 == *bytes {
            continue;
        }
        let _file = Context("file", name);
        let disk = sample.machine.memory.fork();
        disk.write_file(path(name), bytes);
        tally.count(
            name,
            judge(&sample, &disk, &[name, &name.replace(".ids", ".log")]),
        );
    }
    tally.print("a twin's files", &sample);
    assert!(tally.total(Verdict::Refused) >= 2, "{tally:?}");
}

/// A record and its identifier both damaged: what was there isn't known any more, and that is said. The
/// last unit of identifiers alone counts as never written, as the documents say.
#[test]
fn records_and_their_identifiers_damaged_together() {
    let mut steps = WORKLOAD.to_vec();
    // Several units of identifiers in each file.
    for at in [21, 19, 16, 14] {
        steps.splice(at..at, IDENTIFIERS.iter().copied());
    }
    let sample = take_sample("twice damaged", 17, &[&steps, IDENTIFIERS]);
    let mut tally = Tally::default();
    for number in ["00000001", "00000002"] {
        let (log, ids) = (format!("{number}.log"), format!("{number}.ids"));
        let written = |name: &str| {
            let found = sample.files.iter().find(|(file, _)| file == name).unwrap();
            end_of_content(&found.1).div_ceil(4096)
        };
        assert!(
            written(&ids) >= 4,
            "identifiers lie in {} units",
            written(&ids)
        );
        for unit in 1..written(&ids) - 1 {
            for place in 1..written(&log) {
                let _place = Context("log, unit, unit of identifiers", (&log, place, unit));
                let disk = sample.machine.memory.fork();
                disk.flip_bit(path(&ids), unit as u64 * 4096 + 12, 3);
                disk.flip_bit(path(&log), place as u64 * 4096 + 30, 3);
                tally.count(&log, judge(&sample, &disk, &[&log, &ids]));
            }
        }
    }
    tally.print("records with their identifiers", &sample);
    let refused = tally.total(Verdict::Refused) + tally.total(Verdict::ReadRefused);
    assert!(refused > 0);
}

/// Both copies of the manifest gone, in every way in which one can be: never a new, empty store.
#[test]
fn both_copies_of_the_manifest() {
    let sample = killed();
    let copies: Vec<&str> = names_of(&sample)
        .into_iter()
        .filter(|name| name.starts_with("manifest"))
        .collect();
    type Spoil = fn(&MemoryVfs, &str);
    let ways: [(&str, Spoil); 4] = [
        ("deleted", |disk, name| {
            assert!(disk.remove_file(path(name)))
        }),
        ("emptied", |disk, name| {
            assert!(disk.write_file(path(name), ""))
        }),
        ("header", |disk, name| {
            assert!(disk.overwrite(path(name), 0, [0; 64]))
        }),
        ("first edit", |disk, name| {
            assert!(disk.flip_bit(path(name), 4096 + 40, 3))
        }),
    ];
    for (how_a, spoil_a) in &ways {
        for (how_b, spoil_b) in &ways {
            let disk = sample.machine.memory.fork();
            spoil_a(&disk, copies[0]);
            spoil_b(&disk, copies[1]);
            // What one copy lacks the other may have.
            let may_heal = how_a != how_b && (*how_a == "first edit" || *how_b == "first edit");
            let verdict = judge(&sample, &disk, &[copies[0], copies[1], "manifest"]);
            let right = verdict == Verdict::Healed && may_heal;
            assert!(
                right || verdict == Verdict::Refused,
                "{how_a}, {how_b}: {verdict:?}"
            );
        }
    }
}

/// Identifiers that were not yet durable are the documented gap: rot in the last group can pass for a
/// torn tail. It never takes more than that group, and with identifiers nothing passes.
#[test]
fn rot_in_the_last_group() {
    let mut passed = Vec::new();
    for identifiers in [false, true] {
        let steps: &[&[Step]] = if identifiers {
            &[WORKLOAD, IDENTIFIERS]
        } else {
            &[WORKLOAD]
        };
        let sample = take_sample("last group", 17, steps);
        let (name, bytes) = sample
            .files
            .iter()
            .rfind(|(name, _)| name.ends_with(".log"))
            .unwrap();
        let mut torn = 0u64;
        let end = end_of_content(bytes);
        // Past the long value.
        for offset in end - 12_000..end {
            let _offset = Context("offset", offset);
            let disk = sample.machine.memory.fork();
            disk.flip_bit(path(name), offset as u64, (offset % 8) as u8);
            let machine = sample.machine.rebooted(disk);
            let Ok(db) = machine.options().open() else {
                continue;
            };
            let last = db.last_index().0;
            if last < sample.model.last {
                torn += 1;
                // The last group is the durable put, and the merely written batch right before it.
                assert!(
                    last + 2 >= sample.model.last,
                    "more than the last group is gone"
                );
                let mut model = sample.model.clone();
                model.reopened_at(last);
                check::whole(&db, &model).unwrap();
            }
        }
        println!(
            "damage, last group, identifiers {identifiers}: {torn} flips pass for a torn tail"
        );
        passed.push(torn);
    }
    assert!(passed[0] > 0, "the gap is gone: say so in the documents");
    assert_eq!(passed[1], 0);
}

/// A folder that isn't this store's, or isn't a store.
#[test]
fn folders_that_are_no_stores() {
    let machine = Machine::new(1);
    machine.memory.write_file(path("notes.txt"), "mine");
    let error = machine.options().open().unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
    assert_eq!(machine.memory.file_names(FOLDER), ["notes.txt"]);

    let machine = Machine::new(1);
    machine.memory.write_file(FOLDER, "a file");
    let error = machine.options().open().unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");

    let machine = Machine::new(1);
    let error = machine
        .options()
        .create_if_missing(false)
        .open()
        .unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
    let error = machine.options().read_only(true).open().unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");

    // Foreign files in a store are named, and left alone.
    let sample = killed();
    sample.machine.memory.write_file(path("notes.txt"), "mine");
    let db = sample.machine.options().open().unwrap();
    assert_eq!(db.recovery_report().foreign_files, ["notes.txt"]);
    check::whole(&db, &sample.model).unwrap();
}
