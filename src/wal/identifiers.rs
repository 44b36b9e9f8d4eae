//! Identifiers: what each durable record of a log file was, kept in a file apart from it.
//!
//! Invariants:
//! - an identifier is written only after the sync that made its record durable, so a valid one
//!   proves that the record once was;
//! - a written unit is never written again; each write starts on a fresh one;
//! - the units of a file list the log from its first position on without a gap, so that a lost
//!   unit's positions are those between its neighbours'.

use crate::codec::{Reader, block_checksum, put_varint};
use crate::types::{FileId, Index, Lsn, Term, UNIT};

use super::format::{RecordHeader, RecordKind, UNIT_BYTES};

/// The most units in one write, so that each can say in a byte where in it it stands.
pub(crate) const WRITE_UNITS_MAX: usize = 255;
const CHECKSUM_BYTES: usize = 8;
/// Checksum, count, flags, place in its write, bytes used, first and end position, first index, first term.
const PREFIX_BYTES: usize = 48;
const FLAG_SEALED: u8 = 1;
/// Two varints for position and length, the kind, two for index and term, the checksum.
const ENTRY_BYTES_MAX: usize = 10 + 5 + 1 + 10 + 10 + 8;
/// Smallest entry: five bytes and the checksum.
const ENTRY_BYTES_MIN: usize = 5 + 8;

/// What one record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identifier {
    /// Its position.
    pub lsn: Lsn,
    /// Its whole length.
    pub bytes: u64,
    /// What it was.
    pub kind: RecordKind,
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The checksum of its replicated part.
    pub checksum: u64,
}

impl Identifier {
    /// What a record's own header says of it.
    pub fn of(header: &RecordHeader) -> Self {
        Self {
            lsn: header.lsn,
            bytes: header.bytes,
            kind: header.kind,
            index: header.index,
            term: header.term,
            checksum: header.checksum,
        }
    }

    /// The position after the record.
    pub fn end(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_add(self.bytes))
    }
}

/// One unit's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdentifierUnit {
    /// The positions that it answers for, from.
    pub first: Lsn,
    /// The positions that it answers for, to (exclusive).
    pub end: Lsn,
    /// Whether the log in this file ends at `end`.
    pub sealed: bool,
    /// The records, in order.
    pub identifiers: Vec<Identifier>,
}

/// What the bytes of a unit are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnitState {
    /// Never written.
    Empty,
    /// Not what was written.
    Bad,
    /// Whole.
    Good(IdentifierUnit),
}

/// What a change of index or term is written as: small for small steps either way.
fn zigzag(from: u64, to: u64) -> u64 {
    let step = to.wrapping_sub(from) as i64;
    ((step << 1) ^ (step >> 63)) as u64
}

fn unzigzag(from: u64, step: u64) -> u64 {
    from.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg())
}

