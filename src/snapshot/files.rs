//! Reading, writing and copying whole files.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::codec::digest;
use crate::error::{Damage, Error, Result};
use crate::vfs::{Access, Vfs};

/// Longest small file that is read, in bytes.
const SMALL_BYTES_MAX: u64 = 1 << 30;
/// How much is copied at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// XXH3-128 of it.
    pub digest: u128,
    /// Its length.
    pub bytes: u64,
}

/// On which side a copy failed.
#[derive(Clone, Debug)]
pub enum CopyFailure {
    /// The source can't be read, or isn't what it must be.
    Source(Error),
    /// The target can't be written.
    Target(Error),
}

impl CopyFailure {
    /// What went wrong, on whichever side.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::Source(error) | Self::Target(error) => error,
        }
    }
}

/// The name of a file until it is published.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".tmp");
    name.into()
}

/// A small file's bytes.
pub(super) fn read(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u8>> {
    let opened = vfs.open(path, Access::Read);
    let file = opened.map_err(|error| Error::io("open", path, error))?;
    let bytes = file
        .len()
        .map_err(|error| Error::io("measure", path, error))?;
    if bytes > SMALL_BYTES_MAX {
        let what = format!("it is over {SMALL_BYTES_MAX} bytes");
        return Err(Error::damaged(Damage::new(path, 0, bytes, what)));
    }
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let read = file.read_at(&mut buffer, 0);
    buffer.truncate(read.map_err(|error| Error::io("read", path, error))?);
    Ok(buffer)
}

/// Writes a small file, synced and under its name; that is durable once the folder has been synced.
pub(super) fn publish(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let write = || {
        let created = vfs.open(&temporary, Access::CreateOrTruncate);
        let file = created.map_err(|error| Error::io("create", &temporary, error))?;
        file.write_at(bytes, 0)
            .map_err(|error| Error::io("write", &temporary, error))?;
        file.sync_data()
            .map_err(|error| Error::io("sync", &temporary, error))?;
        vfs.rename(&temporary, path)
            .map_err(|error| Error::io("publish", path, error))
    };
    write().inspect_err(|_| {
        // What can't be removed counts for nothing.
        let _ = vfs.remove(&temporary);
    })
}

/// Syncs a folder.
pub(super) fn sync_folder(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    let synced = vfs.sync_dir(path);
    synced.map_err(|error| Error::io("sync the folder", path, error))
}

/// Reads a file to its end and checks that it is what it must be; hands on each piece with its offset.
fn read_expected(
    vfs: &dyn Vfs,
    path: &Path,
    expected: Expected,
    each: &mut dyn FnMut(&[u8], u64) -> Result<(), CopyFailure>,
) -> Result<(), CopyFailure> {
    let failed = |error| CopyFailure::Source(Error::io("read", path, error));
    let file = vfs.open(path, Access::Read).map_err(failed)?;
    let bytes = file.len().map_err(failed)?;
    let damaged = |what: &str| {
        let damage = Damage::new(path, 0, expected.bytes, what);
        CopyFailure::Source(Error::damaged(damage))
    };
    if bytes != expected.bytes {
        return Err(damaged(&format!("it has {bytes} bytes")));
    }
    let (mut sum, mut offset) = (digest(), 0);
    let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES))];
    while offset < bytes {
        let read = file.read_at(&mut chunk, offset).map_err(failed)?;
        let piece = chunk.get(..read).unwrap_or_default();
        if piece.is_empty() || offset + read as u64 > bytes {
            return Err(damaged("its length changes"));
        }
        sum.update(piece);
        each(piece, offset)?;
        offset += read as u64;
    }
    if sum.digest128() != expected.digest {
        return Err(damaged("its content doesn't have its digest"));
    }
    Ok(())
}

/// Reads a file and checks that it is what it must be. `told` hears of the bytes as they are read.
///
/// # Errors
/// `Damaged` if it isn't, or what the disk answers.
pub fn digest_of(
    vfs: &dyn Vfs,
    path: &Path,
    expected: Expected,
    told: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut each = |piece: &[u8], _| {
        told(piece.len() as u64);
        Ok(())
    };
    read_expected(vfs, path, expected, &mut each).map_err(CopyFailure::into_error)
}

/// Copies a file and checks on the way that it is what it must be. The copy is synced and under its name
/// then; the name is durable once the folder has been synced. Nothing is left of a copy that failed.
///
/// # Errors
/// What keeps the source from being read, or the target from being written.
pub(super) fn copy(
    vfs: &dyn Vfs,
    from: &Path,
    to: &Path,
    expected: Expected,
) -> Result<(), CopyFailure> {
    let temporary = temporary(to);
    let target = |action, error| CopyFailure::Target(Error::io(action, &temporary, error));
    let write = || {
        let created = vfs.open(&temporary, Access::CreateOrTruncate);
        let file = created.map_err(|error| target("create", error))?;
        read_expected(vfs, from, expected, &mut |piece, offset| {
            let written = file.write_at(piece, offset);
            written.map_err(|error| target("write", error))
        })?;
        file.sync_data().map_err(|error| target("sync", error))?;
        let renamed = vfs.rename(&temporary, to);
        renamed.map_err(|error| target("publish", error))
    };
    write().inspect_err(|_| {
        // What can't be removed counts for nothing.
        let _ = vfs.remove(&temporary);
    })
}

/// Gives a file a second name, or copies it where that can't be; `true` if it was linked.
///
/// # Errors
/// As for a copy.
pub fn link_or_copy(
    vfs: &dyn Vfs,
    from: &Path,
    to: &Path,
    expected: Expected,
) -> Result<bool, CopyFailure> {
    match vfs.link(from, to) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::Unsupported
            | ErrorKind::CrossesDevices
            | ErrorKind::PermissionDenied
            | ErrorKind::TooManyLinks => copy(vfs, from, to, expected).map(|()| false),
            _ => Err(CopyFailure::Target(Error::io("link", to, error))),
        },
    }
}
