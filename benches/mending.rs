//! What damage costs, and what looking for it costs: verifying and scrubbing beside reading the same files one after
//! the other, a read of a bad block, and an open with a thousand of them beside an open of the store whole.
//!
//! `cargo bench --bench mending [-- FOLDER]`: alternating rounds, medians. It takes 1 GiB of the folder's disk.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench"
)]

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kintsu::environment::{Clock, SystemClock};
use kintsu::vfs::{Access, DiskVfs, Vfs};
use kintsu::{Background, Db, Durability, Job, Options};

const ROUNDS: usize = 7;
const VALUE_BYTES: usize = 4_000;
const STORE_BYTES: u64 = 512 << 20;
const LOG_BYTES: u64 = 128 << 20;
const BAD_BLOCKS: u64 = 1_000;
const BLOCK: u64 = 4_096;

fn main() {
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = folder.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(folder).unwrap();
    let (segments, log) = (folder.path().join("segments"), folder.path().join("log"));
    fill(&segments, STORE_BYTES, true);
    fill(&log, LOG_BYTES, false);
    reading(&segments);
    healing(&segments);
    opening("segments", &segments, "segment");
    opening("log", &log, "log");
}

fn options(path: &Path) -> Options {
    Options::new(path)
        .background(Background::Manual)
        .block_cache_bytes(0)
        .segment_bytes(64 << 20)
        .scrub_bytes_per_second(0)
        .write_buffer_bytes(512 << 20)
        .log_bytes_before_flush(1 << 30)
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Nothing that packs.
fn value(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..VALUE_BYTES / 8).flat_map(|_| next()).collect()
}

/// Keys in order, in segments or in the log alone.
fn fill(path: &Path, bytes: u64, in_segments: bool) {
    let db = options(path).open().unwrap();
    let keys = bytes / VALUE_BYTES as u64;
    if in_segments {
        let mut load = db.bulk_load().unwrap();
        (0..keys).for_each(|number| load.add(key(number), value(number)).unwrap());
        load.commit().unwrap();
        db.flush().unwrap();
    } else {
        for number in 0..keys {
            let mut batch = kintsu::WriteBatch::new();
            batch.put(key(number), value(number));
            db.write_with(batch, Durability::Buffered).unwrap();
            if number % 1_000 == 0 {
                while db.step(Job::SyncIdentifiers).unwrap() {}
            }
        }
        db.sync().unwrap();
        while db.step(Job::SyncIdentifiers).unwrap() {}
        // What kill -9 leaves: a close would flush.
        let left = path.with_extension("left");
        fs::create_dir_all(&left).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), left.join(entry.file_name())).unwrap();
        }
        db.close().unwrap();
        fs::remove_dir_all(path).unwrap();
        fs::rename(left, path).unwrap();
        return;
    }
    db.close().unwrap();
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

fn timed<T>(clock: &SystemClock, act: impl FnOnce() -> T) -> Duration {
    let started = clock.elapsed();
    black_box(act());
    clock.elapsed() - started
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    all[all.len() / 2].as_secs_f64()
}

/// Every byte, past the page cache.
fn read_all(files: &[PathBuf]) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for path in files {
        let file = DiskVfs.open(path, Access::ReadDirect).unwrap();
        let mut at = 0;
        loop {
            match file.read_at(&mut buffer, at).unwrap() as u64 {
                0 => break,
                read => at += read,
            }
        }
        bytes += at;
    }
    bytes
}

