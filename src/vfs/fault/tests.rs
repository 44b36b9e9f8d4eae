use std::io::ErrorKind;

use super::*;
use crate::vfs::TearUnit;

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn on_memory() -> (MemoryVfs, FaultVfs) {
    let memory = MemoryVfs::new();
    let vfs = FaultVfs::on_memory(&memory);
    (memory, vfs)
}

/// Six operations, five of them changes.
fn publish(vfs: &dyn Vfs) -> io::Result<()> {
    let file = vfs.open(path("a.tmp"), Access::CreateNew)?;
    file.write_at(b"new!", 0)?;
    let mut buffer = [0; 4];
    file.read_at(&mut buffer, 0)?;
    file.sync_data()?;
    vfs.rename(path("a.tmp"), path("a"))?;
    vfs.sync_dir(path(""))
}

fn is_io_error(result: io::Result<()>) -> bool {
    result.unwrap_err().raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

#[test]
fn operations_are_counted_by_kind() {
    let (_, vfs) = on_memory();
    publish(&vfs).unwrap();
    assert_eq!((vfs.operations(), vfs.changes()), (6, 5));
    let counts = OperationKind::ALL.map(|kind| vfs.count(kind));
    assert_eq!(counts.iter().sum::<u64>(), 6);
    assert_eq!(vfs.count(OperationKind::SyncData), 1);
    assert_eq!(vfs.count(OperationKind::Create), 1);
    assert_eq!(vfs.count(OperationKind::Open), 0);
    assert_eq!(vfs.clone().operations(), 6);
}

#[test]
fn every_kind_of_call_is_counted_and_can_fail() {
    let (_, vfs) = on_memory();
    vfs.inject(Fault::for_good(1, FaultKind::Io));
    let everything = |vfs: &FaultVfs| -> Vec<bool> {
        let memory = MemoryVfs::new();
        let open = |access| {
            FaultVfs {
                inner: Inner::Memory(memory.clone()),
                plan: Arc::clone(&vfs.plan),
            }
            .open(path("f"), access)
        };
        memory.write_file("f", b"f");
        let inner = InnerFile::Memory(memory.open_file(path("f"), Access::Write).unwrap());
        let file = FaultFile {
            inner,
            path: "f".into(),
            name: "f".into(),
            plan: Arc::clone(&vfs.plan),
        };
        vec![
            open(Access::Read).is_ok(),
            open(Access::CreateOrTruncate).is_ok(),
            file.read_at(&mut [0], 0).is_ok(),
            file.write_at(&[0], 0).is_ok(),
            file.sync_data().is_ok(),
            file.set_len(3).is_ok(),
            file.len().is_ok(),
            file.preallocate(3).is_ok(),
            vfs.create_dir_all(path("d")).is_ok(),
            vfs.list(path("")).is_ok(),
            vfs.rename(path("x"), path("y")).is_ok(),
            vfs.link(path("x"), path("y")).is_ok(),
            vfs.remove(path("x")).is_ok(),
            vfs.sync_dir(path("")).is_ok(),
            vfs.lock(path("l")).is_ok(),
            vfs.file_system(path("")).is_ok(),
        ]
    };
    assert_eq!(everything(&vfs), [false; 16]);
    assert_eq!((vfs.operations(), vfs.faults_hit()), (16, 16));
    assert!(OperationKind::ALL.iter().all(|kind| vfs.count(*kind) == 1));
    vfs.clear_faults();
    let worked = everything(&vfs).iter().filter(|worked| **worked).count();
    assert_eq!(
        worked, 13,
        "all but rename, link and removal of what isn't there"
    );
    vfs.crash_after(0);
    assert_eq!(everything(&vfs), [false; 16]);
    assert_eq!(
        vfs.operations(),
        32,
        "what came after the power went isn't counted"
    );
}

#[test]
fn the_nth_operation_fails_once_or_for_good() {
    for n in 1..=6 {
        let (memory, vfs) = on_memory();
        vfs.inject(Fault::once(n, FaultKind::Io));
        assert!(is_io_error(publish(&vfs)), "{n}");
        assert_eq!((vfs.operations(), vfs.faults_hit()), (n, 1));
        memory.remove_file("a.tmp");
        publish(&vfs).unwrap();

        let (_, vfs) = on_memory();
        vfs.inject(Fault::for_good(n, FaultKind::NoSpace));
        assert_eq!(publish(&vfs).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(
            vfs.list(path("")).unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        assert_eq!(vfs.faults_hit(), 2);
        vfs.clear_faults();
        assert!(vfs.list(path("")).is_ok());
    }
    let (_, vfs) = on_memory();
    vfs.inject(Fault::once(7, FaultKind::Io));
    publish(&vfs).unwrap();
    assert_eq!(vfs.faults_hit(), 0);
}

#[test]
fn a_fault_counts_from_its_injection_and_only_what_it_is_for() {
    let (_, vfs) = on_memory();
    publish(&vfs).unwrap();
    vfs.inject(
        Fault::once(2, FaultKind::Io)
            .only(&[OperationKind::Write])
            .on(".log"),
    );
    let write = |name| {
        let file = vfs.open(path(name), Access::CreateOrTruncate).unwrap();
        file.write_at(b"1", 0)
    };
    write("1.log").unwrap();
    write("1.ids").unwrap();
    write("1.ids").unwrap();
    assert!(is_io_error(write("2.log")));
    write("2.log").unwrap();
    assert_eq!(vfs.faults_hit(), 1);
}

#[test]
fn a_failed_operation_leaves_nothing_a_half_or_all() {
    let (memory, vfs) = on_memory();
    let file = vfs.open(path("a"), Access::CreateNew).unwrap();
    vfs.inject(Fault::once(1, FaultKind::Io));
    assert!(is_io_error(file.write_at(&[1; 9], 0)));
    assert_eq!(memory.read_file("a").unwrap(), b"");
    vfs.inject(Fault::once(1, FaultKind::ShortWrite));
    assert!(is_io_error(file.write_at(&[1; 9], 0)));
    assert_eq!(memory.read_file("a").unwrap(), [1; 4]);
    vfs.inject(Fault::once(1, FaultKind::IoAfter));
    assert!(is_io_error(file.write_at(&[1; 9], 0)));
    assert_eq!(memory.read_file("a").unwrap(), [1; 9]);
    vfs.inject(Fault::once(1, FaultKind::Io));
    assert!(is_io_error(vfs.rename(path("a"), path("b"))));
    vfs.inject(Fault::once(1, FaultKind::IoAfter));
    assert!(is_io_error(vfs.rename(path("a"), path("b"))));
    assert_eq!(memory.file_names(""), ["b"]);
    vfs.inject(Fault::once(1, FaultKind::IoAfter));
    assert!(is_io_error(file.sync_data()));
    assert_eq!(memory.read_durable("b").unwrap(), [1; 9]);
}

#[test]
fn a_failed_sync_loses_what_it_should_have_written() {
    for failure in [SyncFailure::PagesKept, SyncFailure::PagesReverted] {
        let (memory, vfs) = on_memory();
        memory.write_file("a", b"old");
        let file = vfs.open(path("a"), Access::Write).unwrap();
        file.write_at(b"new", 0).unwrap();
        vfs.inject(Fault::once(1, FaultKind::Io).sync_failure(failure));
        assert!(is_io_error(file.sync_data()));
        file.sync_data().unwrap();
        let shown: &[u8] = if failure == SyncFailure::PagesKept {
            b"new"
        } else {
            b"old"
        };
        assert_eq!(memory.read_file("a").unwrap(), shown);
        assert_eq!(memory.read_durable("a").unwrap(), b"old");
    }
}

#[test]
fn a_failure_reported_late_strikes_the_next_sync_of_that_file() {
    let (memory, vfs) = on_memory();
    for name in ["a", "b"] {
        memory.write_file(name, b"old");
    }
    let file = vfs.open(path("a"), Access::Write).unwrap();
    let other = vfs.open(path("b"), Access::Write).unwrap();
    vfs.inject(Fault::once(2, FaultKind::Io).sync_failure(SyncFailure::ReportedLate));
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(memory.read_durable("a").unwrap(), b"old", "a lie");
    other.sync_data().unwrap();
    assert!(is_io_error(file.sync_data()));
    file.sync_data().unwrap();
    assert_eq!(memory.read_durable("a").unwrap(), b"old");
    assert_eq!(vfs.faults_hit(), 1);
}

#[test]
fn a_failed_folder_sync_loses_the_names() {
    for failure in [SyncFailure::PagesKept, SyncFailure::ReportedLate] {
        let (memory, vfs) = on_memory();
        vfs.inject(
            Fault::once(1, FaultKind::Io)
                .only(&[OperationKind::SyncDir])
                .sync_failure(failure),
        );
        let first = publish(&vfs);
        assert_eq!(first.is_ok(), failure == SyncFailure::ReportedLate);
        assert_eq!(
            vfs.sync_dir(path("")).is_ok(),
            failure == SyncFailure::PagesKept
        );
        vfs.sync_dir(path("")).unwrap();
        assert_eq!(memory.file_names(""), ["a"]);
        for seed in 0..20 {
            assert_eq!(memory.crash(seed, TearUnit::Sector).file_names("").len(), 0);
        }
    }
}

#[test]
fn nothing_gets_through_once_the_power_is_off() {
    for k in 0..=6 {
        let (memory, vfs) = on_memory();
        vfs.crash_after(k);
        assert_eq!(publish(&vfs).is_ok(), k == 6);
        assert_eq!((vfs.operations(), vfs.crashed()), (k, k < 6));
        let before = memory.read_file("a.tmp");
        assert!(vfs.open(path("a.tmp"), Access::CreateOrTruncate).is_err());
        assert!(vfs.remove(path("a")).is_err());
        assert_eq!(memory.read_file("a.tmp"), before);
        assert_eq!(memory.read_file("a").is_some(), k >= 5);
        assert!(vfs.crashed());
    }
    let mut ends = Vec::new();
    for k in 0..=5 {
        let (_, vfs) = on_memory();
        vfs.crash_after_changes(k);
        assert_eq!(publish(&vfs).is_ok(), k == 5);
        assert_eq!(vfs.changes(), k);
        ends.push(vfs.operations());
    }
    assert_eq!(
        ends,
        [0, 1, 3, 4, 5, 6],
        "the read goes through after the second change"
    );
}

#[test]
fn a_script_shows_each_side_effect() {
    let (_, vfs) = on_memory();
    vfs.record_changes();
    vfs.create_dir_all(path("store")).unwrap();
    let _lock = vfs.lock(path("store/LOCK")).unwrap();
    let file = vfs.open(path("store/1.log"), Access::CreateNew).unwrap();
    file.preallocate(8192).unwrap();
    file.write_at(&[1; 512], 4096).unwrap();
    file.read_at(&mut [0; 3], 5).unwrap();
    vfs.inject(Fault::once(1, FaultKind::Io));
    file.sync_data().unwrap_err();
    file.set_len(9000).unwrap();
    vfs.rename(path("store/1.log"), path("store/2.log"))
        .unwrap();
    vfs.sync_dir(path("store")).unwrap();
    vfs.inject(Fault::once(1, FaultKind::NoSpace));
    vfs.open(path("store/3.log"), Access::CreateOrTruncate)
        .unwrap_err();
    vfs.remove(path("store/4.log")).unwrap_err();
    let wanted = [
        "mkdir store",
        "lock LOCK",
        "create 1.log",
        "preallocate 1.log 8192",
        "write 1.log 4096+512",
        "sync 1.log (failed: I/O error)",
        "setlen 1.log 9000",
        "rename 1.log -> 2.log",
        "syncdir",
        "create 3.log or truncate (failed: no space)",
        "remove 4.log (failed: entity not found)",
    ];
    assert_eq!(vfs.take_script(), wanted);
    assert_eq!(vfs.take_script(), [""; 0]);

    vfs.record_everything();
    let file = vfs.open(path("store/2.log"), Access::ReadDirect).unwrap();
    file.read_at(&mut [0; 3], 5).unwrap();
    file.len().unwrap();
    vfs.list(path("store")).unwrap();
    assert_eq!(
        vfs.take_script(),
        ["open 2.log direct", "read 2.log 5+3", "len 2.log", "list"]
    );
}

#[test]
fn any_disk_can_be_wrapped() {
    let vfs = FaultVfs::new(Arc::new(MemoryVfs::new()));
    vfs.inject(Fault::once(4, FaultKind::Io));
    assert!(is_io_error(publish(&vfs)));
    let outer = FaultVfs::new(Arc::new(vfs.clone()));
    outer.open(path("a.tmp"), Access::Read).unwrap();
    assert_eq!((outer.operations(), vfs.operations()), (1, 5));
}
