//! A simulated disk that knows what is durable.
//!
//! It is a page cache above a disk. Programs see the cache; a sync moves a file's bytes and length,
//! or a folder's names, to the disk; and [`MemoryVfs::crash`] gives the disk after a loss of power,
//! which decides anew for every unsynced thing whether it got there.

mod change;
mod content;
mod disk;
mod inode;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use self::change::{Name, normal};
use self::disk::Disk;
use super::{Access, DirEntry, File, FileSystem, Lock, Vfs};

/// How much a simulated disk writes as a whole; a torn unit takes everything in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TearUnit {
    /// 512 bytes.
    Sector,
    /// 4,096 bytes: unsynced bytes endanger durable ones in the same page.
    Page,
}

/// What the page cache shows of pages that a failed sync has lost. Either way they count as clean,
/// and later syncs don't write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostPages {
    /// The new bytes, until the cache is dropped (ext4, xfs).
    Kept,
    /// The bytes on the disk (btrfs).
    Reverted,
}

/// A simulated disk in memory, with a model of what survives a loss of power.
///
/// A clone is the same disk; [`MemoryVfs::fork`] makes another. Files are sparse, and forks share
/// their pages until one side writes, so that a fork costs about as much as the disk has files.
/// Paths have one root: `/a`, `a` and `./a` are the same.
///
/// What is durable, and what a loss of power does to the rest:
/// - bytes and length of a file are durable once [`File::sync_data`] has returned; each unsynced
///   unit is kept, dropped or turned to garbage by itself, and so is a change of length;
/// - creations, links, renames and removals are durable once [`Vfs::sync_dir`] has returned; until then
///   either the first few survive or any of them do, a rename always as one;
/// - folders are durable at once; renaming one is a rename like any other;
/// - [`Access::ReadDirect`] shows the durable bytes and length and nothing else.
#[derive(Clone, Default)]
pub struct MemoryVfs {
    disk: Arc<Mutex<Disk>>,
}

impl fmt::Debug for MemoryVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk.lock();
        f.debug_struct("MemoryVfs")
            .field("files", &disk.inodes.len())
            .field("capacity", &disk.capacity)
            .finish_non_exhaustive()
    }
}

impl MemoryVfs {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn from_disk(disk: Disk) -> Self {
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// The disk after a loss of power: another disk, on which nothing is open, locked or unsynced.
    /// This one stays as it is, and so do the handles to it. The same seed gives the same disk.
    #[must_use]
    pub fn crash(&self, seed: u64, unit: TearUnit) -> Self {
        Self::from_disk(self.disk.lock().crash(seed, unit))
    }

    /// The disk after the death of the process: another disk, with everything that was written,
    /// synced or not (what wasn't still isn't), and nothing open or locked.
    #[must_use]
    pub fn kill(&self) -> Self {
        Self::from_disk(self.disk.lock().without_processes())
    }

    /// An independent copy, synced or not as this one is; nothing in it is open or locked.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.kill()
    }

