//! Changes of names in folders that no sync has made durable.

use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) folder: PathBuf,
    pub(super) name: String,
}

impl Name {
    /// Splits a path; `InvalidInput` for the root itself.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut folder = normal(path);
        let Some(name) = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
        else {
            return Err(ErrorKind::InvalidInput.into());
        };
        folder.pop();
        Ok(Self { folder, name })
    }
}

/// A path without `/`, `.` and `..`: everything is relative to the one root.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    normal
}

/// A change of names that no folder sync has made durable.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create {
        at: Name,
        inode: u64,
    },
    Remove {
        at: Name,
        inode: u64,
    },
    Rename {
        from: Name,
        to: Name,
        inode: u64,
    },
    /// Of a folder. The paths in all that is pending are those after it.
    RenameFolder {
        from: PathBuf,
        to: PathBuf,
    },
}

impl Change {
    pub(super) fn touches(&self, folder: &Path) -> bool {
        match self {
            Self::Create { at, .. } | Self::Remove { at, .. } => at.folder == folder,
            Self::Rename { from, to, .. } => from.folder == folder || to.folder == folder,
            Self::RenameFolder { from, to } => {
                from.parent() == Some(folder) || to.parent() == Some(folder)
            }
        }
    }

    pub(super) fn inode(&self) -> Option<u64> {
        match self {
            Self::Create { inode, .. }
            | Self::Remove { inode, .. }
            | Self::Rename { inode, .. } => Some(*inode),
            Self::RenameFolder { .. } => None,
        }
    }

    /// Names it by what a folder is called now.
    pub(super) fn follow(&mut self, before: &Path, now: &Path) {
        let names = match self {
            Self::Create { at, .. } | Self::Remove { at, .. } => vec![&mut at.folder],
            Self::Rename { from, to, .. } => vec![&mut from.folder, &mut to.folder],
            Self::RenameFolder { from, to } => vec![from, to],
        };
        for name in names {
            if let Some(moved) = moved(name, before, now) {
                *name = moved;
            }
        }
    }

    pub(super) fn crosses_folders(&self) -> bool {
        matches!(self, Self::Rename { from, to, .. } if from.folder != to.folder)
    }
}

/// What a path is called once the folder `from` is called `to`, if that changes it.
pub(super) fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(if rest.as_os_str().is_empty() {
        to.to_owned()
    } else {
        to.join(rest)
    })
}
