//! Damage to a store at rest: bits, blocks, lengths, types, cuts, and writes that got lost or went astray.

use kintsu::Parity;
use kintsu::testing::{MemoryVfs, SeededRng};

use super::expected::{kind, may_refuse, region};
use super::oracle::examine;
use super::play::Plan;
use super::sample::{File, Sample, end_of_content};
use super::table::{Played, Table, Verdict};

/// Places in files that stand one behind the other, found again by their number.
struct Places {
    /// For each file the number of its first place.
    firsts: Vec<u64>,
    total: u64,
}

impl Places {
    fn new(files: &[File], of: impl Fn(&File) -> u64) -> Self {
        let mut total = 0;
        let firsts = files.iter().map(|file| {
            let first = total;
            total += of(file);
            first
        });
        let firsts = firsts.collect();
        Self { firsts, total }
    }

    /// Which file, and which of its places.
    fn find(&self, number: u64) -> Option<(usize, u64)> {
        if number >= self.total {
            return None;
        }
        let file = self.firsts.partition_point(|first| *first <= number) - 1;
        Some((file, number - self.firsts[file]))
    }
}

/// Tampers with one file of a copy of the store and judges what comes of it.
fn tamper(
    sample: &Sample,
    file: usize,
    offset: usize,
    number: u64,
    how: impl FnOnce(&MemoryVfs, &str),
) -> Played {
    let (path, bytes) = &sample.files[file];
    let disk = sample.disk.fork();
    how(&disk, path);
    let kind = kind(path, &sample.files);
    let region = region(kind, bytes, offset);
    let verdict = examine(sample, &disk, &[path], number);
    let mut played = Played::new(format!("{kind}: {region}"), verdict);
    played.may_refuse = may_refuse(kind, region);
    played
}

/// The n-th of the numbers below `total` that a sample of one in `every` takes, from the seed on. The bit in
/// a byte goes round with it.
fn sampled(plan: &Plan, n: u64, every: u64) -> u64 {
    n * every + (plan.seed * 7919 + n * 31) % every
}

pub fn every_bit(plan: &Plan) -> Table {
    let sample = Sample::take();
    let used = |bytes: &[u8]| {
        end_of_content(bytes)
            .next_multiple_of(4096)
            .min(bytes.len())
    };
    let content = Places::new(&sample.files, |(_, bytes)| used(bytes) as u64 * 8);
    let room = Places::new(&sample.files, |(_, bytes)| {
        (bytes.len() - used(bytes)) as u64 * 8
    });
    let flip = |file: usize, bit: u64, number: u64| {
        let offset = bit / 8;
        tamper(&sample, file, offset as usize, number, |disk, path| {
            assert!(disk.flip_bit(path, offset, (bit % 8) as u8));
        })
    };
    // Odd, so that all of the eight bits of a byte take their turn.
    let every = plan.pick(67, 1);
    let mut table = plan.play("one bit", "bit", u64::MAX, |n| {
        let (file, bit) = content.find(sampled(plan, n, every))?;
        Some(flip(file, bit, n))
    });
    let every = plan.pick(40_009, 1);
    table.add(plan.play("one bit", "bit-of-room", u64::MAX, |n| {
        let (file, bit) = room.find(sampled(plan, n, every))?;
        let used = used(&sample.files[file].1) as u64 * 8;
        Some(flip(file, used + bit, n))
    }));
    table.add(without_parity(plan));
    table
}

/// Bits of segments that have none: here the checksums alone stand between a flip and an answer.
fn without_parity(plan: &Plan) -> Table {
    let mut sample = Sample::with(Parity::Off);
    sample.files.retain(|(path, _)| path.ends_with(".segment"));
    let places = Places::new(&sample.files, |(_, bytes)| bytes.len() as u64 * 8);
    let every = plan.pick(29, 1);
    plan.play("one bit", "bit-no-parity", u64::MAX, |n| {
        let (file, bit) = places.find(sampled(plan, n, every))?;
        let (path, _) = &sample.files[file];
        let disk = sample.disk.fork();
        assert!(disk.flip_bit(path, bit / 8, (bit % 8) as u8));
        let verdict = examine(&sample, &disk, &[path], n);
        Some(Played::new("segment without parity", verdict))
    })
}

/// Nothing is done to it: all must be as it was left.
pub fn nothing(plan: &Plan) -> Table {
    let sample = Sample::take();
    plan.play("none", "nothing", 24, |n| {
        let verdict = examine(&sample, &sample.disk.fork(), &[], n);
        assert_eq!(verdict, Verdict::Harmless);
        Some(Played::new("store", verdict).must_be_right())
    })
}

