//! Reads a whole segment again and names everything in it that is not as it was written.

use std::cmp::Ordering;
use std::sync::Arc;

use std::borrow::Cow;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::block::{Block, Decoded, Malformed, Place, RawEntry, common_prefix};
use super::compress::{self, Unreadable};
use super::filter::Filter;
use super::format::{
    Extent, FOOTER_BYTES, Footer, HEADER_BYTES, Identity, Refusal, SectionKind, verify_section,
};
use super::index::BlockIndex;
use super::properties::Properties;
use super::reader::Segment;
use crate::codec::digest;
use crate::error::{Damage, Error, Result};
use crate::parity::{Trailer, TrailerPart};
use crate::types::{EntryKind, Index, SegmentMeta, Version, order};

/// Read at once, in bytes, unless a single block is longer.
const RUN_BYTES: u64 = 1 << 20;

/// A part of the file under one checksum.
#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    Block(usize),
    Section(SectionKind),
    Footer,
    Trailer(TrailerPart),
}

struct Verification<'a> {
    segment: &'a Segment,
    progress: &'a mut dyn FnMut(u64),
    damage: Vec<Damage>,
    trailer: Trailer,
    /// None once a part of the file could not be read.
    digest: Option<Xxh3>,
    counted: Properties,
    last_key: Option<Vec<u8>>,
    /// `None` if it is damaged; then the blocks can't be told apart.
    index: Option<Arc<BlockIndex>>,
    filter: Option<Arc<Filter>>,
}

impl Segment {
    /// Reads every byte from the disk, past the block cache, and checks it: block checksums, the
    /// digest of the whole file, every entry, their order, the filter, and the counts. Goes on after
    /// damage. `progress` is called with the bytes read since the last call.
    ///
    /// Returns all damage found; nothing is changed. A part that the disk can't read counts as
    /// damaged.
    ///
    /// # Errors
    /// If the disk won't even tell the length of the file.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Vec<Damage>> {
        let mut verification = Verification {
            segment: self,
            progress,
            damage: Vec::new(),
            trailer: self.trailer(),
            digest: Some(digest()),
            counted: Properties {
                smallest_index: Index(u64::MAX),
                ..Properties::default()
            },
            last_key: None,
            index: None,
            filter: None,
        };
        verification.take_index_and_filter();
        let there = self.file.file.len();
        let there =
            there.map_err(|error| Error::io("read the length of", &self.file.path, error))?;
        verification.check_parts(there);
        verification.check_length(there);
        verification.check_whole();
        let mut damage = verification.damage;
        damage.sort_by_key(|damage| damage.offset);
        Ok(damage)
    }

    /// What must stand behind the content.
    fn trailer(&self) -> Trailer {
        let SegmentMeta {
            parity,
            content_bytes,
            file_id,
            ..
        } = self.meta;
        let units = |offset: u64, buffer: &mut [u8]| self.file.read_into(buffer, offset).is_ok();
        Trailer::read(&units, parity, content_bytes, file_id)
    }

    /// The parts of the file, in order.
    fn parts<'a>(
        &'a self,
        index: Option<&'a BlockIndex>,
        trailer: &Trailer,
    ) -> impl Iterator<Item = (Part, Extent)> + 'a {
        let header = Extent {
            offset: 0,
            bytes: HEADER_BYTES as u64,
        };
        let footer = Extent {
            offset: self.footer.properties.end(),
            bytes: FOOTER_BYTES as u64,
        };
        let extent = move |number| Some((Part::Block(number), index?.extent(number)?));
        let blocks = (0..index.map_or(0, BlockIndex::blocks)).filter_map(extent);
        let sections = [
            (SectionKind::Dictionary, self.footer.dictionary),
            (SectionKind::Filter, self.footer.filter),
            (SectionKind::Index, self.footer.index),
            (SectionKind::Properties, self.footer.properties),
        ];
        let sections = sections
            .into_iter()
            .filter(|(_, place)| place.bytes > 0)
            .map(|(kind, place)| (Part::Section(kind), place));
        std::iter::once((Part::Header, header))
            .chain(blocks)
            .chain(sections)
            .chain(std::iter::once((Part::Footer, footer)))
            .chain(trailer.parts().map(|(part, place)| {
                let (offset, bytes) = (place.start, place.end - place.start);
                (Part::Trailer(part), Extent { offset, bytes })
            }))
    }
}

