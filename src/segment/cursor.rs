//! A cursor over a segment. Seeks and short walks go through the block cache; a walk of several blocks
//! reads ahead, many blocks at a time, and leaves the cache to those who come back.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::block::{Block, Decoded};
use super::block_cursor::BlockCursor;
use super::format::Extent;
use super::index::BlockIndex;
use super::reader::Segment;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::types::{Entry, Index, Version};

/// Blocks walked one after the other before a cursor reads ahead.
const STEPS_BEFORE_READING_AHEAD: u32 = 2;
/// What is read ahead at first, in bytes; doubled from read to read.
const AHEAD_BYTES_MIN: u64 = 64 << 10;
/// The most that is read ahead, in bytes.
const AHEAD_BYTES_MAX: u64 = 256 << 10;

/// Which way a cursor goes from block to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Neighbouring blocks as one read brought them, not yet verified.
#[derive(Debug, Default)]
struct Window {
    blocks: Range<usize>,
    offset: u64,
    bytes: Vec<u8>,
}

/// A place in a segment. Made by [`Segment::cursor`].
pub struct SegmentCursor {
    segment: Arc<Segment>,
    /// Held from the first seek on, wherever else it is kept.
    index: Option<Arc<BlockIndex>>,
    number: usize,
    block: Option<Block>,
    place: BlockCursor,
    /// Blocks entered one after the other in `direction`, since the last seek.
    steps: u32,
    direction: Direction,
    ahead_bytes: u64,
    window: Window,
}

impl fmt::Debug for SegmentCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentCursor")
            .field("segment", &self.segment)
            .field("entry", &self.entry())
            .finish_non_exhaustive()
    }
}

impl SegmentCursor {
    /// The segment that it walks.
    #[must_use]
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self {
            segment,
            index: None,
            number: 0,
            block: None,
            place: BlockCursor::default(),
            steps: 0,
            direction: Direction::Forward,
            ahead_bytes: AHEAD_BYTES_MIN,
            window: Window::default(),
        }
    }

    /// The index, to begin a seek with.
    #[inline]
    fn index(&mut self) -> Result<&BlockIndex> {
        match &mut self.index {
            Some(index) => Ok(index),
            none => {
                let index = self.segment.index().inspect_err(|_| self.block = None)?;
                Ok(none.insert(index))
            }
        }
    }

    /// How many blocks there are, as far as a seek has found out.
    fn blocks(&self) -> usize {
        self.index.as_ref().map_or(0, |index| index.blocks())
    }

    /// Where a block lies; nowhere past the last.
    fn extent(&self, number: usize) -> Extent {
        let extent = self.index.as_ref().and_then(|index| index.extent(number));
        extent.unwrap_or_default()
    }

    /// Enters a block that a seek chose.
    fn enter(&mut self, number: usize) -> Result<()> {
        self.block = None;
        self.steps = 0;
        self.ahead_bytes = AHEAD_BYTES_MIN;
        let block = self.segment.block(self.extent(number))?;
        self.place.reset(&block);
        self.block = Some(block);
        self.number = number;
        Ok(())
    }

    /// Enters the block next to this one.
    fn step(&mut self, number: usize, direction: Direction) -> Result<()> {
        self.block = None;
        if self.direction != direction {
            self.direction = direction;
            self.steps = 0;
            self.ahead_bytes = AHEAD_BYTES_MIN;
        }
        self.steps = self.steps.saturating_add(1);
        let block = if self.steps <= STEPS_BEFORE_READING_AHEAD {
            self.segment.block(self.extent(number))?
        } else {
            self.block_ahead(number)?
        };
        self.place.reset(&block);
        self.block = Some(block);
        self.number = number;
        Ok(())
    }

    /// A block of a long walk: from the cache, the window, or a new window.
    fn block_ahead(&mut self, number: usize) -> Result<Block> {
        let place = self.extent(number);
        if let Some(block) = self.segment.cached_block(place) {
            return Ok(block);
        }
        if !self.window.blocks.contains(&number) {
            self.window.blocks = 0..0;
            if place.bytes >= self.ahead_bytes {
                return self.segment.read_block(place);
            }
            if self.fill_window(number).is_err() {
                // What can't be read may be a neighbour.
                self.window.blocks = 0..0;
                return self.segment.read_block(place);
            }
        }
        let start = usize::try_from(place.offset.saturating_sub(self.window.offset)).unwrap_or(0);
        let section = self.window.bytes.get(start..start + place.bytes as usize);
        // A copy, so that a value which someone keeps holds one block in memory, not a window.
        let section = Cow::Borrowed(section.unwrap_or_default());
        self.segment.file.verified_block(place, Ok(section))
    }

    /// Reads block `number` and as many as fit of those behind it in the walk's direction.
    fn fill_window(&mut self, number: usize) -> Result<()> {
        let wanted = self.extent(number);
        let index = self.index.as_deref();
        let (mut first, mut last) = (number, number);
        let (mut start, mut end) = (wanted.offset, wanted.end());
        loop {
            let neighbour = match self.direction {
                Direction::Forward => last.checked_add(1),
                Direction::Backward => first.checked_sub(1),
            };
            let Some((neighbour, place)) =
                neighbour.and_then(|number| Some((number, index?.extent(number)?)))
            else {
                break;
            };
            let (new_start, new_end) = (start.min(place.offset), end.max(place.end()));
            if new_end - new_start > self.ahead_bytes {
                break;
            }
            (start, end) = (new_start, new_end);
            (first, last) = (first.min(neighbour), last.max(neighbour));
        }
        self.window.bytes.resize((end - start) as usize, 0);
        self.segment.file.read_into(&mut self.window.bytes, start)?;
        self.window.offset = start;
        self.window.blocks = first..last + 1;
        self.ahead_bytes = (self.ahead_bytes * 2).min(AHEAD_BYTES_MAX);
        Ok(())
    }

    /// Runs a move within the block; damage leaves the cursor nowhere.
    fn in_block(
        &mut self,
        go: impl FnOnce(&mut BlockCursor, &Block) -> Decoded<bool>,
    ) -> Result<bool> {
        let Some(block) = &self.block else {
            return Ok(false);
        };
        let moved = go(&mut self.place, block);
        let Ok(moved) = moved else {
            self.block = None;
            return self.segment.checked(self.extent(self.number), moved);
        };
        Ok(moved)
    }

    /// Goes to the first entry of the block after this one, or nowhere.
    #[cold]
    fn next_block(&mut self) -> Result<()> {
        let number = self.number + 1;
        if number >= self.blocks() {
            self.block = None;
            return Ok(());
        }
        self.step(number, Direction::Forward)?;
        self.in_block(BlockCursor::next).map(drop)
    }

    /// Goes to the last entry of the block before this one, or nowhere.
    #[cold]
    fn previous_block(&mut self) -> Result<()> {
        let Some(number) = self.number.checked_sub(1) else {
            self.block = None;
            return Ok(());
        };
        self.step(number, Direction::Backward)?;
        self.in_block(BlockCursor::seek_to_last).map(drop)
    }

    /// [`Cursor::seek`] by the versions in the file.
    fn seek_stored(&mut self, key: &[u8], version: Version) -> Result<()> {
        let number = self.index()?.find(key, version);
        if number >= self.blocks() {
            self.block = None;
            return Ok(());
        }
        self.enter(number)?;
        if self.in_block(|place, block| place.seek(block, key, version))? {
            return Ok(());
        }
        self.next_block()
    }
}

