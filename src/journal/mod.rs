//! What was found damaged and what became of it: a file of text in the store's folder, one line a repair. And how far
//! the scrubber has come, in another.
//!
//! It is there to be read by people, and nothing depends on it: a line that was torn or damaged is passed over and
//! counted. Format and reasons: `docs/mending.md`.

mod file;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod line;
mod progress;
#[cfg(test)]
mod tests;

pub use file::{JOURNAL_FILE, JOURNAL_OLD_FILE, append, read};
pub use line::{Means, Outcome, Repair};
pub use progress::{PROGRESS_FILE, Progress};

/// What a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repairs {
    /// What became of damage, oldest first.
    pub repairs: Vec<Repair>,
    /// Lines that aren't as they were written.
    pub unreadable_lines: u64,
}