impl Verification<'_> {
    /// Those that were verified at the open, or else those that the disk has.
    fn take_index_and_filter(&mut self) {
        let segment = self.segment;
        let (index, filter) = match segment.is_pinned() {
            true => (segment.index(), segment.filter()),
            false => (
                segment.read_index().map(Arc::new),
                segment.read_filter().map(|filter| filter.map(Arc::new)),
            ),
        };
        let mut refused = |place, error| match error {
            Error::Damaged(found) => self.damage.extend(found),
            error => {
                let what = format!("could not be read: {error}");
                self.damage.push(segment.file.damage(place, what));
            }
        };
        let index = index.map_err(|error| refused(segment.footer.index, error));
        let filter = filter.map_err(|error| refused(segment.footer.filter, error));
        self.index = index.ok();
        self.filter = filter.ok().flatten();
        if self.index.is_none() {
            self.digest = None;
        }
    }

    /// Reads the parts that lie wholly in the file's first `there` bytes, many at a time.
    fn check_parts(&mut self, there: u64) {
        let (segment, index) = (self.segment, self.index.clone());
        let mut run: Vec<(Part, Extent)> = Vec::new();
        let mut run_bytes = 0;
        for (part, place) in segment
            .parts(index.as_deref(), &self.trailer)
            .take_while(|(_, place)| place.end() <= there)
        {
            // Without an index there is a gap where the blocks are.
            let follows = run
                .last()
                .is_none_or(|(_, last)| last.end() == place.offset);
            if run_bytes + place.bytes > RUN_BYTES || !follows {
                self.check_run(&run);
                run.clear();
                run_bytes = 0;
            }
            run.push((part, place));
            run_bytes += place.bytes;
        }
        self.check_run(&run);
    }

    fn check_run(&mut self, run: &[(Part, Extent)]) {
        let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else {
            return;
        };
        let place = Extent {
            offset: first.offset,
            bytes: last.end() - first.offset,
        };
        match self.segment.file.read(place) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                if let Some(digest) = &mut self.digest {
                    digest.update(&bytes);
                }
                for (part, place) in run {
                    let start = (place.offset - first.offset) as usize;
                    let part_bytes = bytes.slice(start..start + place.bytes as usize);
                    self.check_part(*part, *place, part_bytes);
                }
                (self.progress)(place.bytes);
            }
            Err(error) if run.len() == 1 => {
                self.digest = None;
                let what = format!("could not be read: {error}");
                self.damage.push(self.segment.file.damage(place, what));
                (self.progress)(place.bytes);
            }
            Err(_) => {
                // One bad sector must not hide its neighbours.
                for alone in run {
                    self.check_run(std::slice::from_ref(alone));
                }
            }
        }
    }

    fn check_part(&mut self, part: Part, place: Extent, bytes: Bytes) {
        let segment = self.segment;
        let same = |refused: Result<bool, Refusal>| match refused {
            Ok(true) => Ok(()),
            Ok(false) => Err("differs from what was read when the file was opened".to_owned()),
            Err(Refusal::Damaged(what)) => Err(what),
            Err(Refusal::NewerFormat(version)) => Err(format!("claims format {version}")),
        };
        let verdict = match part {
            Part::Header => {
                same(Identity::decode_header(&bytes).map(|found| found == segment.footer.identity))
            }
            Part::Footer => {
                same(Footer::decode(&bytes, place.offset).map(|found| found == segment.footer))
            }
            Part::Section(kind) => {
                verify_section(segment.file.file_id, place.offset, kind, &bytes).map(drop)
            }
            Part::Trailer(part) => self.trailer.check(part, &bytes),
            Part::Block(number) => self.check_block(number, place, bytes),
        };
        let named = |damage: &Damage| damage.offset == place.offset;
        if let Err(what) = verdict
            && !self.damage.iter().any(named)
        {
            self.damage.push(segment.file.damage(place, what));
        }
    }

    fn check_block(&mut self, number: usize, place: Extent, bytes: Bytes) -> Result<(), String> {
        let file_id = self.segment.file.file_id;
        let codec = verify_section(file_id, place.offset, SectionKind::Data, &bytes)?;
        let malformed = |_| Unreadable::Malformed.what();
        let dictionary = self.segment.file.dictionary.as_ref();
        let block = compress::block(Cow::Borrowed(&bytes), codec, dictionary);
        let block = block.map_err(Unreadable::what)?;
        let mut key = Vec::new();
        let mut last: Option<Version> = None;
        let mut restart = 0;
        let mut place = block.first();
        while block.has(place) {
            let entry = block.decode(place).map_err(malformed)?;
            let is_restart = takes_restart(&block, place, &mut restart).map_err(malformed)?;
            let ascends = rebuild(&block, &entry, is_restart, &mut key, last);
            if !ascends.map_err(malformed)? {
                let at = place.record;
                return Err(format!("block: entry at byte {at} is out of order"));
            }
            self.check_entry(
                number,
                &key,
                &entry,
                block.slice(entry.value..entry.next.value),
            )
            .map_err(|what| format!("block: entry at byte {} {what}", place.record))?;
            last = Some(entry.version);
            place = entry.next;
        }
        if restart != block.restarts() || place != block.end() {
            return Err("block: a restart or a value belongs to no entry".into());
        }
        Ok(())
    }

    fn check_entry(
        &mut self,
        number: usize,
        key: &[u8],
        entry: &RawEntry,
        value: &[u8],
    ) -> Result<(), String> {
        let value_bytes = value.len();
        let index = self.index.as_ref();
        if index.is_some_and(|index| !index.admits(number, key, entry.version)) {
            return Err("does not belong between the separators of its block".into());
        }
        if self
            .filter
            .as_ref()
            .is_some_and(|filter| !filter.may_hold(key))
        {
            return Err("is denied by the filter".into());
        }
        let counted = &mut self.counted;
        counted.entries += 1;
        counted.deletes += u64::from(entry.kind == EntryKind::Delete);
        counted.key_bytes += key.len() as u64;
        counted.value_bytes += value_bytes as u64;
        counted.count_expiry(entry.kind, value);
        counted.smallest_index = counted.smallest_index.min(entry.version.index);
        counted.largest_index = counted.largest_index.max(entry.version.index);
        if self.last_key.as_deref() != Some(key) {
            counted.keys += 1;
            let last_key = self.last_key.get_or_insert_default();
            last_key.clear();
            last_key.extend_from_slice(key);
            if counted.keys == 1 {
                counted.smallest_key = key.to_vec();
            }
        }
        Ok(())
    }

    fn check_length(&mut self, there: u64) {
        let file = &self.segment.file;
        let expected = self.segment.meta.bytes;
        if there > expected {
            let place = Extent {
                offset: expected,
                bytes: there - expected,
            };
            self.damage
                .push(file.damage(place, "bytes beyond the end of the segment"));
        } else if there < expected {
            // From the first part that is not all there.
            let index = self.index.as_deref();
            let mut parts = self.segment.parts(index, &self.trailer);
            let cut = parts.find(|(_, place)| place.end() > there);
            let offset = cut.map_or(there, |(_, place)| place.offset);
            let place = Extent {
                offset,
                bytes: expected - offset,
            };
            let what = format!("the file ends at byte {there}, not at {expected}");
            self.damage.push(file.damage(place, what));
        }
    }

    /// What no part shows by itself, when no part is damaged.
    fn check_whole(&mut self) {
        if !self.damage.is_empty() {
            return;
        }
        let segment = self.segment;
        let mut counted = std::mem::take(&mut self.counted);
        counted.largest_key = self.last_key.take().unwrap_or_default();
        let expected = &segment.properties;
        counted.blocks = self.index.as_ref().map_or(0, |i| i.blocks() as u64);
        counted.block_bytes = expected.block_bytes;
        counted.restart_interval = expected.restart_interval;
        counted.filter_bits_per_key = expected.filter_bits_per_key;
        counted.range_deletes.clone_from(&expected.range_deletes);
        if counted != *expected {
            let what = "properties: counts or bounds differ from those of the entries";
            let damage = segment.file.damage(segment.footer.properties, what);
            self.damage.push(damage);
        }
        let found = self.digest.as_ref().map(Xxh3::digest128);
        if found.is_some_and(|found| found != segment.meta.digest) {
            let what = "the digest of the whole file differs from the one in the manifest";
            let place = Extent {
                offset: 0,
                bytes: segment.meta.bytes,
            };
            self.damage.push(segment.file.damage(place, what));
        }
    }
}

/// Whether the entry at `place` is the next restart, which is then counted.
fn takes_restart(block: &Block, place: Place, restart: &mut usize) -> Decoded<bool> {
    if *restart >= block.restarts() || block.restart(*restart)? != place {
        return Ok(false);
    }
    *restart += 1;
    Ok(true)
}

/// Puts the entry's key together in `key`, which holds the one before. False if the entry doesn't come
/// after that one, or shares another number of bytes with it than it should.
fn rebuild(
    block: &Block,
    entry: &RawEntry,
    is_restart: bool,
    key: &mut Vec<u8>,
    last: Option<Version>,
) -> Decoded<bool> {
    let suffix = block.suffix(entry);
    let before = key.get(entry.shared..).ok_or(Malformed)?;
    let Some(version) = last else {
        key.extend_from_slice(suffix);
        return Ok(is_restart);
    };
    let shares_right = if is_restart {
        entry.shared == 0
    } else {
        common_prefix(before, suffix) == 0
    };
    let ascends = order(before, version, suffix, entry.version) == Ordering::Less;
    key.truncate(entry.shared);
    key.extend_from_slice(suffix);
    Ok(shares_right && ascends)
}
