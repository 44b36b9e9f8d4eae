//! Creating and opening, what each does to the disk step by step, and inspection.

use super::*;
use crate::types::UNIT;
use crate::vfs::DiskVfs;

/// What is done to the disk, a line each.
fn script(vfs: &FaultVfs) -> String {
    vfs.take_script().join("\n")
}

#[test]
fn creation_step_by_step() {
    let vfs = FaultVfs::on_memory(&disk());
    vfs.record_everything();
    Manifest::create(on_faults(&vfs), empty_state()).unwrap();
    assert_eq!(
        script(&vfs),
        "list
create manifest-00000001.a.tmp or truncate
preallocate manifest-00000001.a.tmp 270336
write manifest-00000001.a.tmp 0+8192
sync manifest-00000001.a.tmp
create manifest-00000001.b.tmp or truncate
preallocate manifest-00000001.b.tmp 270336
write manifest-00000001.b.tmp 0+8192
sync manifest-00000001.b.tmp
rename manifest-00000001.a.tmp -> manifest-00000001.a
rename manifest-00000001.b.tmp -> manifest-00000001.b
syncdir
list"
    );
}

#[test]
fn an_edit_step_by_step() {
    let vfs = FaultVfs::on_memory(&disk());
    let mut manifest = Manifest::create(on_faults(&vfs), empty_state()).unwrap();
    vfs.record_everything();
    manifest.apply(&flush(1, 5)).unwrap();
    manifest.apply(&flush(2, 5_000)).unwrap();
    manifest.apply(&[]).unwrap();
    // Files opened under their temporary names keep those in the script.
    assert_eq!(
        script(&vfs),
        "write manifest-00000001.a.tmp 8192+4096
sync manifest-00000001.a.tmp
write manifest-00000001.b.tmp 8192+4096
sync manifest-00000001.b.tmp
write manifest-00000001.a.tmp 12288+12288
sync manifest-00000001.a.tmp
write manifest-00000001.b.tmp 12288+12288
sync manifest-00000001.b.tmp"
    );
}

#[test]
fn an_open_and_a_new_generation_step_by_step() {
    let memory = store(&small_edits());
    let vfs = FaultVfs::on_memory(&memory);
    vfs.record_everything();
    let (mut manifest, _) = Manifest::open(on_faults(&vfs)).unwrap();
    assert_eq!(
        script(&vfs),
        "syncdir
list
open manifest-00000001.b to write
sync manifest-00000001.b
open manifest-00000001.b direct
len manifest-00000001.b
read manifest-00000001.b 0+270336
open manifest-00000001.a to write
sync manifest-00000001.a
open manifest-00000001.a direct
len manifest-00000001.a
read manifest-00000001.a 0+270336"
    );
    manifest.apply(&flush(9, 1)).unwrap();
    assert_eq!(
        script(&vfs),
        "create manifest-00000002.a.tmp or truncate
preallocate manifest-00000002.a.tmp 270336
write manifest-00000002.a.tmp 0+8192
sync manifest-00000002.a.tmp
create manifest-00000002.b.tmp or truncate
preallocate manifest-00000002.b.tmp 270336
write manifest-00000002.b.tmp 0+8192
sync manifest-00000002.b.tmp
rename manifest-00000002.a.tmp -> manifest-00000002.a
rename manifest-00000002.b.tmp -> manifest-00000002.b
syncdir
list
remove manifest-00000001.a
remove manifest-00000001.b"
    );
}

#[test]
fn a_read_only_open_changes_nothing_and_syncs_nothing() {
    let memory = store(&small_edits());
    let vfs = FaultVfs::on_memory(&memory);
    vfs.record_changes();
    let setup = setup(Arc::new(vfs.clone()), ManifestAccess::ReadOnly);
    let (mut manifest, report) = Manifest::open(setup.clone()).unwrap();
    assert_eq!(report, ManifestReport::default());
    assert!(matches!(manifest.apply(&flush(9, 1)), Err(Error::ReadOnly)));
    let created = Manifest::create(setup, empty_state());
    assert!(matches!(created, Err(Error::ReadOnly)));
    assert_eq!(script(&vfs), "");
    assert_eq!(manifest.poisoned(), None);
}

#[test]
fn a_log_that_finds_no_room_begins_a_generation() {
    let memory = disk();
    let mut manifest = Manifest::create(on(&memory), empty_state()).unwrap();
    let mut generations = vec![];
    for number in 1..200 {
        manifest.apply(&flush(number, 1)).unwrap();
        generations.push(manifest.position().0);
        assert_eq!(manifest.position().1, number + 1);
        assert_eq!(memory.file_names(dir()).len(), 2);
    }
    // 256 KiB are 64 edits of a unit.
    let (first, last) = (&generations[..64], &generations[64..]);
    assert!(first.iter().all(|generation| *generation == 1));
    assert_eq!((last[0], last[64], last[65]), (2, 2, 3));
    let (again, report) = Manifest::open(on(&memory)).unwrap();
    assert_eq!(
        (again.state(), again.position()),
        (manifest.state(), manifest.position())
    );
    assert_eq!(report, ManifestReport::default());
}

