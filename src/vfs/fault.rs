//! A disk that fails when it is told to, and writes down what was asked of it.

mod plan;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::plan::{Fault, FaultKind, OperationKind, SyncFailure};
use self::plan::{Hit, Plan, Scribe};
use super::memory::{LostPages, MemoryFile};
use super::{Access, DirEntry, File, FileSystem, Lock, MemoryVfs, Vfs};

/// Wraps a disk: counts the operations, writes them down, makes chosen ones fail, and plays the
/// loss of power by letting nothing through any more.
///
/// Every call of [`Vfs`] and [`File`] is one operation; those refused after a loss of power aren't
/// counted. A clone shares counts, faults and script with its original. Threads may use it, but
/// which of them meets a fault is then up to their order. Names in scripts and filters are those
/// under which a file was opened, without the folder.
///
/// A test that fails every operation in turn:
///
/// ```
/// use kintsu::testing::{Fault, FaultKind, FaultVfs, MemoryVfs};
/// use kintsu::vfs::{Access, Vfs};
/// use std::path::{Path, PathBuf};
///
/// for n in 1.. {
///     let vfs = FaultVfs::on_memory(&MemoryVfs::new());
///     vfs.inject(Fault::once(n, FaultKind::Io));
///     let worked = vfs.open(Path::new("a"), Access::CreateNew).and_then(|file| {
///         file.write_at(b"bytes", 0)?;
///         file.sync_data()
///     });
///     assert_eq!(worked.is_ok(), vfs.faults_hit() == 0);
///     if worked.is_ok() {
///         assert_eq!(n, 4); // open, write and sync have each failed once
///         break;
///     }
/// }
/// ```
#[derive(Clone)]
pub struct FaultVfs {
    inner: Inner,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Clone, Debug)]
enum Inner {
    Any(Arc<dyn Vfs>),
    Memory(MemoryVfs),
}

impl fmt::Debug for FaultVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultVfs")
            .field("inner", &self.inner)
            .field("operations", &self.operations())
            .field("crashed", &self.crashed())
            .finish_non_exhaustive()
    }
}

impl FaultVfs {
    /// Wraps any disk. A sync that is made to fail isn't passed on; for disks that lose what was
    /// written then, see [`FaultVfs::on_memory`].
    #[must_use]
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self {
            inner: Inner::Any(inner),
            plan: Arc::default(),
        }
    }

    /// Wraps a simulated disk, on which a failed sync also loses what it should have written, as
    /// [`SyncFailure`] says.
    #[must_use]
    pub fn on_memory(memory: &MemoryVfs) -> Self {
        Self {
            inner: Inner::Memory(memory.clone()),
            plan: Arc::default(),
        }
    }

    /// Operations since the start, failed ones included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.plan.lock().operations()
    }

    /// Operations that change the disk ([`OperationKind::is_change`]), since the start.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.plan.lock().changes()
    }

    /// Operations of one kind, since the start.
    #[must_use]
    pub fn count(&self, kind: OperationKind) -> u64 {
        self.plan.lock().count(kind)
    }

    /// Arms a fault, beside those that are armed already.
    pub fn inject(&self, fault: Fault) {
        self.plan.lock().inject(fault);
    }

    /// Disarms all faults, also syncs that were still to report a failure late.
    pub fn clear_faults(&self) {
        self.plan.lock().clear_faults();
    }

    /// Operations that met a fault so far. 0 after a run means that it never got to the n-th
    /// operation: the loop over n is done.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.plan.lock().faults_hit()
    }

    /// Cuts the power after that many more operations: each later one fails and has no effect.
    /// Take the disk's state then from [`MemoryVfs::crash`].
    pub fn crash_after(&self, operations: u64) {
        self.plan.lock().crash_after(operations);
    }

    /// As [`FaultVfs::crash_after`], counting only operations that change the disk: a crash before
    /// or after a read leaves the same.
    pub fn crash_after_changes(&self, changes: u64) {
        self.plan.lock().crash_after_changes(changes);
    }

    /// Whether an operation has been refused because the power is off.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.plan.lock().crashed()
    }

    /// Writes down, from now on, each operation that changes the disk.
    pub fn record_changes(&self) {
        self.plan.lock().record(Scribe::Changes);
    }

    /// Writes down, from now on, each operation.
    pub fn record_everything(&self) {
        self.plan.lock().record(Scribe::Everything);
    }

    /// The lines written since the last call, such as `write 00000001.log 4096+512` (offset and
    /// length), `sync 00000001.log`, `rename a.tmp -> a`, `syncdir`; failed ones say why. In the
    /// order in which the operations ended.
    #[must_use]
    pub fn take_script(&self) -> Vec<String> {
        self.plan.lock().take_script()
    }

    fn vfs(&self) -> &dyn Vfs {
        match &self.inner {
            Inner::Any(vfs) => &**vfs,
            Inner::Memory(memory) => memory,
        }
    }

    fn simple<T>(
        &self,
        kind: OperationKind,
        what: &str,
        act: impl FnOnce(&dyn Vfs) -> io::Result<T>,
    ) -> io::Result<T> {
        run(&self.plan, kind, what, String::new, |hit| {
            Hit::apply(hit, || act(self.vfs()))
        })
    }
}

/// Counts an operation, does it as its fault demands, and writes it down.
fn run<T>(
    plan: &Mutex<Plan>,
    kind: OperationKind,
    what: &str,
    details: impl FnOnce() -> String,
    act: impl FnOnce(Option<Hit>) -> io::Result<T>,
) -> io::Result<T> {
    let (hit, recorded) = plan.lock().begin(kind, what)?;
    let result = act(hit);
    if recorded {
        let line = plan::line(kind, what, &details(), result.as_ref().err());
        plan.lock().write_line(line);
    }
    result
}

