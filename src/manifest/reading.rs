//! From the folder to what its newest generation says. Writes nothing.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ManifestAccess;
use super::format::{FILE_BYTES_MAX, Name, Side, parse_name, path};
use super::merge::{Merged, Pair};
use super::scan::Image;
use crate::codec::digest;
use crate::error::{Damage, Error, Result};
use crate::types::UNIT;
use crate::vfs::{Access, File, Vfs};

/// How often a reader looks again when a live writer seems to be at work under it.
const ATTEMPTS: usize = 8;

/// The names in the store's folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The published generations, and which copies of them are there.
    pub generations: BTreeMap<u64, Vec<Side>>,
    /// The copies that were never published.
    pub temporaries: Vec<(u64, Side)>,
    /// The first file that only a store has, if there are any.
    pub of_a_store: Option<String>,
}

impl Listing {
    /// Lists the folder.
    pub(super) fn read(vfs: &dyn Vfs, dir: &Path) -> IoResult<Self> {
        let mut listing = Self::default();
        for entry in vfs.list(dir)? {
            if entry.is_dir {
                continue;
            }
            match parse_name(&entry.name) {
                Name::Published(generation, side) => {
                    let sides = listing.generations.entry(generation).or_default();
                    sides.push(side);
                }
                Name::Temporary(generation, side) => listing.temporaries.push((generation, side)),
                Name::OfAStore if listing.of_a_store.is_none() => {
                    listing.of_a_store = Some(entry.name);
                }
                Name::OfAStore | Name::Other => {}
            }
        }
        Ok(listing)
    }

    /// The error that says that there should be a manifest and isn't.
    pub(super) fn missing(&self, dir: &Path) -> Error {
        match &self.of_a_store {
            Some(name) => Error::damaged(Damage::new(
                &dir.join("manifest"),
                0,
                0,
                format!(
                    "no manifest-NUMBER.a or .b is here, but {name} is: the manifest was lost, or \
                     this is a bare log without a store"
                ),
            )),
            None => Error::NotAStore {
                path: dir.to_owned(),
                why: "it holds no manifest".into(),
            },
        }
    }
}

/// Lists a folder that should be a store.
pub(super) fn list_store(vfs: &dyn Vfs, dir: &Path) -> Result<Listing> {
    let why = match Listing::read(vfs, dir) {
        Ok(listing) => return Ok(listing),
        Err(error) if error.kind() == ErrorKind::NotFound => "there is no such folder",
        Err(error) if error.kind() == ErrorKind::NotADirectory => "it is not a folder",
        Err(error) => return Err(Error::io("list", dir, error)),
    };
    Err(Error::NotAStore {
        path: dir.to_owned(),
        why: why.into(),
    })
}

/// What was read: a generation, and what it says, or why it can't be told.
pub(super) type Loaded = (u64, Result<Merged>);

/// Reads the newest generation.
///
/// With [`ManifestAccess::ReadOnly`] there may be a live writer. An edit that it is writing is seen or
/// isn't; files that vanish are looked for again; and damage counts only once two readings in a row
/// agree to the byte, since it may have been a write half seen.
///
/// # Errors
/// What the disk answers, and that there is no manifest.
pub(super) fn load(vfs: &dyn Vfs, dir: &Path, access: ManifestAccess) -> Result<Loaded> {
    let mut seen = None;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let Some(pair) = read_newest(vfs, dir, access)? else {
            continue;
        };
        let merged = pair.merge();
        if access == ManifestAccess::ReadWrite || is_clean(&merged) {
            return Ok((pair.generation, merged));
        }
        let fingerprint = Some(fingerprint(&pair));
        if fingerprint == seen {
            return Ok((pair.generation, merged));
        }
        seen = fingerprint;
        last = Some((pair.generation, merged));
    }
    last.ok_or_else(|| Error::io("find", &dir.join("manifest"), ErrorKind::NotFound.into()))
}

fn is_clean(merged: &Result<Merged>) -> bool {
    merged.as_ref().is_ok_and(|merged| merged.damage.is_empty())
}

fn fingerprint(pair: &Pair) -> u128 {
    let mut digest = digest();
    digest.update(&pair.generation.to_le_bytes());
    for image in [&pair.a, &pair.b] {
        digest.update(&image.file_bytes.to_le_bytes());
        digest.update(&image.bytes);
    }
    digest.digest128()
}

/// Reads both copies of the newest generation; `None` if one that was listed has gone.
fn read_newest(vfs: &dyn Vfs, dir: &Path, access: ManifestAccess) -> Result<Option<Pair>> {
    if access == ManifestAccess::ReadWrite {
        // A writer that was killed may have left names that are not durable.
        match vfs.sync_dir(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("sync", dir, error));
            }
            _ => {}
        }
    }
    let listing = list_store(vfs, dir)?;
    let Some((&generation, sides)) = listing.generations.last_key_value() else {
        return Err(listing.missing(dir));
    };
    let read = |side| {
        let path = path(dir, generation, side);
        if sides.contains(&side) {
            read_image(vfs, path, access)
        } else {
            Ok(Some(Image::missing(path)))
        }
    };
    // B first: a writer writes A first, so what B holds A then holds too.
    let b = read(Side::B)?;
    let a = read(Side::A)?;
    let (Some(a), Some(b)) = (a, b) else {
        return Ok(None);
    };
    Ok(Some(Pair {
        generation,
        a,
        b,
        older: listing.generations.len() > 1,
    }))
}

/// Reads a copy; `None` if there is no such file.
///
/// # Errors
/// What the disk answers, except that units which it can't read are left out and noted.
pub(super) fn read_image(
    vfs: &dyn Vfs,
    path: PathBuf,
    access: ManifestAccess,
) -> Result<Option<Image>> {
    let file = match open_image(vfs, &path, access) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let file_bytes = file
        .len()
        .map_err(|error| Error::io("measure", &path, error))?;
    let wanted = file_bytes.min(FILE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
    let mut unreadable = Vec::new();
    match file.read_at(&mut bytes, 0) {
        Ok(read) => bytes.truncate(read),
        Err(_) => read_units(&*file, &mut bytes, &mut unreadable),
    }
    Ok(Some(Image {
        path,
        present: true,
        bytes,
        file_bytes,
        unreadable,
    }))
}

/// Opens a copy to read what can be believed of it: with the right to write, what the disk itself
/// holds after a sync, past the page cache where that is possible.
fn open_image(vfs: &dyn Vfs, path: &Path, access: ManifestAccess) -> IoResult<Arc<dyn File>> {
    if access == ManifestAccess::ReadOnly {
        return vfs.open(path, Access::Read);
    }
    vfs.open(path, Access::Write)?.sync_data()?;
    match vfs.open(path, Access::ReadDirect) {
        Err(error) if error.kind() == ErrorKind::Unsupported => vfs.open(path, Access::Read),
        opened => opened,
    }
}

/// Reads unit by unit, for a disk that can't read all of them.
fn read_units(file: &dyn File, bytes: &mut [u8], unreadable: &mut Vec<usize>) {
    for (number, unit) in bytes.chunks_mut(UNIT).enumerate() {
        let offset = number * UNIT;
        let read = file.read_at(unit, offset as u64);
        if !read.is_ok_and(|read| read == unit.len()) {
            unit.fill(0);
            unreadable.push(offset);
        }
    }
}
