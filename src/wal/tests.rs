//! Tests of the whole room. Helpers here, tests by what they are about in the files below.

mod basics;
mod crash;
mod damage;
mod faults;
mod golden;
mod history;
mod model;
mod order;
mod parity;
mod sharing;
mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::environment::{Entropy, SystemClock};
use crate::error::{Error, Result};
use crate::vfs::{MemoryVfs, Vfs};

/// Randomness that a seed decides.
#[derive(Debug)]
pub(super) struct Seeded(std::sync::atomic::AtomicU64);

impl Entropy for Seeded {
    fn next_u64(&self) -> u64 {
        let drawn = self
            .0
            .fetch_add(0x9e37_79b9_7f4a_7c15, std::sync::atomic::Ordering::Relaxed);
        xxhash_rust::xxh3::xxh3_64(&drawn.to_le_bytes())
    }
}

/// Room for the header, six synced groups, and the `End` record.
pub(super) const FILE_BYTES: u64 = 32 << 10;

pub(super) const STORE: StoreId = StoreId(0x5107e);

pub(super) fn dir() -> PathBuf {
    PathBuf::from("/log")
}

/// A small log that stands alone on a simulated disk.
pub(super) fn setup_on(vfs: Arc<dyn Vfs>, seed: u64) -> LogSetup<'static> {
    LogSetup {
        dir: dir(),
        vfs,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(Seeded(seed.into())),
        store_id: STORE,
        options: LogOptions {
            file_bytes: FILE_BYTES,
            identifier_delay: Duration::from_secs(1),
            buffer_bytes: 4 << 10,
            parity: Parity::Standard,
        },
        registry: None,
        known: Vec::new(),
        needed_above: Index(0),
        access: LogAccess::ReadWrite,
        damage: DamagePolicy::Refuse,
        parallel: false,
        progress: None,
    }
}

pub(super) fn setup(vfs: &MemoryVfs) -> LogSetup<'static> {
    setup_on(Arc::new(vfs.clone()), 7)
}

/// A payload that tells its index, of a length that varies.
pub(super) fn payload(index: u64, bytes: usize) -> Vec<u8> {
    let mut payload = format!("record {index} ").into_bytes();
    while payload.len() < bytes {
        payload.push(b'a' + (payload.len() as u64 * 7 + index) as u8 % 26);
    }
    payload
}

pub(super) fn append(log: &Log, index: u64, bytes: usize, durability: Durability) -> Result<Lsn> {
    let payload = payload(index, bytes);
    let record = Append {
        term: Term(1 + index / 10),
        time_us: index.wrapping_add(1_000),
        ..Append::new(RecordKind::Batch, Index(index), &payload)
    };
    log.append(&[record], durability)
}

pub(super) fn append_synced(log: &Log, index: u64, bytes: usize) -> Result<()> {
    log.sync_to(append(log, index, bytes, Durability::Disk)?)
}

/// All records from an index on.
pub(super) fn read(log: &Log, from: u64) -> Result<Vec<Record>> {
    let mut reader = log.read_from(Index(from))?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record);
    }
    Ok(records)
}

pub(super) fn indexes(log: &Log) -> Vec<u64> {
    let first = log.first_index().0;
    let records = read(log, first).unwrap();
    records.iter().map(|record| record.index.0).collect()
}

pub(super) fn open(vfs: &MemoryVfs) -> (Log, LogReport) {
    Log::open(setup(vfs)).unwrap()
}
