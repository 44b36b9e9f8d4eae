//! A workload that goes through everything a log does, for tests that break it off or damage it.

use super::history::History;
use super::*;

/// What to do about an error in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    /// The power is off.
    Stop,
    /// Go on with the next step, as a program would, unless the log has latched.
    GoOn,
}

/// A registry that knows the files, as a manifest would: durable at once.
#[derive(Debug, Default)]
pub(super) struct Known(pub parking_lot::Mutex<Vec<LogFileMeta>>);

impl LogRegistry for Known {
    fn prepared(&self, meta: &LogFileMeta) -> Result<()> {
        self.0.lock().push(meta.clone());
        Ok(())
    }

    fn removed(&self, numbers: &[LogNumber]) -> Result<()> {
        self.0.lock().retain(|meta| !numbers.contains(&meta.number));
        Ok(())
    }
}

/// Runs the workload on an open log. Returns the first error.
pub(super) fn run(log: &Log, history: &mut History, on_error: OnError) -> Result<()> {
    let mut first_error = None;
    for step in 0..STEPS {
        if let Err(error) = run_step(log, history, step) {
            let refused = matches!(error, Error::NoSpace { .. } | Error::Io { .. });
            if on_error == OnError::Stop || !refused {
                return Err(error);
            }
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

const STEPS: usize = 17;

fn run_step(log: &Log, history: &mut History, step: usize) -> Result<()> {
    let next = history.last() + 1;
    let group = |history: &mut History, index, bytes: &[usize], durability| {
        let done = history.append(log, index, bytes, durability);
        if let Err(Error::NoSpace { .. } | Error::Io { .. }) = done {
            // Refused: nothing of it may ever be seen.
            history.take_back(bytes.len());
        }
        done
    };
    match step {
        0 | 9 => {
            for index in next..next + 3 {
                group(history, index, &[60], Durability::Disk)?;
                history.sync(log)?;
            }
        }
        2 => {
            // Small ones that could share a unit, synced one by one.
            for index in next..next + 3 {
                group(history, index, &[60], Durability::Process)?;
                history.sync(log)?;
            }
        }
        1 | 5 => drop(log.step_identifiers()?),
        4 | 14 => drop(log.step_prepare()?),
        3 => {
            // In flight together: none is durable before the last.
            group(history, next, &[500, 700, 900], Durability::Disk)?;
            group(history, next + 3, &[5_000], Durability::Disk)?;
            group(history, next + 4, &[30], Durability::Disk)?;
            history.sync(log)?;
        }
        6 => {
            for index in next..next + 8 {
                group(history, index, &[900], Durability::Process)?;
            }
            // What isn't durable must not be identified.
            log.step_identifiers()?;
        }
        7 => {
            for index in next..next + 12 {
                group(history, index, &[800], Durability::Buffered)?;
            }
        }
        8 => history.sync(log)?,
        10 => history.truncate(log, next.saturating_sub(3))?,
        11 => {
            // A new leader's entries in place of old ones.
            let first = next.saturating_sub(2).max(1);
            group(history, first, &[90, 90], Durability::Disk)?;
            history.sync(log)?;
        }
        12 => history.purge(log, next.saturating_sub(10))?,
        13 => {
            group(history, next, &[20_000], Durability::Disk)?;
            history.sync(log)?;
        }
        15 => {
            group(history, next, &[100, 4_000], Durability::Process)?;
            group(history, next + 2, &[100], Durability::Disk)?;
        }
        _ => {
            log.close()?;
            history.acknowledged = history.now();
        }
    }
    Ok(())
}