    /// Limits the disk to so many bytes, in whole pages of 4,096. Writes that need a page more, and
    /// preallocation, answer `StorageFull`; writes to pages that the file has never do.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.disk.lock().capacity = capacity;
    }

    /// Bytes free; `None` without a limit.
    #[must_use]
    pub fn bytes_free(&self) -> Option<u64> {
        let disk = self.disk.lock();
        disk.capacity
            .map(|_| disk.pages_free() * content::PAGE as u64)
    }

    /// Drops what is clean from the page cache: pages lost by a failed sync show what the disk has.
    pub fn drop_caches(&self) {
        for inode in self.disk.lock().inodes.values_mut() {
            inode.drop_cache();
        }
    }

    /// A file's bytes as programs see them.
    #[must_use]
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        let inode = disk.find(&Name::of(path.as_ref()).ok()?).ok()?;
        Some(disk.inode(inode).ok()?.cached.to_vec())
    }

    /// The bytes of a file that are on the disk, whether or not its name is.
    #[must_use]
    pub fn read_durable(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        let inode = disk.find(&Name::of(path.as_ref()).ok()?).ok()?;
        Some(disk.inode(inode).ok()?.durable.to_vec())
    }

    /// Puts a file and its folders in place, content and name durable. An existing file gets the
    /// new content; those who have it open see that. False if the path is a folder's.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> bool {
        let done = Name::of(path.as_ref());
        done.and_then(|at| self.disk.lock().put_file(&at, bytes.as_ref()))
            .is_ok()
    }

    /// Removes a file, durably. False if there is none.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> bool {
        Name::of(path.as_ref())
            .and_then(|at| self.disk.lock().take_file(&at))
            .is_ok()
    }

    /// Cuts or lengthens a file, in the cache and on the disk. False if there is none.
    pub fn truncate_file(&self, path: impl AsRef<Path>, len: u64) -> bool {
        self.rewrite(path.as_ref(), |content| content.set_len(len))
    }

    /// Flips bit 0 to 7 of a byte, in the cache and on the disk. False if there is no such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> bool {
        let inside = |len: u64| offset < len && bit < 8;
        let path = path.as_ref();
        self.file_bytes(path).is_some_and(inside)
            && self.rewrite(path, |content| {
                let mut byte = [0];
                if content.read(&mut byte, offset) == 1 {
                    content.put(&[byte[0] ^ (1 << bit)], offset);
                }
            })
    }

    /// Overwrites part of a file, in the cache and on the disk; what passes its end is left out.
    /// False if there is no such file.
    pub fn overwrite(&self, path: impl AsRef<Path>, offset: u64, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        self.rewrite(path.as_ref(), |content| {
            let room = usize::try_from(content.len().saturating_sub(offset)).unwrap_or(usize::MAX);
            content.put(&bytes[..room.min(bytes.len())], offset);
        })
    }

    /// From now on the pages of 4,096 bytes that this part of a file touches can't be read, until they are written
    /// anew. False if there is no such file.
    pub fn wear_out(&self, path: impl AsRef<Path>, offset: u64, bytes: u64) -> bool {
        let mut disk = self.disk.lock();
        let found = Name::of(path.as_ref()).and_then(|at| disk.find(&at));
        let inode = found.and_then(|inode| disk.inode_mut(inode));
        inode
            .map(|inode| inode.wear_out(offset, offset.saturating_add(bytes)))
            .is_ok()
    }

    /// A file's length as programs see it.
    #[must_use]
    pub fn file_bytes(&self, path: impl AsRef<Path>) -> Option<u64> {
        let disk = self.disk.lock();
        let inode = disk.find(&Name::of(path.as_ref()).ok()?).ok()?;
        Some(disk.inode(inode).ok()?.cached.len())
    }

    /// The names of the files in a folder, sorted; none if there is no such folder.
    #[must_use]
    pub fn file_names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let disk = self.disk.lock();
        let folder = disk.folders.get(&normal(folder.as_ref()));
        folder
            .map(|folder| folder.cached.keys().cloned().collect())
            .unwrap_or_default()
    }

    fn rewrite(&self, path: &Path, change: impl Fn(&mut content::Content)) -> bool {
        let mut disk = self.disk.lock();
        let found = Name::of(path).and_then(|at| disk.find(&at));
        match found.and_then(|inode| disk.inode_mut(inode)) {
            Ok(inode) => {
                inode.rewrite(change);
                true
            }
            Err(_) => false,
        }
    }

    /// What a failed sync of a folder leaves: its unsynced changes count as written and never are.
    pub(super) fn lose_dir_changes(&self, path: &Path) {
        self.disk.lock().lose_dir_changes(path);
    }

    /// [`Vfs::open`] with the type of the handle known.
    pub(super) fn open_file(&self, path: &Path, access: Access) -> io::Result<MemoryFile> {
        let at = Name::of(path)?;
        let mut disk = self.disk.lock();
        let inode = match (disk.find(&at), access) {
            (Ok(_), Access::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Ok(inode), Access::CreateOrTruncate) => {
                disk.inode_mut(inode)?.set_len(0);
                inode
            }
            (Ok(inode), Access::Read | Access::ReadDirect | Access::ReadMapped | Access::Write) => {
                inode
            }
            (Err(error), Access::CreateNew | Access::CreateOrTruncate)
                if error.kind() == ErrorKind::NotFound =>
            {
                disk.create(&at)?
            }
            (Err(error), _) => return Err(error),
        };
        disk.inode_mut(inode)?.handles += 1;
        Ok(MemoryFile {
            disk: Arc::clone(&self.disk),
            inode,
            access,
        })
    }
}

