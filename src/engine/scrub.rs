//! The scrubber: reads every byte of the store now and then, past the page cache where the disk has a way to do
//! that, so that damage nobody has met yet is found while there is something to mend it with.
//!
//! A round reads the segments by their numbers, then the log, and compares the small copies. What was read is noted
//! segment by segment, so that a round goes on after a restart. What segments have lost is put together again from
//! parity as if a read had met it; a damaged copy is written anew from the other one; and log that can't be read is
//! no longer needed once what it says, which is in memory, has been flushed.

mod checks;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::{Engine, is_store};
use crate::error::{Damage, Error, Result};
use crate::journal::{Means, Outcome, Progress, Repair, Repairs};
use crate::options::Options;
use crate::segment::Segment;
use crate::types::SegmentNumber;

/// How much is read between two pauses.
const PACE_BYTES: u64 = 1 << 20;
/// How much longer the pauses are while others read from the disk.
const YIELD: u32 = 4;
/// How long the scrubber waits at most before it asks the clock again.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// What a round of the scrubber has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Segments read.
    pub segments: u64,
    /// Records of the log read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that wasn't as it was written.
    pub damage: Vec<Damage>,
    /// Files that are as they were written again. (Unless [`Db::scrub`](crate::Db::scrub) was called, segments are
    /// mended meanwhile or after: see `Statistics::mended_segments`.)
    pub mended: u64,
    /// Files beside the segments of which no copy is left as it was written.
    pub lost: u64,
    /// What kept a part of the store from being read, or mended.
    pub failures: Vec<String>,
}

/// How far the scrubber has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubStatus {
    /// When the round under way began, in microseconds since 1970, if one is.
    pub started_us: Option<u64>,
    /// Bytes of segments it has read.
    pub bytes_done: u64,
    /// Bytes of segments that it has to read, as far as is known.
    pub bytes_total: u64,
    /// When the last whole round ended, in microseconds since 1970; `None`: never.
    pub finished_us: Option<u64>,
    /// What has been found since the store was opened.
    pub report: ScrubReport,
    /// What kept the last step from its work, until one succeeds.
    pub failure: Option<String>,
}

/// What the scrubber knows.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Held by whoever scrubs.
    turn: Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// What the folder says; read when it is needed first.
    progress: Option<Progress>,
    report: ScrubReport,
    failure: Option<Error>,
}

/// Asked before each MiB is read.
type GoOn<'a> = &'a dyn Fn() -> Result<()>;

impl Engine {
    /// Does a piece of a round, if one is due: a segment, or all that isn't one. `false` if there is nothing to do.
    pub(crate) fn step_scrub(&self) -> Result<bool> {
        self.step_scrub_while(&|| self.calls.check())
    }

    fn step_scrub_while(&self, go_on: GoOn<'_>) -> Result<bool> {
        let _turn = self.scrub.turn.lock();
        let outcome = match self.options.scrub_every {
            Some(every) if !self.options.read_only && self.latched().is_none() => {
                self.scrub_if_due(every, go_on)
            }
            _ => Ok(false),
        };
        self.scrub.known.lock().failure = outcome.as_ref().err().cloned();
        outcome
    }

    fn scrub_if_due(&self, every: Duration, go_on: GoOn<'_>) -> Result<bool> {
        if !self.until_scrub(every).is_zero() {
            return Ok(false);
        }
        let _call = self.calls.enter()?;
        let mut progress = self.scrub_progress();
        if progress.started_us == 0 {
            progress.started_us = self.clock.wall_us().max(1);
            progress.before = self.next_number();
        }
        let wanted = (progress.through, progress.before);
        let (found, through) = self.scrub_next(wanted, go_on)?;
        match through {
            Some(number) => {
                progress.through = number;
                progress.bytes = progress.bytes.saturating_add(found.bytes);
            }
            None => {
                progress = Progress {
                    finished_us: self.clock.wall_us().max(1),
                    ..Progress::default()
                };
                tracing::info!("scrubbed");
            }
        }
        self.scrub.known.lock().add(found, progress);
        progress.write(&*self.options.vfs, &self.options.path)?;
        Ok(true)
    }

