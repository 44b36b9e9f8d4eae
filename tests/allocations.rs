//! A walk takes memory for blocks, never for keys. A binary of its own: it counts for the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, its helpers included"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kintsu::testing::MemoryVfs;
use kintsu::{Background, Codec, Compression, Db, KeyspaceOptions, Options};

struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is done by the system's allocator; counting touches no memory but a `Cell` of this
// thread's that needs no initialisation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const KEYS: u64 = 20_000;

/// How many times this thread takes memory in `run`.
fn taken(run: impl FnOnce()) -> u64 {
    let before = TAKEN.get();
    run();
    TAKEN.get() - before
}

fn store(codec: Codec, cache_bytes: u64, flushed: bool) -> Db {
    let keyspace = KeyspaceOptions::default().compression(Compression::all(codec));
    let db = Options::new("store")
        .vfs(std::sync::Arc::new(MemoryVfs::new()))
        .background(Background::Manual)
        .default_keyspace(keyspace)
        .block_cache_bytes(cache_bytes)
        .open()
        .unwrap();
    for number in 0..KEYS {
        let value = number.to_le_bytes().repeat(10);
        db.put(format!("key-{number:08}"), value).unwrap();
        // Two tables to merge.
        if flushed && number == KEYS / 2 {
            db.flush().unwrap();
            db.put("key-00000000", "new").unwrap();
        }
    }
    if flushed {
        db.flush().unwrap();
    }
    db
}

/// Blocks of 4 KiB hold some forty of these entries: a few allocations a block are far below one a key.
#[test]
fn a_walk_takes_no_memory_for_a_key() {
    for (codec, cache_bytes) in [
        (Codec::None, 64 << 20),
        (Codec::Lz4, 64 << 20),
        (Codec::None, 0),
    ] {
        let db = store(codec, cache_bytes, true);
        for round in 0..2 {
            let forward = taken(|| {
                let mut range = db.range(..).unwrap();
                let mut found = 0;
                while let Some((key, value)) = range.next_ref().unwrap() {
                    found += u64::from(!key.is_empty() && !value.is_empty());
                }
                assert_eq!(found, KEYS);
            });
            let backward = taken(|| {
                let mut range = db.range(..).unwrap();
                let mut found = 0;
                while let Some((key, value)) = range.next_back_ref().unwrap() {
                    found += u64::from(!key.is_empty() && !value.is_empty());
                }
                assert_eq!(found, KEYS);
            });
            println!("{codec:?}, {cache_bytes}, {round}: {forward} forward, {backward} backward");
            assert!(forward < KEYS / 5, "{forward} for {KEYS} keys");
            assert!(backward < KEYS / 5, "{backward} for {KEYS} keys");
        }
    }
}

#[test]
fn seeks_take_a_fixed_number_however_far_they_go() {
    let db = store(Codec::None, 64 << 20, true);
    let walk = |count: usize| {
        let mut range = db.range("key-00003000"..).unwrap();
        for _ in 0..count {
            range.next_ref().unwrap().unwrap();
        }
    };
    walk(600);
    let (one, ten) = (taken(|| walk(1)), taken(|| walk(10)));
    println!("a seek and one key: {one}; a seek and ten keys: {ten}");
    assert!(ten <= one + 2, "{one} for one key, {ten} for ten");
}

/// Values are shared with the cache, so a lookup of one costs the same whatever its length.
#[test]
fn a_cached_get_takes_hardly_any_memory() {
    let db = store(Codec::Lz4, 64 << 20, true);
    let all = || {
        for number in 0..1_000_u64 {
            // The key is written over in place, so that only the store takes memory.
            let mut key = *b"key-00000000";
            let mut rest = number * 19 % KEYS;
            for digit in key.iter_mut().rev().take(8) {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            assert!(db.get(key).unwrap().is_some());
        }
    };
    all();
    let again = taken(all);
    println!("1,000 cached gets: {again}");
    assert!(again <= 100, "{again} for 1,000 lookups");
}
