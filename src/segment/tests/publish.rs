//! The way of a file from its temporary name to its own, and what it refuses on the way.

use super::*;
use crate::vfs::{Access, Fault, FaultKind, FaultVfs, TearUnit};

fn rows() -> Vec<Row> {
    (0..2_000u64)
        .map(|number| Row::put(format!("key-{number:05}").as_bytes(), number + 1, &[1; 600]))
        .collect()
}

#[test]
fn the_side_effects_of_a_segment_stand_in_this_order() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let vfs = FaultVfs::on_memory(&memory);
    vfs.record_changes();
    build_with(setup(Arc::new(vfs.clone()), tiny()), &varied_rows(2)).unwrap();
    let script = vfs.take_script();
    assert_eq!(
        script,
        [
            "create 00000007.segment.tmp",
            "write 00000007.segment.tmp 0+523",
            "sync 00000007.segment.tmp",
            "rename 00000007.segment.tmp -> 00000007.segment",
        ]
    );
}

/// Whoever still holds what an earlier builder of this number left writes to a file of his own.
#[test]
fn a_segment_shares_no_file_with_one_left_behind() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let left = Path::new(FOLDER).join(temporary_name(NUMBER));
    let left = memory.open(&left, Access::CreateNew).unwrap();
    let rows = varied_rows(40);
    let meta = build_with(setup(Arc::new(memory.clone()), tiny()), &rows).unwrap();
    left.write_at(&[0xff; 4096], 0).unwrap();
    let segment = open(&memory, &meta).unwrap();
    assert_eq!(segment.verify(&mut |_| {}).unwrap(), vec![]);
}

#[test]
fn whatever_operation_fails_nothing_is_published() {
    let rows = rows();
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::ShortWrite] {
        for for_good in [false, true] {
            for n in 1.. {
                let memory = MemoryVfs::new();
                memory.create_dir_all(Path::new(FOLDER)).unwrap();
                let vfs = FaultVfs::on_memory(&memory);
                vfs.inject(match for_good {
                    true => Fault::for_good(n, kind),
                    false => Fault::once(n, kind),
                });
                let outcome = build_with(setup(Arc::new(vfs.clone()), tiny()), &rows);
                if vfs.faults_hit() == 0 {
                    assert!(outcome.is_ok() && n > 5, "{n}");
                    break;
                }
                let error = outcome.expect_err("a failed operation must show");
                assert_eq!(error.reaction(), crate::error::Reaction::Retry, "{error}");
                let names = memory.file_names(FOLDER);
                assert!(!names.contains(&file_name(NUMBER)), "{n}: {names:?}");
                if !for_good {
                    assert_eq!(names, Vec::<String>::new(), "operation {n} left its file");
                }
            }
        }
    }
}

/// A caller that overlooks an error can't publish a file with a hole in it.
#[test]
fn after_a_failed_write_nothing_more_is_taken() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let vfs = FaultVfs::on_memory(&memory);
    let mut builder = SegmentBuilder::create(setup(Arc::new(vfs.clone()), tiny())).unwrap();
    vfs.inject(Fault::once(2, FaultKind::Io));
    let mut refused = 0;
    for row in rows() {
        refused += usize::from(builder.add(row.entry()).is_err());
    }
    assert!((2..2_000).contains(&refused), "{refused}");
    assert!(matches!(builder.finish(), Err(Error::Io { .. })));
    assert!(memory.file_names(FOLDER).is_empty());
}

#[test]
fn a_segment_survives_the_loss_of_power_once_its_folder_is_synced() {
    let (memory, meta) = build(&varied_rows(40), tiny());
    memory.sync_dir(Path::new(FOLDER)).unwrap();
    for seed in 0..20 {
        let after = memory.crash(seed, TearUnit::Page);
        let segment = open(&after, &meta).unwrap();
        assert_eq!(segment.verify(&mut |_| {}).unwrap(), vec![]);
    }
}

/// The name may get to the disk before anyone asked for it, but never without the bytes.
#[test]
fn a_crash_never_leaves_half_a_segment_under_its_name() {
    let rows = rows();
    for changes in 0.. {
        let memory = MemoryVfs::new();
        memory.create_dir_all(Path::new(FOLDER)).unwrap();
        let vfs = FaultVfs::on_memory(&memory);
        vfs.crash_after_changes(changes);
        let outcome = build_with(setup(Arc::new(vfs.clone()), tiny()), &rows);
        let (whole_memory, meta) = build(&rows, tiny());
        let whole = whole_memory.read_file(path_of(&meta)).unwrap();
        for seed in 0..5 {
            let after = memory.crash(seed, TearUnit::Sector);
            if let Some(bytes) = after.read_file(path_of(&meta)) {
                assert!(bytes == whole, "crash after {changes} changes, seed {seed}");
            }
        }
        if outcome.is_ok() {
            assert!(changes > 3);
            break;
        }
    }
}

