//! Bytes as they come, for every decoder of the room, and forged ones with checksums that are right.

use super::{ID, LEVELS, content};
use crate::codec::block_checksum;
use crate::parity::table::{TAIL_BYTES, Tail, decode_piece};
use crate::parity::{Geometry, GroupTable, Slots, Trailer, UNIT_BYTES, find_tail, heal, restore};
use crate::testing::Input;
use crate::types::Parity;

pub(super) fn run(input: &mut Input<'_>) {
    match input.u8() % 4 {
        0 => tables(input),
        1 => forged_slot(input),
        2 => forged_tail(input),
        _ => files(input),
    }
}

/// Pieces of tables, tails, tables of groups.
fn tables(input: &mut Input<'_>) {
    let (offset, number, length) = (input.number(), input.number(), input.number());
    let level = input.pick(&LEVELS);
    let bytes = input.rest();
    let found = decode_piece(ID, offset, bytes);
    assert!(found.is_none_or(|sums| sums.len() * 8 + 8 == bytes.len()));
    if let Some(tail) = bytes.first_chunk::<TAIL_BYTES>() {
        let _ = Tail::decode(tail, offset, length);
    }
    let mut unit = bytes.to_vec();
    let found = GroupTable::decode(level, ID, number, offset, &unit);
    assert!(found.is_none() || bytes.len() == UNIT_BYTES);
    unit.resize(UNIT_BYTES, 0);
    let _ = GroupTable::decode(level, ID, number, offset, &unit);
}

/// A table of a group that says anything, under a right checksum.
fn forged_slot(input: &mut Input<'_>) {
    let level = input.pick(&LEVELS);
    let number = input.number();
    let offset = input.number();
    let mut table = Vec::from([0; 8]);
    table.extend_from_slice(b"KNTSUPAR");
    table.extend_from_slice(&1u32.to_le_bytes());
    let parity = match input.flag() {
        true => level.units_per_group() as u16,
        false => input.u16(),
    };
    table.extend_from_slice(&parity.to_le_bytes());
    let units = input.number() as u16;
    table.extend_from_slice(&units.to_le_bytes());
    table.extend_from_slice(&number.to_le_bytes());
    let start = number.wrapping_mul(1 << 20);
    let end = start.wrapping_add(u64::from(units) * 4096);
    table.extend_from_slice(&end.wrapping_sub(input.below(4097)).to_le_bytes());
    table.resize(64, 0);
    table.extend_from_slice(input.rest());
    table.resize(UNIT_BYTES, 0);
    let checksum = block_checksum(ID, offset, table.get(8..).unwrap_or_default());
    table.splice(..8, checksum.to_le_bytes());
    let Some(found) = GroupTable::decode(level, ID, number, offset, &table) else {
        return;
    };
    assert!(units <= 256 && u64::from(parity) == level.units_per_group());
    let content = found.content();
    assert_eq!(content.end - content.start, u64::from(units) * 4096);
    assert!(content.contains(&(found.end() - 1)), "{found:?}");
    // Nothing is what this table says; whoever asks gets no bytes.
    let nothing = |_: u64, buffer: &mut [u8]| {
        buffer.fill(7);
        true
    };
    let _ = restore(&nothing, &nothing, &found, ID);
    let slot = vec![0; Slots::new(level).slot_bytes() as usize];
    assert!(!found.is_slot(ID, &slot), "zeros are no slot");
}

/// A tail that says anything, under a right checksum, and what follows from it.
fn forged_tail(input: &mut Input<'_>) {
    let level = input.pick(&[Parity::Off, Parity::Standard, Parity::Strong]);
    let content_bytes = input.number();
    let tail = Tail {
        level,
        content_bytes,
        file_id: ID,
    };
    let geometry = Geometry::new(level, content_bytes);
    let file_bytes = match input.flag() {
        true => geometry.file_bytes(),
        false => input.number(),
    };
    let offset = file_bytes.saturating_sub(TAIL_BYTES as u64);
    let found = Tail::decode(&tail.encode(offset), offset, file_bytes);
    if let Some(found) = found {
        assert!(found == tail && level != Parity::Off);
        assert_eq!(file_bytes, geometry.file_bytes());
    }
    // A file as long as it says of which nothing can be read.
    let nothing = |_: u64, _: &mut [u8]| false;
    assert_eq!(find_tail(&nothing, file_bytes), None);
    let healed = heal(&nothing, &geometry, ID, 0..content_bytes.min(5000));
    assert!(healed.is_err(), "healed from nothing");
}

/// Files as they come.
fn files(input: &mut Input<'_>) {
    let level = input.pick(&LEVELS);
    let mut file = input.rest().to_vec();
    if file.len() > 64 {
        // Long enough for more than one unit.
        let more = content(usize::from(file[0]) * 64, 3);
        file.extend_from_slice(&more);
    }
    let read = |offset: u64, buffer: &mut [u8]| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = file.get(from..from.saturating_add(buffer.len()));
        found.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    };
    let length = file.len() as u64;
    let _ = find_tail(&read, length);
    for content_bytes in [length / 2, length] {
        let geometry = Geometry::new(level, content_bytes);
        let _ = heal(&read, &geometry, ID, 0..content_bytes);
        let trailer = Trailer::read(&read, level, content_bytes, ID);
        for (part, _) in trailer.parts() {
            let _ = trailer.check(part, &file);
        }
    }
}
