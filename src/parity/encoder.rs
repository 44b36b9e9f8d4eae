//! Makes a file's trailer from its content as that goes by.

use std::io;

use reed_solomon_simd::ReedSolomonEncoder;

use super::table::{Tail, encode};
use super::{GROUP_UNITS, Geometry, UNIT_BYTES};
use crate::codec::block_checksum;
use crate::types::{FileId, Parity};

const GROUP_BYTES: usize = GROUP_UNITS as usize * UNIT_BYTES;

/// Takes a file's content from front to back, and makes the trailer that belongs behind it.
///
/// Takes memory for a group (1 MiB), for the parity so far (a sixteenth, or an eighth, of the content) and
/// for 8 bytes a unit.
pub struct ParityEncoder {
    level: Parity,
    file_id: FileId,
    /// What has been taken of the group at hand.
    group: Vec<u8>,
    content_bytes: u64,
    parity: Vec<u8>,
    checksums: Vec<u64>,
    coder: Option<ReedSolomonEncoder>,
}

impl ParityEncoder {
    /// For a file with this id.
    #[must_use]
    pub fn new(level: Parity, file_id: FileId) -> Self {
        Self {
            level,
            file_id,
            group: Vec::new(),
            content_bytes: 0,
            parity: Vec::new(),
            checksums: Vec::new(),
            coder: None,
        }
    }

    /// Takes the next bytes of the content.
    ///
    /// # Errors
    /// None that the coder's limits allow for.
    pub fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.level == Parity::Off {
            return Ok(());
        }
        while !bytes.is_empty() {
            let room = GROUP_BYTES - self.group.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.group.extend_from_slice(now);
            self.content_bytes += now.len() as u64;
            bytes = later;
            if self.group.len() == GROUP_BYTES {
                self.finish_group()?;
            }
        }
        Ok(())
    }

    /// The trailer: what stands behind the content. Nothing if there is no parity.
    ///
    /// # Errors
    /// As for `update`.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        if self.level == Parity::Off {
            return Ok(Vec::new());
        }
        self.finish_group()?;
        let geometry = Geometry::new(self.level, self.content_bytes);
        let mut checksums = self.checksums;
        for (unit, bytes) in self.parity.chunks(UNIT_BYTES).enumerate() {
            let offset = geometry.parity_offset(unit as u64);
            checksums.push(block_checksum(self.file_id, offset, bytes));
        }
        let tail = Tail {
            level: self.level,
            content_bytes: self.content_bytes,
            file_id: self.file_id,
        };
        let [first, second] = geometry.tables();
        let mut out = encode(self.file_id, first, &checksums, tail);
        let padding = geometry.parity_offset(0) - first;
        out.resize(padding as usize, 0);
        out.extend_from_slice(&self.parity);
        out.extend_from_slice(&encode(self.file_id, second, &checksums, tail));
        Ok(out)
    }

    /// Makes the parity of the group at hand, and begins the next one.
    fn finish_group(&mut self) -> io::Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let units = self.group.len().div_ceil(UNIT_BYTES);
        self.group.resize(units * UNIT_BYTES, 0);
        let first = self.checksums.len() as u64;
        for (unit, bytes) in self.group.chunks(UNIT_BYTES).enumerate() {
            let offset = (first + unit as u64) * UNIT_BYTES as u64;
            let checksum = block_checksum(self.file_id, offset, bytes);
            self.checksums.push(checksum);
        }
        // What has gone by tells the only group from the last of several.
        let parity = Geometry::new(self.level, self.content_bytes).parity_of(units as u64) as usize;
        let refused = io::Error::other::<reed_solomon_simd::Error>;
        let mut coder = match self.coder.take() {
            Some(mut coder) => {
                coder.reset(units, parity, UNIT_BYTES).map_err(refused)?;
                coder
            }
            None => ReedSolomonEncoder::new(units, parity, UNIT_BYTES).map_err(refused)?,
        };
        for unit in self.group.chunks(UNIT_BYTES) {
            coder.add_original_shard(unit).map_err(refused)?;
        }
        for shard in coder.encode().map_err(refused)?.recovery_iter() {
            self.parity.extend_from_slice(shard);
        }
        self.coder = Some(coder);
        self.group.clear();
        Ok(())
    }
}
