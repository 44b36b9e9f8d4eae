//! Data blocks: entries in table order, keys written as what they add to the key before, every so
//! often a whole key (a restart) to begin a search at. Shared by writer and readers.
//!
//! Body: base index (8 bytes), entries, offsets of the restarts (4 bytes each, from the start of the
//! section), their count (4 bytes). Entry: five varints (bytes shared with the key before, bytes that
//! follow, bytes of the value, position << 3 | kind, index − base index in zigzag), then those bytes.
//!
//! The bytes of a block were vouched for by a checksum, but a checksum can be forged: every decoder
//! here is bounded by the block, moves forward, and answers [`Malformed`] rather than panic.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::{Buf, Bytes};

use super::format::FRAME_BYTES;
use crate::codec::{Reader, put_varint};
use crate::types::{Entry, EntryKind, Index, KEY_BYTES_MAX, Version, order};

/// Where the first entry stands, in bytes from the start of the section.
pub const ENTRIES_START: usize = FRAME_BYTES + 8;
/// Shortest section that can be a block: one entry of an empty key, one restart.
pub const BLOCK_BYTES_MIN: usize = ENTRIES_START + 5 + 4 + 4;
/// The most bytes that an entry takes beside its key and value.
pub const ENTRY_OVERHEAD_MAX: usize = 32;

const KIND_BITS: u32 = 3;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;

/// The bytes, though under a good checksum, are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What decoding answers.
pub type Decoded<T> = Result<T, Malformed>;

/// How many bytes two keys have in common at their front.
#[inline]
pub fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    let mut common = 0;
    for (left, right) in left.chunks_exact(8).zip(right.chunks_exact(8)) {
        let (Some(left), Some(right)) = (left.first_chunk(), right.first_chunk()) else {
            break;
        };
        let differ = u64::from_le_bytes(*left) ^ u64::from_le_bytes(*right);
        if differ != 0 {
            return common + (differ.trailing_zeros() / 8) as usize;
        }
        common += 8;
    }
    let rest = left.iter().zip(right).skip(common);
    common + rest.take_while(|(left, right)| left == right).count()
}

/// Makes one block at a time; its memory is used again for the next.
#[derive(Debug)]
pub struct BlockBuilder {
    section: Vec<u8>,
    restarts: Vec<u32>,
    restart_interval: usize,
    since_restart: usize,
    base_index: u64,
}

impl BlockBuilder {
    /// A builder that writes a whole key every `restart_interval` entries.
    pub fn new(restart_interval: usize) -> Self {
        Self {
            section: Vec::new(),
            restarts: Vec::new(),
            restart_interval,
            since_restart: 0,
            base_index: 0,
        }
    }

    /// Whether it holds no entry.
    pub fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// Length of the section if it were finished now.
    pub fn bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.section.len() + 4 * self.restarts.len() + 4
    }

    /// How many bytes of the key's front need not be written, if `last_key` is the key before.
    pub fn shared(&self, last_key: &[u8], key: &[u8]) -> usize {
        if self.is_empty() || self.since_restart >= self.restart_interval {
            return 0;
        }
        common_prefix(last_key, key)
    }

    /// Appends an entry that shares `shared` bytes (as [`BlockBuilder::shared`] said) with the one
    /// before.
    pub fn add(&mut self, shared: usize, entry: Entry<'_>) {
        if self.is_empty() {
            self.base_index = entry.version.index.0;
            self.section.clear();
            self.section.resize(FRAME_BYTES, 0);
            self.section
                .extend_from_slice(&self.base_index.to_le_bytes());
        }
        if self.is_empty() || self.since_restart >= self.restart_interval {
            debug_assert_eq!(shared, 0);
            self.restarts.push(self.section.len() as u32);
            self.since_restart = 0;
        }
        self.since_restart += 1;
        let suffix = entry.key.get(shared..).unwrap_or_default();
        let what = u64::from(entry.version.position) << KIND_BITS | entry.kind as u64;
        let delta = entry.version.index.0.wrapping_sub(self.base_index) as i64;
        let out = &mut self.section;
        put_varint(out, shared as u64);
        put_varint(out, suffix.len() as u64);
        put_varint(out, entry.value.len() as u64);
        put_varint(out, what);
        put_varint(out, ((delta << 1) ^ (delta >> 63)) as u64);
        out.extend_from_slice(suffix);
        out.extend_from_slice(entry.value);
    }

    /// Ends the block and lends its section, the frame still to be sealed.
    pub fn finish(&mut self) -> &mut [u8] {
        for restart in &self.restarts {
            self.section.extend_from_slice(&restart.to_le_bytes());
        }
        let count = self.restarts.len() as u32;
        self.section.extend_from_slice(&count.to_le_bytes());
        &mut self.section
    }

    /// Makes it empty, and gives back memory that only a large value needed.
    pub fn clear(&mut self, keep_bytes: usize) {
        self.section.clear();
        self.section.shrink_to(keep_bytes);
        self.restarts.clear();
        self.since_restart = 0;
    }
}

