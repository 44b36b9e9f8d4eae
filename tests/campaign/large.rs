//! One bad block of 4 KiB anywhere in a store of 64 MiB, and anywhere in the sealed files of a log of 16 MiB and their
//! parity: what lies there is read, and the file is made as it was.

use kintsu::testing::SeededRng;
use kintsu::{Db, Job, Options, Parity};

use crate::support::noise::value;
use crate::support::store::{FOLDER, Machine};

use super::play::Plan;
use super::sample::{File, files_in};
use super::table::{Played, Table, Verdict};

/// Bytes of values, in all.
const BYTES: u64 = 64 << 20;
/// Bytes of each.
const VALUE_BYTES: u64 = 4_000;

fn options(machine: &Machine) -> Options {
    machine
        .options()
        .parity(Parity::Standard)
        .block_bytes(4096)
        .segment_bytes(4 << 20)
        .level_base_bytes(1 << 30)
        .level0_segments_compact(60)
        .level0_segments_stop(80)
        .write_buffer_bytes(4 << 20)
        .log_file_bytes(16 << 20)
        .log_bytes_before_flush(64 << 20)
        .block_cache_bytes(0)
}

fn key(number: u64) -> String {
    format!("key {number:08}")
}

/// Nothing that packs.
fn long_value(number: u64) -> Vec<u8> {
    let part = |n: u64| value(number * 64 + n);
    (0..VALUE_BYTES / 80).flat_map(part).collect()
}

const KEYS: u64 = BYTES / VALUE_BYTES;

/// All of the keys in segments, nothing in the log.
fn filled() -> Machine {
    let machine = Machine::new(64);
    let db = options(&machine).open().unwrap();
    let mut load = db.bulk_load().unwrap();
    for number in 0..KEYS {
        load.add(key(number), long_value(number)).unwrap();
    }
    load.commit().unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    machine
}

/// Reads the keys that lie about the damage, and some others.
fn read(db: &Db, about: u64, rng: &mut SeededRng) {
    let near = about.saturating_sub(24)..(about + 24).min(KEYS);
    let others: Vec<u64> = (0..8).map(|_| rng.below(KEYS)).collect();
    for number in near.chain(others) {
        let found = db.get(key(number)).unwrap();
        assert!(
            found.as_deref() == Some(&long_value(number)),
            "key {number}"
        );
    }
}

pub fn every_block(plan: &Plan) -> Table {
    let machine = filled();
    let files = files_in(&machine.memory, FOLDER).into_iter();
    let files: Vec<File> = files
        .filter(|(path, _)| path.ends_with(".segment"))
        .collect();
    let blocks = |file: &File| file.1.len().div_ceil(4096) as u64;
    let total: u64 = files.iter().map(blocks).sum();
    assert!(total * 4096 > BYTES);
    let every = plan.pick(211, 1);
    plan.play(
        "one bad block of 4 KiB in 64 MiB",
        "large",
        total.div_ceil(every),
        |n| {
            let block = n * every + plan.seed * 31 % every;
            let mut first = 0;
            let found = files.iter().find(|file| {
                first += blocks(file);
                block < first
            });
            let (path, whole) = found?;
            let block_in_file = block - (first - whole.len().div_ceil(4096) as u64);
            let machine = machine.rebooted(machine.memory.fork());
            let start = block_in_file * 4096;
            let bytes = (whole.len() as u64 - start).min(4096) as usize;
            assert!(machine.memory.overwrite(path, start, vec![0xa5; bytes]));
            let mut rng = SeededRng::new(plan.seed + n);
            let db = options(&machine).open().expect("the open");
            // Keys lie one behind the other, values are of one length, and parity stands at each file's end.
            read(&db, block * KEYS / total, &mut rng);
            while db.step(Job::Mend).expect("mending") {}
            if machine.memory.read_file(path).as_ref() != Some(whole) {
                let report = db.scrub().expect("the scrubber");
                assert_eq!((report.mended, report.lost), (1, 0), "{report:?}");
            }
            assert!(
                machine.memory.read_file(path).as_ref() == Some(whole),
                "the mended file"
            );
            read(&db, block * KEYS / total, &mut rng);
            Some(Played::new("segment", Verdict::Repaired).must_be_right())
        },
    )
}

