//! What heals, what doesn't, and that nothing wrong ever comes out.

use super::heal::{Unhealable, Units};
use super::table::TAIL_BYTES;
use super::*;
use crate::codec::digest;
use crate::types::{FileId, Parity};

const ID: FileId = FileId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
const UNIT: u64 = UNIT_BYTES as u64;

/// A generator of its own, so that a seed means the same for ever.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next().wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(bound)) >> 64)
            as u64
    }
}

fn content(bytes: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    (0..bytes).map(|_| numbers.next() as u8).collect()
}

fn protected(level: Parity, content: &[u8]) -> Vec<u8> {
    let mut encoder = ParityEncoder::new(level, ID);
    // In pieces of odd lengths, as a writer would.
    for piece in content.chunks(50_001) {
        encoder.update(piece).unwrap();
    }
    let mut file = content.to_vec();
    file.extend_from_slice(&encoder.finish().unwrap());
    file
}

/// A file some of whose bytes can't be read.
struct Bad<'a> {
    file: &'a [u8],
    unreadable: std::ops::Range<u64>,
}

impl Units for Bad<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let end = offset.saturating_add(buffer.len() as u64);
        if offset < self.unreadable.end && end > self.unreadable.start {
            buffer.fill(0xee);
            return false;
        }
        let Some(bytes) = self.file.get(offset as usize..end as usize) else {
            return false;
        };
        buffer.copy_from_slice(bytes);
        true
    }
}

fn heal_all(file: &[u8], level: Parity, content_bytes: usize) -> Result<Healed, Unhealable> {
    let none = Bad {
        file,
        unreadable: 0..0,
    };
    let geometry = Geometry::new(level, content_bytes as u64);
    heal(&none, &geometry, ID, 0..content_bytes as u64)
}

fn tail_of(file: &[u8]) -> Option<Tail> {
    let whole = Bad {
        file,
        unreadable: 0..0,
    };
    find_tail(&whole, file.len() as u64)
}

const SIZES: [usize; 12] = [
    1,
    100,
    4095,
    4096,
    4097,
    60_000,
    65_536,
    65_537,
    1 << 20,
    (1 << 20) + 1,
    1_300_000,
    (2 << 20) + 70_000,
];
const LEVELS: [Parity; 2] = [Parity::Standard, Parity::Strong];

#[test]
fn a_whole_file_reads_as_it_is_and_its_tail_says_how_it_lies() {
    for level in LEVELS {
        for bytes in SIZES {
            let content = content(bytes, bytes as u64);
            let file = protected(level, &content);
            let geometry = Geometry::new(level, bytes as u64);
            assert_eq!(file.len() as u64, geometry.file_bytes());
            let healed = heal_all(&file, level, bytes).unwrap();
            assert!(healed.bytes == content);
            assert_eq!(healed.units, []);
            let tail = tail_of(&file).unwrap();
            let expected = Tail {
                level,
                content_bytes: bytes as u64,
                file_id: ID,
            };
            assert_eq!(tail, expected);
        }
    }
}

#[test]
fn without_parity_there_is_no_trailer_and_nothing_heals() {
    let content = content(10_000, 1);
    let file = protected(Parity::Off, &content);
    assert_eq!(file, content);
    assert_eq!(Geometry::new(Parity::Off, 10_000).file_bytes(), 10_000);
    let outcome = heal_all(&file, Parity::Off, 10_000);
    assert_eq!(outcome, Err(Unhealable::Unprotected));
    assert_eq!(tail_of(&file), None);
}

