//! Memory that is handed out piece by piece and given back all at once.
//!
//! # Safety argument
//! - A piece is a range of a chunk that `next.fetch_add` gave to one caller and to nobody else, so
//!   no two pieces overlap. A slab is such a piece, and `allocate_from` hands out each part of it once;
//!   slabs can't be copied.
//! - A chunk, once in `chunks`, stays there and is never moved or freed before the arena is
//!   dropped; so a pointer into a piece is good for as long as the arena is borrowed.
//! - Positions are units of eight bytes, and a position's highest bit names its chunk: the chunk of
//!   bit `b` owns `2^b .. 2^(b+1)`, so every position belongs to one chunk, and the rest of its bits
//!   is the way from the chunk's start.
//! - Large blocks are allocations of their own, kept in a list that only grows.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What positions count, in bytes; every piece is aligned to it.
pub const UNIT: usize = 8;
/// The first position given out, and the units in the smallest chunk (64 KiB).
const FIRST: u32 = 1 << 13;
/// Chunks, by the leading zeros of the positions in them. Those above [`FIRST`] double in size, as
/// far as 32-bit positions go (32 GiB); the slots of smaller chunks, and of position 0, stay empty.
const CHUNKS: usize = u32::BITS as usize + 1;
/// The units of a slab (32 KiB).
const SLAB_UNITS: u32 = 1 << 12;
/// Alignment of chunks: a page, or for the larger ones a huge page, which saves a search most of the
/// waiting for address translation.
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// Stands before the bytes of a large block.
#[repr(C)]
struct Large {
    /// The block that was there before.
    previous: *mut Large,
    /// Bytes after this header.
    bytes: usize,
}

/// What every insert writes, away from what every search reads.
#[repr(align(128))]
struct Counters {
    /// The first position not yet given out.
    next: AtomicU64,
    /// The newest large block.
    large: AtomicPtr<Large>,
    /// Bytes of all large blocks.
    large_bytes: AtomicU64,
}

/// A piece that one thread hands out further, so that threads which write much don't all count with
/// the same number. What is left of it in the end is nobody's. It must not outlive its arena.
#[derive(Default)]
pub struct Slab {
    /// The arena's address; 0 for none.
    arena: usize,
    /// The first position that is free, and how many there are.
    next: u32,
    units: u32,
}

/// The arena. Position 0 is never given out.
pub struct Arena {
    /// The address of each chunk; null if it isn't there yet.
    chunks: [AtomicPtr<u8>; CHUNKS],
    counters: Counters,
}

/// The chunk that a position lies in.
#[inline]
fn chunk_of(position: u32) -> usize {
    position.leading_zeros() as usize
}

/// How far into its chunk a position lies, in units.
#[inline]
fn within(position: u32) -> usize {
    let bit = 1u32.rotate_right(position.leading_zeros() + 1);
    (position ^ bit) as usize
}

/// The memory that a chunk takes.
fn chunk_layout(chunk: usize) -> Layout {
    let bytes = (1usize << 31)
        .checked_shr(chunk as u32)
        .and_then(|units| units.checked_mul(UNIT));
    bytes
        .and_then(|bytes| {
            let alignment = if bytes < HUGE_PAGE { PAGE } else { HUGE_PAGE };
            Layout::from_size_align(bytes, alignment).ok()
        })
        .unwrap_or_else(|| out_of_memory())
}

/// The memory that a large block takes, header included.
fn large_layout(bytes: usize) -> Layout {
    bytes
        .checked_add(size_of::<Large>())
        .and_then(|bytes| Layout::from_size_align(bytes, align_of::<Large>()).ok())
        .unwrap_or_else(|| out_of_memory())
}

