//! The disk of the operating system.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::direct::DirectFile;
use super::file_system;
use super::mapped::MappedFile;
use super::{Access, DirEntry, File, FileSystem, Lock, Vfs};

/// Zeros written in one call where the file system can't preallocate, in bytes.
const ZEROS_BYTES: usize = 256 << 10;

/// The disk of the operating system, on Unix.
///
/// What it stands on:
/// - syncs go down to the medium: `fdatasync` on Linux, `F_FULLFSYNC` on macOS, where the standard
///   library uses it for both kinds of sync (a plain `fsync` there stops at the drive's cache);
/// - [`Access::ReadDirect`] is `O_DIRECT` where the file system takes it; elsewhere the pages are
///   dropped from the cache (`posix_fadvise`) before each read, which leaves out none that were
///   synced;
/// - the lock is `flock` on an open file: it falls with the process that holds it, and a second
///   opener in the same process is refused like one in another.
///
/// Holds no state; every value is the same disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskVfs;

impl Vfs for DiskVfs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::ReadDirect => return Ok(Arc::new(DirectFile::open(path)?)),
            Access::ReadMapped => return Ok(Arc::new(MappedFile::open(path)?)),
            Access::Write => {
                options.write(true);
            }
            Access::CreateNew => {
                options.write(true).create_new(true);
            }
            Access::CreateOrTruncate => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(DiskFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        match fs::metadata(path) {
            // It may be there since a moment before a crash, and its name not yet durable.
            Ok(found) if found.is_dir() => return sync_existing(parent(path)),
            Ok(_) => return Err(ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let folder = parent(path);
        self.create_dir_all(folder)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(folder)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir: entry.file_type()?.is_dir(),
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(found) => Ok(found.is_symlink()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(or_working_folder(path))?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(DiskLock { file })),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        // Asked before the folder is made, the answer is that of the folder which will hold it.
        let mut path = path;
        loop {
            match file_system::of(or_working_folder(path)) {
                Err(error) if error.kind() == ErrorKind::NotFound => match path.parent() {
                    Some(above) => path = above,
                    None => return Err(error),
                },
                answer => return answer,
            }
        }
    }
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().map_or(path, or_working_folder)
}

/// The empty path, as the parent of a bare name, is the working folder.
fn or_working_folder(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Syncs a folder that isn't ours: one that may not be opened is left to its owner.
fn sync_existing(folder: &Path) -> io::Result<()> {
    match DiskVfs.sync_dir(folder) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

/// The open file carries the lock, and the death of the process lets go of it.
#[derive(Debug)]
struct DiskLock {
    file: fs::File,
}

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child that another thread is starting right now:
        // until it runs its program it shares the open file. An error leaves what closing does.
        let _ = self.file.unlock();
    }
}

/// An open file, through the page cache.
#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        read_full(&self.0, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        preallocate_by(allocate, &self.0, len)
    }
}

/// Preallocates by `allocate`, or by writing zeros where that is `Unsupported`.
fn preallocate_by(
    allocate: impl Fn(&fs::File, u64) -> io::Result<()>,
    file: &fs::File,
    len: u64,
) -> io::Result<()> {
    let before = file.metadata()?.len();
    let done = match allocate(file, len) {
        Err(error) if error.kind() == ErrorKind::Unsupported => write_zeros(file, before, len),
        done => done,
    };
    if done.is_err() {
        // A full disk may have given a part: give it back, and keep the first error.
        let _ = file.set_len(before);
    }
    done
}

/// Where no file reaches: offsets from here on, which may come from a damaged file, aren't worth the
/// kernel's refusal.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 62;

/// Reads until the buffer is full or the file ends.
pub(super) fn read_full(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    if offset >= FILE_BYTES_MAX {
        return Ok(0);
    }
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Takes the space of the first `len` bytes; `Unsupported` where the file system has no such call.
fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(()); // the call refuses an empty range
    }
    loop {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                return Err(ErrorKind::Unsupported.into());
            }
            done => return Ok(done?),
        }
    }
}

/// Takes space the slow way: by writing zeros from the end of the file on.
fn write_zeros(file: &fs::File, from: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut at = from;
    while at < len {
        let part = usize::try_from(len - at)
            .unwrap_or(ZEROS_BYTES)
            .min(ZEROS_BYTES);
        file.write_all_at(zeros.get(..part).unwrap_or_default(), at)?;
        at += part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
