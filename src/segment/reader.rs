//! An open segment: point lookups, and the verified blocks that cursors walk.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::block::{Block, Decoded};
use super::cache::BlockCache;
use super::compress::{self, Dictionary, Unreadable};
use super::cursor::SegmentCursor;
use super::file_name;
use super::filter::Filter;
use super::format::{
    Extent, FILE_BYTES_MIN, FOOTER_BYTES, FORMAT_VERSION, FRAME_BYTES, Footer, HEADER_BYTES,
    Identity, Refusal, SectionKind, verify_section,
};
use super::index::BlockIndex;
use super::properties::Properties;
use crate::error::{Damage, Error, Result};
use crate::types::{
    Codec, FileId, Found, Index, KeyspaceId, RangeDeletes, SegmentMeta, StoreId, Version,
};
use crate::vfs::{Access, File, Vfs};

/// The file under a segment: reads, and the words for what is wrong with it.
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) file_id: FileId,
    /// What its blocks were packed against.
    pub(super) dictionary: Option<Dictionary>,
}

impl SegmentFile {
    pub(super) fn damage(&self, place: Extent, what: impl Into<String>) -> Damage {
        Damage::new(&self.path, place.offset, place.bytes, what)
    }

    pub(super) fn damaged(&self, place: Extent, what: impl Into<String>) -> Error {
        Error::damaged(self.damage(place, what))
    }

    /// Reads bytes that the file must have. Call it only with a length that the file's own length
    /// has vouched for.
    pub(super) fn read(&self, place: Extent) -> Result<Vec<u8>> {
        let bytes = usize::try_from(place.bytes)
            .map_err(|_| self.damaged(place, "longer than this machine can address"))?;
        let mut buffer = vec![0; bytes];
        self.read_into(&mut buffer, place.offset)?;
        Ok(buffer)
    }

    pub(super) fn read_into(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let found = self
            .file
            .read_at(buffer, offset)
            .map_err(|error| Error::io("read", &self.path, error))?;
        if found == buffer.len() {
            return Ok(());
        }
        let missing = Extent {
            offset: offset + found as u64,
            bytes: (buffer.len() - found) as u64,
        };
        Err(self.damaged(missing, "the file ends before its content does"))
    }

    /// Reads a section and verifies its checksum.
    fn read_section(&self, place: Extent, kind: SectionKind) -> Result<Bytes> {
        let section = self.read(place)?;
        self.verify(place.offset, kind, &section)?;
        Ok(section.into())
    }

    fn verify(&self, offset: u64, kind: SectionKind, section: &[u8]) -> Result<Codec> {
        verify_section(self.file_id, offset, kind, section).map_err(|what| {
            let bytes = section.len() as u64;
            self.damaged(Extent { offset, bytes }, what)
        })
    }

    /// Verifies the bytes of a data block that were read at `offset`.
    pub(super) fn verified_block(&self, offset: u64, section: Cow<'_, [u8]>) -> Result<Block> {
        let codec = self.verify(offset, SectionKind::Data, &section)?;
        let bytes = section.len() as u64;
        let block = compress::block(section, codec, self.dictionary.as_ref());
        block.map_err(|why| self.unreadable(Extent { offset, bytes }, why))
    }

    fn unreadable(&self, place: Extent, why: Unreadable) -> Error {
        match why {
            Unreadable::Malformed => self.damaged(place, why.what()),
            Unreadable::MissingFeature(feature) => self.missing_feature(feature),
        }
    }

    fn missing_feature(&self, feature: &'static str) -> Error {
        let path = self.path.clone();
        Error::FeatureMissing { path, feature }
    }
}

