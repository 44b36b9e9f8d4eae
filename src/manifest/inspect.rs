//! Looking at a manifest without believing it: every generation, copy and frame with its verdict.

use std::path::{Path, PathBuf};

use super::ManifestAccess;
use super::encoding::{decode_edit, decode_state};
use super::format::{FrameKind, HeaderFault, Side, VERSION, path};
use super::reading::{list_store, load, read_image};
use super::scan::{Image, Scan};
use super::state::{Change, ManifestState};
use crate::error::{Damage, Error, Result};
use crate::types::{FileId, StoreId, UNIT};
use crate::vfs::Vfs;

/// One part of a manifest file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The file.
    pub path: PathBuf,
    /// The generation in its name.
    pub generation: u64,
    /// Which copy it is.
    pub side: Side,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// What it is.
    pub part: Part,
}

/// What a part of a manifest file is. Everything but `Bad` has passed its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header.
    Header {
        /// Format version.
        version: u32,
        /// The store that it belongs to.
        store_id: StoreId,
        /// The id that both copies of this generation share.
        file_id: FileId,
    },
    /// The state that the generation begins with.
    State {
        /// The number of the last edit in it.
        sequence: u64,
        /// The state.
        state: Box<ManifestState>,
    },
    /// An edit.
    Edit {
        /// Its number.
        sequence: u64,
        /// Its changes.
        changes: Vec<Change>,
    },
    /// Something that can't be believed. In the last place of the newest generation it can be an edit
    /// that a crash cut short.
    Bad {
        /// What is wrong.
        what: String,
    },
    /// Zeros, for edits to come.
    Unused,
}

/// Shows every part of every generation and copy, oldest generation first, damaged or not. Beside a
/// live writer it may see an edit half written.
///
/// # Errors
/// `NotAStore`, `Damaged` if there is no manifest to look at, what the disk answers.
pub fn inspect(vfs: &dyn Vfs, dir: &Path, show: &mut dyn FnMut(Inspected)) -> Result<()> {
    let listing = list_store(vfs, dir)?;
    if listing.generations.is_empty() {
        return Err(listing.missing(dir));
    }
    for (&generation, sides) in &listing.generations {
        let mut images = Vec::new();
        for &side in sides {
            let path = path(dir, generation, side);
            if let Some(image) = read_image(vfs, path, ManifestAccess::ReadOnly)? {
                images.push((side, image));
            }
        }
        // The copies share their id: one whose header is gone is read with the other's.
        let mut headers = images.iter().map(|(_, image)| image.header(generation));
        let file_id = headers.find_map(|header| header.ok().map(|header| header.file_id));
        for (side, image) in &images {
            let mut inspect = Inspection {
                generation,
                side: *side,
                image,
                show: &mut *show,
            };
            inspect.file(file_id);
        }
    }
    Ok(())
}

/// Everything that is wrong with the newest generation: what the other copy can heal and what it
/// can't. Reads through the page cache, and can be used beside a live writer.
///
/// # Errors
/// `NotAStore`, `NewerFormat`, what the disk answers.
pub fn verify(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<Damage>> {
    let merged = load(vfs, dir, ManifestAccess::ReadOnly).and_then(|(_, merged)| merged);
    match merged {
        Ok(merged) => Ok(merged.damage),
        Err(Error::Damaged(damage)) => Ok(damage),
        Err(error) => Err(error),
    }
}

struct Inspection<'a> {
    generation: u64,
    side: Side,
    image: &'a Image,
    show: &'a mut dyn FnMut(Inspected),
}

impl Inspection<'_> {
    fn file(&mut self, other_file_id: Option<FileId>) {
        let header = self.image.header(self.generation);
        let mut newer = false;
        let part = match &header {
            Ok(header) => Part::Header {
                version: VERSION,
                store_id: header.store_id,
                file_id: header.file_id,
            },
            Err(HeaderFault::Newer(found)) => {
                newer = true;
                let what = format!("format {found}, newer than {VERSION}");
                Part::Bad { what }
            }
            Err(HeaderFault::Bad(what)) => Part::Bad {
                what: (*what).to_owned(),
            },
        };
        let bytes = self.image.bytes.len();
        self.part(0, bytes.min(UNIT), part);
        let file_id = header.ok().map(|header| header.file_id).or(other_file_id);
        match file_id.filter(|_| !newer) {
            Some(file_id) => self.frames(&Scan::new(self.image, file_id)),
            None if bytes > UNIT => {
                let what = "unreadable without a header".to_owned();
                self.part(UNIT, bytes, Part::Bad { what });
            }
            None => {}
        }
    }

    fn frames(&mut self, scan: &Scan<'_>) {
        let bytes = self.image.bytes.len();
        let mut offset = UNIT;
        while let Some(frame) = scan.next_frame(offset) {
            let (start, end) = (frame.range.start, frame.range.end);
            if offset < start {
                self.bad(scan, offset, start);
            }
            let payload = scan.payload(frame);
            let sequence = frame.sequence;
            let part = match frame.kind {
                FrameKind::State => decode_state(payload).map(|state| Part::State {
                    sequence,
                    state: Box::new(state),
                }),
                FrameKind::Edit => {
                    decode_edit(payload).map(|changes| Part::Edit { sequence, changes })
                }
            };
            let what = "the frame is intact and yet makes no sense".to_owned();
            self.part(start, end, part.unwrap_or(Part::Bad { what }));
            offset = end;
        }
        let written = scan.bytes_end.next_multiple_of(UNIT).min(bytes);
        if offset < written {
            self.bad(scan, offset, written);
            offset = written;
        }
        if offset < bytes {
            self.part(offset, bytes, Part::Unused);
        }
    }

    fn bad(&mut self, scan: &Scan<'_>, start: usize, end: usize) {
        let what = scan.fault(start).to_owned();
        self.part(start, end, Part::Bad { what });
    }

    fn part(&mut self, start: usize, end: usize, part: Part) {
        (self.show)(Inspected {
            path: self.image.path.clone(),
            generation: self.generation,
            side: self.side,
            offset: start as u64,
            bytes: end.saturating_sub(start) as u64,
            part,
        });
    }
}
