//! Files that are never changed again, with a trailer.

use std::ops::Range;

use super::damage::Damaged;
use super::{ID, LEVELS, OTHER, content, content_bytes};
use crate::parity::heal::Unhealable;
use crate::parity::table::{TAIL_BYTES, piece_of};
use crate::parity::{Geometry, Healed, ParityEncoder, Trailer, UNIT_BYTES, find_tail, heal};
use crate::testing::Input;
use crate::types::{FileId, Parity};

const UNIT: u64 = UNIT_BYTES as u64;

pub(super) fn run(input: &mut Input<'_>) {
    let level = input.pick(&LEVELS);
    let bytes = content_bytes(input);
    let file = protected(level, ID, &content(bytes, 1));
    let geometry = Geometry::new(level, bytes as u64);
    assert_eq!(file.len() as u64, geometry.file_bytes(), "its length");
    let mut damaged = Damaged::new(0, file);
    damaged.damage(input, || protected(level, OTHER, &content(bytes, 2)));
    check_range(&damaged, &geometry, 0..bytes as u64);
    let from = input.below(bytes as u64);
    let to = from + input.below(bytes as u64 - from + 1);
    check_range(&damaged, &geometry, from..to);
    check_tail(&damaged, level, &geometry);
    check_trailer(&damaged, level, bytes as u64);
}

fn protected(level: Parity, id: FileId, content: &[u8]) -> Vec<u8> {
    let mut encoder = ParityEncoder::new(level, id);
    // As a writer would, in pieces of odd lengths.
    for piece in content.chunks(50_001) {
        encoder.update(piece).expect("within the coder's limits");
    }
    let mut file = content.to_vec();
    file.extend_from_slice(&encoder.finish().expect("within the coder's limits"));
    file
}

fn check_range(damaged: &Damaged, geometry: &Geometry, range: Range<u64>) {
    let found = heal(damaged, geometry, ID, range.clone());
    assert_eq!(
        found,
        expected(damaged, geometry, range.clone()),
        "{range:?}"
    );
}

/// What must come of it, by looking at what was written.
fn expected(
    damaged: &Damaged,
    geometry: &Geometry,
    range: Range<u64>,
) -> Result<Healed, Unhealable> {
    if range.is_empty() || geometry.groups() == 0 {
        return Err(Unhealable::Unprotected);
    }
    let mut units = Vec::new();
    for group in 0..geometry.groups() {
        let numbers = geometry.group(group);
        let end = (numbers.end * UNIT).min(geometry.content_bytes());
        if end <= range.start || numbers.start * UNIT >= range.end {
            continue;
        }
        if !numbers
            .clone()
            .all(|unit| has_checksum(damaged, geometry, unit))
        {
            return Err(Unhealable::NoChecksums);
        }
        let place = |unit: &u64| unit * UNIT..((unit + 1) * UNIT).min(end);
        let lost: Vec<u64> = numbers
            .filter(|unit| !damaged.is_good(place(unit)))
            .collect();
        let parity = geometry.group_parity(group).filter(|unit| {
            let at = geometry.parity_offset(*unit);
            damaged.is_good(at..at + UNIT)
                && has_checksum(damaged, geometry, geometry.content_units() + unit)
        });
        let (lost_count, parity) = (lost.len() as u64, parity.count() as u64);
        if lost_count > parity {
            let lost = lost_count;
            return Err(Unhealable::TooMuch { lost, parity });
        }
        let asked = |unit: &u64| place(unit).start < range.end && place(unit).end > range.start;
        units.extend(lost.into_iter().filter(asked).map(|unit| unit * UNIT));
    }
    let bytes = damaged.written[range.start as usize..range.end as usize].to_vec();
    Ok(Healed { bytes, units })
}

/// Whether either copy of the table still has this checksum.
fn has_checksum(damaged: &Damaged, geometry: &Geometry, checksum: u64) -> bool {
    let (piece, _) = piece_of(checksum, geometry.checksums());
    let mut tables = geometry.tables().into_iter();
    tables.any(|table| damaged.is_good(table + piece.start..table + piece.end))
}

/// The file says how it lies as long as one of its tails does, and never anything else.
fn check_tail(damaged: &Damaged, level: Parity, geometry: &Geometry) {
    let found = find_tail(damaged, damaged.now.len() as u64);
    if let Some(tail) = found {
        // A foreign tail may have come with a foreign unit.
        assert!([ID, OTHER].contains(&tail.file_id), "{tail:?}");
        let says = (tail.level, tail.content_bytes);
        assert_eq!(says, (level, geometry.content_bytes()), "a tail that lies");
    }
    let is_as_long = damaged.now.len() == damaged.written.len();
    let length = geometry.table_bytes();
    let mut tails = geometry.tables().into_iter().map(|table| table + length);
    let is_there = tails.any(|end| damaged.is_good(end - TAIL_BYTES as u64..end));
    if is_as_long && is_there {
        assert!(found.is_some(), "a tail that isn't found");
    }
}

/// Every part of the trailer that isn't as it was written is noticed.
fn check_trailer(damaged: &Damaged, level: Parity, bytes: u64) {
    let trailer = Trailer::read(damaged, level, bytes, ID);
    for (part, place) in trailer.parts() {
        let now = damaged.now.get(place.start as usize..place.end as usize);
        let Some(now) = now else {
            continue;
        };
        let is_same = damaged
            .written
            .get(place.start as usize..place.end as usize)
            == Some(now);
        let said = trailer.check(part, now);
        if said.is_ok() {
            assert!(is_same, "{part:?} is changed, and nobody notices");
        }
        if damaged.is_whole() {
            assert_eq!(said, Ok(()), "{part:?}");
        }
    }
}
