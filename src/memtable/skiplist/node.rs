//! One entry in the arena: its links, a header, its key and value.
//!
//! A node is laid out as `[link h-1] … [link 1] [link 0] [header] [key] [value]`, and its position
//! is that of link 0, so that the lower links, the header and a short key lie side by side whatever
//! the height. If key and value together are long, they lie in a large block, whose address stands
//! in their place.

use std::marker::PhantomData;
use std::slice;
use std::sync::atomic::AtomicU64;

use super::arena::{Arena, UNIT, out_of_memory};
use crate::types::{Entry, EntryKind, Version};

/// Keys and values that are longer than this together get a block of their own.
const INLINE_BYTES_MAX: usize = 4096;

/// A link: the position of the node it leads to (0: none), below the hint of that node's key as
/// seen from the link's owner. One word, so that nobody ever sees the one without the other.
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

/// The links of a node, or of the list's head: `links` is the address of link 0, link `n` lies `n`
/// words before it.
#[derive(Clone, Copy)]
pub struct Tower<'a> {
    links: *const AtomicU64,
    list: PhantomData<&'a Arena>,
}

impl<'a> Tower<'a> {
    /// The tower whose highest link comes first in `links`.
    pub fn of_head(links: &'a [AtomicU64]) -> Self {
        debug_assert!(!links.is_empty());
        Self {
            links: links.as_ptr().wrapping_add(links.len() - 1),
            list: PhantomData,
        }
    }

    /// The link at a level.
    ///
    /// # Safety
    /// The level is below the tower's height.
    #[inline]
    pub unsafe fn link(self, level: usize) -> &'a AtomicU64 {
        // SAFETY: a tower has as many words before link 0 as its height says, initialised before
        // anyone else could see it, and atomics may be shared for as long as the memory lives ('a).
        unsafe { &*self.links.sub(level) }
    }
}

/// What stands between link 0 and the key.
#[repr(C)]
struct Header {
    index: u64,
    position: u32,
    key_bytes: u32,
    value_bytes: u32,
    kind: EntryKind,
    /// Whether the address of a large block stands in place of key and value.
    is_large: bool,
}

const _: () = assert!(size_of::<AtomicU64>() == UNIT && align_of::<Header>() <= UNIT);

/// A node that is written whole: nothing but its links ever changes again.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tower: Tower<'a>,
}

impl<'a> Node<'a> {
    /// The node at a position.
    ///
    /// # Safety
    /// `position` came from [`Node::write`] on this arena, in this thread or through a chain of
    /// release and acquire from the one that wrote it.
    #[inline]
    pub unsafe fn at(arena: &'a Arena, position: u32) -> Self {
        Self {
            tower: Tower {
                links: arena.pointer(position).cast_const().cast(),
                list: PhantomData,
            },
        }
    }

    /// Copies an entry into the arena, under `height` links that lead nowhere.
    pub fn write(arena: &'a Arena, entry: Entry<'_>, height: usize) -> (u32, Self) {
        let bytes = entry.key.len() + entry.value.len();
        let is_large = bytes > INLINE_BYTES_MAX;
        let place = if is_large {
            size_of::<*mut u8>()
        } else {
            bytes
        };
        let (Ok(key_bytes), Ok(value_bytes)) = (
            u32::try_from(entry.key.len()),
            u32::try_from(entry.value.len()),
        ) else {
            out_of_memory();
        };
        let units = height + (size_of::<Header>() + place).div_ceil(UNIT);
        let (first, start) = arena.allocate(units);
        let links = start.cast::<AtomicU64>();
        for level in 0..height {
            // SAFETY: the piece has `height` words at its front, aligned to `UNIT`, and is ours.
            unsafe { links.add(level).write(AtomicU64::new(Link::END.0)) };
        }
        let header = Header {
            index: entry.version.index.0,
            position: entry.version.position,
            key_bytes,
            value_bytes,
            kind: entry.kind,
            is_large,
        };
        // SAFETY: the piece goes on with room for the header and `place` bytes, which are ours; both
        // are aligned, since links and header are whole units.
        let data = unsafe {
            let at = links.add(height).cast::<Header>();
            at.write(header);
            let data = at.add(1).cast::<u8>();
            if is_large {
                let block = arena.allocate_large(bytes);
                data.cast::<*mut u8>().write(block);
                block
            } else {
                data
            }
        };
        // SAFETY: `data` has room for `bytes` bytes, which nobody else has seen, so that they can't
        // overlap with the slices copied from.
        unsafe {
            data.copy_from_nonoverlapping(entry.key.as_ptr(), entry.key.len());
            data.add(entry.key.len())
                .copy_from_nonoverlapping(entry.value.as_ptr(), entry.value.len());
        }
        let node = Self {
            tower: Tower {
                links: links.wrapping_add(height - 1),
                list: PhantomData,
            },
        };
        (first + height as u32 - 1, node)
    }

    /// Its links.
    #[inline]
    pub fn tower(self) -> Tower<'a> {
        self.tower
    }

    #[inline]
    fn header(self) -> &'a Header {
        // SAFETY: `write` put a header right after link 0, and nobody writes to it again.
        unsafe { &*self.tower.links.add(1).cast::<Header>() }
    }

    /// Its version.
    #[inline]
    pub fn version(self) -> Version {
        let header = self.header();
        Version {
            index: crate::types::Index(header.index),
            position: header.position,
        }
    }

    /// Where key and value are.
    #[inline]
    fn data(self) -> *const u8 {
        // SAFETY: what follows the header lies in the same piece: key and value, or, if the header
        // says so, the aligned address of the block that holds them.
        unsafe {
            let data = self.tower.links.add(1).cast::<Header>().add(1).cast::<u8>();
            if self.header().is_large {
                data.cast::<*const u8>().read()
            } else {
                data
            }
        }
    }

    /// Its key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        // SAFETY: `write` put that many bytes there, nobody writes to them again, and they live as
        // long as the arena.
        unsafe { slice::from_raw_parts(self.data(), self.header().key_bytes as usize) }
    }

    /// All of it.
    #[inline]
    pub fn entry(self) -> Entry<'a> {
        let header = self.header();
        // SAFETY: as for `key`, and the value follows it.
        let value = unsafe {
            let at = self.data().add(header.key_bytes as usize);
            slice::from_raw_parts(at, header.value_bytes as usize)
        };
        Entry {
            key: self.key(),
            version: self.version(),
            kind: header.kind,
            value,
        }
    }
}
