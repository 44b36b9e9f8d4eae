//! The block index: for each data block a separator (no smaller than its last entry, smaller than the
//! first of the next block), its offset and its length. Shared by writer and reader.
//!
//! Body: count (4 bytes), then a record a block (offset 8 bytes, length 4, end of its separator 4),
//! then the separators one behind the other. A separator is a byte 0 and a key, or, where the
//! versions of one key straddle two blocks, a byte 1, the version of the block's last entry (index 8
//! bytes, position 4) and its key.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use super::block::common_prefix;
use super::format::{Extent, FRAME_BYTES};
use crate::codec::Reader;
use crate::types::{Index, KEY_BYTES_MAX, Version, order};

/// Length of what it says of a block beside the separator.
pub const RECORD_BYTES: usize = 16;
/// No block takes fewer: a frame, and something.
const SECTION_BYTES_MIN: usize = FRAME_BYTES + 5;
const RECORDS_START: usize = FRAME_BYTES + 4;
/// Sorts behind every other version of its key.
const OLDEST: Version = Version {
    index: Index(0),
    position: 0,
};

/// Gathers the index while blocks are written.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    records: Vec<u8>,
    separators: Vec<u8>,
    blocks: u32,
}

impl IndexBuilder {
    /// Adds a block: the last key in it with its version, and the first key of the next block.
    pub fn add(&mut self, block: Extent, last: (&[u8], Version), next_key: Option<&[u8]>) {
        let (last_key, version) = last;
        if next_key == Some(last_key) {
            self.separators.push(1);
            self.separators
                .extend_from_slice(&version.index.0.to_le_bytes());
            self.separators
                .extend_from_slice(&version.position.to_le_bytes());
            self.separators.extend_from_slice(last_key);
        } else {
            self.separators.push(0);
            push_separator(&mut self.separators, last_key, next_key);
        }
        self.records.extend_from_slice(&block.offset.to_le_bytes());
        self.records
            .extend_from_slice(&(block.bytes as u32).to_le_bytes());
        self.records
            .extend_from_slice(&(self.separators.len() as u32).to_le_bytes());
        self.blocks += 1;
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Length of the section.
    pub fn bytes(&self) -> usize {
        RECORDS_START + self.records.len() + self.separators.len()
    }

    /// Appends the body of the section.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.records);
        out.extend_from_slice(&self.separators);
    }
}

/// Appends a short key that is not below `last` and is below `next`.
fn push_separator(out: &mut Vec<u8>, last: &[u8], next: Option<&[u8]>) {
    let Some(next) = next else {
        return out.extend_from_slice(last);
    };
    let common = common_prefix(last, next);
    let longer_by_one = next.get(..=common).unwrap_or(next);
    match last.get(common) {
        // `last` begins `next`: nothing is shorter than itself.
        None => out.extend_from_slice(last),
        Some(_) if longer_by_one.len() < next.len() => out.extend_from_slice(longer_by_one),
        Some(&byte) if next.get(common).is_some_and(|&next| byte + 1 < next) => {
            out.extend_from_slice(last.get(..common).unwrap_or_default());
            out.push(byte + 1);
        }
        Some(_) => out.extend_from_slice(last),
    }
}

impl AsRef<BlockIndex> for BlockIndex {
    fn as_ref(&self) -> &BlockIndex {
        self
    }
}

/// The index of an open segment: its bytes, and eight bytes of each separator side by side, over
/// which a search runs before it compares whole keys.
#[derive(Debug)]
pub struct BlockIndex {
    section: Bytes,
    blocks: usize,
    /// How many bytes all separators have in common.
    common: usize,
    /// The eight bytes of each separator behind those, big-endian, filled up with zeros.
    heads: Vec<u64>,
}

impl BlockIndex {
    /// Takes a verified section for the index of blocks that fill `data` without a gap.
    ///
    /// # Errors
    /// In words, if it isn't that.
    pub fn parse(section: Bytes, data: Range<u64>) -> Result<Self, String> {
        let count = section.get(FRAME_BYTES..).and_then(<[u8]>::first_chunk);
        let blocks = u32::from_le_bytes(*count.ok_or("index: cut short")?) as usize;
        let records_fit = blocks
            .checked_mul(RECORD_BYTES)
            .is_some_and(|bytes| bytes <= section.len() - RECORDS_START);
        if !records_fit {
            return Err(format!("index: {blocks} blocks do not fit in it"));
        }
        let mut index = Self {
            section,
            blocks,
            common: 0,
            heads: Vec::new(),
        };
        index.check(data)?;
        index.take_heads();
        Ok(index)
    }

    /// Everything that reading relies on, so that it need not look again.
    fn check(&self, data: Range<u64>) -> Result<(), String> {
        let mut end = data.start;
        let mut last: Option<(&[u8], Version)> = None;
        for block in 0..self.blocks {
            let what = |what: &str| format!("index: {what} of block {block}");
            let extent = self.extent(block).ok_or_else(|| what("no place"))?;
            if extent.offset != end || extent.bytes < SECTION_BYTES_MIN as u64 {
                return Err(what("a wrong place"));
            }
            end = extent.end();
            let separator = self.separator(block).ok_or_else(|| what("no separator"))?;
            let ascends = last.is_none_or(|last| {
                order(last.0, last.1, separator.0, separator.1) == Ordering::Less
            });
            if !ascends || separator.0.len() > KEY_BYTES_MAX {
                return Err(what("a separator out of order"));
            }
            last = Some(separator);
        }
        let separators = self.section.len() - self.separators_start();
        let whole = match self.blocks.checked_sub(1) {
            Some(last) => self.separator_range(last).map(|range| range.end),
            None => Some(0),
        };
        if end != data.end || whole != Some(separators) {
            return Err("index: it does not end with the last block".into());
        }
        Ok(())
    }

