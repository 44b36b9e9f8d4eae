//! Reading and judging one file, perhaps ahead of its turn.
//!
//! The chain is followed from the newest file to the oldest, and what one file says tells how the one
//! before it is judged. What it will say is in its header, which is known beforehand: so a second
//! thread begins at the oldest files, and a result that was come by under another assumption is
//! not used.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::error::Result;
use crate::types::{LogFileMeta, LogNumber};
use crate::wal::folder::{self, Folder};
use crate::wal::format::{RecordKind, UNIT_BYTES, decode_header, payload_matches};
use crate::wal::heal::Healer;
use crate::wal::identifiers::{Identifier, IdentifierTable};
use crate::wal::judge::{Context, Ending, Judged, end_record, judge};
use crate::wal::options::LogSetup;
use crate::wal::source::Source;

/// How many of the newest files are left to their turn: which of them is the log's head isn't known.
const LEFT_TO_THEIR_TURN: usize = 2;

/// A file of the log, read and judged.
#[derive(Debug)]
pub(super) struct Examined {
    pub judged: Judged,
    /// The file's length.
    pub len: u64,
    /// Units of its identifiers that are damaged, as offsets.
    pub damaged_units: Vec<u64>,
    /// Units of the log file that parity put together again, as offsets.
    pub healed: Vec<u64>,
}

/// A file to be read and judged.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub meta: &'a LogFileMeta,
    pub is_head: bool,
    /// Whether its own header isn't as it was written.
    pub is_header_bad: bool,
}

/// Reads and judges a file; `None` if it is gone.
///
/// # Errors
/// What the disk answers.
pub(super) fn examine(
    setup: &LogSetup<'_>,
    subject: Subject<'_>,
    context: Context,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Examined>> {
    let Subject { meta, is_head, .. } = subject;
    let mut table = folder::read_identifiers(setup, meta, is_head)?;
    let Some(source) = folder::open_log(setup, meta, &table, is_head)? else {
        return Ok(None);
    };
    let len = source.len();
    let mut healer = Healer::new(&*setup.vfs, &setup.dir, meta);
    if subject.is_header_bad {
        healer.heal(&source, 0..UNIT_BYTES);
    }
    let judged = judge(source, meta, &mut table, context, &mut healer, progress)?;
    let damaged_units = table.damaged_units().to_vec();
    Ok(Some(Examined {
        judged,
        len,
        damaged_units,
        healed: healer.healed(),
    }))
}

/// Whether a file with sealed identifiers ends with the `End` record of a clean close.
pub(super) fn was_closed(
    source: &Source,
    meta: &LogFileMeta,
    table: &mut IdentifierTable,
) -> Result<bool> {
    let Some(last) = table.last() else {
        return Ok(false);
    };
    let Some(offset) = last.lsn.0.checked_sub(meta.first_lsn.0) else {
        return Ok(false);
    };
    if last.kind != RecordKind::End || last.bytes > UNIT_BYTES {
        return Ok(false);
    }
    let mut bytes = vec![0; last.bytes as usize];
    // What can't be read is looked at in its turn.
    let Ok(read) = source.read(&mut bytes, offset) else {
        return Ok(false);
    };
    bytes.truncate(read);
    let header = decode_header(meta.salt, last.lsn, &bytes, last.bytes);
    Ok(header.is_some_and(|header| {
        Identifier::of(&header) == last
            && payload_matches(&header, &bytes)
            && end_record(&bytes[header.payload_at..]) == Ending::Closed
    }))
}

type Outcome = (Context, Result<Option<Examined>>);

#[derive(Default)]
struct State {
    claimed: HashSet<LogNumber>,
    /// `None` for one that was given up.
    done: HashMap<LogNumber, Option<Outcome>>,
}

/// A file that this thread examines. However that ends, those who wait for it hear of it.
struct Claim<'a> {
    ahead: &'a Ahead,
    number: LogNumber,
    outcome: Option<Outcome>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take();
        self.ahead.state.lock().done.insert(self.number, outcome);
        self.ahead.finished.notify_all();
    }
}

/// Files that are examined ahead of their turn.
#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    finished: Condvar,
    stopped: AtomicBool,
}

impl Ahead {
    /// Examines files, oldest first, until it meets those whose turn has come.
    pub fn run(&self, setup: &LogSetup<'_>, folder: &Folder) {
        let files: Vec<_> = folder.files.values().collect();
        for pair in files
            .windows(2)
            .take(files.len().saturating_sub(LEFT_TO_THEIR_TURN))
        {
            let [file, after] = pair else { continue };
            let (Some(meta), Some(next)) = (&file.meta, &after.meta) else {
                continue;
            };
            if !file.is_there || next.previous_number != meta.number {
                continue;
            }
            let number = meta.number;
            if self.stopped.load(Ordering::Relaxed) || !self.state.lock().claimed.insert(number) {
                return;
            }
            let mut claim = Claim {
                ahead: self,
                number,
                outcome: None,
            };
            let context = Context::before(next);
            let subject = Subject {
                meta,
                is_head: false,
                is_header_bad: file.is_header_bad,
            };
            claim.outcome = Some((context, examine(setup, subject, context, &mut |_| {})));
        }
    }

    /// Lets [`Ahead::run`] return after the file at hand.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// What came of a file whose turn it is; `None` if it must be examined now.
    pub fn take(&self, number: LogNumber, context: Context) -> Option<Result<Option<Examined>>> {
        let mut state = self.state.lock();
        if state.claimed.insert(number) {
            return None;
        }
        loop {
            if let Some(outcome) = state.done.remove(&number) {
                let (assumed, examined) = outcome?;
                return (assumed == context).then_some(examined);
            }
            self.finished.wait(&mut state);
        }
    }
}
