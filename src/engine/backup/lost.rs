//! What a volume of the archive lacks without a trace in its log: files that are gone as if they had never been
//! there.

use crate::error::{Damage, Error, Result};
use crate::snapshot::{Repository, VolumeContent};
use crate::types::Index;
use crate::wal::{Log, lost_files};

/// A volume whose description can be read.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) number: u64,
    pub(super) content: VolumeContent,
}

/// A volume is described only once its folder is there.
pub(super) fn volume_missing(repository: &Repository, volume: &Volume) -> Error {
    let path = repository.volume_dir(volume.number);
    Error::damaged(Damage::new(&path, 0, 0, "the volume's folder is missing"))
}

/// What shows that records of a volume are gone, if anything does. `is_newest`: of its era; it may have been
/// begun and not yet written to.
///
/// # Errors
/// What the disk answers.
pub(super) fn lost_records(
    repository: &Repository,
    volume: &Volume,
    log: &Log,
    is_newest: bool,
) -> Result<Option<Damage>> {
    let dir = repository.volume_dir(volume.number);
    let (first, last) = (volume.content.first, log.last_index());
    let damage = |what: &str, from: Index, to: Index| {
        let mut damage = Damage::new(&dir, 0, 0, what);
        damage.indexes = Some((from, to)).filter(|(from, to)| from <= to);
        Some(damage)
    };
    if let Some(path) = lost_files(&**repository.vfs(), &dir)?.first() {
        let what = "the log file is missing, though its identifiers are there";
        return Ok(Some(Damage::new(path, 0, 0, what)));
    }
    if last < first {
        let what = "all of the volume's log files are missing";
        return Ok(damage(what, first, Index(0)).filter(|_| !is_newest));
    }
    if log.first_index() > first {
        let to = Index(log.first_index().0.saturating_sub(1));
        return Ok(damage(
            "the volume's oldest log files are missing",
            first,
            to,
        ));
    }
    Ok(None)
}
