//! The store's handle.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::api::bounds::KeyRange;
use crate::api::{Range, ReadView, Subscription};
use crate::engine::{Effect, Engine, Health, RecoveryReport, Request, Statistics, WriteBatch};
use crate::error::Result;
use crate::options::Options;
use crate::types::{Durability, Index};

/// What all handles of one open store share; the last to go lets the store go.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) report: RecoveryReport,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.engine.abandon();
    }
}

impl Shared {
    /// Writes a batch with the store's durability.
    pub(crate) fn write_default(&self, batch: WriteBatch) -> Result<()> {
        self.write(batch, self.engine.options.durability)
    }

    pub(crate) fn write(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        if batch.merges() {
            self.check_merges(&batch)?;
        }
        self.write_unchecked(batch, durability)
    }

    /// Whether every keyspace in which the batch merges knows how.
    pub(crate) fn check_merges(&self, batch: &WriteBatch) -> Result<()> {
        let keyspaces = self.engine.keyspaces.load();
        for operation in batch.operations().flatten() {
            // One that is gone is met when the batch is written.
            if matches!(operation.effect, Effect::Merge(_))
                && let Some(tree) = keyspaces.get(operation.keyspace)
            {
                tree.values.operator()?;
            }
        }
        Ok(())
    }

    /// As [`Shared::write`], whether or not merges in it can be worked out by this program.
    pub(crate) fn write_unchecked(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        if batch.is_empty() && batch.bytes() == 0 {
            batch.finish()?;
            return self.write_nothing(durability);
        }
        self.engine
            .write(Request::of_batch(batch, durability)?)
            .map(drop)
    }

    /// An empty batch changes nothing, but still says that what came before it has its durability.
    fn write_nothing(&self, durability: Durability) -> Result<()> {
        match durability {
            Durability::Disk => self.engine.sync(),
            Durability::Process => self.engine.write_out(),
            Durability::Buffered => self.engine.check_writable(),
        }
    }
}

/// An open store. Cheap to clone; all clones are the same store.
///
/// Dropping the last handle without [`Db::close`] loses nothing that was promised; the next open then
/// replays a longer piece of log. Bulk loads and subscriptions are no handles: they end with the last one.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let db = kintsu::Db::open(folder.path())?;
/// db.put("key", "value")?;
/// assert_eq!(db.get("key")?.as_deref(), Some(&b"value"[..]));
/// for item in db.range("a".."z")?.rev() {
///     let (key, value) = item?;
///     println!("{key:?} {value:?}");
/// }
/// db.close()?;
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Db {
    pub(super) shared: Arc<Shared>,
}

impl Options {
    /// Opens the store.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(self) -> Result<Db> {
        let (engine, report) = Engine::open(self)?;
        Ok(Db {
            shared: Arc::new(Shared { engine, report }),
        })
    }
}

