//! The tree and its paths: commit, read, flush, compaction, recovery, and the jobs that drive them.
//!
//! Locks, in the order in which they may be taken: the one of whoever closes, `mend_turn`, `archive`, `backups` (each one
//! at a time), `commit` (the leader's), `flushing` (one flush at a time), `compactions` (to choose or end one;
//! none is held while it runs), `manifest` (publishing), the points held, the one in `signals` (whoever waits
//! for room looks at the generations under it), `generations`. A reader takes only the lock of the points
//! held, when it begins and ends, and under it that of `signals`. A purge holds `flushing` and the pins, and
//! the feed's subscribers wake under a lock of their own, which is the last to be taken.

mod backup;
mod batch;
mod calls;
mod catalog;
mod commit;
mod compaction;
mod conflicts;
mod feed;
mod fences;
mod fencing;
mod flush;
mod folder;
mod follow;
#[cfg(feature = "testing")]
mod fuzz;
mod generation;
mod health;
mod hiding;
mod jobs;
mod load;
mod mending;
mod merge;
mod metrics;
mod pins;
mod pressure;
mod queue;
mod recovery;
mod repair;
mod replay;
mod rewrite;
mod salvage;
mod scan;
mod scrub;
mod statistics;
mod tree;
mod values;
mod verify;
mod views;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub(crate) use backup::{Archive, BackupJob};
pub use backup::{
    Backup, BackupEra, BackupReport, PruneReport, RepositoryReport, RestorePoint, RestoreReport,
    Skipped, SnapshotReport, verify_repository,
};
pub(crate) use backup::{list as list_backups, list_eras, prune as prune_backups, restore};
pub use batch::WriteBatch;
pub(crate) use batch::{Effect, Expiry, Savepoint};
use calls::Calls;
pub use catalog::DEFAULT_KEYSPACE;
pub(crate) use catalog::{CatalogOperation, Keyspaces, check_name, encode_options, microseconds};
use commit::CommitState;
use compaction::Compactions;
pub(crate) use conflicts::{ReadRange, Reads};
use feed::Feed;
pub(crate) use feed::Subscriber;
pub use feed::{FeedChange, FeedKeyspace, FeedRecord};
pub use fences::LostRange;
pub(crate) use folder::is_store;
pub(crate) use follow::Follow;
use generation::Generation;
pub use health::{Finding, FindingKind, Health, HealthState};
pub use jobs::Job;
pub(crate) use jobs::Signals;
pub(crate) use load::Loading;
pub use metrics::Activity;
use metrics::Metrics;
use pins::Pins;
use pressure::Pressure;
pub(crate) use queue::{Queue, Request};
pub use recovery::RecoveryReport;
pub use repair::{RepairMode, RepairReport, repair};
pub use salvage::Lost;
pub(crate) use salvage::{SalvagedKeyspace, Wreckage};
pub(crate) use scan::Scan;
use scrub::Scrub;
pub use scrub::{ScrubReport, ScrubStatus, repairs};
pub use statistics::{KeyspaceStatistics, Statistics};
pub(crate) use tree::Tree;
pub(crate) use values::Values;
pub use verify::{
    BlockState, FileMap, FilePlace, FileReport, Severity, VerifyProgress, VerifyReport, verify,
    verify_file,
};
pub(crate) use views::{HeldPoint, Views};

use crate::environment::Clock;
use crate::error::{Error, Result};
pub use crate::journal::Repairs;
use crate::manifest::Manifest;
use crate::memtable::Memtable;
use crate::options::Options;
use crate::segment::{BlockCache, Segment};
use crate::types::{Index, SegmentNumber, StoreId};
use crate::vfs::Lock;
use crate::wal::Log;
use crate::watch::DiskWatch;

