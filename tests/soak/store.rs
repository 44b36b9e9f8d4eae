//! The store that a run works on: its folders, its options, its keyspaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kintsu::{
    BackupPolicy, Codec, Compression, Counter, DEFAULT_KEYSPACE, Db, Durability, Keyspace,
    KeyspaceOptions, Options, ReadView,
};

use super::model::Progress;
use super::operation::{Size, progress_key};

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Folders(PathBuf);

impl Folders {
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    pub fn base(&self) -> &Path {
        &self.0
    }

    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    pub fn repository(&self) -> PathBuf {
        self.0.join("backups")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots")
    }

    pub fn restored(&self) -> PathBuf {
        self.0.join("restored")
    }

    /// The whole snapshots, oldest first.
    pub fn all_snapshots(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.snapshots()) else {
            return Vec::new();
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_none_or(|end| end != "tmp"))
            .collect();
        paths.sort();
        paths
    }
}

/// Bytes on the disk of a folder's files, those in folders below included; what goes meanwhile counts
/// as gone.
pub fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// How many files of a store end so.
pub fn files(folder: &Path, end: &str) -> usize {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).count()
}

pub fn options(size: &Size, path: &Path) -> Options {
    Options::new(path)
        .durability(Durability::Process)
        .block_cache_bytes(size.cache_bytes)
        .write_buffer_bytes(size.write_buffer_bytes)
        .log_file_bytes(size.write_buffer_bytes as u64 * 2)
        .conflict_window_bytes(size.write_buffer_bytes / 4)
        .log_bytes_before_flush(size.write_buffer_bytes as u64 * 4)
        .segment_bytes(size.segment_bytes)
        .level_base_bytes(size.segment_bytes * 2)
        .compaction_threads(2)
}

/// Options of a child: with backups by policy and, if `archived`, an archive.
pub fn working_options(size: &Size, folders: &Folders, archived: bool) -> Options {
    let policy = BackupPolicy::new(folders.repository())
        .every(None)
        .every_log_bytes(size.backup_log_bytes)
        .keep(2);
    let options = options(size, &folders.store()).backup_policy(policy);
    match archived {
        true => options.archive_to(folders.repository()),
        false => options,
    }
}

/// An open store and its keyspaces.
pub struct Store {
    pub db: Db,
    pub items: [Keyspace; 3],
    pub counters: Keyspace,
    pub bank: Keyspace,
    pub sessions: Keyspace,
}

impl Store {
    /// Makes what is missing.
    pub fn create(db: Db, size: &Size) -> Self {
        let slow = match Codec::Zstd.missing_feature() {
            None => Codec::Zstd,
            Some(_) => Codec::Lz4,
        };
        let packed = KeyspaceOptions::default().compression(Compression::new(Codec::Lz4, slow));
        let raw = KeyspaceOptions::default().compression(Compression::NONE);
        let counters = KeyspaceOptions::default().merge_operator(Counter::NAME);
        let time_to_live = Duration::from_millis(size.session_ms);
        let sessions = KeyspaceOptions::default().time_to_live(time_to_live);
        let wanted = [
            ("packed", packed),
            ("raw", raw),
            ("counters", counters),
            ("bank", KeyspaceOptions::default()),
            ("sessions", sessions),
        ];
        for (name, options) in wanted {
            if db.keyspace(name).is_err() {
                db.create_keyspace_with(name, options).unwrap();
            }
        }
        Self::of(db)
    }

    pub fn of(db: Db) -> Self {
        let keyspace = |name| db.keyspace(name).unwrap();
        Self {
            items: [DEFAULT_KEYSPACE, "packed", "raw"].map(keyspace),
            counters: keyspace("counters"),
            bank: keyspace("bank"),
            sessions: keyspace("sessions"),
            db,
        }
    }

    /// How far each writer has come.
    pub fn progress(&self, view: &ReadView) -> Progress {
        std::array::from_fn(|writer| {
            let value = view.get(progress_key(writer)).unwrap();
            value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()))
        })
    }
}
