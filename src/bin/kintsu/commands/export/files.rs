//! Records to a folder of files: each key is a path, each value a file's content.
//!
//! Keys can come from anywhere, so none is trusted to stay in the folder: a key must be a relative
//! path of plain names, no link is followed on the way, and a file that is there is replaced only if
//! that was asked for.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kintsu::Db;
use serde_json::json;

use super::{Arguments, Unsafe};
use crate::console::Console;
use crate::escape::escape;
use crate::failure::{Failure, Outcome, exit};
use crate::progress::Progress;
use crate::text;
use crate::walk::{Identity, identity};

/// Exports to a folder, created if it is missing.
pub fn run(arguments: &Arguments, folder: &Path, console: &mut Console) -> Outcome {
    let db = arguments.store.open_to_read(console)?;
    if arguments.unsafe_keys == Unsafe::Refuse {
        check_all(arguments, &db)?;
    }
    let mut tree = FileTree::create(folder, arguments.overwrite, db.path())?;
    let mut range = arguments.range.open(&db)?;
    let mut progress = Progress::new(console, "exported", Some("file"), None);
    let (mut files, mut bytes, mut skipped) = (0, 0, 0);
    while let Some((key, value)) = range.next_ref()? {
        match tree.write(key, &value) {
            Ok(()) => {
                files += 1;
                bytes += value.len() as u64;
            }
            Err(Refused::Key(why)) => {
                skipped += 1;
                console.warn(&format!("key {} was left out: {why}", escape(key)));
            }
            Err(Refused::Disk(failure)) => return Err(failure),
        }
        progress.tell_if_due(files, bytes);
    }
    tree.sync()?;
    let time = progress.elapsed();
    progress.finish();
    if console.json {
        console.value(&json!({
            "files": files,
            "bytes": bytes,
            "skipped": skipped,
            "seconds": time.as_secs_f64(),
        }))?;
    } else {
        writeln!(
            console,
            "exported {} ({}) in {}, {}",
            text::plural(files, "file"),
            text::bytes(bytes),
            text::duration(time),
            text::rate(bytes, time)
        )?;
        if skipped > 0 {
            writeln!(console, "left out {}", text::plural(skipped, "key"))?;
        }
    }
    if skipped > 0 {
        Err(Failure::Told(exit::OTHER))
    } else {
        Ok(())
    }
}

fn check_all(arguments: &Arguments, db: &Db) -> Outcome {
    let mut range = arguments.range.open(db)?;
    let mut above: Vec<Vec<u8>> = Vec::new();
    while let Some((key, _)) = range.next_ref()? {
        if let Err(why) = check(key).and_then(|()| check_place(key, &mut above)) {
            let key = escape(key);
            return Err(Failure::Input(format!(
                "key {key} can't be a file's path: {why}"
            )));
        }
    }
    Ok(())
}

/// Checks that no earlier key is a file where this one needs a folder. Keys come in order, so only
/// those that this one begins with can be in its way; `above` holds them.
fn check_place(key: &[u8], above: &mut Vec<Vec<u8>>) -> Result<(), &'static str> {
    while above
        .last()
        .is_some_and(|earlier| !key.starts_with(earlier))
    {
        above.pop();
    }
    if above
        .iter()
        .any(|earlier| key.get(earlier.len()) == Some(&b'/'))
    {
        return Err(UNDER_A_FILE);
    }
    above.push(key.to_vec());
    Ok(())
}

const UNDER_A_FILE: &str = "it lies under another key's file";

/// Why a record wasn't written.
enum Refused {
    /// The key is at fault; the others can go on.
    Key(String),
    /// The disk is.
    Disk(Failure),
}

/// Checks that a key is a relative path of plain names.
fn check(key: &[u8]) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("it is empty");
    }
    if key.contains(&0) {
        return Err("it has a zero byte");
    }
    if key.first() == Some(&b'/') {
        return Err("it begins at the root");
    }
    for name in key.split(|byte| *byte == b'/') {
        match name {
            b"" => return Err("it has an empty name between slashes, or ends with one"),
            b"." | b".." => return Err("it has . or .. for a name"),
            _ => {}
        }
    }
    Ok(())
}

/// The folder that files are written to.
struct FileTree {
    root: PathBuf,
    /// Opened before anything is written: `syncfs` tells of failures from then on.
    handle: File,
    /// The store's own folder, which must not be written to.
    store: Option<Identity>,
    overwrite: bool,
    /// Folders known to be real ones.
    folders: HashSet<PathBuf>,
}