#[test]
fn any_one_block_heals_unreadable_zeroed_or_garbled() {
    for level in LEVELS {
        for bytes in SIZES {
            let content = content(bytes, 7);
            let file = protected(level, &content);
            let geometry = Geometry::new(level, bytes as u64);
            // Every one of a small file; of a large one, the groups are alike.
            let step = if bytes > 100_000 { 37 } else { 1 };
            for start in (0..file.len()).step_by(step * UNIT_BYTES) {
                let end = (start + UNIT_BYTES).min(file.len());
                let unreadable = start as u64..end as u64;
                let bad = Bad {
                    file: &file,
                    unreadable,
                };
                let healed = heal(&bad, &geometry, ID, 0..bytes as u64).unwrap();
                assert!(healed.bytes == content, "{level:?} {bytes} {start}");
                let lost = start < bytes;
                assert_eq!(healed.units, if lost { vec![start as u64] } else { vec![] });
            }
            for start in [0, file.len() / 2, file.len() - 1] {
                let start = start / UNIT_BYTES * UNIT_BYTES;
                let end = (start + UNIT_BYTES).min(file.len());
                for fill in [0, 0x5a] {
                    let mut damaged = file.clone();
                    damaged[start..end].fill(fill);
                    let healed = heal_all(&damaged, level, bytes).unwrap();
                    assert!(healed.bytes == content);
                }
            }
        }
    }
}

#[test]
fn units_that_were_written_in_each_other_s_place_heal() {
    for level in LEVELS {
        let content = content(100 * UNIT_BYTES, 11);
        let file = protected(level, &content);
        let mut swapped = file.clone();
        let (first, second) = swapped.split_at_mut(7 * UNIT_BYTES);
        first[..UNIT_BYTES].swap_with_slice(&mut second[..UNIT_BYTES]);
        let healed = heal_all(&swapped, level, content.len()).unwrap();
        assert!(healed.bytes == content);
        assert_eq!(healed.units, [0, 7 * UNIT]);
    }
}

/// The run that the documentation promises for a file of so much content.
fn run_bytes(geometry: &Geometry) -> u64 {
    let units = geometry.content_units().min(GROUP_UNITS);
    UNIT * (geometry.parity_of(units) - 1)
}

#[test]
fn a_run_of_the_promised_length_heals_wherever_it_begins() {
    let mut numbers = Numbers(3);
    for level in LEVELS {
        for bytes in SIZES {
            let content = content(bytes, 9);
            let file = protected(level, &content);
            let geometry = Geometry::new(level, bytes as u64);
            let run = run_bytes(&geometry);
            for _ in 0..30 {
                let start = numbers.below(file.len() as u64);
                let bad = Bad {
                    file: &file,
                    unreadable: start..start + run,
                };
                let healed = heal(&bad, &geometry, ID, 0..bytes as u64);
                assert!(
                    healed.unwrap().bytes == content,
                    "{level:?} {bytes} {start}"
                );
            }
        }
    }
}

#[test]
fn as_many_units_as_there_is_parity_heal_and_one_more_is_refused() {
    let mut numbers = Numbers(5);
    for level in LEVELS {
        for bytes in SIZES {
            let content = content(bytes, 11);
            let file = protected(level, &content);
            let geometry = Geometry::new(level, bytes as u64);
            for group in 0..geometry.groups() {
                let units = geometry.group(group);
                let parity = geometry.group_parity(group);
                let mut places: Vec<u64> = units.clone().map(|unit| unit * UNIT).collect();
                places.extend(parity.clone().map(|unit| geometry.parity_offset(unit)));
                let mut damaged = file.clone();
                let mut lost = 0;
                for n in 0..=parity.end - parity.start {
                    let healed = heal_all(&damaged, level, bytes);
                    assert!(healed.unwrap().bytes == content, "{level:?} {bytes} {n}");
                    let place = places.swap_remove(numbers.below(places.len() as u64) as usize);
                    lost += u64::from(place < bytes as u64);
                    damaged[place as usize] ^= 1;
                }
                let outcome = heal_all(&damaged, level, bytes);
                match lost {
                    0 => assert!(outcome.unwrap().bytes == content),
                    _ => assert!(matches!(outcome, Err(Unhealable::TooMuch { .. }))),
                }
            }
        }
    }
}