/// A field of a file: file, offset, bytes.
type Field = (usize, usize, usize);

fn number_at(bytes: &[u8], offset: usize, length: usize) -> u64 {
    let mut whole = [0; 8];
    whole[..length].copy_from_slice(&bytes[offset..offset + length]);
    u64::from_le_bytes(whole)
}

/// Where log records begin: eight bytes in, each has its own position.
fn records(bytes: &[u8]) -> Vec<usize> {
    let first = number_at(bytes, 64, 8);
    let begins = |at: &usize| number_at(bytes, at + 8, 8) == first + *at as u64;
    (4096..bytes.len() - 64).filter(begins).collect()
}

/// The length fields, and the type bytes, of every record, unit of identifiers, frame, and tail.
fn fields(sample: &Sample) -> (Vec<Field>, Vec<Field>) {
    let (mut lengths, mut types) = (Vec::new(), Vec::new());
    for (file, (path, bytes)) in sample.files.iter().enumerate() {
        let kind = kind(path, &sample.files);
        let end = end_of_content(bytes);
        let units = (4096..end).step_by(4096);
        match kind {
            "sealed log" | "active log" => {
                lengths.extend([(file, 72, 8), (file, 64, 8)]);
                for at in records(bytes) {
                    lengths.extend([(file, at + 4, 4), (file, at + 16, 4), (file, at + 20, 4)]);
                    lengths.push((file, at + 32, 1));
                    types.push((file, at + 33, 1));
                }
            }
            "identifiers" => {
                lengths.push((file, 72, 8));
                for at in units {
                    lengths.extend([(file, at + 8, 2), (file, at + 12, 4), (file, at + 16, 8)]);
                    lengths.push((file, at + 24, 8));
                    types.extend([(file, at + 10, 1), (file, at + 11, 1)]);
                }
            }
            "manifest" => {
                lengths.push((file, 56, 8));
                let is_frame = |at: &usize| matches!(&bytes[at + 4..at + 8], b"Stat" | b"Edit");
                for at in units.filter(is_frame) {
                    lengths.extend([(file, at + 8, 8), (file, at + 16, 8)]);
                    types.extend((4..8).map(|byte| (file, at + byte, 1)));
                }
            }
            "segment" => {
                let tail = bytes.len() - 64;
                lengths.extend([
                    (file, tail + 12, 2),
                    (file, tail + 14, 2),
                    (file, tail + 16, 8),
                ]);
                types.push((file, tail + 8, 1));
            }
            _ => {}
        }
        // Versions of formats.
        types.push((file, 8.min(bytes.len() - 1), 1));
    }
    (lengths, types)
}

pub fn lengths_and_types(plan: &Plan) -> Table {
    let sample = Sample::take();
    let (lengths, types) = fields(&sample);
    let put = |(file, offset, length): Field, value: u64, number: u64| {
        tamper(&sample, file, offset, number, |disk, path| {
            assert!(disk.overwrite(path, offset as u64, &value.to_le_bytes()[..length]));
        })
    };
    let mut table = plan.play("a length: 0, 1, len ± 1, most", "length", u64::MAX, |n| {
        let field = *lengths.get(n as usize / 5)?;
        let (file, offset, length) = field;
        let own = number_at(&sample.files[file].1, offset, length);
        let value = [0, 1, own.wrapping_add(1), own.wrapping_sub(1), u64::MAX][n as usize % 5];
        Some(put(field, value, n))
    });
    let every = plan.pick(7, 1);
    table.add(plan.play("a type byte: all values", "type", u64::MAX, |n| {
        let n = sampled(plan, n, every);
        let field = *types.get(n as usize / 256)?;
        Some(put(field, n % 256, n))
    }));
    table
}

