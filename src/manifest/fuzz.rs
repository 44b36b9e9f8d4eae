//! Hostile bytes for the manifest: one with a past, cut short and damaged; and forged ones.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must stop the fuzzer"
)]

mod changes;
mod forged;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use self::changes::{changes, empty_state};
use super::format::path;
use super::{
    Change, Inspected, Manifest, ManifestAccess, ManifestSetup, ManifestState, Part, Side, inspect,
    verify,
};
use crate::error::{Error, Result};
use crate::testing::{FaultVfs, Input, MemoryVfs, SeededEntropy, TearUnit, edit_file};
use crate::vfs::Vfs;

/// The most edits that a run makes.
const EDITS_MAX: u64 = 14;
/// So many bytes may stray into space that should be empty without being taken for a write.
const STRAY_BYTES_MAX: usize = 8;

/// Opens manifests made of these bytes and checks that the state is right or the open refused, and
/// right whenever one copy is whole.
pub fn manifest_reader(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => forged::raw(&mut input),
        1 => forged::frames(&mut input),
        _ => damaged(&mut input),
    }
}

fn dir() -> &'static Path {
    Path::new("store")
}

fn setup(vfs: Arc<dyn Vfs>, access: ManifestAccess) -> ManifestSetup {
    ManifestSetup {
        dir: dir().to_owned(),
        vfs,
        entropy: Arc::new(SeededEntropy::new(7)),
        access,
    }
}

fn open(disk: &MemoryVfs, access: ManifestAccess) -> Result<Manifest> {
    let opened = Manifest::open(setup(Arc::new(disk.clone()), access));
    opened.map(|(manifest, _)| manifest)
}

/// A manifest, and what it has said.
struct Run {
    memory: MemoryVfs,
    faults: FaultVfs,
    manifest: Manifest,
    /// The state after each edit; the number of an edit is its place here plus one.
    states: Vec<ManifestState>,
    /// Set if the last edit was cut short: whether the last state is there isn't known then.
    unsure: bool,
    /// Whether there may be a torn edit in the files: from a crash to the next edit.
    torn: bool,
}

impl Run {
    fn new() -> Self {
        let memory = MemoryVfs::new();
        memory
            .create_dir_all(dir())
            .expect("a simulated disk makes folders");
        let faults = FaultVfs::on_memory(&memory);
        let access = setup(Arc::new(faults.clone()), ManifestAccess::ReadWrite);
        let manifest = Manifest::create(access, empty_state());
        Self {
            memory,
            faults,
            manifest: manifest.expect("a new manifest"),
            states: vec![empty_state()],
            unsure: false,
            torn: false,
        }
    }

    /// The power fails, or the process dies; what was acknowledged is there afterwards.
    fn go_down(&mut self, input: &mut Input<'_>) {
        let unit = input.pick(&[TearUnit::Sector, TearUnit::Page]);
        let power = self.faults.crashed() || input.flag();
        self.memory = match power {
            true => self.memory.crash(u64::from(input.u8()), unit),
            false => self.memory.kill(),
        };
    }

    fn reopen(&mut self) {
        self.faults = FaultVfs::on_memory(&self.memory);
        let setup = setup(Arc::new(self.faults.clone()), ManifestAccess::ReadWrite);
        let (manifest, report) = Manifest::open(setup).expect("nobody has damaged it");
        assert_eq!(report.damage, [], "damage that nobody has done");
        assert!(report.torn_bytes == 0 || self.torn);
        self.settle(&manifest);
        self.manifest = manifest;
    }

    /// Settles whether an edit that was cut short counts.
    fn settle(&mut self, manifest: &Manifest) {
        let (_, sequence) = manifest.position();
        if self.unsure && sequence < self.states.len() as u64 {
            self.states.pop();
        }
        self.unsure = false;
        assert_eq!(
            sequence,
            self.states.len() as u64,
            "another edit is the last"
        );
        assert_eq!(self.states.last(), Some(manifest.state()), "another state");
    }

