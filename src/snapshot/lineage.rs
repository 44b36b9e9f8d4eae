//! From which restores and snapshots a store comes, so that records of two stores that went different ways
//! under one store id are never mixed.

use std::io::ErrorKind;
use std::path::Path;

use crate::codec::{Reader, put_varint};
use crate::error::{Damage, Error, Result};
use crate::types::{Index, StoreId};
use crate::vfs::{Access, Vfs};

use super::files::{publish, read, sync_folder};
use super::format::{Kind, decode, encode};

/// The file in a store's folder.
pub const LINEAGE_FILE: &str = "lineage";
/// The same once more, so that the loss of the first is noticed: without it the store would pass for one that
/// was never restored.
pub const LINEAGE_COPY_FILE: &str = "lineage.copy";

/// A stretch of a store's life between two restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Era {
    id: u128,
    /// It begins after this record.
    after: Index,
}

/// The eras that lead to a store, oldest first; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage(Vec<Era>);

impl Lineage {
    /// That of a store that was never restored.
    #[must_use]
    pub fn original(store_id: StoreId) -> Self {
        let (id, after) = (store_id.0, Index(0));
        Self(vec![Era { id, after }])
    }

    /// That of a store which has this one's records through `last` and goes on by itself, as era `id`.
    #[must_use]
    pub fn branch(&self, last: Index, id: u128) -> Self {
        let mut eras = self.0.clone();
        eras.retain(|era| era.after <= last);
        eras.push(Era { id, after: last });
        Self(eras)
    }

    /// The era that the store is in.
    #[must_use]
    pub fn newest(&self) -> u128 {
        self.0.last().map_or(0, |era| era.id)
    }

    /// Whether what a store in era `id` had at record `index` belongs to this lineage.
    #[must_use]
    pub fn holds(&self, id: u128, index: Index) -> bool {
        self.end_of(id).is_some_and(|end| index <= end)
    }

    /// The last record of era `id` that belongs to this lineage; `None` if the era isn't in it.
    #[must_use]
    pub fn end_of(&self, id: u128) -> Option<Index> {
        let at = self.0.iter().position(|era| era.id == id)?;
        let next = self.0.get(at + 1);
        Some(next.map_or(Index(u64::MAX), |next| next.after))
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for era in &self.0 {
            out.extend_from_slice(&era.id.to_le_bytes());
            put_varint(out, era.after.0);
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Option<Self> {
        let mut eras: Vec<Era> = Vec::new();
        for _ in 0..reader.varint()? {
            let (id, after) = (reader.u128()?, Index(reader.varint()?));
            if eras.last().is_some_and(|last| last.after > after) {
                return None;
            }
            eras.push(Era { id, after });
        }
        (!eras.is_empty()).then_some(Self(eras))
    }
}

/// The lineage of the store in a folder.
///
/// # Errors
/// `Damaged`, `ForeignFile`, `NewerFormat`, or what the disk answers.
pub fn read_lineage(vfs: &dyn Vfs, dir: &Path, store_id: StoreId) -> Result<Lineage> {
    let path = dir.join(LINEAGE_FILE);
    let bytes = match read(vfs, &path) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let copy = dir.join(LINEAGE_COPY_FILE);
            match vfs.open(&copy, Access::Read) {
                Ok(_) => {
                    let what =
                        format!("it is missing; {LINEAGE_COPY_FILE} beside it is a copy of it");
                    return Err(Error::damaged(Damage::new(&path, 0, 0, what)));
                }
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("open", &copy, error));
                }
                Err(_) => {}
            }
            return Ok(Lineage::original(store_id));
        }
        bytes => bytes?,
    };
    decode(&path, Kind::Lineage, 0, Some(store_id), &bytes, |reader| {
        Lineage::take(reader)
    })
}

