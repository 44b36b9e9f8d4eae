//! Newtypes for positions and names, and the size limits of the store.

mod compression;
mod entry;
mod fence;
mod file;
mod parity;
mod range_delete;

use std::fmt;

pub use compression::{Codec, Compression};
pub use entry::{EXPIRY_BYTES, Entry, Found, expires_us, order};
pub use fence::Fence;
pub use file::{LogFileMeta, SegmentMeta};
pub use parity::Parity;
pub use range_delete::{RangeDelete, RangeDeletes, Steps, Stretch};

/// Longest key, in bytes (64 KiB). The empty key is a key like any other and sorts first.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// Longest bound of a range, in bytes: the smallest key above the longest one is a byte longer.
pub const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;
/// Longest value, in bytes (256 MiB).
pub const VALUE_BYTES_MAX: usize = 256 << 20;
/// Largest encoded batch, in bytes (512 MiB).
pub const BATCH_BYTES_MAX: usize = 512 << 20;
/// Longest name of a keyspace, in bytes of UTF-8.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 255;
/// The unit that a disk is taken to write as a whole, in bytes, and the alignment of synced writes.
pub const UNIT: usize = 4096;
/// From here on a number in a file's name was given by nobody: to count on from it would soon reach the
/// end.
pub const STRAY_NUMBER_MIN: u64 = 1 << 62;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position of a record in the logical log: 1, 2, 3 …; 0 is "before the first".
    Index,
    u64
);
number!(
    /// Term of the leader that appended a record; 0 in a standalone store.
    Term,
    u64
);
number!(
    /// Byte position in the log's address space; never reused.
    Lsn,
    u64
);
number!(
    /// Number of a log file; higher is newer.
    LogNumber,
    u64
);
number!(
    /// Number of a segment; never reused.
    SegmentNumber,
    u64
);
number!(
    /// Identity of a keyspace; never reused, even when a name is.
    KeyspaceId,
    u32
);
number!(
    /// Which of several replicated logs a record belongs to; 0 in a standalone store.
    StreamId,
    u32
);

impl KeyspaceId {
    /// The keyspace that every store has.
    pub const DEFAULT: Self = Self(0);
}

impl Index {
    /// The next index; the highest has none, and stays.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
    };
}

id128!(
    /// Random identity of a store.
    StoreId
);
id128!(
    /// Random identity of a file; seeds every checksum in it, so a block of another file never passes.
    FileId
);

/// A key's version: the record that wrote it, and the place in that record. Orders oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Index of the log record.
    pub index: Index,
    /// Position of the operation in the record's batch.
    pub position: u32,
}

impl Version {
    /// Newer than every version that can exist.
    pub const MAX: Self = Self {
        index: Index(u64::MAX),
        position: u32::MAX,
    };

    /// The newest version that a reader at `index` may see.
    #[must_use]
    pub fn newest_at(index: Index) -> Self {
        Self {
            index,
            position: u32::MAX,
        }
    }
}

/// What an entry says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// The key has this value.
    Put = 1,
    /// The key is gone.
    Delete = 2,
    /// The key's value is changed by this operand, in the way that its keyspace's merge operator knows.
    Merge = 3,
    /// The key has this value until a time. In tables the value begins with that time: see
    /// [`expires_us`].
    Expiring = 4,
}

impl EntryKind {
    /// Reads the byte that stands for a kind in every format.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            3 => Some(Self::Merge),
            4 => Some(Self::Expiring),
            _ => None,
        }
    }

    /// Whether a value of so many bytes can go with it in a table.
    #[must_use]
    pub fn allows(self, value_bytes: usize) -> bool {
        match self {
            Self::Put | Self::Merge => true,
            Self::Delete => value_bytes == 0,
            Self::Expiring => value_bytes >= EXPIRY_BYTES,
        }
    }
}

/// What must survive before a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Nothing is promised: the write may sit in this process's memory until a stronger write, `sync`,
    /// `flush` or `close`.
    Buffered,
    /// The death of this process (the write has been handed to the operating system).
    Process,
    /// The loss of power (the write has been synced to the disk).
    #[default]
    Disk,
}

/// Whether a store stands alone or is one replica of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Opened by `Db`.
    #[default]
    Standalone = 0,
    /// A member of a cluster: its log is appended by consensus only.
    Member = 1,
}

impl Mode {
    /// Reads the byte that stands for a mode in the manifest.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Standalone),
            1 => Some(Self::Member),
            _ => None,
        }
    }
}
