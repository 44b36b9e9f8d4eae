//! The subcommands: each has its `Arguments` and a `run`.

pub mod backup;
pub mod bench;
pub mod compact;
pub mod completions;
pub mod count;
pub mod delete;
pub mod demo;
pub mod dump;
pub mod export;
pub mod get;
pub mod keyspaces;
pub mod load;
pub mod log;
pub mod manifest;
pub mod put;
pub mod repair;
pub mod repairs;
pub mod restore;
pub mod salvage;
pub mod scan;
pub mod scrub;
pub mod segments;
pub mod snapshot;
pub mod stat;
pub mod verify;
pub mod watch;