/// Where the parts of an entry stand in its section.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry {
    /// Bytes of the key before that begin this key too.
    pub shared: usize,
    /// Where the rest of the key begins.
    pub suffix: usize,
    /// Where the value begins, and the key ends.
    pub value: usize,
    /// Where the next entry begins, and the value ends.
    pub next: usize,
    /// Which write this is.
    pub version: Version,
    /// Whether it puts or deletes.
    pub kind: EntryKind,
}

/// A block whose checksum has been verified. Cloning shares its memory.
#[derive(Clone, Debug)]
pub struct Block {
    section: Bytes,
    base_index: u64,
    entries_end: usize,
    restarts: usize,
}

impl Block {
    /// Takes a verified section for a block.
    ///
    /// # Errors
    /// If its restarts don't fit in it, or it holds no entry.
    pub fn parse(section: Bytes) -> Decoded<Self> {
        let base = section.get(FRAME_BYTES..).and_then(<[u8]>::first_chunk);
        let base_index = u64::from_le_bytes(*base.ok_or(Malformed)?);
        let count = section.last_chunk().ok_or(Malformed)?;
        let restarts = u32::from_le_bytes(*count) as usize;
        let trailer_bytes = restarts
            .checked_mul(4)
            .and_then(|bytes| bytes.checked_add(4));
        let entries_end = trailer_bytes
            .and_then(|bytes| section.len().checked_sub(bytes))
            .ok_or(Malformed)?;
        if restarts == 0 || entries_end <= ENTRIES_START {
            return Err(Malformed);
        }
        Ok(Self {
            section,
            base_index,
            entries_end,
            restarts,
        })
    }

    /// Length of the section.
    pub fn bytes(&self) -> usize {
        self.section.len()
    }

    /// Where the last entry ends.
    pub fn entries_end(&self) -> usize {
        self.entries_end
    }

    /// How many restarts there are.
    pub fn restarts(&self) -> usize {
        self.restarts
    }

    /// Where the entry of a restart stands.
    pub fn restart(&self, number: usize) -> Decoded<usize> {
        if number >= self.restarts {
            return Err(Malformed);
        }
        let bytes = self.section.get(self.entries_end + 4 * number..);
        let bytes = bytes.and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
        let at = u32::from_le_bytes(*bytes) as usize;
        if (ENTRIES_START..self.entries_end).contains(&at) {
            Ok(at)
        } else {
            Err(Malformed)
        }
    }

    /// Reads the entry that stands at `at`, in constant time.
    #[inline]
    pub fn decode(&self, at: usize) -> Decoded<RawEntry> {
        let entry = self.section.get(at..self.entries_end).ok_or(Malformed)?;
        let mut reader = Reader::new(entry);
        let (shared, suffix, value, what) = lengths(&mut reader).ok_or(Malformed)?;
        let zigzag = reader.varint().ok_or(Malformed)?;
        let delta = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        let start = self.entries_end - reader.rest().len();
        let key_bytes = shared.checked_add(suffix).ok_or(Malformed)?;
        if key_bytes > KEY_BYTES_MAX as u64 || value > reader.rest().len() as u64 {
            return Err(Malformed);
        }
        let value_start = start + suffix as usize;
        let next = value_start + value as usize;
        if next > self.entries_end {
            return Err(Malformed);
        }
        let position = u32::try_from(what >> KIND_BITS).map_err(|_| Malformed)?;
        Ok(RawEntry {
            shared: shared as usize,
            suffix: start,
            value: value_start,
            next,
            version: Version {
                index: Index(self.base_index.wrapping_add(delta)),
                position,
            },
            kind: EntryKind::from_byte((what & KIND_MASK) as u8).ok_or(Malformed)?,
        })
    }

