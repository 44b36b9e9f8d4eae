//! Transactions: several reads and writes as one step.

mod own;
mod range;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::api::bounds::{KeyRange, prefix_end};
use crate::api::db::Shared;
use crate::api::keyspace::{put_effect, put_expiring};
use crate::api::{Db, Keyspace, ReadView};
use crate::engine::{self, Effect, Reads, Request, Tree, WriteBatch};
use crate::error::{Error, Result};
use crate::types::{Durability, Index};

use self::own::OwnWrites;
pub use self::range::TransactionRange;

/// How often [`Db::transact`] begins anew after a conflict.
const ATTEMPTS_MAX: usize = 1000;

/// Reads and writes that take effect as if nothing else had happened meanwhile, or not at all.
///
/// Optimistic and serializable: it sees the store as it stood when it began, with its own writes on top;
/// the commit succeeds if nothing that it read, no key and no range, has been written since, and else
/// answers [`Error::Conflict`] and writes nothing. It never waits for others. What it may have read must
/// be among the last 4,096 records, or 4 MiB of them: one that takes longer, and has read something,
/// meets a conflict.
///
/// Dropping it writes nothing.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let db = kintsu::Db::open(folder.path())?;
/// db.put("from", "7")?;
/// let mut transaction = db.transaction()?;
/// let balance = transaction.get("from")?;
/// transaction.put("to", balance.unwrap_or_default());
/// transaction.delete("from");
/// transaction.commit()?;
/// assert_eq!(db.get("to")?.as_deref(), Some(&b"7"[..]));
/// # Ok::<(), kintsu::Error>(())
/// ```
#[derive(Debug)]
pub struct Transaction {
    shared: Arc<Shared>,
    view: ReadView,
    batch: WriteBatch,
    own: OwnWrites,
    reads: Reads,
    /// Numbers of the savepoints to which it can go back, ascending.
    savepoints: Vec<u64>,
    next_savepoint: u64,
}

/// A moment of a transaction, to go back to: see [`Transaction::savepoint`].
#[derive(Clone, Debug)]
pub struct Savepoint {
    /// Which one of its transaction it is.
    number: u64,
    batch: engine::Savepoint,
    operations: u32,
}

impl Transaction {
    fn begin(shared: Arc<Shared>) -> Result<Self> {
        shared.engine.check_writable()?;
        let view = ReadView::new(shared.clone());
        let reads = Reads {
            at: view.index(),
            ..Reads::default()
        };
        Ok(Self {
            shared,
            view,
            batch: WriteBatch::new(),
            own: OwnWrites::default(),
            reads,
            savepoints: Vec::new(),
            next_savepoint: 0,
        })
    }

    fn default_tree(&self) -> Arc<Tree> {
        self.shared.engine.keyspaces.load().default.clone()
    }

    /// Index of the newest record that it sees.
    #[must_use]
    pub fn index(&self) -> Index {
        self.view.index()
    }