impl FileTree {
    fn create(root: &Path, overwrite: bool, store: &Path) -> Outcome<Self> {
        let failed = |error: io::Error| Failure::file("create", root, &error);
        fs::create_dir_all(root).map_err(failed)?;
        if !overwrite && fs::read_dir(root).map_err(failed)?.next().is_some() {
            let what = format!("{} isn't empty; --overwrite writes to it", root.display());
            return Err(Failure::Usage(what));
        }
        let handle = OpenOptions::new().read(true).open(root).map_err(failed)?;
        let store = fs::metadata(store).ok().map(|found| identity(&found));
        let own = handle.metadata().map_err(failed)?;
        if store == Some(identity(&own)) {
            let what = format!("{} is the store itself", root.display());
            return Err(Failure::Usage(what));
        }
        Ok(Self {
            root: root.to_owned(),
            handle,
            store,
            overwrite,
            folders: HashSet::new(),
        })
    }

    fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Refused> {
        check(key).map_err(|why| Refused::Key(why.into()))?;
        let relative = Path::new(OsStr::from_bytes(key));
        let path = self.root.join(relative);
        if let Some(parent) = relative.parent() {
            self.enter(parent)?;
        }
        let mut file = self.open(&path).map_err(|error| refusal(&path, &error))?;
        file.write_all(value)
            .map_err(|error| refusal(&path, &error))
    }

    /// Makes sure that `relative` is a real folder, and no link out of here.
    fn enter(&mut self, relative: &Path) -> Result<(), Refused> {
        if self.folders.contains(relative) {
            return Ok(());
        }
        let mut path = self.root.clone();
        for name in relative.components() {
            path.push(name);
            match fs::create_dir(&path) {
                Ok(()) => continue,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(refusal(&path, &error)),
            }
            let metadata = fs::symlink_metadata(&path).map_err(|error| refusal(&path, &error))?;
            if metadata.is_symlink() {
                return Err(Refused::Key(format!("{} is a link", path.display())));
            }
            if !metadata.is_dir() {
                return Err(Refused::Key(UNDER_A_FILE.into()));
            }
            if self.store == Some(identity(&metadata)) {
                return Err(Refused::Key("it leads into the store itself".into()));
            }
        }
        self.folders.insert(relative.to_owned());
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        match File::create_new(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.overwrite => {
                // Replaced, not written into: a link's target, or another name of the same file,
                // stays as it is.
                fs::remove_file(path)?;
                File::create_new(path)
            }
            other => other,
        }
    }

    /// Makes what was written survive the loss of power.
    fn sync(&self) -> Outcome {
        let synced = sync_file_system(&self.handle);
        synced.map_err(|error| Failure::file("sync", &self.root, &error))
    }
}

#[cfg(target_os = "linux")]
fn sync_file_system(folder: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_folder: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Whether it is the key that the file system can't serve, or the file system that fails.
fn refusal(path: &Path, error: &io::Error) -> Refused {
    match error.kind() {
        ErrorKind::NotADirectory => Refused::Key(UNDER_A_FILE.into()),
        ErrorKind::AlreadyExists => Refused::Key(format!("{} is there already", path.display())),
        ErrorKind::IsADirectory | ErrorKind::InvalidFilename | ErrorKind::InvalidInput => {
            Refused::Key(error.to_string())
        }
        _ => Refused::Disk(Failure::file("write", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        for good in [&b"a"[..], b"a/b/c.txt", b"..a/...", b"\xff/ ", b"a\nb"] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        let bad = [
            &b""[..],
            b"/",
            b"/etc/passwd",
            b"..",
            b"../x",
            b"a/../b",
            b"a/..",
            b".",
            b"./a",
            b"a//b",
            b"a/",
            b"a\0b",
        ];
        for bad in bad {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_seen_however_far_away_its_key_is() {
        let mut above = Vec::new();
        for key in ["a", "a!", "a!/x", "a-", "ab"] {
            let expected = if key == "a!/x" {
                Err(UNDER_A_FILE)
            } else {
                Ok(())
            };
            assert_eq!(check_place(key.as_bytes(), &mut above), expected, "{key}");
        }
        let mut above = Vec::new();
        assert_eq!(check_place(b"a", &mut above), Ok(()));
        assert_eq!(check_place(b"a-b", &mut above), Ok(()));
        assert_eq!(check_place(b"a/b", &mut above), Err(UNDER_A_FILE));
    }
}
