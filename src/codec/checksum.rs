//! The three checksums of the formats: CRC-32 for headers, XXH3-64 for blocks and payloads, XXH3-128
//! for whole files.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::types::FileId;

/// The seed that binds a checksum to a file and an offset in it.
#[must_use]
pub fn seed(file: FileId, offset: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&file.0.to_le_bytes());
    bytes[16..].copy_from_slice(&offset.to_le_bytes());
    xxh3_64(&bytes)
}

/// XXH3-64 of a block, bound to its file and to its offset there.
#[must_use]
pub fn block_checksum(file: FileId, offset: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed(file, offset))
}

/// XXH3-64 of a record's payload, for those who compute it before the record's place is known.
#[must_use]
pub fn payload_hash(payload: &[u8]) -> u64 {
    xxh3_64(payload)
}

/// CRC-32 of a header in two parts, salted. It finds every error of up to three bits and every burst
/// of up to 32.
#[must_use]
pub fn header_checksum(salt: u64, first: &[u8], second: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(first);
    hasher.update(second);
    hasher.finalize()
}

/// A running XXH3-128, the name of a file's whole content.
#[must_use]
pub fn digest() -> Xxh3 {
    Xxh3::new()
}