/// Looks at both copies of a store's lineage, and writes both anew if one of them isn't as it was written. Returns
/// what was wrong with it.
///
/// # Errors
/// `Damaged` if both are; what the disk answers.
pub fn mend_lineage(vfs: &dyn Vfs, dir: &Path, store_id: StoreId) -> Result<Option<Damage>> {
    let Some((good, damage)) = compare(vfs, dir, store_id)? else {
        return Ok(None);
    };
    write_lineage(vfs, dir, store_id, &good)?;
    sync_folder(vfs, dir)?;
    Ok(Some(damage))
}

/// What is wrong with the copies of a store's lineage, and whether the other copy makes up for it.
///
/// # Errors
/// `ForeignFile`, `NewerFormat`, or what the disk answers.
pub fn check_lineage(vfs: &dyn Vfs, dir: &Path, store_id: StoreId) -> Result<Vec<(Damage, bool)>> {
    match compare(vfs, dir, store_id) {
        Ok(found) => Ok(found
            .into_iter()
            .map(|(_, damage)| (damage, true))
            .collect()),
        Err(Error::Damaged(damage)) => Ok(damage.into_iter().map(|one| (one, false)).collect()),
        Err(error) => Err(error),
    }
}

/// What is wrong with one copy of a lineage, of whichever store.
///
/// # Errors
/// `NewerFormat`, or what the disk answers.
pub fn check_lineage_file(vfs: &dyn Vfs, path: &Path) -> Result<Option<Damage>> {
    let bytes = read(vfs, path)?;
    let take = |reader: &mut Reader<'_>| Lineage::take(reader);
    match decode(path, Kind::Lineage, 0, None, &bytes, take) {
        Err(Error::Damaged(mut damage)) if !damage.is_empty() => Ok(Some(damage.swap_remove(0))),
        decoded => decoded.map(|_| None),
    }
}

/// The lineage and what is wrong with one of its copies; `None` if nothing is.
fn compare(vfs: &dyn Vfs, dir: &Path, store_id: StoreId) -> Result<Option<(Lineage, Damage)>> {
    let read_one = |name: &str| match read(vfs, &dir.join(name)) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => {
            let path = dir.join(name);
            let take = |reader: &mut Reader<'_>| Lineage::take(reader);
            decode(&path, Kind::Lineage, 0, Some(store_id), &bytes, take).map(Some)
        }
    };
    let (good, bad) = match (read_one(LINEAGE_FILE), read_one(LINEAGE_COPY_FILE)) {
        (Ok(None), Ok(None)) => return Ok(None),
        (Ok(Some(one)), Ok(Some(other))) if one == other => return Ok(None),
        (Ok(Some(good)), other) => (good, (LINEAGE_COPY_FILE, other)),
        (other, Ok(Some(good))) => (good, (LINEAGE_FILE, other)),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let (name, found) = bad;
    let damage = match found {
        Err(Error::Damaged(mut damage)) if !damage.is_empty() => damage.swap_remove(0),
        Err(error @ (Error::Io { .. } | Error::ForeignFile { .. })) => {
            Damage::new(&dir.join(name), 0, 0, error.to_string())
        }
        Err(error) => return Err(error),
        Ok(None) => Damage::new(&dir.join(name), 0, 0, "it is missing"),
        Ok(Some(_)) => Damage::new(&dir.join(name), 0, 0, "the copies don't agree"),
    };
    Ok(Some((good, damage)))
}

/// Writes the lineage of a store whose folder isn't published yet. The folder is to be synced by the caller.
///
/// # Errors
/// What the disk answers.
pub fn write_lineage(
    vfs: &dyn Vfs,
    dir: &Path,
    store_id: StoreId,
    lineage: &Lineage,
) -> Result<()> {
    let bytes = encode(Kind::Lineage, 0, store_id, |out| lineage.put(out));
    publish(vfs, &dir.join(LINEAGE_COPY_FILE), &bytes)?;
    publish(vfs, &dir.join(LINEAGE_FILE), &bytes)
}