    /// The value of `key` in the default keyspace.
    ///
    /// # Errors
    /// As [`ReadView::get`].
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.read(&self.default_tree(), key.as_ref())
    }

    /// The value of `key` in `keyspace`.
    ///
    /// # Errors
    /// As [`ReadView::get_in`].
    pub fn get_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.read(keyspace.tree()?, key.as_ref())
    }

    /// Whether `key` has a value in the default keyspace.
    ///
    /// # Errors
    /// As [`ReadView::get`].
    pub fn contains(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get(key).map(|found| found.is_some())
    }

    fn read(&mut self, tree: &Arc<Tree>, key: &[u8]) -> Result<Option<Bytes>> {
        let resolved = self.own.resolve(tree.id, key);
        let asks = resolved.as_ref().is_none_or(own::Resolved::needs_store);
        let mut stored = None;
        if asks {
            // A read that fails has told something too.
            self.reads.keys.insert((tree.id, key.to_vec()));
            stored = self.view.get_from(tree, key)?;
        }
        match resolved {
            Some(resolved) => resolved.value(&tree.values, key, stored),
            None => Ok(stored),
        }
    }

    /// The keys and values of a range of the default keyspace.
    ///
    /// # Errors
    /// As [`ReadView::range`].
    pub fn range(&mut self, range: impl KeyRange) -> Result<TransactionRange<'_>> {
        self.scan(self.default_tree(), range.into_half_open())
    }

    /// The keys and values of a range of `keyspace`.
    ///
    /// # Errors
    /// As [`ReadView::range_in`].
    pub fn range_in(
        &mut self,
        keyspace: &Keyspace,
        range: impl KeyRange,
    ) -> Result<TransactionRange<'_>> {
        self.scan(keyspace.tree()?.clone(), range.into_half_open())
    }

    /// The keys of the default keyspace that begin with `prefix`, and their values.
    ///
    /// # Errors
    /// As [`ReadView::range`].
    pub fn prefix(&mut self, prefix: impl AsRef<[u8]>) -> Result<TransactionRange<'_>> {
        let prefix = prefix.as_ref();
        self.scan(self.default_tree(), (prefix.to_vec(), prefix_end(prefix)))
    }

    /// The keys of `keyspace` that begin with `prefix`, and their values.
    ///
    /// # Errors
    /// As [`ReadView::range_in`].
    pub fn prefix_in(
        &mut self,
        keyspace: &Keyspace,
        prefix: impl AsRef<[u8]>,
    ) -> Result<TransactionRange<'_>> {
        let prefix = prefix.as_ref();
        let bounds = (prefix.to_vec(), prefix_end(prefix));
        self.scan(keyspace.tree()?.clone(), bounds)
    }

    fn scan(
        &mut self,
        tree: Arc<Tree>,
        (lower, upper): (Vec<u8>, Option<Vec<u8>>),
    ) -> Result<TransactionRange<'_>> {
        let store = self.view.scan(&tree, lower.clone(), upper.clone())?;
        let bounds = (lower, upper);
        Ok(TransactionRange::new(
            store,
            tree,
            &self.own,
            &mut self.reads,
            bounds,
        ))
    }

    fn write(&mut self, tree: &Tree, key: &[u8], effect: Effect<'_>) {
        self.batch.add(tree.id, key, effect);
        self.own.add(tree.id, key, effect);
    }

    fn write_default(&mut self, key: &[u8], effect: Effect<'_>) -> &mut Self {
        self.write(&self.default_tree(), key, effect);
        self
    }

    /// Sets `key` to `value` in the default keyspace.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.write_default(key.as_ref(), Effect::Put(value.as_ref()))
    }

    /// Sets `key` to `value` in `keyspace`, until it is deleted or for as long as the keyspace's options say.
    pub fn put_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        let effect = keyspace.put_effect(value.as_ref());
        self.write(keyspace.any_tree(), key.as_ref(), effect);
        self
    }

    /// Sets `key` to `value` in the default keyspace for a time: see [`Db::put_expiring`].
    pub fn put_expiring(
        &mut self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        time_to_live: Duration,
    ) -> &mut Self {
        self.write_default(key.as_ref(), put_expiring(value.as_ref(), time_to_live))
    }

    /// Removes `key` from the default keyspace.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.write_default(key.as_ref(), Effect::Delete)
    }

    /// Removes `key` from `keyspace`.
    pub fn delete_in(&mut self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> &mut Self {
        self.write(keyspace.any_tree(), key.as_ref(), Effect::Delete);
        self
    }

    /// Removes every key in a range of the default keyspace.
    pub fn delete_range(&mut self, range: impl KeyRange) -> &mut Self {
        self.delete_range_from(&self.default_tree(), range)
    }

    /// Removes every key in a range of `keyspace`.
    pub fn delete_range_in(&mut self, keyspace: &Keyspace, range: impl KeyRange) -> &mut Self {
        self.delete_range_from(keyspace.any_tree(), range)
    }

    fn delete_range_from(&mut self, tree: &Tree, range: impl KeyRange) -> &mut Self {
        let (from, to) = range.into_half_open();
        if to.as_ref().is_none_or(|to| from < *to) {
            self.write(tree, &from, Effect::DeleteTo(to.as_deref()));
        }
        self
    }

    /// Changes the value of `key` in the default keyspace by `operand`, without reading it: see
    /// [`Keyspace::merge`].
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.write_default(key.as_ref(), Effect::Merge(operand.as_ref()))
    }

    /// Changes the value of `key` in `keyspace` by `operand`, without reading it: see [`Keyspace::merge`].
    pub fn merge_in(
        &mut self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.write(
            keyspace.any_tree(),
            key.as_ref(),
            Effect::Merge(operand.as_ref()),
        );
        self
    }

    /// Where it stands now, for [`Transaction::roll_back_to`].
    #[must_use]
    pub fn savepoint(&mut self) -> Savepoint {
        let number = self.next_savepoint;
        self.next_savepoint += 1;
        self.savepoints.push(number);
        Savepoint {
            number,
            batch: self.batch.savepoint(),
            operations: self.own.count(),
        }
    }

    /// Takes back what it has written since; what it has read since still counts. A savepoint that was made
    /// after one to which it has gone back is gone, and nothing happens; `false` then.
    pub fn roll_back_to(&mut self, savepoint: &Savepoint) -> bool {
        let Ok(place) = self.savepoints.binary_search(&savepoint.number) else {
            return false;
        };
        self.savepoints.truncate(place + 1);
        self.batch.roll_back_to(&savepoint.batch);
        self.own.truncate(savepoint.operations);
        true
    }

    /// Writes it all with the store's durability, if nothing that it read has been written since.
    ///
    /// # Errors
    /// [`Error::Conflict`]: nothing was written; begin anew. Else as [`Db::write_with`].
    pub fn commit(self) -> Result<()> {
        let durability = self.shared.engine.options.durability;
        self.commit_with(durability)
    }

    /// As [`Transaction::commit`], with a durability of its own. One that has written nothing always succeeds:
    /// what it has read was so at one moment.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit_with(self, durability: Durability) -> Result<()> {
        let Self {
            shared,
            batch,
            reads,
            view,
            ..
        } = self;
        // Before it waits: what it saw may be compacted away from now on.
        drop(view);
        if batch.merges() {
            shared.check_merges(&batch)?;
        }
        if batch.is_empty() {
            // Unless an operation was refused.
            batch.finish()?;
            return shared.engine.check_writable();
        }
        let request = Request::of_transaction(batch, durability, Some(reads.finish()))?;
        shared.engine.write(request).map(drop)
    }
}

