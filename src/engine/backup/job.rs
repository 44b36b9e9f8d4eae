//! The background job: archives what has become durable, and makes the backups that the policy asks for.

use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::BackupPolicy;
use crate::snapshot::Repository;
use crate::types::Index;

/// How often the job looks at the clock, if a time is what it waits for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often it looks for records that have become durable.
const ARCHIVE_EVERY: Duration = Duration::from_secs(1);

/// What the job knows.
#[derive(Debug, Default)]
pub(crate) struct BackupJob {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest backup, once it has been looked for.
    newest: Option<Newest>,
    /// Backups made since the store was opened.
    made: u64,
    failure: Option<Error>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    index: Index,
    made_us: u64,
    /// What had been appended to the log, in bytes.
    log_bytes: u64,
}

impl BackupJob {
    /// Backups made by policy since the store was opened.
    pub(crate) fn made(&self) -> u64 {
        self.state.lock().made
    }

    /// What the last attempt met, until one succeeds.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state.lock().failure.clone()
    }
}

impl Engine {
    /// Whether there is anything for the job to do, ever.
    pub(crate) fn has_backup_job(&self) -> bool {
        self.options.archive.is_some() || self.options.backup_policy.is_some()
    }

    /// How long the job may sleep.
    pub(crate) fn backup_pause(&self) -> Option<Duration> {
        let policy = self.options.backup_policy.as_ref();
        let every = policy.and_then(|policy| policy.every);
        let archive = self.options.archive.as_ref().map(|_| ARCHIVE_EVERY);
        let every = every.map(|every| every.min(LOOK_EVERY));
        archive.into_iter().chain(every).min()
    }

    /// Does one piece of archiving, or one backup if it is due. `false` if there was nothing to do.
    pub(crate) fn step_backup(&self) -> Result<bool> {
        if self.options.read_only || self.latched().is_some() || !self.has_backup_job() {
            return Ok(false);
        }
        let archived = self.step_archive();
        // An archive that can't be written is no reason to make no backups.
        let backed_up = self.backup_if_due();
        let outcome = match (archived, backed_up) {
            (Ok(archived), Ok(backed_up)) => Ok(archived || backed_up),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        self.backup_job.state.lock().failure = outcome.as_ref().err().cloned();
        outcome
    }

    fn backup_if_due(&self) -> Result<bool> {
        let Some(policy) = &self.options.backup_policy else {
            return Ok(false);
        };
        let known = self.backup_job.state.lock().newest;
        let newest = match known {
            Some(newest) => newest,
            None => self.look_for_newest(policy)?,
        };
        if !self.is_due(policy, newest) {
            return Ok(false);
        }
        let log_bytes = self.log.appended_bytes();
        let report = self.backup_to(&policy.repository)?;
        let mut state = self.backup_job.state.lock();
        state.newest = Some(Newest {
            index: report.index,
            made_us: self.clock.wall_us(),
            log_bytes,
        });
        state.made += 1;
        drop(state);
        let _alone = self.backups.lock();
        super::prune(self.options.vfs.clone(), &policy.repository, policy.keep)?;
        Ok(true)
    }

    fn is_due(&self, policy: &BackupPolicy, newest: Newest) -> bool {
        if self.views.visible() <= newest.index {
            return false;
        }
        let grown = self.log.appended_bytes().saturating_sub(newest.log_bytes);
        let by_bytes = policy.every_log_bytes > 0 && grown >= policy.every_log_bytes;
        // (If it was made in the future, the clock was ahead: nobody knows how old it is.)
        let age_us = self.clock.wall_us().checked_sub(newest.made_us);
        let by_time = policy.every.is_some_and(|every| {
            age_us.is_none_or(|age_us| u128::from(age_us) >= every.as_micros())
        });
        by_bytes || by_time
    }

    /// What the repository has; the bytes of log are counted from the open on.
    fn look_for_newest(&self, policy: &BackupPolicy) -> Result<Newest> {
        let _alone = self.backups.lock();
        let (repository, _lock) =
            Repository::take(self.options.vfs.clone(), &policy.repository, self.store_id)?;
        let era = self.lineage()?.newest();
        let backups = repository.backups()?;
        let contents = backups.iter().filter_map(|b| b.content.as_ref().ok());
        let of_era = contents.filter(|backup| backup.lineage.newest() == era);
        let newest = of_era.max_by_key(|backup| (backup.index, backup.made_us));
        let newest = Newest {
            index: newest.map(|backup| backup.index).unwrap_or_default(),
            made_us: newest.map(|backup| backup.made_us).unwrap_or_default(),
            log_bytes: self.log.appended_bytes(),
        };
        self.backup_job.state.lock().newest = Some(newest);
        Ok(newest)
    }

    /// Waits for work, and does it, until all must stop.
    pub(crate) fn backup_loop(&self) {
        let mut failures = 0;
        while self.signals.wait_for_backup(failures, self.backup_pause()) {
            let failed = loop {
                match self.step_backup() {
                    Ok(true) if self.calls.is_closed() => return,
                    Ok(true) => {}
                    Ok(false) => break false,
                    Err(_) => break self.latched().is_none(),
                }
            };
            failures = if failed { failures + 1 } else { 0 };
        }
    }
}
