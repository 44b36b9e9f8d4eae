//! Opening a segment: whose file it is, that it is whole, and what is kept of it in memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cache::{BlockCache, ReadPolicy};
use super::compress::Dictionary;
use super::file::{Handle, SegmentFile};
use super::file_name;
use super::filter::Filter;
use super::format::{
    Extent, FILE_BYTES_MIN, FOOTER_BYTES, FORMAT_VERSION, FRAME_BYTES, Footer, HEADER_BYTES,
    Identity, Refusal, SectionKind,
};
use super::index::BlockIndex;
use super::properties::Properties;
use super::reader::{Pinned, Segment};
use crate::error::{Damage, Error, Result};
use crate::parity::Geometry;
use crate::types::{Codec, Parity, RangeDeletes, SegmentMeta, StoreId};
use crate::vfs::{Access, File, Vfs};

impl Segment {
    /// Opens a segment and verifies all of it but the blocks: length, footer, ids, index, filter and
    /// properties, against what the manifest says. Reads the index and the filter into memory; if the
    /// cache doesn't pin them, they are neither read nor verified before they are used.
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
        let file = open_file(&*vfs, &path, cache.policy()).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return Error::damaged(Damage::new(&path, 0, meta.bytes, "the file is missing"));
            }
            Error::io("open", &path, error)
        })?;
        let file = SegmentFile {
            file: Handle::new(file),
            path,
            file_id: meta.file_id,
            number: meta.number,
            geometry: Geometry::new(meta.parity, meta.content_bytes),
            mendings: cache.mendings().clone(),
            dictionary: None,
        };
        let footer = open_footer(&file, store_id, meta)?;
        Self::open_sections(file, footer, meta, cache)
    }

    /// Reads dictionary, index, filter and properties, and names the damage of all.
    fn open_sections(
        mut file: SegmentFile,
        footer: Footer,
        meta: &SegmentMeta,
        cache: Arc<BlockCache>,
    ) -> Result<Self> {
        let mut damage = Vec::new();
        file.dictionary = take(&mut damage, open_dictionary(&file, &footer))?.flatten();
        let pinned = match cache.policy().pins {
            true => {
                let index = take(&mut damage, open_index(&file, &footer))?;
                let filter = take(&mut damage, open_filter(&file, &footer))?;
                index.zip(filter)
            }
            false => None,
        };
        let properties = take(&mut damage, open_properties(&file, &footer, meta))?;
        let properties = match properties {
            Some(properties) if damage.is_empty() => properties,
            _ => return Err(Error::Damaged(damage)),
        };
        if let Some((index, _)) = &pinned {
            check_blocks(&file, &footer, index, &properties)?;
        }
        let pinned = pinned.map(|(index, filter)| Pinned {
            index: Arc::new(index),
            filter: filter.map(Arc::new),
        });
        Ok(Self {
            file,
            ranges: Arc::new(RangeDeletes::new(properties.range_deletes.iter().cloned())),
            meta: meta.clone(),
            footer,
            properties,
            pinned,
            cache,
        })
    }
}

/// Mapped, if that is wanted and there is such a way.
pub(super) fn open_file(
    vfs: &dyn Vfs,
    path: &Path,
    policy: ReadPolicy,
) -> io::Result<Arc<dyn File>> {
    if policy.maps {
        // Mappings may have run out, or not be had here: whatever else is wrong shows below as well.
        if let Ok(mapped) = vfs.open(path, Access::ReadMapped) {
            return Ok(mapped);
        }
    }
    vfs.open(path, Access::Read)
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

pub(super) fn open_index(file: &SegmentFile, footer: &Footer) -> Result<BlockIndex> {
    let section = file.read_section(footer.index, SectionKind::Index)?;
    BlockIndex::parse(section, HEADER_BYTES as u64..footer.data_end())
        .map_err(|what| file.damaged(footer.index, what))
}

/// Index and properties must be of the same blocks.
pub(super) fn check_blocks(
    file: &SegmentFile,
    footer: &Footer,
    index: &BlockIndex,
    properties: &Properties,
) -> Result<()> {
    if properties.blocks == index.blocks() as u64 {
        return Ok(());
    }
    let what = format!("{} blocks in the properties", properties.blocks);
    Err(file.damaged(footer.properties, what))
}

pub(super) fn open_filter(file: &SegmentFile, footer: &Footer) -> Result<Option<Filter>> {
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
    let sound = footer_of(file, meta).and_then(|footer| {
        check_identity(file, &footer.identity, store_id, meta)?;
        if meta.parity == Parity::Off {
            check_length(file, file_bytes, meta)?;
        } else if file_bytes != meta.bytes {
            // What is cut off, or stands behind the end, is no part of the content, which is whole.
            file.mendings.note(meta.number, meta.file_id, &[]);
        }
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

/// The footer where it must be, or as parity makes it.
fn footer_of(file: &SegmentFile, meta: &SegmentMeta) -> Result<Footer> {
    let place = Extent {
        offset: meta.content_bytes.saturating_sub(FOOTER_BYTES as u64),
        bytes: FOOTER_BYTES as u64,
    };
    let decode = |bytes: Vec<u8>| {
        Footer::decode(&bytes, place.offset).map_err(|refusal| match refusal {
            Refusal::Damaged(what) => file.damaged(place, what),
            Refusal::NewerFormat(found) => newer(file, found),
        })
    };
    if meta.content_bytes < FILE_BYTES_MIN || file.geometry.file_bytes() != meta.bytes {
        return Err(file.damaged(place, "the manifest gives it lengths that no segment has"));
    }
    match file.read(place).and_then(decode) {
        Err(error @ (Error::Damaged(_) | Error::Io { .. } | Error::NoSpace { .. })) => {
            let healed = file.heal(place).ok_or(error)?;
            decode(healed)
        }
        footer => footer,
    }
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