    fn apply(&mut self, changes: &[Change]) {
        let last = self.states.last().expect("there is one");
        assert_eq!(self.manifest.state(), last);
        let next = last.with(changes);
        let outcome = self.manifest.apply(changes);
        match (outcome, next) {
            (Ok(()), Ok(next)) if changes.is_empty() => assert_eq!(&next, last),
            (Ok(()), Ok(next)) => {
                self.states.push(next);
                self.torn = false;
            }
            (Err(Error::ManifestEdit { .. }), Err(_)) => {}
            (Err(_), Ok(next)) if self.faults.crashed() => {
                self.states.push(next);
                (self.unsure, self.torn) = (true, true);
            }
            (outcome, next) => panic!("{outcome:?}, where {next:?}"),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 8 {
            0 => {
                self.go_down(input);
                self.reopen();
            }
            1 => self.faults.crash_after_changes(input.below(16)),
            _ => {
                let changes = changes(input, self.manifest.state());
                self.apply(&changes);
            }
        }
    }
}

/// A manifest with a past, whose files are then changed.
fn damaged(input: &mut Input<'_>) {
    let mut run = Run::new();
    for _ in 0..input.below(EDITS_MAX) {
        if input.is_empty() {
            break;
        }
        run.step(input);
        if run.unsure {
            // Half of the time the damage comes on top.
            if input.flag() {
                break;
            }
            run.go_down(input);
            run.reopen();
        }
    }
    run.go_down(input);
    let generation = newest(&run.memory);
    let frames = frames(&run.memory, generation);
    let sides = damage(input, &run.memory, generation);
    let disk = &run.memory;
    let before = files(disk);
    let outcome = open(disk, ManifestAccess::ReadWrite);
    let read_only = open(disk, ManifestAccess::ReadOnly);
    assert!(files(disk) == before, "an open has changed files");
    look_around(disk);
    let manifest = match (outcome, read_only) {
        (Ok(manifest), Ok(other)) => {
            assert_eq!(manifest.state(), other.state(), "as a reader sees it");
            manifest
        }
        (Err(Error::Damaged(damage)), Err(Error::Damaged(_))) => {
            assert!(!damage.is_empty());
            let traces = written_from(disk, generation, frames.end) > STRAY_BYTES_MAX;
            let excused = sides.len() == 2
                || sides.contains(&Side::B) && traces
                || run.torn && !sides.is_empty();
            assert!(excused, "refused, though a copy is whole: {damage:?}");
            return;
        }
        (one, other) => panic!("a writer gets {one:?}, a reader {other:?}"),
    };
    check(&run, &frames, &sides, generation, &manifest);
    go_on(disk.clone(), manifest);
}

/// Where the frames of the newest generation end, before the damage.
struct Frames {
    /// The number of the last edit in each, and where it ends.
    ends: Vec<(u64, usize)>,
    end: usize,
}

fn frames(disk: &MemoryVfs, generation: u64) -> Frames {
    let mut ends = Vec::new();
    let shown = inspect(disk, dir(), &mut |part: Inspected| {
        if part.generation == generation && part.side == Side::A {
            let end = (part.offset + part.bytes) as usize;
            match part.part {
                Part::State { sequence, .. } | Part::Edit { sequence, .. } => {
                    ends.push((sequence, end));
                }
                _ => {}
            }
        }
    });
    shown.expect("a manifest can be looked at");
    let end = ends.last().map_or(0, |last| last.1);
    Frames { ends, end }
}

/// The state must be the last; or, if both copies were damaged, one after which B shows no trace of an
/// edit, since then nothing tells that there was one.
fn check(run: &Run, frames: &Frames, sides: &BTreeSet<Side>, generation: u64, manifest: &Manifest) {
    let sequence = manifest.position().1;
    let last = run.states.len() as u64;
    let said = run.states.get(sequence as usize - 1);
    assert_eq!(
        said,
        Some(manifest.state()),
        "a state that never was, as edit {sequence}"
    );
    // An edit that was cut short stands in A alone, if it counts, until the next one.
    let unsure = u64::from(run.unsure || run.torn && !sides.is_empty());
    if sequence >= last - unsure {
        return;
    }
    assert!(
        sides.len() == 2 || unsure == 1 && !sides.is_empty(),
        "edit {sequence} instead of {last}, and a copy is whole"
    );
    let end = frames.ends.iter().find(|(number, _)| *number == sequence);
    let (_, end) = end.expect("it was in the file");
    let traces = written_from(&run.memory, generation, *end);
    assert!(
        traces <= STRAY_BYTES_MAX,
        "edit {sequence} instead of {last}, and B has {traces} bytes after it"
    );
}

/// How many bytes other than zero are in B from a place on.
fn written_from(disk: &MemoryVfs, generation: u64, offset: usize) -> usize {
    let bytes = disk.read_file(path(dir(), generation, Side::B));
    let bytes = bytes.unwrap_or_default();
    let rest = bytes.get(offset..).unwrap_or_default();
    rest.iter().filter(|byte| **byte != 0).count()
}

fn newest(disk: &MemoryVfs) -> u64 {
    let listing = super::reading::list_store(disk, dir()).expect("a store");
    let newest = listing.generations.last_key_value();
    *newest.expect("a generation").0
}

/// Does what the input says to the copies of a generation; says which it has changed.
fn damage(input: &mut Input<'_>, disk: &MemoryVfs, generation: u64) -> BTreeSet<Side> {
    let mut sides = BTreeSet::new();
    for _ in 0..input.below(5) {
        let side = input.pick(&[Side::A, Side::B]);
        let path = path(dir(), generation, side);
        // Without either copy an older generation is the newest.
        let remove = input.u8() == 1 && sides.iter().all(|other| *other == side);
        let changed = match remove {
            true => disk.remove_file(&path),
            false => edit_file(input, disk, &path),
        };
        if changed {
            sides.insert(side);
        }
    }
    sides
}

/// Every file with its bytes.
fn files(disk: &MemoryVfs) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.file_names(dir()).into_iter();
    names
        .map(|name| {
            let bytes = disk.read_file(dir().join(&name));
            (name, bytes)
        })
        .collect()
}