#[test]
fn either_copy_of_the_table_is_enough_and_none_is_not() {
    let bytes = 1_300_000;
    let content = content(bytes, 13);
    for level in LEVELS {
        let file = protected(level, &content);
        let geometry = Geometry::new(level, bytes as u64);
        let [first, second] = geometry.tables().map(|table| table as usize);
        let length = geometry.table_bytes() as usize;
        for lost in [vec![first], vec![second], vec![first, second]] {
            let mut damaged = file.clone();
            damaged[0] ^= 1;
            for table in &lost {
                damaged[*table..table + length].fill(0);
            }
            let healed = heal_all(&damaged, level, bytes);
            match lost.len() {
                1 => assert!(healed.unwrap().bytes == content),
                _ => assert_eq!(healed, Err(Unhealable::NoChecksums)),
            }
        }
    }
}

#[test]
fn a_file_cut_off_heals_as_far_as_its_parity_goes_and_never_wrongly() {
    let bytes = 300_000;
    let content = content(bytes, 17);
    let file = protected(Parity::Standard, &content);
    let geometry = Geometry::new(Parity::Standard, bytes as u64);
    for cut in (0..=file.len()).step_by(1_000) {
        let outcome = heal_all(&file[..cut], Parity::Standard, bytes);
        let whole = cut as u64 >= geometry.tables()[1];
        match outcome {
            Ok(healed) => assert!(healed.bytes == content),
            Err(why) => assert!(!whole, "cut at {cut}: {why}"),
        }
    }
}

