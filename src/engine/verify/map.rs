//! What each block of each file is: for a report that shows all of a store at a glance.

use std::path::Path;

use crate::error::{Damage, Error, Result};
use crate::types::UNIT;
use crate::vfs::{Access, Vfs};

/// Read at once, in bytes.
const RUN_BYTES: usize = 1 << 20;
/// Places that a file's map holds at most; what comes behind is in the last of them.
const PLACES_MAX: usize = 10_000;

/// What a part of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockState {
    /// Zeros, kept for what is to come.
    Unused,
    /// Not as it was written; parity or another copy makes up for it.
    Mendable,
    /// Not as it was written, and nothing makes up for it.
    Damaged,
}

/// A part of a file that isn't whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length, in bytes.
    pub bytes: u64,
    /// What it is.
    pub state: BlockState,
    /// What is wrong with it, in words.
    pub what: String,
}

/// One file of a store, and every part of it that isn't whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileMap {
    /// Its name in the folder.
    pub name: String,
    /// Its length in bytes, as it is or as it should be, whichever is more.
    pub bytes: u64,
    /// Whether it is missing.
    pub is_missing: bool,
    /// Ascending; what is in none of them is whole. Two overlap only where two things are wrong with one block.
    pub places: Vec<FilePlace>,
}

impl FileMap {
    pub(super) fn new(path: &Path, bytes: u64) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            name: name.into_owned(),
            bytes,
            ..Self::default()
        }
    }

    /// The file as it is: where there is nothing in it, and what is wrong with it.
    pub(super) fn of(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let file = match vfs.open(path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut map = Self::new(path, 0);
                map.is_missing = true;
                return Ok(map);
            }
            file => file.map_err(|error| Error::io("open", path, error))?,
        };
        let bytes = file.len();
        let bytes = bytes.map_err(|error| Error::io("read the length of", path, error))?;
        let mut map = Self::new(path, bytes);
        let mut buffer = vec![0; RUN_BYTES];
        let mut offset = 0;
        while offset < bytes {
            // What the disk can't read, its room has named, if it is needed.
            let read = file.read_at(&mut buffer, offset).unwrap_or(0);
            if read == 0 {
                offset += RUN_BYTES as u64;
                continue;
            }
            for unit in buffer.get(..read).unwrap_or_default().chunks(UNIT) {
                if unit.iter().all(|byte| *byte == 0) {
                    map.add(offset, unit.len() as u64, BlockState::Unused, "");
                }
                offset += unit.len() as u64;
            }
        }
        Ok(map)
    }

    /// Adds a part; it becomes one with the one before it, if that is the same.
    pub(super) fn add(&mut self, offset: u64, bytes: u64, state: BlockState, what: &str) {
        self.bytes = self.bytes.max(offset.saturating_add(bytes));
        let is_full = self.places.len() >= PLACES_MAX;
        if let Some(last) = self.places.last_mut() {
            let end = last.offset + last.bytes;
            if last.state == state && (last.what == what && end == offset || is_full) {
                last.bytes = last.bytes.max(offset.saturating_add(bytes) - last.offset);
                return;
            }
        }
        self.places.push(FilePlace {
            offset,
            bytes,
            state,
            what: what.to_owned(),
        });
    }

    /// Adds damage by whole blocks.
    pub(super) fn add_damage(&mut self, damage: &Damage, state: BlockState) {
        let unit = UNIT as u64;
        let start = damage.offset - damage.offset % unit;
        let end = damage.offset.saturating_add(damage.bytes.max(1));
        let end = end.next_multiple_of(unit);
        self.add(start, end - start, state, &damage.what);
    }

    pub(super) fn settle(&mut self) {
        self.places.sort_by_key(|place| (place.offset, place.state));
        // Damage is of zeros as well: then it isn't "unused".
        let damaged = self.places.iter().filter(|p| p.state != BlockState::Unused);
        let damaged: Vec<(u64, u64)> = damaged.map(|p| (p.offset, p.offset + p.bytes)).collect();
        self.places.retain(|place| {
            let end = place.offset + place.bytes;
            let is_within = |(from, to): &(u64, u64)| *from <= place.offset && end <= *to;
            place.state != BlockState::Unused || !damaged.iter().any(is_within)
        });
    }
}
