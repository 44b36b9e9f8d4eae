//! The disk that tells a [`DiskWatch`] how its calls went.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::environment::Clock;
use crate::vfs::{Access, DirEntry, File, FileSystem, Lock, Vfs};

use super::DiskWatch;

/// A sync of more than this says little of the disk's own pace.
const SMALL_SYNC_BYTES: u64 = 1 << 20;
/// A disk that still moves so many bytes a second isn't held up, only busy with much.
const BYTES_PER_SECOND_MIN: u64 = 16 << 20;

/// A disk whose calls below one folder are watched; others are passed on unseen.
#[derive(Clone, Debug)]
pub(crate) struct WatchedVfs {
    inner: Arc<dyn Vfs>,
    watcher: Arc<Watcher>,
}

#[derive(Debug)]
struct Watcher {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    slow_after: Duration,
    watch: Arc<DiskWatch>,
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    watcher: Arc<Watcher>,
    /// Written since the last sync through this handle.
    unsynced_bytes: AtomicU64,
}

impl WatchedVfs {
    /// Watches `inner` below `folder`; a call that takes `slow_after`, and what its bytes may take, is slow.
    pub fn new(
        inner: Arc<dyn Vfs>,
        folder: &Path,
        clock: Arc<dyn Clock>,
        slow_after: Duration,
        watch: Arc<DiskWatch>,
    ) -> Self {
        let watcher = Watcher {
            folder: folder.to_owned(),
            clock,
            slow_after,
            watch,
        };
        Self {
            inner,
            watcher: Arc::new(watcher),
        }
    }

    /// A call on names. Its time is the file system's, in memory for the most part; only its failure counts.
    fn named<T>(&self, path: &Path, act: impl FnOnce(&dyn Vfs) -> io::Result<T>) -> io::Result<T> {
        let outcome = act(&*self.inner);
        if let Err(error) = &outcome
            && path.starts_with(&self.watcher.folder)
        {
            self.watcher.failed(path, error);
        }
        outcome
    }
}

impl Watcher {
    fn failed(&self, path: &Path, error: &io::Error) {
        if is_the_disk_s(error.kind()) && !is_out_of_handles(error) {
            self.watch.failed(self.clock.elapsed(), path, error);
        }
    }

    /// What a call may take that moves so many bytes.
    fn allowed(&self, bytes: u64) -> Duration {
        self.slow_after
            + Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND_MIN)
    }

    /// A read or write. The coarse clock is enough to find one that was held up.
    fn moved<T>(
        &self,
        path: &Path,
        bytes: usize,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let started = self.clock.elapsed_coarse();
        let outcome = act();
        let taken = self.clock.elapsed_coarse().saturating_sub(started);
        if taken >= self.slow_after && taken >= self.allowed(bytes as u64) {
            self.watch.was_slow(self.clock.elapsed(), path, taken);
        }
        if let Err(error) = &outcome {
            self.failed(path, error);
        }
        outcome
    }

    fn synced(
        &self,
        path: &Path,
        bytes: u64,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let started = self.clock.elapsed();
        let allowed = self.allowed(bytes);
        let waiting = self.watch.sync_begins(started, allowed);
        let outcome = act();
        let now = self.clock.elapsed();
        let taken = now.saturating_sub(started);
        self.watch
            .sync_ends(waiting, now, taken, bytes <= SMALL_SYNC_BYTES);
        if taken >= allowed {
            self.watch.was_slow(now, path, taken);
        }
        if let Err(error) = &outcome {
            self.failed(path, error);
        }
        outcome
    }
}

/// Whether the process, or the machine, has too many files open: `ENFILE` and `EMFILE` have no kind of their own.
fn is_out_of_handles(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

/// Whether an error speaks of the disk, and not of what it was asked for. A full disk isn't a bad one.
fn is_the_disk_s(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::PermissionDenied
            | ErrorKind::Unsupported
            | ErrorKind::WouldBlock
            | ErrorKind::InvalidInput
            | ErrorKind::Interrupted
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::CrossesDevices
            | ErrorKind::TooManyLinks
            | ErrorKind::InvalidFilename
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::OutOfMemory
    )
}

impl Vfs for WatchedVfs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = match self.inner.open(path, access) {
            Ok(inner) => inner,
            // Only asked for: a disk that is mounted read-only, or has none of this, is no bad disk.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => return Err(error),
            Err(error) => return self.named(path, |_| Err(error)),
        };
        if !path.starts_with(&self.watcher.folder) {
            return Ok(inner);
        }
        Ok(Arc::new(WatchedFile {
            inner,
            path: path.to_owned(),
            watcher: Arc::clone(&self.watcher),
            unsynced_bytes: AtomicU64::new(0),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        // Before there is a store nothing is watched: the folder may be on a disk that is read-only.
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.named(path, |inner| inner.list(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.named(to, |inner| inner.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.named(to, |inner| inner.link(from, to))
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        self.named(path, |inner| inner.is_link(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.named(path, |inner| inner.remove(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.watcher.folder) {
            return self.inner.sync_dir(path);
        }
        self.watcher.synced(path, 0, || self.inner.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.inner.file_system(path)
    }
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = buffer.len();
        let read = || self.inner.read_at(buffer, offset);
        self.watcher.moved(&self.path, bytes, read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.unsynced_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let write = || self.inner.write_at(bytes, offset);
        self.watcher.moved(&self.path, bytes.len(), write)
    }

    fn sync_data(&self) -> io::Result<()> {
        let bytes = self.unsynced_bytes.swap(0, Ordering::Relaxed);
        let sync = || self.inner.sync_data();
        self.watcher.synced(&self.path, bytes, sync)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let cut = || self.inner.set_len(len);
        self.watcher.moved(&self.path, 0, cut)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner
            .len()
            .inspect_err(|error| self.watcher.failed(&self.path, error))
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        // Where there is no such call it writes zeros, so it may take what they take.
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        let take = || self.inner.preallocate(len);
        self.watcher.moved(&self.path, bytes, take)
    }
}
