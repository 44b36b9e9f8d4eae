//! The seam to the disk: every byte that Kintsu reads or writes passes through [`Vfs`] and [`File`].
//!
//! A third-party implementation must keep these rules, on which recovery stands:
//! - a write is durable only after [`File::sync_data`] of that file has returned `Ok`;
//! - creating, linking, renaming or removing a name is durable only after [`Vfs::sync_dir`] of its folder;
//! - [`Vfs::rename`] replaces an existing target in one step;
//! - an error from a sync means that what was written since the last good sync may be gone for good.
//!
//! Besides:
//! - a file may be open several times; all see each write at once, and a sync through one covers
//!   what was written through all;
//! - calls on one file may come from several threads at a time; overlapping writes don't;
//! - paths are those that the caller of the store gave, with names of its files joined to them;
//! - errors are told apart by [`io::Error::kind`] alone, so the kinds named below matter, and so do
//!   `StorageFull`, `QuotaExceeded` and `ReadOnlyFilesystem`.
//!
//! [`DiskVfs`] is the real disk. With the feature `testing` there are also a simulated one and a
//! wrapper that injects faults: see `kintsu::testing`.

#[cfg(not(unix))]
compile_error!(
    "Kintsu keeps its promises on Unix only so far: its disk needs positional reads, flock and \
     directory syncs. On Windows, run it under WSL 2, on a Linux file system; or bring your own \
     implementation of `vfs::Vfs`."
);

#[cfg(unix)]
mod direct;
#[cfg(unix)]
mod disk;
#[cfg(any(test, feature = "testing"))]
mod fault;
mod file_system;
#[cfg(unix)]
#[allow(unsafe_code, reason = "the copy out of a mapping")]
mod mapped;
#[cfg(any(test, feature = "testing"))]
mod memory;
#[cfg(any(test, feature = "testing"))]
mod random;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(unix)]
pub use disk::DiskVfs;
#[cfg(any(test, feature = "testing"))]
pub use fault::{Fault, FaultKind, FaultVfs, OperationKind, SyncFailure};
#[cfg(any(test, feature = "testing"))]
pub use memory::{LostPages, MemoryVfs, TearUnit};
#[cfg(any(test, feature = "testing"))]
pub use random::SeededRng;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, to read through the page cache.
    Read,
    /// An existing file, to read what the disk itself holds: past the page cache. Any offset and
    /// length may be asked for; alignment is the implementation's business. Call it only after the
    /// file has been synced. `Unsupported` where the file system has no such way.
    ReadDirect,
    /// An existing file that is sealed and that nobody writes or cuts any more, to read through a mapping
    /// into memory: no system call a read, but what would else be an error of a read kills the process.
    /// `Unsupported` where there is no such way.
    ReadMapped,
    /// An existing file, to read and write.
    Write,
    /// A new, empty file, to read and write; `AlreadyExists` if the name is taken.
    CreateNew,
    /// An empty file, to read and write; an existing one is emptied.
    CreateOrTruncate,
}

/// A file. Positional, so that threads share one without a lock.
#[allow(
    clippy::len_without_is_empty,
    reason = "it asks the disk and can fail; a file is no container"
)]
pub trait File: Send + Sync + Debug {
    /// Reads until `buffer` is full or the file ends; returns the bytes read. Interrupted calls are
    /// taken up again.
    ///
    /// # Errors
    /// Whatever the disk answers; never a short read before the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, lengthening the file if need be.
    ///
    /// # Errors
    /// Whatever the disk answers; how much has then been written is unknown.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file's bytes, and its length, durable.
    ///
    /// # Errors
    /// After an error nothing written since the last good sync can be believed, and calling again
    /// proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or lengthens the file; new bytes read as zero.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn len(&self) -> io::Result<u64>;

    /// Makes the file at least `len` bytes long and takes the space from the file system now; new
    /// bytes read as zero.
    ///
    /// # Errors
    /// `StorageFull` when there is no room, and then the store isn't harmed.
    fn preallocate(&self, len: u64) -> io::Result<()>;
}

/// A held lock; let go when dropped.
pub trait Lock: Send + Sync + Debug {}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its folder; not UTF-8 names are shown with replacement characters.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// What is known of the file system under a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// A short name, such as `ext4`, or the kernel's number for it.
    pub name: String,
    /// Set if it can't keep the rules above, with the reason; `Db::open` refuses it.
    pub refused: Option<&'static str>,
}

/// A file system.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `Unsupported` as [`Access`] says, or whatever the disk answers.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Creates a folder and its parents, each durable before this returns.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or whatever the disk answers.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Renames a file, replacing the target in one step; or a folder, with all that is in it, whose target
    /// must be missing or an empty folder.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, or whatever the disk answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name (a hard link): both are the same bytes, and each stays when the other is
    /// removed.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; `Unsupported`, `CrossesDevices`, `PermissionDenied` or
    /// `TooManyLinks` where there is no such thing, and then a copy must do; or whatever the disk answers.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the last component of a path is a symbolic link; a missing one is none.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn is_link(&self, path: &Path) -> io::Result<bool> {
        let _ = path;
        Ok(false)
    }

    /// Removes a file. Those who have it open can go on reading it.
    ///
    /// # Errors
    /// `NotFound`, or whatever the disk answers.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the creations, renames and removals in a folder durable.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive advisory lock on a file, creating it if need be.
    ///
    /// # Errors
    /// `WouldBlock` if someone else holds it, in this process or another.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// What is known of the file system that holds `path`.
    ///
    /// # Errors
    /// Whatever the disk answers.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
}