/// A published segment, open for reading. Safe to share between threads; reads take no lock but the
/// cache's.
pub struct Segment {
    pub(super) file: SegmentFile,
    pub(super) meta: SegmentMeta,
    pub(super) footer: Footer,
    pub(super) properties: Properties,
    pub(super) index: BlockIndex,
    pub(super) filter: Option<Filter>,
    ranges: RangeDeletes,
    cache: Arc<BlockCache>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.file.path)
            .field("entries", &self.meta.entries)
            .field("bytes", &self.meta.bytes)
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Opens a segment and verifies all of it but the blocks: length, footer, ids, index, filter and
    /// properties, against what the manifest says. Reads the index and the filter into memory.
    ///
    /// # Errors
    /// `Damaged` (missing, empty, cut short, too long, another file under this name, or a checksum that
    /// fails; several places at once where there are several), `ForeignFile`, `NewerFormat`, or what
    /// the disk answers.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        store_id: StoreId,
        meta: &SegmentMeta,
        cache: Arc<BlockCache>,
    ) -> Result<Self> {
        let path = dir.join(file_name(meta.number));
        let file = vfs.open(&path, Access::Read).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return Error::damaged(Damage::new(&path, 0, meta.bytes, "the file is missing"));
            }
            Error::io("open", &path, error)
        })?;
        let file = SegmentFile {
            file,
            path,
            file_id: meta.file_id,
            dictionary: None,
        };
        let footer = open_footer(&file, store_id, meta)?;
        Self::open_sections(file, footer, meta, cache)
    }

    /// Reads index, filter and properties, and names the damage of all three.
    fn open_sections(
        mut file: SegmentFile,
        footer: Footer,
        meta: &SegmentMeta,
        cache: Arc<BlockCache>,
    ) -> Result<Self> {
        let mut damage = Vec::new();
        file.dictionary = take(&mut damage, open_dictionary(&file, &footer))?.flatten();
        let index = take(&mut damage, open_index(&file, &footer))?;
        let filter = take(&mut damage, open_filter(&file, &footer))?;
        let properties = take(&mut damage, open_properties(&file, &footer, meta))?;
        let (Some(index), Some(filter), Some(properties)) = (index, filter, properties) else {
            return Err(Error::Damaged(damage));
        };
        if !damage.is_empty() {
            return Err(Error::Damaged(damage));
        }
        if properties.blocks != index.blocks() as u64 {
            let what = format!("{} blocks in the properties", properties.blocks);
            return Err(file.damaged(footer.properties, what));
        }
        Ok(Self {
            file,
            ranges: RangeDeletes::new(properties.range_deletes.iter().cloned()),
            meta: meta.clone(),
            footer,
            properties,
            index,
            filter,
            cache,
        })
    }

    /// What the manifest says of it.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// The keyspace that its entries belong to.
    #[must_use]
    pub fn keyspace(&self) -> KeyspaceId {
        self.footer.identity.keyspace
    }

    /// Entries that only an old view needs, if nothing is below them: deletions, old versions, and values
    /// that have expired, once all that will have by this time.
    #[must_use]
    pub fn stale_entries(&self, time_us: u64) -> u64 {
        let properties = &self.properties;
        let old = properties.entries.saturating_sub(properties.keys);
        let expired = match properties.latest_expiry_us <= time_us {
            true => properties.expiring,
            false => 0,
        };
        old.saturating_add(properties.deletes)
            .saturating_add(expired)
    }

    /// Whether writing it again, with nothing below it, can leave anything out.
    #[must_use]
    pub fn may_shrink(&self) -> bool {
        let properties = &self.properties;
        let plain = properties.entries == properties.keys && properties.deletes == 0;
        !plain || properties.expiring > 0 || self.meta.range_deletes > 0
    }

    /// Data blocks in it.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> u64 {
        self.properties.blocks
    }

    /// Bytes of memory that the filter takes.
    #[must_use]
    pub fn filter_bytes(&self) -> u64 {
        self.filter.as_ref().map_or(0, Filter::memory_bytes)
    }

    /// Bytes of memory that the index takes.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.index.memory_bytes()
    }

    /// The range deletions in it.
    #[must_use]
    pub fn range_deletes(&self) -> &RangeDeletes {
        &self.ranges
    }

    /// The newest version of `key` that is not newer than `at`. Reads one block at most, and none for
    /// most keys that are not there.
    ///
    /// # Errors
    /// What the disk answers, or damage.
    pub fn get(&self, key: &[u8], at: Version) -> Result<Option<Found>> {
        if self
            .filter
            .as_ref()
            .is_some_and(|filter| !filter.may_hold(key))
        {
            return Ok(None);
        }
        if at.index < self.meta.loaded_at {
            return Ok(None);
        }
        let at = self.stored(at);
        let number = self.index.find(key, at);
        if number >= self.index.blocks() {
            return Ok(None);
        }
        let block = self.block(number)?;
        let found = self.checked(number, block.find(key, at))?;
        Ok(found.map(|entry| Found {
            version: self.meta.version(entry.version),
            kind: entry.kind,
            value: block.into_value(&entry),
        }))
    }

    /// The version in the file that is the newest which a reader of `version` may see.
    #[inline]
    pub(super) fn stored(&self, version: Version) -> Version {
        match self.meta.loaded_at {
            Index(0) => version,
            _ => Version::MAX,
        }
    }

    /// Gives a segment that was written before its record the record's index, and with it its versions.
    #[must_use]
    pub fn loaded_at(mut self, index: Index) -> Self {
        self.meta.loaded_at = index;
        self.properties.bound(&mut self.meta);
        self
    }

    /// A cursor over all of it, placed nowhere. It keeps the segment open.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> SegmentCursor {
        SegmentCursor::new(Arc::clone(self))
    }

    /// Where a block lies.
    pub(super) fn extent(&self, number: usize) -> Extent {
        debug_assert!(number < self.index.blocks());
        self.index.extent(number).unwrap_or_default()
    }

    /// A block from the cache, or else from the disk and then kept in the cache.
    pub(super) fn block(&self, number: usize) -> Result<Block> {
        let place = self.extent(number);
        if let Some(block) = self.cache.get(self.file.file_id, place.offset) {
            return Ok(block);
        }
        let block = self.read_block(place)?;
        self.cache.insert(self.file.file_id, place.offset, &block);
        Ok(block)
    }

    /// A block if the cache has it, for a scan.
    pub(super) fn cached_block(&self, number: usize) -> Option<Block> {
        let place = self.extent(number);
        self.cache.peek(self.file.file_id, place.offset)
    }

    /// A block from the disk.
    pub(super) fn read_block(&self, place: Extent) -> Result<Block> {
        let section = self.file.read(place)?;
        self.file.verified_block(place.offset, section.into())
    }

    /// Names the block in which decoding failed.
    pub(super) fn checked<T>(&self, number: usize, decoded: Decoded<T>) -> Result<T> {
        let place = self.extent(number);
        decoded.map_err(|_| self.file.unreadable(place, Unreadable::Malformed))
    }
}

