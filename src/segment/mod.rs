//! Room `segment`: the sorted immutable file.
//!
//! A segment holds entries in table order in blocks of a few KiB, an index of the blocks, a filter
//! over the keys, and a footer that says whose file it is. It is written once, from front to back,
//! under a temporary name, synced, and renamed; from then on it never changes.
//!
//! Every byte is under a checksum seeded with the file's random id and its offset. The read that uses
//! a block verifies it, or the read that put it in the cache did. So a block that was moved, or comes
//! from another file, is refused like one that has rotted. The bytes of the format stand in
//! `docs/format-segment.md`; `format`, `block`, `index` and `filter` are their one home, for writing
//! and for reading.

mod anew;
mod block;
mod block_cursor;
mod builder;
mod cache;
mod compress;
mod counters;
mod cursor;
mod file;
mod filter;
mod format;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod index;
mod inspect;
mod mending;
mod open;
mod output;
mod places;
mod properties;
mod reader;
mod rescue;
mod salvage;
#[cfg(test)]
mod tests;
mod verify;

pub use anew::Anew;
pub use builder::{SegmentBuilder, SegmentOptions, SegmentSetup};
pub use cache::{BlockCache, ReadPolicy};
pub use counters::ReadCounts;
pub use cursor::SegmentCursor;
pub use format::{Footer as SegmentFooter, Identity as SegmentIdentity};
pub use inspect::{Inspected, InspectedContent, inspect};
pub use properties::Properties as SegmentProperties;
pub use reader::Segment;
pub use rescue::LostBlock;
pub use salvage::{LostPart, Wreck};

use crate::types::SegmentNumber;

/// The name of a published segment in the store's folder.
#[must_use]
pub fn file_name(number: SegmentNumber) -> String {
    format!("{:08}.segment", number.0)
}

/// The name it has until it is published.
fn temporary_name(number: SegmentNumber) -> String {
    format!("{}.tmp", file_name(number))
}
