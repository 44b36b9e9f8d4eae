//! The command line, run as users run it: one process a command.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test, its helpers included"
)]

#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/damage.rs"]
mod damage;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/json.rs"]
mod json;
#[path = "cli/processes.rs"]
mod processes;
#[path = "cli/records.rs"]
mod records;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/torture.rs"]
mod torture;
#[path = "cli/upkeep.rs"]
mod upkeep;
#[path = "cli/verify.rs"]
mod verify;
#[path = "cli/watch.rs"]
mod watch;
