//! Two copies of one generation, made one: the state that they hold together, and what is wrong
//! with them.

use super::encoding::{decode_edit, decode_state};
use super::format::{Frame, FrameKind, Header, HeaderFault, Side, VERSION};
use super::scan::{Image, Scan};
use super::state::ManifestState;
use super::table::{Verdict, decide};
use crate::error::{Damage, Error, Result};
use crate::types::UNIT;

/// What two copies hold together.
#[derive(Debug)]
pub(super) struct Merged {
    pub state: ManifestState,
    /// The number of the last edit in it.
    pub sequence: u64,
    /// Bytes of an edit that a crash cut short.
    pub torn_bytes: u64,
    /// What is wrong with one copy and right in the other.
    pub damage: Vec<Damage>,
}

/// The two copies of a generation, as they were read.
#[derive(Debug)]
pub(super) struct Pair {
    pub generation: u64,
    pub a: Image,
    pub b: Image,
    /// Whether files of an older generation are still there: then this one may have been published
    /// in one copy only when the crash came.
    pub older: bool,
}

impl Pair {
    /// Makes the copies one.
    ///
    /// # Errors
    /// `NewerFormat`; `Damaged` if both copies are damaged at one place.
    pub(super) fn merge(&self) -> Result<Merged> {
        let mut damage = Vec::new();
        let header = self.header(&mut damage)?;
        let mut merge = Merge {
            a: Scan::new(&self.a, header.file_id),
            b: Scan::new(&self.b, header.file_id),
            damage,
            torn_bytes: 0,
        };
        for image in [&self.a, &self.b] {
            merge.damage.extend(image.damage(header.capacity));
        }
        let (mut state, mut sequence, base_end) = merge.base(&header)?;
        let mut end = base_end;
        while let Some(frame) = merge.next(end, sequence.wrapping_add(1), header.capacity)? {
            merge.apply(&mut state, &frame)?;
            (end, sequence) = (frame.0.range.end, frame.0.sequence);
        }
        merge.finish(end);
        let unfinished = end == base_end && (self.older || sequence == 1);
        for image in [&self.a, &self.b] {
            if !image.present && !unfinished {
                let what = "the file is missing";
                merge.damage.push(Damage::new(&image.path, 0, 0, what));
            }
        }
        Ok(Merged {
            state,
            sequence,
            torn_bytes: merge.torn_bytes,
            damage: merge.damage,
        })
    }

    /// The header that holds for both copies.
    fn header(&self, damage: &mut Vec<Damage>) -> Result<Header> {
        let mut headers = Vec::new();
        for image in [&self.a, &self.b] {
            match image.header(self.generation) {
                Ok(header) => headers.push(header),
                Err(HeaderFault::Newer(found)) => {
                    return Err(Error::NewerFormat {
                        path: image.path.clone(),
                        found,
                        supported: VERSION,
                    });
                }
                Err(HeaderFault::Bad(what)) if image.present => {
                    damage.push(Damage::new(&image.path, 0, UNIT as u64, what));
                }
                Err(HeaderFault::Bad(_)) => {}
            }
        }
        let mut headers = headers.into_iter();
        match (headers.next(), headers.next()) {
            (Some(header), None) => Ok(header),
            (Some(header), Some(other)) if header == other => Ok(header),
            (Some(_), Some(_)) => {
                let what = "the two copies don't belong together";
                damage.push(Damage::new(&self.b.path, 0, UNIT as u64, what));
                Err(Error::Damaged(std::mem::take(damage)))
            }
            (None, _) => {
                for image in [&self.a, &self.b] {
                    if !image.present {
                        let what = "the file is missing";
                        damage.push(Damage::new(&image.path, 0, 0, what));
                    }
                }
                Err(Error::Damaged(std::mem::take(damage)))
            }
        }
    }
}

/// A frame, and the copy that it is taken from.
type Kept = (Frame, Side);

struct Merge<'a> {
    a: Scan<'a>,
    b: Scan<'a>,
    torn_bytes: u64,
    damage: Vec<Damage>,
}

