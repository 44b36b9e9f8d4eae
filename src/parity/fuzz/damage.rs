//! A file, or a part of one, as it was written and as the disk has it now.

use std::ops::Range;

use crate::parity::UNIT_BYTES;
use crate::parity::heal::Units;
use crate::testing::{Input, edit_bytes};

/// See the module. Offsets are those of the file that it is a part of.
pub(super) struct Damaged {
    start: u64,
    pub(super) written: Vec<u8>,
    pub(super) now: Vec<u8>,
    /// Units that the disk refuses to read, by their number from `start` on.
    unreadable: Vec<usize>,
}

impl Units for Damaged {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let Some(place) = self.place(range).filter(|place| !self.is_refused(place)) else {
            // What a failed read leaves behind is nobody's bytes.
            buffer.fill(0xee);
            return false;
        };
        let Some(bytes) = self.now.get(place) else {
            return false;
        };
        buffer.copy_from_slice(bytes);
        true
    }
}

impl Damaged {
    pub(super) fn new(start: u64, written: Vec<u8>) -> Self {
        Self {
            start,
            now: written.clone(),
            written,
            unreadable: Vec::new(),
        }
    }

    fn place(&self, range: Range<u64>) -> Option<Range<usize>> {
        let from = usize::try_from(range.start.checked_sub(self.start)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.start)?).ok()?;
        Some(from..to)
    }

    fn is_refused(&self, place: &Range<usize>) -> bool {
        let touches =
            |unit: &usize| unit * UNIT_BYTES < place.end && (unit + 1) * UNIT_BYTES > place.start;
        self.unreadable.iter().any(touches)
    }

    /// Whether these bytes of the file can be read and are what was written.
    pub(super) fn is_good(&self, range: Range<u64>) -> bool {
        let Some(place) = self.place(range).filter(|place| !self.is_refused(place)) else {
            return false;
        };
        let now = self.now.get(place.clone());
        now.is_some() && now == self.written.get(place)
    }

    /// Whether nothing has happened to it.
    pub(super) fn is_whole(&self) -> bool {
        self.now == self.written && self.unreadable.is_empty()
    }

    /// Does what the input says; `other` is what a foreign file has there.
    pub(super) fn damage(&mut self, input: &mut Input<'_>, other: impl Fn() -> Vec<u8>) {
        let edits = input.below(12);
        for _ in 0..edits {
            self.edit(input, &other);
        }
    }

    fn edit(&mut self, input: &mut Input<'_>, other: &impl Fn() -> Vec<u8>) {
        let units = self.now.len().div_ceil(UNIT_BYTES);
        let kind = input.u8();
        let unit = input.place(units);
        // One, or a run of them.
        let run = match kind / 32 {
            0..5 => 1,
            5 => 1 + input.place(4),
            _ => 1 + input.place(40),
        };
        let end = (unit + run).min(units);
        let bytes = unit * UNIT_BYTES..(end * UNIT_BYTES).min(self.now.len());
        match kind % 10 {
            0 | 1 => self.unreadable.extend(unit..end),
            2 => self.now[bytes].fill(0),
            3 => self.now[bytes].fill(input.u8()),
            4 => flip(&mut self.now[bytes], input),
            5 => {
                // The same places of another file, or of a version of it that is longer or shorter.
                let other = other();
                let to = bytes.end.min(other.len());
                if let Some(theirs) = other.get(bytes.start..to) {
                    self.now[bytes.start..to].copy_from_slice(theirs);
                }
            }
            6 => {
                // A write that went astray.
                let from = input.place(units) * UNIT_BYTES;
                let length = bytes.len().min(self.now.len() - from.min(self.now.len()));
                self.now.copy_within(from..from + length, bytes.start);
            }
            7 if kind >= 192 => self.now.truncate(bytes.start),
            8 if kind >= 192 => self.now.extend_from_slice(input.bytes(100)),
            _ => edit_bytes(input, &mut self.now),
        }
    }
}

fn flip(bytes: &mut [u8], input: &mut Input<'_>) {
    let at = input.place(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (input.u8() % 8);
    }
}
