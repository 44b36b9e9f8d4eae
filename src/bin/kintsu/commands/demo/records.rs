//! The records that the demo's writer writes: each can be told from its name alone.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One record of the write load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// Before which kill it was written.
    pub round: u32,
    /// By which thread.
    pub thread: u32,
    /// As which of that thread's records.
    pub number: u64,
}

/// What all of these keys begin with.
pub const PREFIX: &str = "written/";

impl Name {
    /// Its key.
    pub fn key(&self) -> String {
        format!(
            "{PREFIX}{:04}/{:04}/{:012}",
            self.round, self.thread, self.number
        )
    }

    /// The name that a key stands for.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.split('/');
        let name = Self {
            round: parts.next()?.parse().ok()?,
            thread: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        (name.key().as_bytes() == key).then_some(name)
    }

    /// Its value: 64 to 2,111 bytes that no other record has.
    pub fn value(&self) -> Vec<u8> {
        let key = self.key();
        let word = |at: u64| xxh3_64_with_seed(key.as_bytes(), at);
        let words = 8 + word(u64::MAX) % 256;
        (0..words).flat_map(|at| word(at).to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_keys() {
        let name = Name {
            round: 3,
            thread: 7,
            number: 1_234_567,
        };
        assert_eq!(Name::of_key(name.key().as_bytes()), Some(name));
        assert_eq!(Name::of_key(b"written/3/7/1234567"), None);
        assert_eq!(Name::of_key(b"files/a"), None);
        assert!((64..=2111).contains(&name.value().len()));
        let next = Name {
            number: 1_234_568,
            ..name
        };
        assert_ne!(name.value(), next.value());
    }
}
