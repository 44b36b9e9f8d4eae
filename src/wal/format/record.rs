//! One record: envelope, replicated header, payload.

use xxhash_rust::xxh3::xxh3_64;

use super::RecordKind;
use crate::codec::{Reader, header_checksum, payload_hash, varint_bytes};
use crate::types::{Index, Lsn, StreamId, Term};
use crate::wal::Append;

/// Header checksum, length, LSN, distance to the watermark, distance to the previous record.
const ENVELOPE_BYTES: usize = 24;
/// Checksum and header length, at the front of the replicated part.
const PREFIX_BYTES: usize = 9;
/// Kind, stream (5), and five numbers of up to 10 bytes.
const HEADER_LEN_MAX: usize = 1 + 5 + 5 * 10;
/// Kind and six varints of one byte.
const HEADER_LEN_MIN: usize = 7;
/// How many bytes of a record suffice to decode its header.
pub(crate) const RECORD_HEADER_BYTES_MAX: usize = ENVELOPE_BYTES + PREFIX_BYTES + HEADER_LEN_MAX;
/// The shortest record.
const RECORD_BYTES_MIN: usize = ENVELOPE_BYTES + PREFIX_BYTES + HEADER_LEN_MIN;

/// What a record's place in the file decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// Its position.
    pub lsn: Lsn,
    /// The position up to which all was known durable when it was written.
    pub watermark: Lsn,
    /// The position of the record before it in this file.
    pub previous: Option<Lsn>,
}

/// All of a record but its payload; its header checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Its position.
    pub lsn: Lsn,
    /// Its whole length, in bytes.
    pub bytes: u64,
    /// The position up to which all was known durable when it was written; 0 if too far back to say.
    pub watermark: Lsn,
    /// The position of the record before it in this file.
    pub previous: Option<Lsn>,
    /// The replicated part's checksum.
    pub checksum: u64,
    /// What it is.
    pub kind: RecordKind,
    /// Which replicated log it belongs to.
    pub stream: StreamId,
    /// Its place in the logical log.
    pub index: Index,
    /// The term of the leader that appended it.
    pub term: Term,
    /// When it was appended.
    pub time_us: u64,
    /// Whose request it was.
    pub client: u64,
    /// Which of the client's requests.
    pub sequence: u64,
    /// Where the payload begins, from the record's start.
    pub payload_at: usize,
}

impl RecordHeader {
    /// The position after its last byte.
    pub fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(self.bytes))
    }
}

/// The length of a record's header, counted from the kind to before the payload.
fn header_len(append: &Append<'_>) -> usize {
    1 + [
        u64::from(append.stream.0),
        append.index.0,
        append.term.0,
        append.time_us,
        append.client,
        append.sequence,
    ]
    .into_iter()
    .map(varint_bytes)
    .sum::<usize>()
}

/// The length of a whole record.
pub(crate) fn record_bytes(append: &Append<'_>) -> u64 {
    (ENVELOPE_BYTES + PREFIX_BYTES + header_len(append)) as u64 + append.payload.len() as u64
}

/// The checksum of the replicated part: of its header (length byte included) and its payload's hash.
fn replicated_checksum(header: &[u8], payload_hash: u64) -> u64 {
    let mut bytes = [0; 1 + HEADER_LEN_MAX + 8];
    let len = header.len().min(1 + HEADER_LEN_MAX);
    bytes[..len].copy_from_slice(&header[..len]);
    bytes[len..len + 8].copy_from_slice(&payload_hash.to_le_bytes());
    xxh3_64(&bytes[..len + 8])
}