#[test]
fn what_a_crash_left_under_the_temporary_name_is_overwritten() {
    let memory = MemoryVfs::new();
    memory.write_file(
        Path::new(FOLDER).join(temporary_name(NUMBER)),
        vec![7; 100_000],
    );
    let rows = varied_rows(10);
    let meta = build_with(setup(Arc::new(memory.clone()), tiny()), &rows).unwrap();
    let segment = open(&memory, &meta).unwrap();
    assert_eq!(walk(&segment, true, 100).unwrap(), rows);
}

#[test]
fn entries_out_of_order_are_refused_and_the_rest_goes_on() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let mut builder = SegmentBuilder::create(setup(Arc::new(memory.clone()), tiny())).unwrap();
    let good = [
        Row::put(b"b", 9, b"new"),
        Row::put(b"b", 4, b"old"),
        Row::put(b"c", 9, b""),
    ];
    builder.add(good[0].entry()).unwrap();
    builder.add(good[1].entry()).unwrap();
    let mut deletion = Row::put(b"d", 1, b"deletions have no value");
    deletion.kind = EntryKind::Delete;
    for bad in [
        Row::put(b"a", 99, b"smaller key"),
        Row::put(b"", 99, b"smallest key"),
        Row::put(b"b", 5, b"newer version after an older one"),
        Row::put(b"b", 4, b"the same again"),
        deletion,
    ] {
        let refused = builder.add(bad.entry());
        assert!(matches!(refused, Err(Error::TableOrder { .. })), "{bad:?}");
    }
    builder.add(good[2].entry()).unwrap();
    assert!(!builder.is_empty());
    let meta = builder.finish().unwrap();
    let segment = open(&memory, &meta).unwrap();
    assert_eq!(walk(&segment, true, 100).unwrap(), good);
}

#[test]
fn keys_and_values_over_their_limits_are_refused() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let mut builder = SegmentBuilder::create(setup(Arc::new(memory), tiny())).unwrap();
    let long = Row::put(&vec![b'k'; crate::types::KEY_BYTES_MAX + 1], 1, b"");
    let refused = builder.add(long.entry());
    assert!(matches!(refused, Err(Error::KeyTooLong { .. })));
    let value = vec![0; crate::types::VALUE_BYTES_MAX + 1];
    let short = Row::put(b"k", 1, b"");
    let refused = builder.add(Entry {
        value: &value,
        ..short.entry()
    });
    assert!(matches!(refused, Err(Error::ValueTooLong { .. })));
}

#[test]
fn a_segment_without_entries_is_not_published() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let refused = build_with(setup(Arc::new(memory.clone()), tiny()), &[]);
    assert!(matches!(refused, Err(Error::TableOrder { .. })));
    assert!(memory.file_names(FOLDER).is_empty());
}

#[test]
fn options_out_of_range_are_refused_before_a_file_is_made() {
    let memory = MemoryVfs::new();
    let broken: [fn(&mut SegmentOptions); 6] = [
        |options| options.block_bytes = 31,
        |options| options.block_bytes = (16 << 20) + 1,
        |options| options.restart_interval = 0,
        |options| options.restart_interval = usize::MAX,
        |options| options.filter_bits_per_key = 65,
        |options| options.filter_bits_per_key = u32::MAX,
    ];
    for spoil in broken {
        let mut options = SegmentOptions::default();
        spoil(&mut options);
        let refused = SegmentBuilder::create(setup(Arc::new(memory.clone()), options));
        assert!(matches!(refused, Err(Error::InvalidOption { .. })));
    }
    assert!(memory.file_names(FOLDER).is_empty());
}

#[test]
fn an_abandoned_segment_leaves_nothing() {
    let memory = MemoryVfs::new();
    memory.create_dir_all(Path::new(FOLDER)).unwrap();
    let mut builder = SegmentBuilder::create(setup(Arc::new(memory.clone()), tiny())).unwrap();
    for row in rows() {
        builder.add(row.entry()).unwrap();
    }
    assert!(builder.bytes() > 2_000 * 600);
    builder.abandon();
    assert!(memory.file_names(FOLDER).is_empty());
}
