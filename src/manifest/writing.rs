//! The active generation: its two files, edits appended to them, and how a new one is begun.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::encoding::{put_edit, put_state};
use super::format::{
    FILE_BYTES_MAX, FrameKind, Header, Side, encode_frame, encode_header, path, temporary_path,
};
use super::reading::Listing;
use super::state::{Change, ManifestState};
use crate::error::Error;
use crate::types::{FileId, UNIT};
use crate::vfs::{Access, File, Vfs};

/// Least room for edits in a new generation, in bytes; with a larger state the room is as large as the
/// state, so that writing states costs no more than writing edits does.
const ROOM_BYTES_MIN: usize = 256 << 10;

/// How a write failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was done.
    Refused(Error),
    /// Whether it was done is unknown: latch.
    Unknown(String),
}

impl Failure {
    fn unknown(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Unknown(Error::io(action, path, error).to_string())
    }

    /// Nothing is published yet: whatever the disk says, the store is as it was.
    fn refused(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Refused(Error::io(action, path, error))
    }

    /// A full disk is no danger to what isn't published; any other failure of a sync or a rename is
    /// one that must not be retried.
    fn refused_if_full(action: &'static str, path: &Path, error: io::Error) -> Self {
        match Error::io(action, path, error) {
            full @ Error::NoSpace { .. } => Self::Refused(full),
            other => Self::Unknown(other.to_string()),
        }
    }
}

/// The files of the generation that this process has begun, open for appending.
#[derive(Debug)]
pub(super) struct Active {
    /// A, then B.
    files: Vec<(PathBuf, Arc<dyn File>)>,
    file_id: FileId,
    /// Where the next edit goes.
    end: usize,
    /// Where the files end; their space was taken when they were made, so appending needs none.
    capacity: usize,
}

impl Active {
    /// Appends an edit to A, then to B, each synced; `false`, with nothing written, if there is no
    /// room for it.
    pub(super) fn append(&mut self, sequence: u64, changes: &[Change]) -> Result<bool, Failure> {
        let put = |out: &mut Vec<u8>| put_edit(out, changes);
        let frame = encode_frame(self.file_id, self.end, FrameKind::Edit, sequence, put);
        let room = self.capacity - self.end;
        let Some(frame) = frame.filter(|frame| frame.len() <= room) else {
            return Ok(false);
        };
        for (path, file) in &self.files {
            file.write_at(&frame, self.end as u64)
                .map_err(|error| Failure::unknown("write", path, error))?;
            file.sync_data()
                .map_err(|error| Failure::unknown("sync", path, error))?;
        }
        self.end += frame.len();
        Ok(true)
    }

    /// Whether both copies say the same, as far as they were written. One that can't be read doesn't.
    pub(super) fn agrees(&self) -> bool {
        let read = |(_, file): &(PathBuf, Arc<dyn File>)| {
            let mut bytes = vec![0; self.end];
            let read = file.read_at(&mut bytes, 0).ok()?;
            (read == bytes.len()).then_some(bytes)
        };
        let mut copies = self.files.iter().map(read);
        match (copies.next().flatten(), copies.next().flatten()) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        }
    }
}

/// A generation to be begun.
#[derive(Debug)]
pub(super) struct NewGeneration<'a> {
    pub vfs: &'a dyn Vfs,
    pub dir: &'a Path,
    pub generation: u64,
    pub file_id: FileId,
    pub state: &'a ManifestState,
    pub sequence: u64,
}

impl NewGeneration<'_> {
    /// Writes, syncs and publishes both copies. Older generations are left alone.
    pub(super) fn publish(&self) -> Result<Active, Failure> {
        let (bytes, capacity) = self.encode()?;
        let mut files = Vec::new();
        for side in Side::BOTH {
            match self.write(side, &bytes, capacity) {
                Ok(file) => files.push((path(self.dir, self.generation, side), file)),
                Err(refused @ Failure::Refused(_)) => {
                    self.remove_temporaries();
                    return Err(refused);
                }
                Err(unknown) => return Err(unknown),
            }
        }
        for side in Side::BOTH {
            let from = temporary_path(self.dir, self.generation, side);
            let to = path(self.dir, self.generation, side);
            if let Err(error) = self.vfs.rename(&from, &to) {
                if side == Side::B {
                    return Err(Failure::unknown("rename", &from, error)); // A is out already
                }
                let failure = Failure::refused_if_full("rename", &from, error);
                if matches!(failure, Failure::Refused(_)) {
                    self.remove_temporaries();
                }
                return Err(failure);
            }
        }
        self.vfs
            .sync_dir(self.dir)
            .map_err(|error| Failure::unknown("sync", self.dir, error))?;
        Ok(Active {
            files,
            file_id: self.file_id,
            end: bytes.len(),
            capacity,
        })
    }

    /// The bytes that both files begin with, and how long the files are.
    fn encode(&self) -> Result<(Vec<u8>, usize), Failure> {
        let put = |out: &mut Vec<u8>| put_state(out, self.state);
        let frame = encode_frame(self.file_id, UNIT, FrameKind::State, self.sequence, put)
            .filter(|frame| frame.len() as u64 <= FILE_BYTES_MAX - UNIT as u64);
        let Some(frame) = frame else {
            let why = format!("the state would take more than {FILE_BYTES_MAX} bytes");
            return Err(Failure::Refused(Error::ManifestEdit { why }));
        };
        let end = UNIT + frame.len();
        let room = frame.len().max(ROOM_BYTES_MIN);
        let capacity = (end + room).min(FILE_BYTES_MAX as usize);
        let mut bytes = encode_header(&Header {
            store_id: self.state.store_id,
            file_id: self.file_id,
            generation: self.generation,
            capacity: capacity as u64,
        });
        bytes.extend_from_slice(&frame);
        Ok((bytes, capacity))
    }

    /// Writes and syncs one copy under its temporary name.
    fn write(&self, side: Side, bytes: &[u8], capacity: usize) -> Result<Arc<dyn File>, Failure> {
        let path = temporary_path(self.dir, self.generation, side);
        let file = self
            .vfs
            .open(&path, Access::CreateOrTruncate)
            .map_err(|error| Failure::refused("create", &path, error))?;
        file.preallocate(capacity as u64)
            .map_err(|error| Failure::refused("preallocate", &path, error))?;
        file.write_at(bytes, 0)
            .map_err(|error| Failure::refused("write", &path, error))?;
        file.sync_data()
            .map_err(|error| Failure::refused_if_full("sync", &path, error))?;
        Ok(file)
    }

    /// Gives space back; what can't be removed now is overwritten or removed by a later generation.
    fn remove_temporaries(&self) {
        for side in Side::BOTH {
            let _ = self
                .vfs
                .remove(&temporary_path(self.dir, self.generation, side));
        }
    }
}

/// Removes the files of generations below `generation`, which is durable, and those never published.
/// What can't be removed harms nobody: the newest generation counts, and the next one tries again.
pub(super) fn remove_older(vfs: &dyn Vfs, dir: &Path, generation: u64) {
    let Ok(listing) = Listing::read(vfs, dir) else {
        return;
    };
    for (number, side) in listing.temporaries {
        let _ = vfs.remove(&temporary_path(dir, number, side));
    }
    for (&number, sides) in listing.generations.range(..generation) {
        for &side in sides {
            let _ = vfs.remove(&path(dir, number, side));
        }
    }
}
