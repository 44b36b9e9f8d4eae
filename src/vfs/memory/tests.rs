use std::collections::BTreeSet;

use super::*;
use crate::vfs::random::SeededRng;

const UNITS: [TearUnit; 2] = [TearUnit::Sector, TearUnit::Page];

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn create(vfs: &MemoryVfs, name: &str) -> Arc<dyn File> {
    vfs.open(path(name), Access::CreateNew).unwrap()
}

/// A file on the disk, name and content, and open to write.
fn durable(vfs: &MemoryVfs, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    assert!(vfs.write_file(name, bytes));
    vfs.open(path(name), Access::Write).unwrap()
}

/// What many crashes leave of a file.
fn outcomes(vfs: &MemoryVfs, name: &str, unit: TearUnit) -> BTreeSet<Option<Vec<u8>>> {
    (0..400)
        .map(|seed| vfs.crash(seed, unit).read_file(name))
        .collect()
}

/// Which names many crashes leave in the root.
fn name_outcomes(vfs: &MemoryVfs) -> BTreeSet<Vec<String>> {
    (0..400)
        .map(|seed| vfs.crash(seed, TearUnit::Sector).file_names(""))
        .collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn reads_see_what_was_written_across_pages() {
    let vfs = MemoryVfs::new();
    let file = create(&vfs, "a");
    let bytes: Vec<u8> = (0..10_000).map(|at| (at % 251) as u8).collect();
    file.write_at(&bytes, 3000).unwrap();
    assert_eq!(file.len().unwrap(), 13_000);
    let mut buffer = vec![1; 20_000];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 13_000);
    assert_eq!(&buffer[..3000], &[0; 3000]);
    assert_eq!(&buffer[3000..13_000], &bytes);
    assert_eq!(buffer[13_000], 1);
    assert_eq!(file.read_at(&mut buffer, 13_000).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, u64::MAX).unwrap(), 0);
}

#[test]
fn a_cut_file_reads_zeros_when_it_grows_again() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", &[7; 9000]);
    file.set_len(5000).unwrap();
    file.set_len(9000).unwrap();
    let mut wanted = vec![7; 5000];
    wanted.resize(9000, 0);
    assert_eq!(vfs.read_file("a").unwrap(), wanted);
    file.sync_data().unwrap();
    assert_eq!(vfs.read_durable("a").unwrap(), wanted);
}

