//! What each writer does: operation number `n` of a writer follows from the seed, the writer and `n`
//! alone, and so does every value. So a store's counters say exactly what it has to hold.

use kintsu::testing::SeededRng;

/// Threads that write, each in a part of the keys of its own.
pub const WRITERS: usize = 3;
/// Keyspaces with items: one packed quickly, one packed well, one as it is.
pub const ITEM_KEYSPACES: usize = 3;
/// Accounts that all writers move money between.
pub const ACCOUNTS: usize = 64;
/// Counters that all writers change.
pub const SHARED_COUNTERS: usize = 16;
/// Counters of each writer's own.
pub const OWN_COUNTERS: usize = 2_000;

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many items each writer may have in each keyspace.
    pub slots: [u64; ITEM_KEYSPACES],
    /// How long it goes on, in seconds; `None`: until so many operations are done.
    pub seconds: Option<u64>,
    /// How many operations of all writers end a run that isn't bounded by time.
    pub operations: u64,
    /// How many children work on the store, one after the other; all but the last are killed.
    pub phases: u64,
    /// The limits of the store.
    pub cache_bytes: u64,
    pub write_buffer_bytes: usize,
    pub segment_bytes: u64,
    pub backup_log_bytes: u64,
    /// How long sessions live.
    pub session_ms: u64,
    /// Operations of all writers between two pieces of upkeep.
    pub upkeep_operations: u64,
    pub sample_ms: u64,
}

impl Size {
    /// An hour, say, over a store many times larger than its cache.
    fn long(seconds: u64) -> Self {
        Self {
            slots: [80_000, 30_000, 30_000],
            seconds: Some(seconds),
            operations: 0,
            phases: 6,
            cache_bytes: 8 << 20,
            write_buffer_bytes: 4 << 20,
            segment_bytes: 4 << 20,
            backup_log_bytes: 256 << 20,
            session_ms: 20_000,
            upkeep_operations: 20_000,
            sample_ms: 2_000,
        }
    }

    /// Some seconds, bounded by operations.
    fn short() -> Self {
        Self {
            slots: [2_000, 600, 600],
            seconds: None,
            operations: 24_000,
            phases: 2,
            cache_bytes: 512 << 10,
            write_buffer_bytes: 256 << 10,
            segment_bytes: 256 << 10,
            backup_log_bytes: 8 << 20,
            session_ms: 1_000,
            upkeep_operations: 1_000,
            sample_ms: 500,
        }
    }

    /// What `KINTSU_SOAK_SECONDS` asks for.
    pub fn chosen() -> Self {
        let seconds = std::env::var("KINTSU_SOAK_SECONDS").ok();
        match seconds.map(|text| text.parse().unwrap()) {
            Some(seconds) => Self::long(seconds),
            None => Self::short(),
        }
    }
}

/// Items that one operation puts at the beginning.
const FILL: u64 = 50;

/// One change of an operation; keys are the writer's own unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        keyspace: usize,
        slot: u64,
    },
    Delete {
        keyspace: usize,
        slot: u64,
    },
    DeleteRange {
        keyspace: usize,
        from: u64,
        to: u64,
    },
    /// Adds to a counter.
    Merge {
        counter: u64,
        amount: i64,
    },
    DeleteCounters {
        from: u64,
        to: u64,
    },
    /// Moves between two counters that all writers share.
    Shift {
        from: u64,
        to: u64,
        amount: i64,
    },
    /// Moves between two accounts that all writers share, reading both.
    Transfer {
        from: u64,
        to: u64,
        amount: i64,
    },
    /// A value that goes by itself.
    Session,
}

/// How the changes get into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Batch,
    Transaction,
    /// A bulk load.
    Load,
    /// A compare-and-swap of the writer's progress, and nothing else.
    Swap,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub way: Way,
    pub changes: Vec<Change>,
}

fn mix(mut hash: u64, more: u64) -> u64 {
    hash = (hash ^ more).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash ^ (hash >> 29)
}

fn rng_of(words: &[u64]) -> SeededRng {
    SeededRng::new(
        words
            .iter()
            .fold(0x6B69_6E74_7375, |hash, word| mix(hash, *word)),
    )
}

/// Operation `number` of a writer, from 1 on.
pub fn operation(size: &Size, seed: u64, writer: usize, number: u64) -> Operation {
    if let Some(fill) = fill(size, number) {
        return fill;
    }
    let mut rng = rng_of(&[seed, writer as u64, number]);
    let mut way = Way::Batch;
    let changes = match rng.below(1_000) {
        0..400 => vec![put(size, &mut rng)],
        400..520 => vec![delete(size, &mut rng)],
        520..640 => mixed_batch(size, &mut rng),
        640..660 => delete_range(size, &mut rng),
        660..740 => vec![merge(&mut rng)],
        740..800 => vec![shift(&mut rng), merge(&mut rng)],
        800..810 => delete_counters(&mut rng),
        810..920 => {
            way = Way::Transaction;
            vec![transfer(&mut rng), put(size, &mut rng)]
        }
        920..960 => {
            way = Way::Swap;
            Vec::new()
        }
        960..998 => vec![Change::Session],
        _ => {
            way = Way::Load;
            load(size, &mut rng)
        }
    };
    Operation { way, changes }
}

