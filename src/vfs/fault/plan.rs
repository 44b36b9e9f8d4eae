//! What shall fail, what has been counted, and what has been written down.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OperationKind {
    /// Opening an existing file.
    Open,
    /// Creating a file, or emptying an existing one.
    Create,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing a file.
    SyncData,
    /// Setting a file's length.
    SetLen,
    /// Asking for a file's length.
    Len,
    /// Preallocating.
    Preallocate,
    /// Creating a folder.
    CreateDir,
    /// Listing a folder.
    List,
    /// Renaming a file.
    Rename,
    /// Giving a file a second name.
    Link,
    /// Removing a file.
    Remove,
    /// Syncing a folder.
    SyncDir,
    /// Taking a lock.
    Lock,
    /// Asking what file system it is.
    FileSystem,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Open,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::SyncData,
        Self::SetLen,
        Self::Len,
        Self::Preallocate,
        Self::CreateDir,
        Self::List,
        Self::Rename,
        Self::Link,
        Self::Remove,
        Self::SyncDir,
        Self::Lock,
        Self::FileSystem,
    ];

    /// Whether it can change what is on the disk, or what is durable there. Taking a lock can: it
    /// may create the file.
    #[must_use]
    pub fn is_change(self) -> bool {
        !matches!(
            self,
            Self::Open | Self::Read | Self::Len | Self::List | Self::FileSystem
        )
    }

    /// The word for it in scripts.
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::SyncData => "sync",
            Self::SetLen => "setlen",
            Self::Len => "len",
            Self::Preallocate => "preallocate",
            Self::CreateDir => "mkdir",
            Self::List => "list",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Remove => "remove",
            Self::SyncDir => "syncdir",
            Self::Lock => "lock",
            Self::FileSystem => "filesystem",
        }
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// With an I/O error (`EIO`), and nothing is done.
    Io,
    /// With an I/O error, and yet all of it is done.
    IoAfter,
    /// With `StorageFull`, and nothing is done.
    NoSpace,
    /// A write does its first half and then meets an I/O error; others are as with
    /// [`FaultKind::Io`].
    ShortWrite,
}

/// What a failed sync does on a simulated disk. In each case what should have been written never
/// gets to the disk, however often the sync is repeated; what is written anew does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SyncFailure {
    /// It fails; the page cache goes on showing the lost bytes (ext4, xfs).
    #[default]
    PagesKept,
    /// It fails; the page cache shows what is on the disk (btrfs). A folder's names stay, as with
    /// `PagesKept`.
    PagesReverted,
    /// It reports success, and the next sync of the same file or folder fails in its place.
    ReportedLate,
}

/// A fault to be injected.
#[derive(Clone, Debug)]
pub struct Fault {
    at: u64,
    kind: FaultKind,
    once: bool,
    kinds: Vec<OperationKind>,
    name: String,
    sync_failure: SyncFailure,
    seen: u64,
}

impl Fault {
    fn new(at: u64, kind: FaultKind, once: bool) -> Self {
        Self {
            at: at.max(1),
            kind,
            once,
            kinds: Vec::new(),
            name: String::new(),
            sync_failure: SyncFailure::default(),
            seen: 0,
        }
    }

    /// Strikes the n-th operation after it was injected (1 is the next), and no other.
    #[must_use]
    pub fn once(n: u64, kind: FaultKind) -> Self {
        Self::new(n, kind, true)
    }

    /// Strikes the n-th operation after it was injected, and every one after that.
    #[must_use]
    pub fn for_good(n: u64, kind: FaultKind) -> Self {
        Self::new(n, kind, false)
    }