fn reading(path: &Path) {
    let clock = SystemClock::new();
    let segments = files(path, "segment");
    let bytes: u64 = segments
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    let (mut read, mut verified, mut scrubbed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        read.push(timed(&clock, || read_all(&segments)));
        verified.push(timed(&clock, || {
            let report = kintsu::verify(options(path), |_| {}).unwrap();
            assert!(report.damage.is_empty());
        }));
        let db = options(path).open().unwrap();
        scrubbed.push(timed(&clock, || {
            let report = db.scrub().unwrap();
            assert!(report.damage.is_empty());
        }));
        db.close().unwrap();
    }
    let (read, verified, scrubbed) = (median(read), median(verified), median(scrubbed));
    let mib = bytes as f64 / (1 << 20) as f64;
    println!(
        "reading {mib:.0} MiB of segments past the page cache: {:.0} MiB/s",
        mib / read
    );
    for (name, taken) in [("verify", verified), ("scrub", scrubbed)] {
        println!(
            "{name}: {:.0} MiB/s, {:.2} of it",
            mib / taken,
            read / taken
        );
    }
}

/// Spoils a block; returns what it was.
fn spoil(path: &Path, block: u64) -> Vec<u8> {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut was = vec![0; BLOCK as usize];
    file.read_exact_at(&mut was, block * BLOCK).unwrap();
    file.write_all_at(&[0xa5; BLOCK as usize], block * BLOCK)
        .unwrap();
    was
}

fn put_back(path: &Path, block: u64, was: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(was, block * BLOCK).unwrap();
}

/// The slowest of the keys about a bad block, round by round.
fn healing(path: &Path) {
    let clock = SystemClock::new();
    let segments = files(path, "segment");
    let first = &segments[0];
    let blocks = fs::metadata(first).unwrap().len() / BLOCK;
    let mut taken = Vec::new();
    for round in 0..ROUNDS as u64 {
        let block = blocks / 10 + round * blocks / 10;
        let was = spoil(first, block);
        let db = options(path).open().unwrap();
        let about = block * BLOCK / VALUE_BYTES as u64;
        let near = about.saturating_sub(400)..about + 100;
        let read = |number: u64| {
            timed(&clock, || {
                assert_eq!(db.get(key(number)).unwrap().unwrap(), value(number))
            })
        };
        taken.push(near.map(read).max().unwrap());
        assert!(db.statistics().healed_blocks > 0);
        drop(db);
        put_back(first, block, &was);
    }
    println!(
        "a read of a bad block of 4 KiB: {:.2} ms",
        median(taken) * 1e3
    );
}

fn opening(name: &str, path: &Path, extension: &str) {
    let clock = SystemClock::new();
    let mut files = files(path, extension);
    if extension == "log" {
        // The last MiB of the one that is appended to has no parity yet.
        files.pop();
    }
    let places: Vec<(PathBuf, u64)> = files
        .into_iter()
        .flat_map(|file| {
            let blocks = fs::metadata(&file).unwrap().len() / BLOCK;
            (1..blocks).map(move |block| (file.clone(), block))
        })
        .collect();
    let step = (places.len() as u64 / BAD_BLOCKS).max(1) as usize;
    let chosen: Vec<&(PathBuf, u64)> = places
        .iter()
        .step_by(step)
        .take(BAD_BLOCKS as usize)
        .collect();
    let open = || {
        let mut db: Option<Db> = None;
        let taken = timed(&clock, || {
            db = Some(options(path).read_only(true).open().unwrap())
        });
        (taken, db.unwrap().recovery_report().healed_blocks)
    };
    let (mut whole, mut damaged, mut healed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        whole.push(open().0);
        let was: Vec<Vec<u8>> = chosen
            .iter()
            .map(|(file, block)| spoil(file, *block))
            .collect();
        let (taken, blocks) = open();
        damaged.push(taken);
        healed = blocks;
        for ((file, block), was) in chosen.iter().zip(&was) {
            put_back(file, *block, was);
        }
    }
    let (whole, damaged) = (median(whole), median(damaged));
    println!(
        "opening with {} bad blocks in the {name} ({healed} healed by it): {:.1} ms, {:.2} of the {:.1} ms of the store whole",
        chosen.len(),
        damaged * 1e3,
        damaged / whole,
        whole * 1e3
    );
}
