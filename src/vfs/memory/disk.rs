//! The whole simulated disk: files, folders, and the folder changes that aren't durable yet.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::TearUnit;
use super::change::{Change, Name, moved, normal};
use super::content::PAGE;
use super::inode::Inode;
use crate::vfs::random::SeededRng;

/// The names of a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    /// As programs see them.
    pub(super) cached: BTreeMap<String, u64>,
    /// As the disk holds them.
    durable: BTreeMap<String, u64>,
}

/// Everything. A clone is an independent disk that shares unchanged pages.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) folders: BTreeMap<PathBuf, Folder>,
    /// In the order in which they were made.
    pending: Vec<Change>,
    /// Folders renamed, from and to, whose new name no sync will ever make durable.
    lost_renames: Vec<(PathBuf, PathBuf)>,
    pub(super) locked: BTreeSet<u64>,
    /// In bytes; `None` is endless.
    pub(super) capacity: Option<u64>,
    next_inode: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            inodes: BTreeMap::new(),
            folders: BTreeMap::from([(PathBuf::new(), Folder::default())]),
            pending: Vec::new(),
            lost_renames: Vec::new(),
            locked: BTreeSet::new(),
            capacity: None,
            next_inode: 1,
        }
    }
}

impl Disk {
    /// The inode under a name; `IsADirectory`, or `NotFound` of the file or its folder.
    pub(super) fn find(&self, at: &Name) -> io::Result<u64> {
        if self.folders.contains_key(&at.folder.join(&at.name)) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let folder = self.folders.get(&at.folder).ok_or(ErrorKind::NotFound)?;
        Ok(*folder.cached.get(&at.name).ok_or(ErrorKind::NotFound)?)
    }

