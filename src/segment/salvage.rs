//! What can still be read of a segment file by itself: with no manifest, and without its index if need be.
//!
//! Blocks say by themselves what they are and how long, under a checksum seeded with the file's id and
//! their offset. So they are found one behind the other, and behind damage by looking for the next one.

mod survey;

use std::borrow::Cow;
use std::path::Path;

use super::block::Block;
use super::block_cursor::BlockCursor;
use super::file::SegmentFile;
use super::format::{Extent, Identity};
use super::index::BlockIndex;
use super::properties::Properties;
use crate::error::{Damage, Error, Result};
use crate::types::{Entry, Index, RangeDelete, SegmentMeta, SegmentNumber, Version, order};
use crate::vfs::Vfs;

/// A part of a segment that can't be read, and between which keys what it held lies: from `from` to `to`, both
/// included; `None`: nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPart {
    /// Where, and why.
    pub damage: Damage,
    /// No key that is lost is smaller.
    pub from: Option<Vec<u8>>,
    /// No key that is lost is larger.
    pub to: Option<Vec<u8>>,
}

/// A place where blocks are, or were.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Block(Extent),
    /// Where blocks may have been, and why they aren't.
    Gap(Extent, &'static str),
}

/// A segment file that may be damaged in any way, walked from its first block to its last.
pub struct Wreck {
    pub(super) file: SegmentFile,
    pub(super) number: SegmentNumber,
    pub(super) identity: Option<Identity>,
    pub(super) properties: Option<Properties>,
    pub(super) index: Option<BlockIndex>,
    pub(super) places: Vec<Place>,
    /// What the manifest says, if there is one.
    pub(super) known: Option<SegmentMeta>,
    pub(super) loaded_at: Index,
    pub(super) lost: Vec<LostPart>,
    /// Parts of `lost` at its end that wait for the key behind them.
    waiting: usize,
    at: usize,
    block: Option<Block>,
    cursor: BlockCursor,
    /// The entry that was shown last.
    last: Option<(Vec<u8>, Version)>,
}

impl Wreck {
    /// Opens the file as far as it can be. Reads all of it if its index can't be read, else only what stands
    /// around the blocks. `known` is what the manifest says of it, if there is one.
    ///
    /// # Errors
    /// `Io` if it can't be opened (of kind `NotFound` if it is missing), `NewerFormat`, `FeatureMissing`.
    pub fn open(
        vfs: &dyn Vfs,
        path: &Path,
        number: SegmentNumber,
        known: Option<&SegmentMeta>,
    ) -> Result<Self> {
        survey::open(vfs, path, number, known)
    }

    pub(super) fn new(file: SegmentFile, number: SegmentNumber) -> Self {
        Self {
            file,
            number,
            identity: None,
            properties: None,
            index: None,
            places: Vec::new(),
            known: None,
            loaded_at: Index(0),
            lost: Vec::new(),
            waiting: 0,
            at: 0,
            block: None,
            cursor: BlockCursor::default(),
            last: None,
        }
    }

    /// The number in its name.
    #[must_use]
    pub fn number(&self) -> SegmentNumber {
        self.number
    }

    /// Whose file it is, if header or footer can be read.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Counts and bounds, if they can be read.
    #[must_use]
    pub fn properties(&self) -> Option<&Properties> {
        self.properties.as_ref()
    }

    /// Its range deletions, as far as they can be read.
    pub fn range_deletes(&self) -> impl Iterator<Item = &RangeDelete> {
        self.properties.iter().flat_map(|p| &p.range_deletes)
    }

    /// What can't be read, of what has been walked so far.
    #[must_use]
    pub fn lost(&self) -> &[LostPart] {
        &self.lost
    }

    /// The lowest and the highest index of its versions, as far as anything tells.
    #[must_use]
    pub fn indexes(&self) -> (Index, Index) {
        if self.loaded_at > Index(0) {
            return (self.loaded_at, self.loaded_at);
        }
        if let Some(known) = &self.known {
            return (known.smallest_index, known.largest_index);
        }
        let Some(properties) = &self.properties else {
            return (Index(0), Index(u64::MAX));
        };
        let mut meta = SegmentMeta::default();
        properties.bound(&mut meta);
        (meta.smallest_index, meta.largest_index)
    }

    /// All its versions have this index, whatever the file says.
    pub fn set_loaded_at(&mut self, index: Index) {
        self.loaded_at = index;
    }

