//! One error type. Each error names what it struck and says which [`Reaction`] it asks for.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::{Index, Lsn};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Nothing is wrong with the store: the same call can succeed later (once there is room, once
    /// the other process has gone).
    Retry,
    /// The call itself can't be served: change it.
    Refuse,
    /// Something on disk is damaged: the store names it and the command that helps.
    Repair,
    /// The store takes no more writes; reads go on. Close it, look at the disk, open it again.
    Stop,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where the damage begins in it, in bytes.
    pub offset: u64,
    /// How many bytes can't be believed; 0 if unknown.
    pub bytes: u64,
    /// Log positions lost, from and to (exclusive), if it is a log file.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Indexes of the records lost, from and to (both inclusive), as far as they are known.
    pub indexes: Option<(Index, Index)>,
    /// What was expected there and what was found.
    pub what: String,
}

impl Damage {
    /// Damage at a place in a file, with nothing known of log positions.
    #[must_use]
    pub fn new(path: &Path, offset: u64, bytes: u64, what: impl Into<String>) -> Self {
        let what = what.into();
        Self {
            path: path.to_owned(),
            offset,
            bytes,
            lsns: None,
            indexes: None,
            what,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.path.display(), self.offset)?;
        if self.bytes > 0 {
            write!(f, " ({} bytes)", self.bytes)?;
        }
        write!(f, ": {}", self.what)?;
        if let Some((from, to)) = self.lsns {
            write!(f, "; log positions {from} to {to}")?;
        }
        if let Some((from, to)) = self.indexes {
            write!(f, "; records {from} to {to}")?;
        }
        Ok(())
    }
}

/// Everything that can go wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk answered with an error where nothing of the store is endangered (a failed read, a
    /// file that couldn't be created).
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The operating system's answer.
        source: Arc<io::Error>,
    },
    /// The disk is full. Reads go on; writes succeed again once there is room.
    #[error("no space left to {action} {}; free some and try again", path.display())]
    NoSpace {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// Another process, or this one, has the store open for writing.
    #[error("{} is open for writing elsewhere; open it read-only, or wait", path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// There is no store at this path.
    #[error("{} is not a Kintsu store: {why}", path.display())]
    NotAStore {
        /// The folder asked for.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// A file was written by a newer version of Kintsu.
    #[error("{} has format {found}; this version reads up to {supported}: upgrade Kintsu", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// A file belongs to another store.
    #[error("{} belongs to another store ({found}, this is {expected}); put the right file back", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// The identity in it.
        found: String,
        /// The identity that was expected.
        expected: String,
    },
    /// A file, or an option of a keyspace, asks for a feature of this crate that this build lacks.
    #[error("{} needs the feature `{feature}`: use a build of Kintsu that has it", path.display())]
    FeatureMissing {
        /// The file, or the store's folder.
        path: PathBuf,
        /// The feature's name in Cargo.toml.
        feature: &'static str,
    },
    /// The folder belongs to a cluster member.
    #[error("{} belongs to a cluster member; open it as a node, or read-only", path.display())]
    MemberStore {
        /// The folder.
        path: PathBuf,
    },
    /// The file system can't keep what the store promises.
    #[error("{} is on {file_system}: {why}; put the store on a local file system", path.display())]
    UnsafeFileSystem {
        /// The folder.
        path: PathBuf,
        /// The file system's name.
        file_system: String,
        /// What it lacks.
        why: &'static str,
    },
    /// A new store is to be made where something is already.
    #[error("{} isn't empty; name a folder that is missing or empty", path.display())]
    FolderNotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A backup repository can't serve the call.
    #[error("backup repository {}: {why}", path.display())]
    Repository {
        /// The repository, or the file in it.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// The archive lacks records between the backup and the point to be restored.
    #[error("the archive in {} lacks records {from} to {to}; restore to an index below {from}, or from a newer backup", path.display())]
    ArchiveGap {
        /// The repository.
        path: PathBuf,
        /// The first record that is missing.
        from: Index,
        /// The last one.
        to: Index,
    },
    /// The store was opened read-only.
    #[error("the store is open read-only")]
    ReadOnly,
    /// The file system takes no writes.
    #[error("{} is on a read-only file system; open the store read-only", path.display())]
    ReadOnlyFileSystem {
        /// The file.
        path: PathBuf,
    },
    /// An option is out of its range.
    #[error("option {name}: {why}")]
    InvalidOption {
        /// The option.
        name: &'static str,
        /// Its range.
        why: String,
    },
    /// A key is longer than [`crate::KEY_BYTES_MAX`].
    #[error("a key of {bytes} bytes is over the limit of {limit}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A value is longer than [`crate::VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes is over the limit of {limit}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A batch is larger than [`crate::BATCH_BYTES_MAX`].
    #[error("a batch of {bytes} bytes is over the limit of {limit}; write it in parts")]
    BatchTooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A keyspace can't have this name.
    #[error("keyspace name {name:?}: {why}")]
    KeyspaceName {
        /// The name.
        name: String,
        /// The rule.
        why: &'static str,
    },
    /// There is no such keyspace (any more).
    #[error("no keyspace {name:?}")]
    KeyspaceNotFound {
        /// The name.
        name: String,
    },
    /// A keyspace of this name is there already.
    #[error("keyspace {name:?} exists already")]
    KeyspaceExists {
        /// The name.
        name: String,
    },
    /// The keyspace has no merge operator, so nothing can be merged in it.
    #[error("keyspace {name:?} has no merge operator")]
    NoMergeOperator {
        /// The keyspace.
        name: String,
    },
    /// The merge operator that a keyspace's options name was not registered with this store.
    #[error(
        "merge operator {operator:?} of keyspace {name:?} is not registered: see `Options::merge_operator`"
    )]
    UnknownMergeOperator {
        /// The keyspace.
        name: String,
        /// The operator.
        operator: String,
    },
    /// A merge operator refused the value or an operand of a key.
    #[error("the values of key \"{}\" in keyspace {name:?} can't be merged: {why}", key.escape_ascii())]
    MergeFailed {
        /// The keyspace.
        name: String,
        /// The key.
        key: Vec<u8>,
        /// What the operator said.
        why: String,
    },
    /// Somebody else has written what this transaction read, or it began too long ago to tell. Nothing
    /// was written; begin it again.
    #[error("conflict: {why}; nothing was written, run the transaction again")]
    Conflict {
        /// What was in the way.
        why: &'static str,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// The log asked for was purged.
    #[error("the log begins at record {first}; {asked} has been purged")]
    Purged {
        /// The index asked for.
        asked: Index,
        /// The lowest index still there.
        first: Index,
    },
    /// The record asked for is beyond the log's end: whoever knows of it has seen another store, or a newer
    /// state of this one.
    #[error(
        "record {asked} is asked for, but {last} is the last: is this an older copy of the store?"
    )]
    NotYetWritten {
        /// The index asked for.
        asked: Index,
        /// The index of the last record.
        last: Index,
    },
    /// A call to the log would break its order.
    #[error("log order: {why}")]
    LogOrder {
        /// What was asked for and what the log holds.
        why: String,
    },
    /// An entry can't go into a sorted file where it was put: the order of the table would break.
    #[error("{}: {why}", path.display())]
    TableOrder {
        /// The file being written.
        path: PathBuf,
        /// The entry, and what it breaks.
        why: String,
    },
    /// An edit of the manifest contradicts it: a mistake in the caller, not on disk. Nothing was done.
    #[error("manifest edit: {why}")]
    ManifestEdit {
        /// What was asked for and what the manifest says.
        why: String,
    },
    /// Both copies of term and vote are lost, or older than the log: this member's identity is dead.
    #[error("{}: term and vote are lost ({why}); rejoin under a new member id", path.display())]
    VoteLost {
        /// The folder.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The write or sync that should have made this durable failed: it may or may not survive.
    #[error(
        "whether the write survived is unknown: {cause}; close the store, check the disk, reopen, and read"
    )]
    OutcomeUnknown {
        /// The first failure.
        cause: Arc<str>,
    },
    /// An earlier write or sync failed; the store takes no more writes, and nothing of this one was done.
    #[error(
        "the store takes no more writes since an earlier failure: {cause}; close it, check the disk, reopen"
    )]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
    /// Something on disk is not what was written there.
    #[error("{}", display_damage(.0))]
    Damaged(Vec<Damage>),
}