#[test]
fn random_operations_agree_with_a_plain_vector() {
    let mut rng = SeededRng::new(1);
    for _ in 0..30 {
        let vfs = MemoryVfs::new();
        let file = create(&vfs, "a");
        let mut model = Vec::new();
        let mut model_durable = Vec::new();
        for _ in 0..100 {
            let at = rng.below(20_000) as usize;
            match rng.below(6) {
                0..3 => {
                    let count = rng.below(6000) as usize;
                    let bytes = rng.bytes(count);
                    file.write_at(&bytes, at as u64).unwrap();
                    if !bytes.is_empty() {
                        model.resize(model.len().max(at + bytes.len()), 0);
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
                3 => {
                    file.set_len(at as u64).unwrap();
                    model.resize(at, 0);
                }
                4 => {
                    file.preallocate(at as u64).unwrap();
                    model.resize(model.len().max(at), 0);
                }
                _ => {
                    file.sync_data().unwrap();
                    model_durable.clone_from(&model);
                }
            }
            assert_eq!(vfs.read_file("a").unwrap(), model);
            assert_eq!(vfs.read_durable("a").unwrap(), model_durable);
            vfs.drop_caches();
            assert_eq!(
                vfs.read_file("a").unwrap(),
                model,
                "the cache is clean or kept"
            );
        }
    }
}

#[test]
fn unsynced_bytes_are_kept_dropped_or_garbled() {
    for unit in UNITS {
        let vfs = MemoryVfs::new();
        let file = durable(&vfs, "a", &[1; 4096]);
        file.write_at(&[2; 4096], 0).unwrap();
        let outcomes = outcomes(&vfs, "a", unit);
        assert!(outcomes.contains(&Some(vec![2; 4096])), "kept");
        assert!(outcomes.contains(&Some(vec![1; 4096])), "dropped");
        let garbled = |bytes: &[u8]| bytes.iter().any(|byte| !matches!(byte, 1 | 2));
        assert!(
            outcomes.iter().flatten().any(|bytes| garbled(bytes)),
            "garbled"
        );
        let mixed = |bytes: &[u8]| bytes.contains(&1) && bytes.contains(&2) && !garbled(bytes);
        let any_mixed = outcomes.iter().flatten().any(|bytes| mixed(bytes));
        assert_eq!(
            any_mixed,
            unit == TearUnit::Sector,
            "a unit is never half kept"
        );
        assert!(outcomes.iter().flatten().all(|bytes| bytes.len() == 4096));
    }
}

#[test]
fn synced_bytes_survive_every_crash() {
    for unit in UNITS {
        let vfs = MemoryVfs::new();
        let file = create(&vfs, "a");
        file.write_at(&[3; 8192], 0).unwrap();
        file.sync_data().unwrap();
        vfs.sync_dir(path("")).unwrap();
        file.write_at(&[4; 4096], 8192).unwrap();
        for bytes in outcomes(&vfs, "a", unit) {
            assert_eq!(bytes.unwrap()[..8192], [3; 8192]);
        }
    }
}

#[test]
fn a_torn_unit_takes_durable_bytes_in_it_and_no_others() {
    for (unit, bytes) in [(TearUnit::Sector, 512), (TearUnit::Page, 4096)] {
        let vfs = MemoryVfs::new();
        let file = durable(&vfs, "a", &[1; 3 * 4096]);
        // Ten bytes, so that nearly all of the torn unit is durable.
        file.write_at(&[2; 10], 4096 + 1000).unwrap();
        let start = (4096 + 1000) / bytes * bytes;
        let mut struck = false;
        for outcome in outcomes(&vfs, "a", unit).into_iter().flatten() {
            assert!(outcome[..start].iter().all(|byte| *byte == 1));
            assert!(outcome[start + bytes..].iter().all(|byte| *byte == 1));
            struck |= outcome[start] != 1 && outcome[start + bytes - 1] != 1;
        }
        assert!(struck, "{unit:?}");
    }
}

#[test]
fn unsynced_growth_is_kept_or_not() {
    for unit in UNITS {
        let vfs = MemoryVfs::new();
        let file = durable(&vfs, "a", &[1; 100]);
        file.write_at(&[2; 9000], 100).unwrap();
        let outcomes: Vec<Vec<u8>> = outcomes(&vfs, "a", unit).into_iter().flatten().collect();
        assert!(
            outcomes
                .iter()
                .all(|bytes| (100..=9100).contains(&bytes.len()))
        );
        for wanted in [100, 9100] {
            assert!(outcomes.iter().any(|bytes| bytes.len() == wanted));
        }
        assert!(
            outcomes
                .iter()
                .any(|bytes| !matches!(bytes.len(), 100 | 9100)),
            "on the way"
        );
        let grown = || outcomes.iter().filter(|bytes| bytes.len() == 9100);
        let rest = |bytes: &[u8], byte| bytes[8192..].iter().all(|found| *found == byte);
        assert!(grown().any(|bytes| rest(bytes, 2)), "kept");
        assert!(
            grown().any(|bytes| rest(bytes, 0)),
            "longer, but the bytes never came"
        );
        assert!(
            grown().any(|bytes| !rest(bytes, 0) && !rest(bytes, 2)),
            "garbled"
        );
    }
}

#[test]
fn an_unsynced_cut_is_kept_or_not() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", &[1; 8192]);
    file.set_len(10).unwrap();
    let outcomes: BTreeSet<usize> = outcomes(&vfs, "a", TearUnit::Page)
        .into_iter()
        .flatten()
        .map(|bytes| bytes.len())
        .collect();
    assert_eq!(outcomes, BTreeSet::from([10, 8192]));
    file.sync_data().unwrap();
    assert_eq!(vfs.crash(0, TearUnit::Page).file_bytes("a"), Some(10));
}

#[test]
fn an_unsynced_preallocation_may_be_lost_and_a_synced_one_is_not() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", b"");
    file.preallocate(64 << 20).unwrap();
    let lengths: BTreeSet<u64> = (0..100)
        .map(|seed| vfs.crash(seed, TearUnit::Page).file_bytes("a").unwrap())
        .collect();
    assert!(lengths.contains(&0) && lengths.contains(&(64 << 20)));
    file.sync_data().unwrap();
    for seed in 0..100 {
        assert_eq!(
            vfs.crash(seed, TearUnit::Page).file_bytes("a"),
            Some(64 << 20)
        );
    }
}