/// The first operations put each item once.
fn fill(size: &Size, number: u64) -> Option<Operation> {
    let mut at = number - 1;
    for (keyspace, slots) in size.slots.into_iter().enumerate() {
        let fills = slots.div_ceil(FILL);
        if at < fills {
            let slots = at * FILL..((at + 1) * FILL).min(slots);
            let changes = slots.map(|slot| Change::Put { keyspace, slot }).collect();
            let way = Way::Batch;
            return Some(Operation { way, changes });
        }
        at -= fills;
    }
    None
}

/// More often in the larger keyspace.
fn place(size: &Size, rng: &mut SeededRng) -> (usize, u64) {
    let mut at = rng.below(size.slots.iter().sum());
    let mut keyspace = 0;
    while at >= size.slots[keyspace] {
        at -= size.slots[keyspace];
        keyspace += 1;
    }
    // A tenth of the items gets half of the writes.
    let slots = size.slots[keyspace];
    let slot = match rng.one_in(2) {
        true => rng.below(slots / 10),
        false => at,
    };
    (keyspace, slot)
}

fn put(size: &Size, rng: &mut SeededRng) -> Change {
    let (keyspace, slot) = place(size, rng);
    Change::Put { keyspace, slot }
}

fn delete(size: &Size, rng: &mut SeededRng) -> Change {
    let (keyspace, slot) = place(size, rng);
    Change::Delete { keyspace, slot }
}

fn mixed_batch(size: &Size, rng: &mut SeededRng) -> Vec<Change> {
    let count = rng.between(2, 12);
    let mut changes: Vec<Change> = (0..count)
        .map(|_| match rng.below(8) {
            0 => merge(rng),
            1 => shift(rng),
            2 => delete(size, rng),
            _ => put(size, rng),
        })
        .collect();
    // Now and then a range deletion between puts of the same batch.
    if rng.one_in(20) {
        let at = rng.below(count) as usize;
        changes.splice(at..at, delete_range(size, rng));
    }
    changes
}

fn delete_range(size: &Size, rng: &mut SeededRng) -> Vec<Change> {
    let (keyspace, from) = place(size, rng);
    let length = match rng.one_in(50) {
        true => size.slots[keyspace] / 20,
        false => rng.between(1, 20),
    };
    let to = (from + length).min(size.slots[keyspace]);
    vec![Change::DeleteRange { keyspace, from, to }]
}

fn merge(rng: &mut SeededRng) -> Change {
    Change::Merge {
        counter: rng.below(OWN_COUNTERS as u64),
        amount: rng.below(2_000) as i64 - 1_000,
    }
}

fn delete_counters(rng: &mut SeededRng) -> Vec<Change> {
    let from = rng.below(OWN_COUNTERS as u64);
    let to = (from + rng.between(1, 30)).min(OWN_COUNTERS as u64);
    vec![Change::DeleteCounters { from, to }]
}

fn two(rng: &mut SeededRng, count: usize) -> (u64, u64) {
    let from = rng.below(count as u64);
    let to = (from + rng.between(1, count as u64 - 1)) % count as u64;
    (from, to)
}

fn shift(rng: &mut SeededRng) -> Change {
    let (from, to) = two(rng, SHARED_COUNTERS);
    let amount = rng.below(1_000) as i64;
    Change::Shift { from, to, amount }
}

fn transfer(rng: &mut SeededRng) -> Change {
    let (from, to) = two(rng, ACCOUNTS);
    let amount = rng.below(1_000) as i64;
    Change::Transfer { from, to, amount }
}

/// A piece of the first keyspace, with every other key or so.
fn load(size: &Size, rng: &mut SeededRng) -> Vec<Change> {
    let from = rng.below(size.slots[0]);
    let to = (from + rng.between(20, 400)).min(size.slots[0]);
    let slots = (from..to).filter(|_| rng.one_in(2));
    let keyspace = 0;
    slots.map(|slot| Change::Put { keyspace, slot }).collect()
}

pub fn progress_key(writer: usize) -> String {
    format!("w{writer}/progress")
}

pub fn item_key(writer: usize, slot: u64) -> String {
    format!("w{writer}/item/{slot:08}")
}

pub fn counter_key(writer: usize, counter: u64) -> String {
    format!("w{writer}/{counter:06}")
}

pub fn shared_counter_key(counter: u64) -> String {
    format!("shared/{counter:02}")
}

pub fn account_key(account: u64) -> String {
    format!("{account:04}")
}

pub fn session_key(writer: usize, number: u64) -> String {
    format!("w{writer}/{number:012}")
}

/// The value that an operation gives an item: mostly small, half of it packable. It begins with the
/// operation's number.
pub fn item_value(seed: u64, writer: usize, number: u64, keyspace: usize, slot: u64) -> Vec<u8> {
    let mut rng = rng_of(&[seed, writer as u64, number, keyspace as u64 + 1, slot]);
    let bytes = match rng.below(1_000) {
        0..900 => rng.between(100, 400),
        900..998 => 4 << 10,
        _ => 64 << 10,
    };
    value(&mut rng, number, bytes as usize)
}

pub fn session_value(seed: u64, writer: usize, number: u64) -> Vec<u8> {
    let mut rng = rng_of(&[seed, writer as u64, number, u64::MAX]);
    value(&mut rng, number, 300)
}

fn value(rng: &mut SeededRng, number: u64, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 64);
    value.extend_from_slice(&number.to_le_bytes());
    while value.len() < bytes {
        for _ in 0..4 {
            value.extend_from_slice(&rng.next_u64().to_le_bytes());
        }
        value.extend_from_slice(&[b'k'; 32]);
    }
    value.truncate(bytes);
    value
}

/// The number at the beginning of a value.
pub fn number_in(value: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*value.first_chunk()?))
}
