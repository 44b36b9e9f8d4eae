//! An open segment: point lookups, and the verified blocks that cursors walk.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::block::{Block, Decoded};
use super::cache::{BlockCache, Cached};
use super::compress::Unreadable;
use super::cursor::SegmentCursor;
use super::file::SegmentFile;
use super::filter::{Filter, key_hash};
use super::format::{Extent, Footer};
use super::index::BlockIndex;
use super::open::{check_blocks, open_filter, open_index};
use super::properties::Properties;
use crate::error::Result;
use crate::types::{Found, Index, KeyspaceId, RangeDeletes, SegmentMeta, Version};

/// A published segment, open for reading. Safe to share between threads; reads take no lock but the
/// cache's.
pub struct Segment {
    pub(super) file: SegmentFile,
    pub(super) meta: SegmentMeta,
    pub(super) footer: Footer,
    pub(super) properties: Properties,
    /// Index and filter; `None` if they are left to the cache.
    pub(super) pinned: Option<Pinned>,
    pub(super) ranges: Arc<RangeDeletes>,
    pub(super) cache: Arc<BlockCache>,
}

/// What an open segment keeps in memory.
pub(super) struct Pinned {
    pub(super) index: Arc<BlockIndex>,
    pub(super) filter: Option<Arc<Filter>>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.file.path)
            .field("entries", &self.meta.entries)
            .field("bytes", &self.meta.bytes)
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// What the manifest says of it.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// The keyspace that its entries belong to.
    #[must_use]
    pub fn keyspace(&self) -> KeyspaceId {
        self.footer.identity.keyspace
    }

    /// Entries that only an old view needs, if nothing is below them: deletions, old versions, and values
    /// that have expired, once all that will have by this time.
    #[must_use]
    pub fn stale_entries(&self, time_us: u64) -> u64 {
        let properties = &self.properties;
        let old = properties.entries.saturating_sub(properties.keys);
        let expired = match properties.latest_expiry_us <= time_us {
            true => properties.expiring,
            false => 0,
        };
        old.saturating_add(properties.deletes)
            .saturating_add(expired)
    }

    /// Whether writing it again, with nothing below it, can leave anything out.
    #[must_use]
    pub fn may_shrink(&self) -> bool {
        let properties = &self.properties;
        let plain = properties.entries == properties.keys && properties.deletes == 0;
        !plain || properties.expiring > 0 || self.meta.range_deletes > 0
    }

    /// Data blocks in it.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> u64 {
        self.properties.blocks
    }

    /// Bytes of memory that the filter takes beside the cache.
    #[must_use]
    pub fn filter_bytes(&self) -> u64 {
        let filter = self.pinned.as_ref().and_then(|all| all.filter.as_ref());
        filter.map_or(0, |filter| filter.memory_bytes())
    }

    /// Bytes of memory that the index takes beside the cache.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.pinned
            .as_ref()
            .map_or(0, |pinned| pinned.index.memory_bytes())
    }

    /// The index: from memory, from the cache, or from the disk and then verified.
    pub(super) fn index(&self) -> Result<Arc<BlockIndex>> {
        if let Some(pinned) = &self.pinned {
            return Ok(pinned.index.clone());
        }
        let offset = self.footer.index.offset;
        if let Some(Cached::Index(index)) = self.cache.get(self.file.file_id, offset) {
            return Ok(index);
        }
        let index = Arc::new(self.read_index()?);
        let cached = Cached::Index(index.clone());
        self.cache.insert(self.file.file_id, offset, cached);
        Ok(index)
    }

    /// The index from the disk.
    pub(super) fn read_index(&self) -> Result<BlockIndex> {
        let index = open_index(&self.file, &self.footer)?;
        check_blocks(&self.file, &self.footer, &index, &self.properties)?;
        Ok(index)
    }

    /// The filter, in the same way; `None` if there is none that can be asked.
    pub(super) fn filter(&self) -> Result<Option<Arc<Filter>>> {
        if let Some(pinned) = &self.pinned {
            return Ok(pinned.filter.clone());
        }
        let place = self.footer.filter;
        if place.bytes == 0 {
            return Ok(None);
        }
        if let Some(Cached::Filter(filter)) = self.cache.get(self.file.file_id, place.offset) {
            return Ok(filter);
        }
        let filter = self.read_filter()?.map(Arc::new);
        let cached = Cached::Filter(filter.clone());
        self.cache.insert(self.file.file_id, place.offset, cached);
        Ok(filter)
    }

    /// The filter from the disk.
    pub(super) fn read_filter(&self) -> Result<Option<Filter>> {
        open_filter(&self.file, &self.footer)
    }

    /// Whether index and filter are in memory, and so were verified when it was opened.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// The range deletions in it.
    #[must_use]
    pub fn range_deletes(&self) -> &Arc<RangeDeletes> {
        &self.ranges
    }

    /// The newest version of `key` that is not newer than `at`. Reads one block at most, and none for
    /// most keys that are not there; before that, index and filter, if the cache should have them and
    /// hasn't.
    ///
    /// # Errors
    /// What the disk answers, or damage.
    pub fn get(&self, key: &[u8], at: Version) -> Result<Option<Found>> {
        if at.index < self.meta.loaded_at {
            return Ok(None);
        }
        if let Some(Pinned { index, filter }) = &self.pinned {
            return self.find(key, at, filter.as_deref(), || Ok(index));
        }
        let filter = self.filter()?;
        self.find(key, at, filter.as_deref(), || self.index())
    }

    #[inline]
    fn find<I: AsRef<BlockIndex>>(
        &self,
        key: &[u8],
        at: Version,
        filter: Option<&Filter>,
        index: impl FnOnce() -> Result<I>,
    ) -> Result<Option<Found>> {
        let hash = filter.map(|filter| (filter, key_hash(key)));
        if let Some((filter, hash)) = hash
            && !filter.may_hold_hash(hash)
        {
            self.cache.counters().denial(hash);
            return Ok(None);
        }
        let index = index()?;
        let index = index.as_ref();
        let at = self.stored(at);
        let found = match index.extent(index.find(key, at)) {
            None => None,
            Some(place) => {
                let block = self.block(place)?;
                let found = self.checked(place, block.find(key, at))?;
                found.map(|entry| Found {
                    version: self.meta.version(entry.version),
                    kind: entry.kind,
                    value: block.into_value(&entry),
                })
            }
        };
        if let (None, Some((_, hash))) = (&found, hash) {
            self.cache.counters().false_pass(hash);
        }
        Ok(found)
    }

    /// The version in the file that is the newest which a reader of `version` may see.
    #[inline]
    pub(super) fn stored(&self, version: Version) -> Version {
        match self.meta.loaded_at {
            Index(0) => version,
            _ => Version::MAX,
        }
    }

    /// Gives a segment that was written before its record the record's index, and with it its versions.
    #[must_use]
    pub fn loaded_at(mut self, index: Index) -> Self {
        self.meta.loaded_at = index;
        self.properties.bound(&mut self.meta);
        self
    }

    /// A cursor over all of it, placed nowhere. It keeps the segment open.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> SegmentCursor {
        SegmentCursor::new(Arc::clone(self))
    }

    /// Where a block lies.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn extent(&self, number: usize) -> Extent {
        let index = self.index().ok();
        index.and_then(|i| i.extent(number)).unwrap_or_default()
    }

    /// A block from the cache, or else from the disk and then kept in the cache.
    pub(super) fn block(&self, place: Extent) -> Result<Block> {
        if let Some(Cached::Block(block)) = self.cache.get(self.file.file_id, place.offset) {
            return Ok(block);
        }
        let block = self.read_block(place)?;
        let cached = Cached::Block(block.clone());
        self.cache.insert(self.file.file_id, place.offset, cached);
        Ok(block)
    }

    /// A block if the cache has it, for a scan.
    pub(super) fn cached_block(&self, place: Extent) -> Option<Block> {
        match self.cache.peek(self.file.file_id, place.offset) {
            Some(Cached::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// A block from the disk.
    pub(super) fn read_block(&self, place: Extent) -> Result<Block> {
        let section = self.file.read(place).map(Cow::Owned);
        self.file.verified_block(place, section)
    }

    /// Names the block in which decoding failed.
    pub(super) fn checked<T>(&self, place: Extent, decoded: Decoded<T>) -> Result<T> {
        decoded.map_err(|_| self.file.unreadable(place, Unreadable::Malformed))
    }
}
