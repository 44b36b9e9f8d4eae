//! The tables of a keyspace that can be read, walked as one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::engine::catalog::{DEFAULT_KEYSPACE, decode_options};
use crate::engine::salvage::chain::{Chain, Origin};
use crate::engine::salvage::known::Known;
use crate::engine::salvage::records::{self, Read};
use crate::engine::salvage::{Lost, Visit, Walked};
use crate::error::{Damage, Error, Result};
use crate::memtable::{Memtable, MemtableCursor};
use crate::options::{KeyspaceOptions, Options};
use crate::segment::{LostPart, Wreck, file_name};
use crate::types::{
    Entry, Index, KeyspaceId, RangeDelete, RangeDeletes, SegmentMeta, SegmentNumber, StoreId,
    Version,
};

/// Keys of uncertain value that a report names at most.
const UNCERTAIN_MAX: usize = 1_000;

/// What is left of a keyspace.
#[derive(Default)]
pub(super) struct Remains {
    pub(super) name: Option<String>,
    pub(super) options: Option<KeyspaceOptions>,
    wrecks: Vec<Wreck>,
    table: Option<Arc<Memtable>>,
    spare: Option<Arc<Memtable>>,
    /// Segments that were loaded by a record that nobody knows.
    stray_loads: BTreeSet<SegmentNumber>,
    /// What is lost of it, with the records whose versions that had.
    lost: Vec<(Lost, (Index, Index))>,
    /// What is lost nobody knows where, which may be here.
    elsewhere: Vec<(Lost, (Index, Index))>,
    has_manifest: bool,
    /// From this record on the log has them all.
    unbroken_from: Index,
}

/// Opens every segment that is part of the store, or may be.
pub(super) fn open(
    options: &Options,
    known: &Known,
    read: Read,
    lost: &mut Vec<Lost>,
) -> Result<BTreeMap<KeyspaceId, Remains>> {
    let mut opening = Opening {
        options,
        known,
        read,
        lost,
        remains: BTreeMap::new(),
        store_id: known.store_id,
    };
    opening.keyspaces();
    match known.is_whole() {
        true => opening.named()?,
        false => opening.found()?,
    }
    opening.finish()
}

struct Opening<'a> {
    options: &'a Options,
    known: &'a Known,
    read: Read,
    lost: &'a mut Vec<Lost>,
    remains: BTreeMap<KeyspaceId, Remains>,
    store_id: StoreId,
}