/// Asks for huge pages under a chunk; as well if there are none to be had.
#[cfg(all(target_os = "linux", not(miri)))]
fn advise_huge_pages(start: *mut u8, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: whole pages that were just allocated, of which nobody knows yet; and this advice never
    // changes what memory holds.
    let _ = unsafe { madvise(start.cast(), bytes, Advice::LinuxHugepage) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn advise_huge_pages(_start: *mut u8, _bytes: usize) {}

/// Ends the process as running out of memory does: what was asked for can't be addressed.
#[cold]
pub fn out_of_memory() -> ! {
    handle_alloc_error(Layout::new::<u8>())
}

impl Arena {
    /// An arena without any chunk yet.
    pub fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            counters: Counters {
                next: AtomicU64::new(FIRST.into()),
                large: AtomicPtr::new(ptr::null_mut()),
                large_bytes: AtomicU64::new(0),
            },
        }
    }

    /// Bytes given out.
    pub fn bytes(&self) -> usize {
        let units = self.counters.next.load(Ordering::Relaxed) - u64::from(FIRST);
        let large = self.counters.large_bytes.load(Ordering::Relaxed);
        usize::try_from(units * UNIT as u64 + large).unwrap_or(usize::MAX)
    }

    /// Gives out `units` units that nobody has initialised yet, and their position. A piece must
    /// not be longer than the smallest chunk.
    pub fn allocate(&self, units: usize) -> (u32, *mut u8) {
        debug_assert!(0 < units && units <= FIRST as usize);
        loop {
            let first = self
                .counters
                .next
                .fetch_add(units as u64, Ordering::Relaxed);
            let last = first + units as u64 - 1;
            let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) else {
                out_of_memory();
            };
            let chunk = chunk_of(first);
            // A piece that would lie across two chunks is left to nobody.
            if chunk == chunk_of(last) {
                self.grow(chunk);
                return (first, self.pointer(first));
            }
        }
    }

    /// As [`Arena::allocate`], from a slab of this arena; a new one is taken when it is used up or is
    /// another arena's.
    pub fn allocate_from(&self, slab: &mut Slab, units: usize) -> (u32, *mut u8) {
        let wanted = units as u32;
        let own = ptr::from_ref(self).addr();
        if slab.arena != own || slab.units < wanted {
            if wanted > SLAB_UNITS / 4 {
                return self.allocate(units);
            }
            let (next, _) = self.allocate(SLAB_UNITS as usize);
            *slab = Slab {
                arena: own,
                next,
                units: SLAB_UNITS,
            };
        }
        let position = slab.next;
        slab.next += wanted;
        slab.units -= wanted;
        (position, self.pointer(position))
    }

    /// Sees to it that a chunk is there.
    #[inline]
    fn grow(&self, chunk: usize) {
        // Acquire: whoever publishes a position in this chunk thereby publishes the chunk's address.
        if self.chunks[chunk].load(Ordering::Acquire).is_null() {
            self.grow_slow(chunk);
        }
    }

    #[cold]
    fn grow_slow(&self, chunk: usize) {
        let layout = chunk_layout(chunk);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc(layout) };
        if start.is_null() {
            handle_alloc_error(layout);
        }
        if layout.size() >= HUGE_PAGE {
            advise_huge_pages(start, layout.size());
        }
        let installed = self.chunks[chunk].compare_exchange(
            ptr::null_mut(),
            start,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if installed.is_err() {
            // SAFETY: just allocated with this layout, and nobody else has seen it.
            unsafe { dealloc(start, layout) };
        }
    }

    /// The address of a position. Good to read through if the position lies in a piece that was
    /// given out and the caller has learned of it from whoever got the piece.
    #[inline]
    pub fn pointer(&self, position: u32) -> *mut u8 {
        // Relaxed: who knows the position knows the chunk (see `grow`).
        let start = self.chunks[chunk_of(position)].load(Ordering::Relaxed);
        start.wrapping_add(within(position) * UNIT)
    }

    /// Gives out `bytes` bytes of their own, aligned to [`UNIT`], not yet initialised.
    pub fn allocate_large(&self, bytes: usize) -> *mut u8 {
        let layout = large_layout(bytes);
        // SAFETY: the layout has a size above zero, since it holds the header.
        let block = unsafe { alloc(layout) }.cast::<Large>();
        if block.is_null() {
            handle_alloc_error(layout);
        }
        let large = &self.counters.large;
        let mut previous = large.load(Ordering::Relaxed);
        loop {
            // SAFETY: `block` is ours alone until it is in the list, big enough, and aligned.
            unsafe { block.write(Large { previous, bytes }) };
            // Release: `drop` reads the headers through this pointer.
            match large.compare_exchange_weak(previous, block, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(newer) => previous = newer,
            }
        }
        let taken = layout.size() as u64;
        self.counters
            .large_bytes
            .fetch_add(taken, Ordering::Relaxed);
        block.wrapping_add(1).cast()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for (chunk, start) in self.chunks.iter_mut().enumerate() {
            let start = *start.get_mut();
            if !start.is_null() {
                // SAFETY: `grow_slow` allocated it with this layout, and `&mut self` says that no
                // borrow of any piece is left.
                unsafe { dealloc(start, chunk_layout(chunk)) };
            }
        }
        let mut block = *self.counters.large.get_mut();
        while !block.is_null() {
            // SAFETY: blocks in the list have their header written and are not freed yet; nobody
            // else touches the list, as `&mut self` says.
            let Large { previous, bytes } = unsafe { block.read() };
            // SAFETY: `allocate_large` allocated it with this layout, and no borrow is left.
            unsafe { dealloc(block.cast(), large_layout(bytes)) };
            block = previous;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_has_its_place_in_one_chunk() {
        let mut next = FIRST as usize;
        for chunk in (0..=FIRST.leading_zeros() as usize).rev() {
            let units = chunk_layout(chunk).size() / UNIT;
            for (at, unit) in [(next, 0), (next + 1, 1), (next + units - 1, units - 1)] {
                let position = u32::try_from(at).unwrap();
                assert_eq!((chunk_of(position), within(position)), (chunk, unit));
            }
            next += units;
        }
        assert_eq!(next, 1 << 32);
    }

    #[test]
    fn pieces_do_not_overlap_and_keep_their_bytes() {
        let arena = Arena::new();
        let mut pieces = Vec::new();
        let pieces_max = if cfg!(miri) { 100 } else { 2000 };
        for n in 0..pieces_max {
            let units = 1 + (n * 7919) % 513;
            let (position, pointer) = arena.allocate(units);
            assert_eq!(arena.pointer(position), pointer);
            // SAFETY: the piece has that many bytes and is ours.
            unsafe { pointer.write_bytes(n as u8, units * UNIT) };
            pieces.push((pointer, units * UNIT, n as u8));
            let pointer = arena.allocate_large(n);
            // SAFETY: the block has that many bytes and is ours.
            unsafe { pointer.write_bytes(n as u8, n) };
            pieces.push((pointer, n, n as u8));
        }
        for &(pointer, bytes, n) in &pieces {
            // SAFETY: initialised above; the arena still lives.
            let piece = unsafe { std::slice::from_raw_parts(pointer, bytes) };
            assert!(piece.iter().all(|&byte| byte == n));
        }
        let given: usize = pieces.iter().map(|(_, bytes, _)| bytes).sum();
        assert!(arena.bytes() >= given);
    }
}