/// Sets damage aside, so that the rest can be looked at too.
fn take<T>(damage: &mut Vec<Damage>, outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Error::Damaged(found)) => {
            damage.extend(found);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn open_index(file: &SegmentFile, footer: &Footer) -> Result<BlockIndex> {
    let section = file.read_section(footer.index, SectionKind::Index)?;
    BlockIndex::parse(section, HEADER_BYTES as u64..footer.data_end())
        .map_err(|what| file.damaged(footer.index, what))
}

fn open_filter(file: &SegmentFile, footer: &Footer) -> Result<Option<Filter>> {
    if footer.filter.bytes == 0 {
        return Ok(None);
    }
    let section = file.read_section(footer.filter, SectionKind::Filter)?;
    Filter::parse(&section).map_err(|what| file.damaged(footer.filter, what))
}

/// The dictionary, if the segment has one.
pub(super) fn open_dictionary(file: &SegmentFile, footer: &Footer) -> Result<Option<Dictionary>> {
    if footer.dictionary.bytes == 0 {
        return Ok(None);
    }
    let section = file.read_section(footer.dictionary, SectionKind::Dictionary)?;
    if let Some(feature) = Codec::Zstd.missing_feature() {
        return Err(file.missing_feature(feature));
    }
    let dictionary = Dictionary::parse(section.get(FRAME_BYTES..).unwrap_or_default());
    let refused = |what| file.damaged(footer.dictionary, what);
    dictionary.map(Some).map_err(refused)
}

fn open_properties(file: &SegmentFile, footer: &Footer, meta: &SegmentMeta) -> Result<Properties> {
    let section = file.read_section(footer.properties, SectionKind::Properties)?;
    let refused = |what| file.damaged(footer.properties, what);
    let properties = section.get(FRAME_BYTES..).and_then(Properties::decode);
    let properties =
        properties.ok_or_else(|| refused("properties: malformed under a good checksum".into()))?;
    let mut bound = meta.clone();
    properties.bound(&mut bound);
    if bound != *meta {
        let what = "properties: counts or bounds differ from those in the manifest";
        return Err(refused(what.to_owned()));
    }
    Ok(properties)
}

/// Finds out whose file this is, and that it is whole; says the most telling thing if not.
fn open_footer(file: &SegmentFile, store_id: StoreId, meta: &SegmentMeta) -> Result<Footer> {
    let file_bytes = file
        .file
        .len()
        .map_err(|error| Error::io("read the length of", &file.path, error))?;
    let sound = footer_at_end(file, file_bytes).and_then(|footer| {
        check_identity(file, &footer.identity, store_id, meta)?;
        check_length(file, file_bytes, meta)?;
        Ok(footer)
    });
    let Err(Error::Damaged(damage)) = sound else {
        return sound;
    };
    // The header may tell more than a footer that can't be read: a foreign file, or a newer format.
    let header_bytes = file_bytes.min(HEADER_BYTES as u64);
    let header = file.read(Extent {
        offset: 0,
        bytes: header_bytes,
    })?;
    match Identity::decode_header(&header) {
        Ok(identity) => check_identity(file, &identity, store_id, meta)?,
        Err(Refusal::NewerFormat(found)) => return Err(newer(file, found)),
        Err(Refusal::Damaged(_)) => {}
    }
    check_length(file, file_bytes, meta)?;
    Err(Error::Damaged(damage))
}

fn newer(file: &SegmentFile, found: u32) -> Error {
    Error::NewerFormat {
        path: file.path.clone(),
        found,
        supported: FORMAT_VERSION,
    }
}

fn footer_at_end(file: &SegmentFile, file_bytes: u64) -> Result<Footer> {
    let place = Extent {
        offset: file_bytes.saturating_sub(FOOTER_BYTES as u64),
        bytes: FOOTER_BYTES as u64,
    };
    if file_bytes < FILE_BYTES_MIN {
        return Err(file.damaged(place, "too short for a segment"));
    }
    let bytes = file.read(place)?;
    Footer::decode(&bytes, place.offset).map_err(|refusal| match refusal {
        Refusal::Damaged(what) => file.damaged(place, what),
        Refusal::NewerFormat(found) => newer(file, found),
    })
}

fn check_identity(
    file: &SegmentFile,
    found: &Identity,
    store_id: StoreId,
    meta: &SegmentMeta,
) -> Result<()> {
    if found.store_id != store_id {
        return Err(Error::ForeignFile {
            path: file.path.clone(),
            found: found.store_id.to_string(),
            expected: store_id.to_string(),
        });
    }
    if found.file_id != meta.file_id || found.number != meta.number {
        let what = format!(
            "this is segment {} with id {}, where segment {} with id {} belongs",
            found.number, found.file_id, meta.number, meta.file_id
        );
        let place = Extent {
            offset: 0,
            bytes: meta.bytes,
        };
        return Err(file.damaged(place, what));
    }
    Ok(())
}

fn check_length(file: &SegmentFile, file_bytes: u64, meta: &SegmentMeta) -> Result<()> {
    if file_bytes == meta.bytes {
        return Ok(());
    }
    let place = Extent {
        offset: file_bytes.min(meta.bytes),
        bytes: file_bytes.abs_diff(meta.bytes),
    };
    let what = match file_bytes {
        0 => "the file is empty".to_owned(),
        bytes => format!("the file is {bytes} bytes long, not {}", meta.bytes),
    };
    Err(file.damaged(place, what))
}