#[test]
fn nothing_wrong_comes_out_of_a_file_full_of_damage() {
    let mut numbers = Numbers(19);
    let bytes = 500_000;
    let content = content(bytes, 19);
    let file = protected(Parity::Standard, &content);
    let (mut healed, mut refused) = (0, 0);
    for _ in 0..300 {
        let mut damaged = file.clone();
        for _ in 0..numbers.below(16) {
            let at = numbers.below(file.len() as u64) as usize;
            let end = (at + numbers.below(10_000) as usize).min(file.len());
            match numbers.below(3) {
                0 => damaged[at] ^= 1 << numbers.below(8),
                1 => damaged[at..end].fill(0),
                _ => damaged.copy_within(
                    at..end,
                    numbers.below((file.len() - (end - at)) as u64) as usize,
                ),
            }
        }
        match heal_all(&damaged, Parity::Standard, bytes) {
            Ok(outcome) => {
                assert!(outcome.bytes == content);
                healed += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        healed > 50 && refused > 50,
        "{healed} healed, {refused} refused"
    );
}

#[test]
fn another_files_units_are_not_taken_for_its_own() {
    let content = content(100_000, 23);
    let file = protected(Parity::Standard, &content);
    let geometry = Geometry::new(Parity::Standard, 100_000);
    let whole = Bad {
        file: &file,
        unreadable: 0..0,
    };
    let outcome = heal(&whole, &geometry, FileId(1), 0..100_000);
    assert_eq!(outcome, Err(Unhealable::NoChecksums));
}

#[test]
fn only_what_is_asked_for_is_returned() {
    let bytes = (1 << 20) + 50_000;
    let content = content(bytes, 29);
    let mut file = protected(Parity::Standard, &content);
    file[5_000] ^= 1;
    file[(1 << 20) + 5] ^= 1;
    let geometry = Geometry::new(Parity::Standard, bytes as u64);
    let bad = Bad {
        file: &file,
        unreadable: 0..0,
    };
    let mut numbers = Numbers(31);
    for _ in 0..20 {
        let start = numbers.below(bytes as u64);
        let end = start + 1 + numbers.below(bytes as u64 - start);
        let healed = heal(&bad, &geometry, ID, start..end).unwrap();
        assert!(healed.bytes == content[start as usize..end as usize]);
    }
    let healed = heal(&bad, &geometry, ID, 9_000..(1 << 20) + 1).unwrap();
    assert_eq!(healed.units, [1 << 20]);
    for outside in [0..0, 5..5, 0..bytes as u64 + 1, u64::MAX - 1..u64::MAX] {
        let outcome = heal(&bad, &geometry, ID, outside);
        assert_eq!(outcome, Err(Unhealable::Unprotected));
    }
}

#[test]
fn tails_that_claim_anything_are_refused_without_arithmetic_going_wrong() {
    let content = content(10_000, 37);
    let file = protected(Parity::Standard, &content);
    let tail: [u8; TAIL_BYTES] = *file.last_chunk().unwrap();
    for bit in 0..TAIL_BYTES * 8 {
        let mut bad = tail;
        bad[bit / 8] ^= 1 << (bit % 8);
        let offset = (file.len() - TAIL_BYTES) as u64;
        assert_eq!(Tail::decode(&bad, offset, file.len() as u64), None);
    }
    for content_bytes in [0, 1, u64::MAX, u64::MAX - 4096, 1 << 60] {
        let forged = Tail {
            level: Parity::Strong,
            content_bytes,
            file_id: ID,
        };
        let geometry = Geometry::new(Parity::Strong, content_bytes);
        let file_bytes = geometry.file_bytes();
        let offset = file_bytes.saturating_sub(TAIL_BYTES as u64);
        let bytes = forged.encode(offset);
        let _ = Tail::decode(&bytes, offset, file_bytes);
        let nothing = Bad {
            file: &[],
            unreadable: 0..u64::MAX,
        };
        let _ = heal(&nothing, &geometry, ID, 0..content_bytes.min(1 << 21));
    }
}

#[test]
fn a_tail_is_found_behind_the_first_table_where_the_last_is_lost() {
    for level in LEVELS {
        for bytes in SIZES {
            let mut file = protected(level, &content(bytes, 43));
            let at = file.len() - 1;
            file[at] ^= 1;
            let tail = tail_of(&file).unwrap();
            assert_eq!((tail.level, tail.content_bytes), (level, bytes as u64));
            let geometry = Geometry::new(level, bytes as u64);
            let first = geometry.tables()[0] + geometry.table_bytes() - 1;
            file[first as usize] ^= 1;
            assert_eq!(tail_of(&file), None);
        }
    }
}

#[test]
fn a_trailer_names_the_part_that_is_damaged() {
    for level in LEVELS {
        for bytes in [100, 60_000, 1_300_000] {
            let file = protected(level, &content(bytes, 47));
            for at in (bytes..file.len()).step_by(997).chain([file.len() - 1]) {
                let mut damaged = file.clone();
                damaged[at] ^= 1;
                let whole = Bad {
                    file: &damaged,
                    unreadable: 0..0,
                };
                let trailer = Trailer::read(&whole, level, bytes as u64, ID);
                let mut end = bytes as u64;
                let mut found = Vec::new();
                for (part, place) in trailer.parts() {
                    assert_eq!(place.start, end);
                    end = place.end;
                    let range = place.start as usize..place.end as usize;
                    if trailer.check(part, &damaged[range.clone()]).is_err() {
                        found.push(range);
                    }
                }
                assert_eq!(end, file.len() as u64);
                assert_eq!(found.len(), 1, "{level:?} {bytes} {at}");
                assert!(found[0].contains(&at));
            }
        }
    }
}

/// The bytes of the trailer are a format: whoever changes them must mean to.
#[test]
fn the_trailer_is_what_it_always_was() {
    let mut hash = digest();
    for (level, bytes) in [(Parity::Standard, 10_000), (Parity::Strong, 1_300_000)] {
        hash.update(&protected(level, &content(bytes, 41)));
    }
    assert_eq!(
        format!("{:032x}", hash.digest128()),
        "d24a792f31e0a5b3c008c8e3e9e84bf3"
    );
}
