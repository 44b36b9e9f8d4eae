//! What is written: each thread's n-th write follows from the seed, so whoever reads the store can tell what
//! must be there, what may be, and what can't.

use std::array;

use kintsu::Durability;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Threads that write at once.
pub const THREADS: usize = 4;

/// A figure for each thread.
pub type Each<T> = [T; THREADS];

/// Bytes of a value before its filling: thread, number, slot, and what was seen.
const HEADER: usize = 8 * (3 + THREADS);
const CHECKSUM: usize = 8;
/// Writes in a batch, at most.
const BATCH_MAX: u64 = 8;

/// One change of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which of the thread's keys.
    pub slot: u64,
    /// Whether the key goes.
    pub delete: bool,
}

/// Which writes there are.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where it all follows from.
    pub seed: u64,
    /// Keys of each thread.
    pub slots: u64,
}

/// What a value says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which of its thread's writes made it.
    pub number: u64,
    /// How many writes of each thread were acknowledged when that write began: whoever has the value has
    /// those, or there is a hole.
    pub seen: Each<u64>,
}

impl Plan {
    fn word(&self, thread: usize, number: u64, what: u64) -> u64 {
        let mut name = [0; 24];
        let parts = [thread as u64, number, what];
        for (to, part) in name.chunks_mut(8).zip(parts) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        xxh3_64_with_seed(&name, self.seed)
    }

    /// What a thread's n-th write changes; mostly one key, sometimes a batch.
    pub fn changes(&self, thread: usize, number: u64) -> Vec<Change> {
        let drawn = self.word(thread, number, 1);
        let count = match drawn % 8 {
            0 => 2 + (drawn >> 8) % (BATCH_MAX - 1),
            _ => 1,
        };
        let first = (drawn >> 16) % self.slots;
        let change = |at: u64| Change {
            slot: (first + at * 17) % self.slots,
            delete: self.word(thread, number, 2 + at).is_multiple_of(9),
        };
        (0..count).map(change).collect()
    }

    /// What a thread's n-th write is to survive.
    pub fn durability(&self, thread: usize, number: u64) -> Durability {
        match self.word(thread, number, 100) % 8 {
            0 => Durability::Disk,
            1 | 2 => Durability::Buffered,
            _ => Durability::Process,
        }
    }

    /// The key of a slot.
    pub fn key(thread: usize, slot: u64) -> String {
        format!("{thread}/{slot:06}")
    }

    /// Which slot of which thread a key is of.
    pub fn slot(key: &[u8]) -> Option<(usize, u64)> {
        let (thread, slot) = str::from_utf8(key).ok()?.split_once('/')?;
        let (thread, slot) = (thread.parse().ok()?, slot.parse().ok()?);
        (thread < THREADS && Self::key(thread, slot).as_bytes() == key).then_some((thread, slot))
    }

    /// The value that a write gives to a slot.
    pub fn value(&self, thread: usize, slot: u64, stamp: &Stamp) -> Vec<u8> {
        let length = self.filling(thread, stamp.number, slot);
        let mut value = Vec::with_capacity(HEADER + length + CHECKSUM);
        for word in [thread as u64, stamp.number, slot]
            .iter()
            .chain(&stamp.seen)
        {
            value.extend_from_slice(&word.to_le_bytes());
        }
        let mut at = 0;
        while value.len() < HEADER + length {
            let word = self.word(thread, stamp.number, (slot << 20 | at) + (1 << 40));
            value.extend_from_slice(&word.to_le_bytes());
            at += 1;
        }
        value.truncate(HEADER + length);
        let checksum = xxh3_64_with_seed(&value, self.seed);
        value.extend_from_slice(&checksum.to_le_bytes());
        value
    }

    fn filling(&self, thread: usize, number: u64, slot: u64) -> usize {
        let drawn = self.word(thread, number, (slot << 8) + 101);
        let most = match drawn % 100 {
            0 => 40_000,
            1..30 => 100,
            _ => 1_800,
        };
        usize::try_from((drawn >> 8) % most).unwrap_or_default()
    }

    /// What a value says, if it is, byte for byte, one that some write gave to this slot.
    pub fn stamp(&self, thread: usize, slot: u64, value: &[u8]) -> Option<Stamp> {
        let word = |at: usize| {
            let bytes = value.get(at * 8..at * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let number = word(1)?;
        let seen = array::from_fn(|at| word(3 + at).unwrap_or(u64::MAX));
        let stamp = Stamp { number, seen };
        let wrote = |change: &Change| change.slot == slot && !change.delete;
        let is_due = self.changes(thread, number).iter().any(wrote);
        (is_due && self.value(thread, slot, &stamp) == value).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { seed: 7, slots: 50 };

    #[test]
    fn values_tell_whose_they_are() {
        let number = (0..)
            .find(|number| !PLAN.changes(2, *number)[0].delete)
            .unwrap();
        let slot = PLAN.changes(2, number)[0].slot;
        let stamp = Stamp {
            number,
            seen: [1, 2, 3, 4],
        };
        let value = PLAN.value(2, slot, &stamp);
        assert_eq!(PLAN.stamp(2, slot, &value), Some(stamp));
        assert_eq!(PLAN.stamp(1, slot, &value), None);
        assert_eq!(PLAN.stamp(2, slot + 1, &value), None);
        for at in 0..value.len() {
            let mut wrong = value.clone();
            wrong[at] ^= 1;
            assert_eq!(PLAN.stamp(2, slot, &wrong), None, "byte {at}");
        }
        assert_eq!(PLAN.stamp(2, slot, &value[..value.len() - 1]), None);
        assert_eq!(PLAN.stamp(2, slot, &[]), None);
    }

    #[test]
    fn there_is_some_of_everything() {
        let writes = || (0..500).map(|number| PLAN.changes(0, number));
        assert!(writes().any(|changes| changes.len() > 1));
        assert!(writes().flatten().any(|change| change.delete));
        for wanted in [Durability::Buffered, Durability::Process, Durability::Disk] {
            assert!((0..100).any(|number| PLAN.durability(3, number) == wanted));
        }
        assert_eq!(Plan::slot(Plan::key(3, 17).as_bytes()), Some((3, 17)));
        for foreign in ["4/000001", "1/17", "x", "", "1/000001/"] {
            assert_eq!(Plan::slot(foreign.as_bytes()), None);
        }
    }
}
