//! Hostile bytes for the journal and for the scrubber's progress.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must stop the fuzzer"
)]

use std::path::{Path, PathBuf};

use super::{JOURNAL_FILE, JOURNAL_OLD_FILE, Means, Outcome, PROGRESS_FILE, Progress, Repair};
use super::{Repairs, append, read};
use crate::codec::payload_hash;
use crate::testing::{Input, MemoryVfs, edit_file};
use crate::types::SegmentNumber;
use crate::vfs::Vfs;

const FILES: [&str; 4] = [
    "00000001.log",
    "00000007.segment",
    "manifest-00000001.a",
    "x",
];
const OUTCOMES: [Outcome; 2] = [Outcome::Mended, Outcome::Lost];
const MEANS: [Means; 4] = [Means::Parity, Means::Copy, Means::Memory, Means::None];

/// Reads journals made of these bytes: a line that is as it was written is read, whatever happened to the others;
/// no line is read that wasn't written; and one more can be written behind all of them. Progress is as it was
/// written, or nothing.
pub fn journal_reader(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 | 1 => damaged(&mut input),
        2 => forged(&mut input),
        _ => raw(&mut input),
    }
}

fn dir() -> &'static Path {
    Path::new("store")
}

fn path(name: &str) -> PathBuf {
    dir().join(name)
}

fn disk() -> MemoryVfs {
    let disk = MemoryVfs::new();
    disk.create_dir_all(dir()).expect("an empty disk");
    disk
}

fn all(disk: &MemoryVfs) -> Repairs {
    read(disk, dir()).expect("the disk answers")
}

fn repair(input: &mut Input<'_>, time_us: u64) -> Repair {
    let (outcome, means) = (input.pick(&OUTCOMES), input.pick(&MEANS));
    let repair = Repair::new(time_us, outcome, means, input.pick(&FILES));
    let count = match input.u8() {
        kind @ 0..250 => usize::from(kind % 4),
        _ => 100,
    };
    let places: Vec<_> = (0..count)
        .map(|_| (input.number(), input.number()))
        .collect();
    let what = String::from_utf8_lossy(input.bytes(40)).repeat(1 + input.place(3));
    repair.at(places.into_iter()).because(&what)
}

/// Lines that were written, and files that were then changed.
fn damaged(input: &mut Input<'_>) {
    let disk = disk();
    let mut written = Vec::new();
    for time_us in 0..input.below(10) {
        let repair = repair(input, time_us);
        append(&disk, dir(), &repair).expect("the disk answers");
        written.push(repair);
        if input.u8() == 1 {
            // As it is after a MiB.
            let old = disk.read_file(path(JOURNAL_FILE)).unwrap_or_default();
            disk.write_file(path(JOURNAL_OLD_FILE), old);
            disk.remove_file(path(JOURNAL_FILE));
        }
    }
    for _ in 0..input.below(6) {
        let name = input.pick(&[JOURNAL_FILE, JOURNAL_FILE, JOURNAL_OLD_FILE]);
        edit_file(input, &disk, &path(name));
    }
    check(&disk, &written);
    // What comes later stands behind it all, and takes nothing away.
    let before = all(&disk);
    let next = repair(input, 99);
    append(&disk, dir(), &next).expect("the disk answers");
    let mut after = all(&disk);
    assert_eq!(after.repairs.pop(), Some(next), "the line written last");
    assert!(after.repairs.starts_with(&before.repairs), "{after:?}");
    progress(input, &disk);
}

/// Reads what lines must be read by comparing them with those that were written.
fn check(disk: &MemoryVfs, written: &[Repair]) {
    let mut expected = Repairs::default();
    for name in [JOURNAL_OLD_FILE, JOURNAL_FILE] {
        let bytes = disk.read_file(path(name)).unwrap_or_default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
            let is_line =
                |repair: &&Repair| repair.encode().trim_end_matches('\n').as_bytes() == line;
            match written.iter().find(is_line) {
                Some(repair) => expected.repairs.push(repair.clone()),
                None => expected.unreadable_lines += 1,
            }
        }
    }
    assert_eq!(all(disk), expected);
}

fn progress(input: &mut Input<'_>, disk: &MemoryVfs) {
    let progress = Progress {
        finished_us: input.number(),
        started_us: input.number(),
        through: SegmentNumber(input.number()),
        before: SegmentNumber(input.number()),
        bytes: input.number(),
    };
    progress.write(disk, dir()).expect("the disk answers");
    assert_eq!(Progress::read(disk, dir()), progress);
    let expected = match edit_file(input, disk, &path(PROGRESS_FILE)) {
        true => Progress::default(),
        false => progress,
    };
    assert_eq!(Progress::read(disk, dir()), expected);
}

/// Lines that say anything, with a right checksum behind.
fn forged(input: &mut Input<'_>) {
    let disk = disk();
    let mut text = Vec::new();
    let mut lines = 0;
    while !input.is_empty() && lines < 20 {
        let mut line = input.bytes(200).to_vec();
        line.retain(|byte| *byte != b'\n');
        let sum = payload_hash(&line);
        text.extend_from_slice(&line);
        text.extend_from_slice(format!(" #{sum:016x}\n").as_bytes());
        lines += 1;
    }
    disk.write_file(path(JOURNAL_FILE), &text);
    disk.write_file(path(PROGRESS_FILE), &text);
    let found = all(&disk);
    assert_eq!(found.repairs.len() as u64 + found.unreadable_lines, lines);
    for repair in &found.repairs {
        let line = repair.encode();
        let again = Repair::decode(line.trim_end_matches('\n'));
        assert_eq!(again.as_ref(), Some(repair), "said in another way");
    }
    let progress = Progress::read(&disk, dir());
    progress.write(&disk, dir()).expect("the disk answers");
    assert_eq!(Progress::read(&disk, dir()), progress);
}

/// Bytes as they come.
fn raw(input: &mut Input<'_>) {
    let disk = disk();
    let old = input.bytes(200);
    let new = input.rest();
    disk.write_file(path(JOURNAL_OLD_FILE), old);
    disk.write_file(path(JOURNAL_FILE), new);
    disk.write_file(path(PROGRESS_FILE), new);
    let _ = Progress::read(&disk, dir());
    let before = all(&disk);
    let lines = |bytes: &[u8]| {
        let lines = bytes.split(|byte| *byte == b'\n');
        lines.filter(|line| !line.is_empty()).count() as u64
    };
    let count = before.repairs.len() as u64 + before.unreadable_lines;
    assert_eq!(count, lines(old) + lines(new), "every line is counted");
    let next = Repair::new(1, Outcome::Lost, Means::None, "x").because("in the end");
    append(&disk, dir(), &next).expect("the disk answers");
    let mut after = all(&disk);
    assert_eq!(after.repairs.pop(), Some(next), "the line written last");
    assert_eq!(after, before);
}