    fn take_heads(&mut self) {
        let first = self.key(0);
        self.common = common_prefix(first, self.key(self.blocks.saturating_sub(1)));
        self.heads = (0..self.blocks)
            .map(|block| head(self.key(block).get(self.common..).unwrap_or_default()))
            .collect();
    }

    fn separators_start(&self) -> usize {
        RECORDS_START + RECORD_BYTES * self.blocks
    }

    fn record(&self, block: usize) -> Option<&[u8; RECORD_BYTES]> {
        if block >= self.blocks {
            return None;
        }
        let start = RECORDS_START + RECORD_BYTES * block;
        self.section.get(start..)?.first_chunk()
    }

    fn separator_range(&self, block: usize) -> Option<Range<usize>> {
        let end = |block| {
            let [.., a, b, c, d] = *self.record(block)?;
            Some(u32::from_le_bytes([a, b, c, d]) as usize)
        };
        let start = match block.checked_sub(1) {
            None => 0,
            Some(before) => end(before)?,
        };
        Some(start..end(block)?)
    }

    /// The separator of a block: a key, and a version of it.
    fn separator(&self, block: usize) -> Option<(&[u8], Version)> {
        let range = self.separator_range(block)?;
        let separators = self.section.get(self.separators_start()..)?;
        let mut reader = Reader::new(separators.get(range)?);
        let version = match reader.u8()? {
            0 => OLDEST,
            1 => Version {
                index: Index(reader.u64()?),
                position: reader.u32()?,
            },
            _ => return None,
        };
        Some((reader.rest(), version))
    }

    /// No key of a block is above this one, and whether the next block may have it as well.
    pub(super) fn last_of(&self, block: usize) -> Option<(&[u8], bool)> {
        let (key, version) = self.separator(block)?;
        Some((key, version != OLDEST))
    }

    /// The key of a block's separator: no entry of the block has a larger one, none of the next block a smaller one.
    pub fn key(&self, block: usize) -> &[u8] {
        self.separator(block).map_or(&[], |(key, _)| key)
    }

    /// How many blocks there are; none if the segment has range deletions only.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Where a block lies; `None` past the last.
    pub fn extent(&self, block: usize) -> Option<Extent> {
        let mut reader = Reader::new(self.record(block)?);
        Some(Extent {
            offset: reader.u64()?,
            bytes: reader.u32()?.into(),
        })
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        (self.section.len() + 8 * self.heads.len()) as u64
    }

    /// Whether an entry can stand in a block, as far as the separators around it say.
    pub fn admits(&self, block: usize, key: &[u8], version: Version) -> bool {
        let not_above = self
            .separator(block)
            .is_some_and(|(last, oldest)| order(key, version, last, oldest) != Ordering::Greater);
        let above_the_one_before = block.checked_sub(1).is_none_or(|before| {
            self.separator(before).is_some_and(|(last, oldest)| {
                order(key, version, last, oldest) == Ordering::Greater
            })
        });
        not_above && above_the_one_before
    }

    /// The first block whose separator is not below (`key`, `version`): the only one that can hold it.
    /// The number of blocks if there is none.
    pub fn find(&self, key: &[u8], version: Version) -> usize {
        let common = self.key(0).get(..self.common).unwrap_or_default();
        let front = key.get(..self.common).unwrap_or(key);
        match front.cmp(common) {
            Ordering::Less => return 0,
            Ordering::Greater => return self.blocks,
            Ordering::Equal => {}
        }
        let wanted = head(key.get(self.common..).unwrap_or_default());
        let mut low = self.heads.partition_point(|&head| head < wanted);
        let tied = self.heads.get(low..).unwrap_or_default();
        if tied.first() != Some(&wanted) {
            return low;
        }
        let mut high = low + tied.partition_point(|&head| head == wanted);
        while low < high {
            let middle = low.midpoint(high);
            let (separator, oldest) = self.separator(middle).unwrap_or((&[], OLDEST));
            if order(separator, oldest, key, version) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// The first eight bytes as a number that sorts as they do.
#[inline]
fn head(bytes: &[u8]) -> u64 {
    if let Some(head) = bytes.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    for (room, byte) in head.iter_mut().zip(bytes) {
        *room = *byte;
    }
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_short_and_between() {
        let cases: [(&[u8], &[u8], &[u8]); 8] = [
            (b"", b"a", b""),
            (b"abc", b"abcd", b"abc"),
            (b"abc", b"abd", b"abc"),
            (b"abcxyz", b"abe", b"abd"),
            (b"abcxyz", b"abd", b"abcxyz"),
            (b"abcxyz", b"abdef", b"abd"),
            (b"a\xff\xff", b"b", b"a\xff\xff"),
            (b"key-00017", b"key-00018-and-more", b"key-00018"),
        ];
        for (last, next, expected) in cases {
            let mut found = Vec::new();
            push_separator(&mut found, last, Some(next));
            assert_eq!(found, expected, "{last:?} {next:?}");
            assert!(last <= &found[..] && &found[..] < next);
        }
    }
}
