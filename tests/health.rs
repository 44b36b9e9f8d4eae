//! What a store says of its disk and of itself.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kintsu::testing::{Fault, FaultKind, FaultVfs, ManualClock, MemoryVfs, OperationKind};
use kintsu::vfs::{Access, DirEntry, File, FileSystem, Lock, Vfs};
use kintsu::{Background, Db, DiskState, Error, FindingKind, HealthState, Options, Parity};
use parking_lot::Mutex;

/// A disk in memory on which syncs and reads take as long as they are told to.
#[derive(Clone, Debug)]
struct Slow {
    inner: MemoryVfs,
    clock: Arc<ManualClock>,
    pace: Arc<Mutex<Pace>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    sync: Duration,
    read: Duration,
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn File>,
    disk: Slow,
}

impl Vfs for Slow {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, access)?;
        let disk = self.clone();
        Ok(Arc::new(SlowFile { inner, disk }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.inner.file_system(path)
    }
}

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.clock.advance(self.disk.pace.lock().read);
        self.inner.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.clock.advance(self.disk.pace.lock().sync);
        self.inner.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.inner.preallocate(len)
    }
}

fn options(vfs: Arc<dyn Vfs>, clock: &Arc<ManualClock>) -> Options {
    Options::new("/store")
        .vfs(vfs)
        .clock(clock.clone())
        .background(Background::Manual)
        // Their syncs are small ones, beside the one of a large record.
        .parity(Parity::Off)
        .identifier_delay(Duration::from_secs(10))
        .scrub_every(None)
}

fn slow_store() -> (Db, Slow) {
    let clock = Arc::new(ManualClock::new());
    let disk = Slow {
        inner: MemoryVfs::new(),
        clock: clock.clone(),
        pace: Arc::default(),
    };
    let db = options(Arc::new(disk.clone()), &clock).open().unwrap();
    (db, disk)
}

fn write(db: &Db, times: usize) {
    for n in 0..times {
        db.put(format!("{n:04}"), "value").unwrap();
    }
}

#[test]
fn one_sync_that_is_held_up_shows_for_ten_minutes() {
    let (db, disk) = slow_store();
    write(&db, 10);
    assert_eq!(db.health().state, HealthState::Well);
    disk.pace.lock().sync = Duration::from_millis(1_500);
    write(&db, 1);
    disk.pace.lock().sync = Duration::ZERO;
    let health = db.health();
    assert_eq!(health.state, HealthState::Degraded);
    assert_eq!(health.disk.state, DiskState::Slow);
    assert_eq!(health.findings[0].kind, FindingKind::DiskSlow);
    assert!(health.disk.slow_calls >= 1, "{health:?}");
    assert_eq!(health.disk.slowest_call_us, 1_500_000);
    disk.clock.advance(Duration::from_secs(599));
    assert_eq!(db.health().disk.state, DiskState::Slow);
    disk.clock.advance(Duration::from_secs(2));
    let health = db.health();
    assert_eq!(health.state, HealthState::Well);
    // What was is still told.
    assert!(health.disk.slow_calls >= 1 && health.findings.is_empty());
}

#[test]
fn a_disk_whose_syncs_have_become_slower_is_slow() {
    let (db, disk) = slow_store();
    disk.pace.lock().sync = Duration::from_millis(2);
    write(&db, 200);
    assert_eq!(db.health().disk.state, DiskState::Well);
    // None of these is held up.
    disk.pace.lock().sync = Duration::from_millis(150);
    write(&db, 200);
    let disk_health = db.health().disk;
    assert_eq!(disk_health.state, DiskState::Slow);
    assert_eq!(disk_health.slow_calls, 0);
    let medians = (disk_health.best_sync_us, disk_health.recent_sync_us);
    assert_eq!(medians, (2_000, 150_000));
    disk.pace.lock().sync = Duration::from_millis(2);
    write(&db, 200);
    assert_eq!(db.health().disk.state, DiskState::Well);
}

