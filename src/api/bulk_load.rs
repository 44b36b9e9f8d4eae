//! Bulk load: sorted input straight into segments.

use crate::api::{Db, Keyspace};
use crate::engine::{Engine, Loading, Tree};
use crate::error::Result;
use crate::types::Index;

use std::sync::Arc;

/// Sorted keys on their way into a keyspace, without a detour through the log and the memtables.
///
/// The keys go straight into segments, which become part of the store with one record and in one step: all of
/// them or none, in place of whatever the keys had before. Readers, transactions, the change feed and
/// replicas see one write; an archive copies the segments before the record. Until [`BulkLoad::commit`] nothing of it is seen, and writes go on beside it;
/// dropping it removes what was written.
///
/// It ends with the store: once that is closed, or its last handle dropped, the load touches nothing any more,
/// and the next open removes what it had written.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let db = kintsu::Db::open(folder.path())?;
/// let mut load = db.bulk_load()?;
/// for number in 0..10_000 {
///     load.add(format!("{number:08}"), "value")?;
/// }
/// load.commit()?;
/// assert_eq!(db.range(..)?.count(), 10_000);
/// # Ok::<(), kintsu::Error>(())
/// ```
pub struct BulkLoad {
    loading: Loading,
}

impl std::fmt::Debug for BulkLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkLoad")
            .field("entries", &self.loading.entries())
            .finish_non_exhaustive()
    }
}

impl BulkLoad {
    fn new(engine: Arc<Engine>, tree: Arc<Tree>) -> Result<Self> {
        let loading = Loading::new(engine, tree)?;
        Ok(Self { loading })
    }

    /// Adds a key with its value. Keys must ascend.
    ///
    /// # Errors
    /// [`Error::TableOrder`](crate::Error::TableOrder) if the key isn't above the one before,
    /// [`Error::KeyTooLong`](crate::Error::KeyTooLong),
    /// [`Error::ValueTooLong`](crate::Error::ValueTooLong): it wasn't taken, and others can follow.
    /// [`Error::Closed`](crate::Error::Closed), or what the disk answers: then the load is of no more use.
    pub fn add(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.loading.add(key.as_ref(), value.as_ref())
    }

    /// Keys added so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.loading.entries()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes all of it part of the store, durably. Returns the index of its record; `None` if there was
    /// nothing to load.
    ///
    /// # Errors
    /// As [`Db::write_with`](crate::Db::write_with).
    pub fn commit(self) -> Result<Option<Index>> {
        self.loading.commit()
    }
}

impl Db {
    /// Begins to load sorted keys into the default keyspace.
    ///
    /// # Errors
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Closed`](crate::Error::Closed),
    /// [`Error::Poisoned`](crate::Error::Poisoned).
    pub fn bulk_load(&self) -> Result<BulkLoad> {
        let engine = self.shared().engine.clone();
        let default = engine.keyspaces.load().default.clone();
        BulkLoad::new(engine, default)
    }
}

impl Keyspace {
    /// Begins to load sorted keys into the keyspace.
    ///
    /// # Errors
    /// As [`Db::bulk_load`], [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound), and
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) if values in it have a time to live.
    pub fn bulk_load(&self) -> Result<BulkLoad> {
        BulkLoad::new(self.engine().clone(), self.tree()?.clone())
    }
}
