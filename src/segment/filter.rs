//! The filter: a Bloom filter over the keys of a segment, so that most lookups of absent keys touch
//! no block. Shared by writer and reader.
//!
//! Body: algorithm (4 bytes), bits set a key (4 bytes), check of the mapping (8 bytes), bits (in
//! little-endian words of 8 bytes). A key is hashed with XXH3-64, unseeded; which bits belong to a
//! hash is `fastbloom`'s business. Should another version of that crate map hashes otherwise, a
//! filter would deny keys that are there. So the writer stores a hash of a tiny filter of fixed
//! content, and a reader that gets another one does without the filter.

use fastbloom::BloomFilter;

use super::format::FRAME_BYTES;
use crate::codec::{Reader, payload_hash};

/// Most bits a key that can be asked for.
pub const BITS_PER_KEY_MAX: u32 = 64;

const ALGORITHM: u32 = 1;
const BODY_HEAD_BYTES: usize = 16;
/// Most bits that are set for one key.
const HASHES_MAX: u32 = 64;
/// Longest filter, in words: 1 GiB. With more keys than that is meant for, it lets more pass.
const WORDS_MAX: u64 = 1 << 27;

/// What a filter knows a key by.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    payload_hash(key)
}

/// A hash over the bits that fixed hashes set in a tiny filter.
fn mapping_check(hashes: u32) -> u64 {
    let mut filter = BloomFilter::with_num_bits(1024).seed(&0).hashes(hashes);
    for number in 1..=16u64 {
        filter.insert_hash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    let bytes: Vec<u8> = filter.iter().flat_map(u64::to_le_bytes).collect();
    payload_hash(&bytes)
}

/// Gathers keys while a segment is written; 8 bytes of memory each.
#[derive(Debug)]
pub struct FilterBuilder {
    bits_per_key: u32,
    hashes: Vec<u64>,
}

impl FilterBuilder {
    /// A builder for this many bits a key; with none, it gathers nothing.
    pub fn new(bits_per_key: u32) -> Self {
        Self {
            bits_per_key,
            hashes: Vec::new(),
        }
    }

    /// Adds a key. Call it once for each.
    pub fn add(&mut self, key: &[u8]) {
        if self.bits_per_key > 0 {
            self.hashes.push(key_hash(key));
        }
    }

    /// Appends the body of the section; false, and nothing appended, if there is to be no filter.
    pub fn encode(&self, out: &mut Vec<u8>) -> bool {
        if self.hashes.is_empty() {
            return false;
        }
        let bits = self.hashes.len() as u64 * u64::from(self.bits_per_key);
        let words = bits.div_ceil(64).clamp(1, WORDS_MAX);
        // ln 2 bits for each bit a key leave half of the filter set, which lets the fewest pass.
        let count = (self.bits_per_key * 69 + 50) / 100;
        let count = count.clamp(1, HASHES_MAX);
        let mut filter = BloomFilter::with_num_bits(words as usize * 64)
            .seed(&0)
            .hashes(count);
        for hash in &self.hashes {
            filter.insert_hash(*hash);
        }
        out.extend_from_slice(&ALGORITHM.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&mapping_check(count).to_le_bytes());
        out.extend(filter.iter().flat_map(u64::to_le_bytes));
        true
    }
}

/// The filter of an open segment.
#[derive(Debug)]
pub struct Filter {
    bits: BloomFilter,
}

impl Filter {
    /// Takes a verified section for a filter; `None` for one that this version can't ask.
    ///
    /// # Errors
    /// In words, if it isn't a filter.
    pub fn parse(section: &[u8]) -> Result<Option<Self>, String> {
        let body = section.get(FRAME_BYTES..).unwrap_or_default();
        let mut reader = Reader::new(body);
        let head = (|| Some((reader.u32()?, reader.u32()?, reader.u64()?)))();
        let (algorithm, hashes, check) = head.ok_or("filter: cut short")?;
        let (words, odd) = reader.rest().as_chunks::<8>();
        if !(1..=HASHES_MAX).contains(&hashes) || words.is_empty() || !odd.is_empty() {
            return Err(format!(
                "filter: {hashes} bits a key in {} bytes is no filter",
                body.len().saturating_sub(BODY_HEAD_BYTES)
            ));
        }
        if algorithm != ALGORITHM || check != mapping_check(hashes) {
            return Ok(None);
        }
        let words = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Ok(Some(Self {
            bits: BloomFilter::from_vec(words).seed(&0).hashes(hashes),
        }))
    }

    /// Whether the segment can hold the key: false is certain, true is not.
    #[inline]
    pub fn may_hold(&self, key: &[u8]) -> bool {
        self.may_hold_hash(key_hash(key))
    }

    /// The same, for a key of which the hash is known.
    #[inline]
    pub fn may_hold_hash(&self, hash: u64) -> bool {
        self.bits.contains_hash(hash)
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> u64 {
        self.bits.num_bits() as u64 / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter_of(keys: u64, bits_per_key: u32) -> Filter {
        let mut builder = FilterBuilder::new(bits_per_key);
        for key in 0..keys {
            builder.add(format!("key-{key:08}").as_bytes());
        }
        let mut section = vec![0; FRAME_BYTES];
        assert!(builder.encode(&mut section));
        Filter::parse(&section).unwrap().unwrap()
    }

    /// Change this only together with the format: files written before hold these bits.
    #[test]
    fn the_mapping_is_the_one_that_files_were_written_with() {
        assert_eq!(mapping_check(7), 6_078_862_314_245_455_554);
    }

    #[test]
    fn no_key_is_denied_and_few_others_pass() {
        for (bits_per_key, most) in [(1, 0.70), (5, 0.12), (10, 0.012), (16, 0.001)] {
            let filter = filter_of(20_000, bits_per_key);
            for key in 0..20_000 {
                assert!(filter.may_hold(format!("key-{key:08}").as_bytes()));
            }
            let trials = 200_000u32;
            let passed = (0..trials)
                .filter(|other| filter.may_hold(format!("other-{other}").as_bytes()))
                .count();
            let rate = passed as f64 / f64::from(trials);
            println!("{bits_per_key} bits a key: {:.3} % pass", 100.0 * rate);
            assert!(rate < most, "{bits_per_key} bits a key: {rate} pass");
            assert!(rate > 0.0 || bits_per_key > 10);
        }
    }

    #[test]
    fn a_filter_with_another_mapping_is_not_asked() {
        let mut builder = FilterBuilder::new(10);
        builder.add(b"key");
        let mut section = vec![0; FRAME_BYTES];
        builder.encode(&mut section);
        section[FRAME_BYTES + 8] ^= 1;
        assert!(Filter::parse(&section).unwrap().is_none());
        section[FRAME_BYTES + 8] ^= 1;
        section[FRAME_BYTES] = 9;
        assert!(Filter::parse(&section).unwrap().is_none());
    }

    #[test]
    fn hostile_filters_are_refused() {
        let mut builder = FilterBuilder::new(10);
        builder.add(b"key");
        let mut section = vec![0; FRAME_BYTES];
        builder.encode(&mut section);
        for cut in 0..section.len() {
            assert!(Filter::parse(&section[..cut]).is_err(), "{cut}");
        }
        for hashes in [0, 65, u32::MAX] {
            section[FRAME_BYTES + 4..FRAME_BYTES + 8].copy_from_slice(&hashes.to_le_bytes());
            assert!(Filter::parse(&section).is_err());
        }
    }
}