/// A store at work.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: Options,
    pub(crate) store_id: StoreId,
    clock: Arc<dyn Clock>,
    disk: Arc<DiskWatch>,
    log: Log,
    manifest: Arc<Mutex<Manifest>>,
    pub(crate) keyspaces: ArcSwap<Keyspaces>,
    /// Held while a keyspace is created or dropped, from the check to the record's effect.
    pub(crate) catalog: Mutex<()>,
    pub(crate) next_keyspace: AtomicU64,
    pub(crate) queue: Queue,
    commit: Mutex<CommitState>,
    pub(crate) views: Arc<Views>,
    scrub: Scrub,
    /// Held by whoever writes to the journal of repairs.
    journal_turn: Mutex<()>,
    /// Nothing is known to transactions of this record and those before it.
    conflict_floor: AtomicU64,
    feed: Feed,
    pins: Arc<Pins>,
    cache: Arc<BlockCache>,
    next_segment: AtomicU64,
    /// Frozen memtables, oldest first, each a step of the log that one flush makes durable.
    generations: Mutex<VecDeque<Arc<Generation>>>,
    flushing: Mutex<()>,
    compactions: Mutex<Compactions>,
    pressure: Pressure,
    metrics: Metrics,
    /// What the run before had done, as far as the manifest says.
    activity_before: Option<Activity>,
    /// Held by the one who mends.
    mend_turn: Mutex<()>,
    /// What the last attempt to mend a segment met.
    mend_failure: Mutex<Option<Error>>,
    /// Keyspaces dropped whose segments the manifest still names.
    dropped: Mutex<Vec<(Index, Arc<Tree>)>>,
    /// Segments that the manifest no longer names, until their last reader has gone.
    garbage: Mutex<Vec<Arc<Segment>>>,
    /// Memtables whose content is in segments, as long as somebody reads them.
    flushed: Mutex<Vec<Weak<Memtable>>>,
    /// Files found at open that nothing names.
    orphans: Mutex<Vec<String>>,
    /// Files of segments that were built and never named.
    discarded: Mutex<Vec<String>>,
    /// Held while a backup is made.
    backups: Mutex<()>,
    archive: Archive,
    backup_job: BackupJob,
    signals: Arc<Signals>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    latched: OnceLock<Arc<str>>,
    calls: Calls,
    /// Given up last of all.
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Engine {
    /// Whether a write may begin.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.calls.check()?;
        match self.latched.get() {
            Some(cause) => Err(Error::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether a read may begin.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        self.calls.check()
    }

    /// Begins a call that works in the folder.
    #[cfg(feature = "testing")]
    pub(crate) fn call(&self) -> Result<calls::Call<'_>> {
        self.calls.enter()
    }

    /// Takes no more writes from now on.
    fn latch(&self, error: &Error) {
        let cause = match error {
            Error::OutcomeUnknown { cause } | Error::Poisoned { cause } => cause.clone(),
            other => other.to_string().into(),
        };
        tracing::error!(%error, "the store takes no more writes");
        self.latched.get_or_init(|| cause);
        self.signals.wake_all();
        self.feed.wake_all();
    }

    /// Latches if the error means that what was written before can't be believed any more.
    fn latch_if_final(&self, error: &Error) {
        if matches!(error, Error::OutcomeUnknown { .. } | Error::Poisoned { .. }) {
            self.latch(error);
        }
    }

    /// Why the store takes no more writes, if so.
    pub(crate) fn latched(&self) -> Option<Arc<str>> {
        self.latched.get().cloned()
    }

    fn new_segment_number(&self) -> SegmentNumber {
        SegmentNumber(self.next_segment.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives out no segment number through `last` any more. Returns the one that would have been next.
    fn reserve_segments_through(&self, last: SegmentNumber) -> SegmentNumber {
        let next = last.0.saturating_add(1);
        SegmentNumber(self.next_segment.fetch_max(next, Ordering::Relaxed))
    }

    /// Gives out segment numbers from `first` on, if it would give out lower ones. Returns the next one.
    fn number_segments_from(&self, first: SegmentNumber) -> SegmentNumber {
        let before = self.next_segment.fetch_max(first.0, Ordering::Relaxed);
        SegmentNumber(before.max(first.0))
    }

    /// Makes everything written so far survive the loss of power.
    pub(crate) fn sync(&self) -> Result<()> {
        let _call = self.calls.enter()?;
        self.check_writable()?;
        self.log
            .sync()
            .inspect_err(|error| self.latch_if_final(error))?;
        self.signals.wake(Job::SyncIdentifiers);
        Ok(())
    }

    /// Hands what is merely buffered to the operating system.
    pub(crate) fn write_out(&self) -> Result<()> {
        let _call = self.calls.enter()?;
        self.check_writable()?;
        self.log
            .write_out()
            .inspect_err(|error| self.latch_if_final(error))
    }

    /// Stops the jobs and lets the store go, keeping what was promised and, if the disk allows it,
    /// what was merely buffered. For those who drop the store without closing it.
    pub(crate) fn abandon(&self) {
        self.calls.while_closing(|| {
            if self.calls.refuse() {
                return;
            }
            self.end_work();
            // Whoever is left with a subscription or a load would hold its lock.
            self.close_archive();
            if !self.options.read_only && self.latched.get().is_none() {
                // Best effort: nothing more was promised.
                let _ = self.log.sync();
            }
            self.let_go();
        });
    }

    /// Flushes, ends the log with its end marker and lets the store go.
    pub(crate) fn close(&self) -> Result<()> {
        self.calls.while_closing(|| {
            if self.options.read_only {
                self.calls.refuse();
                return Ok(());
            }
            self.calls.check()?;
            let flushed = self.check_writable().and_then(|()| match self.flush() {
                // No room for segments is no reason to lose the log's end marker: the log has it all.
                Err(Error::NoSpace { .. }) => Ok(()),
                other => other,
            });
            self.calls.refuse();
            self.end_work();
            self.archive_rest();
            self.close_archive();
            let ended = flushed.and_then(|()| self.log.close());
            self.let_go();
            ended
        })
    }

    /// Waits until nobody is at work in the folder any more: no job, no call, no leader.
    fn end_work(&self) {
        self.stop_threads();
        self.calls.wait();
        drop(self.commit.lock());
    }

    fn let_go(&self) {
        self.feed.end();
        // Subscribers may sync until then.
        self.calls.wait();
        self.lock.lock().take();
    }
}