/// Those who look at it come to an end, and see parts that follow each other.
fn look_around(disk: &MemoryVfs) {
    let _ = verify(disk, dir());
    let mut last = None;
    let shown = inspect(disk, dir(), &mut |part| {
        let file = (part.generation, part.side);
        let expected = match last {
            Some((other, end)) if other == file => end,
            _ => 0,
        };
        assert_eq!(part.offset, expected, "a gap between parts");
        last = Some((file, part.offset + part.bytes));
    });
    match shown {
        Ok(()) | Err(Error::NotAStore { .. } | Error::Damaged(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The next edit mends everything, and is there afterwards.
fn go_on(disk: MemoryVfs, mut manifest: Manifest) {
    let changes = [Change::NextSegment(manifest.state().next_segment)];
    let expected = manifest.state().clone();
    let (generation, sequence) = manifest.position();
    match manifest.apply(&changes) {
        Ok(()) => {}
        Err(Error::ManifestEdit { .. }) if generation.max(sequence) == u64::MAX => return,
        Err(error) => panic!("{error}"),
    }
    for disk in [disk.kill(), disk.crash(3, TearUnit::Sector)] {
        let setup = setup(Arc::new(disk), ManifestAccess::ReadWrite);
        let (manifest, report) = Manifest::open(setup).expect("it was mended");
        assert_eq!(report.damage, [], "it was mended");
        assert_eq!(manifest.state(), &expected);
        assert_eq!(manifest.position(), (generation + 1, sequence + 1));
    }
}
