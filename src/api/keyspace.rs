//! A named part of the store with keys of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::api::bounds::KeyRange;
use crate::api::db::Shared;
use crate::api::{Db, Range, ReadView};
use crate::engine::{Effect, Engine, Expiry, Tree, WriteBatch, microseconds};
use crate::error::Result;
use crate::options::KeyspaceOptions;
use crate::types::{Durability, KeyspaceId};

/// A handle to a keyspace; cheap to clone. After the keyspace is dropped every call answers
/// [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound).
#[derive(Clone, Debug)]
pub struct Keyspace {
    shared: Arc<Shared>,
    tree: Arc<Tree>,
}

impl Keyspace {
    pub(crate) fn new(shared: Arc<Shared>, tree: Arc<Tree>) -> Self {
        Self { shared, tree }
    }

    pub(crate) fn tree(&self) -> Result<&Arc<Tree>> {
        self.tree.check_not_dropped()?;
        Ok(&self.tree)
    }

    /// Its tree, also once it has been dropped.
    pub(super) fn any_tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    pub(crate) fn id(&self) -> KeyspaceId {
        self.tree.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.tree.name
    }

    /// Its options.
    #[must_use]
    pub fn options(&self) -> &KeyspaceOptions {
        &self.tree.options
    }

    /// Writes one operation with the store's durability.
    fn write_one(&self, key: &[u8], effect: Effect<'_>) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.add(self.tree()?.id, key, effect);
        self.shared.write_default(batch)
    }

    /// What a plain put does in it.
    pub(super) fn put_effect<'a>(&self, value: &'a [u8]) -> Effect<'a> {
        put_effect(&self.tree, value)
    }

    /// The newest value of `key`.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed), [`Error::KeyspaceNotFound`](crate::Error::KeyspaceNotFound), a failed read, or [`Error::Damaged`](crate::Error::Damaged).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let engine = &self.shared.engine;
        engine.check_open()?;
        let value = self.tree()?.get(key.as_ref(), || engine.views.point())?;
        self.tree.check_not_dropped()?;
        Ok(value)
    }

    /// The values of many keys as they stand at one moment, in the order of the keys.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        ReadView::new(self.shared.clone()).multi_get_in(self, keys)
    }

    /// Whether `key` has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|found| found.is_some())
    }

    /// Sets `key` to `value` with the store's durability, until it is deleted or for as long as the keyspace's
    /// options say.
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(key.as_ref(), self.put_effect(value.as_ref()))
    }

    /// Sets `key` to `value` for a time: see [`crate::Db::put_expiring`].
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn put_expiring(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> Result<()> {
        let effect = put_expiring(value.as_ref(), time_to_live);
        self.write_one(key.as_ref(), effect)
    }

    /// Changes the value of `key` by `operand`, in the way of the keyspace's merge operator, without reading
    /// it; with the store's durability.
    ///
    /// An operand can be as long as a value. What is merged may become longer than
    /// [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX): it is then kept in parts and read as a whole, which
    /// takes the memory, and can't be put as a value.
    ///
    /// # Errors
    /// [`Error::NoMergeOperator`](crate::Error::NoMergeOperator),
    /// [`Error::UnknownMergeOperator`](crate::Error::UnknownMergeOperator), and as
    /// [`crate::Db::write_with`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(key.as_ref(), Effect::Merge(operand.as_ref()))
    }

    /// Removes `key` with the store's durability; one that isn't there is no error.
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.write_one(key.as_ref(), Effect::Delete)
    }

    /// Removes every key in a range: see [`crate::Db::delete_range`].
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn delete_range(&self, range: impl KeyRange) -> Result<()> {
        let mut batch = WriteBatch::new();
        self.tree()?;
        batch.delete_range_in(self, range);
        self.shared.write_default(batch)
    }

    /// Brings what it says of a range down to its last level: see [`crate::Db::compact_range`].
    ///
    /// # Errors
    /// As [`crate::Db::compact_range`].
    pub fn compact_range(&self, range: impl KeyRange) -> Result<()> {
        let (lower, upper) = range.into_half_open();
        let engine = &self.shared.engine;
        engine.compact_range(self.tree()?, &lower, upper.as_deref())
    }

    /// Sets `key` to `new` if its value is `expected`: see [`crate::Db::compare_and_swap`].
    ///
    /// # Errors
    /// As [`crate::Db::compare_and_swap`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<impl AsRef<[u8]>>,
        new: Option<impl AsRef<[u8]>>,
    ) -> Result<std::result::Result<(), Option<Bytes>>> {
        let expected = expected.as_ref().map(AsRef::as_ref);
        let new = new.as_ref().map(AsRef::as_ref);
        let db = Db::of(self.shared.clone());
        db.swap(self.tree()?, key.as_ref(), expected, new)
    }

    /// Writes a batch with a durability of its own. The batch can hold operations on any keyspace.
    ///
    /// # Errors
    /// As [`crate::Db::write_with`].
    pub fn write_with(&self, batch: WriteBatch, durability: Durability) -> Result<()> {
        self.shared.write(batch, durability)
    }

    /// The keys and values of a range, as they stand now.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn range(&self, range: impl KeyRange) -> Result<Range> {
        ReadView::new(self.shared.clone()).range_in(self, range)
    }

    /// The keys that begin with `prefix`, and their values, as they stand now.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Range> {
        ReadView::new(self.shared.clone()).prefix_in(self, prefix)
    }
}

/// A put that expires so long after the time of its record.
/// What a plain put does in a keyspace.
pub(super) fn put_effect<'a>(tree: &Tree, value: &'a [u8]) -> Effect<'a> {
    match tree.options.time_to_live {
        None => Effect::Put(value),
        Some(time_to_live) => put_expiring(value, time_to_live),
    }
}

pub(super) fn put_expiring(value: &[u8], time_to_live: Duration) -> Effect<'_> {
    Effect::PutUntil(Expiry::After(microseconds(time_to_live)), value)
}
