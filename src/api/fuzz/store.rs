//! Whole stores at rest, damaged as a fuzzer's bytes say.

mod damage;
mod judge;
mod repair;
mod sample;

pub use damage::store_damage;
pub use repair::store_repair;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::sample::Sample;
use super::FOLDER;
use super::model::Model;
use crate::options::Options;
use crate::testing::{Input, ManualClock, MemoryVfs, SeededEntropy, edit_file};

const UNIT: u64 = 4096;

/// A store of which files were damaged, and what it must answer.
struct Damaged {
    disk: MemoryVfs,
    sample: &'static Sample,
    model: Model,
    /// Files that aren't as they were left.
    changed: BTreeSet<String>,
    /// Whether parts of them can't be read.
    is_worn: bool,
}

impl Damaged {
    fn of(input: &mut Input<'_>) -> Self {
        let sample = sample::pick(input);
        let mut damaged = Self {
            disk: sample.disk.fork(),
            model: sample.model.clone(),
            sample,
            changed: BTreeSet::new(),
            is_worn: false,
        };
        for _ in 0..input.below(8) {
            damaged.damage(input);
        }
        damaged
    }

    /// One thing that happens to one file.
    fn damage(&mut self, input: &mut Input<'_>) {
        let mut names = self.disk.file_names(FOLDER);
        names.retain(|name| name != "LOCK");
        if names.is_empty() {
            return;
        }
        let name = &names[input.place(names.len())];
        let path = in_store(name);
        let changed = match input.u8() {
            0..=3 => self.disk.remove_file(&path),
            4..=7 => self.take_for(input, &names, name),
            8..=19 => {
                let bytes = self.disk.file_bytes(&path).unwrap_or(0);
                let at = input.below(bytes);
                self.is_worn = true;
                self.disk.wear_out(&path, at, 1 + input.below(4 * UNIT))
            }
            20..=99 => self.zero_units(input, &path),
            _ => edit_file(input, &self.disk, &path),
        };
        if changed {
            self.changed.insert(name.clone());
        }
    }

    /// A file of the same kind stands in its place.
    fn take_for(&self, input: &mut Input<'_>, names: &[String], name: &str) -> bool {
        let kind = |name: &str| Path::new(name).extension().map(ToOwned::to_owned);
        let alike = names.iter().filter(|other| kind(other) == kind(name));
        let alike: Vec<&String> = alike.collect();
        let other = alike[input.place(alike.len())];
        let bytes = self.disk.read_file(in_store(other)).unwrap_or_default();
        let is_other = self.disk.read_file(in_store(name)).as_ref() != Some(&bytes);
        is_other && self.disk.write_file(in_store(name), bytes)
    }

    /// A run of units is zeros, in what is used of the file.
    fn zero_units(&self, input: &mut Input<'_>, path: &Path) -> bool {
        let Some(mut bytes) = self.disk.read_file(path) else {
            return false;
        };
        let used = bytes.iter().rposition(|byte| *byte != 0);
        let units = used.map_or(0, |at| at / UNIT as usize + 1);
        let from = input.place(units) * UNIT as usize;
        let to = from + (1 + input.place(4)) * UNIT as usize;
        let to = to.min(bytes.len());
        let before = bytes.clone();
        bytes[from.min(to)..to].fill(0);
        before != bytes && self.disk.write_file(path, bytes)
    }

    fn options(&self) -> Options {
        self.options_on(&self.disk)
    }

    /// Those of a process that comes later: with its own randomness, at a time after.
    fn options_on(&self, disk: &MemoryVfs) -> Options {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(60));
        self.sample
            .options()
            .clock(Arc::new(clock))
            .entropy(Arc::new(SeededEntropy::new(0xfeed)))
            .vfs(Arc::new(disk.clone()))
    }

    /// Whether records at the end and their identifiers may both be gone: then nobody can know of them.
    fn may_lose_end(&self) -> bool {
        let numbers = self
            .changed
            .iter()
            .filter_map(|name| name.strip_suffix(".log"));
        numbers
            .into_iter()
            .any(|number| self.changed.contains(&format!("{number}.ids")))
    }

    /// The first record that the store may end with.
    fn floor(&self) -> u64 {
        match (self.changed.is_empty(), self.may_lose_end()) {
            (true, _) => self.model.disk,
            (false, false) => self.model.identified,
            (false, true) => 0,
        }
    }

    /// Every file with its bytes, the lock aside.
    fn files(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        files(&self.disk)
    }
}

fn in_store(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn quarantine() -> PathBuf {
    in_store("quarantine")
}

fn files(disk: &MemoryVfs) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for folder in [PathBuf::from(FOLDER), quarantine()] {
        for name in disk.file_names(&folder) {
            if name != "LOCK" {
                let path = folder.join(name);
                let bytes = disk.read_file(&path);
                all.push((path, bytes));
            }
        }
    }
    all
}
