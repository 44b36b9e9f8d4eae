//! What the archive notes of records that load segments. The note is there before the record, and with it the
//! segments; so whoever finds the record finds them, and a prune knows what to keep without reading the log.

use std::path::PathBuf;

use crate::error::{Damage, Error, Result};
use crate::snapshot::files::read;
use crate::snapshot::format::{Kind, LoadContent, SegmentContent, decode};
use crate::types::{Index, STRAY_NUMBER_MIN, SegmentNumber};

use super::{LOG, Listed, Repository, parse_number};

impl Repository {
    /// The file that notes which segments a record of a volume loads.
    #[must_use]
    pub fn load_path(&self, volume: u64, index: Index) -> PathBuf {
        let name = format!("{volume:08}.{:08}.load", index.0);
        self.dir.join(LOG).join(name)
    }

    /// Adds what a record loads to the archive, ahead of the record: the segments that are missing, from the
    /// paths given with them, then the note that names them, each durable. The caller holds the lock, and
    /// `go_on` is asked before each segment.
    ///
    /// # Errors
    /// As [`Repository::add_segments`].
    pub fn add_load(
        &self,
        volume: u64,
        index: Index,
        segments: &[(SegmentContent, PathBuf)],
        go_on: impl Fn() -> Result<()>,
    ) -> Result<()> {
        self.add_segments(segments, go_on, |_| Ok(false))?;
        let content = LoadContent {
            volume,
            index,
            segments: segments.iter().map(|(segment, _)| *segment).collect(),
        };
        let bytes = content.encode(self.store_id);
        self.publish(LOG, &self.load_path(volume, index), &bytes)
    }

    /// Every note of a load there is, those that can't be read included, each with the number of its volume.
    ///
    /// # Errors
    /// What the disk answers to the listing.
    pub fn loads(&self) -> Result<Vec<Listed<LoadContent>>> {
        let entries = self.list(LOG)?;
        let files = entries.iter().filter(|entry| !entry.is_dir);
        let places = files.filter_map(|entry| place_of(&entry.name));
        let mut loads: Vec<_> = places
            .map(|(volume, index)| Listed {
                number: volume,
                path: self.load_path(volume, index),
                content: self.load(volume, index),
            })
            .collect();
        loads.sort_by_key(|load| load.number);
        Ok(loads)
    }

    /// What is noted of a record.
    ///
    /// # Errors
    /// `Damaged`, `ForeignFile`, `NewerFormat`, or what the disk answers.
    pub fn load(&self, volume: u64, index: Index) -> Result<LoadContent> {
        let path = self.load_path(volume, index);
        let bytes = read(&*self.vfs, &path)?;
        let store_id = Some(self.store_id);
        let content = decode(&path, Kind::Load, index.0, store_id, &bytes, |reader| {
            LoadContent::take(reader, index)
        })?;
        if content.volume == volume {
            return Ok(content);
        }
        let what = "it is another file under this name";
        let damage = Damage::new(&path, 0, bytes.len() as u64, what);
        Err(Error::damaged(damage))
    }

    /// A number for segments of a restored store above all that archived records may bring, as far as the
    /// notes of them can be read.
    ///
    /// # Errors
    /// What the disk answers to the listing.
    pub fn number_above_loads(&self) -> Result<SegmentNumber> {
        let loads = self.loads()?.into_iter();
        let contents = loads.filter_map(|load| load.content.ok());
        let numbers = contents.flat_map(|load| load.segments.into_iter().map(|s| s.number.0));
        let highest = numbers.filter(|number| *number < STRAY_NUMBER_MIN);
        Ok(SegmentNumber(highest.max().map_or(0, |number| number + 1)))
    }
}

/// The volume and the record in a name like `00000002.00000123.load`.
fn place_of(name: &str) -> Option<(u64, Index)> {
    let stem = name.strip_suffix(".load")?;
    let (volume, index) = stem.split_once('.')?;
    Some((parse_number(volume)?, Index(parse_number(index)?)))
}
