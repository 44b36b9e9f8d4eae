use super::*;

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

/// A folder beside the built test: that lies on a disk, which the folder for temporary files need
/// not.
fn folder() -> tempfile::TempDir {
    let test = std::env::current_exe().unwrap();
    tempfile::tempdir_in(test.parent().unwrap()).unwrap()
}

#[test]
fn files_are_written_and_read_in_place() {
    let folder = folder();
    let path = folder.path().join("a");
    let file = DiskVfs.open(&path, Access::CreateNew).unwrap();
    let bytes = pattern(10_000);
    file.write_at(&bytes, 3).unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.len().unwrap(), 10_003);
    let mut buffer = vec![0; 20_000];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 10_003);
    assert_eq!(buffer[3..10_003], bytes);
    assert_eq!(file.read_at(&mut buffer, 10_003).unwrap(), 0);
    file.set_len(5).unwrap();
    assert_eq!(file.read_at(&mut buffer, 1).unwrap(), 4);
}

#[test]
fn opening_follows_the_access() {
    let folder = folder();
    let path = folder.path().join("a");
    let kind = |access| DiskVfs.open(&path, access).unwrap_err().kind();
    for access in [
        Access::Read,
        Access::ReadDirect,
        Access::ReadMapped,
        Access::Write,
    ] {
        assert_eq!(kind(access), ErrorKind::NotFound);
    }
    DiskVfs
        .open(&path, Access::CreateNew)
        .unwrap()
        .write_at(b"1", 0)
        .unwrap();
    assert_eq!(kind(Access::CreateNew), ErrorKind::AlreadyExists);
    for access in [Access::Read, Access::ReadDirect, Access::ReadMapped] {
        let file = DiskVfs.open(&path, access).unwrap();
        assert!(file.write_at(b"2", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.preallocate(10).is_err());
        assert_eq!(file.len().unwrap(), 1);
    }
    DiskVfs.open(&path, Access::CreateOrTruncate).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

/// Reads at odd places and lengths and compares. The file is longer than one chunk and ends oddly.
fn check_reads(path: &Path, direct: &DirectFile) {
    let bytes = pattern((2 << 20) + 777);
    let file = DiskVfs.open(path, Access::Write).unwrap();
    file.write_at(&bytes, 0).unwrap();
    file.sync_data().unwrap();
    let check = |offset: usize, count: usize| {
        let mut buffer = vec![0xEE; count];
        let wanted = &bytes[offset.min(bytes.len())..(offset + count).min(bytes.len())];
        let got = direct.read_at(&mut buffer, offset as u64).unwrap();
        let place = format!("{count} bytes at {offset}");
        assert_eq!(got, wanted.len(), "{place}");
        assert!(buffer[..got] == *wanted, "{place}");
        assert!(buffer[got..].iter().all(|byte| *byte == 0xEE), "{place}");
    };
    let end = bytes.len();
    let offsets = [0, 1, 511, 512, 4095, 4096, 4097, 100_001];
    for offset in offsets
        .into_iter()
        .chain([end - 778, end - 777, end - 1, end])
    {
        for count in [0, 1, 511, 512, 513, 4095, 4096, 4097, 8193] {
            check(offset, count);
        }
    }
    check(0, end);
    check(1, end + 5000);
    check(4095, (1 << 20) + 1);
    check(end + 5000, 10);
    for offset in [1 << 40, 1 << 62, i64::MAX as u64, u64::MAX] {
        assert_eq!(direct.read_at(&mut [0; 9], offset).unwrap(), 0);
        assert_eq!(file.read_at(&mut [0; 9], offset).unwrap(), 0);
    }
}

#[test]
fn direct_reads_take_any_offset_and_length() {
    let folder = folder();
    let path = folder.path().join("a");
    fs::write(&path, b"").unwrap();
    let direct = DirectFile::open(&path).unwrap();
    check_reads(&path, &direct);
    let file_system = DiskVfs.file_system(&path).unwrap().name;
    if ["ext4", "xfs"].contains(&&*file_system) {
        assert!(direct.is_direct(), "{file_system} has direct reads");
    }
}

#[test]
fn without_direct_reads_the_cache_is_dropped_first() {
    let folder = folder();
    let path = folder.path().join("a");
    fs::write(&path, b"").unwrap();
    let direct = DirectFile::open(&path).unwrap();
    direct.give_up_direct().unwrap();
    check_reads(&path, &direct);
    assert!(!direct.is_direct());
    // The file systems that have no such flag are mostly those in memory.
    if let Ok(folder) = tempfile::tempdir_in("/dev/shm") {
        let path = folder.path().join("a");
        fs::write(&path, b"").unwrap();
        check_reads(&path, &DirectFile::open(&path).unwrap());
    }
}

#[test]
fn preallocation_lengthens_with_zeros_and_never_cuts() {
    let folder = folder();
    let path = folder.path().join("a");
    let file = DiskVfs.open(&path, Access::CreateNew).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    for (asked, len) in [(0, 5), (3, 5), (1 << 20, 1 << 20), (7, 1 << 20)] {
        file.preallocate(asked).unwrap();
        assert_eq!(file.len().unwrap(), len);
    }
    let read = fs::read(&path).unwrap();
    assert_eq!(&read[..5], b"bytes");
    assert!(read[5..].iter().all(|byte| *byte == 0));
    use std::os::unix::fs::MetadataExt;
    assert!(
        fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20,
        "the space is taken"
    );
}

#[test]
fn preallocation_that_fails_leaves_the_file_as_it_was() {
    let folder = folder();
    let path = folder.path().join("a");
    let file = DiskVfs.open(&path, Access::CreateNew).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    assert!(file.preallocate(u64::MAX).is_err());
    assert!(file.preallocate(1 << 62).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    let half_way = |file: &fs::File, len| {
        file.set_len(len)?;
        Err(ErrorKind::StorageFull.into())
    };
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let error = preallocate_by(half_way, &file, 9000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
}

#[test]
fn zeros_can_be_written_where_there_is_no_preallocation() {
    let folder = folder();
    let path = folder.path().join("a");
    fs::write(&path, b"bytes").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let len = 2 * ZEROS_BYTES as u64 + 99;
    let unsupported = |_: &fs::File, _| Err(ErrorKind::Unsupported.into());
    preallocate_by(unsupported, &file, len).unwrap();
    let read = fs::read(&path).unwrap();
    assert_eq!((read.len() as u64, &read[..5]), (len, &b"bytes"[..]));
    assert!(read[5..].iter().all(|byte| *byte == 0));
    preallocate_by(unsupported, &file, 3).unwrap();
    assert_eq!(fs::read(&path).unwrap().len() as u64, len);
}

#[test]
fn folders_are_made_listed_and_synced() {
    let folder = folder();
    let inner = folder.path().join("one/two");
    for _ in 0..2 {
        DiskVfs.create_dir_all(&inner).unwrap();
    }
    for name in ["b", "a.tmp", "c"] {
        DiskVfs.open(&inner.join(name), Access::CreateNew).unwrap();
    }
    DiskVfs.create_dir_all(&inner.join("bb/")).unwrap();
    DiskVfs
        .rename(&inner.join("a.tmp"), &inner.join("b"))
        .unwrap();
    DiskVfs.remove(&inner.join("c")).unwrap();
    DiskVfs.sync_dir(&inner).unwrap();
    let listed = DiskVfs.list(&inner).unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|entry| (&*entry.name, entry.is_dir))
        .collect();
    assert_eq!(listed, [("b", false), ("bb", true)]);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let (file, nothing) = (inner.join("b"), inner.join("nothing"));
    assert_eq!(
        kind(DiskVfs.create_dir_all(&file)),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        kind(DiskVfs.create_dir_all(&file.join("x"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        kind(DiskVfs.list(&file).map(drop)),
        ErrorKind::NotADirectory
    );
    assert_eq!(kind(DiskVfs.list(&nothing).map(drop)), ErrorKind::NotFound);
    assert_eq!(kind(DiskVfs.remove(&nothing)), ErrorKind::NotFound);
    assert_eq!(kind(DiskVfs.sync_dir(&nothing)), ErrorKind::NotFound);
}

#[test]
fn a_relative_name_has_the_working_folder_for_parent() {
    assert_eq!(parent(Path::new("store")), Path::new("."));
    assert_eq!(parent(Path::new("/")), Path::new("/"));
    assert_eq!(parent(Path::new("/a/b")), Path::new("/a"));
    DiskVfs.create_dir_all(Path::new("")).unwrap();
    DiskVfs.sync_dir(Path::new("")).unwrap();
}

#[test]
fn a_lock_is_exclusive_in_this_process_too() {
    let folder = folder();
    let path = folder.path().join("LOCK");
    let lock = DiskVfs.lock(&path).unwrap();
    assert_eq!(
        DiskVfs.lock(&path).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    drop(lock);
    let _lock = DiskVfs.lock(&path).unwrap();
    assert_eq!(
        DiskVfs.lock(&path).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn the_file_system_is_known_before_the_folder_is() {
    let folder = folder();
    let here = DiskVfs.file_system(folder.path()).unwrap();
    assert!(!here.name.is_empty());
    assert_eq!(
        DiskVfs.file_system(&folder.path().join("not/yet")).unwrap(),
        here
    );
    DiskVfs.file_system(Path::new("not-here-yet")).unwrap();
    #[cfg(target_os = "linux")]
    assert_ne!(DiskVfs.file_system(Path::new("/proc")).unwrap(), here);
}

#[test]
fn links_and_folders_are_renamed_as_the_seam_says() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let file = DiskVfs.open(&at("a"), Access::CreateNew).unwrap();
    DiskVfs.link(&at("a"), &at("b")).unwrap();
    file.write_at(b"both", 0).unwrap();
    DiskVfs.remove(&at("a")).unwrap();
    let mut read = [0; 9];
    let other = DiskVfs.open(&at("b"), Access::Read).unwrap();
    assert_eq!(other.read_at(&mut read, 0).unwrap(), 4);
    let taken = DiskVfs.link(&at("b"), &at("b")).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);

    for name in ["new.tmp", "empty", "full"] {
        DiskVfs.create_dir_all(&at(name)).unwrap();
    }
    DiskVfs.link(&at("b"), &at("full/x")).unwrap();
    DiskVfs.link(&at("b"), &at("new.tmp/x")).unwrap();
    let full = DiskVfs.rename(&at("new.tmp"), &at("full")).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::DirectoryNotEmpty);
    DiskVfs.rename(&at("new.tmp"), &at("empty")).unwrap();
    assert_eq!(DiskVfs.list(&at("empty")).unwrap().len(), 1);
}

#[test]
fn mapped_files_read_as_others_do() {
    let folder = folder();
    let path = folder.path().join("a");
    let bytes = pattern(10_000);
    for length in [0, 1, 4096, 10_000] {
        fs::write(&path, &bytes[..length]).unwrap();
        let plain = DiskVfs.open(&path, Access::Read).unwrap();
        let mapped = DiskVfs.open(&path, Access::ReadMapped).unwrap();
        assert_eq!(mapped.len().unwrap(), length as u64);
        for offset in [0, 1, 4095, 9_999, 10_000, 10_001, 1 << 40, u64::MAX] {
            for wanted in [0, 1, 5_000, 20_000] {
                let (mut one, mut other) = (vec![9; wanted], vec![9; wanted]);
                let found = mapped.read_at(&mut one, offset).unwrap();
                assert_eq!(found, plain.read_at(&mut other, offset).unwrap());
                assert_eq!(one, other);
            }
        }
        // The name may go; the bytes stay for who has them open.
        fs::remove_file(&path).unwrap();
        assert_eq!(mapped.read_at(&mut [0; 1], 0).unwrap(), length.min(1));
    }
}
