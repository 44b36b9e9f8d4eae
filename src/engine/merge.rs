//! Many sorted tables walked as one, in one direction.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::cursor::Cursor;
use crate::engine::tree::TreeState;
use crate::error::Result;
use crate::memtable::MemtableCursor;
use crate::segment::{Segment, SegmentCursor};
use crate::types::{Entry, Index, Version};

/// One table of the merge.
pub(crate) enum Source {
    Memtable(MemtableCursor),
    Segment(SegmentCursor),
    Level(LevelCursor),
}

macro_rules! each {
    ($source:expr, $cursor:ident => $body:expr) => {
        match $source {
            Source::Memtable($cursor) => $body,
            Source::Segment($cursor) => $body,
            Source::Level($cursor) => $body,
        }
    };
}

impl Source {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        each!(self, cursor => cursor.entry())
    }

    /// No version in it is newer; `None` if that isn't known.
    fn newest(&self) -> Option<Index> {
        match self {
            Self::Memtable(_) => None,
            Self::Segment(cursor) => Some(cursor.segment().meta().largest_index),
            Self::Level(cursor) => {
                let segments = cursor.segments.iter();
                segments.map(|s| s.meta().largest_index).max()
            }
        }
    }
}

/// A level of disjoint segments as one table.
pub(crate) struct LevelCursor {
    segments: Vec<Arc<Segment>>,
    /// The segment that `cursor` is in.
    at: usize,
    cursor: Option<SegmentCursor>,
}

impl LevelCursor {
    pub(crate) fn new(segments: Vec<Arc<Segment>>) -> Self {
        Self {
            segments,
            at: 0,
            cursor: None,
        }
    }

    fn enter(&mut self, at: usize) -> Option<&mut SegmentCursor> {
        let segment = self.segments.get(at)?;
        if self.cursor.is_none() || self.at != at {
            self.cursor = Some(segment.cursor());
            self.at = at;
        }
        self.cursor.as_mut()
    }

    fn is_nowhere(&self) -> bool {
        self.cursor
            .as_ref()
            .is_none_or(|cursor| cursor.entry().is_none())
    }

    /// Goes on to later segments until one has an entry.
    fn skip_forward(&mut self) -> Result<()> {
        while self.is_nowhere() {
            match self.enter(self.at + 1) {
                Some(cursor) => cursor.seek_to_first()?,
                None => break,
            }
        }
        Ok(())
    }

    fn skip_back(&mut self) -> Result<()> {
        while self.is_nowhere() && self.at > 0 {
            match self.enter(self.at - 1) {
                Some(cursor) => cursor.seek_to_last()?,
                None => break,
            }
        }
        Ok(())
    }
}

impl Cursor for LevelCursor {
    fn seek_to_first(&mut self) -> Result<()> {
        match self.enter(0) {
            Some(cursor) => cursor.seek_to_first()?,
            None => return Ok(()),
        }
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        match self.enter(self.segments.len().wrapping_sub(1)) {
            Some(cursor) => cursor.seek_to_last()?,
            None => return Ok(()),
        }
        self.skip_back()
    }

    fn seek(&mut self, key: &[u8], version: Version) -> Result<()> {
        let at = self.segments.partition_point(|s| s.meta().is_before(key));
        match self.enter(at) {
            Some(cursor) => cursor.seek(key, version)?,
            None => {
                self.cursor = None;
                return Ok(());
            }
        }
        self.skip_forward()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        let after = self
            .segments
            .partition_point(|s| s.meta().smallest_key.as_slice() < key);
        match self.enter(after.wrapping_sub(1)) {
            Some(cursor) => cursor.seek_before(key)?,
            None => {
                self.cursor = None;
                return Ok(());
            }
        }
        self.skip_back()
    }

    fn next(&mut self) -> Result<()> {
        if self.is_nowhere() {
            return Ok(());
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.next()?;
        }
        self.skip_forward()
    }

    fn prev(&mut self) -> Result<()> {
        if self.is_nowhere() {
            return Ok(());
        }
        if let Some(cursor) = &mut self.cursor {
            cursor.prev()?;
        }
        self.skip_back()
    }

    fn entry(&self) -> Option<Entry<'_>> {
        self.cursor.as_ref()?.entry()
    }

    fn value(&self) -> Bytes {
        self.cursor.as_ref().map(Cursor::value).unwrap_or_default()
    }
}

/// Which way a merge walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// A merge of sources: a binary heap of their cursors, the next entry on top.
pub(crate) struct Merge {
    sources: Vec<Source>,
    /// Positions in `sources` of those that have an entry, as a binary heap.
    heap: Vec<usize>,
    direction: Direction,
}

impl Merge {
    pub(crate) fn new(sources: Vec<Source>, direction: Direction) -> Self {
        Self {
            heap: Vec::with_capacity(sources.len()),
            sources,
            direction,
        }
    }