pub fn every_block(plan: &Plan) -> Table {
    let sample = Sample::take();
    let mut table = Table::default();
    let fills: &[u8] = plan.pick(&[0x00, 0xa5], &[0x00, 0xa5, 0xff]);
    for (block, series) in [(512, "block-512"), (4096, "block-4096")] {
        let blocks = |bytes: &Vec<u8>| {
            let used = end_of_content(bytes)
                .next_multiple_of(4096)
                .min(bytes.len());
            // Of the room the first block stands for all, in the quick form.
            plan.pick(used + 1, bytes.len())
                .min(bytes.len())
                .div_ceil(block)
        };
        let places = Places::new(&sample.files, |(_, bytes)| blocks(bytes) as u64);
        let fault = format!("a block of {block} zeroed, or garbage");
        let every = plan.pick(if block == 512 { 3 } else { 1 }, 1);
        table.add(plan.play(&fault, series, u64::MAX, |n| {
            let (file, at) = places.find(sampled(plan, n / fills.len() as u64, every))?;
            let fill = fills[n as usize % fills.len()];
            let start = at as usize * block;
            let end = (start + block).min(sample.files[file].1.len());
            let mut played = tamper(&sample, file, start, n, |disk, path| {
                assert!(disk.overwrite(path, start as u64, vec![fill; end - start]));
            });
            // More than a few bytes of garbage in the second copy's room look like an edit that the first
            // one has lost.
            played.may_refuse |= played.place == "manifest: room";
            Some(played)
        }));
    }
    table
}

/// Whether bytes that are zero and others that aren't are about: the edges of what is written.
fn is_edge(bytes: &[u8], offset: usize) -> bool {
    let around = &bytes[offset.saturating_sub(16)..(offset + 16).min(bytes.len())];
    around.contains(&0) && around.iter().any(|byte| *byte != 0)
}

/// Files cut at every byte. Where more than a block is gone, parity may not reach.
pub fn every_cut(plan: &Plan) -> Table {
    let sample = Sample::take();
    let mut cuts = Vec::new();
    for (file, (_, bytes)) in sample.files.iter().enumerate() {
        let end = end_of_content(bytes);
        let mut rng = SeededRng::new(plan.seed + file as u64);
        cuts.extend((0..bytes.len()).filter_map(|length| {
            let close = end.saturating_sub(6000) <= length && length <= end + 10;
            let taken = match (close, is_edge(bytes, length)) {
                (true, _) => rng.one_in(16),
                (false, true) => rng.one_in(24),
                (false, false) => rng.one_in(1500),
            };
            (plan.long || taken).then_some((file, length))
        }));
    }
    plan.play("cut off at a byte", "cut", cuts.len() as u64, |n| {
        let (file, length) = cuts[n as usize];
        let (path, bytes) = &sample.files[file];
        let mut played = tamper(&sample, file, length, n, |disk, path| {
            assert!(disk.truncate_file(path, length as u64));
        });
        let kind = kind(path, &sample.files);
        played.place = kind.into();
        // Of a log the records go with the rest; parity of a small file heals one block.
        played.may_refuse |= kind.ends_with("log");
        played.may_refuse |= kind == "segment" && bytes.len() - length > 4096;
        Some(played)
    })
}

/// Blocks as they were at a time before (a write that got lost), or in another's place (one that went
/// astray; the other way round, both).
pub fn wrong_writes(plan: &Plan) -> Table {
    let sample = Sample::take();
    let count = plan.pick(900, 60_000);
    plan.play(
        "a write lost, astray or of another file",
        "wrong-write",
        count,
        |n| {
            let mut rng = SeededRng::new(plan.seed.wrapping_mul(1_000_003) + n);
            let file = rng.below(sample.files.len() as u64) as usize;
            let (path, bytes) = &sample.files[file];
            let unit = *rng.pick(&[512, 4096, 4096]).unwrap();
            let used = end_of_content(bytes).div_ceil(unit) as u64;
            let start = rng.below(used) as usize * unit;
            let end = (start + unit).min(bytes.len());
            let (how, source) = match rng.below(3) {
                0 => {
                    let old = rng.pick(&sample.earlier).unwrap().iter();
                    let old = old.clone().find(|(name, _)| name == path);
                    (
                        "lost",
                        old.map_or_else(Vec::new, |(_, bytes)| bytes.clone()),
                    )
                }
                1 => {
                    let mut shifted = bytes.clone();
                    shifted.rotate_left((1 + rng.below(used) as usize) * unit % bytes.len());
                    ("astray", shifted)
                }
                _ => {
                    let other = rng.below(sample.files.len() as u64) as usize;
                    ("of another file", sample.files[other].1.clone())
                }
            };
            let end = end.min(source.len());
            if start >= end {
                return Some(Played::new(how, Verdict::Harmless));
            }
            let mut played = tamper(&sample, file, start, n, |disk, path| {
                assert!(disk.overwrite(path, start as u64, &source[start..end]));
            });
            let kind = kind(path, &sample.files);
            // Whole blocks of another segment, footer included, count as a file that was exchanged.
            played.may_refuse |= kind == "segment" && how == "of another file";
            played.place = format!("{how}, {kind}");
            Some(played)
        },
    )
}
