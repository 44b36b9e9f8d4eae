//! What ends a command early, and how it is told: in words, as JSON, as an exit code.

use std::io;
use std::path::Path;

use kintsu::{Damage, Error, Reaction};
use serde_json::{Value, json};

/// The exit codes; `--help` and `docs/operator.md` list them.
pub mod exit {
    /// All is well.
    pub const FINE: u8 = 0;
    /// The key isn't there.
    pub const NOT_FOUND: u8 = 1;
    /// The command line can't be served as it is.
    pub const USAGE: u8 = 2;
    /// Something on disk is damaged.
    pub const DAMAGE: u8 = 3;
    /// Any other error.
    pub const OTHER: u8 = 4;
    /// `verify`: something on disk is damaged, and all of it can be mended.
    pub const MENDABLE: u8 = 5;
    /// `verify`: something on disk is damaged, and the store can't be opened.
    pub const UNOPENABLE: u8 = 6;
    /// `torture`: a promise was broken.
    pub const BROKEN: u8 = 7;
}

/// The result of a command, or of a part of one.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// The library refused.
    Store(Error),
    /// The key isn't there.
    NotFound(String),
    /// The command line asks for what can't be.
    Usage(String),
    /// A line or a file to be loaded can't be.
    Input(String),
    /// A file that isn't the store's, or the standard output, failed.
    File(String),
    /// The command has said on standard output what is wrong; only the exit code is left to tell.
    Told(u8),
    /// Whoever read the output has gone, as `head` does. Not an error.
    ClosedPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// A file outside the store that failed.
    pub fn file(action: &str, path: &Path, error: &io::Error) -> Self {
        Self::File(format!("could not {action} {}: {error}", path.display()))
    }

    /// A failed write to `target`, which may be a pipe that nobody reads any more.
    pub fn write(target: &str, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::File(format!("could not write {target}: {error}"))
    }

    /// The code to exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Store(error) => match error {
                Error::InvalidOption { .. }
                | Error::KeyTooLong { .. }
                | Error::ValueTooLong { .. }
                | Error::KeyspaceName { .. } => exit::USAGE,
                error if error.reaction() == Reaction::Repair => exit::DAMAGE,
                _ => exit::OTHER,
            },
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Usage(_) => exit::USAGE,
            Self::Input(_) | Self::File(_) => exit::OTHER,
            Self::Told(code) => *code,
            Self::ClosedPipe => exit::FINE,
        }
    }

    /// What to print after `error: `; `None` if nothing is left to say.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Store(error) => Some(error.to_string()),
            Self::NotFound(what) | Self::Usage(what) | Self::Input(what) | Self::File(what) => {
                Some(what.clone())
            }
            Self::Told(_) | Self::ClosedPipe => None,
        }
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Option<Value> {
        let message = self.message()?;
        let (kind, reaction) = match self {
            Self::Store(error) => (kind_of(error), reaction_of(error)),
            Self::NotFound(_) => ("not_found", "refuse"),
            Self::Usage(_) => ("usage", "refuse"),
            Self::Input(_) => ("input", "refuse"),
            _ => ("file", "retry"),
        };
        let mut error = json!({ "kind": kind, "reaction": reaction, "message": message });
        if let Self::Store(Error::Damaged(damage)) = self {
            error["damage"] = damage.iter().map(damage_json).collect();
        }
        Some(json!({ "error": error, "exit_code": self.exit_code() }))
    }
}

/// One damaged place as JSON.
pub fn damage_json(damage: &Damage) -> Value {
    json!({
        "file": damage.path.to_string_lossy(),
        "offset": damage.offset,
        "bytes": damage.bytes,
        "log_positions": damage.lsns.map(|(from, to)| [from.0, to.0]),
        "records": damage.indexes.map(|(from, to)| [from.0, to.0]),
        "what": damage.what,
    })
}

fn reaction_of(error: &Error) -> &'static str {
    match error.reaction() {
        Reaction::Retry => "retry",
        Reaction::Refuse => "refuse",
        Reaction::Repair => "repair",
        Reaction::Stop => "stop",
    }
}

/// The word for an error.
pub fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } => "io",
        Error::NoSpace { .. } => "no_space",
        Error::Locked { .. } => "locked",
        Error::NotAStore { .. } => "not_a_store",
        Error::NewerFormat { .. } => "newer_format",
        Error::FeatureMissing { .. } => "feature_missing",
        Error::ForeignFile { .. } => "foreign_file",
        Error::MemberStore { .. } => "member_store",
        Error::UnsafeFileSystem { .. } => "unsafe_file_system",
        Error::FolderNotEmpty { .. } => "folder_not_empty",
        Error::Repository { .. } => "repository",
        Error::ArchiveGap { .. } => "archive_gap",
        Error::ReadOnly => "read_only",
        Error::ReadOnlyFileSystem { .. } => "read_only_file_system",
        Error::InvalidOption { .. } => "invalid_option",
        Error::KeyTooLong { .. } => "key_too_long",
        Error::ValueTooLong { .. } => "value_too_long",
        Error::BatchTooLarge { .. } => "batch_too_large",
        Error::KeyspaceName { .. } => "keyspace_name",
        Error::KeyspaceNotFound { .. } => "keyspace_not_found",
        Error::KeyspaceExists { .. } => "keyspace_exists",
        Error::Closed => "closed",
        Error::Purged { .. } => "purged",
        Error::NotYetWritten { .. } => "not_yet_written",
        Error::LogOrder { .. } => "log_order",
        Error::VoteLost { .. } => "vote_lost",
        Error::OutcomeUnknown { .. } => "outcome_unknown",
        Error::Poisoned { .. } => "poisoned",
        Error::Damaged(_) => "damaged",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_reaction() {
        let damage = Damage::new(Path::new("s/00000001.log"), 4096, 10, "a bad checksum");
        let damaged = Failure::from(Error::damaged(damage));
        assert_eq!(damaged.exit_code(), exit::DAMAGE);
        let told = damaged.to_json().unwrap();
        assert_eq!(told["error"]["damage"][0]["offset"], 4096);
        assert_eq!(told["error"]["reaction"], "repair");
        let locked = Failure::from(Error::Locked { path: "s".into() });
        assert_eq!(locked.exit_code(), exit::OTHER);
        let long = Failure::from(Error::KeyTooLong { bytes: 2, limit: 1 });
        assert_eq!(long.exit_code(), exit::USAGE);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let gone = Failure::write("standard output", &io::ErrorKind::BrokenPipe.into());
        assert_eq!(gone.exit_code(), exit::FINE);
        assert_eq!(gone.message(), None);
        let full = Failure::write("standard output", &io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit_code(), exit::OTHER);
    }
}
