//! Stores damaged in every way that a folder can be: what a salvage brings was there, the newest of it that can be
//! read, and what it doesn't bring is named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::collections::BTreeMap;

use kintsu::testing::MemoryVfs;
use kintsu::{Db, Job, KeyspaceOptions, Options, Parity, SalvageReport, salvage, salvage_list};

use support::noise::{key, value};
use support::store::{FOLDER, Machine, files, path};

/// Of each key of each keyspace what it ever was, the newest last.
type History = BTreeMap<(&'static str, Vec<u8>), Vec<Option<Vec<u8>>>>;

struct Sample {
    machine: Machine,
    history: History,
}

/// Writes to a store and to its history.
struct Writer {
    db: Db,
    history: History,
}

impl Writer {
    fn note(&mut self, keyspace: &'static str, key: &[u8], value: Option<Vec<u8>>) {
        let past = self.history.entry((keyspace, key.to_vec())).or_default();
        past.push(value);
    }

    fn put(&mut self, keyspace: &'static str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        let target = self.db.keyspace(keyspace).unwrap();
        target.put(key, value).unwrap();
        self.note(keyspace, key, Some(value.to_vec()));
    }

    fn delete(&mut self, keyspace: &'static str, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.db.keyspace(keyspace).unwrap().delete(key).unwrap();
        self.note(keyspace, key, None);
    }

    fn delete_range(&mut self, keyspace: &'static str, from: &str, to: &str) {
        let target = self.db.keyspace(keyspace).unwrap();
        target.delete_range(from..to).unwrap();
        for ((of, key), past) in &mut self.history {
            if *of == keyspace && (from.as_bytes()..to.as_bytes()).contains(&&key[..]) {
                past.push(None);
            }
        }
    }

    fn append(&mut self, keyspace: &'static str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        let target = self.db.keyspace(keyspace).unwrap();
        target.merge(key, value).unwrap();
        let past = self.history.get(&(keyspace, key.to_vec()));
        let mut now = past
            .and_then(|past| past.last().cloned().flatten())
            .unwrap_or_default();
        now.extend_from_slice(value);
        self.note(keyspace, key, Some(now));
    }

    fn settle(&self) {
        self.db.flush().unwrap();
        while self.db.step(Job::Compact).unwrap() {}
        while self.db.step(Job::Reclaim).unwrap() {}
    }
}

fn options(machine: &Machine, parity: Parity) -> Options {
    machine
        .options()
        .parity(parity)
        .write_buffer_bytes(1 << 20)
        .log_bytes_before_flush(8 << 20)
}

/// Segments in several levels, with range deletions and merges across them; log that they don't have; a keyspace that
/// the manifest knows, and one that only the log does.
fn sample(parity: Parity, is_closed: bool) -> Sample {
    let machine = Machine::new(31);
    let db = options(&machine, parity).open().unwrap();
    let append = KeyspaceOptions::default().merge_operator(kintsu::Append::NAME);
    db.create_keyspace_with("users", append.clone()).unwrap();
    let history = History::new();
    let mut writer = Writer { db, history };
    for round in 0..4 {
        for number in 0..60 {
            let number = number * (round + 1);
            writer.put("default", key(number), value(number * 7 + round));
            if number % 3 == 0 {
                writer.put("users", key(number), value(number + round));
            }
        }
        for number in 0..8 {
            writer.append("users", key(500 + number), format!("+{round}"));
        }
        writer.delete("default", key(7 * round));
        if round == 2 {
            writer.delete_range("default", &key(20), &key(25));
        }
        writer.settle();
    }
    // From here on the log alone has it, in several files.
    writer.db.create_keyspace_with("late", append).unwrap();
    for number in 0..250 {
        writer.put("default", key(number * 2), value(number + 1_000));
        if number % 10 == 0 {
            writer.put("late", key(number), value(number));
            writer.append("users", key(500 + number / 40), b"+log");
        }
    }
    let Writer { db, history } = writer;
    db.sync().unwrap();
    while db.step(Job::SyncIdentifiers).unwrap() {}
    let memory = match is_closed {
        true => {
            db.close().unwrap();
            machine.memory.fork()
        }
        false => machine.memory.kill(),
    };
    let machine = machine.rebooted(memory);
    Sample { machine, history }
}

/// What the new store holds, by keyspace.
fn content(db: &Db) -> BTreeMap<(String, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in db.keyspaces() {
        for pair in db.keyspace(&name).unwrap().range(..).unwrap() {
            let (key, value) = pair.unwrap();
            all.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    all
}

fn names_key(report: &SalvageReport, keyspace: &str, key: &[u8]) -> bool {
    let is_uncertain = report
        .uncertain_keys
        .iter()
        .any(|(of, k)| of == keyspace && k == key);
    is_uncertain
        || report.lost.iter().any(|lost| {
            lost.keyspace.as_deref().is_none_or(|of| of == keyspace)
                && lost.from.as_deref().is_none_or(|from| from <= key)
                && lost.to.as_deref().is_none_or(|to| key <= to)
        })
}

/// What of a salvage was as it should be.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    complete: u64,
    newest: u64,
    older: u64,
    missing: u64,
    uncertain: u64,
}

impl Tally {
    /// Salvages a damaged disk, and holds what comes of it against the history.
    fn salvage(&mut self, sample: &Sample, memory: MemoryVfs, what: &str) -> SalvageReport {
        let before = files(&memory);
        let machine = sample.machine.rebooted(memory);
        let from = options(&machine, Parity::Off);
        let to = machine.options_at("new");
        let listed = salvage_list(from.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
        let report = salvage(from, to.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(listed, report, "{what}: what is listed is what is done");
        assert_eq!(
            files(&machine.memory),
            before,
            "{what}: it changed something"
        );
        let db = to.read_only(true).open().unwrap();
        let found = content(&db);
        self.runs += 1;
        self.complete += u64::from(report.is_complete());
        self.uncertain += report.uncertain;
        assert_eq!(report.keys, found.len() as u64, "{what}");
        let lost_name = |id: u64| format!("unnamed-keyspace-{id}");
        let is_there = |name: &str| db.keyspaces().iter().any(|other| other == name);
        for ((keyspace, key), past) in &sample.history {
            let id = match *keyspace {
                "users" => 1,
                "late" => 2,
                _ => 0,
            };
            let name = match is_there(keyspace) {
                true => (*keyspace).to_owned(),
                false => lost_name(id),
            };
            let is = found.get(&(name.clone(), key.clone())).cloned();
            let newest = past.last().unwrap();
            if is == *newest {
                self.newest += u64::from(is.is_some());
                continue;
            }
            let was = is.is_none() || past.contains(&is);
            assert!(was, "{what}: {keyspace} {key:?} never was {is:?}");
            self.older += u64::from(is.is_some());
            self.missing += u64::from(is.is_none());
            assert!(
                names_key(&report, &name, key),
                "{what}: {keyspace} {key:?} is {is:?} silently: {report:#?}"
            );
        }
        for (keyspace, key) in found.keys() {
            let written = sample.history.keys();
            let known = |of: &str| of == keyspace || keyspace.starts_with("unnamed");
            let mut written = written.filter(|(of, k)| known(of) && k == key);
            assert!(
                written.next().is_some(),
                "{what}: {keyspace} {key:?} is invented"
            );
        }
        report
    }
}

fn samples() -> Vec<(String, Sample)> {
    let kinds = [
        (Parity::Off, false),
        (Parity::Off, true),
        (Parity::Standard, false),
    ];
    let name = |(parity, closed)| format!("{parity:?}, closed: {closed}");
    kinds
        .map(|kind| (name(kind), sample(kind.0, kind.1)))
        .into()
}

#[test]
fn a_whole_store_comes_over_whole() {
    for (name, sample) in samples() {
        let mut tally = Tally::default();
        let report = tally.salvage(&sample, sample.machine.memory.fork(), &name);
        assert!(
            report.is_complete() && report.damage.is_empty(),
            "{report:?}"
        );
        assert_eq!((tally.older, tally.missing), (0, 0));
        assert!(tally.newest > 300, "{tally:?}");
    }
}

fn without_manifest(sample: &Sample) -> MemoryVfs {
    let memory = sample.machine.memory.fork();
    for (name, _) in files(&memory) {
        if name.starts_with("manifest") {
            assert!(memory.remove_file(path(&name)));
        }
    }
    memory
}

/// Nothing but the manifest is lost: all keys are there, but for those that merge across segments.
#[test]
fn without_a_manifest_everything_else_is_found() {
    for (name, sample) in samples() {
        let mut tally = Tally::default();
        let report = tally.salvage(&sample, without_manifest(&sample), &name);
        println!("salvage without a manifest, {name}: {tally:?}");
        assert!(!report.has_manifest && !report.is_complete());
        assert_eq!(tally.older, 0, "{report:#?}");
        assert_eq!(tally.missing, report.uncertain, "{report:#?}");
        assert!(report.uncertain <= 8, "{report:#?}");
    }
}

/// Each file: gone, empty, cut in half, and with each of its blocks overwritten in turn.
fn damaged(memory: &MemoryVfs, step: usize) -> Vec<(String, MemoryVfs)> {
    let mut all = Vec::new();
    for (name, bytes) in files(memory) {
        let mut add = |what: &str, change: &dyn Fn(&MemoryVfs)| {
            let disk = memory.fork();
            change(&disk);
            all.push((format!("{name} {what}"), disk));
        };
        let file = path(&name);
        add("removed", &|disk| assert!(disk.remove_file(&file)));
        let half = bytes.len() as u64 / 2;
        add("halved", &|disk| assert!(disk.truncate_file(&file, half)));
        add("emptied", &|disk| assert!(disk.truncate_file(&file, 0)));
        // Segments are small and all different; most of the log is records alike.
        let step = match name.ends_with(".segment") {
            true => step,
            false => step * 8,
        };
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for offset in (0..=used).step_by(step) {
            let noise = vec![0xa5; step.min(bytes.len() - offset)];
            add(&format!("overwritten at {offset}"), &|disk| {
                assert!(disk.overwrite(&file, offset as u64, &noise));
            });
        }
    }
    all
}

#[test]
fn campaign_any_file_can_be_damaged() {
    for (name, sample) in samples() {
        let mut tally = Tally::default();
        for (what, memory) in damaged(&sample.machine.memory, 1024) {
            tally.salvage(&sample, memory, &format!("{name}, {what}"));
        }
        println!("salvage of a store with one damaged place, {name}: {tally:?}");
        assert!(
            tally.runs > 100 && tally.complete > 0 && tally.missing > 0,
            "{tally:?}"
        );
    }
}

#[test]
fn campaign_any_file_can_be_damaged_where_there_is_no_manifest() {
    for (name, sample) in samples() {
        let mut tally = Tally::default();
        for (what, memory) in damaged(&without_manifest(&sample), 2048) {
            tally.salvage(&sample, memory, &format!("no manifest, {name}, {what}"));
        }
        println!("the same without a manifest, {name}: {tally:?}");
        assert!(tally.runs > 30 && tally.missing > 0, "{tally:?}");
    }
}

#[test]
fn what_is_no_store_is_refused() {
    let machine = Machine::new(1);
    let refused = |result: kintsu::Result<SalvageReport>| {
        assert!(
            matches!(result, Err(kintsu::Error::NotAStore { .. })),
            "{result:?}"
        );
    };
    refused(salvage_list(machine.options()));
    let sample = sample(Parity::Off, true);
    let from = sample.machine.options();
    refused(salvage(from.clone(), from.clone()));
    assert!(!sample.machine.memory.file_names(FOLDER).is_empty());
    refused(salvage(machine.options(), sample.machine.options_at("new")));
}
