//! What an operator must know of a store, worst first.

use std::fmt;

use super::Engine;
use crate::error::Error;
use crate::watch::{DiskHealth, DiskState};

/// How a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HealthState {
    /// As it should.
    #[default]
    Well,
    /// It serves, but something asks to be looked at.
    Degraded,
    /// It takes no more writes.
    Failed,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        })
    }
}

/// What a [`Finding`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// A sync or a write failed, and the store takes no more writes: open it again.
    Latched,
    /// Keys whose newest values are lost: see [`Db::lost_ranges`](crate::Db::lost_ranges).
    Lost,
    /// Calls of the disk fail: see [`DiskState::Erring`].
    DiskErring,
    /// The disk holds up calls: see [`DiskState::Slow`].
    DiskSlow,
    /// Damage was found that couldn't be mended so far.
    MendFailure,
    /// Damage was found, put together again for whoever reads it, and isn't mended on the disk yet.
    Damage,
    /// The last flush or compaction failed; it is tried again.
    BackgroundFailure,
    /// The last backup by policy, or the archive of the log, failed; it is tried again.
    BackupFailure,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latched => "takes no more writes",
            Self::Lost => "lost ranges",
            Self::DiskErring => "disk errs",
            Self::DiskSlow => "disk is slow",
            Self::MendFailure => "mending failure",
            Self::Damage => "damage",
            Self::BackgroundFailure => "background failure",
            Self::BackupFailure => "backup failure",
        })
    }
}

/// Something that asks to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What it makes of the store.
    pub state: HealthState,
    /// What it is about.
    pub kind: FindingKind,
    /// It in words.
    pub what: String,
}

/// How a store does, and why: from [`Db::health`](crate::Db::health).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The worst of the findings'.
    pub state: HealthState,
    /// What asks to be looked at, worst first.
    pub findings: Vec<Finding>,
    /// How the disk does.
    pub disk: DiskHealth,
}

impl Engine {
    /// How the disk does.
    pub(crate) fn disk_health(&self) -> DiskHealth {
        let now = self.clock.elapsed();
        self.disk.health(now, self.options.disk_slow_after)
    }

    /// What asks to be looked at.
    pub(crate) fn health(&self) -> Health {
        let disk = self.disk_health();
        let mut findings = Vec::new();
        let mut add = |kind, what: Option<String>| {
            let state = match kind {
                FindingKind::Latched => HealthState::Failed,
                _ => HealthState::Degraded,
            };
            findings.extend(what.map(|what| Finding { state, kind, what }));
        };
        let said = |error: Option<Error>| error.map(|error| error.to_string());
        add(
            FindingKind::Latched,
            self.latched().map(|cause| cause.to_string()),
        );
        let lost = self.lost_ranges().len();
        add(
            FindingKind::Lost,
            (lost > 0).then(|| format!("{lost} ranges of keys answer `Damaged`")),
        );
        match disk.state {
            DiskState::Well => {}
            DiskState::Slow => add(FindingKind::DiskSlow, Some(how_slow(&disk))),
            DiskState::Erring => add(FindingKind::DiskErring, disk.last_error.clone()),
        }
        let mend_failure = self.mend_failure.lock().clone();
        add(FindingKind::MendFailure, said(mend_failure));
        let (segments, logs) = (
            self.cache.mendings().damaged(),
            self.log.mendings().damaged(),
        );
        add(
            FindingKind::Damage,
            (segments + logs > 0)
                .then(|| format!("{segments} segments and {logs} log files wait to be mended")),
        );
        add(
            FindingKind::BackgroundFailure,
            said(self.signals.last_failure()),
        );
        add(FindingKind::BackupFailure, said(self.backup_job.failure()));
        let states = findings.iter().map(|finding| finding.state);
        Health {
            state: states.max().unwrap_or_default(),
            findings,
            disk,
        }
    }
}

fn how_slow(disk: &DiskHealth) -> String {
    let ms = |us: u64| us / 1_000;
    let (recent, best) = (ms(disk.recent_sync_us), ms(disk.best_sync_us));
    let (calls, slowest) = (disk.slow_calls, ms(disk.slowest_call_us));
    let waiting = disk.waiting_sync_us.map_or_else(String::new, |us| {
        format!(", a sync is under way for {} ms", ms(us))
    });
    format!(
        "{calls} slow calls, the longest {slowest} ms; median of syncs {recent} ms, at best {best} ms{waiting}"
    )
}