#[test]
fn a_disk_that_was_never_faster_is_well() {
    let (db, disk) = slow_store();
    disk.pace.lock().sync = Duration::from_millis(300);
    write(&db, 200);
    assert_eq!(db.health().disk.state, DiskState::Well);
}

#[test]
fn a_read_that_is_held_up_shows() {
    let (db, disk) = slow_store();
    write(&db, 10);
    db.flush().unwrap();
    let other = options(Arc::new(disk.clone()), &disk.clock).read_only(true);
    disk.pace.lock().read = Duration::from_secs(2);
    let reader = other.open().unwrap();
    disk.pace.lock().read = Duration::ZERO;
    assert_eq!(reader.health().disk.state, DiskState::Slow);
    assert_eq!(db.health().disk.state, DiskState::Well);
}

#[test]
fn a_sync_of_much_may_take_its_time() {
    let (db, disk) = slow_store();
    write(&db, 1);
    disk.pace.lock().sync = Duration::from_millis(1_100);
    db.put("key", vec![7; 8 << 20]).unwrap();
    assert_eq!(db.health().disk.state, DiskState::Well);
    db.put("key", "value").unwrap();
    assert_eq!(db.health().disk.state, DiskState::Slow);
}

#[test]
fn a_failed_read_shows_as_an_erring_disk_until_ten_minutes_have_passed() {
    let clock = Arc::new(ManualClock::new());
    let vfs = FaultVfs::on_memory(&MemoryVfs::new());
    let small_cache = options(Arc::new(vfs.clone()), &clock).block_cache_bytes(0);
    let db = small_cache.open().unwrap();
    write(&db, 10);
    db.flush().unwrap();
    assert_eq!(db.health().state, HealthState::Well);
    vfs.inject(Fault::for_good(1, FaultKind::Io).only(&[OperationKind::Read]));
    assert!(db.get("0001").is_err());
    vfs.clear_faults();
    let health = db.health();
    assert_eq!(health.disk.state, DiskState::Erring);
    let said = health.disk.last_error.unwrap();
    assert!(said.contains(".segment: "), "{said}");
    assert!(
        health
            .findings
            .iter()
            .any(|one| one.kind == FindingKind::DiskErring)
    );
    clock.advance(Duration::from_secs(601));
    assert_eq!(db.health().disk.state, DiskState::Well);
}

#[test]
fn a_failed_sync_makes_the_store_a_failed_one() {
    let clock = Arc::new(ManualClock::new());
    let vfs = FaultVfs::on_memory(&MemoryVfs::new());
    let db = options(Arc::new(vfs.clone()), &clock).open().unwrap();
    write(&db, 3);
    vfs.inject(Fault::for_good(1, FaultKind::Io).only(&[OperationKind::SyncData]));
    assert!(db.put("key", "value").is_err());
    let health = db.health();
    assert_eq!(health.state, HealthState::Failed);
    assert_eq!(health.findings[0].kind, FindingKind::Latched);
    assert_eq!(health.disk.state, DiskState::Erring);
    clock.advance(Duration::from_secs(601));
    let health = db.health();
    assert_eq!(health.disk.state, DiskState::Well);
    assert_eq!(health.state, HealthState::Failed);
}

#[test]
fn a_full_disk_is_no_bad_disk() {
    let clock = Arc::new(ManualClock::new());
    let vfs = FaultVfs::on_memory(&MemoryVfs::new());
    let db = options(Arc::new(vfs.clone()), &clock).open().unwrap();
    write(&db, 3);
    vfs.inject(Fault::for_good(1, FaultKind::NoSpace).on(".segment"));
    let refused = db.flush().unwrap_err();
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    assert_eq!(db.health().disk.state, DiskState::Well);
    // Neither is a name that isn't there.
    let missing = Options::new("/missing")
        .vfs(Arc::new(vfs))
        .create_if_missing(false);
    assert!(missing.open().is_err());
    assert_eq!(db.health().disk.errors, 0);
}
