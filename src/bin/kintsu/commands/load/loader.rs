//! Writes records in batches, and reports only what a sync has made durable.

use std::time::Duration;

use kintsu::{Db, Durability, Keyspace, WriteBatch};

use crate::console::Console;
use crate::failure::Outcome;
use crate::progress::Progress;

/// Bytes in a batch before it is written. One larger value makes a larger batch.
const BATCH_BYTES: usize = 1 << 20;

/// How much has been loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loaded {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Bytes of input that they took.
    input_bytes: u64,
}

/// Where records go.
pub struct Loader<'a> {
    db: &'a Db,
    keyspace: Keyspace,
    progress: Progress,
    batch: WriteBatch,
    sync_bytes: u64,
    /// What has been handed to the batch or the store.
    taken: Loaded,
    /// What the store has taken.
    written: Loaded,
    /// What a sync has made durable.
    durable: Loaded,
    /// Whether a write has failed; what it held is in `taken` and not in the store.
    failed: bool,
}

impl<'a> Loader<'a> {
    /// A loader into `keyspace` that syncs after `sync_bytes` of input at the latest.
    pub fn new(
        db: &'a Db,
        keyspace: Keyspace,
        console: &Console,
        bytes_total: Option<u64>,
        sync_bytes: u64,
    ) -> Self {
        Self {
            db,
            keyspace,
            progress: Progress::new(console, "loaded", Some("record"), bytes_total),
            batch: WriteBatch::new(),
            sync_bytes,
            taken: Loaded::default(),
            written: Loaded::default(),
            durable: Loaded::default(),
            failed: false,
        }
    }

    /// Takes one record, which took `input_bytes` of input.
    pub fn put(&mut self, key: &[u8], value: &[u8], input_bytes: u64) -> Outcome {
        self.batch.put_in(&self.keyspace, key, value);
        self.taken.records += 1;
        self.taken.bytes += (key.len() + value.len()) as u64;
        self.taken.input_bytes += input_bytes;
        let unsynced_bytes = self.taken.input_bytes - self.durable.input_bytes;
        if unsynced_bytes >= self.sync_bytes || self.progress.is_due() {
            self.report()?;
        } else if self.batch.bytes() >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Outcome {
        let batch = std::mem::take(&mut self.batch);
        let written = self.db.write_with(batch, Durability::Buffered);
        self.failed |= written.is_err();
        written?;
        self.written = self.taken;
        Ok(())
    }

    /// Makes everything taken so far durable.
    pub fn sync(&mut self) -> Outcome {
        self.write()?;
        self.db.sync()?;
        self.durable = self.written;
        Ok(())
    }

    /// The promise of this command: first the sync, then the word.
    fn report(&mut self) -> Outcome {
        self.sync()?;
        self.progress
            .tell(self.durable.records, self.durable.input_bytes);
        Ok(())
    }

    /// What was loaded and how long it took.
    pub fn finish(mut self) -> (Loaded, Duration) {
        self.progress.finish();
        (self.durable, self.progress.elapsed())
    }

    /// Keeps what can be kept after a failure, and says how many records that are.
    pub fn give_up(mut self) -> u64 {
        // The failure that led here is told by the caller; a second one adds nothing to it.
        let _ = if self.failed { Ok(()) } else { self.write() };
        if self.db.sync().is_ok() {
            self.durable = self.written;
        }
        self.progress.finish();
        self.durable.records
    }
}
