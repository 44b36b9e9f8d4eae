//! Bytes in, bytes out: checksums, varints and bounded reading. No disk, no panics on any input.

mod checksum;
mod reader;
mod varint;

pub use checksum::{block_checksum, digest, header_checksum, payload_hash, seed};
pub use reader::Reader;
pub use varint::{put_prefixed, put_varint, varint_bytes};
