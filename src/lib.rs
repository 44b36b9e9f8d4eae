//! Kintsu: an embedded, log-structured key-value store that survives the bad day.

#![deny(unsafe_code)]

mod api;
mod codec;
mod cursor;
mod engine;
pub mod environment;
mod error;
mod manifest;
mod memtable;
mod options;
mod segment;
#[cfg(feature = "testing")]
pub mod testing;
mod types;
pub mod vfs;
pub mod wal;

pub use error::{Damage, Error, Reaction, Result};
pub use types::{
    BATCH_BYTES_MAX, Durability, Index, KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX, KeyspaceId, Lsn,
    Mode, SegmentNumber, StoreId, Term, VALUE_BYTES_MAX, Version,
};