impl Opening<'_> {
    /// Those that manifest and log name.
    fn keyspaces(&mut self) {
        let state = self.known.state.as_ref();
        for (id, keyspace) in state.iter().flat_map(|state| &state.keyspaces) {
            let remains = self.remains.entry(*id).or_default();
            remains.name = Some(keyspace.name.clone());
            remains.options = decode_options(&keyspace.options);
            let dir = &self.options.path;
            remains.lost.extend(keyspace.fences.iter().map(|fence| {
                let lost = Lost::of_fence(dir, fence, &keyspace.name);
                (lost, (fence.oldest, fence.newest))
            }));
        }
        let is_new = |id: &KeyspaceId| {
            let state = state.filter(|_| self.known.is_whole());
            state.is_none_or(|state| *id >= state.next_keyspace)
        };
        for (id, (name, options)) in &self.read.created {
            if is_new(id) {
                let remains = self.remains.entry(*id).or_default();
                remains.name = Some(name.clone());
                remains.options.clone_from(options);
            }
        }
        self.remains.entry(KeyspaceId::DEFAULT).or_default();
    }

    /// The segments that the manifest names, and the log's loads after that.
    fn named(&mut self) -> Result<()> {
        let known = self.known;
        for (id, keyspace) in known.state.iter().flat_map(|state| &state.keyspaces) {
            for (_, meta) in keyspace.segments.values() {
                self.open(Some(*id), meta.number, Some(meta))?;
            }
        }
        for (id, index, meta) in self.read.loaded.clone().into_values() {
            if !records::is_covered(known, id, index) {
                self.open(Some(id), meta.number, Some(&meta))?;
            }
        }
        Ok(())
    }

    /// The segments in the folder, and those that what is left of the manifest names.
    fn found(&mut self) -> Result<()> {
        let known = self.known;
        let state = known.state.as_ref();
        let mut hints: BTreeMap<SegmentNumber, (KeyspaceId, SegmentMeta)> = BTreeMap::new();
        for (id, index, mut meta) in self.read.loaded.clone().into_values() {
            meta.loaded_at = index;
            hints.insert(meta.number, (id, meta));
        }
        for (id, keyspace) in state.iter().flat_map(|state| &state.keyspaces) {
            for (number, (_, meta)) in &keyspace.segments {
                hints.insert(*number, (*id, meta.clone()));
            }
        }
        let there: BTreeSet<_> = known.segments().collect();
        for number in &there {
            if known.removed.contains(number) {
                continue;
            }
            match hints.get(number) {
                Some((id, meta)) => self.open(Some(*id), *number, Some(meta))?,
                None => self.open(None, *number, None)?,
            }
        }
        let is_of_state = |number: &SegmentNumber| {
            let mut keyspaces = state.iter().flat_map(|state| state.keyspaces.values());
            keyspaces.any(|keyspace| keyspace.segments.contains_key(number))
        };
        for (number, (id, meta)) in hints {
            if !there.contains(&number) && is_of_state(&number) {
                self.missing(Some(id), number, Some(&meta));
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        keyspace: Option<KeyspaceId>,
        number: SegmentNumber,
        meta: Option<&SegmentMeta>,
    ) -> Result<()> {
        let path = self.options.path.join(file_name(number));
        let wreck = match Wreck::open(self.options.vfs.as_ref(), &path, number, meta) {
            Ok(wreck) => wreck,
            Err(error) if super::is_final(&error) => return Err(error),
            Err(error) => {
                match &error {
                    Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                        self.missing(keyspace, number, meta);
                    }
                    error => self.unreadable(keyspace, &path, meta, &error.to_string()),
                }
                return Ok(());
            }
        };
        let identity = wreck.identity();
        if let Some(identity) = identity {
            if self.store_id == StoreId::default() {
                self.store_id = identity.store_id;
            }
            if identity.store_id != self.store_id {
                let what = format!("it belongs to another store ({})", identity.store_id);
                self.unreadable(keyspace, &path, meta, &what);
                return Ok(());
            }
        }
        let Some(id) = keyspace.or(identity.map(|identity| identity.keyspace)) else {
            let what = "nothing says to which keyspace it belongs";
            self.unreadable(None, &path, meta, what);
            return Ok(());
        };
        self.remains.entry(id).or_default().wrecks.push(wreck);
        Ok(())
    }

    fn missing(
        &mut self,
        keyspace: Option<KeyspaceId>,
        number: SegmentNumber,
        meta: Option<&SegmentMeta>,
    ) {
        let path = self.options.path.join(file_name(number));
        self.unreadable(keyspace, &path, meta, "the file is missing");
    }

    /// Nothing of this segment can be had.
    fn unreadable(
        &mut self,
        keyspace: Option<KeyspaceId>,
        path: &Path,
        meta: Option<&SegmentMeta>,
        what: &str,
    ) {
        let bytes = meta.map_or(0, |meta| meta.bytes);
        let lost = Lost {
            damage: Damage::new(path, 0, bytes, what),
            keyspace: None,
            from: meta.map(|meta| meta.smallest_key.clone()),
            to: meta
                .filter(|meta| !meta.is_endless)
                .map(|meta| meta.largest_key.clone()),
        };
        let everything = (Index(0), Index(u64::MAX));
        let indexes = meta.map_or(everything, |meta| (meta.smallest_index, meta.largest_index));
        match keyspace {
            Some(id) => {
                let remains = self.remains.entry(id).or_default();
                remains.lost.push((lost, indexes));
            }
            None => self.lost.push(lost),
        }
    }

    fn finish(mut self) -> Result<BTreeMap<KeyspaceId, Remains>> {
        for (id, table) in std::mem::take(&mut self.read.tables) {
            self.remains.entry(id).or_default().table = Some(table);
        }
        for (id, table) in std::mem::take(&mut self.read.spare) {
            // One that the manifest doesn't know any more was dropped.
            if !self.known.is_whole() || self.remains.contains_key(&id) {
                self.remains.entry(id).or_default().spare = Some(table);
            }
        }
        for id in &self.read.dropped {
            self.remains.remove(id);
        }
        let everything = (Index(0), Index(u64::MAX));
        for remains in self.remains.values_mut() {
            remains.has_manifest = self.known.is_whole();
            remains.unbroken_from = self.read.unbroken_from;
            // Of what nobody knows where it belongs, it may be everywhere.
            for lost in self.lost.iter() {
                let is_manifest = self.known.damage.contains(&lost.damage);
                if !is_manifest {
                    let indexes = lost.damage.indexes.unwrap_or(everything);
                    remains.elsewhere.push((lost.clone(), indexes));
                }
            }
            if !remains.has_manifest {
                remains.place_stray_loads();
            }
        }
        Ok(self.remains)
    }
}