/// Packs identifiers into units for one write at `offset` of the identifiers' file, the first of which
/// answers for the positions from `first` on. With `seal`, the last unit says that the log ends there.
/// Returns the units' bytes and the position up to which they answer.
pub(crate) fn encode_units(
    file: FileId,
    offset: u64,
    first: Lsn,
    identifiers: &[Identifier],
    seal: Option<Lsn>,
) -> (Vec<u8>, Lsn) {
    let mut out = Vec::new();
    let mut rest = identifiers;
    let mut first = first;
    while !rest.is_empty() || (seal.is_some() && out.is_empty()) {
        let start = out.len();
        out.resize(start + PREFIX_BYTES, 0);
        let base = rest.first().map_or((0, 0), |one| (one.index.0, one.term.0));
        let (mut index, mut term) = base;
        let mut end = first;
        let mut count: u16 = 0;
        while let Some((one, more)) = rest.split_first() {
            if out.len() - start + ENTRY_BYTES_MAX > UNIT {
                break;
            }
            put_varint(&mut out, one.lsn.0.saturating_sub(end.0));
            put_varint(&mut out, one.bytes);
            out.push(one.kind as u8);
            put_varint(&mut out, zigzag(index, one.index.0));
            put_varint(&mut out, zigzag(term, one.term.0));
            out.extend_from_slice(&one.checksum.to_le_bytes());
            (index, term, end) = (one.index.0, one.term.0, one.end());
            count += 1;
            rest = more;
        }
        let used = (out.len() - start) as u32;
        let sealed = seal.filter(|_| rest.is_empty());
        end = sealed.map_or(end, |seal| seal.max(end));
        out.resize(start + UNIT, 0);
        let unit = &mut out[start..];
        unit[8..10].copy_from_slice(&count.to_le_bytes());
        unit[10] = if sealed.is_some() { FLAG_SEALED } else { 0 };
        unit[11] = (start / UNIT % WRITE_UNITS_MAX) as u8;
        unit[12..16].copy_from_slice(&used.to_le_bytes());
        for (at, value) in [(16, first.0), (24, end.0), (32, base.0), (40, base.1)] {
            unit[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let checksum = block_checksum(file, offset + start as u64, &unit[CHECKSUM_BYTES..]);
        unit[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        first = end;
    }
    (out, first)
}

/// Reads one unit.
pub(crate) fn decode_unit(file: FileId, offset: u64, unit: &[u8]) -> UnitState {
    if unit.iter().all(|&byte| byte == 0) {
        return UnitState::Empty;
    }
    match decode_checked(file, offset, unit) {
        Some(unit) => UnitState::Good(unit),
        None => UnitState::Bad,
    }
}

/// What stands before a unit's entries.
struct Prefix<'a> {
    count: usize,
    sealed: bool,
    /// Units before it that the same write wrote.
    written_before: u8,
    first: Lsn,
    end: Lsn,
    index: u64,
    term: u64,
    entries: &'a [u8],
}

/// Checks a unit's checksum, and reads all but its entries.
fn decode_prefix(file: FileId, offset: u64, unit: &[u8]) -> Option<Prefix<'_>> {
    let (checksum, body) = unit.split_first_chunk::<CHECKSUM_BYTES>()?;
    if unit.len() != UNIT || u64::from_le_bytes(*checksum) != block_checksum(file, offset, body) {
        return None;
    }
    let mut reader = Reader::new(body);
    let count = usize::from(reader.u16()?);
    let flags = reader.u8()?;
    let written_before = reader.u8()?;
    let used = usize::try_from(reader.u32()?).ok()?;
    let entries = unit.get(PREFIX_BYTES..used)?;
    let prefix = Prefix {
        count,
        sealed: flags & FLAG_SEALED != 0,
        written_before,
        first: Lsn(reader.u64()?),
        end: Lsn(reader.u64()?),
        index: reader.u64()?,
        term: reader.u64()?,
        entries,
    };
    let is_sane = flags & !FLAG_SEALED == 0
        && prefix.first <= prefix.end
        && count * ENTRY_BYTES_MIN <= entries.len();
    is_sane.then_some(prefix)
}

/// Reads a unit's entries.
fn decode_entries(prefix: &Prefix<'_>, identifiers: &mut Vec<Identifier>) -> Option<()> {
    let mut reader = Reader::new(prefix.entries);
    let (mut index, mut term) = (prefix.index, prefix.term);
    let mut at = prefix.first;
    for _ in 0..prefix.count {
        let lsn = Lsn(at.0.checked_add(reader.varint()?)?);
        let bytes = reader.varint()?;
        let kind = RecordKind::from_byte(reader.u8()?)?;
        index = unzigzag(index, reader.varint()?);
        term = unzigzag(term, reader.varint()?);
        let checksum = reader.u64()?;
        at = Lsn(lsn.0.checked_add(bytes).filter(|_| bytes > 0)?);
        identifiers.push(Identifier {
            lsn,
            bytes,
            kind,
            index: Index(index),
            term: Term(term),
            checksum,
        });
    }
    (reader.is_empty() && at <= prefix.end).then_some(())
}

fn decode_checked(file: FileId, offset: u64, unit: &[u8]) -> Option<IdentifierUnit> {
    let prefix = decode_prefix(file, offset, unit)?;
    let mut identifiers = Vec::with_capacity(prefix.count);
    decode_entries(&prefix, &mut identifiers)?;
    Some(IdentifierUnit {
        first: prefix.first,
        end: prefix.end,
        sealed: prefix.sealed,
        identifiers,
    })
}

/// Where one good unit stands, and what it answers for.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: usize,
    first: Lsn,
    end: Lsn,
}

/// All the units of one file, decoded one at a time as they are asked for in order of position.
#[derive(Debug)]
pub(crate) struct IdentifierTable {
    file: FileId,
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Positions that a bad unit answered for: it had good ones after it.
    lost: Vec<(Lsn, Lsn)>,
    /// Offsets of bad units, those at the end included.
    bad_units: Vec<u64>,
    /// Where the last write began that left a good unit.
    last_write: u64,
    sealed: Option<Lsn>,
    start: Lsn,
    /// Which unit `current` is of, and which of its records is likely to be asked for next.
    at: usize,
    next: usize,
    current: Vec<Identifier>,
}

/// What the identifiers say of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// A record begins there, this one.
    Listed(Identifier),
    /// No record begins there.
    Unlisted,
    /// A bad unit, not the last, answered for it.
    Lost,
    /// It is beyond what is listed.
    Beyond,
}

