//! The journal's file, and the one before it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::Repairs;
use super::line::Repair;
use crate::error::{Error, Result};
use crate::vfs::{Access, File, Vfs};

/// The journal's name in a store's folder.
pub const JOURNAL_FILE: &str = "kintsu.repairs";
/// The one before it: a journal that has grown too long goes on in a new file.
pub const JOURNAL_OLD_FILE: &str = "kintsu.repairs.old";

/// How long a journal grows, in bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Most of a file that is read, in bytes.
const READ_BYTES_MAX: u64 = 4 << 20;

/// Adds a line, durably.
///
/// # Errors
/// What the disk answers. The line may be there then, whole or in part.
pub fn append(vfs: &dyn Vfs, dir: &Path, repair: &Repair) -> Result<()> {
    let path = dir.join(JOURNAL_FILE);
    let failed = |action, error| Error::io(action, &path, error);
    let (file, is_new) = open(vfs, dir).map_err(|error| failed("open", error))?;
    let end = file.len().map_err(|error| failed("measure", error))?;
    let mut last = [b'\n'];
    if let Some(before) = end.checked_sub(1) {
        // What can't be read may have been torn.
        if file.read_at(&mut last, before).is_err() {
            last = [0];
        }
    }
    // What was torn stays a line of its own.
    let torn = if last == [b'\n'] { "" } else { "\n" };
    let line = format!("{torn}{}", repair.encode());
    file.write_at(line.as_bytes(), end)
        .map_err(|error| failed("write", error))?;
    file.sync_data().map_err(|error| failed("sync", error))?;
    if is_new {
        let synced = vfs.sync_dir(dir);
        synced.map_err(|error| Error::io("sync the folder", dir, error))?;
    }
    Ok(())
}

/// The file to write to, and whether its name is new.
fn open(vfs: &dyn Vfs, dir: &Path) -> std::io::Result<(Arc<dyn File>, bool)> {
    let path = dir.join(JOURNAL_FILE);
    match vfs.open(&path, Access::Write) {
        Ok(file) if file.len()? < BYTES_MAX => return Ok((file, false)),
        Ok(_) => vfs.rename(&path, &dir.join(JOURNAL_OLD_FILE))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok((vfs.open(&path, Access::CreateNew)?, true))
}

/// Reads what is there of a store's journal, oldest first.
///
/// # Errors
/// What the disk answers.
pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Repairs> {
    let mut found = Repairs::default();
    for name in [JOURNAL_OLD_FILE, JOURNAL_FILE] {
        let path = dir.join(name);
        let bytes = match read_file(vfs, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            bytes => bytes.map_err(|error| Error::io("read", &path, error))?,
        };
        for line in bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
            match std::str::from_utf8(line).ok().and_then(Repair::decode) {
                Some(repair) => found.repairs.push(repair),
                None => found.unreadable_lines += 1,
            }
        }
    }
    Ok(found)
}

fn read_file(vfs: &dyn Vfs, path: &Path) -> std::io::Result<Vec<u8>> {
    let file = vfs.open(path, Access::Read)?;
    let bytes = file.len()?.min(READ_BYTES_MAX);
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let read = file.read_at(&mut buffer, 0)?;
    buffer.truncate(read);
    Ok(buffer)
}
