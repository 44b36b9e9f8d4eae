//! One copy as it was read, and what can be found in it. Reports; decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::format::{Frame, FrameKind, Header, HeaderFault, decode_frame, decode_header};
use super::table::Found;
use crate::error::Damage;
use crate::types::{FileId, UNIT};

/// Up to this many bytes other than zero in space that should be empty pass for rot, not for a trace
/// of a write: a frame's header alone has more.
const STRAY_BYTES_MAX: usize = 8;

const ZEROS: [u8; UNIT] = [0; UNIT];

/// A copy's bytes.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub path: PathBuf,
    /// Whether there is such a file.
    pub present: bool,
    /// All that could be read, up to a limit; zeros stand for units that couldn't.
    pub bytes: Vec<u8>,
    /// Length of the file.
    pub file_bytes: u64,
    /// Offsets of the units that the disk wouldn't give, ascending.
    pub unreadable: Vec<usize>,
}

impl Image {
    /// A copy that isn't there.
    pub(super) fn missing(path: PathBuf) -> Self {
        Self {
            path,
            present: false,
            bytes: Vec::new(),
            file_bytes: 0,
            unreadable: Vec::new(),
        }
    }

    /// Its header unit.
    pub(super) fn header(&self, generation: u64) -> Result<Header, HeaderFault> {
        if !self.present {
            return Err(HeaderFault::Bad("the file is missing"));
        }
        if self.unreadable.contains(&0) {
            return Err(HeaderFault::Bad("the disk can't read the header"));
        }
        decode_header(&self.bytes, generation)
    }

    /// What is wrong with the file as a whole, be its edits needed or not.
    pub(super) fn damage(&self, capacity: u64) -> Vec<Damage> {
        let unreadable = |&offset: &usize| {
            let what = "the disk can't read this";
            Damage::new(&self.path, offset as u64, UNIT as u64, what)
        };
        let mut damage: Vec<_> = self.unreadable.iter().map(unreadable).collect();
        let (found, wanted) = (self.file_bytes, capacity);
        if self.present && found != wanted {
            let what = format!("the file has {found} bytes instead of {wanted}");
            let from = found.min(wanted);
            damage.push(Damage::new(&self.path, from, found.abs_diff(wanted), what));
        }
        damage
    }
}

/// A copy, searched for frames.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub image: &'a Image,
    file_id: FileId,
    /// The intact frames, by their place.
    frames: BTreeMap<usize, Frame>,
    /// Anything that begins at or before this place holds more than stray bytes.
    written_until: Option<usize>,
    /// Where the last byte other than zero ends.
    pub bytes_end: usize,
}

impl<'a> Scan<'a> {
    /// Searches every unit after the header for a frame: frames start on units, so a damaged one
    /// never hides those after it. Takes time in proportion to the copy's length.
    pub(super) fn new(image: &'a Image, file_id: FileId) -> Self {
        let mut written = written_backwards(&image.bytes);
        let bytes_end = written.next().map_or(0, |at| at + 1);
        let written_until = written.nth(STRAY_BYTES_MAX - 1);
        let mut frames = BTreeMap::new();
        let mut offset = UNIT;
        while offset < bytes_end {
            offset = match decode_frame(file_id, &image.bytes, offset) {
                Ok(frame) => {
                    let end = frame.range.end;
                    frames.insert(offset, frame);
                    end
                }
                Err(_) => offset + UNIT,
            };
        }
        Self {
            image,
            file_id,
            frames,
            written_until,
            bytes_end,
        }
    }

    /// The intact frame of this kind at this place.
    pub(super) fn frame(&self, offset: usize, kind: FrameKind) -> Option<&Frame> {
        self.frames.get(&offset).filter(|frame| frame.kind == kind)
    }

    /// The edit of this number, if it is at this place.
    pub(super) fn edit(&self, offset: usize, sequence: u64) -> Option<&Frame> {
        self.frame(offset, FrameKind::Edit)
            .filter(|frame| frame.sequence == sequence)
    }

    /// The first intact frame at or after this place.
    pub(super) fn next_frame(&self, offset: usize) -> Option<&Frame> {
        self.frames.range(offset..).next().map(|(_, frame)| frame)
    }

    /// The bytes of a frame's payload.
    pub(super) fn payload(&self, frame: &Frame) -> &'a [u8] {
        let bytes = self.image.bytes.get(frame.payload.clone());
        bytes.unwrap_or_default()
    }

    /// What is at the place where edit `sequence` would be.
    pub(super) fn found(&self, offset: usize, sequence: u64) -> Found {
        if let Some(frame) = self.edit(offset, sequence) {
            return if self.is_written(frame.range.end) {
                Found::More
            } else {
                Found::Last
            };
        }
        if self.next_frame(offset).is_some() {
            Found::Followed
        } else if self.is_written(offset) {
            Found::Bytes
        } else if self.is_lost(offset) {
            Found::Lost
        } else {
            Found::Blank
        }
    }

    /// Whether anything beyond stray bytes stands at or after this place.
    fn is_written(&self, offset: usize) -> bool {
        self.written_until.is_some_and(|until| until >= offset)
    }

    /// Whether the unit at this place can't be had.
    fn is_lost(&self, offset: usize) -> bool {
        offset + UNIT > self.image.bytes.len()
            || self.image.unreadable.binary_search(&offset).is_ok()
    }

    /// What is wrong at a place where a frame was expected.
    pub(super) fn fault(&self, offset: usize) -> &'static str {
        if self.is_lost(offset) {
            return "it can't be read";
        }
        if self.bytes_end <= offset {
            return "nothing is there";
        }
        match decode_frame(self.file_id, &self.image.bytes, offset) {
            Ok(_) => "the frame is of another kind or number",
            Err(fault) => fault,
        }
    }
}

/// The places of all bytes other than zero, last first.
fn written_backwards(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let units = bytes.chunks(UNIT).enumerate().rev();
    let written = units.filter(|(_, unit)| ZEROS.get(..unit.len()) != Some(*unit));
    written.flat_map(|(number, unit)| {
        let places = unit.iter().enumerate().rev();
        let places = places.filter(|(_, byte)| **byte != 0);
        places.map(move |(at, _)| number * UNIT + at)
    })
}