#[test]
fn a_crash_follows_from_its_seed_and_leaves_the_old_disk_alone() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", &[1; 40_960]);
    file.write_at(&[2; 40_960], 0).unwrap();
    create(&vfs, "b");
    let crashed = vfs.crash(5, TearUnit::Sector);
    assert_eq!(
        crashed.read_file("a"),
        vfs.crash(5, TearUnit::Sector).read_file("a")
    );
    assert_ne!(
        crashed.read_file("a"),
        vfs.crash(6, TearUnit::Sector).read_file("a")
    );
    assert_eq!(
        crashed.read_file("a"),
        crashed.read_durable("a"),
        "all that is left is durable"
    );
    assert_eq!(vfs.read_file("a").unwrap(), vec![2; 40_960]);
    // Neither sees what the other does from now on.
    file.write_at(&[9; 10], 0).unwrap();
    crashed
        .open(path("a"), Access::Write)
        .unwrap()
        .write_at(&[8; 10], 0)
        .unwrap();
    assert!(vfs.read_file("a").unwrap().starts_with(&[9; 10]));
    assert!(crashed.read_file("a").unwrap().starts_with(&[8; 10]));
}

#[test]
fn names_are_durable_only_after_the_folder_was_synced() {
    let vfs = MemoryVfs::new();
    let file = create(&vfs, "a");
    file.write_at(b"a", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(
        name_outcomes(&vfs),
        BTreeSet::from([names(&[]), names(&["a"])])
    );
    vfs.sync_dir(path("")).unwrap();
    assert_eq!(name_outcomes(&vfs), BTreeSet::from([names(&["a"])]));
    vfs.remove(path("a")).unwrap();
    assert_eq!(
        name_outcomes(&vfs),
        BTreeSet::from([names(&[]), names(&["a"])])
    );
    for outcome in outcomes(&vfs, "a", TearUnit::Sector).into_iter().flatten() {
        assert_eq!(
            outcome, b"a",
            "a removal that is undone brings the bytes back"
        );
    }
    vfs.sync_dir(path("")).unwrap();
    assert_eq!(name_outcomes(&vfs), BTreeSet::from([names(&[])]));
}

#[test]
fn a_sync_of_one_folder_says_nothing_of_another() {
    let vfs = MemoryVfs::new();
    vfs.create_dir_all(path("one")).unwrap();
    vfs.create_dir_all(path("two")).unwrap();
    create(&vfs, "one/a");
    vfs.sync_dir(path("two")).unwrap();
    let kept = (0..50).filter(|seed| {
        vfs.crash(*seed, TearUnit::Sector)
            .read_file("one/a")
            .is_some()
    });
    assert!((1..50).contains(&kept.count()));
    assert_eq!(
        vfs.sync_dir(path("three")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn any_subset_of_unsynced_names_survives() {
    let vfs = MemoryVfs::new();
    for name in ["a", "b", "c"] {
        create(&vfs, name);
    }
    let outcomes = name_outcomes(&vfs);
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
}

#[test]
fn a_rename_is_one_step() {
    let vfs = MemoryVfs::new();
    vfs.write_file("a", b"old");
    let file = create(&vfs, "a.tmp");
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    vfs.rename(path("a.tmp"), path("a")).unwrap();
    assert_eq!(vfs.file_names(""), ["a"]);
    assert_eq!(vfs.read_file("a").unwrap(), b"new");
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let crashed = vfs.crash(seed, TearUnit::Sector);
        let published = crashed.read_file("a").expect("old or new, never neither");
        if let Some(bytes) = crashed.read_file("a.tmp") {
            assert_eq!(bytes, b"new");
            assert_eq!(published, b"old", "the file has one name");
        }
        seen.insert(published);
    }
    assert_eq!(seen, BTreeSet::from([b"new".to_vec(), b"old".to_vec()]));
    vfs.sync_dir(path("")).unwrap();
    assert_eq!(
        outcomes(&vfs, "a", TearUnit::Sector),
        BTreeSet::from([Some(b"new".to_vec())])
    );
}

#[test]
fn a_forgotten_rename_leaves_the_old_file_to_those_after_it() {
    let vfs = MemoryVfs::new();
    vfs.write_file("a", b"old");
    vfs.write_file("a.tmp", b"new");
    vfs.rename(path("a.tmp"), path("a")).unwrap();
    vfs.rename(path("a"), path("b")).unwrap();
    let seen: BTreeSet<_> = (0..400)
        .map(|seed| {
            let crashed = vfs.crash(seed, TearUnit::Sector);
            (crashed.read_file("a"), crashed.read_file("b"))
        })
        .collect();
    let [old, new] = [b"old", b"new"].map(|bytes| Some(bytes.to_vec()));
    let wanted = [
        (old.clone(), None),
        (new.clone(), None),
        (old, new.clone()),
        (None, new),
    ];
    assert_eq!(seen, BTreeSet::from(wanted));
}

#[test]
fn a_rename_before_the_sync_publishes_torn_bytes() {
    let vfs = MemoryVfs::new();
    vfs.write_file("a", b"old");
    create(&vfs, "a.tmp").write_at(b"new", 0).unwrap();
    vfs.rename(path("a.tmp"), path("a")).unwrap();
    vfs.sync_dir(path("")).unwrap();
    let outcomes = outcomes(&vfs, "a", TearUnit::Sector);
    assert!(outcomes.contains(&Some(Vec::new())), "{outcomes:?}");
    assert!(!outcomes.contains(&Some(b"old".to_vec())));
}

#[test]
fn a_rename_between_folders_loses_no_name() {
    let vfs = MemoryVfs::new();
    vfs.create_dir_all(path("to")).unwrap();
    vfs.write_file("from/a", b"a");
    vfs.rename(path("from/a"), path("to/b")).unwrap();
    for seed in 0..100 {
        let crashed = vfs.crash(seed, TearUnit::Sector);
        let found = [crashed.read_file("from/a"), crashed.read_file("to/b")];
        assert_eq!(found.iter().flatten().count(), 1);
    }
    vfs.sync_dir(path("from")).unwrap();
    assert_eq!(
        vfs.crash(0, TearUnit::Sector).read_file("to/b").unwrap(),
        b"a"
    );
}

#[test]
fn a_removed_file_lives_on_in_its_handles() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", b"bytes");
    vfs.remove(path("a")).unwrap();
    vfs.sync_dir(path("")).unwrap();
    let mut buffer = [0; 5];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 5);
    assert_eq!(&buffer, b"bytes");
    file.write_at(b"B", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(
        vfs.open(path("a"), Access::Read).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    // Its number isn't given to another file.
    create(&vfs, "a").write_at(b"other", 0).unwrap();
    file.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"Bytes");
}

#[test]
fn opening_follows_the_access() {
    let vfs = MemoryVfs::new();
    let kind = |name, access| vfs.open(path(name), access).unwrap_err().kind();
    for access in [Access::Read, Access::ReadDirect, Access::Write] {
        assert_eq!(kind("a", access), ErrorKind::NotFound);
    }
    assert_eq!(kind("none/a", Access::CreateNew), ErrorKind::NotFound);
    create(&vfs, "a").write_at(b"1", 0).unwrap();
    assert_eq!(kind("a", Access::CreateNew), ErrorKind::AlreadyExists);
    vfs.create_dir_all(path("/folder/./inner/")).unwrap();
    assert_eq!(kind("folder", Access::Read), ErrorKind::IsADirectory);
    for access in [Access::Read, Access::ReadDirect] {
        let file = vfs.open(path("a"), access).unwrap();
        assert_eq!(
            file.write_at(b"2", 0).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
        assert_eq!(
            file.set_len(0).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
        assert_eq!(
            file.preallocate(1).unwrap_err().kind(),
            ErrorKind::PermissionDenied
        );
    }
    vfs.open(path("./a"), Access::CreateOrTruncate).unwrap();
    assert_eq!(vfs.read_file("/a").unwrap(), b"");
    let listed = vfs.list(path("/")).unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|entry| (&*entry.name, entry.is_dir))
        .collect();
    assert_eq!(listed, [("a", false), ("folder", true)]);
    assert_eq!(
        vfs.list(path("a")).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    assert_eq!(vfs.list(path("b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        vfs.create_dir_all(path("a/b")).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    let file = vfs.open(path("a"), Access::Write).unwrap();
    assert_eq!(
        file.write_at(b"12", u64::MAX).unwrap_err().kind(),
        ErrorKind::FileTooLarge
    );
}

#[test]
fn direct_reads_show_the_disk_and_not_the_cache() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", b"durable");
    let direct = vfs.open(path("a"), Access::ReadDirect).unwrap();
    file.write_at(b"cached, and longer", 0).unwrap();
    let mut buffer = [0; 32];
    assert_eq!(direct.read_at(&mut buffer, 0).unwrap(), 7);
    assert_eq!(&buffer[..7], b"durable");
    assert_eq!(direct.len().unwrap(), 7);
    file.sync_data().unwrap();
    assert_eq!(direct.read_at(&mut buffer, 8).unwrap(), 10);
    assert_eq!(&buffer[..10], b"and longer");
}

#[test]
fn a_lock_is_exclusive_until_dropped_or_its_process_dies() {
    let vfs = MemoryVfs::new();
    let lock = vfs.lock(path("LOCK")).unwrap();
    assert_eq!(
        vfs.lock(path("LOCK")).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    assert!(vfs.lock(path("OTHER")).is_ok());
    assert!(vfs.kill().lock(path("LOCK")).is_ok());
    assert!(vfs.crash(1, TearUnit::Page).lock(path("LOCK")).is_ok());
    drop(lock);
    assert!(vfs.lock(path("LOCK")).is_ok());
}

#[test]
fn the_page_cache_outlives_the_process() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", b"old");
    file.write_at(b"new", 0).unwrap();
    create(&vfs, "b");
    let killed = vfs.kill();
    assert_eq!(killed.read_file("a").unwrap(), b"new");
    assert_eq!(killed.file_names(""), ["a", "b"]);
    // It is still not durable: power may be lost next.
    assert_eq!(killed.read_durable("a").unwrap(), b"old");
    assert!(outcomes(&killed, "a", TearUnit::Sector).contains(&Some(b"old".to_vec())));
    assert!(name_outcomes(&killed).contains(&names(&["a"])));
}

#[test]
fn a_fork_is_independent() {
    let vfs = MemoryVfs::new();
    let file = durable(&vfs, "a", &[1; 10_000]);
    let fork = vfs.fork();
    file.write_at(&[2; 10], 5000).unwrap();
    fork.open(path("a"), Access::Write)
        .unwrap()
        .write_at(&[3; 10], 0)
        .unwrap();
    let (mut here, mut there) = (vec![1; 10_000], vec![1; 10_000]);
    here[5000..5010].fill(2);
    there[..10].fill(3);
    assert_eq!(vfs.read_file("a").unwrap(), here);
    assert_eq!(fork.read_file("a").unwrap(), there);
    assert_eq!(vfs.read_durable("a").unwrap(), vec![1; 10_000]);
}

#[test]
fn forks_of_large_empty_files_are_cheap() {
    let vfs = MemoryVfs::new();
    for number in 0..8 {
        let file = create(&vfs, &format!("{number}.log"));
        file.preallocate(64 << 20).unwrap();
        file.write_at(&[1; 4096], 4096).unwrap();
        file.sync_data().unwrap();
    }
    vfs.sync_dir(path("")).unwrap();
    // Half a gigabyte each, if they weren't sparse and shared: 10 TB in all.
    for seed in 0..20_000 {
        let disk = if seed % 2 == 0 {
            vfs.fork()
        } else {
            vfs.crash(seed, TearUnit::Page)
        };
        assert_eq!(disk.file_bytes("7.log"), Some(64 << 20));
    }
}

#[test]
fn a_full_disk_refuses_growth_and_takes_overwrites() {
    let vfs = MemoryVfs::new();
    vfs.set_capacity(Some(5 * 4096));
    let file = create(&vfs, "a");
    file.preallocate(3 * 4096).unwrap();
    let other = create(&vfs, "b");
    assert_eq!(
        other.preallocate(3 * 4096).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(
        (other.len().unwrap(), vfs.bytes_free()),
        (0, Some(2 * 4096)),
        "nothing was taken"
    );
    // A write that doesn't fit does what it can.
    let error = other.write_at(&[1; 3 * 4096], 0).unwrap_err();
    assert_eq!(
        (error.kind(), other.len().unwrap()),
        (ErrorKind::StorageFull, 2 * 4096)
    );
    file.write_at(&[2; 3 * 4096], 0).unwrap();
    other.write_at(&[2; 100], 50).unwrap();
    assert_eq!(
        other.write_at(&[1], 8192).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(
        file.write_at(&[1], 1 << 40).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    file.sync_data().unwrap();
    other.sync_data().unwrap();
    vfs.sync_dir(path("")).unwrap();
    // Full after a crash, too.
    let crashed = vfs.crash(0, TearUnit::Page);
    let file_after = crashed.open(path("a"), Access::Write).unwrap();
    file_after.write_at(&[3; 3 * 4096], 0).unwrap();
    assert_eq!(
        file_after.write_at(&[3], 3 * 4096).unwrap_err().kind(),
        ErrorKind::StorageFull
    );

    // A removed file gives its room back when nobody has it open any more.
    vfs.remove(path("a")).unwrap();
    assert_eq!(vfs.bytes_free(), Some(0));
    drop(file);
    assert_eq!(vfs.bytes_free(), Some(3 * 4096));
    other.write_at(&[1; 4096], 8192).unwrap();
    other.set_len(4096).unwrap();
    assert_eq!(vfs.bytes_free(), Some(4 * 4096));
    vfs.set_capacity(None);
    other.write_at(&[1; 1 << 20], 0).unwrap();
}

#[test]
fn lengthening_takes_no_room_and_filling_the_hole_does() {
    let vfs = MemoryVfs::new();
    vfs.set_capacity(Some(4096));
    let file = create(&vfs, "a");
    file.set_len(1 << 30).unwrap();
    assert_eq!(vfs.bytes_free(), Some(4096));
    file.write_at(&[1; 4096], 1 << 20).unwrap();
    assert_eq!(
        file.write_at(&[1], 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
}

#[test]
fn lost_pages_never_reach_the_disk() {
    for lost in [LostPages::Kept, LostPages::Reverted] {
        let vfs = MemoryVfs::new();
        vfs.write_file("a", [1; 4096]);
        let file = vfs.open_file(path("a"), Access::Write).unwrap();
        file.write_at(&[2; 6000], 0).unwrap();
        file.lose_unsynced(lost).unwrap();
        let (disk, cache): (&[u8], &[u8]) = (&[1; 4096], &[2; 4096]);
        let shown = vfs.read_file("a").unwrap();
        assert_eq!(shown.len(), 6000);
        assert_eq!(
            &shown[..4096],
            if lost == LostPages::Kept { cache } else { disk }
        );
        file.sync_data().unwrap();
        let durable = vfs.read_durable("a").unwrap();
        assert_eq!(&durable[..4096], disk, "a second sync proves nothing");
        assert_eq!(&durable[4096..], &[0; 6000 - 4096]);
        // Written anew they do, and they alone.
        file.write_at(&[2; 512], 0).unwrap();
        file.sync_data().unwrap();
        let durable = vfs.read_durable("a").unwrap();
        assert_eq!(durable[..513], [&[2; 512][..], &[1]].concat());
        assert_eq!(durable[512..4096], disk[512..]);
        vfs.drop_caches();
        assert_eq!(vfs.read_file("a").unwrap(), durable);
    }
}

#[test]
fn the_helpers_change_cache_and_disk() {
    let vfs = MemoryVfs::new();
    assert!(vfs.write_file("folder/a", b"abc"));
    let file = vfs.open(path("folder/a"), Access::Write).unwrap();
    file.write_at(b"C", 2).unwrap();
    assert!(vfs.flip_bit("folder/a", 0, 1));
    assert!(vfs.overwrite("folder/a", 1, b"x"));
    assert_eq!(vfs.read_file("folder/a").unwrap(), b"cxC");
    assert_eq!(
        vfs.read_durable("folder/a").unwrap(),
        b"cxc",
        "what was unsynced still is"
    );
    assert!(vfs.overwrite("folder/a", 2, b"1234"));
    assert_eq!(vfs.file_bytes("folder/a"), Some(3), "it doesn't lengthen");
    assert!(vfs.truncate_file("folder/a", 1));
    assert_eq!(
        vfs.crash(0, TearUnit::Page).read_file("folder/a").unwrap(),
        b"c"
    );
    assert!(!vfs.flip_bit("folder/a", 1, 0));
    assert!(!vfs.flip_bit("folder/a", 0, 8));
    assert!(!vfs.flip_bit("nothing", 0, 0));
    assert!(!vfs.write_file("folder", b""));
    assert!(vfs.remove_file("folder/a"));
    assert!(!vfs.remove_file("folder/a"));
    assert_eq!(
        vfs.crash(0, TearUnit::Page).file_names("folder"),
        names(&[])
    );
    assert_eq!(vfs.read_file("folder/a"), None);
}

#[test]
fn a_durable_file_in_place_of_a_renamed_one_settles_the_name() {
    let vfs = MemoryVfs::new();
    vfs.write_file("a.tmp", b"1");
    vfs.rename(path("a.tmp"), path("a")).unwrap();
    vfs.write_file("a", b"2");
    let mut names_seen = BTreeSet::new();
    for seed in 0..100 {
        let crashed = vfs.crash(seed, TearUnit::Sector);
        assert_eq!(crashed.read_file("a").unwrap(), b"2");
        names_seen.insert(crashed.file_names(""));
    }
    assert_eq!(
        names_seen,
        BTreeSet::from([names(&["a"]), names(&["a", "a.tmp"])])
    );
}

#[test]
fn a_link_is_the_same_file_under_a_name_of_its_own() {
    let vfs = MemoryVfs::new();
    vfs.create_dir_all(path("other")).unwrap();
    let file = durable(&vfs, "a", b"bytes");
    vfs.link(path("a"), path("other/b")).unwrap();
    let kind = |from, to| vfs.link(path(from), path(to)).unwrap_err().kind();
    assert_eq!(kind("a", "other/b"), ErrorKind::AlreadyExists);
    assert_eq!(kind("a", "other"), ErrorKind::AlreadyExists);
    assert_eq!(kind("no", "c"), ErrorKind::NotFound);
    assert_eq!(kind("a", "no/c"), ErrorKind::NotFound);
    assert_eq!(kind("other", "c"), ErrorKind::IsADirectory);
    file.write_at(b"B", 0).unwrap();
    assert_eq!(vfs.read_file("other/b").unwrap(), b"Bytes");
    file.sync_data().unwrap();

    let linked = |vfs: &MemoryVfs| vfs.read_file("other/b").is_some();
    let kept = (0..100).filter(|seed| linked(&vfs.crash(*seed, TearUnit::Sector)));
    assert!((1..100).contains(&kept.count()), "not durable yet");
    vfs.sync_dir(path("other")).unwrap();
    vfs.remove(path("a")).unwrap();
    vfs.sync_dir(path("")).unwrap();
    for seed in 0..20 {
        let disk = vfs.crash(seed, TearUnit::Page);
        assert_eq!(disk.read_file("a"), None);
        assert_eq!(disk.read_file("other/b").unwrap(), b"Bytes");
    }
}

#[test]
fn a_linked_file_takes_its_space_once() {
    let vfs = MemoryVfs::new();
    durable(&vfs, "a", &[1; 8192]);
    vfs.set_capacity(Some(16_384));
    vfs.link(path("a"), path("b")).unwrap();
    assert_eq!(vfs.bytes_free(), Some(8192));
    vfs.remove(path("a")).unwrap();
    assert_eq!(vfs.bytes_free(), Some(8192));
    vfs.remove(path("b")).unwrap();
    assert_eq!(vfs.bytes_free(), Some(16_384));
}

#[test]
fn a_folder_is_renamed_with_all_that_is_in_it() {
    let vfs = MemoryVfs::new();
    for folder in ["new.tmp/deep", "taken", "full"] {
        vfs.create_dir_all(path(folder)).unwrap();
    }
    vfs.write_file("full/x", b"x");
    vfs.write_file("file", b"f");
    vfs.write_file("new.tmp/durable", b"d");
    let open = create(&vfs, "new.tmp/a");
    open.write_at(b"a", 0).unwrap();
    open.sync_data().unwrap();
    vfs.write_file("new.tmp/deep/b", b"b");
    let kind = |from, to| vfs.rename(path(from), path(to)).unwrap_err().kind();
    assert_eq!(kind("new.tmp", "full"), ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind("new.tmp", "file"), ErrorKind::NotADirectory);
    assert_eq!(kind("new.tmp", "no/x"), ErrorKind::NotFound);
    assert_eq!(kind("new.tmp", "new.tmp/x"), ErrorKind::InvalidInput);
    vfs.rename(path("new.tmp"), path("taken")).unwrap();
    assert_eq!(vfs.read_file("taken/deep/b").unwrap(), b"b");
    assert_eq!(
        vfs.list(path("new.tmp")).unwrap_err().kind(),
        ErrorKind::NotFound
    );

    // Until the folder above is synced, either name may be the one that survives, and never both; what is
    // in it is as durable as it was.
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let disk = vfs.crash(seed, TearUnit::Sector);
        let (old, new) = (disk.file_names("new.tmp"), disk.file_names("taken"));
        assert!(old.is_empty() != new.is_empty());
        let there = if new.is_empty() { old } else { new.clone() };
        assert!(there.contains(&"durable".to_owned()));
        let deep = disk.read_file(if new.is_empty() {
            "new.tmp/deep/b"
        } else {
            "taken/deep/b"
        });
        assert_eq!(deep.unwrap(), b"b");
        outcomes.insert((new.is_empty(), there.contains(&"a".to_owned())));
    }
    assert_eq!(outcomes.len(), 4);
    vfs.sync_dir(path("taken")).unwrap();
    vfs.sync_dir(path("")).unwrap();
    for seed in 0..20 {
        let disk = vfs.crash(seed, TearUnit::Sector);
        assert_eq!(disk.file_names("taken"), names(&["a", "durable"]));
    }
}

#[test]
fn a_renamed_folder_whose_sync_failed_never_stays_renamed() {
    let vfs = MemoryVfs::new();
    vfs.write_file("old/a", b"a");
    vfs.rename(path("old"), path("new")).unwrap();
    vfs.lose_dir_changes(path(""));
    vfs.sync_dir(path("")).unwrap();
    assert_eq!(vfs.file_names("new"), names(&["a"]));
    for seed in 0..20 {
        let disk = vfs.crash(seed, TearUnit::Sector);
        assert_eq!(disk.file_names("old"), names(&["a"]));
        assert!(disk.file_names("new").is_empty());
    }
}
