//! Writes a segment from front to back.

use std::cmp::Ordering;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{BlockBuilder, ENTRY_OVERHEAD_MAX};
use super::compress::{Packer, SAMPLE_BYTES, train};
use super::filter::{BITS_PER_KEY_MAX, FilterBuilder};
use super::format::{Extent, FOOTER_BYTES, FRAME_BYTES, Footer, Identity, SectionKind, seal};
use super::index::IndexBuilder;
use super::output::{Output, WRITE_BYTES};
use super::properties::Properties;
use super::{file_name, temporary_name};
use crate::error::{Error, Result};
use crate::parity::ParityEncoder;
use crate::types::{
    Codec, EXPIRY_BYTES, Entry, EntryKind, FileId, Index, KEY_BYTES_MAX, KeyspaceId, Parity,
    RangeDelete, SegmentMeta, SegmentNumber, StoreId, VALUE_BYTES_MAX, Version, order,
};
use crate::vfs::{Access, Vfs};

/// How a segment is laid out. A reader needs none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Bytes of entries in a block: 32 to 16 MiB. Only an entry that is longer by itself makes a longer
    /// block, and it has that block to itself.
    pub block_bytes: usize,
    /// Entries from one whole key to the next: 1 to 65,536. Fewer make point reads quicker and files
    /// larger.
    pub restart_interval: usize,
    /// Bits of filter a key, 0 (none) to 64. With 10, one absent key in 120 costs a block read.
    pub filter_bits_per_key: u32,
    /// What packs the blocks.
    pub codec: Codec,
    /// How much parity there is.
    pub parity: Parity,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            block_bytes: 4096,
            restart_interval: 16,
            filter_bits_per_key: 10,
            codec: Codec::None,
            parity: Parity::Standard,
        }
    }
}

impl SegmentOptions {
    fn check(&self, dir: &Path) -> Result<()> {
        let refused = |name, why: &str| {
            let why = why.to_owned();
            Err(Error::InvalidOption { name, why })
        };
        if !(32..=16 << 20).contains(&self.block_bytes) {
            return refused("block_bytes", "must be between 32 and 16,777,216");
        }
        if !(1..=1 << 16).contains(&self.restart_interval) {
            return refused("restart_interval", "must be between 1 and 65,536");
        }
        if self.filter_bits_per_key > BITS_PER_KEY_MAX {
            return refused("filter_bits_per_key", "must be at most 64");
        }
        if let Some(feature) = self.codec.missing_feature() {
            let path = dir.to_owned();
            return Err(Error::FeatureMissing { path, feature });
        }
        Ok(())
    }
}

/// Where a segment is to be written, and whose it is.
#[derive(Clone, Debug)]
pub struct SegmentSetup {
    /// The store's folder.
    pub dir: PathBuf,
    /// The disk.
    pub vfs: Arc<dyn Vfs>,
    /// The store.
    pub store_id: StoreId,
    /// The keyspace that its entries belong to.
    pub keyspace: KeyspaceId,
    /// Its number, never used before.
    pub number: SegmentNumber,
    /// Its own id, random.
    pub file_id: FileId,
    /// How it is laid out.
    pub options: SegmentOptions,
}

/// A finished block that waits until a dictionary has been trained.
struct Waiting {
    section: Vec<u8>,
    last_key: Vec<u8>,
    last_version: Version,
    next_key: Option<Vec<u8>>,
}

/// Writes one segment: `create`, then `add` in table order, then `finish` or `abandon`.
///
/// Takes memory for the write buffer (512 KiB), the block at hand, the index (some 30 bytes and a key
/// for each block), the filter (8 bytes for each key) and the parity (a group of 1 MiB, and what was made of
/// those before, a sixteenth or an eighth of the file); with zstd, for the first 400 KiB of blocks, from
/// which a dictionary is trained.
pub struct SegmentBuilder {
    setup: SegmentSetup,
    output: Output,
    block: BlockBuilder,
    packer: Packer,
    /// Blocks not written yet; `None` once it is decided with which dictionary blocks are packed.
    waiting: Option<Vec<Waiting>>,
    waiting_bytes: usize,
    dictionary: Option<Vec<u8>>,
    index: IndexBuilder,
    filter: FilterBuilder,
    properties: Properties,
    last_key: Vec<u8>,
    last_version: Version,
}

