//! Room `parity`: what lets a file lose some of its blocks and be put together again.
//!
//! A file that is never changed again is protected by a trailer: Reed–Solomon parity for each MiB of its
//! content, and a table of checksums, twice, by which lost units are told from good ones. The bytes
//! stand in `docs/format-parity.md`. Nothing here touches a disk: bytes come in, or are asked for through
//! [`Units`].

mod encoder;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod geometry;
mod heal;
mod slot;
mod table;
#[cfg(test)]
mod tests;
mod trailer;

pub use encoder::ParityEncoder;
pub use geometry::Geometry;
pub use heal::{Healed, heal};
pub use slot::{GroupTable, SlotCoder, Slots, restore};
pub use table::Tail;
pub use trailer::{Trailer, TrailerPart, find_tail};

/// Bytes of a unit: what is lost and healed as a whole.
pub const UNIT_BYTES: usize = 4096;
/// Units of content in a group.
pub const GROUP_UNITS: u64 = 256;