    /// How long until there is something to scrub.
    fn until_scrub(&self, every: Duration) -> Duration {
        let progress = self.scrub_progress();
        if progress.started_us > 0 {
            return Duration::ZERO;
        }
        let created_us = self.manifest.lock().state().created_us;
        let last_us = progress.finished_us.max(created_us);
        match self.clock.wall_us().checked_sub(last_us) {
            Some(since_us) => every.saturating_sub(Duration::from_micros(since_us)),
            // The clock was ahead then, or is behind now: nobody knows how long ago it was.
            None => Duration::ZERO,
        }
    }

    fn scrub_progress(&self) -> Progress {
        let mut known = self.scrub.known.lock();
        let read = || Progress::read(&*self.options.vfs, &self.options.path);
        *known.progress.get_or_insert_with(read)
    }

    /// No segment has this number yet.
    fn next_number(&self) -> SegmentNumber {
        SegmentNumber(self.next_segment.load(Ordering::Relaxed))
    }

    /// Reads the first segment above and below these numbers, and says which it was; or, if there is none, all else.
    fn scrub_next(
        &self,
        wanted: (SegmentNumber, SegmentNumber),
        go_on: GoOn<'_>,
    ) -> Result<(ScrubReport, Option<SegmentNumber>)> {
        let Some(segment) = self.segment_between(wanted) else {
            return Ok((self.scrub_the_rest(go_on), None));
        };
        let mut found = ScrubReport {
            segments: 1,
            bytes: segment.meta().bytes,
            ..ScrubReport::default()
        };
        self.scrub_segment(&segment, &mut found, go_on)?;
        Ok((found, Some(segment.meta().number)))
    }

    fn segment_between(
        &self,
        (above, before): (SegmentNumber, SegmentNumber),
    ) -> Option<Arc<Segment>> {
        let number = |segment: &Arc<Segment>| segment.meta().number;
        let keyspaces = self.keyspaces.load();
        let each = keyspaces.trees().filter_map(|tree| {
            let state = tree.load();
            let segments = state.segments().map(|(_, segment)| segment);
            let wanted = segments.filter(|s| above < number(s) && number(s) < before);
            wanted.min_by_key(|segment| number(segment)).cloned()
        });
        each.min_by_key(number)
    }

    fn scrub_segment(
        &self,
        segment: &Arc<Segment>,
        found: &mut ScrubReport,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        if segment.is_whole(Some(&*self.options.vfs), go_on)? {
            return Ok(());
        }
        // (Where it is damaged is found out, and written down, when it is mended.)
        let what = "the disk doesn't have it as it was written";
        found.damage.push(segment.damage_as_a_whole(what));
        let meta = segment.meta();
        let mendings = self.cache.mendings();
        mendings.note(meta.number, meta.file_id, &[]);
        Ok(())
    }

    /// Reads everything now, and mends what can be mended. A round that is under way goes on afterwards.
    pub(crate) fn scrub_all(&self) -> Result<ScrubReport> {
        self.check_writable()?;
        let _turn = self.scrub.turn.lock();
        let _call = self.calls.enter()?;
        let go_on = || self.calls.check();
        let mut report = ScrubReport::default();
        let mut wanted = (SegmentNumber(0), self.next_number());
        let mended = self.mended_files();
        loop {
            let (found, through) = self.scrub_next(wanted, &go_on)?;
            report.add(found);
            match through {
                Some(number) => wanted.0 = number,
                None => break,
            }
        }
        self.mend_again();
        loop {
            match self.step_mend() {
                Ok(true) | Err(Error::Damaged(_)) => {}
                Ok(false) => break,
                Err(error) => {
                    report.failures.push(error.to_string());
                    break;
                }
            }
        }
        report.mended += self.mended_files() - mended;
        self.scrub.known.lock().report.add(report.clone());
        Ok(report)
    }

    /// Writes down what became of damage. That this fails changes nothing about the repair.
    pub(super) fn note_repair(&self, repair: &Repair) {
        let _turn = self.journal_turn.lock();
        let told = crate::journal::append(&*self.options.vfs, &self.options.path, repair);
        if let Err(error) = told {
            tracing::warn!(%error, "a repair couldn't be written down");
        }
    }

