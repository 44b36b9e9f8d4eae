//! The conflict window across flushes, openings and copies.
//!
//! A flush lets log go that the window is made of. So it puts what the window had of its records into the
//! manifest: a piece that follows the one of the flush before. Together they are the window as it was at the last
//! record that segments cover, and the log has the rest. Pieces that lie before the window as a whole go.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::Engine;
use crate::engine::conflicts::window::{ConflictWindow, last_of};
use crate::error::Result;
use crate::manifest::Change;
use crate::types::Index;
use crate::wal::Log;

/// What the window has of a generation's records.
#[derive(Debug, Default)]
pub(crate) struct WindowPiece {
    /// At its end, nothing is known of this record and those before it.
    pub(super) floor: Index,
    /// Varint record before the first one, varint last record, the records as they stand in a window's chunks.
    /// Empty if there is no piece.
    pub(super) bytes: Vec<u8>,
}

impl WindowPiece {
    /// What the manifest is to do with it; `there`: the pieces that it has.
    pub(crate) fn change(&self, there: &[Arc<[u8]>]) -> Option<Change> {
        let is_old = |piece: &&Arc<[u8]>| last_of(piece).is_none_or(|last| last <= self.floor);
        let dropped = there.iter().take_while(is_old).count() as u64;
        let added = self.bytes.as_slice().into();
        (!self.bytes.is_empty()).then_some(Change::ConflictWindow { dropped, added })
    }
}

impl Engine {
    /// Begins with the window as it was when the store was left, and gives the generations that were replayed
    /// their pieces. A store that nobody writes to needs none.
    ///
    /// # Errors
    /// Damage in the log, or what the disk answers.
    pub(crate) fn begin_window(&self) -> Result<()> {
        let mut commit = self.commit.lock();
        if !self.options.read_only && !self.options.tolerate_damage {
            let pieces = self.manifest.lock().state().conflict_window.clone();
            let limit = self.options.conflict_window_bytes;
            let mut window = of_pieces(limit, &pieces);
            commit.carried = window.last();
            let mut generations = self.generations.lock();
            for generation in generations.iter_mut().filter_map(Arc::get_mut) {
                window = advance(window, &self.log, generation.covered)?;
                generation.window = window.piece_after(commit.carried);
                commit.carried = window.last();
            }
            commit.window = advance(window, &self.log, commit.last_index)?;
        }
        self.note_conflict_floor(&commit.window);
        Ok(())
    }

    /// Tells others how far back the window reaches.
    pub(crate) fn note_conflict_floor(&self, window: &ConflictWindow) {
        let floor = window.floor();
        self.conflict_floor.store(floor.0, Ordering::Release);
    }

    /// Nothing is known to transactions of this record and those before it.
    pub(crate) fn conflict_floor(&self) -> Index {
        Index(self.conflict_floor.load(Ordering::Acquire))
    }
}

/// The window that pieces are together.
pub(super) fn of_pieces(limit: usize, pieces: &[Arc<[u8]>]) -> ConflictWindow {
    let mut window = ConflictWindow::new(limit, Index(0));
    pieces.iter().for_each(|piece| window.take_piece(piece));
    window
}

/// The window as it was at record `through`, from an earlier one and the log. Reads as much of the log's end as
/// is needed. What the log doesn't have is unknown to it.
fn advance(window: ConflictWindow, log: &Log, through: Index) -> Result<ConflictWindow> {
    let least = window.last().next().max(log.first_index());
    let mut bytes = window.limit() as u64;
    while window.last() < through {
        let from = log.index_before(through, bytes).max(least);
        let mut tail = match from == window.last().next() {
            true => window.clone(),
            false => ConflictWindow::new(window.limit(), Index(from.0.saturating_sub(1))),
        };
        let floor = tail.floor();
        read_into(&mut tail, log, from, through)?;
        if tail.last() < through {
            // Segments hold what the log has lost.
            tail.forget(through);
        }
        if from == least || tail.floor() > floor {
            return Ok(tail);
        }
        // All of it fits, and there may be more: records take more room in the log, or less, than they cost.
        bytes = bytes.saturating_mul(4).max(1);
    }
    Ok(window)
}

fn read_into(window: &mut ConflictWindow, log: &Log, from: Index, through: Index) -> Result<()> {
    if from > through {
        return Ok(());
    }
    let mut reader = log.read_from(from)?;
    while window.last() < through
        && let Some(record) = reader.next()?
    {
        window.push(record.index, record.kind, &record.payload);
    }
    Ok(())
}