fn display_damage(damage: &[Damage]) -> String {
    let Some(first) = damage.first() else {
        return "damage".into();
    };
    if let Some(repository) = repository_of(&first.path) {
        let repository = repository.display();
        return format!(
            "damaged: {first}{}; nothing was changed. See all of it with `kintsu backup STORE {repository} \
             --verify`",
            more_than_one(damage)
        );
    }
    let folder = first.path.parent().unwrap_or(Path::new("STORE")).display();
    let more = more_than_one(damage);
    let name = first.path.file_name().unwrap_or_default();
    let repair = match name.to_string_lossy().starts_with("manifest") {
        // Without it there is nothing to go by.
        true => String::new(),
        false => format!("give up what is lost with `kintsu repair {folder}`, or "),
    };
    format!(
        "damaged: {first}{more}; nothing was changed. See all of it with `kintsu verify {folder}`, \
         {repair}copy what is readable with `kintsu salvage {folder} NEW`"
    )
}

fn more_than_one(damage: &[Damage]) -> String {
    match damage.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    }
}

/// The backup repository that a file is in, as far as its name tells.
fn repository_of(path: &Path) -> Option<&Path> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let folder = path.parent()?;
    let name = |path: &Path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
    };
    let is_in = |folder: &Path, expected: &str| name(folder).as_deref() == Some(expected);
    // (A store may be in a folder of such a name.)
    let is_volume = |path: &Path| {
        name(path).is_some_and(|name| name.len() >= 8 && name.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_digest = || path.file_stem().is_some_and(|stem| stem.len() == 32);
    match extension {
        None if is_in(path, "repository") => Some(folder),
        Some("backup") if is_in(folder, "backups") => folder.parent(),
        Some("segment") if is_digest() && is_in(folder, "segments") => folder.parent(),
        Some("volume" | "load") if is_in(folder, "log") => folder.parent(),
        None if is_volume(path) && is_in(folder, "log") => folder.parent(),
        Some("log" | "ids" | "parity") if is_volume(folder) => {
            folder.parent().filter(|log| is_in(log, "log"))?.parent()
        }
        _ => None,
    }
}

impl Error {
    /// What the caller should do.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Io { .. }
            | Self::NoSpace { .. }
            | Self::Locked { .. }
            | Self::Conflict { .. } => Reaction::Retry,
            Self::Damaged(_) | Self::VoteLost { .. } => Reaction::Repair,
            Self::OutcomeUnknown { .. } | Self::Poisoned { .. } => Reaction::Stop,
            _ => Reaction::Refuse,
        }
    }

    /// Wraps what the disk answered, telling a full or read-only disk from other trouble.
    #[must_use]
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { action, path }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnlyFileSystem { path },
            _ => Self::Io {
                action,
                path,
                source: Arc::new(source),
            },
        }
    }

    /// One damaged place as an error.
    #[must_use]
    pub fn damaged(damage: Damage) -> Self {
        Self::Damaged(vec![damage])
    }
}