    /// The part of an entry's key that it doesn't share with the key before.
    #[inline]
    pub fn suffix(&self, entry: &RawEntry) -> &[u8] {
        self.slice(entry.suffix..entry.value)
    }

    /// Bytes of the section; none if the range is not within it.
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> &[u8] {
        self.section.get(range).unwrap_or_default()
    }

    /// Bytes of the section, sharing its memory.
    pub fn shared_slice(&self, range: Range<usize>) -> Bytes {
        if range.start <= range.end && range.end <= self.section.len() {
            self.section.slice(range)
        } else {
            Bytes::new()
        }
    }

    /// Turns the block into bytes of its section, sharing its memory.
    pub fn into_slice(self, range: Range<usize>) -> Bytes {
        let mut section = self.section;
        section.truncate(range.end);
        section.advance(range.start.min(section.len()));
        section
    }

    /// The restart's entry from which a search for (`key`, `version`) goes forward: the last one that
    /// is below it, else the first.
    #[inline]
    pub fn group_before(&self, key: &[u8], version: Version) -> Decoded<usize> {
        let (mut below, mut not_below) = (0, self.restarts);
        let mut start = None;
        while below < not_below {
            let middle = below.midpoint(not_below);
            let at = self.restart(middle)?;
            let entry = self.decode(at)?;
            if entry.shared != 0 {
                return Err(Malformed);
            }
            if order(self.suffix(&entry), entry.version, key, version) == Ordering::Less {
                below = middle + 1;
                start = Some(at);
            } else {
                not_below = middle;
            }
        }
        start.map_or_else(|| self.restart(0), Ok)
    }

