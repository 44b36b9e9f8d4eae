//! One entry in the arena: its link to the next, a header, its key and value.
//!
//! A node is laid out as `[link] [header] [key] [value]`. If key and value together are long, they lie
//! in a large block, whose address stands in their place.

use std::cmp::Ordering;
use std::slice;
use std::sync::atomic::AtomicU64;

use super::arena::{Arena, UNIT, out_of_memory};
use crate::types::{Entry, EntryKind, Index, Version, order};

/// Keys and values that are longer than this together get a block of their own.
const INLINE_BYTES_MAX: usize = 4096;

/// The position of a node (0: none), below the hint of its key as seen from whoever holds the link. One
/// word, so that nobody ever sees the one without the other.
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

/// What comes first in a node. Key and value follow, or the address of the block that holds them.
#[repr(C)]
struct Header {
    link: AtomicU64,
    index: u64,
    position: u32,
    key_bytes: u32,
    value_bytes: u32,
    kind: EntryKind,
    /// Whether the address of a large block stands in place of key and value.
    is_large: bool,
}

const _: () = assert!(size_of::<Header>().is_multiple_of(UNIT) && align_of::<Header>() <= UNIT);

/// A node that is written whole: nothing but its link ever changes again.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    header: &'a Header,
    /// Right after the header, with leave to read on from there.
    data: *const u8,
}

impl<'a> Node<'a> {
    /// The node at a position.
    ///
    /// # Safety
    /// `position` came from [`Node::write`] on this arena, in this thread or through a chain of
    /// release and acquire from the one that wrote it.
    #[inline]
    pub unsafe fn at(arena: &'a Arena, position: u32) -> Self {
        let start = arena.pointer(position).cast_const();
        Self {
            // SAFETY: `write` put a header there before the caller could know of it; it stays as long
            // as the arena ('a), and only its atomic changes.
            header: unsafe { &*start.cast::<Header>() },
            data: start.wrapping_add(size_of::<Header>()),
        }
    }

    /// Copies an entry into the arena, with a link that leads nowhere; returns its position.
    pub fn write(arena: &'a Arena, entry: Entry<'_>) -> (u32, Self) {
        let (Ok(key_bytes), Ok(value_bytes)) = (
            u32::try_from(entry.key.len()),
            u32::try_from(entry.value.len()),
        ) else {
            out_of_memory();
        };
        let bytes = entry.key.len() + entry.value.len();
        let is_large = bytes > INLINE_BYTES_MAX;
        let place = if is_large {
            size_of::<*mut u8>()
        } else {
            bytes
        };
        let (position, start) = arena.allocate((size_of::<Header>() + place).div_ceil(UNIT));
        let header = Header {
            link: AtomicU64::new(Link::END.0),
            index: entry.version.index.0,
            position: entry.version.position,
            key_bytes,
            value_bytes,
            kind: entry.kind,
            is_large,
        };
        // SAFETY: the piece is ours alone, has room for the header and `place` bytes, and is aligned
        // to `UNIT`; so is what comes after the header.
        let data = unsafe {
            start.cast::<Header>().write(header);
            let data = start.add(size_of::<Header>());
            if is_large {
                let block = arena.allocate_large(bytes);
                data.cast::<*mut u8>().write(block);
                block
            } else {
                data
            }
        };
        // SAFETY: `data` has room for `bytes` bytes, which nobody else has seen, so they don't overlap
        // with the slices copied from.
        unsafe {
            data.copy_from_nonoverlapping(entry.key.as_ptr(), entry.key.len());
            data.add(entry.key.len())
                .copy_from_nonoverlapping(entry.value.as_ptr(), entry.value.len());
        }
        // SAFETY: just written.
        (position, unsafe { Self::at(arena, position) })
    }

    /// The link to the next node.
    #[inline]
    pub fn link(self) -> &'a AtomicU64 {
        &self.header.link
    }

    /// Its version.
    #[inline]
    pub fn version(self) -> Version {
        Version {
            index: Index(self.header.index),
            position: self.header.position,
        }
    }

    /// Where key and value are.
    #[inline]
    fn data(self) -> *const u8 {
        if self.header.is_large {
            // SAFETY: then `write` put an address there, and the place is aligned for it.
            unsafe { self.data.cast::<*const u8>().read() }
        } else {
            self.data
        }
    }

    /// Its key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        // SAFETY: `write` put that many bytes there, nobody writes to them again, and they stay as
        // long as the arena ('a).
        unsafe { slice::from_raw_parts(self.data(), self.header.key_bytes as usize) }
    }

    /// How it stands to another in the table's order.
    pub fn order(self, other: Self) -> Ordering {
        order(self.key(), self.version(), other.key(), other.version())
    }

    /// All of it.
    #[inline]
    pub fn entry(self) -> Entry<'a> {
        // SAFETY: as for the key, which the value follows.
        let value = unsafe {
            let at = self.data().add(self.header.key_bytes as usize);
            slice::from_raw_parts(at, self.header.value_bytes as usize)
        };
        Entry {
            key: self.key(),
            version: self.version(),
            kind: self.header.kind,
            value,
        }
    }
}
