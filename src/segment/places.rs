//! Which 4 KiB blocks of a file damage is in, and whether parity makes up for it.

use super::file::SegmentFile;
use super::format::Extent;
use super::reader::Segment;
use super::salvage::Wreck;
use crate::error::Damage;
use crate::parity::UNIT_BYTES;

const UNIT: u64 = UNIT_BYTES as u64;

/// Damage, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether the file can be written anew as it was, as far as this damage goes.
    pub can_be_mended: bool,
    /// The blocks that it is in: where they begin, and their lengths.
    pub places: Vec<(u64, u64)>,
}

impl SegmentFile {
    fn judge(&self, damage: &[Damage]) -> Vec<Judged> {
        let content_bytes = self.geometry.content_bytes();
        let is_content = |damage: &&Damage| damage.offset < content_bytes;
        let content = damage
            .iter()
            .map(|damage| is_content(&damage).then(|| self.judge_content(damage, content_bytes)));
        let content: Vec<_> = content.collect();
        let all_heals = content.iter().flatten().all(|judged| judged.can_be_mended);
        let judged = content.into_iter().zip(damage).map(|(judged, damage)| {
            // What isn't content is made anew from it.
            judged.unwrap_or_else(|| Judged {
                can_be_mended: all_heals,
                places: whole_units(damage.offset, damage.bytes),
            })
        });
        judged.collect()
    }

    fn judge_content(&self, damage: &Damage, content_bytes: u64) -> Judged {
        let end = damage
            .offset
            .saturating_add(damage.bytes.max(1))
            .min(content_bytes);
        let place = Extent {
            offset: damage.offset,
            bytes: end - damage.offset,
        };
        match self.healed(place) {
            Ok(healed) if !healed.units.is_empty() => Judged {
                can_be_mended: true,
                places: healed.units.iter().map(|unit| (*unit, UNIT)).collect(),
            },
            // Parity has nothing to add to what makes no sense under good checksums.
            _ => Judged {
                can_be_mended: false,
                places: whole_units(damage.offset, damage.bytes),
            },
        }
    }
}

fn whole_units(offset: u64, bytes: u64) -> Vec<(u64, u64)> {
    let start = offset - offset % UNIT;
    let end = offset.saturating_add(bytes.max(1)).next_multiple_of(UNIT);
    vec![(start, end - start)]
}

impl Segment {
    /// Judges damage of this file, all of it. Reads what is around it.
    #[must_use]
    pub fn judge(&self, damage: &[Damage]) -> Vec<Judged> {
        self.file.judge(damage)
    }
}

impl Wreck {
    /// As [`Segment::judge`], for a file that can't be opened.
    #[must_use]
    pub fn judge(&self, damage: &[Damage]) -> Vec<Judged> {
        self.file.judge(damage)
    }
}