    /// The newest version of `key` that is not newer than `at`, if this block holds one.
    ///
    /// Compares in place: no key is put together. Takes a binary search over the restarts and a walk
    /// through at most one group.
    pub fn find(&self, key: &[u8], at: Version) -> Decoded<Option<RawEntry>> {
        let mut position = self.group_before(key, at)?;
        // How many bytes the entry before has in common with `key`; that entry is below (`key`, `at`).
        let mut matched = 0;
        while position < self.entries_end {
            let entry = self.decode(position)?;
            position = entry.next;
            if entry.shared > matched {
                // Differs from `key` where the entry before does, and in the same byte.
                continue;
            }
            if entry.shared < matched && entry.shared != 0 {
                // Grows in a byte that the entry before had in common with `key`.
                return Ok(None);
            }
            // Sharing nothing is also what a restart says, whatever its key.
            let suffix = self.suffix(&entry);
            let rest = key.get(entry.shared..).ok_or(Malformed)?;
            let common = common_prefix(suffix, rest);
            matched = entry.shared + common;
            match (suffix.get(common), rest.get(common)) {
                (None, None) if entry.version <= at => return Ok(Some(entry)),
                (Some(_), None) => return Ok(None),
                (Some(found), Some(wanted)) if found > wanted => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The four small numbers at the front of an entry; most often each is one byte.
#[inline]
fn lengths(reader: &mut Reader<'_>) -> Option<(u64, u64, u64, u64)> {
    if let Some(&[shared, suffix, value, what]) = reader.rest().first_chunk()
        && (shared | suffix | value | what) < 0x80
    {
        reader.array::<4>()?;
        return Some((shared.into(), suffix.into(), value.into(), what.into()));
    }
    Some((
        reader.varint()?,
        reader.varint()?,
        reader.varint()?,
        reader.varint()?,
    ))
}

/// A place in a block, with the whole key of the entry there. Its memory is used again for the next
/// block.
#[derive(Debug, Default)]
pub struct BlockCursor {
    key: Vec<u8>,
    at: usize,
    value: usize,
    next: usize,
    version: Version,
    kind: Option<EntryKind>,
    /// Entries before this one in its group, decoded on the way to it; the nearest last.
    before: Vec<Before>,
    before_keys: Vec<u8>,
}

#[derive(Debug)]
struct Before {
    at: usize,
    key_start: usize,
    entry: RawEntry,
}

impl BlockCursor {
    /// The entry here, if the cursor stands at one.
    #[inline]
    pub fn entry<'a>(&'a self, block: &'a Block) -> Option<Entry<'a>> {
        Some(Entry {
            key: &self.key,
            version: self.version,
            kind: self.kind?,
            value: block.slice(self.value..self.next),
        })
    }

    /// Where the value of the entry here stands.
    pub fn value_range(&self) -> Range<usize> {
        self.value..self.next
    }

    /// Stands nowhere, before the block's first entry.
    pub fn reset(&mut self) {
        self.start_at(ENTRIES_START);
    }

    fn start_at(&mut self, at: usize) {
        self.key.clear();
        self.before.clear();
        self.before_keys.clear();
        self.kind = None;
        self.at = at;
        self.next = at;
    }

    /// Goes to the next entry; false at the end of the block.
    #[inline]
    pub fn next(&mut self, block: &Block) -> Decoded<bool> {
        if self.next >= block.entries_end {
            self.kind = None;
            return Ok(false);
        }
        if !self.before.is_empty() {
            self.before.clear();
            self.before_keys.clear();
        }
        let entry = block.decode(self.next)?;
        if entry.shared > self.key.len() {
            return Err(Malformed);
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(block.suffix(&entry));
        self.at = self.next;
        self.take(&entry);
        Ok(true)
    }

    #[inline]
    fn take(&mut self, entry: &RawEntry) {
        self.value = entry.value;
        self.next = entry.next;
        self.version = entry.version;
        self.kind = Some(entry.kind);
    }

    /// Goes to the first entry at or after (`key`, `version`); false if there is none in the block.
    pub fn seek(&mut self, block: &Block, key: &[u8], version: Version) -> Decoded<bool> {
        self.start_at(block.group_before(key, version)?);
        while self.next(block)? {
            if order(&self.key, self.version, key, version) != Ordering::Less {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes to the last entry.
    pub fn seek_to_last(&mut self, block: &Block) -> Decoded<bool> {
        self.start_at(block.entries_end);
        self.prev(block)
    }

    /// Goes to the entry before; false at the front of the block. One decoding an entry, a group of
    /// them at a time.
    pub fn prev(&mut self, block: &Block) -> Decoded<bool> {
        if self.before.is_empty() {
            if self.at <= ENTRIES_START {
                self.kind = None;
                return Ok(false);
            }
            self.fill_before(block)?;
        }
        let Some(before) = self.before.pop() else {
            return Err(Malformed);
        };
        let key = self.before_keys.get(before.key_start..).unwrap_or_default();
        self.key.clear();
        self.key.extend_from_slice(key);
        self.before_keys.truncate(before.key_start);
        self.at = before.at;
        self.take(&before.entry);
        Ok(true)
    }

    /// Decodes the group's entries before this one.
    fn fill_before(&mut self, block: &Block) -> Decoded<()> {
        let (mut below, mut not_below) = (0, block.restarts);
        let mut position = ENTRIES_START;
        while below < not_below {
            let middle = below.midpoint(not_below);
            let at = block.restart(middle)?;
            if at < self.at {
                below = middle + 1;
                position = at;
            } else {
                not_below = middle;
            }
        }
        self.before_keys.clear();
        let mut last_key = 0..0;
        while position < self.at {
            let entry = block.decode(position)?;
            if entry.shared > last_key.len() {
                return Err(Malformed);
            }
            let key_start = self.before_keys.len();
            let shared = last_key.start..last_key.start + entry.shared;
            self.before_keys.extend_from_within(shared);
            self.before_keys.extend_from_slice(block.suffix(&entry));
            last_key = key_start..self.before_keys.len();
            self.before.push(Before {
                at: position,
                key_start,
                entry,
            });
            position = entry.next;
        }
        if position == self.at {
            return Ok(());
        }
        self.before.clear();
        Err(Malformed)
    }
}
