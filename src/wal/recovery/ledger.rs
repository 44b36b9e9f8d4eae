//! Puts the judged stretches of all files together: what counts, and which of the losses matter.

use std::path::{Path, PathBuf};

use crate::error::Damage;
use crate::types::{Index, Lsn};

use super::{Hole, RecoveredFile};
use crate::wal::format::{RecordKind, UNIT_BYTES};
use crate::wal::judge::{Loss, Piece};
use crate::wal::options::{LogReport, LogSetup};
use crate::wal::table::Verdict;
use crate::wal::timeline::Timeline;

/// A stretch of the log, with the file that holds it if it is lost.
enum Entry {
    Kept(Piece),
    Lost {
        path: PathBuf,
        first_lsn: Lsn,
        loss: Loss,
    },
}

/// Stretches and files in order, oldest first.
pub(super) struct Ledger<'a> {
    setup: &'a LogSetup<'a>,
    entries: Vec<Entry>,
    pub files: Vec<RecoveredFile>,
    pub report: LogReport,
}

impl<'a> Ledger<'a> {
    pub fn new(setup: &'a LogSetup<'a>, damage: Vec<Damage>) -> Self {
        Self {
            setup,
            entries: Vec::new(),
            files: Vec::new(),
            report: LogReport {
                damage,
                ..LogReport::default()
            },
        }
    }

    pub fn keep(&mut self, piece: Piece) {
        self.report.records += piece.records;
        self.report.bytes += piece.bytes;
        self.entries.push(Entry::Kept(piece));
    }

    /// Notes units of a file that parity put together again.
    pub fn healed(&mut self, path: &Path, units: &[u64]) {
        self.report.healed_blocks += units.len() as u64;
        for &offset in units {
            let what = "a block is not as it was written; parity makes up for it";
            let damage = Damage::new(path, offset, UNIT_BYTES, what);
            self.report.damage.push(damage);
        }
    }

    pub fn lose(&mut self, path: &Path, first_lsn: Lsn, loss: Loss) {
        let path = path.to_owned();
        self.entries.push(Entry::Lost {
            path,
            first_lsn,
            loss,
        });
    }

    /// Ends a file: how many entries there are by now.
    pub fn file(&self) -> usize {
        self.entries.len()
    }

    /// Joins everything. `ends`: for each file, how many entries there were at its end.
    pub fn close(mut self, ends: &[usize]) -> (Timeline, Vec<Hole>, Vec<RecoveredFile>, LogReport) {
        let floors = floors(&self.entries);
        let mut timeline = Timeline::default();
        let mut holes = Vec::new();
        let entries = std::mem::take(&mut self.entries);
        let mut tops = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            while ends.get(tops.len()).is_some_and(|&end| end <= at) {
                tops.push(timeline.last());
            }
            match entry {
                Entry::Kept(piece) => timeline.join(piece.timeline),
                Entry::Lost {
                    path,
                    first_lsn,
                    loss,
                } => {
                    let floor = floors.get(at).copied().flatten();
                    let hole = self.assess(&mut timeline, &path, first_lsn, &loss, floor);
                    // A file of which nothing is known has no place among the others.
                    holes.extend(Some(hole).filter(|hole| hole.from < hole.to));
                }
            }
        }
        tops.resize(ends.len(), timeline.last());
        for (file, top) in self.files.iter_mut().zip(tops) {
            file.top = top;
        }
        (timeline, holes, self.files, self.report)
    }

    /// Decides whether a loss matters, names it, and leaves its mark in the timeline.
    fn assess(
        &mut self,
        timeline: &mut Timeline,
        path: &Path,
        first_lsn: Lsn,
        loss: &Loss,
        floor: Option<Index>,
    ) -> Hole {
        let mut damage = describe(path, first_lsn, loss);
        let mut hole = Hole {
            from: loss.from,
            to: loss.to,
            damage: None,
        };
        let from = loss.mark.and_then(|mark| mark.supersedes());
        match (loss.mark, from) {
            (Some(mark), None) => {
                debug_assert_eq!(mark.kind, RecordKind::End);
                damage.what += "; it only ended the file";
            }
            (Some(mark), Some(from)) => {
                damage.indexes = Some((mark.index, mark.index));
                if floor.is_some_and(|floor| floor <= from) {
                    damage.what += "; it had been superseded";
                    timeline.record(&mark);
                } else {
                    timeline.lost(&mark);
                    let truncates = mark.kind == RecordKind::Truncate;
                    if truncates || mark.index > self.setup.needed_above {
                        self.report.needed.push(damage.clone());
                    }
                    hole.damage = Some(damage.clone());
                }
            }
            (None, _) => {
                let last = timeline.last();
                damage.indexes = floor
                    .filter(|floor| *floor > last.next())
                    .map(|floor| (last.next(), Index(floor.0 - 1)));
                if damage.indexes.is_none() && timeline.begun() {
                    damage.what += &format!("; it came after record {last}");
                }
                timeline.hole();
                if floor.is_none_or(|floor| floor > self.setup.needed_above.next()) {
                    self.report.needed.push(damage.clone());
                }
                hole.damage = Some(damage.clone());
            }
        }
        self.report.damage.push(damage);
        hole
    }
}

/// For each entry the lowest index that anything after it supersedes.
fn floors(entries: &[Entry]) -> Vec<Option<Index>> {
    let mut floors = vec![None; entries.len()];
    let mut floor: Option<Index> = None;
    for (at, entry) in entries.iter().enumerate().rev() {
        if let Some(place) = floors.get_mut(at) {
            *place = floor;
        }
        let own = match entry {
            Entry::Kept(piece) => piece.timeline.floor(),
            Entry::Lost { loss, .. } => loss.mark.and_then(|mark| mark.supersedes()),
        };
        floor = match (floor, own) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    floors
}

fn describe(path: &Path, first_lsn: Lsn, loss: &Loss) -> Damage {
    let offset = loss.from.0.saturating_sub(first_lsn.0);
    let bytes = loss.to.0.saturating_sub(loss.from.0);
    if first_lsn.0 == 0 {
        // The whole file.
        let what = match loss.verdict {
            Verdict::Unknown => "both headers are damaged: what the file held is unknown",
            _ => "a file of the log is missing",
        };
        let mut damage = Damage::new(path, 0, bytes, what);
        damage.lsns = (bytes > 0).then_some((loss.from, loss.to));
        return damage;
    }
    let mut what = loss.verdict.to_string();
    if let Some(mark) = loss.mark {
        what += &format!(" (index {}, term {})", mark.index, mark.term);
    }
    let mut damage = Damage::new(path, offset, bytes, what);
    damage.lsns = Some((loss.from, loss.to));
    damage
}
