//! Parity in the background: which files it is to be written for, and when.

use super::Log;
use crate::error::{Error, Result};
use crate::types::{LogNumber, Parity};
use crate::wal::identify::StepError;
use crate::wal::protect::{ParityJob, Progress, Protector};

/// Whether to wait for whoever else writes parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Yes: afterwards all of it is written.
    Patient,
    /// No: somebody is at it.
    Hurried,
}

impl Log {
    /// Has parity written when there is time.
    pub(super) fn protect_later(&self, job: Option<ParityJob>) {
        let Some(job) = job else {
            return;
        };
        let mut unprotected = self.unprotected.lock();
        match unprotected.back_mut() {
            Some(last) if last.is_begun_by(&job) => *last = job,
            _ => unprotected.push_back(job),
        }
    }

    /// Has what is missing of the parity of files from before this log was opened written when there is time: that
    /// of a tail that recovery kept, above all.
    pub(super) fn protect_old_files(&self) {
        let files = self.view.lock().files.clone();
        let with_parity = files
            .into_iter()
            .filter(|file| file.meta.parity != Parity::Off);
        let jobs = with_parity.map(|file| ParityJob::Old {
            meta: file.meta,
            end: file.end,
        });
        self.unprotected.lock().extend(jobs);
    }

    /// Writes the parity that waits for it. Identifiers that become due meanwhile go first.
    pub(super) fn protect(&self, patience: Patience) -> Result<bool> {
        if !self.has_unprotected() {
            return Ok(false);
        }
        let turn = match patience {
            Patience::Patient => Some(self.parity_turn.lock()),
            Patience::Hurried => self.parity_turn.try_lock(),
        };
        let Some(mut protector) = turn else {
            return Ok(false);
        };
        let mut wrote = false;
        while self.has_unprotected() {
            wrote |= self.protect_next(&mut protector)?;
            if self.have_waited(self.setup.options.identifier_delay) {
                self.write_identifiers()?;
            }
        }
        Ok(wrote)
    }

    /// Takes the next step. True if something was written.
    pub(super) fn protect_next(&self, protector: &mut Protector) -> Result<bool> {
        let job = self.unprotected.lock().front().cloned();
        let Some(job) = job else {
            return Ok(false);
        };
        self.check_latch()?;
        let progress = match self.has_file(job.meta().number) {
            true => job.step(&self.setup, protector),
            // It has been purged.
            false => Ok(Progress::Done(0)),
        };
        match progress {
            Ok(Progress::More) => Ok(true),
            Ok(Progress::Done(groups)) => {
                self.protected(&job);
                Ok(groups > 0)
            }
            Err(StepError::Refused(error @ Error::NoSpace { .. })) if job.is_own() => {
                self.note_due();
                Err(error)
            }
            Err(StepError::Refused(error)) => {
                // The records are safe without it; the next writer tries again.
                tracing::warn!(%error, "a log file stays without a part of its parity");
                self.protected(&job);
                Ok(false)
            }
            Err(StepError::Final(error)) => Err(self.poison(&error)),
        }
    }

    /// Takes a job that is done from the front, unless it has grown meanwhile.
    fn protected(&self, job: &ParityJob) {
        let mut unprotected = self.unprotected.lock();
        if unprotected.front().is_some_and(|first| first.is_same(job)) {
            unprotected.pop_front();
        }
    }

    /// Whether there is parity to be written.
    pub(crate) fn has_unprotected(&self) -> bool {
        !self.unprotected.lock().is_empty()
    }

    /// How many files, or parts of one, are held open until they have their parity.
    pub(crate) fn held_for_parity(&self) -> usize {
        let unprotected = self.unprotected.lock();
        let own = unprotected.iter();
        own.filter(|job| job.is_own()).count()
    }

    /// Whether a file is part of the log.
    pub(super) fn has_file(&self, number: LogNumber) -> bool {
        let view = self.view.lock();
        view.files.iter().any(|file| file.meta.number == number)
    }
}
