//! The bytes of the small files (`docs/backup.md`): one frame, five kinds of body.

use std::path::Path;

use crate::codec::{Reader, digest, put_varint};
use crate::error::{Damage, Error, Result};
use crate::types::{Index, SegmentNumber, StoreId};

use super::lineage::Lineage;

const MAGIC: &[u8; 8] = b"KINTSUBK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const DIGEST_BYTES: usize = 16;

/// What a small file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Repository = 1,
    Lineage = 2,
    Backup = 3,
    Volume = 4,
    Load = 5,
}

/// A segment that a backup needs, or an archived record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentContent {
    /// XXH3-128 of the file.
    pub digest: u128,
    /// Its length.
    pub bytes: u64,
    /// Its number in the store.
    pub number: SegmentNumber,
}

/// What the description of a backup says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupContent {
    /// Where the store stood in its life.
    pub lineage: Lineage,
    /// It holds every record through this one.
    pub index: Index,
    /// The time of that record.
    pub time_us: u64,
    /// When the backup was made.
    pub made_us: u64,
    /// Every segment it needs.
    pub segments: Vec<SegmentContent>,
    /// The manifest's state, opaque here.
    pub state: Vec<u8>,
}

/// What the description of a volume of the archive says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeContent {
    /// Whose records are in it: those of the lineage's newest era.
    pub lineage: Lineage,
    /// The first of them.
    pub first: Index,
    /// No volume of the era that was begun before has a record above this one.
    pub earlier_last: Index,
}

/// What the archive notes of a record that loads segments, before the record itself is archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadContent {
    /// The volume that has the record.
    pub volume: u64,
    /// The record.
    pub index: Index,
    /// The segments that it names.
    pub segments: Vec<SegmentContent>,
}

impl BackupContent {
    pub(super) fn encode(&self, number: u64, store_id: StoreId) -> Vec<u8> {
        encode(Kind::Backup, number, store_id, |out| {
            self.lineage.put(out);
            put_varint(out, self.index.0);
            put_varint(out, self.time_us);
            put_varint(out, self.made_us);
            put_segments(out, &self.segments);
            put_varint(out, self.state.len() as u64);
            out.extend_from_slice(&self.state);
        })
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Option<Self> {
        let lineage = Lineage::take(reader)?;
        let (index, time_us) = (Index(reader.varint()?), reader.varint()?);
        let made_us = reader.varint()?;
        let segments = take_segments(reader)?;
        let state = reader.prefixed()?.to_vec();
        Some(Self {
            lineage,
            index,
            time_us,
            made_us,
            segments,
            state,
        })
    }
}

impl VolumeContent {
    pub(super) fn encode(&self, number: u64, store_id: StoreId) -> Vec<u8> {
        encode(Kind::Volume, number, store_id, |out| {
            self.lineage.put(out);
            put_varint(out, self.first.0);
            put_varint(out, self.earlier_last.0);
        })
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Option<Self> {
        let lineage = Lineage::take(reader)?;
        Some(Self {
            lineage,
            first: Index(reader.varint()?),
            earlier_last: Index(reader.varint()?),
        })
    }
}

impl LoadContent {
    pub(super) fn encode(&self, store_id: StoreId) -> Vec<u8> {
        encode(Kind::Load, self.index.0, store_id, |out| {
            put_varint(out, self.volume);
            put_segments(out, &self.segments);
        })
    }

    /// Reads what was noted of record `index`.
    pub(super) fn take(reader: &mut Reader<'_>, index: Index) -> Option<Self> {
        let volume = reader.varint()?;
        let segments = take_segments(reader)?;
        (!segments.is_empty()).then_some(Self {
            volume,
            index,
            segments,
        })
    }
}

fn put_segments(out: &mut Vec<u8>, segments: &[SegmentContent]) {
    put_varint(out, segments.len() as u64);
    for segment in segments {
        out.extend_from_slice(&segment.digest.to_le_bytes());
        put_varint(out, segment.bytes);
        put_varint(out, segment.number.0);
    }
}

fn take_segments(reader: &mut Reader<'_>) -> Option<Vec<SegmentContent>> {
    let mut segments = Vec::new();
    for _ in 0..reader.varint()? {
        segments.push(SegmentContent {
            digest: reader.u128()?,
            bytes: reader.varint()?,
            number: SegmentNumber(reader.varint()?),
        });
    }
    Some(segments)
}

/// A file with the body that `put` appends after the store id.
pub(super) fn encode(
    kind: Kind,
    number: u64,
    store_id: StoreId,
    put: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    out.extend_from_slice(&store_id.0.to_le_bytes());
    put(&mut out);
    let body_bytes = (out.len() - HEADER_BYTES) as u64;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&(kind as u32).to_le_bytes());
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&body_bytes.to_le_bytes());
    out[..HEADER_BYTES].copy_from_slice(&header);
    let sum = digest_of(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// What `take` reads of the body after the store id, if the file is exactly what `encode` makes of it.
/// `store_id`: whose it must be.
///
/// # Errors
/// `Damaged`, `NewerFormat`, `ForeignFile`.
pub(super) fn decode<T>(
    path: &Path,
    kind: Kind,
    number: u64,
    store_id: Option<StoreId>,
    bytes: &[u8],
    take: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T> {
    let damaged = |what: &str| Error::damaged(Damage::new(path, 0, bytes.len() as u64, what));
    let sums = bytes.len().checked_sub(DIGEST_BYTES);
    let Some((content, sum)) = sums.and_then(|at| bytes.split_at_checked(at)) else {
        return Err(damaged("the file is cut short"));
    };
    if Reader::new(sum).u128() != Some(digest_of(content)) {
        return Err(damaged("the checksum is wrong"));
    }
    let mut reader = Reader::new(content);
    let magic = reader.array::<8>();
    let header = (reader.u32(), reader.u32(), reader.u64(), reader.u64());
    let (Some(version), Some(found_kind), Some(found_number), Some(body_bytes)) = header else {
        return Err(damaged("the file is cut short"));
    };
    if magic.as_ref() != Some(MAGIC) {
        return Err(damaged("it is no file of a backup repository"));
    }
    if version != VERSION {
        return Err(Error::NewerFormat {
            path: path.to_owned(),
            found: version,
            supported: VERSION,
        });
    }
    if found_kind != kind as u32 || found_number != number {
        return Err(damaged("it is another file under this name"));
    }
    if body_bytes != reader.rest().len() as u64 {
        return Err(damaged("its length is wrong"));
    }
    let Some(found) = reader.u128().map(StoreId) else {
        return Err(damaged("the file is cut short"));
    };
    if let Some(expected) = store_id.filter(|expected| *expected != found) {
        return Err(Error::ForeignFile {
            path: path.to_owned(),
            found: found.to_string(),
            expected: expected.to_string(),
        });
    }
    match take(&mut reader).filter(|_| reader.is_empty()) {
        Some(read) => Ok(read),
        None => Err(damaged("it can't be read, though its checksum is right")),
    }
}

fn digest_of(bytes: &[u8]) -> u128 {
    let mut sum = digest();
    sum.update(bytes);
    sum.digest128()
}
