//! The real disk, with a simulated one beside it that is told the same: it knows what a loss of power would
//! leave of what the real one has in its caches.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use kintsu::testing::MemoryVfs;
use kintsu::vfs::{Access, DirEntry, DiskVfs, File, FileSystem, Lock, Vfs};
use parking_lot::{Mutex, RwLock};

use crate::failure::{Failure, Outcome};

/// Every change is made on the real disk, and then noted on the simulated one; reads are the real disk's. A sync is
/// noted after the real one has returned, so that what is held to be durable has been.
#[derive(Clone, Debug)]
pub struct MirrorVfs {
    memory: MemoryVfs,
    /// Held while names change, so that both disks see the same order.
    names: Arc<Mutex<()>>,
}

impl MirrorVfs {
    /// Two disks on which the store's folder is yet to be made.
    pub fn new(store: &Path) -> io::Result<Self> {
        let memory = MemoryVfs::new();
        if let Some(above) = store.parent() {
            memory.create_dir_all(above)?;
        }
        Ok(Self {
            memory,
            names: Arc::default(),
        })
    }

    /// The simulated disk.
    pub fn memory(&self) -> &MemoryVfs {
        &self.memory
    }

    fn both<T>(&self, change: impl Fn(&dyn Vfs) -> io::Result<T>) -> io::Result<T> {
        let _names = self.names.lock();
        let done = change(&DiskVfs)?;
        change(&self.memory)?;
        Ok(done)
    }
}

impl Vfs for MirrorVfs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let _names = self.names.lock();
        let disk = DiskVfs.open(path, access)?;
        if matches!(access, Access::ReadDirect | Access::ReadMapped) {
            return Ok(disk);
        }
        let memory = self.memory.open(path, access)?;
        Ok(Arc::new(MirrorFile {
            disk,
            memory,
            turn: RwLock::new(()),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.both(|vfs| vfs.create_dir_all(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        DiskVfs.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.both(|vfs| vfs.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.both(|vfs| vfs.link(from, to))
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        DiskVfs.is_link(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.both(|vfs| vfs.remove(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // What is renamed meanwhile isn't covered by a sync, so nothing is.
        let _names = self.names.lock();
        DiskVfs.sync_dir(path)?;
        self.memory.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let _names = self.names.lock();
        let lock = DiskVfs.lock(path)?;
        // Only for the name's sake: the real lock counts.
        drop(self.memory.lock(path)?);
        Ok(lock)
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        DiskVfs.file_system(path)
    }
}

#[derive(Debug)]
struct MirrorFile {
    disk: Arc<dyn File>,
    memory: Arc<dyn File>,
    /// Held by a sync alone: what is written meanwhile isn't covered by it.
    turn: RwLock<()>,
}

impl File for MirrorFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _turn = self.turn.read();
        self.disk.write_at(bytes, offset)?;
        self.memory.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _turn = self.turn.write();
        self.disk.sync_data()?;
        self.memory.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)?;
        self.memory.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.disk.preallocate(len)?;
        self.memory.preallocate(len)
    }
}

/// Writes a folder of a simulated disk out to the real one.
pub fn materialise(memory: &MemoryVfs, from: &Path, to: &Path) -> Outcome {
    let written = || -> io::Result<()> {
        fs::create_dir(to)?;
        let entries = match memory.list(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let bytes = memory.read_file(from.join(&entry.name));
            fs::write(to.join(&entry.name), bytes.unwrap_or_default())?;
        }
        Ok(())
    };
    written().map_err(|error| Failure::file("write what a loss of power leaves to", to, &error))
}