impl Db {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens the store in the folder `path` with the default options, creating it if there is none.
    ///
    /// # Errors
    /// - [`Error::Locked`](crate::Error::Locked): another handle or process has it open.
    /// - [`Error::NotAStore`](crate::Error::NotAStore), [`Error::MemberStore`](crate::Error::MemberStore), [`Error::NewerFormat`](crate::Error::NewerFormat),
    ///   [`Error::ForeignFile`](crate::Error::ForeignFile), [`Error::UnsafeFileSystem`](crate::Error::UnsafeFileSystem): this folder can't be opened so.
    /// - [`Error::Damaged`](crate::Error::Damaged): acknowledged data is damaged; nothing was changed.
    /// - [`Error::InvalidOption`](crate::Error::InvalidOption), [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace) (only when creating).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new(path).open()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// What the open found and did.
    #[must_use]
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The newest value of `key` in the default keyspace. Shares memory with the block cache where it
    /// can.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), a failed read, or [`Error::Damaged`](crate::Error::Damaged).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let engine = &self.shared.engine;
        engine.check_open()?;
        let keyspaces = engine.keyspaces.load();
        keyspaces.default.get(key.as_ref(), || engine.views.point())
    }

    /// The values of many keys of the default keyspace as they stand at one moment, in the order of the
    /// keys.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// db.put("a", "1")?;
    /// let values = db.multi_get(["a", "b"])?;
    /// assert_eq!(values[0].as_deref(), Some(&b"1"[..]));
    /// assert_eq!(values[1], None);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        self.view().multi_get(keys)
    }

    /// Whether `key` has a value in the default keyspace.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|found| found.is_some())
    }

    /// Sets `key` to `value` in the default keyspace, with the store's durability.
    ///
    /// # Errors
    /// As [`Db::write_with`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        self.write(batch)
    }

    /// Sets `key` to `value` in the default keyspace for a time, with the store's durability.
    ///
    /// What has expired is as if it had been deleted. Time is that of the log's records: each write has the
    /// time of the clock, or that of the write before if the clock went back. So in a store that nobody
    /// writes to nothing expires.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// use std::time::Duration;
    /// db.put_expiring("session", "alice", Duration::from_secs(3600))?;
    /// assert!(db.contains("session")?);
    /// db.put_expiring("session", "alice", Duration::ZERO)?;
    /// assert!(!db.contains("session")?);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::write_with`].
    pub fn put_expiring(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_expiring(key, value, time_to_live);
        self.write(batch)
    }

    /// Changes the value of `key` in the default keyspace by `operand`: see [`Keyspace::merge`](crate::Keyspace::merge).
    ///
    /// # Errors
    /// As [`Keyspace::merge`](crate::Keyspace::merge).
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.merge(key, operand);
        self.write(batch)
    }

    /// Removes `key` from the default keyspace, with the store's durability; one that isn't there is no
    /// error.
    ///
    /// # Errors
    /// As [`Db::write_with`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete(key);
        self.write(batch)
    }

    /// Removes every key in a range of the default keyspace, with the store's durability. One record in the
    /// log, however many keys there are; their space is reclaimed by compaction.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// db.put("log/2020", "old")?;
    /// db.put("log/2026", "new")?;
    /// db.delete_range("log/".."log/2026")?;
    /// assert_eq!(db.prefix("log/")?.count(), 1);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::write_with`].
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete_range(range);
        self.write(batch)
    }

    /// Writes a batch, all of it or nothing, with the store's durability.
    ///
    /// # Errors
    /// As [`Db::write_with`].
    pub fn write(&self, batch: WriteBatch) -> Result<()> {
        self.shared.write_default(batch)
    }

    /// Writes a batch, all of it or nothing, with a durability of its own.
    ///
    /// # Errors
    /// - [`Error::KeyTooLong`](crate::Error::KeyTooLong), [`Error::ValueTooLong`](crate::Error::ValueTooLong), [`Error::BatchTooLarge`](crate::Error::BatchTooLarge),
    ///   [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound), [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Closed`](crate::Error::Closed): nothing was written.
    /// - [`Error::NoSpace`](crate::Error::NoSpace): nothing was written; reads go on, and writes succeed once there is room.
    /// - [`Error::OutcomeUnknown`](crate::Error::OutcomeUnknown): the write or its sync failed; the store takes no more writes.
    /// - [`Error::Poisoned`](crate::Error::Poisoned): an earlier write failed so; nothing was written.
    pub fn write_with(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        self.shared.write(batch, durability)
    }

    pub(crate) fn write_unchecked(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        self.shared.write_unchecked(batch, durability)
    }

    /// The keys and values of a range of the default keyspace, as they stand now.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn range(&self, range: impl KeyRange) -> Result<Range> {
        self.view().range(range)
    }

    /// The keys that begin with `prefix`, and their values, in the default keyspace, as they stand now.
    ///
    /// # Errors
    /// As [`Db::get`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Range> {
        self.view().prefix(prefix)
    }

    /// A consistent look at the whole store as it stands now.
    #[must_use]
    pub fn view(&self) -> ReadView {
        ReadView::new(self.shared.clone())
    }

    /// Makes every write acknowledged so far survive the loss of power.
    ///
    /// # Errors
    /// As [`Db::write_with`].
    pub fn sync(&self) -> Result<()> {
        self.shared.engine.sync()
    }

    /// Moves everything written so far from memory into segments, so that the next open has no log to
    /// replay. Runs in the calling thread.
    ///
    /// # Errors
    /// As [`Db::write_with`]; after [`Error::NoSpace`](crate::Error::NoSpace) the data is still in the log.
    pub fn flush(&self) -> Result<()> {
        self.shared.engine.flush()
    }

    /// Flushes, and compacts what the default keyspace says of a range until its last level holds nothing but
    /// what somebody can still read. Runs in the calling thread, beside reads and writes; what is written
    /// meanwhile is left alone.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// db.put("key", "value")?;
    /// db.delete("key")?;
    /// db.compact_range(..)?;
    /// assert_eq!(db.statistics().keyspaces[0].segment_entries, 0);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::flush`]; [`Error::Damaged`](crate::Error::Damaged) if a segment can't be read;
    /// [`Error::Closed`](crate::Error::Closed) also if the store is closed meanwhile.
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        let (lower, upper) = range.into_half_open();
        let engine = &self.shared.engine;
        let default = engine.keyspaces.load().default.clone();
        engine.compact_range(&default, &lower, upper.as_deref())
    }

    /// Flushes, ends the log with its end marker and lets the store go. All clones are closed too;
    /// later calls answer [`Error::Closed`](crate::Error::Closed), iterators that were begun go on.
    ///
    /// Calls at work in other threads ([`Db::compact_range`], [`Db::backup_to`] and their like) are asked to
    /// end, answer `Closed`, and are waited for, as the jobs are: at most for a segment's copy or a flush.
    /// Bulk loads that aren't committed end with the store. Only then can the folder be opened again.
    ///
    /// # Errors
    /// As [`Db::write_with`]. The store is let go even then, and nothing promised is lost.
    /// [`Error::Closed`](crate::Error::Closed) if it was closed already.
    pub fn close(self) -> Result<()> {
        self.shared.engine.close()
    }

    /// Reads the change feed: every committed record, in the log's order, from record `from` on (that one
    /// included). `Index(1)` is the beginning of the store, `Index(0)` the oldest record that the log still has,
    /// `db.last_index().next()` what comes from now on. See [`Subscription`].
    ///
    /// The log's beginning is found by a binary search, and at most about 64 KiB of it are read in vain.
    ///
    /// # Errors
    /// [`Error::Purged`](crate::Error::Purged) if the log no longer has that record, [`Error::NotYetWritten`](crate::Error::NotYetWritten) if it is beyond the
    /// next one, [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Closed`](crate::Error::Closed).
    pub fn subscribe(&self, from: Index) -> Result<Subscription> {
        let subscriber = self.shared.engine.subscribe(from)?;
        Ok(Subscription::new(subscriber))
    }

    /// What the store is made of, in numbers.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.shared.engine.statistics()
    }

    /// How the store does: what asks to be looked at, worst first, the disk's pace and failures among it. Cheap enough
    /// to be asked every second.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// let health = db.health();
    /// assert_eq!(health.state, kintsu::HealthState::Well);
    /// assert_eq!(health.disk.state, kintsu::DiskState::Well);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.engine.health()
    }

    /// The folder it lives in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.engine.options.path
    }

    /// Index of the newest record that can be read.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.shared.engine.views.visible()
    }
}

/// A write on its way, in a store whose jobs the caller steps.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub struct Ticket(Arc<Request>);

#[cfg(feature = "testing")]
impl Ticket {
    /// How the write went, once it has.
    #[must_use]
    pub fn take(&self) -> Option<Result<Index>> {
        self.0.take_outcome()
    }
}

#[cfg(feature = "testing")]
impl Db {
    /// Puts a batch in the commit queue of a store opened with [`crate::Background::Manual`]; a later
    /// step of [`crate::Job::Commit`] takes it, with all that wait, through the log.
    ///
    /// # Errors
    /// As [`Db::write_with`], for what can be told before.
    pub fn submit(&self, batch: WriteBatch, durability: Durability) -> Result<Ticket> {
        self.shared.engine.check_writable()?;
        let request = Request::of_batch(batch, durability)?;
        self.shared.engine.queue.push_unled(request.clone());
        Ok(Ticket(request))
    }

    /// Does one piece of a background job's work. `false` if there was nothing to do.
    ///
    /// # Errors
    /// What the disk answers, or damage.
    pub fn step(&self, job: crate::engine::Job) -> Result<bool> {
        let _call = self.shared.engine.call()?;
        self.shared.engine.step(job)
    }
}
