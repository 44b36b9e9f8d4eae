//! Segments as a user meets them: packed as each keyspace and level asks for, refused by a build that lacks
//! the codec, their indexes and filters pinned or cached.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::path::Path;

use kintsu::inspect::{self, SegmentContent};
use kintsu::{Codec, Compression, Db, KeyspaceOptions};

use self::support::store::{Machine, path};

/// How many blocks each codec packed, over all segments: none, LZ4, zstd.
fn blocks(machine: &Machine) -> [usize; 3] {
    let mut found = [0; 3];
    for (name, _) in machine.files() {
        if !name.ends_with(".segment") {
            continue;
        }
        inspect::segment(&machine.memory, Path::new(&path(&name)), &mut |part| {
            assert!(part.verdict.is_ok(), "{part:?}");
            if let SegmentContent::Block { codec, .. } = part.content {
                let codecs = [Codec::None, Codec::Lz4, Codec::Zstd];
                found[codecs.iter().position(|one| *one == codec).unwrap()] += 1;
            }
        })
        .unwrap();
    }
    found
}

fn fill(db: &Db, keyspace: &str, round: u32) {
    let keyspace = db.keyspace(keyspace).unwrap();
    for number in 0..200_u32 {
        let value = format!("{round}:{number}:").repeat(30);
        keyspace.put(format!("key-{number:05}"), value).unwrap();
    }
    db.flush().unwrap();
}

fn holds(db: &Db, keyspace: &str, round: u32) {
    let keyspace = db.keyspace(keyspace).unwrap();
    for number in 0..200_u32 {
        let value = format!("{round}:{number}:").repeat(30);
        let found = keyspace.get(format!("key-{number:05}")).unwrap();
        assert_eq!(found.as_deref(), Some(value.as_bytes()));
    }
    assert_eq!(keyspace.range(..).unwrap().count(), 200);
}

#[test]
fn each_keyspace_and_level_has_its_codec_and_keeps_it() {
    let machine = Machine::new(31);
    let compression = Compression::new(Codec::None, Codec::Lz4);
    {
        let db = machine.options().open().unwrap();
        let options = KeyspaceOptions::default().compression(compression);
        db.create_keyspace_with("by-level", options).unwrap();
        fill(&db, "by-level", 1);
        let [none, lz4, _] = blocks(&machine);
        assert!(none > 10 && lz4 == 0, "a flush writes the upper codec");
        db.close().unwrap();
    }
    let db = machine.options().open().unwrap();
    let keyspace = db.keyspace("by-level").unwrap();
    assert_eq!(keyspace.options().compression, compression);
    holds(&db, "by-level", 1);
    // Twice, so that there is something to merge: a lone segment would be moved as it is.
    fill(&db, "by-level", 2);
    keyspace.compact_range(..).unwrap();
    while db.step(kintsu::Job::Reclaim).unwrap() {}
    let [none, lz4, _] = blocks(&machine);
    assert!(
        none == 0 && lz4 > 10,
        "the last level has the other codec: {none}, {lz4}"
    );
    holds(&db, "by-level", 2);
}

#[test]
fn the_default_is_lz4_and_none_is_none() {
    for (compression, packed) in [(None, true), (Some(Compression::NONE), false)] {
        let machine = Machine::new(32);
        let mut options = KeyspaceOptions::default();
        if let Some(compression) = compression {
            options = options.compression(compression);
        }
        let options = machine.options().default_keyspace(options);
        let db = options.open().unwrap();
        fill(&db, kintsu::DEFAULT_KEYSPACE, 1);
        let [none, lz4, _] = blocks(&machine);
        assert_eq!((none > 0, lz4 > 0), (!packed, packed));
    }
}

#[test]
fn filter_bits_of_a_keyspace_are_its_own() {
    let machine = Machine::new(33);
    let db = machine.options().open().unwrap();
    let options = KeyspaceOptions::default().filter_bits_per_key(0);
    db.create_keyspace_with("scanned", options).unwrap();
    fill(&db, "scanned", 1);
    let of = |name: &str| {
        let statistics = db.statistics();
        let mut keyspaces = statistics.keyspaces.into_iter();
        keyspaces.find(|keyspace| keyspace.name == name).unwrap()
    };
    assert_eq!(of("scanned").filter_bytes, 0);
    fill(&db, kintsu::DEFAULT_KEYSPACE, 1);
    assert!(of(kintsu::DEFAULT_KEYSPACE).filter_bytes > 0);
    let many = KeyspaceOptions::default().filter_bits_per_key(65);
    let refused = db.create_keyspace_with("many", many).unwrap_err();
    assert!(matches!(refused, kintsu::Error::InvalidOption { .. }));
}

