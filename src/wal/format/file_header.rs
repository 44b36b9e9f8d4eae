//! The header unit of a log file, and its copy in the identifiers' file.

use crate::codec::{Reader, block_checksum};
use crate::parity::GROUP_UNITS;
use crate::types::{FileId, Index, LogFileMeta, LogNumber, Lsn, Parity, StoreId, UNIT};

use super::{UNIT_BYTES, VERSION};

/// Where the checksum stands, in this and every later version.
const CHECKSUM_AT: usize = UNIT - 8;
/// Where the file id stands, in this and every later version: it seeds the checksum.
const FILE_ID_AT: usize = 32;
/// Room for what is said of parity: units of the log in a group, units of parity for each; 8 bytes each, and as many
/// of zeros.
const PARITY_BYTES: usize = 24;

/// The highest number of a file. So that counting on never overflows.
pub(crate) const NUMBER_MAX: u64 = u64::MAX >> 1;
/// The highest first position of a file.
const LSN_MAX: u64 = u64::MAX >> 1;

/// Which of a log file's two files a header unit stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderKind {
    /// The log file.
    Log,
    /// The identifiers' file.
    Identifiers,
}

impl HeaderKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Log => b"KNTSULOG",
            Self::Identifiers => b"KNTSUIDS",
        }
    }
}

/// Why a header unit can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// It isn't what was written: the reason.
    Bad(&'static str),
    /// It is whole, and of a newer version.
    Newer(u32),
}

/// A header unit's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// The store that the file belongs to.
    pub store_id: StoreId,
    /// All that is needed to read the file.
    pub meta: LogFileMeta,
}

impl FileHeader {
    /// The whole unit.
    pub fn encode(&self, kind: HeaderKind) -> Vec<u8> {
        let meta = &self.meta;
        let mut out = Vec::with_capacity(UNIT);
        out.extend_from_slice(kind.magic());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.store_id.0.to_le_bytes());
        debug_assert_eq!(out.len(), FILE_ID_AT);
        out.extend_from_slice(&meta.file_id.0.to_le_bytes());
        for value in [
            meta.salt,
            meta.number.0,
            meta.first_lsn.0,
            meta.capacity,
            meta.first_index.0,
            meta.previous_number.0,
            meta.previous_end_lsn.0,
        ] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let per_group = meta.parity.units_per_group();
        let group = if per_group > 0 { GROUP_UNITS } else { 0 };
        let parity_at = out.len();
        out.extend_from_slice(&group.to_le_bytes());
        out.extend_from_slice(&per_group.to_le_bytes());
        out.resize(parity_at + PARITY_BYTES, 0);
        out.resize(CHECKSUM_AT, 0);
        let checksum = block_checksum(meta.file_id, 0, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads a unit.
    pub fn decode(kind: HeaderKind, unit: &[u8]) -> Result<Self, HeaderFault> {
        let Some((body, checksum)) = unit.split_at_checked(CHECKSUM_AT) else {
            return Err(HeaderFault::Bad("the file ends within its header"));
        };
        let Some((file_id, checksum)) = Reader::new(&body[FILE_ID_AT..])
            .u128()
            .zip(Reader::new(checksum).u64())
        else {
            return Err(HeaderFault::Bad("the file ends within its header"));
        };
        let file_id = FileId(file_id);
        if checksum != block_checksum(file_id, 0, body) {
            return Err(HeaderFault::Bad("the header's checksum is wrong"));
        }
        let mut reader = Reader::new(body);
        if reader.array::<8>().as_ref() != Some(kind.magic()) {
            return Err(HeaderFault::Bad(
                "the header is that of another kind of file",
            ));
        }
        match reader.u32() {
            Some(VERSION) => {}
            Some(version) if version > VERSION => return Err(HeaderFault::Newer(version)),
            _ => return Err(HeaderFault::Bad("the header has no version")),
        }
        Self::decode_fields(reader, file_id).ok_or(HeaderFault::Bad("the header makes no sense"))
    }

    fn decode_fields(mut reader: Reader<'_>, file_id: FileId) -> Option<Self> {
        let _reserved = reader.u32()?;
        let store_id = StoreId(reader.u128()?);
        let _file_id = reader.u128()?;
        let meta = LogFileMeta {
            file_id,
            salt: reader.u64()?,
            number: LogNumber(reader.u64()?),
            first_lsn: Lsn(reader.u64()?),
            capacity: reader.u64()?,
            first_index: Index(reader.u64()?),
            previous_number: LogNumber(reader.u64()?),
            previous_end_lsn: Lsn(reader.u64()?),
            parity: {
                let _group = reader.u64()?;
                Parity::from_units_per_group(reader.u64()?)?
            },
        };
        is_plausible(&meta).then_some(Self { store_id, meta })
    }
}

/// Whether a file can be as described: the writer makes no other, and readers rely on it.
pub(crate) fn is_plausible(meta: &LogFileMeta) -> bool {
    meta.number.0 > 0
        && meta.number.0 <= NUMBER_MAX
        && meta.previous_number < meta.number
        && meta.capacity >= 2 * UNIT_BYTES
        && meta.capacity.is_multiple_of(UNIT_BYTES)
        && meta.capacity <= u64::from(u32::MAX)
        && meta.first_lsn.0.is_multiple_of(UNIT_BYTES)
        && meta.first_lsn.0 <= LSN_MAX
}