/// What a file is called in scripts and filters.
fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

impl Vfs for FaultVfs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let (kind, details) = match access {
            Access::Read => (OperationKind::Open, ""),
            Access::ReadDirect => (OperationKind::Open, "direct"),
            Access::ReadMapped => (OperationKind::Open, "mapped"),
            Access::Write => (OperationKind::Open, "to write"),
            Access::CreateNew => (OperationKind::Create, ""),
            Access::CreateOrTruncate => (OperationKind::Create, "or truncate"),
        };
        let name = name(path);
        let open = || {
            Ok(match &self.inner {
                Inner::Any(vfs) => InnerFile::Any(vfs.open(path, access)?),
                Inner::Memory(memory) => InnerFile::Memory(memory.open_file(path, access)?),
            })
        };
        let inner = run(
            &self.plan,
            kind,
            &name,
            || details.into(),
            |hit| Hit::apply(hit, open),
        )?;
        Ok(Arc::new(FaultFile {
            inner,
            path: path.to_owned(),
            name,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.simple(OperationKind::CreateDir, &name(path), |vfs| {
            vfs.create_dir_all(path)
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.simple(OperationKind::List, &name(path), |vfs| vfs.list(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = format!("{} -> {}", name(from), name(to));
        self.simple(OperationKind::Rename, &what, |vfs| vfs.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = format!("{} = {}", name(to), name(from));
        self.simple(OperationKind::Link, &what, |vfs| vfs.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.simple(OperationKind::Remove, &name(path), |vfs| vfs.remove(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let act = |hit| {
            let lose = |_| {
                if let Inner::Memory(memory) = &self.inner {
                    memory.lose_dir_changes(path);
                }
                Ok(())
            };
            sync(&self.plan, path, hit, lose, || self.vfs().sync_dir(path))
        };
        run(
            &self.plan,
            OperationKind::SyncDir,
            &name(path),
            String::new,
            act,
        )
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.simple(OperationKind::Lock, &name(path), |vfs| vfs.lock(path))
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.simple(OperationKind::FileSystem, &name(path), |vfs| {
            vfs.file_system(path)
        })
    }
}

/// Does a sync as its fault, or that of the sync before, demands.
fn sync(
    plan: &Mutex<Plan>,
    path: &Path,
    hit: Option<Hit>,
    lose: impl FnOnce(LostPages) -> io::Result<()>,
    act: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let late = plan.lock().take_late(path);
    let hit = match hit {
        None if !late => return act(),
        None => Hit::late(),
        Some(hit) if hit.happens_after() => return hit.apply_after(act),
        Some(hit) => hit,
    };
    match hit.sync_failure() {
        SyncFailure::PagesKept => lose(LostPages::Kept)?,
        SyncFailure::PagesReverted => lose(LostPages::Reverted)?,
        SyncFailure::ReportedLate => {
            lose(LostPages::Kept)?;
            if !late {
                plan.lock().report_late(path);
                return Ok(());
            }
        }
    }
    Err(hit.error())
}

#[derive(Debug)]
enum InnerFile {
    Any(Arc<dyn File>),
    Memory(MemoryFile),
}

#[derive(Debug)]
struct FaultFile {
    inner: InnerFile,
    path: PathBuf,
    name: String,
    plan: Arc<Mutex<Plan>>,
}

impl FaultFile {
    fn file(&self) -> &dyn File {
        match &self.inner {
            InnerFile::Any(file) => &**file,
            InnerFile::Memory(file) => file,
        }
    }

    fn run<T>(
        &self,
        kind: OperationKind,
        details: impl FnOnce() -> String,
        act: impl FnOnce(Option<Hit>) -> io::Result<T>,
    ) -> io::Result<T> {
        run(&self.plan, kind, &self.name, details, act)
    }
}

impl File for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let details = format_range(offset, buffer.len());
        let act = |hit| Hit::apply(hit, || self.file().read_at(buffer, offset));
        self.run(OperationKind::Read, details, act)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let act = |hit: Option<Hit>| {
            if let Some(hit) = &hit
                && hit.is_short_write()
            {
                let (part, _) = bytes.split_at(bytes.len() / 2);
                self.file().write_at(part, offset)?;
            }
            Hit::apply(hit, || self.file().write_at(bytes, offset))
        };
        self.run(OperationKind::Write, format_range(offset, bytes.len()), act)
    }

    fn sync_data(&self) -> io::Result<()> {
        let lose = |lost| match &self.inner {
            InnerFile::Any(_) => Ok(()),
            InnerFile::Memory(file) => file.lose_unsynced(lost),
        };
        let act = |hit| {
            sync(&self.plan, &self.path, hit, lose, || {
                self.file().sync_data()
            })
        };
        self.run(OperationKind::SyncData, String::new, act)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let act = |hit| Hit::apply(hit, || self.file().set_len(len));
        self.run(OperationKind::SetLen, || len.to_string(), act)
    }

    fn len(&self) -> io::Result<u64> {
        let act = |hit| Hit::apply(hit, || self.file().len());
        self.run(OperationKind::Len, String::new, act)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let act = |hit| Hit::apply(hit, || self.file().preallocate(len));
        self.run(OperationKind::Preallocate, || len.to_string(), act)
    }
}

fn format_range(offset: u64, bytes: usize) -> impl FnOnce() -> String {
    move || format!("{offset}+{bytes}")
}

#[cfg(test)]
mod tests;
