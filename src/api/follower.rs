//! The change feed of a store that another process has open.

use crate::engine::{FeedRecord, Follow};
use crate::error::Result;
use crate::options::Options;
use crate::types::Index;

/// A reader of the change feed beside a live writer, or after it: see [`Options::follow`].
///
/// It takes no lock, writes nothing, and pins nothing: the writer purges its log without asking (see
/// [`Options::log_retained_bytes_min`]). What it shows is durable: it syncs the log's newest file itself where
/// that isn't known. One limit: after a sync has failed in the writer, the system may show, and call synced, what
/// the disk never got; [`Subscription`](crate::Subscription) knows better.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path();
/// use kintsu::{Db, Index, Options};
///
/// let db = Db::open(path)?;
/// db.put("bolt", "42")?;
/// // In another process:
/// let mut follower = Options::new(path).follow(Index(1))?;
/// assert_eq!(follower.try_next()?.map(|record| record.index), Some(Index(1)));
/// assert_eq!(follower.try_next()?, None);
/// db.put("nut", "17")?;
/// assert_eq!(follower.try_next()?.map(|record| record.index), Some(Index(2)));
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Debug)]
pub struct Follower {
    follow: Follow,
}

impl Options {
    /// Reads the change feed of a store from its files, beside its writer if there is one, from record `from` on;
    /// `Index(0)` is the oldest record that the log still has.
    ///
    /// Costs as much as reading the log (about 1 GB/s).
    ///
    /// # Errors
    /// [`Error::Purged`](crate::Error::Purged) if the log no longer has that record,
    /// [`Error::NotYetWritten`](crate::Error::NotYetWritten) if it is beyond the next one; those of a read-only open.
    pub fn follow(&self, from: Index) -> Result<Follower> {
        let follow = Follow::open(self, from)?;
        Ok(Follower { follow })
    }
}

impl Follower {
    /// The next record, if it has left the writer's process and is durable.
    ///
    /// Looking in vain costs a small read and a look at the folder. When the writer has begun another log file, the
    /// log is read again as at the beginning.
    ///
    /// # Errors
    /// [`Error::Purged`](crate::Error::Purged), [`Error::Damaged`](crate::Error::Damaged), or whatever else the disk
    /// answers. [`Error::NotYetWritten`](crate::Error::NotYetWritten) or [`Error::LogOrder`](crate::Error::LogOrder) if
    /// what was shown is no longer there: the store was replaced by an older copy, or its disk has lied.
    pub fn try_next(&mut self) -> Result<Option<FeedRecord>> {
        self.follow.try_next()
    }

    /// The index of the record that comes next.
    #[must_use]
    pub fn next_index(&self) -> Index {
        self.follow.next_index()
    }
}