/// With index and filter in the cache, an open reads less, and answers are the same.
#[test]
fn what_is_not_pinned_counts_as_cache() {
    let machine = Machine::new(36);
    let db = machine.options().open().unwrap();
    fill(&db, kintsu::DEFAULT_KEYSPACE, 1);
    db.close().unwrap();
    for pins in [true, false] {
        let options = machine.options().block_cache_bytes(1 << 20);
        let db = options.pin_index_and_filter(pins).open().unwrap();
        holds(&db, kintsu::DEFAULT_KEYSPACE, 1);
        assert_eq!(db.get("key-00007-and-more").unwrap(), None);
        let statistics = db.statistics();
        let own = &statistics.keyspaces[0];
        assert_eq!((own.index_bytes > 0, own.filter_bytes > 0), (pins, pins));
        assert!(statistics.block_cache_bytes > 0);
        let activity = statistics.activity;
        assert!(activity.block_cache_misses > 0);
        assert!(pins || activity.block_cache_hits > 200);
        assert_eq!(activity.filter_denials + activity.filter_false_passes, 1);
    }
}

/// On the real disk. What is wrong with a file is named as ever, as long as the file keeps its length.
#[test]
fn mapped_segments_answer_the_same_and_name_damage() {
    let folder = tempfile::tempdir().unwrap();
    let options = || {
        kintsu::Options::new(folder.path())
            .map_segments(true)
            .parity(kintsu::Parity::Off)
            .block_cache_bytes(0)
            .background(kintsu::Background::Manual)
    };
    let db = options().open().unwrap();
    fill(&db, kintsu::DEFAULT_KEYSPACE, 1);
    holds(&db, kintsu::DEFAULT_KEYSPACE, 1);
    db.close().unwrap();
    let db = options().open().unwrap();
    holds(&db, kintsu::DEFAULT_KEYSPACE, 1);
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "segment");
    let files = std::fs::read_dir(folder.path()).unwrap();
    let mut segments = files.map(|entry| entry.unwrap().path()).filter(is_segment);
    let segment = segments.next().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[300] ^= 4;
    // In place, beneath the mapping that is open.
    let file = std::fs::OpenOptions::new().write(true).open(&segment);
    std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &bytes, 0).unwrap();
    let refused = db.get("key-00000").unwrap_err();
    assert!(matches!(refused, kintsu::Error::Damaged(_)), "{refused}");
    assert!(refused.to_string().contains(".segment"), "{refused}");
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_packs_the_last_level() {
    let machine = Machine::new(34);
    let db = machine.options().open().unwrap();
    let options = KeyspaceOptions::default().compression(Compression::new(Codec::Lz4, Codec::Zstd));
    db.create_keyspace_with("cold", options).unwrap();
    fill(&db, "cold", 1);
    fill(&db, "cold", 2);
    db.keyspace("cold").unwrap().compact_range(..).unwrap();
    while db.step(kintsu::Job::Reclaim).unwrap() {}
    let [none, lz4, zstd] = blocks(&machine);
    assert!(none == 0 && lz4 == 0 && zstd > 10, "{none}, {lz4}, {zstd}");
    holds(&db, "cold", 2);
}

/// The store was made by a build that has zstd: by its options, noted in the log, or in the manifest.
#[cfg(not(feature = "zstd"))]
#[test]
fn a_build_without_zstd_says_so() {
    let machine = Machine::new(35);
    let zstd = || KeyspaceOptions::default().compression(Compression::all(Codec::Zstd));
    let says_so = |outcome: kintsu::Result<()>| {
        let error = outcome.unwrap_err();
        assert!(matches!(
            error,
            kintsu::Error::FeatureMissing {
                feature: "zstd",
                ..
            }
        ));
        assert!(error.to_string().contains("feature `zstd`"), "{error}");
    };
    says_so(machine.options().default_keyspace(zstd()).open().map(drop));
    let db = machine.options().open().unwrap();
    says_so(db.create_keyspace_with("cold", zstd()).map(drop));
    assert_eq!(db.keyspaces(), ["default"]);
}
