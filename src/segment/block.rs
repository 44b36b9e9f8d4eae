//! Data blocks: entries in table order, keys written as what they add to the key before, every so
//! often a whole key (a restart) to begin a search at. Shared by writer and readers.
//!
//! Body: base index (8 bytes), count of restarts (4), where the values begin (4), the restarts (where
//! the record begins 4, where its value begins 4; both from the start of the section), then a record
//! an entry, then the values. Record: five varints (bytes shared with the key before, bytes that
//! follow, bytes of the value, position << 3 | kind, index − base index in zigzag), then those bytes
//! of the key.
//!
//! Records stand together, apart from the values, so that a search touches a few neighbouring cache
//! lines and then one value.
//!
//! The bytes of a block were vouched for by a checksum, but a checksum can be forged: every decoder
//! here is bounded by the block, moves forward, and answers [`Malformed`] rather than panic.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::{Buf, Bytes};

use super::format::FRAME_BYTES;
use crate::codec::{Reader, put_varint};
use crate::types::{
    EXPIRY_BYTES, Entry, EntryKind, Index, KEY_BYTES_MAX, VALUE_BYTES_MAX, Version, order,
};

/// Where the restarts stand, in bytes from the start of the section.
const RESTARTS_START: usize = FRAME_BYTES + 16;
const RESTART_BYTES: usize = 8;
/// The most bytes that an entry takes beside its key and value.
pub const ENTRY_OVERHEAD_MAX: usize = 32;
/// Longest section that can be a block: one with the largest entry by itself.
pub const SECTION_BYTES_MAX: usize = RESTARTS_START
    + RESTART_BYTES
    + ENTRY_OVERHEAD_MAX
    + KEY_BYTES_MAX
    + VALUE_BYTES_MAX
    + EXPIRY_BYTES;

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
    records: Vec<u8>,
    /// The values, and once finished the whole section.
    section: Vec<u8>,
    /// Where in `records` and in the values each restart begins.
    restarts: Vec<(u32, u32)>,
    restart_interval: usize,
    since_restart: usize,
    base_index: u64,
}

impl BlockBuilder {
    /// A builder that writes a whole key every `restart_interval` entries.
    pub fn new(restart_interval: usize) -> Self {
        Self {
            records: Vec::new(),
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
        self.head_bytes() + self.section.len()
    }

    /// Length of what stands before the values.
    fn head_bytes(&self) -> usize {
        RESTARTS_START + RESTART_BYTES * self.restarts.len() + self.records.len()
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
        }
        if self.is_empty() || self.since_restart >= self.restart_interval {
            debug_assert_eq!(shared, 0);
            let restart = (self.records.len() as u32, self.section.len() as u32);
            self.restarts.push(restart);
            self.since_restart = 0;
        }
        self.since_restart += 1;
        let suffix = entry.key.get(shared..).unwrap_or_default();
        let what = u64::from(entry.version.position) << KIND_BITS | entry.kind as u64;
        let delta = entry.version.index.0.wrapping_sub(self.base_index) as i64;
        let out = &mut self.records;
        put_varint(out, shared as u64);
        put_varint(out, suffix.len() as u64);
        put_varint(out, entry.value.len() as u64);
        put_varint(out, what);
        put_varint(out, ((delta << 1) ^ (delta >> 63)) as u64);
        out.extend_from_slice(suffix);
        self.section.extend_from_slice(entry.value);
    }

    /// Ends the block and lends its section, the frame still to be sealed. [`BlockBuilder::clear`]
    /// comes next.
    pub fn finish(&mut self) -> &mut [u8] {
        let values_start = self.head_bytes();
        let records_start = values_start - self.records.len();
        let mut head = Vec::with_capacity(values_start);
        head.resize(FRAME_BYTES, 0);
        head.extend_from_slice(&self.base_index.to_le_bytes());
        head.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        head.extend_from_slice(&(values_start as u32).to_le_bytes());
        for (record, value) in &self.restarts {
            head.extend_from_slice(&(record + records_start as u32).to_le_bytes());
            head.extend_from_slice(&(value + values_start as u32).to_le_bytes());
        }
        head.extend_from_slice(&self.records);
        debug_assert_eq!(head.len(), values_start);
        // In place: a value of 256 MiB should not be in memory twice.
        self.section.splice(..0, head);
        &mut self.section
    }

    /// Gives away the section that was just finished, and makes the builder empty.
    pub fn take(&mut self) -> Vec<u8> {
        let section = std::mem::take(&mut self.section);
        self.clear(0);
        section
    }

    /// Makes it empty, and gives back memory that only a large value needed.
    pub fn clear(&mut self, keep_bytes: usize) {
        self.records.clear();
        self.section.clear();
        self.section.shrink_to(keep_bytes);
        self.restarts.clear();
        self.since_restart = 0;
    }
}

/// Where an entry stands in its section: its record and its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the record begins.
    pub record: usize,
    /// Where the value begins.
    pub value: usize,
}

/// An entry, its key and value still in the section.
#[derive(Clone, Copy, Debug)]
pub struct RawEntry {
    /// Bytes of the key before that begin this key too.
    pub shared: usize,
    /// Where the rest of the key begins; it ends where the next record begins.
    pub suffix: usize,
    /// Where the value begins; it ends where the next one begins.
    pub value: usize,
    /// The place of the entry behind it.
    pub next: Place,
    /// Which write this is.
    pub version: Version,
    /// What it says of its key.
    pub kind: EntryKind,
}

