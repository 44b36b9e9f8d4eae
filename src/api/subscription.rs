//! The change feed as its readers see it.

use std::time::Duration;

use crate::engine::{FeedRecord, Subscriber};
use crate::error::Result;
use crate::types::Index;

/// A reader of the change feed: see [`Db::subscribe`](crate::Db::subscribe).
///
/// It gives every record that is committed and **durable**, in order, each once; what it has shown survives any
/// crash. Where writes are acknowledged before they are durable, it syncs the log itself before it shows them.
///
/// To go on after a restart, remember the index of the last record that was dealt with (best together with
/// what came of it), and subscribe from the one after. While a subscription lives, the log is kept from the
/// record on that it gave out last, up to [`Options::log_retained_bytes_max`](crate::Options::log_retained_bytes_max);
/// for the time between two, see [`Options::log_retained_bytes_min`](crate::Options::log_retained_bytes_min).
///
/// It doesn't keep the store open: once the store is closed, or its last handle dropped, the subscription gives
/// what there still is, and then [`Error::Closed`](crate::Error::Closed).
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use kintsu::{Db, FeedChange, Index};
///
/// let db = Db::open(folder.path())?;
/// let mut feed = db.subscribe(Index(1))?;
/// db.put("bolt", "42")?;
/// db.delete("bolt")?;
///
/// let first = feed.next()?;
/// assert_eq!(first.index, Index(1));
/// assert!(matches!(&first.changes[..], [FeedChange::Put { key, value, .. }] if key == "bolt" && value == "42"));
/// let second = feed.next()?;
/// assert!(matches!(&second.changes[..], [FeedChange::Delete { key, .. }] if key == "bolt"));
/// assert_eq!(feed.try_next()?, None);
///
/// // Later, perhaps in another process: only what came after record 1.
/// let mut again = db.subscribe(first.index.next())?;
/// assert_eq!(again.next()?, second);
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Debug)]
pub struct Subscription {
    subscriber: Subscriber,
}

impl Subscription {
    pub(crate) fn new(subscriber: Subscriber) -> Self {
        Self { subscriber }
    }

    /// The next record, waiting until there is one.
    ///
    /// In a store with [`Background::Manual`](crate::Background::Manual) that only this thread steps, nobody would
    /// end the wait: use [`Subscription::try_next`].
    ///
    /// # Errors
    /// After an error the same record is tried again.
    /// - [`Error::Closed`](crate::Error::Closed): the store is closed, and everything that is durable has been shown.
    /// - [`Error::Poisoned`](crate::Error::Poisoned): an earlier write or sync failed, and everything that is known to be
    ///   durable has been shown.
    /// - [`Error::Purged`](crate::Error::Purged): the log no longer has the record, since more came after it than may be
    ///   retained.
    /// - [`Error::Damaged`](crate::Error::Damaged), or whatever else the disk answers.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would end, or go on after an error"
    )]
    pub fn next(&mut self) -> Result<FeedRecord> {
        loop {
            if let Some(record) = self.subscriber.next_within(None)? {
                return Ok(record);
            }
        }
    }

    /// The next record, waiting for it at most so long; `None` if there was none.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<FeedRecord>> {
        self.subscriber.next_within(Some(timeout))
    }

    /// The next record, if there is one.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<FeedRecord>> {
        self.subscriber.try_next()
    }

    /// The index of the record that comes next: what to subscribe from in order to go on here.
    #[must_use]
    pub fn next_index(&self) -> Index {
        self.subscriber.next_index()
    }
}