impl Db {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::Poisoned`].
    pub fn transaction(&self) -> Result<Transaction> {
        Transaction::begin(self.shared().clone())
    }

    /// Runs `body` in a transaction and commits it, and again from the beginning while it meets a conflict.
    /// So `body` should have no effects elsewhere. An error of `body` ends it, and nothing is written.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// let number = db.transact(|transaction| {
    ///     let last = transaction.range("order/".."order0")?.next_back().transpose()?;
    ///     let number = last.map_or(0, |(_, number)| number[0] + 1);
    ///     transaction.put(format!("order/{number:03}"), [number]);
    ///     Ok(number)
    /// })?;
    /// assert_eq!(number, 0);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// What `body` answers; as [`Transaction::commit`], with [`Error::Conflict`] only after a thousand
    /// attempts.
    pub fn transact<T>(&self, mut body: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut transaction = self.transaction()?;
            let value = body(&mut transaction)?;
            match transaction.commit() {
                Ok(()) => return Ok(value),
                Err(Error::Conflict { .. }) if attempts < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sets `key` in the default keyspace to `new` (`None`: removes it) if its value is `expected` (`None`: it
    /// has none). `Err` inside has the value that was there instead.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// assert_eq!(db.compare_and_swap("lock", None::<&str>, Some("mine"))?, Ok(()));
    /// let held = db.compare_and_swap("lock", None::<&str>, Some("yours"))?;
    /// assert_eq!(held.unwrap_err().as_deref(), Some(&b"mine"[..]));
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<impl AsRef<[u8]>>,
        new: Option<impl AsRef<[u8]>>,
    ) -> Result<std::result::Result<(), Option<Bytes>>> {
        let expected = expected.as_ref().map(AsRef::as_ref);
        let new = new.as_ref().map(AsRef::as_ref);
        let default = self.shared().engine.keyspaces.load().default.clone();
        self.swap(&default, key.as_ref(), expected, new)
    }

    pub(crate) fn swap(
        &self,
        tree: &Arc<Tree>,
        key: &[u8],
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<std::result::Result<(), Option<Bytes>>> {
        self.transact(|transaction| {
            let found = transaction.read(tree, key)?;
            if found.as_deref() != expected {
                return Ok(Err(found));
            }
            let effect = new.map_or(Effect::Delete, |value| put_effect(tree, value));
            transaction.write(tree, key, effect);
            Ok(Ok(()))
        })
    }
}