/// A block whose checksum has been verified. Cloning shares its memory.
#[derive(Clone, Debug)]
pub struct Block {
    section: Bytes,
    base_index: u64,
    restarts: u32,
    values_start: u32,
}

impl Block {
    /// Takes a verified section for a block.
    ///
    /// # Errors
    /// If its restarts don't fit in it, or it holds no entry.
    pub fn parse(section: Bytes) -> Decoded<Self> {
        let mut reader = Reader::new(section.get(FRAME_BYTES..).ok_or(Malformed)?);
        let base_index = reader.u64().ok_or(Malformed)?;
        let restarts = reader.u32().ok_or(Malformed)?;
        let values_start = reader.u32().ok_or(Malformed)?;
        let records_start = (restarts as usize)
            .checked_mul(RESTART_BYTES)
            .and_then(|bytes| bytes.checked_add(RESTARTS_START))
            .ok_or(Malformed)?;
        let fits = records_start < values_start as usize && values_start as usize <= section.len();
        if restarts == 0 || !fits {
            return Err(Malformed);
        }
        Ok(Self {
            section,
            base_index,
            restarts,
            values_start,
        })
    }

    /// Length of the section.
    pub fn bytes(&self) -> usize {
        self.section.len()
    }

    /// How many restarts there are.
    pub fn restarts(&self) -> usize {
        self.restarts as usize
    }

    /// Where the first entry stands.
    pub fn first(&self) -> Place {
        Place {
            record: RESTARTS_START + RESTART_BYTES * self.restarts(),
            value: self.values_start as usize,
        }
    }

    /// Where the last entry ends.
    pub fn end(&self) -> Place {
        Place {
            record: self.values_start as usize,
            value: self.section.len(),
        }
    }

    /// Where the entry of a restart stands. That it is within the block is for `decode` to see.
    #[inline]
    pub fn restart(&self, number: usize) -> Decoded<Place> {
        let start = RESTARTS_START + RESTART_BYTES * number;
        let bytes = self.section.get(start..).ok_or(Malformed)?;
        let mut reader = Reader::new(bytes);
        let place = Place {
            record: reader.u32().ok_or(Malformed)? as usize,
            value: reader.u32().ok_or(Malformed)? as usize,
        };
        if number < self.restarts() && place.record >= self.first().record {
            Ok(place)
        } else {
            Err(Malformed)
        }
    }

    /// Reads the entry that stands at a place, in constant time.
    #[inline]
    pub fn decode(&self, at: Place) -> Decoded<RawEntry> {
        let end = self.values_start as usize;
        let mut reader = Reader::new(self.section.get(at.record..end).ok_or(Malformed)?);
        let (shared, suffix, value, what) = lengths(&mut reader).ok_or(Malformed)?;
        let zigzag = reader.varint().ok_or(Malformed)?;
        let delta = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
        let rest = reader.rest().len();
        let key_bytes = shared.checked_add(suffix).ok_or(Malformed)?;
        let values_left = self.section.len().checked_sub(at.value).ok_or(Malformed)?;
        if key_bytes > KEY_BYTES_MAX as u64
            || suffix > rest as u64
            || value > values_left as u64
            || at.value < end
        {
            return Err(Malformed);
        }
        let position = u32::try_from(what >> KIND_BITS).map_err(|_| Malformed)?;
        let kind = EntryKind::from_byte((what & KIND_MASK) as u8).ok_or(Malformed)?;
        if !kind.allows(value as usize) {
            return Err(Malformed);
        }
        Ok(RawEntry {
            shared: shared as usize,
            suffix: end - rest,
            value: at.value,
            next: Place {
                record: end - rest + suffix as usize,
                value: at.value + value as usize,
            },
            version: Version {
                index: Index(self.base_index.wrapping_add(delta)),
                position,
            },
            kind,
        })
    }

    /// Whether an entry stands here: false at the end.
    #[inline]
    pub fn has(&self, at: Place) -> bool {
        at.record < self.values_start as usize
    }

    /// The part of an entry's key that it doesn't share with the key before.
    #[inline]
    pub fn suffix(&self, entry: &RawEntry) -> &[u8] {
        self.slice(entry.suffix..entry.next.record)
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

    /// Turns the block into an entry's value, sharing its memory.
    pub fn into_value(self, entry: &RawEntry) -> Bytes {
        let mut section = self.section;
        section.truncate(entry.next.value);
        section.advance(entry.value.min(section.len()));
        section
    }

    /// The restart from which a search for (`key`, `version`) goes forward: the last one whose entry
    /// is below it, else the first.
    #[inline]
    pub fn group_before(&self, key: &[u8], version: Version) -> Decoded<Place> {
        let (mut below, mut not_below) = (0, self.restarts());
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
        Ok(start.unwrap_or_else(|| self.first()))
    }

    /// The newest version of `key` that is not newer than `at`, if this block holds one.
    ///
    /// Compares in place: no key is put together. Takes a binary search over the restarts and a walk
    /// through at most one group.
    pub fn find(&self, key: &[u8], at: Version) -> Decoded<Option<RawEntry>> {
        let mut place = self.group_before(key, at)?;
        // How many bytes the entry before has in common with `key`; that entry is below (`key`, `at`).
        let mut matched = 0;
        while self.has(place) {
            let entry = self.decode(place)?;
            place = entry.next;
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
