#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod api;
mod codec;
mod cursor;
mod engine;
pub mod environment;
mod error;
mod journal;
mod manifest;
mod memtable;
mod operator;
mod options;
mod parity;
mod segment;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod types;
pub mod vfs;
pub mod wal;
mod watch;

#[cfg(feature = "testing")]
pub use api::Ticket;
pub use api::{
    BulkLoad, Db, Follower, KeyRange, Keyspace, Range, ReadView, Repository, SalvageReport,
    Savepoint, Subscription, Transaction, TransactionRange, restore, salvage, salvage_list,
};
pub use bytes::Bytes;
pub use engine::{
    Activity, Backup, BackupEra, BackupReport, BlockState, DEFAULT_KEYSPACE, FeedChange,
    FeedKeyspace, FeedRecord, FileMap, FilePlace, FileReport, Finding, FindingKind, Health,
    HealthState, Job, KeyspaceStatistics, Lost, LostRange, PruneReport, RecoveryReport, RepairMode,
    RepairReport, RepositoryReport, RestorePoint, RestoreReport, ScrubReport, ScrubStatus,
    Severity, Skipped, SnapshotReport, Statistics, VerifyProgress, VerifyReport, WriteBatch,
    repair, repairs, verify, verify_file,
};
pub use error::{Damage, Error, Reaction, Result};
pub use journal::{Means as RepairMeans, Outcome as RepairOutcome, Repair, Repairs};
pub use operator::{Append, Counter, MergeOperator};
pub use options::{Background, BackupPolicy, KeyspaceOptions, Options, Progress};
pub use types::{
    BATCH_BYTES_MAX, Codec, Compression, Durability, Index, KEY_BYTES_MAX, KEYSPACE_NAME_BYTES_MAX,
    KeyspaceId, LogFileMeta, LogNumber, Lsn, Mode, Parity, SegmentNumber, StoreId, StreamId, Term,
    VALUE_BYTES_MAX, Version,
};
pub use watch::{DiskHealth, DiskState, Latencies};

/// The fuzz targets: each takes a fuzzer's bytes and panics if a promise is broken.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::api::fuzz::{engine_ops, store_damage, store_repair};
    pub use crate::journal::fuzz::journal_reader;
    pub use crate::manifest::fuzz::manifest_reader;
    pub use crate::parity::fuzz::parity_heal;
    pub use crate::segment::fuzz::segment_reader;
    pub use crate::snapshot::fuzz::snapshot_files;
    pub use crate::wal::fuzz::wal_recovery;
}

/// What is on disk, shown as it is, damage included: for tools.
pub mod inspect {
    pub use crate::manifest::{
        Change as ManifestChange, Inspected as InspectedManifest, KeyspaceState, ManifestState,
        Part as ManifestPart, Side as ManifestSide, inspect as manifest,
    };
    pub use crate::segment::{
        Inspected as InspectedSegment, InspectedContent as SegmentContent, SegmentFooter,
        SegmentIdentity, SegmentProperties, inspect as segment,
    };
    pub use crate::types::{Fence, SegmentMeta};
}
