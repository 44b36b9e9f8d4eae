//! The operations of a batch, read from its payload.

use bytes::Bytes;

use crate::codec::Reader;
use crate::types::{
    BOUND_BYTES_MAX, Entry, EntryKind, KEY_BYTES_MAX, KeyspaceId, RangeDelete, VALUE_BYTES_MAX,
    Version,
};

/// When a value expires, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// So long after the time of the record that puts it.
    After(u64),
    /// At this time since 1970.
    At(u64),
}

impl Expiry {
    pub(super) fn us(self) -> u64 {
        match self {
            Self::After(us) | Self::At(us) => us,
        }
    }

    /// When that is, for a record of this time.
    pub(crate) fn at(self, time_us: u64) -> u64 {
        match self {
            Self::After(us) => time_us.saturating_add(us),
            Self::At(us) => us,
        }
    }
}

/// What an operation does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect<'a> {
    Put(&'a [u8]),
    Delete,
    Merge(&'a [u8]),
    PutUntil(Expiry, &'a [u8]),
    /// Deletes all keys from the operation's key to this one, not included; `None`: to the end.
    DeleteTo(Option<&'a [u8]>),
}

impl<'a> Effect<'a> {
    /// The byte that stands for it in a payload.
    pub(super) fn kind(self) -> u8 {
        match self {
            Self::Put(_) => 1,
            Self::Delete => 2,
            Self::Merge(_) => 3,
            Self::PutUntil(Expiry::After(_), _) => 4,
            Self::PutUntil(Expiry::At(_), _) => 5,
            Self::DeleteTo(Some(_)) => 6,
            Self::DeleteTo(None) => 7,
        }
    }

    /// The bytes it has beside the key.
    pub(super) fn value(self) -> &'a [u8] {
        match self {
            Self::Put(value) | Self::Merge(value) | Self::PutUntil(_, value) => value,
            Self::DeleteTo(to) => to.unwrap_or_default(),
            Self::Delete => &[],
        }
    }

    fn read(kind: u8, reader: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            1 => Self::Put(reader.prefixed()?),
            2 => Self::Delete,
            3 => Self::Merge(reader.prefixed()?),
            4 => Self::PutUntil(Expiry::After(reader.varint()?), reader.prefixed()?),
            5 => Self::PutUntil(Expiry::At(reader.varint()?), reader.prefixed()?),
            6 => Self::DeleteTo(Some(reader.prefixed()?)),
            7 => Self::DeleteTo(None),
            _ => return None,
        })
    }
}

/// One operation of a batch, borrowed from the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: &'a [u8],
    pub(crate) effect: Effect<'a>,
}

/// What an operation puts into a table.
#[derive(Debug)]
pub(crate) enum TableWrite<'a> {
    Entry(Entry<'a>),
    Range(RangeDelete),
}

impl<'a> Operation<'a> {
    /// What it puts into a table, as part of a record of this time. Uses `scratch` for a value that isn't in
    /// the payload as the table wants it.
    pub(crate) fn to_table<'b>(
        self,
        version: Version,
        time_us: u64,
        scratch: &'b mut Vec<u8>,
    ) -> TableWrite<'b>
    where
        'a: 'b,
    {
        let (kind, value): (_, &'b [u8]) = match self.effect {
            Effect::Put(value) => (EntryKind::Put, value),
            Effect::Delete => (EntryKind::Delete, &[]),
            Effect::Merge(operand) => (EntryKind::Merge, operand),
            Effect::PutUntil(expiry, value) => {
                scratch.clear();
                scratch.extend_from_slice(&expiry.at(time_us).to_le_bytes());
                scratch.extend_from_slice(value);
                (EntryKind::Expiring, scratch)
            }
            Effect::DeleteTo(to) => {
                return TableWrite::Range(RangeDelete {
                    from: Bytes::copy_from_slice(self.key),
                    to: to.map(Bytes::copy_from_slice),
                    version,
                });
            }
        };
        let key = self.key;
        TableWrite::Entry(Entry {
            key,
            version,
            kind,
            value,
        })
    }
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
        let kind = self.reader.u8()?;
        let key = self.reader.prefixed()?;
        let effect = Effect::read(kind, &mut self.reader)?;
        let (key_limit, value_limit) = match effect {
            Effect::DeleteTo(_) => (BOUND_BYTES_MAX, BOUND_BYTES_MAX),
            _ => (KEY_BYTES_MAX, VALUE_BYTES_MAX),
        };
        let fits = key.len() <= key_limit && effect.value().len() <= value_limit;
        fits.then_some(Operation {
            keyspace,
            key,
            effect,
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
