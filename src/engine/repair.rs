//! Repair of a store that is damaged, be it that it can't be opened: what can be put together again is, and what
//! can't is given up only when that is asked for, by name, with the damaged files kept in `quarantine/`.
//!
//! A damaged segment is written anew with what can be read of it: the same versions, in the same level, so that what
//! is newer stays newer. Of the log what can be read is flushed, and a record behind all that is lost makes the next open begin
//! there. Each step is one edit of the manifest, after the evidence was kept: a crash leaves the store before the step or behind it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::engine::salvage::Lost;
use crate::engine::verify::{Severity, VerifyReport, verify};
use crate::engine::{Engine, ScrubReport};
use crate::error::{Damage, Error, Result};
use crate::journal::{Means, Outcome};
use crate::options::{Background, Options};
use crate::segment::{LostPart, Wreck, file_name};
use crate::types::{Durability, Index, SegmentMeta};
use crate::wal::{Append, RecordKind};

/// How far a repair goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairMode {
    /// Says what it would do, and changes nothing.
    List,
    /// Mends what can be mended without loss; the store must open.
    Mend,
    /// Also gives up what is lost, so that the rest can be used.
    AcceptLoss,
}

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// How bad it was.
    pub severity_before: Severity,
    /// How bad it is now; the same if nothing was changed.
    pub severity: Severity,
    /// What could, or can, be put together again.
    pub mendable: Vec<Damage>,
    /// What is lost for good: with [`RepairMode::AcceptLoss`] it was given up, else it is as it was.
    pub lost: Vec<Lost>,
    /// Files that are as they were written again.
    pub mended: u64,
    /// Files whose damaged bytes were kept in `quarantine/` because something of them was given up.
    pub quarantined: Vec<String>,
    /// Whether anything was changed.
    pub has_changed: bool,
}

/// Rounds of giving up; one brings what was loaded by the log into the manifest, where the next sees it.
const ROUNDS_MAX: usize = 3;

/// Repairs the store that `options` name, or says what a repair would do. Takes the store's lock unless it only lists.
/// Reads everything at least twice, needs room for the damaged segments' readable part, and leaves its
/// notes in the journal.
///
/// # Errors
/// [`Error::Damaged`] if the manifest can't be read: then [`salvage`](crate::salvage) is what helps; [`Error::Locked`]
/// beside a writer; [`Error::NoSpace`], after which the store is as it was or as a later step leaves it, and the
/// call can be made again; or what the disk answers.
pub fn repair(options: Options, mode: RepairMode) -> Result<RepairReport> {
    let found = verify(options.clone(), |_| {})?;
    let mut report = RepairReport {
        severity_before: found.severity,
        severity: found.severity,
        ..RepairReport::default()
    };
    let is_mendable = |damage: &&Damage| !found.lost.contains(damage);
    report.mendable = found.damage.iter().filter(is_mendable).cloned().collect();
    let plan = Plan::of(&options, &found)?;
    report.lost.clone_from(&plan.lost);
    let has_loss = found.severity >= Severity::Damaged;
    match mode {
        RepairMode::List => return Ok(report),
        _ if found.severity == Severity::Whole => {
            // What a crash has left goes as well.
            open(&options, false, false)?;
            return Ok(report);
        }
        RepairMode::Mend if found.severity == Severity::Unopenable => return Ok(report),
        RepairMode::AcceptLoss if has_loss => {
            let mut plan = plan;
            for _ in 0..ROUNDS_MAX {
                report.quarantined.extend(plan.give_up(&options)?);
                report.has_changed = true;
                let again = verify(options.clone(), |_| {})?;
                if again.severity < Severity::Damaged {
                    break;
                }
                plan = Plan::of(&options, &again)?;
            }
        }
        RepairMode::Mend | RepairMode::AcceptLoss => {}
    }
    let in_log = |damage: &Damage| {
        let kind = damage.path.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("log" | "ids" | "parity"))
    };
    let renews_log = report.mendable.iter().any(in_log);
    let scrubbed = open(&options, true, renews_log)?;
    report.mended = scrubbed.mended;
    report.has_changed |= scrubbed.mended > 0;
    report.severity = verify(options, |_| {})?.severity;
    report.quarantined.sort();
    report.quarantined.dedup();
    Ok(report)
}

/// Opens the store to write, mends what can be, and removes what a crash has left. Log that is damaged, and that
/// segments hold or will, goes if `renews_log`.
fn open(options: &Options, scrubs: bool, renews_log: bool) -> Result<ScrubReport> {
    let mut options = options.clone().read_only(false).create_if_missing(false);
    if renews_log {
        options = options.log_retained_bytes_min(0).log_retained_bytes_max(0);
    }
    let (engine, _) = Engine::open(options.background(Background::Manual))?;
    let scrubbed = match scrubs {
        true => engine.scrub_all(),
        false => Ok(ScrubReport::default()),
    };
    let scrubbed = scrubbed.inspect_err(|_| engine.abandon())?;
    if renews_log {
        let renewed = engine.flush_beyond(Index(0));
        renewed.inspect_err(|_| engine.abandon())?;
    }
    if scrubs {
        // Another generation of the manifest, so that files which it doesn't name may go.
        let renewed = engine.manifest.lock().renew();
        renewed.inspect_err(|_| engine.abandon())?;
    }
    while engine.step_reclaim().inspect_err(|_| engine.abandon())? {}
    engine.close()?;
    Ok(scrubbed)
}