    /// Counts and strikes only operations of these kinds; all kinds if there are none.
    #[must_use]
    pub fn only(mut self, kinds: &[OperationKind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// Counts and strikes only operations on files and folders whose name has this in it.
    #[must_use]
    pub fn on(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What becomes of unsynced bytes if it is a sync that is struck.
    #[must_use]
    pub fn sync_failure(mut self, failure: SyncFailure) -> Self {
        self.sync_failure = failure;
        self
    }

    /// Counts an operation and says whether it is struck.
    fn strikes(&mut self, kind: OperationKind, what: &str) -> bool {
        if !(self.kinds.is_empty() || self.kinds.contains(&kind)) || !what.contains(&self.name) {
            return false;
        }
        self.seen += 1;
        self.seen == self.at || (self.seen > self.at && !self.once)
    }
}

/// A fault that strikes the operation at hand.
pub(super) struct Hit {
    kind: FaultKind,
    sync_failure: SyncFailure,
}

impl Hit {
    /// The failure of a sync before, reported now.
    pub(super) fn late() -> Self {
        Self {
            kind: FaultKind::Io,
            sync_failure: SyncFailure::PagesKept,
        }
    }

    /// Does an operation that fails, if it does, without traces.
    pub(super) fn apply<T>(
        hit: Option<Self>,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match hit {
            None => act(),
            Some(hit) if hit.happens_after() => hit.apply_after(act),
            Some(hit) => Err(hit.error()),
        }
    }

    /// Does the operation and then fails.
    pub(super) fn apply_after<T>(self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        act()?;
        Err(self.error())
    }

    pub(super) fn happens_after(&self) -> bool {
        self.kind == FaultKind::IoAfter
    }

    pub(super) fn is_short_write(&self) -> bool {
        self.kind == FaultKind::ShortWrite
    }

    pub(super) fn sync_failure(&self) -> SyncFailure {
        self.sync_failure
    }

    pub(super) fn error(&self) -> io::Error {
        match self.kind {
            FaultKind::Io | FaultKind::IoAfter | FaultKind::ShortWrite => Errno::IO.into(),
            FaultKind::NoSpace => Errno::NOSPC.into(),
        }
    }
}

/// Which operations are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scribe {
    #[default]
    Nothing,
    Changes,
    Everything,
}

/// The state of a [`super::FaultVfs`].
#[derive(Debug, Default)]
pub(super) struct Plan {
    counts: BTreeMap<OperationKind, u64>,
    operations: u64,
    changes: u64,
    faults: Vec<Fault>,
    faults_hit: u64,
    /// Files and folders whose next sync reports the failure of the last one.
    late: BTreeSet<PathBuf>,
    /// Operations, and changes, that are let through before the power is cut.
    last_operation: Option<u64>,
    last_change: Option<u64>,
    crashed: bool,
    scribe: Scribe,
    script: Vec<String>,
}

impl Plan {
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn count(&self, kind: OperationKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
        self.late.clear();
    }

    pub(super) fn faults_hit(&self) -> u64 {
        self.faults_hit
    }

    pub(super) fn crash_after(&mut self, operations: u64) {
        self.last_operation = Some(self.operations.saturating_add(operations));
    }

    pub(super) fn crash_after_changes(&mut self, changes: u64) {
        self.last_change = Some(self.changes.saturating_add(changes));
    }

    pub(super) fn crashed(&self) -> bool {
        self.crashed
    }

    pub(super) fn record(&mut self, scribe: Scribe) {
        self.scribe = scribe;
    }

    pub(super) fn take_script(&mut self) -> Vec<String> {
        std::mem::take(&mut self.script)
    }

    pub(super) fn write_line(&mut self, line: String) {
        self.script.push(line);
    }

    /// Takes note that the next sync of `path` has to fail.
    pub(super) fn report_late(&mut self, path: &Path) {
        self.late.insert(path.to_owned());
    }

    /// Whether the sync at hand has to report the failure of the last one.
    pub(super) fn take_late(&mut self, path: &Path) -> bool {
        self.late.remove(path)
    }

    /// Counts an operation; says which fault strikes it, and whether it is to be written down.
    pub(super) fn begin(
        &mut self,
        kind: OperationKind,
        what: &str,
    ) -> io::Result<(Option<Hit>, bool)> {
        // Once the last change is through, nothing else is either: the power is off for reads too,
        // but only from the first change that it stops, so that reads before it count as before.
        self.crashed |= self
            .last_operation
            .is_some_and(|last| self.operations >= last)
            || (kind.is_change() && self.last_change.is_some_and(|last| self.changes >= last));
        if self.crashed {
            return Err(io::Error::other("the power is off (simulated)"));
        }
        self.operations += 1;
        self.changes += u64::from(kind.is_change());
        *self.counts.entry(kind).or_default() += 1;
        let mut hit = None;
        for fault in &mut self.faults {
            if fault.strikes(kind, what) && hit.is_none() {
                hit = Some(Hit {
                    kind: fault.kind,
                    sync_failure: fault.sync_failure,
                });
            }
        }
        self.faults_hit += u64::from(hit.is_some());
        let recorded = match self.scribe {
            Scribe::Nothing => false,
            Scribe::Changes => kind.is_change(),
            Scribe::Everything => true,
        };
        Ok((hit, recorded))
    }
}

/// One line of a script.
pub(super) fn line(
    kind: OperationKind,
    what: &str,
    details: &str,
    error: Option<&io::Error>,
) -> String {
    let mut line = kind.word().to_owned();
    // A store is one flat folder, and its name is a matter of the test's.
    let words = match kind {
        OperationKind::SyncDir | OperationKind::List | OperationKind::FileSystem => [""; 2],
        _ => [what, details],
    };
    for word in words.iter().filter(|word| !word.is_empty()) {
        line.push(' ');
        line.push_str(word);
    }
    if let Some(error) = error {
        let why = match error.kind() {
            // The system's texts and numbers differ from one to another.
            _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => "I/O error".into(),
            ErrorKind::StorageFull => "no space".into(),
            kind => kind.to_string(),
        };
        line.push_str(&format!(" (failed: {why})"));
    }
    line
}
