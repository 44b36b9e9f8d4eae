//! A batch of writes, encoded as it is made: its buffer is the payload of the log record.
//!
//! Payload of a `Batch` record: for each operation, varint keyspace, kind (one byte), *bytes* key, and then
//! by kind (*bytes*: varint length, then so many bytes):
//!
//! | kind | | rest |
//! |---|---|---|
//! | 1 | put | *bytes* value |
//! | 2 | delete | |
//! | 3 | merge | *bytes* operand |
//! | 4 | put that expires so long after the record's time | varint microseconds, *bytes* value |
//! | 5 | put that expires at a time | varint microseconds since 1970, *bytes* value |
//! | 6 | delete from the key to another, not included | *bytes* the other |
//! | 7 | delete from the key on | |
//!
//! An operation's position is its place here.

mod operations;

use std::collections::BTreeSet;

use crate::codec::{put_prefixed, put_varint};
use crate::error::{Error, Result};
use crate::types::{BATCH_BYTES_MAX, BOUND_BYTES_MAX, KEY_BYTES_MAX, KeyspaceId, VALUE_BYTES_MAX};

pub(crate) use self::operations::{Effect, Expiry, Operation, Operations, TableWrite};

/// The keyspaces that a batch touches, without an allocation for the usual single one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    first: Option<KeyspaceId>,
    more: BTreeSet<KeyspaceId>,
}

impl Touched {
    pub(crate) fn insert(&mut self, keyspace: KeyspaceId) {
        match self.first {
            None => self.first = Some(keyspace),
            Some(first) if first == keyspace => {}
            Some(_) => {
                self.more.insert(keyspace);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KeyspaceId> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// A batch as it was, to go back to.
#[derive(Clone, Debug)]
pub(crate) struct Savepoint {
    payload_bytes: usize,
    operations: u32,
    touched: Touched,
    merges: bool,
    refused: Option<Error>,
}

/// The most that an operation takes beside its key and value, in bytes.
const ROOM_BYTES: usize = 32;

/// Writes that take effect together or not at all.
///
/// Operations on one key in one batch take effect in their order. Sizes are checked when the batch
/// is written.
#[derive(Debug, Default)]
pub struct WriteBatch {
    payload: Vec<u8>,
    operations: u32,
    touched: Touched,
    merges: bool,
    refused: Option<Error>,
}

impl WriteBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations as usize
    }

    /// Whether there is no operation in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Its encoded size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// Takes all operations out, keeping the memory.
    pub fn clear(&mut self) {
        self.payload.clear();
        self.operations = 0;
        self.touched = Touched::default();
        self.merges = false;
        self.refused = None;
    }

    /// Where it stands now.
    pub(crate) fn savepoint(&self) -> Savepoint {
        Savepoint {
            payload_bytes: self.payload.len(),
            operations: self.operations,
            touched: self.touched.clone(),
            merges: self.merges,
            refused: self.refused.clone(),
        }
    }

    /// Takes out what has been added since.
    pub(crate) fn roll_back_to(&mut self, savepoint: &Savepoint) {
        self.payload.truncate(savepoint.payload_bytes);
        self.operations = savepoint.operations;
        self.touched = savepoint.touched.clone();
        self.merges = savepoint.merges;
        self.refused = savepoint.refused.clone();
    }

    /// Whether there is a merge in it.
    pub(crate) fn merges(&self) -> bool {
        self.merges
    }

    /// Its operations so far.
    pub(crate) fn operations(&self) -> Operations<'_> {
        Operations::new(&self.payload)
    }

    /// Adds one operation. An oversized one is refused when the batch is written.
    pub(crate) fn add(&mut self, keyspace: KeyspaceId, key: &[u8], effect: Effect<'_>) {
        if let Err(error) = self.check(key, effect) {
            self.refused.get_or_insert(error);
            return;
        }
        let value = effect.value();
        let out = &mut self.payload;
        out.reserve(key.len() + value.len() + ROOM_BYTES);
        put_varint(out, u64::from(keyspace.0));
        out.push(effect.kind());
        put_prefixed(out, key);
        match effect {
            Effect::Put(value) | Effect::Merge(value) => put_prefixed(out, value),
            Effect::PutUntil(expiry, value) => {
                put_varint(out, expiry.us());
                put_prefixed(out, value);
            }
            Effect::DeleteTo(Some(to)) => put_prefixed(out, to),
            Effect::Delete | Effect::DeleteTo(None) => {}
        }
        self.operations += 1;
        self.merges |= matches!(effect, Effect::Merge(_));
        self.touched.insert(keyspace);
    }

    fn check(&self, key: &[u8], effect: Effect<'_>) -> Result<()> {
        let value = effect.value();
        let (key_limit, value_limit) = match effect {
            Effect::DeleteTo(_) => (BOUND_BYTES_MAX, BOUND_BYTES_MAX),
            _ => (KEY_BYTES_MAX, VALUE_BYTES_MAX),
        };
        let (bytes, limit) = (key.len(), key_limit);
        if bytes > limit {
            return Err(Error::KeyTooLong { bytes, limit });
        }
        let (bytes, limit) = (value.len(), value_limit);
        if bytes > limit {
            return Err(match effect {
                Effect::DeleteTo(_) => Error::KeyTooLong { bytes, limit },
                _ => Error::ValueTooLong { bytes, limit },
            });
        }
        let bytes = self.payload.len() + key.len() + value.len() + ROOM_BYTES;
        let limit = BATCH_BYTES_MAX;
        if bytes > limit {
            return Err(Error::BatchTooLarge { bytes, limit });
        }
        Ok(())
    }

    /// The payload, if no operation was refused.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, u32, Touched)> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok((self.payload, self.operations, self.touched)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put<'a>(value: &'a [u8]) -> Effect<'a> {
        Effect::Put(value)
    }

