//! The cache that all segments share: verified blocks, and, where they are not pinned, indexes and filters.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::block::Block;
use super::counters::{Counters, ReadCounts};
use super::filter::Filter;
use super::index::BlockIndex;
use super::mending::Mendings;
use crate::types::FileId;

/// What is longer than this part of the cache is not kept, lest one large value empty it.
const LARGEST_BLOCK_PART: u64 = 16;
/// Parts with a lock each. A fixed number, so that the same reads evict the same blocks on every
/// machine, and few enough that the largest block kept fits in one part of a small cache.
const SHARDS: usize = 8;
/// What is counted for a block beside its bytes: key, links, allocation.
const OVERHEAD_BYTES: u64 = 128;
const TYPICAL_BLOCK_BYTES: u64 = 4096 + OVERHEAD_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    file_id: FileId,
    offset: u64,
}

impl Key {
    /// The id is random: half of it tells files apart as well as the whole.
    #[inline]
    fn number(self) -> u64 {
        self.file_id.0 as u64 ^ self.offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The number's best-mixed bits.
    #[inline]
    fn stripe(self) -> u64 {
        self.number() >> 48
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.number());
    }
}

/// What is kept: a section as it is used, its checksum verified.
#[derive(Clone, Debug)]
pub enum Cached {
    /// A block, unpacked.
    Block(Block),
    /// An index.
    Index(Arc<BlockIndex>),
    /// A filter, if this version can ask it.
    Filter(Option<Arc<Filter>>),
}

impl Cached {
    fn bytes(&self) -> u64 {
        match self {
            Self::Block(block) => block.bytes() as u64,
            Self::Index(index) => index.memory_bytes(),
            Self::Filter(filter) => filter.as_ref().map_or(0, |filter| filter.memory_bytes()),
        }
    }
}

/// Spreads one number over 64 bits, the same way in every run: what is evicted must not depend on
/// chance, or a simulation could not be repeated.
#[derive(Clone, Copy, Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        let product = u128::from(self.0 ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db;
        (product >> 64) as u64 ^ product as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(29) ^ number;
    }
}

#[derive(Clone, Copy, Debug)]
struct BlockWeight;

impl Weighter<Key, Cached> for BlockWeight {
    fn weight(&self, _: &Key, cached: &Cached) -> u64 {
        cached.bytes() + OVERHEAD_BYTES
    }
}

/// How segments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPolicy {
    /// Whether they keep their index and filter in memory while they are open, or leave them to the cache.
    pub pins: bool,
    /// Whether they are read through a mapping.
    pub maps: bool,
}

impl Default for ReadPolicy {
    fn default() -> Self {
        Self {
            pins: true,
            maps: false,
        }
    }
}

/// Verified blocks of all segments of a store, up to a limit in bytes.
///
/// Values that were handed out keep their block in memory beyond that limit, until they are dropped.
#[derive(Debug)]
pub struct BlockCache {
    sections: Cache<
        Key,
        Cached,
        BlockWeight,
        BuildHasherDefault<KeyHasher>,
        DefaultLifecycle<Key, Cached>,
    >,
    section_bytes_max: u64,
    policy: ReadPolicy,
    counters: Counters,
    mendings: Arc<Mendings>,
}

impl BlockCache {
    /// A cache that holds at most so many bytes, for segments that keep index and filter in memory.
    #[cfg(test)]
    pub fn new(bytes: u64) -> Self {
        Self::with_policy(bytes, ReadPolicy::default())
    }

    /// A cache that holds at most so many bytes; with 0, nothing. The segments that use it are read by its
    /// policy.
    #[must_use]
    pub fn with_policy(bytes: u64, policy: ReadPolicy) -> Self {
        let typical_blocks = (bytes / TYPICAL_BLOCK_BYTES).clamp(1, 1 << 24) as usize;
        // A multiple of the parts, which the crate would else round up, and so over the limit.
        let capacity = bytes - bytes % SHARDS as u64;
        let mut options = OptionsBuilder::new();
        options
            .shards(SHARDS)
            .estimated_items_capacity(typical_blocks)
            .weight_capacity(capacity);
        let sections = match options.build() {
            Ok(options) => Cache::with_options(
                options,
                BlockWeight,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
            // Only an option left out is refused.
            Err(_) => Cache::with(
                typical_blocks,
                capacity,
                BlockWeight,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
        };
        Self {
            sections,
            section_bytes_max: bytes / LARGEST_BLOCK_PART,
            policy,
            counters: Counters::default(),
            mendings: Arc::default(),
        }
    }

    /// How the segments that use it are read.
    #[must_use]
    pub fn policy(&self) -> ReadPolicy {
        self.policy
    }

    /// What reads through it have met so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        self.counters.sums()
    }

    /// What reads have put together again.
    #[must_use]
    pub fn mendings(&self) -> &Arc<Mendings> {
        &self.mendings
    }

    /// Where reads are counted.
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes held now, with what it takes to hold them.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.sections.weight()
    }

    /// A section, which then counts as used of late.
    #[inline]
    pub(super) fn get(&self, file_id: FileId, offset: u64) -> Option<Cached> {
        let key = Key { file_id, offset };
        let found = self.sections.get(&key);
        self.counters.cache(key.stripe(), found.is_some());
        found
    }

    /// A section, for a scan, which says nothing of whether it will be wanted again.
    #[inline]
    pub(super) fn peek(&self, file_id: FileId, offset: u64) -> Option<Cached> {
        let key = Key { file_id, offset };
        let found = self.sections.peek(&key);
        self.counters.cache(key.stripe(), found.is_some());
        found
    }

    /// Keeps a section whose checksum has been verified, unless it is too long.
    pub(super) fn insert(&self, file_id: FileId, offset: u64, section: Cached) {
        if section.bytes() <= self.section_bytes_max {
            self.sections.insert(Key { file_id, offset }, section);
        }
    }
}
