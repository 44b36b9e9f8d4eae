//! The store under torture, and the threads that write to it.

use std::array;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use kintsu::{Db, Durability, Error, Keyspace, Options, WriteBatch};

use super::plan::{Each, Plan, Stamp, THREADS};

/// The keyspace beside the default one.
const SECOND: &str = "second";

/// A store that is open.
pub struct Store {
    /// All of it.
    pub db: Db,
    /// What half of the keys are in.
    pub second: Keyspace,
}

impl Store {
    /// Opens one, or creates it.
    pub fn open(options: Options) -> kintsu::Result<Self> {
        let db = options.open()?;
        // Always there but for a new store, and for one whose creation was cut short.
        let second = match db.keyspace(SECOND) {
            Err(Error::KeyspaceNotFound { .. }) => db.keyspace_or_create(SECOND)?,
            found => found?,
        };
        Ok(Self { db, second })
    }
}

/// Small files of every kind, so that all that happens to a store happens often.
pub fn options(path: &Path) -> Options {
    Options::new(path)
        .write_buffer_bytes(256 << 10)
        .log_file_bytes(1 << 20)
        .log_bytes_before_flush(2 << 20)
        .segment_bytes(2 << 20)
        .level_base_bytes(4 << 20)
        .block_cache_bytes(1 << 20)
        .scrub_every(None)
}

/// How far each thread has come, in writes.
#[derive(Debug, Default)]
pub struct Done {
    /// Begun.
    started: Each<AtomicU64>,
    /// Acknowledged, whatever it is to survive.
    acknowledged: Each<AtomicU64>,
    /// Of those acknowledged, through the last that is to survive the process's death.
    process: Each<AtomicU64>,
    /// … and the loss of power.
    disk: Each<AtomicU64>,
}

fn all(counters: &Each<AtomicU64>) -> Each<u64> {
    array::from_fn(|thread| counters.get(thread).map_or(0, |count| count.load(SeqCst)))
}

impl Done {
    /// As if everything before these writes had been made, and survived.
    pub fn from(positions: &Each<u64>) -> Self {
        let at = || positions.map(AtomicU64::new);
        Self {
            started: at(),
            acknowledged: at(),
            process: at(),
            disk: at(),
        }
    }

    /// Writes begun.
    pub fn started(&self) -> Each<u64> {
        all(&self.started)
    }

    /// Writes acknowledged.
    pub fn acknowledged(&self) -> Each<u64> {
        all(&self.acknowledged)
    }

    /// Writes that survive the process's death.
    pub fn process(&self) -> Each<u64> {
        all(&self.process)
    }

    /// Writes that survive the loss of power.
    pub fn disk(&self) -> Each<u64> {
        all(&self.disk)
    }

    /// The next write of a thread begins.
    fn start(&self, thread: usize) -> Option<u64> {
        Some(self.started.get(thread)?.fetch_add(1, SeqCst))
    }

    /// A write of a thread has been acknowledged.
    pub fn acknowledge(&self, thread: usize, number: u64, durability: Durability) {
        let put = |counters: &Each<AtomicU64>| {
            if let Some(counter) = counters.get(thread) {
                counter.store(number + 1, SeqCst);
            }
        };
        put(&self.acknowledged);
        if durability >= Durability::Process {
            put(&self.process);
        }
        if durability >= Durability::Disk {
            put(&self.disk);
        }
    }
}

/// How often a thread tries a write that fails. A store that takes one again after an error has to keep it.
const ATTEMPTS: usize = 3;

/// Writes with one thread until `more` says no, or until a write has failed for good. What failed.
fn write(
    store: &Store,
    plan: &Plan,
    thread: usize,
    done: &Done,
    more: &(dyn Fn(usize, u64) -> bool + Sync),
) -> Vec<Error> {
    let mut errors = Vec::new();
    while let Some(number) = done.start(thread) {
        let durability = plan.durability(thread, number);
        let mut attempt = |_: usize| match write_one(store, plan, thread, number, done) {
            Ok(()) => true,
            Err(error) => {
                errors.push(error);
                false
            }
        };
        // Whatever became of the attempts before, the keys are the same after this one.
        if !(0..ATTEMPTS).any(&mut attempt) {
            break;
        }
        done.acknowledge(thread, number, durability);
        if !more(thread, number) {
            break;
        }
    }
    errors
}

fn write_one(
    store: &Store,
    plan: &Plan,
    thread: usize,
    number: u64,
    done: &Done,
) -> kintsu::Result<()> {
    let stamp = Stamp {
        number,
        seen: done.acknowledged(),
    };
    let mut batch = WriteBatch::new();
    for change in plan.changes(thread, number) {
        let key = Plan::key(thread, change.slot);
        let value = plan.value(thread, change.slot, &stamp);
        match (change.slot % 2 == 0, change.delete) {
            (true, false) => batch.put(key, value),
            (true, true) => batch.delete(key),
            (false, false) => batch.put_in(&store.second, key, value),
            (false, true) => batch.delete_in(&store.second, key),
        };
    }
    store.db.write_with(batch, plan.durability(thread, number))
}

/// Writes with all threads until `more` says no to each, or until its writes have failed for good. What failed.
pub fn write_all(
    store: &Store,
    plan: &Plan,
    done: &Done,
    more: &(dyn Fn(usize, u64) -> bool + Sync),
) -> Vec<Error> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || write(store, plan, thread, done, more)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        // A panic goes on in the caller, who counts it.
        ended
            .flat_map(|ended| ended.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}