    fn sample() -> Vec<(KeyspaceId, Vec<u8>, Effect<'static>)> {
        vec![
            (KeyspaceId(0), b"a".to_vec(), put(b"1")),
            (KeyspaceId(0), Vec::new(), Effect::Delete),
            (KeyspaceId(7), vec![7; 300], put(&[9; 500])),
            (KeyspaceId(900), b"k".to_vec(), put(b"")),
            (KeyspaceId(1), b"m".to_vec(), Effect::Merge(b"operand")),
            (
                KeyspaceId(1),
                b"t".to_vec(),
                Effect::PutUntil(Expiry::After(900), b"v"),
            ),
            (
                KeyspaceId(1),
                b"u".to_vec(),
                Effect::PutUntil(Expiry::At(u64::MAX), b""),
            ),
            (
                KeyspaceId(1),
                b"from".to_vec(),
                Effect::DeleteTo(Some(b"to")),
            ),
            (KeyspaceId(1), b"from".to_vec(), Effect::DeleteTo(None)),
        ]
    }

    fn payload() -> Vec<u8> {
        let mut batch = WriteBatch::new();
        for (keyspace, key, effect) in sample() {
            batch.add(keyspace, &key, effect);
        }
        batch.finish().unwrap().0
    }

    #[test]
    fn operations_come_back_in_order() {
        let payload = payload();
        let read: Vec<_> = Operations::new(&payload).map(|o| o.unwrap()).collect();
        let written = sample();
        assert_eq!(read.len(), written.len());
        for (read, (keyspace, key, effect)) in read.iter().zip(&written) {
            assert_eq!((read.keyspace, read.key), (*keyspace, &key[..]));
            assert_eq!(read.effect, *effect);
        }
    }

    #[test]
    fn a_payload_cut_anywhere_never_panics_and_never_adds_an_operation() {
        let payload = payload();
        let whole: Vec<_> = Operations::new(&payload).collect();
        for cut in 0..payload.len() {
            let read: Vec<_> = Operations::new(&payload[..cut]).collect();
            let good = read.iter().take_while(|o| o.is_ok()).count();
            assert_eq!(read[..good], whole[..good]);
        }
    }

    #[test]
    fn oversized_operations_are_refused_when_written() {
        let mut batch = WriteBatch::new();
        batch.add(KeyspaceId(0), &vec![0; KEY_BYTES_MAX], put(b"fits"));
        batch.add(KeyspaceId(0), &vec![0; KEY_BYTES_MAX + 1], put(b""));
        assert!(matches!(batch.finish(), Err(Error::KeyTooLong { .. })));
        let mut batch = WriteBatch::new();
        batch.add(KeyspaceId(0), b"", put(&vec![0; VALUE_BYTES_MAX + 1]));
        assert!(matches!(batch.finish(), Err(Error::ValueTooLong { .. })));
        let mut batch = WriteBatch::new();
        let bound = vec![0; BOUND_BYTES_MAX];
        batch.add(KeyspaceId(0), b"", Effect::DeleteTo(Some(&bound)));
        assert!(batch.finish().is_ok());
    }
}
