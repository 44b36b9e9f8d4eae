//! What lies in the arena: keys, each linked to the next one, and the versions of each key.
//!
//! A key is laid out as `[link] [newest] [lengths] [its first version's record] [key] [value]`. Every
//! further version has a piece of its own, `[jump] [depth] [record] [value]`. What would make a piece
//! too long (key and value together, or the value) lies in a large block, whose address stands in
//! its place.
//!
//! The versions of a key are a list, newest first, that grows at its newer end (or anywhere, if they
//! come out of order). So that an old one is found in a long list, every further version names one
//! some way down to jump to: twice as far, or as near as the next, such that a list that grew at the
//! newer end only is searched in O(log n) steps ("skew-binary" numbers say which).

use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::arena::{Arena, Slab, UNIT, out_of_memory};
use crate::types::{Entry, EntryKind, Index, Version};

/// What is longer than this gets a block of its own.
const INLINE_BYTES_MAX: usize = 4096;

/// The position of a key (0: none), below the hint of it as seen from whoever holds the link. One word,
/// so that nobody ever sees the one without the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link(pub u64);

impl Link {
    /// Leads nowhere.
    pub const END: Self = Self::new(crate::memtable::hint::END, 0);

    #[inline]
    pub const fn new(hint: u32, position: u32) -> Self {
        Self((hint as u64) << 32 | position as u64)
    }

    #[inline]
    pub fn hint(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub fn position(self) -> u32 {
        self.0 as u32
    }
}

/// One version of a key.
#[repr(C)]
pub struct Record {
    index: u64,
    position: u32,
    value_bytes: u32,
    /// The position of the next older version's record; 0 if there is none.
    pub older: AtomicU32,
    kind: EntryKind,
    /// Whether the address of a large block stands in place of what follows the record.
    is_large: bool,
    /// Whether this is a further version, not the one that lies with the key.
    is_further: bool,
}

/// What comes first in the piece of a key. Its bytes and its first value follow.
#[repr(C)]
struct KeyHead {
    link: AtomicU64,
    newest: AtomicU32,
    key_bytes: u32,
    record: Record,
}

/// What comes first in the piece of a further version. Its value follows.
#[repr(C)]
struct FurtherHead {
    jump: AtomicU32,
    /// Versions below this one when it came, more or less: it only says where to jump.
    depth: AtomicU32,
    record: Record,
}

/// From the position of a key to that of its first version's record.
const KEY_TO_RECORD: u32 = (std::mem::offset_of!(KeyHead, record) / UNIT) as u32;
/// From the position of a further version's piece to that of its record.
const FURTHER_TO_RECORD: u32 = (std::mem::offset_of!(FurtherHead, record) / UNIT) as u32;

const _: () = {
    assert!(size_of::<Record>() == 24 && align_of::<Record>() <= UNIT);
    assert!(size_of::<KeyHead>() == 40 && KEY_TO_RECORD == 2);
    assert!(size_of::<FurtherHead>() == 32 && FURTHER_TO_RECORD == 1);
};

/// Copies `parts` one after the other to `start`, which is what follows the head in a piece, or into a
/// large block whose address is put there.
///
/// # Safety
/// `start` is aligned to [`UNIT`], has room for what [`room_for`] says, and nobody else knows of it.
unsafe fn write_data(arena: &Arena, start: *mut u8, is_large: bool, parts: [&[u8]; 2]) {
    let mut at = start;
    if is_large {
        at = arena.allocate_large(parts[0].len() + parts[1].len());
        // SAFETY: there is room for an address, aligned, says the caller.
        unsafe { start.cast::<*mut u8>().write(at) };
    }
    for part in parts {
        // SAFETY: there is room for all parts, in the piece (says the caller) or in the block, which
        // nobody else knows of: so the parts can't overlap with it.
        unsafe {
            at.copy_from_nonoverlapping(part.as_ptr(), part.len());
            at = at.add(part.len());
        }
    }
}

/// Whether so many bytes go in a large block, and the bytes to leave for them in the piece.
fn room_for(bytes: usize) -> (bool, usize) {
    let is_large = bytes > INLINE_BYTES_MAX;
    (
        is_large,
        if is_large {
            size_of::<*mut u8>()
        } else {
            bytes
        },
    )
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or_else(|_| out_of_memory())
}

impl Record {
    fn new(entry: Entry<'_>, is_large: bool, is_further: bool) -> Self {
        Self {
            index: entry.version.index.0,
            position: entry.version.position,
            value_bytes: length(entry.value),
            older: AtomicU32::new(0),
            kind: entry.kind,
            is_large,
            is_further,
        }
    }