    /// The entry that the walk is at: none before the first [`Self::next`], and after the last.
    #[must_use]
    pub fn entry(&self) -> Option<Entry<'_>> {
        let mut entry = self.cursor.entry(self.block.as_ref()?)?;
        if self.loaded_at > Index(0) {
            entry.version.index = self.loaded_at;
        }
        Some(entry)
    }

    /// Goes on to the next entry that can be read, in table order.
    ///
    /// # Errors
    /// `FeatureMissing` only; what can't be read is in [`Self::lost`].
    pub fn next(&mut self) -> Result<()> {
        loop {
            if self.step_in_block() {
                return Ok(());
            }
            self.block = None;
            let Some(place) = self.places.get(self.at).cloned() else {
                self.end();
                return Ok(());
            };
            self.at += 1;
            match place {
                Place::Gap(place, what) => self.lose(place, what.into()),
                Place::Block(place) => self.enter(place)?,
            }
        }
    }

    fn enter(&mut self, place: Extent) -> Result<()> {
        let read = self.file.read(place).map(Cow::Owned);
        match self.file.verified_block(place, read) {
            Ok(block) => {
                self.cursor = BlockCursor::default();
                self.cursor.reset(&block);
                self.block = Some(block);
            }
            Err(error @ Error::FeatureMissing { .. }) => return Err(error),
            Err(Error::Damaged(damage)) => {
                let what = damage.first().map(|damage| damage.what.clone());
                self.lose(place, what.unwrap_or_default());
            }
            Err(error) => self.lose(place, format!("could not be read: {error}")),
        }
        Ok(())
    }

    /// Whether there is another entry in this block, which is then at hand.
    fn step_in_block(&mut self) -> bool {
        let Some(block) = &self.block else {
            return false;
        };
        let stepped = self.cursor.next(block);
        let place = match self.at.checked_sub(1).and_then(|at| self.places.get(at)) {
            Some(Place::Block(place) | Place::Gap(place, _)) => *place,
            None => Extent::default(),
        };
        match stepped {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) => {
                self.lose(place, "malformed under a good checksum".into());
                return false;
            }
        }
        let Some(entry) = self.cursor.entry(block) else {
            return false;
        };
        let ascends = self.last.as_ref().is_none_or(|(key, version)| {
            order(key, *version, entry.key, entry.version) == std::cmp::Ordering::Less
        });
        if !ascends {
            self.lose(place, "its keys don't come behind those before it".into());
            return false;
        }
        let waiting = self.lost.len() - self.waiting;
        for lost in self.lost.iter_mut().skip(waiting) {
            lost.to.get_or_insert_with(|| entry.key.to_vec());
        }
        self.waiting = 0;
        let (key, version) = self.last.get_or_insert_default();
        key.clear();
        key.extend_from_slice(entry.key);
        *version = entry.version;
        true
    }

    fn lose(&mut self, place: Extent, what: String) {
        let number = self.index.as_ref().map(|_| self.at - 1);
        let bound = |number: Option<usize>| {
            let index = self.index.as_ref()?;
            let number = number.filter(|number| *number < index.blocks())?;
            Some(index.key(number).to_vec())
        };
        let (smallest, largest) = self.bounds();
        let before = number.and_then(|number| bound(number.checked_sub(1)));
        let from = before.or_else(|| self.last.as_ref().map(|(key, _)| key.clone()));
        let to = bound(number);
        self.waiting = if to.is_some() { 0 } else { self.waiting + 1 };
        self.lost.push(LostPart {
            damage: self.file.damage(place, what),
            from: from.or(smallest),
            to: to.map(|to| largest.filter(|largest| *largest < to).unwrap_or(to)),
        });
    }

    /// The smallest and the largest key of an entry, if they are known.
    fn bounds(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        if let Some(properties) = &self.properties {
            let (smallest, largest) = (&properties.smallest_key, &properties.largest_key);
            return (Some(smallest.clone()), Some(largest.clone()));
        }
        let Some(known) = &self.known else {
            return (None, None);
        };
        let largest = Some(known.largest_key.clone()).filter(|_| !known.is_endless);
        (Some(known.smallest_key.clone()), largest)
    }

    /// Nothing comes behind what still waits for a key.
    fn end(&mut self) {
        let (_, largest) = self.bounds();
        let waiting = self.lost.len() - self.waiting;
        for lost in self.lost.iter_mut().skip(waiting) {
            lost.to.clone_from(&largest);
        }
        self.waiting = 0;
    }
}