/// Bytes of values in the log.
const LOG_BYTES: u64 = 16 << 20;
const LOG_KEYS: u64 = LOG_BYTES / VALUE_BYTES;

/// Everything is in the log; all of its files but the last are sealed and have their parity.
fn log_options(machine: &Machine) -> Options {
    options(machine)
        .write_buffer_bytes(64 << 20)
        .log_file_bytes(2 << 20)
}

fn logged() -> Machine {
    let machine = Machine::new(16);
    let db = log_options(&machine).open().unwrap();
    for number in 0..LOG_KEYS {
        db.put(key(number), long_value(number)).unwrap();
        if number % 100 == 0 {
            while db.step(Job::SyncIdentifiers).unwrap() {}
        }
    }
    while db.step(Job::SyncIdentifiers).unwrap() {}
    // Its process dies: a close would flush.
    machine.rebooted(machine.memory.kill())
}

/// The sealed files of a log and their parity.
fn sealed(machine: &Machine) -> Vec<File> {
    let files: Vec<File> = files_in(&machine.memory, FOLDER);
    let is_log = |path: &str| path.ends_with(".log");
    let active = files.iter().rev().find(|(path, _)| is_log(path));
    let active = active
        .and_then(|(path, _)| path.strip_suffix("log"))
        .unwrap()
        .to_owned();
    let is_sealed = |path: &str| {
        let is_meant = is_log(path) || path.ends_with(".parity");
        is_meant && path < active.as_str()
    };
    files
        .into_iter()
        .filter(|(path, _)| is_sealed(path))
        .collect()
}

pub fn every_block_of_the_log(plan: &Plan) -> Table {
    let machine = logged();
    let files = sealed(&machine);
    let blocks = |file: &File| (file.1.len() as u64).div_ceil(4096);
    let total: u64 = files.iter().map(blocks).sum();
    assert!(
        files.len() > 12 && total * 4096 > LOG_BYTES,
        "{total} blocks"
    );
    let every = plan.pick(331, 1);
    plan.play(
        "one bad block of 4 KiB in a log of 16 MiB",
        "large log",
        total.div_ceil(every),
        |n| {
            let mut block = n * every + plan.seed * 31 % every;
            let found = files.iter().find(|file| {
                let is_here = block < blocks(file);
                block -= if is_here { 0 } else { blocks(file) };
                is_here
            });
            let (path, whole) = found?;
            let machine = machine.rebooted(machine.memory.fork());
            let start = block * 4096;
            let bytes = (whole.len() as u64 - start).min(4096) as usize;
            let bad = vec![0xa5; bytes];
            assert!(machine.memory.overwrite(path, start, bad));
            let mut rng = SeededRng::new(plan.seed + n);
            let db = log_options(&machine).open().expect("the open");
            let read = |rng: &mut SeededRng| {
                for _ in 0..40 {
                    let number = rng.below(LOG_KEYS);
                    let found = db.get(key(number)).unwrap();
                    assert!(found.as_deref() == Some(&long_value(number)), "{number}");
                }
                assert!(db.get(key(LOG_KEYS)).unwrap().is_none());
                assert_eq!(db.statistics().last_index.0, LOG_KEYS);
            };
            read(&mut rng);
            let is_whole = || machine.memory.read_file(path).as_ref() == Some(whole);
            while db.step(Job::Mend).expect("mending") {}
            if !is_whole() {
                let report = db.scrub().expect("the scrubber");
                assert_eq!(report.lost, 0, "{report:?}");
            }
            assert!(is_whole(), "{path} at {start} isn't mended");
            read(&mut rng);
            let kind = if path.ends_with(".log") {
                "log"
            } else {
                "log parity"
            };
            Some(Played::new(kind, Verdict::Repaired).must_be_right())
        },
    )
}