impl fmt::Debug for SegmentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentBuilder")
            .field("path", &self.output.path)
            .field("entries", &self.properties.entries)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl SegmentBuilder {
    /// Creates the file under its temporary name, in place of one that a crash may have left.
    ///
    /// # Errors
    /// `InvalidOption`; what the disk answers.
    pub fn create(setup: SegmentSetup) -> Result<Self> {
        setup.options.check(&setup.dir)?;
        let path = setup.dir.join(temporary_name(setup.number));
        // Never the old file emptied: somebody may still hold it open, and write to it.
        let create = || setup.vfs.open(&path, Access::CreateNew);
        let file = create().or_else(|error| {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error);
            }
            setup.vfs.remove(&path)?;
            create()
        });
        let file = file.map_err(|error| Error::io("create", &path, error))?;
        let identity = identity(&setup);
        let options = &setup.options;
        Ok(Self {
            output: Output::new(
                file,
                path,
                identity.encode_header(),
                ParityEncoder::new(options.parity, setup.file_id),
            ),
            block: BlockBuilder::new(options.restart_interval),
            packer: Packer::new(options.codec),
            waiting: (options.codec == Codec::Zstd).then(Vec::new),
            waiting_bytes: 0,
            dictionary: None,
            index: IndexBuilder::default(),
            filter: FilterBuilder::new(options.filter_bits_per_key),
            properties: Properties {
                smallest_index: Index(u64::MAX),
                block_bytes: options.block_bytes as u32,
                restart_interval: options.restart_interval as u32,
                filter_bits_per_key: options.filter_bits_per_key,
                ..Properties::default()
            },
            last_key: Vec::new(),
            last_version: Version::MAX,
            setup,
        })
    }

    /// Appends an entry, which must come after the last one in table order.
    ///
    /// # Errors
    /// `TableOrder`, `KeyTooLong`, `ValueTooLong`: the entry was not taken, and others can follow. What
    /// the disk answers: then the builder is of no more use.
    pub fn add(&mut self, entry: Entry<'_>) -> Result<()> {
        let first = self.properties.entries == 0;
        let new_key = first || self.last_key != entry.key;
        self.check_entry(&entry, first)?;
        let mut shared = self.block.shared(&self.last_key, entry.key);
        let entry_bytes = entry.key.len() - shared + entry.value.len() + ENTRY_OVERHEAD_MAX;
        let full = self.block.bytes() + entry_bytes > self.setup.options.block_bytes;
        if full && !self.block.is_empty() {
            self.finish_block(Some(entry.key))?;
            shared = 0;
        }
        if first {
            self.properties.smallest_key = entry.key.to_vec();
        }
        self.block.add(shared, entry);
        self.count(&entry, new_key);
        if new_key {
            self.filter.add(entry.key);
            self.last_key.clear();
            self.last_key.extend_from_slice(entry.key);
        }
        self.last_version = entry.version;
        Ok(())
    }

    fn check_entry(&self, entry: &Entry<'_>, first: bool) -> Result<()> {
        self.output.check()?;
        if entry.key.len() > KEY_BYTES_MAX {
            return Err(Error::KeyTooLong {
                bytes: entry.key.len(),
                limit: KEY_BYTES_MAX,
            });
        }
        let room = match entry.kind {
            EntryKind::Expiring => EXPIRY_BYTES,
            _ => 0,
        };
        if entry.value.len() > VALUE_BYTES_MAX + room {
            return Err(Error::ValueTooLong {
                bytes: entry.value.len(),
                limit: VALUE_BYTES_MAX + room,
            });
        }
        let version = entry.version;
        let ascends = order(&self.last_key, self.last_version, entry.key, version);
        if !first && ascends != Ordering::Less {
            return Err(self.refused(format!(
                "key {:?} at {version:?} does not come after {:?} at {:?}",
                shown(entry.key),
                shown(&self.last_key),
                self.last_version
            )));
        }
        if !entry.kind.allows(entry.value.len()) {
            let (kind, bytes) = (entry.kind, entry.value.len());
            let why = format!(
                "{kind:?} of key {:?} has {bytes} bytes of value",
                shown(entry.key)
            );
            return Err(self.refused(why));
        }
        Ok(())
    }

    fn refused(&self, why: String) -> Error {
        let path = self.output.path.clone();
        Error::TableOrder { path, why }
    }

    fn count(&mut self, entry: &Entry<'_>, new_key: bool) {
        let properties = &mut self.properties;
        properties.entries += 1;
        properties.deletes += u64::from(entry.kind == EntryKind::Delete);
        properties.keys += u64::from(new_key);
        properties.key_bytes += entry.key.len() as u64;
        properties.value_bytes += entry.value.len() as u64;
        properties.count_expiry(entry.kind, entry.value);
        let index = entry.version.index;
        properties.smallest_index = properties.smallest_index.min(index);
        properties.largest_index = properties.largest_index.max(index);
    }

    fn finish_block(&mut self, next_key: Option<&[u8]>) -> Result<()> {
        let section = self.block.finish();
        if let Some(waiting) = &mut self.waiting {
            self.waiting_bytes += section.len();
            waiting.push(Waiting {
                section: self.block.take(),
                last_key: self.last_key.clone(),
                last_version: self.last_version,
                next_key: next_key.map(<[u8]>::to_vec),
            });
            return match SAMPLE_BYTES.saturating_sub(self.waiting_bytes) == 0 {
                true => self.write_waiting(),
                false => Ok(()),
            };
        }
        let place = self
            .output
            .write_block(&mut self.packer, self.setup.file_id, section)?;
        self.block.clear(WRITE_BYTES);
        let last = (&self.last_key[..], self.last_version);
        self.index.add(place, last, next_key);
        Ok(())
    }

    /// Trains a dictionary from the blocks that wait for it, and writes them.
    fn write_waiting(&mut self) -> Result<()> {
        let Some(waiting) = self.waiting.take() else {
            return Ok(());
        };
        self.waiting_bytes = 0;
        let bodies = waiting.iter();
        let bodies: Vec<&[u8]> = bodies
            .filter_map(|block| block.section.get(FRAME_BYTES..))
            .collect();
        self.dictionary = train(&bodies);
        if let Some(dictionary) = &self.dictionary {
            self.packer.set_dictionary(dictionary);
        }
        for mut block in waiting {
            let place = self.output.write_block(
                &mut self.packer,
                self.setup.file_id,
                &mut block.section,
            )?;
            let last = (&block.last_key[..], block.last_version);
            self.index.add(place, last, block.next_key.as_deref());
        }
        Ok(())
    }

    /// Length of the file if it were finished now, give or take the filter and what packing the last
    /// blocks saves.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let unwritten = self.block.bytes() + self.waiting_bytes;
        let blocks = self.output.offset() + unwritten as u64;
        blocks + self.index.bytes() as u64 + FOOTER_BYTES as u64
    }

    /// Whether there is anything in it so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.properties.entries == 0 && self.properties.range_deletes.is_empty()
    }

    /// Sets the range deletions that the segment holds beside its entries: by key, and of the same keys
    /// newest first, none empty. Those of different stretches of versions may overlap.
    pub fn set_range_deletes(&mut self, ranges: Vec<RangeDelete>) {
        self.properties.range_deletes = ranges;
    }

    /// Writes the rest, syncs the file and gives it its name. The name is durable, and the file may be
    /// named in a manifest, once the caller has synced the folder.
    ///
    /// # Errors
    /// What the disk answers, or `TableOrder` if there is nothing in it: the temporary file is then removed
    /// as far as the disk lets it, and nothing was published.
    pub fn finish(mut self) -> Result<SegmentMeta> {
        let outcome = self.finish_file();
        if outcome.is_err() {
            self.abandon();
        }
        outcome
    }

    fn finish_file(&mut self) -> Result<SegmentMeta> {
        self.output.check()?;
        if self.is_empty() {
            return Err(self.refused("a segment holds something".into()));
        }
        if !self.block.is_empty() {
            self.finish_block(None)?;
        }
        self.write_waiting()?;
        self.properties.blocks = self.index.blocks().into();
        self.properties.largest_key = self.last_key.clone();
        self.write_tail()?;
        let content_bytes = self.output.finish()?;
        let path = &self.output.path;
        self.output
            .file
            .sync_data()
            .map_err(|error| Error::io("sync", path, error))?;
        let published = self.setup.dir.join(file_name(self.setup.number));
        self.setup
            .vfs
            .rename(path, &published)
            .map_err(|error| Error::io("rename", path, error))?;
        let properties = std::mem::take(&mut self.properties);
        let mut meta = SegmentMeta {
            number: self.setup.number,
            file_id: self.setup.file_id,
            bytes: self.output.written,
            content_bytes,
            parity: self.setup.options.parity,
            digest: self.output.digest.digest128(),
            ..SegmentMeta::default()
        };
        properties.bound(&mut meta);
        Ok(meta)
    }

    /// Dictionary, filter, index, properties and footer.
    fn write_tail(&mut self) -> Result<()> {
        let mut section = vec![0; FRAME_BYTES];
        let mut dictionary = Extent::default();
        if let Some(bytes) = self.dictionary.take() {
            section.extend_from_slice(&bytes);
            dictionary = self.write_section(SectionKind::Dictionary, &mut section)?;
        }
        let mut filter = Extent {
            offset: self.output.offset(),
            bytes: 0,
        };
        if self.filter.encode(&mut section) {
            filter = self.write_section(SectionKind::Filter, &mut section)?;
        }
        self.index.encode(&mut section);
        let index = self.write_section(SectionKind::Index, &mut section)?;
        self.properties.encode(&mut section);
        let properties = self.write_section(SectionKind::Properties, &mut section)?;
        let footer = Footer {
            identity: identity(&self.setup),
            content_bytes: self.output.offset() + FOOTER_BYTES as u64,
            filter,
            index,
            properties,
            dictionary,
        };
        self.output.append(&footer.encode())
    }

    /// Writes a section and leaves room for the frame of the next one.
    fn write_section(&mut self, kind: SectionKind, section: &mut Vec<u8>) -> Result<Extent> {
        let offset = self.output.offset();
        let bytes = section.len() as u64;
        if !seal(self.setup.file_id, offset, kind, section) {
            return Err(self.output.too_large());
        }
        self.output.append(section)?;
        section.clear();
        section.resize(FRAME_BYTES, 0);
        Ok(Extent { offset, bytes })
    }

    /// Finishes it, or, if nothing was added, abandons it.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_unless_empty(self) -> Result<Option<SegmentMeta>> {
        if self.is_empty() {
            self.abandon();
            return Ok(None);
        }
        self.finish().map(Some)
    }

    /// Removes the temporary file, as far as the disk lets it; whoever opens the store next removes
    /// what is left.
    pub fn abandon(self) {
        let _ = self.setup.vfs.remove(&self.output.path);
    }
}

/// As much of a key as belongs in a message.
fn shown(key: &[u8]) -> &[u8] {
    key.get(..64).unwrap_or(key)
}

fn identity(setup: &SegmentSetup) -> Identity {
    Identity {
        store_id: setup.store_id,
        keyspace: setup.keyspace,
        number: setup.number,
        file_id: setup.file_id,
    }
}