#[test]
fn a_large_state_gets_as_much_room_again() {
    let memory = disk();
    let mut manifest = Manifest::create(on(&memory), empty_state()).unwrap();
    let many = |from: u64| {
        vec![Change::SegmentsReplaced {
            keyspace: KeyspaceId::DEFAULT,
            removed: vec![],
            added: (from..from + 10)
                .map(|number| (1, segment(number, 30_000)))
                .collect(),
            covered: None,
        }]
    };
    manifest.apply(&many(1)).unwrap();
    let bytes = memory.file_bytes(file(2, Side::B)).unwrap();
    assert!((2 * 600_000..2 * 620_000).contains(&bytes), "{bytes}");
    assert_eq!(bytes % UNIT as u64, 0);
    manifest.apply(&many(11)).unwrap();
    manifest.apply(&many(21)).unwrap();
    assert_eq!(manifest.position(), (3, 4));
    let (again, _) = Manifest::open(on(&memory)).unwrap();
    assert_eq!(again.state(), manifest.state());
}

#[test]
fn folders_without_a_manifest() {
    let memory = MemoryVfs::new();
    let not_a_store = |memory: &MemoryVfs, says: &str| {
        for setup in [on(memory), read_only(memory)] {
            let error = Manifest::open(setup).unwrap_err();
            assert!(matches!(error, Error::NotAStore { .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let error = verify(memory, dir()).unwrap_err();
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
        assert!(inspect(memory, dir(), &mut |_| ()).is_err());
        assert!(Manifest::is_present(memory, dir()).is_ok_and(|there| !there));
    };
    not_a_store(&memory, "no such folder");
    memory.create_dir_all(dir()).unwrap();
    not_a_store(&memory, "no manifest");
    memory.write_file(dir().join("notes.txt"), b"");
    memory.write_file(dir().join("manifest-00000001.a.tmp"), b"never published");
    memory
        .create_dir_all(&dir().join("manifest-00000004.a"))
        .unwrap();
    not_a_store(&memory, "no manifest");
    // Files of a store without a manifest are never taken for a place to begin a new one.
    memory.write_file(dir().join("00000007.segment"), b"");
    for setup in [on(&memory), read_only(&memory)] {
        let error = Manifest::open(setup).unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        assert!(error.to_string().contains("00000007.segment"), "{error}");
    }
    let error = Manifest::create(on(&memory), empty_state()).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    assert_eq!(verify(&memory, dir()).unwrap().len(), 1);
    memory.remove_file(dir().join("00000007.segment"));
    Manifest::create(on(&memory), empty_state()).unwrap();
    assert!(Manifest::is_present(&memory, dir()).unwrap());
    let error = Manifest::create(on(&memory), empty_state()).unwrap_err();
    assert!(matches!(error, Error::ManifestEdit { .. }), "{error}");
    // A file where a folder should be.
    let memory = MemoryVfs::new();
    memory.write_file(dir(), b"");
    let error = Manifest::open(read_only(&memory)).unwrap_err();
    assert!(error.to_string().contains("not a folder"), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_damage_is_not_taken_for_one() {
    let memory = store(&small_edits());
    let path = file(1, Side::B);
    let mut bytes = memory.read_file(&path).unwrap();
    bytes[8] = 3;
    memory.write_file(&path, &bytes);
    let (_, report) = Manifest::open(on(&memory)).unwrap();
    assert_eq!(report.damage.len(), 1);
    let file_id = u128::from_le_bytes(bytes[16..32].try_into().unwrap());
    let checksum = crate::codec::block_checksum(FileId(file_id), 0, &bytes[..UNIT - 8]);
    bytes[UNIT - 8..UNIT].copy_from_slice(&checksum.to_le_bytes());
    memory.write_file(&path, &bytes);
    let error = Manifest::open(on(&memory)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NewerFormat {
                found: 3,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        verify(&memory, dir()),
        Err(Error::NewerFormat { .. })
    ));
}

#[test]
fn a_generation_published_in_one_copy_only_counts_and_is_no_damage() {
    for side in Side::BOTH {
        let memory = store(&small_edits());
        let old = Side::BOTH.map(|side| memory.read_file(file(1, side)).unwrap());
        let (mut manifest, _) = Manifest::open(on(&memory)).unwrap();
        manifest.apply(&flush(9, 1)).unwrap();
        for (side, bytes) in Side::BOTH.into_iter().zip(old) {
            memory.write_file(file(1, side), bytes);
        }
        memory.remove_file(file(2, side));
        let (again, report) = Manifest::open(on(&memory)).unwrap();
        assert_eq!(again.state(), manifest.state());
        assert_eq!(report, ManifestReport::default());
        // Once the older one is gone there is no such excuse.
        for side in Side::BOTH {
            assert!(memory.remove_file(file(1, side)));
        }
        let (_, report) = Manifest::open(on(&memory)).unwrap();
        assert_eq!(report.damage.len(), 1);
    }
}

fn inspected(memory: &MemoryVfs) -> Vec<String> {
    let mut lines = Vec::new();
    let mut show = |item: Inspected| {
        assert_eq!(item.path, file(item.generation, item.side));
        let part = match item.part {
            Part::Header { version, .. } => format!("header {version}"),
            Part::State { sequence, state } => {
                format!("state {sequence}, {} keyspaces", state.keyspaces.len())
            }
            Part::Edit { sequence, changes } => {
                format!("edit {sequence}, {} changes", changes.len())
            }
            Part::Bad { what } => format!("bad: {what}"),
            Part::Unused => "unused".into(),
        };
        lines.push(format!(
            "{}{} {}+{} {part}",
            item.generation, item.side, item.offset, item.bytes
        ));
    };
    inspect(memory, dir(), &mut show).unwrap();
    lines
}

#[test]
fn inspection_shows_everything_whole_or_damaged() {
    let memory = store(&small_edits()[..2]);
    let whole = |copy| {
        [
            "0+4096 header 1",
            "4096+4096 state 1, 1 keyspaces",
            "8192+4096 edit 2, 1 changes",
            "12288+4096 edit 3, 1 changes",
            "16384+253952 unused",
        ]
        .map(|line| format!("1{copy} {line}"))
    };
    assert_eq!(inspected(&memory), [whole('a'), whole('b')].concat());
    memory.flip_bit(file(1, Side::A), 40, 1);
    memory.flip_bit(file(1, Side::A), 8192 + 40, 1);
    memory.flip_bit(file(1, Side::A), 100_000, 1);
    memory.truncate_file(file(1, Side::B), 13_000);
    let unused_from = 100_000 / UNIT * UNIT + UNIT;
    assert_eq!(
        inspected(&memory),
        [
            "1a 0+4096 bad: the header's checksum is wrong",
            "1a 4096+4096 state 1, 1 keyspaces",
            "1a 8192+4096 bad: the frame's checksum is wrong",
            "1a 12288+4096 edit 3, 1 changes",
            &format!(
                "1a 16384+{} bad: the checksum of the frame's header is wrong",
                unused_from - 16384
            ),
            &format!("1a {unused_from}+{} unused", 270_336 - unused_from),
            "1b 0+4096 header 1",
            "1b 4096+4096 state 1, 1 keyspaces",
            "1b 8192+4096 edit 2, 1 changes",
            "1b 12288+712 bad: it can't be read",
        ]
    );
    // Without either header nothing in the files can be read.
    memory.flip_bit(file(1, Side::B), 40, 1);
    assert_eq!(
        inspected(&memory)[1],
        "1a 4096+266240 bad: unreadable without a header"
    );
    assert_eq!(inspected(&memory).len(), 4);
    assert!(matches!(
        Manifest::open(on(&memory)),
        Err(Error::Damaged(_))
    ));
}

#[test]
fn inspection_of_any_bytes_ends() {
    let whole = store(&small_edits());
    let bytes = whole.read_file(file(1, Side::A)).unwrap();
    let memory = disk();
    for cut in (0..20_000).step_by(97) {
        memory.write_file(file(1, Side::A), &bytes[..cut]);
        let shown = inspected(&memory);
        assert!(!shown.is_empty());
    }
}

#[test]
fn it_works_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let setup = |access| ManifestSetup {
        dir: folder.path().to_owned(),
        vfs: Arc::new(DiskVfs),
        entropy: Arc::new(SeededEntropy::new(1)),
        access,
    };
    let edits = edits();
    let states = states(&edits);
    let mut manifest = Manifest::create(setup(ManifestAccess::ReadWrite), empty_state()).unwrap();
    for (number, edit) in edits.iter().enumerate() {
        if number == 5 {
            (manifest, _) = Manifest::open(setup(ManifestAccess::ReadWrite)).unwrap();
        }
        manifest.apply(edit).unwrap();
        let (reader, report) = Manifest::open(setup(ManifestAccess::ReadOnly)).unwrap();
        assert_eq!(reader.state(), &states[number + 1]);
        assert_eq!(report, ManifestReport::default());
    }
    let (again, report) = Manifest::open(setup(ManifestAccess::ReadWrite)).unwrap();
    assert_eq!(again.state(), manifest.state());
    assert_eq!(report, ManifestReport::default());
}

#[test]
fn a_generation_is_begun_by_creation_and_by_the_first_edit() {
    let memory = disk();
    let created = Manifest::create(on(&memory), empty_state()).unwrap();
    assert!(created.has_begun_generation());
    let (mut manifest, _) = Manifest::open(on(&memory)).unwrap();
    assert!(!manifest.has_begun_generation());
    manifest.apply(&flush(1, 1)).unwrap();
    assert!(manifest.has_begun_generation());
}
