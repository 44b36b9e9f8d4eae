//! Snapshots, backups and the archive in a run: what is restored is compared key by key.

use kintsu::{Error, Index, Repository, RestorePoint, RestoreReport, Result};

use crate::support::backup::REPOSITORY;
use crate::support::check::Survived;
use crate::support::driver::Driver;
use crate::support::store::Machine;

/// How often what was done.
#[derive(Clone, Debug, Default)]
pub struct BackupCounts {
    snapshots: u64,
    backups: u64,
    archived: u64,
    restored: u64,
    reached: u64,
    gaps: u64,
}

impl BackupCounts {
    pub fn add(&mut self, other: &Self) {
        self.snapshots += other.snapshots;
        self.backups += other.backups;
        self.archived += other.archived;
        self.restored += other.restored;
        self.reached += other.reached;
        self.gaps += other.gaps;
    }
}

/// What a run's repository must hold.
#[derive(Debug, Default)]
pub struct Backups {
    /// The records that end the backups made.
    made: Vec<u64>,
    snapshots: u64,
    /// Whether the log may have been purged before it was archived.
    may_have_gaps: bool,
    pub counts: BackupCounts,
}

impl Backups {
    pub fn new(may_have_gaps: bool) -> Self {
        Self {
            may_have_gaps,
            ..Self::default()
        }
    }

    /// A snapshot of everything, opened and compared.
    pub fn snapshot(&mut self, driver: &mut Driver) -> Result<()> {
        self.snapshots += 1;
        let folder = format!("snapshot {}", self.snapshots);
        let outcome = driver.db().snapshot_to(&folder);
        let (report, last) = settled(driver, outcome)?;
        assert_eq!(report.index, Index(last));
        compare(driver, &beside(driver), &folder, last);
        self.counts.snapshots += 1;
        Ok(())
    }

    pub fn back_up(&mut self, driver: &mut Driver) -> Result<()> {
        let outcome = driver.db().backup_to(REPOSITORY);
        let (report, last) = settled(driver, outcome)?;
        assert_eq!(report.index, Index(last));
        self.made.push(last);
        self.counts.backups += 1;
        Ok(())
    }

    /// Archives everything; nothing in a run without an archive.
    pub fn archive(&mut self, driver: &mut Driver) -> Result<()> {
        let outcome = driver.db().archive_now();
        if matches!(outcome, Err(Error::InvalidOption { .. })) {
            return Ok(());
        }
        settled(driver, outcome)?;
        self.counts.archived += 1;
        Ok(())
    }

    /// Restores to a record, or to the newest one, on a copy of the disk.
    pub fn restore(&mut self, driver: &Driver, wanted: Option<u64>) {
        let machine = beside(driver);
        let point = wanted.map_or(RestorePoint::Newest, |index| {
            RestorePoint::Index(Index(index))
        });
        let repository = Repository::new(REPOSITORY).on_disk_of(&machine.options());
        let enough = |made: &&u64| wanted.is_none_or(|wanted| **made <= wanted);
        let newest = self.made.iter().filter(enough).max().copied();
        let report = match repository.restore(machine.options_at("restored"), point) {
            // Backups that a cut short attempt left whole aren't known here; so only this way round.
            Err(Error::Repository { .. } | Error::Io { .. }) if newest.is_none() => return,
            // Up to there it can be had.
            Err(Error::ArchiveGap { from, to, .. }) if self.may_have_gaps => {
                assert!(from <= to && newest.unwrap_or(0) < from.0, "{from} to {to}");
                self.counts.gaps += 1;
                return match wanted {
                    Some(wanted) if wanted < from.0 => panic!("{wanted}, and {from} is missing"),
                    _ => self.restore(driver, Some(from.0 - 1)),
                };
            }
            other => other.unwrap_or_else(|error| panic!("{point:?}: {error:?}")),
        };
        self.check(driver, &machine, &report, wanted, newest.unwrap_or(0));
    }

    fn check(
        &mut self,
        driver: &Driver,
        machine: &Machine,
        report: &RestoreReport,
        wanted: Option<u64>,
        at_least: u64,
    ) {
        let index = report.index.0;
        assert!(report.skipped.is_empty(), "{report:?}");
        assert!(index >= at_least, "{report:?}: a backup ends at {at_least}");
        assert!(index <= driver.model.last_possible(), "{report:?}");
        if let Some(wanted) = wanted {
            assert!(index <= wanted, "{report:?}: {wanted} was wanted");
            assert!(!report.reached || index == wanted, "{report:?}");
        }
        compare(driver, machine, "restored", index);
        self.counts.restored += 1;
        self.counts.reached += u64::from(report.reached);
    }
}

/// A copy of the machine, its disk as programs see it.
fn beside(driver: &Driver) -> Machine {
    driver.machine.rebooted(driver.machine.memory.fork())
}

/// What a snapshot, a backup or the archive has done first: everything so far is on disk, up to the record
/// that is returned too.
fn settled<T>(driver: &mut Driver, outcome: Result<T>) -> Result<(T, u64)> {
    driver.settle();
    let report = outcome?;
    driver.model.promise(kintsu::Durability::Disk);
    Ok((report, driver.model.last))
}

/// The store in a folder holds what the run's held as of a record.
fn compare(driver: &Driver, machine: &Machine, folder: &str, index: u64) {
    let mut model = driver.model.clone();
    (model.process, model.disk) = (0, 0);
    let (there, folder) = (machine.clone(), folder.to_owned());
    let copy = Driver::resume(machine.clone(), model);
    let mut copy = copy.tuned(move |_| there.options_at(&folder));
    copy.open(Survived::ProcessDeath).unwrap();
    assert_eq!(copy.model.last, index, "the last record");
}
