//! What can be measured, and the keys and values that it is done with.

use clap::ValueEnum;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Put keys in their order
    FillSeq,
    /// Put keys in no order
    FillRandom,
    /// Put keys in no order over those that are there, and settle all compaction
    Overwrite,
    /// Put keys in no order, each write on disk before the next
    Durable,
    /// Load sorted keys straight into segments
    BulkLoad,
    /// Get keys in no order
    ReadRandom,
    /// Get keys that aren't there
    ReadMissing,
    /// Walk over all keys in their order
    ReadSeq,
    /// Walk over all keys in reverse
    ReadReverse,
    /// Ranges of 100 keys that begin anywhere
    Scan,
    /// Nine gets to a put, in no order
    Mixed,
    /// Transactions that read a key and write it
    Transactions,
    /// Delete keys in no order
    DeleteRandom,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Numbers that look random (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `end`, which isn't 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// Makes keys and values without allocating.
#[derive(Clone, Debug)]
pub struct Content {
    key: Vec<u8>,
    /// Random bytes, of which values are slices.
    pool: Vec<u8>,
    value_bytes: usize,
    at: usize,
}

impl Content {
    /// For keys and values of these lengths; `compressible` of 100 bytes repeat.
    pub fn new(key_bytes: usize, value_bytes: usize, compressible: usize, seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let mut pool = Vec::new();
        while pool.len() < value_bytes + (1 << 20) {
            let fresh = pool.len() % 100 >= compressible;
            pool.push(if fresh { numbers.next() as u8 } else { b'k' });
        }
        Self {
            key: vec![b'0'; key_bytes],
            pool,
            value_bytes,
            at: 0,
        }
    }

    /// The key with this number: keys sort as their numbers do.
    pub fn key(&mut self, number: u64) -> &[u8] {
        let digits = self.key.len().min(20);
        let start = self.key.len() - digits;
        let mut rest = number;
        for room in self.key.iter_mut().skip(start).rev() {
            *room = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.key
    }

    /// A value unlike the last one.
    pub fn value(&mut self) -> &[u8] {
        self.at = (self.at + 101) % (1 << 20);
        self.pool
            .get(self.at..self.at + self.value_bytes)
            .unwrap_or_default()
    }

    /// Bytes of a key and a value.
    pub fn pair_bytes(&self) -> u64 {
        (self.key.len() + self.value_bytes) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let mut content = Content::new(16, 10, 0, 1);
        assert_eq!(content.key(42), b"0000000000000042");
        let mut short = Content::new(8, 10, 0, 1);
        assert_eq!(short.key(1_234_567_890), b"34567890");
        let mut long = Content::new(30, 10, 0, 1);
        assert!(long.key(9).to_vec() < long.key(10).to_vec());
    }

    #[test]
    fn values_have_their_length_and_change() {
        let mut content = Content::new(8, 50, 40, 1);
        let first = content.value().to_vec();
        assert_eq!(first.len(), 50);
        assert_ne!(first, content.value());
    }

    #[test]
    fn numbers_stay_below_the_end() {
        let mut numbers = Numbers(3);
        assert!((0..1000).all(|_| numbers.below(7) < 7));
    }
}
