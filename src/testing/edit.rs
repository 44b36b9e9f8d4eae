//! What the bad day does to a file behind its owner's back, as a fuzzer's bytes decide.

use std::path::Path;

use super::Input;
use crate::vfs::MemoryVfs;

/// The unit that a disk loses as a whole, more often than not.
const UNIT: usize = 4096;
const SECTOR: usize = 512;

/// Changes a file on a simulated disk, durably: bits, bytes, units zeroed or garbled, pieces copied
/// from elsewhere in it, its length. Whether it has changed at all.
///
/// Checksums aren't made right again, so whoever reads the file must notice, or not need what is lost.
pub(crate) fn edit_file(input: &mut Input<'_>, disk: &MemoryVfs, path: &Path) -> bool {
    let Some(before) = disk.read_file(path) else {
        return false;
    };
    let mut after = before.clone();
    edit_bytes(input, &mut after);
    if after == before {
        return false;
    }
    disk.write_file(path, after)
}

/// As [`edit_file`], for bytes in memory.
pub(crate) fn edit_bytes(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    // Mostly where something is, sometimes in the empty space after it.
    let kind = input.u8();
    let reach = match kind & 0x80 {
        0 => used,
        _ => (used + 2 * UNIT).min(bytes.len()),
    };
    let at = input.place(reach);
    match kind % 10 {
        0 | 1 => flip(bytes, at, input.u8() % 8),
        2 => put(bytes, at, &[input.u8()]),
        3 => put(bytes, at, input.bytes(64)),
        4 => fill(bytes, at / UNIT * UNIT, UNIT, 0),
        5 => fill(bytes, at / SECTOR * SECTOR, SECTOR, 0),
        6 => fill(
            bytes,
            at / SECTOR * SECTOR,
            SECTOR * (1 + input.place(8)),
            input.u8(),
        ),
        7 => bytes.truncate(at),
        8 => {
            let from = input.place(reach);
            let (to, from, length) = match input.flag() {
                true => (at / UNIT * UNIT, from / UNIT * UNIT, UNIT),
                false => (at, from, input.place(UNIT)),
            };
            let piece = bytes[from..bytes.len().min(from + length)].to_vec();
            put(bytes, to, &piece);
        }
        _ => bytes.extend_from_slice(input.bytes(300)),
    }
}

fn flip(bytes: &mut [u8], at: usize, bit: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

/// Overwrites, without lengthening.
fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
        *byte = *new;
    }
}

fn fill(bytes: &mut [u8], at: usize, length: usize, with: u8) {
    let end = bytes.len().min(at + length);
    if let Some(piece) = bytes.get_mut(at..end) {
        piece.fill(with);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SeededRng;

    #[test]
    fn any_bytes_make_an_edit_and_most_of_them_change_something() {
        let mut rng = SeededRng::new(5);
        let disk = MemoryVfs::new();
        let mut changed = 0;
        for round in 0..500 {
            let original = rng.bytes([0, 1, 300, 5000, 9000][round % 5]);
            let path = Path::new("file");
            disk.write_file(path, &original);
            let decisions = rng.bytes(40);
            let said = edit_file(&mut Input::new(&decisions), &disk, path);
            assert_eq!(said, disk.read_file(path) != Some(original));
            changed += usize::from(said);
        }
        assert!(changed > 250, "{changed}");
        assert!(!edit_file(&mut Input::new(&[1]), &disk, Path::new("none")));
    }
}