    /// All tables of a tree that can hold a key at or above `lower` and below `upper`.
    pub(crate) fn of_tree(
        state: &TreeState,
        lower: &[u8],
        upper: Option<&[u8]>,
        direction: Direction,
    ) -> Self {
        let overlaps = |segment: &&Arc<Segment>| {
            let meta = segment.meta();
            let begins_in = upper.is_none_or(|upper| meta.smallest_key.as_slice() < upper);
            begins_in && meta.entries > 0 && !meta.is_before(lower)
        };
        let mut sources = Vec::new();
        for table in state.memtables() {
            if table.entries() > 0 {
                sources.push(Source::Memtable(table.cursor()));
            }
        }
        for loaded in state.loaded() {
            let segments: Vec<_> = loaded.iter().filter(overlaps).cloned().collect();
            if !segments.is_empty() {
                sources.push(Source::Level(LevelCursor::new(segments)));
            }
        }
        for (level, segments) in state.levels.iter().enumerate() {
            let segments: Vec<_> = segments.iter().filter(overlaps).cloned().collect();
            match segments.as_slice() {
                [] => {}
                [only] => sources.push(Source::Segment(only.cursor())),
                all if level == 0 => {
                    sources.extend(all.iter().map(|s| Source::Segment(s.cursor())))
                }
                _ => sources.push(Source::Level(LevelCursor::new(segments))),
            }
        }
        Self::new(sources, direction)
    }

    /// Places a forward merge at the first entry whose key is not below `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        for source in &mut self.sources {
            each!(source, cursor => cursor.seek(key, Version::MAX)?);
        }
        self.build();
        Ok(())
    }

    /// Places a backward merge at the last entry whose key is below `key`, or at the last of all.
    pub(crate) fn seek_before(&mut self, key: Option<&[u8]>) -> Result<()> {
        for source in &mut self.sources {
            match key {
                Some(key) => each!(source, cursor => cursor.seek_before(key)?),
                None => each!(source, cursor => cursor.seek_to_last()?),
            }
        }
        self.build();
        Ok(())
    }

    /// Goes past entries that a range deletion hides: places every source that has nothing but versions
    /// older than `newer` behind the deletion's end (`None`: at its own end), or, in a backward merge, before
    /// its beginning. After an error the merge is at its end.
    pub(crate) fn skip(&mut self, key: Option<&[u8]>, newer: Index) -> Result<()> {
        for source in &mut self.sources {
            let entry = source.entry();
            let hidden = entry.is_some_and(|entry| match self.direction {
                Direction::Forward => key.is_none_or(|key| entry.key < key),
                Direction::Backward => key.is_some_and(|key| entry.key >= key),
            });
            if !hidden || source.newest().is_none_or(|newest| newest >= newer) {
                continue;
            }
            let placed = each!(source, cursor => match (self.direction, key) {
                (Direction::Forward, Some(key)) => cursor.seek(key, Version::MAX),
                (Direction::Forward, None) => cursor.seek_to_last().and_then(|()| cursor.next()),
                (Direction::Backward, key) => cursor.seek_before(key.unwrap_or_default()),
            });
            if let Err(error) = placed {
                self.heap.clear();
                return Err(error);
            }
        }
        self.build();
        Ok(())
    }

    /// The entry at the merge's place.
    #[inline]
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.sources.get(*self.heap.first()?)?.entry()
    }

    /// The value at the merge's place, sharing memory where it can.
    pub(crate) fn value(&self) -> Bytes {
        match self.heap.first().and_then(|top| self.sources.get(*top)) {
            Some(source) => each!(source, cursor => cursor.value()),
            None => Bytes::new(),
        }
    }

    /// Goes on by one entry in the merge's direction. After an error the merge is at its end.
    pub(crate) fn advance(&mut self) -> Result<()> {
        let Some(&top) = self.heap.first() else {
            return Ok(());
        };
        let direction = self.direction;
        let Some(source) = self.sources.get_mut(top) else {
            return Ok(());
        };
        let stepped = each!(source, cursor => match direction {
            Direction::Forward => cursor.next(),
            Direction::Backward => cursor.prev(),
        });
        if let Err(error) = stepped {
            self.heap.clear();
            return Err(error);
        }
        if source.entry().is_none() {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
        Ok(())
    }

    fn build(&mut self) {
        self.heap.clear();
        self.heap.extend(
            self.sources
                .iter()
                .enumerate()
                .filter(|(_, s)| s.entry().is_some())
                .map(|(at, _)| at),
        );
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    /// Whether the source at heap place `a` comes before the one at `b`.
    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.heap[a], self.heap[b]);
        let order = match (self.sources[a].entry(), self.sources[b].entry()) {
            (Some(a), Some(b)) => a.order(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Backward => order == Ordering::Greater,
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                return;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.before(right, left) {
                right
            } else {
                left
            };
            if !self.before(child, at) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }
}