/// What is to be given up.
#[derive(Debug, Default)]
struct Plan {
    /// Segments of which something is lost.
    segments: Vec<SegmentMeta>,
    /// Files of the log of which something is lost.
    log_files: BTreeSet<PathBuf>,
    lost: Vec<Lost>,
    /// No record that is lost has a higher index.
    last_lost: Index,
}

impl Plan {
    fn of(options: &Options, found: &VerifyReport) -> Result<Self> {
        let mut plan = Self::default();
        if found.lost.is_empty() {
            return Ok(plan);
        }
        let known = crate::engine::salvage::manifest_state(options)?;
        let mut in_segments = BTreeSet::new();
        for keyspace in known.keyspaces.values() {
            for fence in &keyspace.fences {
                let lost = Lost::of_fence(&options.path, fence, &keyspace.name);
                in_segments.insert(lost.damage.path.clone());
                plan.lost.push(lost);
            }
            for (_, meta) in keyspace.segments.values() {
                let path = options.path.join(file_name(meta.number));
                if !found.lost.iter().any(|damage| damage.path == path) {
                    continue;
                }
                in_segments.insert(path.clone());
                plan.segments.push(meta.clone());
                for part in lost_of(options, meta)? {
                    plan.lost.push(Lost {
                        damage: part.damage,
                        keyspace: Some(keyspace.name.clone()),
                        from: part.from,
                        to: part.to,
                    });
                }
            }
        }
        for damage in &found.lost {
            if in_segments.contains(&damage.path) {
                continue;
            }
            let last = damage.indexes.map(|(_, last)| last).unwrap_or_default();
            plan.last_lost = plan.last_lost.max(last);
            plan.log_files.insert(damage.path.clone());
            plan.lost.push(Lost::anywhere(damage.clone()));
        }
        Ok(plan)
    }

    /// Gives it up. Returns the names of the files that were kept as evidence.
    fn give_up(&self, options: &Options) -> Result<Vec<String>> {
        let mut options = options
            .clone()
            .read_only(false)
            .create_if_missing(false)
            .background(Background::Manual)
            .log_retained_bytes_min(0)
            .log_retained_bytes_max(0);
        options.tolerate_damage = true;
        let (engine, _) = Engine::open(options)?;
        let done = self.run(&engine);
        engine.abandon();
        done
    }

    fn run(&self, engine: &Engine) -> Result<Vec<String>> {
        let dir = &engine.options.path;
        let damaged = self
            .segments
            .iter()
            .map(|meta| dir.join(file_name(meta.number)));
        let mut kept = Vec::new();
        for path in damaged.chain(self.log_files.iter().cloned()) {
            if engine.keep_as_evidence(&path)? {
                let name = path.file_name().unwrap_or_default();
                kept.push(name.to_string_lossy().into_owned());
            }
        }
        // What is left of them first, with fences around the rest: a repair that is cut short leaves these.
        for meta in &self.segments {
            engine.fence_segment(meta.number, meta.file_id, false)?;
        }
        for tree in engine.keyspaces.load_full().trees() {
            engine.rescue_broken(tree, false)?;
        }
        engine.accept_losses()?;
        engine.flush_beyond(self.last_lost)?;
        for lost in &self.lost {
            let name = lost.damage.path.file_name().unwrap_or_default();
            let note = engine.repair(Outcome::Lost, Means::None, &name.to_string_lossy());
            let place = (lost.damage.offset, lost.damage.bytes);
            let what = format!("given up by a repair: {}", lost.damage.what);
            engine.note_repair(&note.at([place].into_iter()).because(&what));
        }
        Ok(kept)
    }
}

/// What of a segment can't be read.
fn lost_of(options: &Options, meta: &SegmentMeta) -> Result<Vec<LostPart>> {
    let path = options.path.join(file_name(meta.number));
    let whole = |what: String| LostPart {
        damage: Damage::new(&path, 0, meta.bytes, what),
        from: Some(meta.smallest_key.clone()),
        to: (!meta.is_endless).then(|| meta.largest_key.clone()),
    };
    let mut wreck = match Wreck::open(options.vfs.as_ref(), &path, meta.number, Some(meta)) {
        Ok(wreck) => wreck,
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(vec![whole("the file is missing".to_owned())]);
        }
        Err(Error::Io { source, .. }) => return Ok(vec![whole(source.to_string())]),
        Err(error) => return Err(error),
    };
    loop {
        wreck.next()?;
        if wreck.entry().is_none() {
            return Ok(wreck.lost().to_vec());
        }
    }
}

impl Engine {
    /// Flushes what of the log can be read, and makes the log begin behind all that is lost.
    fn flush_beyond(&self, last_lost: Index) -> Result<()> {
        let mut state = self.commit.lock();
        let index = state.last_index.max(last_lost).next();
        self.log.skip_to(index);
        let record = Append {
            time_us: state.last_time_us,
            ..Append::new(RecordKind::Noop, index, &[])
        };
        let end = self.log.append(&[record], Durability::Disk)?;
        self.log.sync_to(end)?;
        state.last_index = index;
        drop(state);
        self.flush()
    }
}