impl IdentifierTable {
    /// Goes through the bytes of an identifiers' file (header unit included); the log's records begin
    /// at `start`.
    pub fn new(file: FileId, start: Lsn, bytes: Vec<u8>) -> Self {
        let mut table = Self {
            file,
            bytes: Vec::new(),
            places: Vec::new(),
            lost: Vec::new(),
            bad_units: Vec::new(),
            last_write: 0,
            sealed: None,
            start,
            at: usize::MAX,
            next: 0,
            current: Vec::new(),
        };
        let mut pending = Vec::new();
        for (unit, offset) in bytes.chunks(UNIT).zip((0..).step_by(UNIT)).skip(1) {
            if unit.iter().all(|&byte| byte == 0) {
                pending.push(offset);
                continue;
            }
            // Whatever stands before this unit was written before it.
            table.bad_units.append(&mut pending);
            let found = decode_prefix(file, offset, unit);
            let follows = |unit: &Prefix<'_>| unit.first >= table.end() && table.sealed.is_none();
            let Some(unit) = found.filter(follows) else {
                table.bad_units.push(offset);
                continue;
            };
            if unit.first > table.end() {
                table.lost.push((table.end(), unit.first));
            }
            table.last_write = offset.saturating_sub(u64::from(unit.written_before) * UNIT as u64);
            table.places.push(Place {
                offset: offset as usize,
                first: unit.first,
                end: unit.end,
            });
            table.sealed = unit.sealed.then_some(unit.end);
        }
        table.bytes = bytes;
        table
    }

    /// A table that lists nothing.
    pub fn none(file: FileId, start: Lsn) -> Self {
        Self::new(file, start, Vec::new())
    }

    /// The position up to which records are listed (or lost with a bad unit).
    pub fn end(&self) -> Lsn {
        self.places.last().map_or(self.start, |place| place.end)
    }

    /// Where the log in this file ends, if the identifiers have been sealed.
    pub fn sealed(&self) -> Option<Lsn> {
        self.sealed
    }

    /// Offsets of units that aren't what was written, those at the end included.
    pub fn bad_units(&self) -> &[u64] {
        &self.bad_units
    }

    /// Offsets of bad units before the last write that left a good one. Those in it or after it may be torn.
    pub fn damaged_units(&self) -> &[u64] {
        let damaged = self
            .bad_units
            .partition_point(|&offset| offset < self.last_write);
        self.bad_units.get(..damaged).unwrap_or_default()
    }

    /// Ranges of positions whose identifiers are lost, other than at the end.
    pub fn lost(&self) -> &[(Lsn, Lsn)] {
        &self.lost
    }

    /// What the identifiers say of a position. Cheap if positions are asked for in order.
    pub fn lookup(&mut self, lsn: Lsn) -> Lookup {
        if lsn >= self.end() {
            return Lookup::Beyond;
        }
        match self.load(lsn) {
            None => Lookup::Lost,
            Some(()) => {
                // Mostly they are asked for one after the other.
                let next = self.current.get(self.next).filter(|one| one.lsn == lsn);
                if let Some(&one) = next {
                    self.next += 1;
                    return Lookup::Listed(one);
                }
                match self.current.binary_search_by_key(&lsn, |one| one.lsn) {
                    Ok(at) => {
                        self.next = at + 1;
                        Lookup::Listed(self.current[at])
                    }
                    Err(_) => Lookup::Unlisted,
                }
            }
        }
    }

    /// The last record listed.
    pub fn last(&mut self) -> Option<Identifier> {
        let first = self.places.last()?.first;
        self.listed_within(first, Lsn(u64::MAX)).pop()
    }

    /// All listed records that begin in a range of positions.
    pub fn listed_within(&mut self, from: Lsn, to: Lsn) -> Vec<Identifier> {
        let mut found = Vec::new();
        let start = self.places.partition_point(|place| place.end <= from);
        for at in start..self.places.len() {
            if self.places[at].first >= to {
                break;
            }
            self.decode(at);
            let inside = self.current.iter();
            found.extend(inside.filter(|one| one.lsn >= from && one.lsn < to));
        }
        found
    }

    /// Makes the unit that answers for a position the current one.
    fn load(&mut self, lsn: Lsn) -> Option<()> {
        let holds = |place: &Place| place.first <= lsn && lsn < place.end;
        if !self.places.get(self.at).is_some_and(holds) {
            let at = self.places.partition_point(|place| place.end <= lsn);
            if !self.places.get(at).is_some_and(holds) {
                return None;
            }
            self.decode(at);
        }
        Some(())
    }

    fn decode(&mut self, at: usize) {
        if self.at == at {
            return;
        }
        self.at = at;
        self.next = 0;
        self.current.clear();
        let offset = self.places[at].offset;
        let unit = self.bytes.get(offset..offset + UNIT).unwrap_or_default();
        let prefix = decode_prefix(self.file, offset as u64, unit);
        let whole = prefix.and_then(|prefix| decode_entries(&prefix, &mut self.current));
        if whole.is_none() {
            // Entries that make no sense under a right checksum: no writer of ours did that. It lists
            // nothing, so that what it should list counts as misplaced.
            self.current.clear();
        }
    }
}

/// The most bytes that the identifiers of a file of this capacity can take: a unit for each unit of
/// the log, and some for seals and lonely steps.
pub(crate) fn bytes_max(capacity: u64) -> u64 {
    capacity.saturating_mul(2).saturating_add(16 * UNIT_BYTES)
}

#[cfg(test)]
mod tests;
