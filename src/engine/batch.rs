//! A batch of writes, encoded as it is made: its buffer is the payload of the log record.
//!
//! Payload of a `Batch` record: for each operation, varint keyspace, kind (one byte), varint key
//! length, key, and for a put varint value length, value. An operation's position is its place here.

use crate::codec::{Reader, put_varint};
use crate::error::{Error, Result};
use crate::types::{BATCH_BYTES_MAX, EntryKind, KEY_BYTES_MAX, KeyspaceId, VALUE_BYTES_MAX};

/// The keyspaces that a batch touches, without an allocation for the usual single one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    first: Option<KeyspaceId>,
    more: Vec<KeyspaceId>,
}

impl Touched {
    fn insert(&mut self, keyspace: KeyspaceId) {
        match self.first {
            None => self.first = Some(keyspace),
            Some(first) if first == keyspace || self.more.contains(&keyspace) => {}
            Some(_) => self.more.push(keyspace),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KeyspaceId> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// Writes that take effect together or not at all.
///
/// Operations on one key in one batch take effect in their order. Sizes are checked when the batch
/// is written.
#[derive(Debug, Default)]
pub struct WriteBatch {
    payload: Vec<u8>,
    operations: u32,
    touched: Touched,
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
        self.refused = None;
    }

    /// Sets `key` to `value` in the default keyspace.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.put_by_id(KeyspaceId::DEFAULT, key.as_ref(), value.as_ref());
        self
    }

    /// Removes `key` from the default keyspace.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.delete_by_id(KeyspaceId::DEFAULT, key.as_ref());
        self
    }

    pub(crate) fn put_by_id(&mut self, keyspace: KeyspaceId, key: &[u8], value: &[u8]) {
        if value.len() > VALUE_BYTES_MAX {
            let (bytes, limit) = (value.len(), VALUE_BYTES_MAX);
            return self.refuse(Error::ValueTooLong { bytes, limit });
        }
        if !self.begin(keyspace, EntryKind::Put, key, key.len() + value.len() + 16) {
            return;
        }
        put_varint(&mut self.payload, value.len() as u64);
        self.payload.extend_from_slice(value);
    }

    pub(crate) fn delete_by_id(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        self.begin(keyspace, EntryKind::Delete, key, key.len() + 16);
    }

    fn begin(&mut self, keyspace: KeyspaceId, kind: EntryKind, key: &[u8], room: usize) -> bool {
        if key.len() > KEY_BYTES_MAX {
            self.refuse(Error::KeyTooLong {
                bytes: key.len(),
                limit: KEY_BYTES_MAX,
            });
            return false;
        }
        if self.payload.len() + room > BATCH_BYTES_MAX {
            let bytes = self.payload.len() + room;
            self.refuse(Error::BatchTooLarge {
                bytes,
                limit: BATCH_BYTES_MAX,
            });
            return false;
        }
        self.payload.reserve(room);
        put_varint(&mut self.payload, u64::from(keyspace.0));
        self.payload.push(kind as u8);
        put_varint(&mut self.payload, key.len() as u64);
        self.payload.extend_from_slice(key);
        self.operations += 1;
        self.touched.insert(keyspace);
        true
    }

    fn refuse(&mut self, error: Error) {
        self.refused.get_or_insert(error);
    }

    /// The payload, if no operation was refused.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, u32, Touched)> {
        match self.refused {
            Some(error) => Err(error),
            None => Ok((self.payload, self.operations, self.touched)),
        }
    }
}

/// One operation of a batch, borrowed from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) kind: EntryKind,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Reads a payload's operations in order. `None` inside means that the payload isn't one.
#[derive(Clone, Debug)]
pub(crate) struct Operations<'a> {
    reader: Reader<'a>,
}

impl<'a> Operations<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(payload),
        }
    }

    fn read(&mut self) -> Option<Operation<'a>> {
        let keyspace = KeyspaceId(u32::try_from(self.reader.varint()?).ok()?);
        let kind = EntryKind::from_byte(self.reader.u8()?)?;
        let key = self.reader.prefixed()?;
        let value = match kind {
            EntryKind::Put => self.reader.prefixed()?,
            EntryKind::Delete => &[],
        };
        let fits = key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX;
        fits.then_some(Operation {
            keyspace,
            kind,
            key,
            value,
        })
    }
}

/// The payload doesn't parse, though its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Iterator for Operations<'a> {
    type Item = std::result::Result<Operation<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let operation = self.read();
        if operation.is_none() {
            self.reader = Reader::new(&[]);
        }
        Some(operation.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut batch = WriteBatch::new();
        batch
            .put("a", "1")
            .delete("")
            .put(vec![7; 300], vec![9; 500]);
        batch.put_by_id(KeyspaceId(900), b"k", b"");
        batch.finish().unwrap().0
    }

    #[test]
    fn operations_come_back_in_order() {
        let payload = sample();
        let read: Vec<_> = Operations::new(&payload).map(|o| o.unwrap()).collect();
        assert_eq!(read.len(), 4);
        assert_eq!((read[0].key, read[0].value), (&b"a"[..], &b"1"[..]));
        assert_eq!((read[1].kind, read[1].key), (EntryKind::Delete, &b""[..]));
        assert_eq!(read[2].value.len(), 500);
        assert_eq!(read[3].keyspace, KeyspaceId(900));
    }

    #[test]
    fn a_payload_cut_anywhere_never_panics_and_never_adds_an_operation() {
        let payload = sample();
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
        batch
            .put(vec![0; KEY_BYTES_MAX], "fits")
            .put(vec![0; KEY_BYTES_MAX + 1], "");
        assert!(matches!(batch.finish(), Err(Error::KeyTooLong { .. })));
        let mut batch = WriteBatch::new();
        batch.put("", vec![0; VALUE_BYTES_MAX + 1]);
        assert!(matches!(batch.finish(), Err(Error::ValueTooLong { .. })));
    }
}