    /// Its version.
    #[inline]
    pub fn version(&self) -> Version {
        Version {
            index: Index(self.index),
            position: self.position,
        }
    }
}

/// A key that is written whole: nothing but its link and its list of versions ever changes again.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    head: &'a KeyHead,
    /// Right after the head, with leave to read on from there.
    data: *const u8,
}

impl<'a> Key<'a> {
    /// The key at a position.
    ///
    /// # Safety
    /// `position` came from [`Key::write`] on this arena, in this thread or through a chain of release
    /// and acquire from the one that wrote it.
    #[inline]
    pub unsafe fn at(arena: &'a Arena, position: u32) -> Self {
        let start = arena.pointer(position).cast_const();
        Self {
            // SAFETY: `write` put a head there before the caller could know of it; it stays as long as
            // the arena ('a), and only its atomics change.
            head: unsafe { &*start.cast::<KeyHead>() },
            data: start.wrapping_add(size_of::<KeyHead>()),
        }
    }

    /// Copies a key and its first version into the arena, with a link that leads nowhere; returns its
    /// position. The piece comes from a slab, if there is one.
    pub fn write(arena: &'a Arena, slab: Option<&mut Slab>, entry: Entry<'_>) -> (u32, Self) {
        let (is_large, room) = room_for(entry.key.len() + entry.value.len());
        let units = (size_of::<KeyHead>() + room).div_ceil(UNIT);
        let (position, start) = match slab {
            Some(slab) => arena.allocate_from(slab, units),
            None => arena.allocate(units),
        };
        let head = KeyHead {
            link: AtomicU64::new(Link::END.0),
            newest: AtomicU32::new(position + KEY_TO_RECORD),
            key_bytes: length(entry.key),
            record: Record::new(entry, is_large, false),
        };
        // SAFETY: the piece is ours alone, aligned to `UNIT`, and has room for the head (whole units)
        // and `room` bytes.
        unsafe {
            start.cast::<KeyHead>().write(head);
            let data = start.add(size_of::<KeyHead>());
            write_data(arena, data, is_large, [entry.key, entry.value]);
        }
        // SAFETY: just written.
        (position, unsafe { Self::at(arena, position) })
    }

    /// The entry of this key and its first version, the one that was written with it, at `position`.
    #[inline]
    pub fn first_entry(self, arena: &'a Arena, position: u32) -> Entry<'a> {
        // SAFETY: the record of a key's first version lies in the key's own piece.
        self.entry(unsafe { KeyVersion::at(arena, position + KEY_TO_RECORD) })
    }

    /// The link to the next key.
    #[inline]
    pub fn link(self) -> &'a AtomicU64 {
        &self.head.link
    }

    /// The position of its newest version's record.
    #[inline]
    pub fn newest(self) -> &'a AtomicU32 {
        &self.head.newest
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        // SAFETY: `write` put that many bytes there, nobody writes to them again, and they stay as
        // long as the arena ('a).
        unsafe {
            let start = data_of(&self.head.record, self.data);
            slice::from_raw_parts(start, self.head.key_bytes as usize)
        }
    }

    /// The entry of this key and one of its versions.
    #[inline]
    pub fn entry(self, version: KeyVersion<'a>) -> Entry<'a> {
        let record = version.record;
        let key_bytes = match record.is_further {
            true => 0,
            false => self.head.key_bytes as usize,
        };
        // SAFETY: as for the key, which the value of the first version follows; further ones have
        // theirs right there.
        let value = unsafe {
            let start = data_of(record, version.data).add(key_bytes);
            slice::from_raw_parts(start, record.value_bytes as usize)
        };
        Entry {
            key: self.bytes(),
            version: record.version(),
            kind: record.kind,
            value,
        }
    }
}

