//! The fuzz targets on every seed of their corpus, on changed seeds, and on random bytes: so that
//! every test run goes through what the fuzzers go through, if only for a moment.
//!
//! `KINTSU_SEED=…` runs one of the made-up inputs alone; `KINTSU_CAMPAIGN_SCALE=…` makes so many times
//! more of them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use kintsu::fuzzing::{
    engine_ops, journal_reader, manifest_reader, parity_heal, segment_reader, snapshot_files,
    store_damage, store_repair, wal_recovery,
};
use kintsu::testing::SeededRng;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of a target, by name. A package as published has none.
fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("fuzz/corpus").join(target);
    if !root.join("fuzz").exists() {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).unwrap();
    let mut seeds: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("seed-")
        })
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    seeds.sort();
    assert!(seeds.len() > 9, "the corpus of {target} is gone");
    seeds
}

/// Says which input it was if a check panics.
struct Context<'a>(&'a str, &'a dyn std::fmt::Debug);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{} fails on {:?}", self.0, self.1);
        }
    }
}

/// A seed with a few bytes changed, moved or cut off; now and then nothing but random bytes.
fn changed(rng: &mut SeededRng, seeds: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let Some((_, seed)) = rng.pick(seeds).filter(|_| rng.clone().below(5) > 0) else {
        let length = rng.between(1, 600);
        return rng.bytes(length as usize);
    };
    let mut input = seed.clone();
    for _ in 0..rng.between(1, 6) {
        let at = rng.below(input.len() as u64 + 1) as usize;
        let other = rng
            .pick(seeds)
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default();
        match rng.below(6) {
            0 | 1 if at < input.len() => input[at] = rng.next_u64() as u8,
            2 => input.insert(at, rng.next_u64() as u8),
            3 => drop(input.drain(at..input.len().min(at + rng.between(1, 8) as usize))),
            4 => input
                .splice(at.., other.iter().skip(at).copied())
                .for_each(drop),
            _ if at < input.len() => input[at] ^= 1 << rng.below(8),
            _ => {}
        }
    }
    input
}

fn campaign(target: &str, run: fn(&[u8]), rounds: u64) {
    let seeds = seeds(target);
    let only = environment("KINTSU_SEED");
    for (path, seed) in seeds.iter().filter(|_| only.is_none()) {
        let _context = Context(target, &path);
        run(seed);
    }
    let rounds = match only {
        Some(round) => round..round + 1,
        None => 0..rounds * environment("KINTSU_CAMPAIGN_SCALE").unwrap_or(1),
    };
    for round in rounds {
        let _context = Context(target, &("KINTSU_SEED", round));
        run(&changed(&mut SeededRng::new(round), &seeds));
    }
}

#[test]
fn wal_recovery_holds() {
    campaign("wal_recovery", wal_recovery, 3_000);
}

#[test]
fn segment_reader_holds() {
    campaign("segment_reader", segment_reader, 4_000);
}

#[test]
fn manifest_reader_holds() {
    campaign("manifest_reader", manifest_reader, 2_000);
}

#[test]
fn snapshot_files_holds() {
    campaign("snapshot_files", snapshot_files, 8_000);
}

#[test]
fn engine_ops_holds() {
    campaign("engine_ops", engine_ops, 1_500);
}

#[test]
fn parity_heal_holds() {
    campaign("parity_heal", parity_heal, 1_000);
}

#[test]
fn journal_reader_holds() {
    campaign("journal_reader", journal_reader, 4_000);
}

#[test]
fn store_damage_holds() {
    campaign("store_damage", store_damage, 400);
}

#[test]
fn store_repair_holds() {
    campaign("store_repair", store_repair, 200);
}