/// Writes a varint at the front of a slice that has room for it, and returns its length.
fn write_varint(out: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = (value as u8) | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

/// Appends a record's bytes. The caller has made sure that the record is at most `u32::MAX` long.
/// Returns its checksum, for its identifier.
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    salt: u64,
    place: &Envelope,
    append: &Append<'_>,
) -> u64 {
    let mut head = [0; RECORD_HEADER_BYTES_MAX];
    let (envelope, replicated) = head.split_at_mut(ENVELOPE_BYTES);
    let mut len = PREFIX_BYTES;
    replicated[len] = append.kind as u8;
    len += 1;
    for value in [
        u64::from(append.stream.0),
        append.index.0,
        append.term.0,
        append.time_us,
        append.client,
        append.sequence,
    ] {
        len += write_varint(&mut replicated[len..], value);
    }
    replicated[8] = (len - PREFIX_BYTES) as u8;
    let checksum = replicated_checksum(&replicated[8..len], append.payload_hash);
    replicated[..8].copy_from_slice(&checksum.to_le_bytes());

    let replicated_bytes = len + append.payload.len();
    debug_assert!(u32::try_from(replicated_bytes).is_ok());
    envelope[4..8].copy_from_slice(&(replicated_bytes as u32).to_le_bytes());
    envelope[8..16].copy_from_slice(&place.lsn.0.to_le_bytes());
    let watermark = distance(place.lsn, place.watermark);
    envelope[16..20].copy_from_slice(&watermark.to_le_bytes());
    let previous = place.previous.map_or(0, |lsn| distance(place.lsn, lsn));
    envelope[20..24].copy_from_slice(&previous.to_le_bytes());
    let crc = header_checksum(salt, &envelope[4..], &replicated[..len]);
    envelope[..4].copy_from_slice(&crc.to_le_bytes());

    out.extend_from_slice(&head[..ENVELOPE_BYTES + len]);
    out.extend_from_slice(append.payload);
    checksum
}

/// How far back a position is; `u32::MAX` stands for "at least".
fn distance(lsn: Lsn, back: Lsn) -> u32 {
    u32::try_from(lsn.0.saturating_sub(back.0)).unwrap_or(u32::MAX)
}

/// Decodes the header of a record that begins at the front of `bytes`, if one does: one whose
/// position is `lsn`, whose header checksum is right under `salt`, and which ends within `room`
/// bytes. [`RECORD_HEADER_BYTES_MAX`] bytes suffice, or as many as there are up to the end.
pub(crate) fn decode_header(salt: u64, lsn: Lsn, bytes: &[u8], room: u64) -> Option<RecordHeader> {
    if bytes.len() < RECORD_BYTES_MIN || bytes[8..16] != lsn.0.to_le_bytes() {
        return None;
    }
    let (envelope, replicated) = bytes.split_at(ENVELOPE_BYTES);
    let header_len = usize::from(replicated[8]);
    if !(HEADER_LEN_MIN..=HEADER_LEN_MAX).contains(&header_len) {
        return None;
    }
    let header = replicated.get(..PREFIX_BYTES + header_len)?;
    let mut reader = Reader::new(envelope);
    let crc = reader.u32()?;
    if crc != header_checksum(salt, reader.rest(), header) {
        return None;
    }
    let replicated_bytes = reader.u32()?;
    let _lsn = reader.u64()?;
    let watermark_distance = reader.u32()?;
    let previous_distance = reader.u32()?;
    let total = ENVELOPE_BYTES as u64 + u64::from(replicated_bytes);
    if (replicated_bytes as usize) < header.len() || total > room {
        return None;
    }
    let mut reader = Reader::new(header);
    let checksum = reader.u64()?;
    let _header_len = reader.u8()?;
    let kind = RecordKind::from_byte(reader.u8()?)?;
    let decoded = RecordHeader {
        lsn,
        bytes: total,
        watermark: match watermark_distance {
            u32::MAX => Lsn(0),
            distance => Lsn(lsn.0.checked_sub(u64::from(distance))?),
        },
        previous: match previous_distance {
            0 => None,
            distance => Some(Lsn(lsn.0.checked_sub(u64::from(distance))?)),
        },
        checksum,
        kind,
        stream: StreamId(u32::try_from(reader.varint()?).ok()?),
        index: Index(reader.varint()?),
        term: Term(reader.varint()?),
        time_us: reader.varint()?,
        client: reader.varint()?,
        sequence: reader.varint()?,
        payload_at: ENVELOPE_BYTES + header.len(),
    };
    reader.is_empty().then_some(decoded)
}

/// Whether a whole record's replicated part is what was appended. `record` is all of its bytes.
pub(crate) fn payload_matches(header: &RecordHeader, record: &[u8]) -> bool {
    let replicated_header = record.get(ENVELOPE_BYTES + 8..header.payload_at);
    let payload = record.get(header.payload_at..);
    let (Some(replicated_header), Some(payload)) = (replicated_header, payload) else {
        return false;
    };
    record.len() as u64 == header.bytes
        && replicated_checksum(replicated_header, payload_hash(payload)) == header.checksum
}