impl Cursor for SegmentCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        if self.index()?.blocks() == 0 {
            return Ok(());
        }
        self.enter(0)?;
        self.in_block(BlockCursor::next).map(drop)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let Some(last) = self.index()?.blocks().checked_sub(1) else {
            return Ok(());
        };
        self.enter(last)?;
        self.in_block(BlockCursor::seek_to_last).map(drop)
    }

    fn seek(&mut self, key: &[u8], version: Version) -> Result<()> {
        let meta = self.segment.meta();
        if meta.loaded_at > Index(0) {
            // It has one version of each key: at or after this one, or before it.
            let is_older = meta.loaded_at > version.index;
            self.seek_stored(key, Version::MAX)?;
            if is_older && self.entry().is_some_and(|entry| entry.key == key) {
                self.next()?;
            }
            return Ok(());
        }
        self.seek_stored(key, version)
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let number = self.index()?.find(key, Version::MAX);
        if number >= self.blocks() {
            return self.seek_to_last();
        }
        self.enter(number)?;
        if self.in_block(|place, block| place.seek(block, key, Version::MAX))? {
            return self.prev();
        }
        self.in_block(BlockCursor::seek_to_last).map(drop)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if self.block.is_none() || self.in_block(BlockCursor::next)? {
            return Ok(());
        }
        self.next_block()
    }

    fn prev(&mut self) -> Result<()> {
        if self.block.is_none() || self.in_block(BlockCursor::prev)? {
            return Ok(());
        }
        self.previous_block()
    }

    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        let entry = self.place.entry(self.block.as_ref()?)?;
        let version = self.segment.meta().version(entry.version);
        Some(Entry { version, ..entry })
    }

    fn value(&self) -> Bytes {
        match &self.block {
            Some(block) if self.entry().is_some() => block.shared_slice(self.place.value_range()),
            _ => Bytes::new(),
        }
    }
}
