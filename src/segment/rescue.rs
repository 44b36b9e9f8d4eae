//! Of a segment that is damaged beyond repair: what is left, and between which keys the rest was.

use std::sync::Arc;

use bytes::Bytes;

use super::block::Block;
use super::block_cursor::BlockCursor;
use super::format::Extent;
use super::index::BlockIndex;
use super::reader::Segment;
use crate::error::{Error, Result};
use crate::types::{Entry, EntryKind, Fence, SegmentMeta, Version};

/// A block that can't be read.
#[derive(Clone, Debug)]
pub struct LostBlock {
    /// Where it is, what was between which keys, and which records wrote it.
    pub fence: Fence,
    /// What reading it answers.
    pub error: Error,
}

impl Segment {
    /// Shows every entry of every block that can be read, in table order, and names the blocks that can't. Reads
    /// all of it from the disk, but for what the cache has.
    ///
    /// # Errors
    /// What `visit` and `go_on`, which is asked before each block, answer; `FeatureMissing`.
    pub fn rescue(
        self: &Arc<Self>,
        go_on: &dyn Fn() -> Result<()>,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<Vec<LostBlock>> {
        let index = match self.index() {
            Ok(index) => index,
            Err(error @ Error::FeatureMissing { .. }) => return Err(error),
            Err(error) => {
                let place = self.footer.index;
                let fence = self.fence(None, None, place, &error);
                return Ok(vec![LostBlock { fence, error }]);
            }
        };
        let mut lost = Vec::new();
        let mut held = Held::default();
        for number in 0..index.blocks() {
            go_on()?;
            let Some(place) = index.extent(number) else {
                continue;
            };
            match self.entries_of(place, &mut held) {
                Ok(()) => {}
                Err(error @ Error::FeatureMissing { .. }) => return Err(error),
                Err(error) => {
                    let (from, to) = index.bounds(number);
                    let fence = self.fence(from, to, place, &error);
                    lost.push(LostBlock { fence, error });
                    continue;
                }
            }
            for entry in held.entries() {
                visit(Entry {
                    version: self.meta.version(entry.version),
                    ..entry
                })?;
            }
        }
        Ok(lost)
    }

    /// A fence around all of a segment.
    #[must_use]
    pub fn fence_around(meta: &SegmentMeta, what: String) -> Fence {
        Fence {
            from: Bytes::copy_from_slice(&meta.smallest_key),
            to: (!meta.is_endless).then(|| Fence::behind(&meta.largest_key)),
            oldest: meta.smallest_index,
            newest: meta.largest_index,
            segment: meta.number,
            offset: 0,
            bytes: meta.bytes,
            what,
        }
    }

    /// A fence around what was between two keys of it; `None`: from the first, up to the last.
    fn fence(&self, from: Option<Bytes>, to: Option<Bytes>, place: Extent, error: &Error) -> Fence {
        let whole = Self::fence_around(&self.meta, what(error));
        Fence {
            from: from.unwrap_or(whole.from),
            to: to.or(whole.to),
            offset: place.offset,
            bytes: place.bytes,
            ..whole
        }
    }

    /// Reads all entries of a block: nothing of one that turns out to be damaged in its middle counts.
    fn entries_of(&self, place: Extent, held: &mut Held) -> Result<()> {
        held.clear();
        let block = match self.cached_block(place) {
            Some(block) => block,
            None => self.read_block(place)?,
        };
        let mut cursor = BlockCursor::default();
        cursor.reset(&block);
        while self.checked(place, cursor.next(&block))? {
            held.take(&cursor, &block);
        }
        Ok(())
    }
}

/// What an error says of the place itself.
fn what(error: &Error) -> String {
    match error {
        Error::Damaged(damage) => damage.first().map_or(String::new(), |one| one.what.clone()),
        other => other.to_string(),
    }
}

/// The entries of a block, copied.
#[derive(Default)]
struct Held {
    entries: Vec<(Vec<u8>, Version, EntryKind, Vec<u8>)>,
}

impl Held {
    fn clear(&mut self) {
        self.entries.clear();
    }

    fn take(&mut self, cursor: &BlockCursor, block: &Block) {
        if let Some(entry) = cursor.entry(block) {
            let (key, value) = (entry.key.to_vec(), entry.value.to_vec());
            self.entries.push((key, entry.version, entry.kind, value));
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries
            .iter()
            .map(|(key, version, kind, value)| Entry {
                key,
                version: *version,
                kind: *kind,
                value,
            })
    }
}

impl BlockIndex {
    /// The first key that can be in a block, if there is one before it, and the first that can't, behind it.
    fn bounds(&self, block: usize) -> (Option<Bytes>, Option<Bytes>) {
        let from = block.checked_sub(1).and_then(|before| {
            let (key, straddles) = self.last_of(before)?;
            // Where the versions of a key straddle two blocks, both have some.
            Some(match straddles {
                true => Bytes::copy_from_slice(key),
                false => Fence::behind(key),
            })
        });
        let to = self.last_of(block).map(|(key, _)| Fence::behind(key));
        (from, to)
    }
}