/// Where the data of a record is that is followed by `data`.
///
/// # Safety
/// `data` is what follows the record in its piece.
#[inline]
unsafe fn data_of(record: &Record, data: *const u8) -> *const u8 {
    if record.is_large {
        // SAFETY: then there is an address, aligned, since records are whole units.
        unsafe { data.cast::<*const u8>().read() }
    } else {
        data
    }
}

/// A version that is written whole: nothing but its `older` ever changes again.
#[derive(Clone, Copy)]
pub struct KeyVersion<'a> {
    pub record: &'a Record,
    /// The record's position.
    pub position: u32,
    /// Right after the record, with leave to read on from there.
    data: *const u8,
}

impl<'a> KeyVersion<'a> {
    /// The version whose record is at a position.
    ///
    /// # Safety
    /// `position` was in [`Key::newest`] or in a record's `older` or jump on this arena, and was read
    /// in the thread that wrote it or through a chain of release and acquire from there.
    #[inline]
    pub unsafe fn at(arena: &'a Arena, position: u32) -> Self {
        let start = arena.pointer(position).cast_const();
        Self {
            // SAFETY: a record was put there before the caller could know of it; it stays as long as
            // the arena ('a), and only its atomics change.
            record: unsafe { &*start.cast::<Record>() },
            position,
            data: start.wrapping_add(size_of::<Record>()),
        }
    }

    /// Copies a further version of a key into the arena; it isn't in the key's list yet.
    pub fn write(arena: &'a Arena, entry: Entry<'_>) -> Self {
        let (is_large, room) = room_for(entry.value.len());
        let (position, start) = arena.allocate((size_of::<FurtherHead>() + room).div_ceil(UNIT));
        let position = position + FURTHER_TO_RECORD;
        let head = FurtherHead {
            jump: AtomicU32::new(position),
            depth: AtomicU32::new(0),
            record: Record::new(entry, is_large, true),
        };
        // SAFETY: the piece is ours alone, aligned to `UNIT`, and has room for the head (whole units)
        // and `room` bytes.
        unsafe {
            start.cast::<FurtherHead>().write(head);
            let data = start.add(size_of::<FurtherHead>());
            write_data(arena, data, is_large, [&[], entry.value]);
        }
        // SAFETY: just written.
        unsafe { Self::at(arena, position) }
    }

    /// The head before a further version's record.
    #[inline]
    fn further(self, arena: &'a Arena) -> Option<&'a FurtherHead> {
        self.record.is_further.then(|| {
            let start = arena.pointer(self.position - FURTHER_TO_RECORD);
            // SAFETY: further versions have that head, and only its atomics change.
            unsafe { &*start.cast_const().cast::<FurtherHead>() }
        })
    }

    /// The version to jump to, some way down the list; itself if there is none.
    #[inline]
    pub fn jump(self, arena: &'a Arena) -> Self {
        match self.further(arena) {
            // SAFETY: set by `put_before` before this one could be known of, to one that its thread
            // knew of.
            Some(head) => unsafe { Self::at(arena, head.jump.load(Ordering::Relaxed)) },
            None => self,
        }
    }

    fn depth(self, arena: &'a Arena) -> u32 {
        let depth = |head: &FurtherHead| head.depth.load(Ordering::Relaxed);
        self.further(arena).map_or(0, depth)
    }

    /// Makes ready a further version, which nobody else knows of yet, to go before `older`.
    pub fn put_before(self, arena: &'a Arena, older: Option<Self>) {
        let (below, jump, depth) = match older {
            None => (0, self.position, 0),
            Some(older) => {
                let half = older.jump(arena);
                let whole = half.jump(arena);
                let [top, middle, bottom] = [older, half, whole].map(|one| one.depth(arena));
                let is_even = top.wrapping_sub(middle) == middle.wrapping_sub(bottom);
                let jump = if is_even { whole } else { older };
                (older.position, jump.position, top.saturating_add(1))
            }
        };
        self.record.older.store(below, Ordering::Relaxed);
        if let Some(head) = self.further(arena) {
            head.jump.store(jump, Ordering::Relaxed);
            head.depth.store(depth, Ordering::Relaxed);
        }
    }
}