impl Merge<'_> {
    /// The state that a generation begins with, its number, and where it ends. It was in both copies
    /// before either was published, so a copy that lacks it is damaged.
    fn base(&mut self, header: &Header) -> Result<(ManifestState, u64, usize)> {
        let a = self.a.frame(UNIT, FrameKind::State).cloned();
        let b = self.b.frame(UNIT, FrameKind::State).cloned();
        let (frame, side) = match (a, b) {
            (Some(a), Some(b)) => {
                if !self.agree(&a, &b) {
                    return Err(self.refuse(UNIT, "the copies disagree about the state"));
                }
                (a, Side::A)
            }
            (Some(a), None) => {
                self.blame(Side::B, &a, "the state");
                (a, Side::A)
            }
            (None, Some(b)) => {
                self.blame(Side::A, &b, "the state");
                (b, Side::B)
            }
            (None, None) => return Err(self.refuse_both(UNIT, "the state")),
        };
        let payload = self.scan(side).payload(&frame);
        match decode_state(payload) {
            Some(state) if state.store_id == header.store_id => {
                Ok((state, frame.sequence, frame.range.end))
            }
            _ => Err(self.refuse(UNIT, "the state is intact and yet makes no sense")),
        }
    }

    /// The next edit that counts, if there is one.
    fn next(&mut self, offset: usize, sequence: u64, capacity: u64) -> Result<Option<Kept>> {
        if offset as u64 >= capacity {
            return Ok(None);
        }
        let (in_a, in_b) = (
            self.a.found(offset, sequence),
            self.b.found(offset, sequence),
        );
        let a = self.a.edit(offset, sequence).cloned();
        let b = self.b.edit(offset, sequence).cloned();
        let agree = match (&a, &b) {
            (Some(a), Some(b)) => self.agree(a, b),
            _ => true,
        };
        let what = || format!("edit {sequence}");
        match (decide(in_a, in_b, agree), a, b) {
            (Verdict::Keep, Some(a), _) => Ok(Some((a, Side::A))),
            (Verdict::KeepTornB, Some(a), _) => {
                let torn = self.b.bytes_end.min(a.range.end).saturating_sub(offset);
                self.torn_bytes += torn as u64;
                Ok(Some((a, Side::A)))
            }
            (Verdict::KeepHealB, Some(a), _) => {
                self.blame(Side::B, &a, &what());
                Ok(Some((a, Side::A)))
            }
            (Verdict::KeepHealA, _, Some(b)) => {
                self.blame(Side::A, &b, &what());
                Ok(Some((b, Side::B)))
            }
            (Verdict::End | Verdict::Torn, ..) => Ok(None),
            (_, Some(_), Some(_)) => {
                Err(self.refuse(offset, &format!("the copies disagree about {}", what())))
            }
            (Verdict::Damaged, ..) => Err(self.refuse_both(offset, &what())),
            // The table keeps only what one of the copies holds.
            (_, None, _) | (_, _, None) => Err(self.refuse_both(offset, &what())),
        }
    }

    fn apply(&mut self, state: &mut ManifestState, (frame, side): &Kept) -> Result<()> {
        let payload = self.scan(*side).payload(frame);
        let done = match decode_edit(payload) {
            None => Err("it isn't understood".to_owned()),
            Some(changes) => changes.iter().try_for_each(|change| state.change(change)),
        };
        done.map_err(|why| {
            let what = format!(
                "edit {} is intact and yet makes no sense: {why}",
                frame.sequence
            );
            self.refuse(frame.range.start, &what)
        })
    }

    /// Counts what is left after the last edit that counts.
    fn finish(&mut self, end: usize) {
        self.torn_bytes += self.a.bytes_end.saturating_sub(end) as u64;
        let stray = self.b.bytes_end.saturating_sub(end);
        if stray > 0 {
            // B is written only after A; what is here without A's edit is not a torn write.
            let what = "bytes in space that was never written";
            let damage = Damage::new(&self.b.image.path, end as u64, stray as u64, what);
            self.damage.push(damage);
        }
    }

    fn agree(&self, a: &Frame, b: &Frame) -> bool {
        a == b && self.a.payload(a) == self.b.payload(b)
    }

    fn scan(&self, side: Side) -> &Scan<'_> {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Reports that a copy lacks what the other one holds.
    fn blame(&mut self, side: Side, frame: &Frame, what: &str) {
        let scan = self.scan(side);
        if !scan.image.present {
            return; // said once, for the whole file
        }
        let what = format!(
            "{what}: {}; the other copy has it",
            scan.fault(frame.range.start)
        );
        let (offset, bytes) = (frame.range.start as u64, frame.range.len() as u64);
        let damage = Damage::new(&scan.image.path, offset, bytes, what);
        self.damage.push(damage);
    }

    /// Refuses because of something that is the same in both copies, or differs between them.
    fn refuse(&mut self, offset: usize, what: &str) -> Error {
        let damage = Damage::new(&self.a.image.path, offset as u64, 0, what);
        self.damage.push(damage);
        Error::Damaged(std::mem::take(&mut self.damage))
    }

    /// Refuses because both copies lack something that was there.
    fn refuse_both(&mut self, offset: usize, what: &str) -> Error {
        for side in Side::BOTH {
            let scan = self.scan(side);
            let what = format!(
                "{what}: {}, nor does the other copy have it",
                scan.fault(offset)
            );
            let bytes = scan.bytes_end.saturating_sub(offset) as u64;
            let damage = Damage::new(&scan.image.path, offset as u64, bytes, what);
            self.damage.push(damage);
        }
        Error::Damaged(std::mem::take(&mut self.damage))
    }
}