    pub(super) fn inode(&self, inode: u64) -> io::Result<&Inode> {
        self.inodes
            .get(&inode)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&inode)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Makes an empty file; the name must be free.
    pub(super) fn create(&mut self, at: &Name) -> io::Result<u64> {
        let folder = self
            .folders
            .get_mut(&at.folder)
            .ok_or(ErrorKind::NotFound)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        folder.cached.insert(at.name.clone(), inode);
        self.inodes.insert(inode, Inode::named());
        self.pending.push(Change::Create {
            at: at.clone(),
            inode,
        });
        Ok(inode)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut above = PathBuf::new();
        for name in normal(path).components() {
            let taken = self.folders.get(&above);
            let name = Path::new(name.as_os_str());
            if taken.is_some_and(|taken| taken.cached.contains_key(&*name.to_string_lossy())) {
                return Err(ErrorKind::NotADirectory.into());
            }
            above.push(name);
            self.folders.entry(above.clone()).or_default();
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, at: &Name) -> io::Result<()> {
        let inode = self.find(at)?;
        self.unlink(at);
        self.pending.push(Change::Remove {
            at: at.clone(),
            inode,
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Name, to: &Name) -> io::Result<()> {
        let inode = self.find(from)?;
        match self.find(to) {
            Ok(replaced) if replaced == inode => return Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if !self.folders.contains_key(&to.folder) {
            return Err(ErrorKind::NotFound.into());
        }
        self.unlink(to);
        self.unlink(from);
        self.link(to, inode);
        self.pending.push(Change::Rename {
            from: from.clone(),
            to: to.clone(),
            inode,
        });
        Ok(())
    }

    /// Gives a file a second name.
    pub(super) fn add_link(&mut self, from: &Name, to: &Name) -> io::Result<()> {
        let inode = self.find(from)?;
        match self.find(to) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Err(ErrorKind::AlreadyExists.into()),
        }
        if !self.folders.contains_key(&to.folder) {
            return Err(ErrorKind::NotFound.into());
        }
        self.link(to, inode);
        self.pending.push(Change::Create {
            at: to.clone(),
            inode,
        });
        Ok(())
    }

    /// Renames a folder; an empty one may be in its place.
    pub(super) fn rename_folder(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from == to {
            return Ok(());
        }
        let parent = to.parent().ok_or(ErrorKind::InvalidInput)?;
        if to.starts_with(from) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let above = self.folders.get(parent).ok_or(ErrorKind::NotFound)?;
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        if above.cached.contains_key(&*name) {
            return Err(ErrorKind::NotADirectory.into());
        }
        if let Some(folder) = self.folders.get(to) {
            let below = |path: &PathBuf| path.starts_with(to) && path != to;
            if !folder.cached.is_empty() || self.folders.keys().any(below) {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            self.folders.remove(to);
        }
        self.move_folder(from, to);
        let (from, to) = (from.to_owned(), to.to_owned());
        self.pending.push(Change::RenameFolder { from, to });
        Ok(())
    }

    fn move_folder(&mut self, from: &Path, to: &Path) {
        let folders = std::mem::take(&mut self.folders).into_iter();
        self.folders = folders
            .map(|(path, folder)| (moved(&path, from, to).unwrap_or(path), folder))
            .collect();
        for change in &mut self.pending {
            change.follow(from, to);
        }
        for (_, now) in &mut self.lost_renames {
            if let Some(moved) = moved(now, from, to) {
                *now = moved;
            }
        }
    }

    fn unlink(&mut self, at: &Name) {
        let folder = self.folders.get_mut(&at.folder);
        if let Some(inode) = folder.and_then(|folder| folder.cached.remove(&at.name))
            && let Some(inode) = self.inodes.get_mut(&inode)
        {
            inode.links = inode.links.saturating_sub(1);
        }
    }

    fn link(&mut self, at: &Name, inode: u64) {
        if let Some(folder) = self.folders.get_mut(&at.folder) {
            folder.cached.insert(at.name.clone(), inode);
        }
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.links += 1;
        }
    }

    /// Makes a folder's pending changes durable. A rename between two folders is one journal entry:
    /// a sync of either commits it, and with it all that came before.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let folder = normal(path);
        if !self.folders.contains_key(&folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let all = self
            .pending
            .iter()
            .any(|change| change.crosses_folders() && change.touches(&folder));
        for change in std::mem::take(&mut self.pending) {
            if all || change.touches(&folder) {
                self.apply(&change);
            } else {
                self.pending.push(change);
            }
        }
        self.collect();
        Ok(())
    }

    /// What a failed sync of a folder leaves: its changes count as written and never are.
    pub(super) fn lose_dir_changes(&mut self, path: &Path) {
        let folder = normal(path);
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::RenameFolder { from, to } if from.parent() == Some(&folder) => {
                    self.lost_renames.push((from, to));
                }
                change if change.touches(&folder) => {}
                change => self.pending.push(change),
            }
        }
    }

    /// Applies a change to the durable names. Earlier changes may have been forgotten: then a
    /// removal finds another file, or none, under its name and leaves it.
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { at, inode } => self.link_durable(at, *inode),
            Change::Remove { at, inode } => self.unlink_durable(at, *inode),
            Change::Rename { from, to, inode } => {
                self.unlink_durable(from, *inode);
                self.link_durable(to, *inode);
            }
            // The folder is under that name already.
            Change::RenameFolder { .. } => {}
        }
    }

    fn link_durable(&mut self, at: &Name, inode: u64) {
        if let Some(folder) = self.folders.get_mut(&at.folder) {
            folder.durable.insert(at.name.clone(), inode);
        }
    }

    fn unlink_durable(&mut self, at: &Name, inode: u64) {
        if let Some(folder) = self.folders.get_mut(&at.folder)
            && folder.durable.get(&at.name) == Some(&inode)
        {
            folder.durable.remove(&at.name);
        }
    }

    /// Lets go of files that have no name left in any view and that nobody has open.
    fn collect(&mut self) {
        let mut named: BTreeSet<u64> = self.pending.iter().filter_map(Change::inode).collect();
        for folder in self.folders.values() {
            named.extend(folder.cached.values().chain(folder.durable.values()));
        }
        self.inodes
            .retain(|number, inode| inode.handles > 0 || named.contains(number));
    }

    /// Pages that are free; files without a name count as long as they are open.
    pub(super) fn pages_free(&self) -> u64 {
        let Some(capacity) = self.capacity else {
            return u64::MAX;
        };
        let live = self
            .inodes
            .values()
            .filter(|inode| inode.links > 0 || inode.handles > 0);
        let used: u64 = live.map(Inode::pages).sum();
        (capacity / PAGE as u64).saturating_sub(used)
    }

    /// Puts a file in place, content and name durable; an existing one is replaced.
    pub(super) fn put_file(&mut self, at: &Name, bytes: &[u8]) -> io::Result<()> {
        self.create_dir_all(&at.folder)?;
        let inode = match self.find(at) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(at)?,
            found => found?,
        };
        let file = self.inode_mut(inode)?;
        file.set_len(0);
        file.write(bytes, 0);
        file.sync();
        self.forget_changes(at);
        self.link_durable(at, inode);
        Ok(())
    }

    /// Takes a file away, durably.
    pub(super) fn take_file(&mut self, at: &Name) -> io::Result<()> {
        self.find(at)?;
        self.unlink(at);
        self.forget_changes(at);
        if let Some(folder) = self.folders.get_mut(&at.folder) {
            folder.durable.remove(&at.name);
        }
        self.collect();
        Ok(())
    }

    /// A helper of the tests has settled this name: nothing about it is in doubt any more. Of a
    /// rename, the other name still is.
    fn forget_changes(&mut self, settled: &Name) {
        let pending = std::mem::take(&mut self.pending).into_iter();
        self.pending = pending
            .filter_map(|change| match change {
                Change::Create { ref at, .. } | Change::Remove { ref at, .. } => {
                    (at != settled).then_some(change)
                }
                Change::Rename {
                    from: at,
                    to,
                    inode,
                } if to == *settled => Some(Change::Remove { at, inode }),
                Change::Rename {
                    from,
                    to: at,
                    inode,
                } if from == *settled => Some(Change::Create { at, inode }),
                Change::Rename { .. } | Change::RenameFolder { .. } => Some(change),
            })
            .collect();
    }

    /// The same disk for another process: nothing open, nothing locked.
    pub(super) fn without_processes(&self) -> Self {
        let mut disk = self.clone();
        disk.locked.clear();
        for inode in disk.inodes.values_mut() {
            inode.handles = 0;
        }
        disk.collect();
        disk
    }

    /// The disk after a loss of power.
    pub(super) fn crash(&self, seed: u64, unit: TearUnit) -> Self {
        let mut rng = SeededRng::new(seed);
        let mut disk = self.clone();
        let pending = std::mem::take(&mut disk.pending);
        // A journal keeps a prefix; other file systems write folders back in any order.
        let in_order = rng.one_in(2);
        let prefix = rng.between(0, pending.len() as u64);
        let mut undone = std::mem::take(&mut disk.lost_renames);
        for (at, change) in pending.iter().enumerate() {
            let kept = if in_order {
                (at as u64) < prefix
            } else {
                rng.one_in(2)
            };
            if kept {
                disk.apply(change);
            } else if let Change::RenameFolder { from, to } = change {
                undone.push((from.clone(), to.clone()));
            }
        }
        // A folder whose old name has been given away meanwhile keeps its new one.
        for (from, to) in undone.iter().rev() {
            if !disk.folders.contains_key(from) {
                disk.move_folder(to, from);
            }
        }
        disk.locked.clear();
        for folder in disk.folders.values_mut() {
            folder.cached = folder.durable.clone();
        }
        for inode in disk.inodes.values_mut() {
            *inode = inode.crash(&mut rng, unit);
        }
        for folder in disk.folders.values() {
            for inode in folder.cached.values() {
                if let Some(inode) = disk.inodes.get_mut(inode) {
                    inode.links += 1;
                }
            }
        }
        disk.collect();
        disk
    }
}
