//! Room `snapshot`: what a backup repository and a folder published whole are made of.
//!
//! The layout, the bytes and the order of syncs stand in `docs/backup.md`. What is in a segment, a log or a
//! manifest isn't known here: segments are files with a digest, a manifest's state is bytes.

mod files;
mod format;
#[cfg(feature = "testing")]
pub mod fuzz;
mod lineage;
mod repository;
mod staging;
#[cfg(test)]
mod tests;

pub use files::{CopyFailure, Expected, digest_of, link_or_copy};
pub use format::{BackupContent, SegmentContent, VolumeContent};
pub use lineage::{
    LINEAGE_COPY_FILE, LINEAGE_FILE, Lineage, check_lineage, check_lineage_file, mend_lineage,
    read_lineage, write_lineage,
};
pub use repository::{Listed, Repository};
pub use staging::{STAGING_FILE, Staging, end_staging};