impl Remains {
    pub(super) fn name(&self, id: KeyspaceId) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if id == KeyspaceId::DEFAULT => DEFAULT_KEYSPACE.to_owned(),
            None => format!("unnamed-keyspace-{id}"),
        }
    }

    /// What was loaded has no indexes of its own. It is newer than what was in a segment before it was written.
    fn place_stray_loads(&mut self) {
        let of = |wreck: &Wreck| (wreck.number(), wreck.indexes());
        let all: Vec<_> = self.wrecks.iter().map(of).collect();
        for wreck in &mut self.wrecks {
            let has_entries = wreck.properties().is_some_and(|p| p.entries > 0);
            if wreck.indexes() != (Index(0), Index(0)) || !has_entries {
                continue;
            }
            let older = all.iter().filter(|(number, _)| *number < wreck.number());
            let newest = older.map(|(_, (_, last))| *last);
            let newest = newest.filter(|last| *last < Index(u64::MAX)).max();
            wreck.set_loaded_at(newest.unwrap_or_default());
            self.stray_loads.insert(wreck.number());
        }
    }

    /// See [`super::SalvagedKeyspace::walk`].
    pub(super) fn walk(mut self, name: &str, visit: Visit<'_>) -> Result<Walked> {
        let ranges = self.ranges();
        let (mut sources, mut heap) = self.sources()?;
        let mut walked = Walked::default();
        let mut chain = Chain::new(self.has_manifest, self.unbroken_from);
        loop {
            let head = heap.pop();
            let key = head.as_ref().map(|Reverse(head)| head.key.as_slice());
            if chain.key() != key {
                // Everything that could hold more of the key has been walked as far as that.
                let parts = sources.iter().flat_map(Source::lost);
                let parts = parts.map(|(part, indexes)| (of_part(part), indexes));
                let known = self
                    .lost
                    .iter()
                    .chain(&self.elsewhere)
                    .map(|(lost, indexes)| (lost.clone(), *indexes));
                chain.end(&self.stray_loads, parts.chain(known), visit)?;
                chain.count(&mut walked, UNCERTAIN_MAX);
            }
            let Some(Reverse(head)) = head else {
                break;
            };
            let Some(source) = sources.get_mut(head.source) else {
                break;
            };
            if let Some(entry) = source.entry() {
                let deleted = ranges.newest(entry.key, Version::MAX);
                chain.feed(entry, deleted, source.origin());
            }
            source.next()?;
            heap.extend(source.head(head.source).map(Reverse));
        }
        let parts = sources.iter().flat_map(Source::lost);
        let mut lost: Vec<Lost> = parts.map(|(part, _)| of_part(part)).collect();
        lost.extend(self.lost.into_iter().map(|(lost, _)| lost));
        for one in &mut lost {
            one.keyspace = Some(name.to_owned());
        }
        walked.lost = lost;
        Ok(walked)
    }

    fn ranges(&self) -> RangeDeletes {
        let of_wrecks = self.wrecks.iter().flat_map(Wreck::range_deletes).cloned();
        let tables = [&self.table, &self.spare].into_iter().flatten();
        let of_tables = tables.filter_map(|table| table.range_deletes());
        let of_tables = of_tables.flat_map(|ranges| ranges.all());
        let all: Vec<RangeDelete> = of_wrecks.chain(of_tables).collect();
        RangeDeletes::new(all)
    }

    fn sources(&mut self) -> Result<(Vec<Source>, BinaryHeap<Reverse<Head>>)> {
        // Of one version in two segments, the one of the later segment comes first.
        self.wrecks.sort_by_key(|wreck| Reverse(wreck.number()));
        let wrecks = std::mem::take(&mut self.wrecks).into_iter();
        let mut sources: Vec<_> = wrecks.map(|wreck| Source::Wreck(Box::new(wreck))).collect();
        for (table, origin) in [(&self.table, Origin::Log), (&self.spare, Origin::Spare)] {
            if let Some(table) = table {
                sources.push(Source::Table(table.cursor(), origin));
            }
        }
        let mut heap = BinaryHeap::new();
        for (number, source) in sources.iter_mut().enumerate() {
            source.begin()?;
            heap.extend(source.head(number).map(Reverse));
        }
        Ok((sources, heap))
    }
}

fn of_part(part: &LostPart) -> Lost {
    Lost {
        damage: part.damage.clone(),
        keyspace: None,
        from: part.from.clone(),
        to: part.to.clone(),
    }
}

/// A table under the walk.
enum Source {
    Wreck(Box<Wreck>),
    Table(MemtableCursor, Origin),
}

impl Source {
    fn begin(&mut self) -> Result<()> {
        match self {
            Self::Wreck(wreck) => wreck.next(),
            Self::Table(cursor, _) => cursor.seek_to_first(),
        }
    }

    fn next(&mut self) -> Result<()> {
        match self {
            Self::Wreck(wreck) => wreck.next(),
            Self::Table(cursor, _) => cursor.next(),
        }
    }

    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Self::Wreck(wreck) => wreck.entry(),
            Self::Table(cursor, _) => cursor.entry(),
        }
    }

    fn origin(&self) -> Origin {
        match self {
            Self::Wreck(wreck) => Origin::Segment(wreck.number()),
            Self::Table(_, origin) => *origin,
        }
    }

    fn head(&self, source: usize) -> Option<Head> {
        self.entry().map(|entry| Head {
            key: entry.key.to_vec(),
            version: entry.version,
            source,
        })
    }

    fn lost(&self) -> impl Iterator<Item = (&LostPart, (Index, Index))> {
        let (lost, indexes) = match self {
            Self::Wreck(wreck) => (wreck.lost(), wreck.indexes()),
            Self::Table(..) => (&[][..], (Index(0), Index(0))),
        };
        lost.iter().map(move |part| (part, indexes))
    }
}

/// What a source is at: in table order, and of equal ones by the sources' order.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    key: Vec<u8>,
    version: Version,
    source: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let tables = crate::types::order(&self.key, self.version, &other.key, other.version);
        tables.then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