impl Vfs for MemoryVfs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.open_file(path, access)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = normal(path);
        let disk = self.disk.lock();
        let Some(folder) = disk.folders.get(&path) else {
            let is_file = Name::of(&path).and_then(|at| disk.find(&at)).is_ok();
            let kind = if is_file {
                ErrorKind::NotADirectory
            } else {
                ErrorKind::NotFound
            };
            return Err(kind.into());
        };
        let files = folder.cached.keys().map(|name| DirEntry {
            name: name.clone(),
            is_dir: false,
        });
        let below = disk
            .folders
            .keys()
            .filter(|other| other.parent() == Some(&path));
        let folders = below.filter_map(|other| {
            let name = other.file_name()?.to_string_lossy().into_owned();
            Some(DirEntry { name, is_dir: true })
        });
        let mut entries: Vec<DirEntry> = files.chain(folders).collect();
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if disk.folders.contains_key(&normal(from)) {
            return disk.rename_folder(&normal(from), &normal(to));
        }
        disk.rename(&Name::of(from)?, &Name::of(to)?)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.lock().add_link(&Name::of(from)?, &Name::of(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().remove(&Name::of(path)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.lock().sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let at = Name::of(path)?;
        let mut disk = self.disk.lock();
        let inode = match disk.find(&at) {
            Err(error) if error.kind() == ErrorKind::NotFound => disk.create(&at)?,
            found => found?,
        };
        if !disk.locked.insert(inode) {
            return Err(ErrorKind::WouldBlock.into());
        }
        disk.inode_mut(inode)?.handles += 1;
        Ok(Box::new(MemoryLock {
            disk: Arc::clone(&self.disk),
            inode,
        }))
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem {
            name: "memory".into(),
            refused: None,
        })
    }
}

struct MemoryLock {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
}

impl fmt::Debug for MemoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLock")
            .field("inode", &self.inode)
            .finish_non_exhaustive()
    }
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        disk.locked.remove(&self.inode);
        close(&mut disk, self.inode);
    }
}

/// An open file of the simulated disk.
pub(super) struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    access: Access,
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile")
            .field("inode", &self.inode)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        close(&mut self.disk.lock(), self.inode);
    }
}

fn close(disk: &mut Disk, inode: u64) {
    if let Some(inode) = disk.inodes.get_mut(&inode) {
        inode.handles = inode.handles.saturating_sub(1);
    }
}

impl MemoryFile {
    /// What a failed sync leaves.
    pub(super) fn lose_unsynced(&self, lost: LostPages) -> io::Result<()> {
        self.disk.lock().inode_mut(self.inode)?.lose(lost);
        Ok(())
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::Read | Access::ReadDirect | Access::ReadMapped => {
                Err(ErrorKind::PermissionDenied.into())
            }
            Access::Write | Access::CreateNew | Access::CreateOrTruncate => Ok(()),
        }
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.lock();
        let inode = disk.inode(self.inode)?;
        let end = offset.saturating_add(buffer.len() as u64);
        if !inode.is_readable(offset, end) {
            return Err(io::Error::other("a bad sector"));
        }
        Ok(match self.access {
            Access::ReadDirect => inode.durable.read(buffer, offset),
            _ => inode.cached.read(buffer, offset),
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(ErrorKind::FileTooLarge)?;
        let mut disk = self.disk.lock();
        let room = disk.pages_free();
        let inode = disk.inode_mut(self.inode)?;
        if inode.pages_missing(offset, end) <= room {
            inode.write(bytes, offset);
            return Ok(());
        }
        // As on a real disk, what fits has been written.
        let fits = usize::try_from(inode.end_that_fits(offset, end, room) - offset);
        inode.write(&bytes[..fits.unwrap_or(0)], offset);
        Err(ErrorKind::StorageFull.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().inode_mut(self.inode)?.sync();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.disk.lock().inode_mut(self.inode)?.set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.lock();
        let inode = disk.inode(self.inode)?;
        Ok(match self.access {
            Access::ReadDirect => inode.durable.len(),
            _ => inode.cached.len(),
        })
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut disk = self.disk.lock();
        let room = disk.pages_free();
        let inode = disk.inode_mut(self.inode)?;
        if inode.pages_missing(0, len) > room {
            return Err(ErrorKind::StorageFull.into());
        }
        inode.preallocate(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