    /// A repair of a file, as of now.
    pub(super) fn repair(&self, outcome: Outcome, means: Means, file: &str) -> Repair {
        Repair::new(self.clock.wall_us(), outcome, means, file)
    }

    pub(crate) fn scrub_status(&self) -> ScrubStatus {
        let known = self.scrub.known.lock().clone();
        let progress = self.scrub_progress();
        let before = match progress.started_us {
            0 => self.next_number(),
            _ => progress.before,
        };
        let rest: u64 = {
            let keyspaces = self.keyspaces.load();
            let of_tree = |tree: &Arc<super::Tree>| -> u64 {
                let state = tree.load();
                let metas = state.segments().map(|(_, segment)| segment.meta());
                let is_left = |number| progress.through < number && number < before;
                let rest = metas.filter(|meta| is_left(meta.number));
                rest.map(|meta| meta.bytes).sum()
            };
            keyspaces.trees().map(of_tree).sum()
        };
        ScrubStatus {
            started_us: Some(progress.started_us).filter(|us| *us > 0),
            bytes_done: progress.bytes,
            bytes_total: progress.bytes.saturating_add(rest),
            finished_us: Some(progress.finished_us).filter(|us| *us > 0),
            report: known.report,
            failure: known.failure.as_ref().map(Error::to_string),
        }
    }

    /// Scrubs when it is time to, slowly.
    pub(super) fn scrub_loop(&self) {
        let Some(every) = self.options.scrub_every else {
            return;
        };
        let last_misses = Mutex::new(0);
        let paced = || {
            self.calls.check()?;
            self.signals
                .pause(self.scrub_pause(&mut last_misses.lock()));
            self.calls.check()
        };
        loop {
            let rest = match self.step_scrub_while(&paced) {
                Ok(true) => Duration::ZERO,
                Ok(false) => self
                    .until_scrub(every)
                    .clamp(super::jobs::RETRY_AFTER, LOOK_AGAIN),
                Err(_) => super::jobs::RETRY_AFTER * 60,
            };
            if self.calls.is_closed() || !self.signals.rest(rest) {
                return;
            }
        }
    }

    /// How long to leave the disk alone before the next MiB.
    fn scrub_pause(&self, last_misses: &mut u64) -> Duration {
        let rate = self.options.scrub_bytes_per_second;
        if rate == 0 {
            return Duration::ZERO;
        }
        let misses = self.cache.counts().cache_misses;
        let is_idle = std::mem::replace(last_misses, misses) == misses;
        let pause = Duration::from_secs(PACE_BYTES) / u32::try_from(rate).unwrap_or(u32::MAX);
        if is_idle { pause } else { pause * YIELD }
    }
}

impl Known {
    fn add(&mut self, found: ScrubReport, progress: Progress) {
        self.report.add(found);
        self.progress = Some(progress);
    }
}

/// What has been written down of repairs of the store that `options` name, also of one that can't be opened.
///
/// # Errors
/// What the disk answers. Lines that aren't as they were written are counted, and no error.
pub fn repairs(options: &Options) -> Result<Repairs> {
    let found = crate::journal::read(&*options.vfs, &options.path)?;
    if found == Repairs::default() && !is_store(options)? {
        let (path, why) = (options.path.clone(), "it has no manifest".to_owned());
        return Err(Error::NotAStore { path, why });
    }
    Ok(found)
}

/// Damage that a report of a store that is open for years names at most.
const DAMAGE_MAX: usize = 1_000;

impl ScrubReport {
    fn add(&mut self, found: Self) {
        self.segments += found.segments;
        self.records += found.records;
        self.bytes = self.bytes.saturating_add(found.bytes);
        let room = DAMAGE_MAX.saturating_sub(self.damage.len());
        self.damage.extend(found.damage.into_iter().take(room));
        self.mended += found.mended;
        self.lost += found.lost;
        let room = DAMAGE_MAX.saturating_sub(self.failures.len());
        self.failures.extend(found.failures.into_iter().take(room));
    }
}
