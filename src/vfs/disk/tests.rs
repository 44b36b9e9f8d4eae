use super::*;

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

/// A folder beside the build's output: there it lies on a disk, which `/tmp` need not.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
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
    for access in [Access::Read, Access::ReadDirect, Access::Write] {
        assert_eq!(kind(access), ErrorKind::NotFound);
    }
    DiskVfs
        .open(&path, Access::CreateNew)
        .unwrap()
        .write_at(b"1", 0)
        .unwrap();
    assert_eq!(kind(Access::CreateNew), ErrorKind::AlreadyExists);
    for access in [Access::Read, Access::ReadDirect] {
        let file = DiskVfs.open(&path, access).unwrap();
        assert!(file.write_at(b"2", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.preallocate(10).is_err());
        assert_eq!(file.len().unwrap(), 1);
    }
    DiskVfs.open(&path, Access::CreateOrTruncate).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn direct_reads_take_any_offset_and_length() {
    let folder = folder();
    let path = folder.path().join("a");
    let bytes = pattern((2 << 20) + 777); // more than one chunk, and an odd end
    let file = DiskVfs.open(&path, Access::CreateNew).unwrap();
    file.write_at(&bytes, 0).unwrap();
    file.sync_data().unwrap();
    let direct = DirectFile::open(&path).unwrap();
    let check = |offset: usize, count: usize| {
        let mut buffer = vec![0xEE; count];
        let wanted = &bytes[offset.min(bytes.len())..(offset + count).min(bytes.len())];
        let got = direct.read_at(&mut buffer, offset as u64).unwrap();
        assert_eq!(got, wanted.len(), "{count} bytes at {offset}");
        assert!(buffer[..got] == *wanted, "{count} bytes at {offset}");
        assert!(
            buffer[got..].iter().all(|byte| *byte == 0xEE),
            "{count} bytes at {offset}"
        );
    };
    let end = bytes.len();
    for offset in [
        0,
        1,
        511,
        512,
        4095,
        4096,
        4097,
        100_001,
        end - 778,
        end - 777,
        end - 1,
        end,
    ] {
        for count in [0, 1, 511, 512, 513, 4095, 4096, 4097, 8193] {
            check(offset, count);
        }
    }
    check(0, end);
    check(1, end + 5000);
    check(4095, (1 << 20) + 1);
    check(end + 5000, 10);
    assert!(
        direct
            .read_at(&mut [0], u64::MAX)
            .is_err_and(|e| e.kind() != ErrorKind::Unsupported)
            || direct.read_at(&mut [0], u64::MAX).is_ok_and(|got| got == 0)
    );
}
