//! The side effects themselves: each write, sync and rename, in order. A lost sync shows as a diff.

use super::*;
use crate::vfs::{FaultVfs, TearUnit};

struct Script {
    vfs: FaultVfs,
    text: String,
}

impl Script {
    fn note(&mut self, title: &str) {
        self.text += &format!("# {title}\n");
        for line in self.vfs.take_script() {
            self.text += &format!("{line}\n");
        }
    }
}

#[test]
fn every_write_sync_and_rename_is_the_one_expected() {
    let memory = MemoryVfs::new();
    let vfs = FaultVfs::on_memory(&memory);
    vfs.record_changes();
    let mut script = Script {
        vfs: vfs.clone(),
        text: String::new(),
    };
    let (log, _) = Log::open(setup_on(Arc::new(vfs.clone()), 1)).unwrap();
    script.note("open an empty folder");
    append_synced(&log, 1, 100).unwrap();
    script.note("first durable append");
    append_synced(&log, 2, 5_000).unwrap();
    script.note("second");
    append(&log, 3, 100, Durability::Buffered).unwrap();
    script.note("buffered");
    append(&log, 4, 100, Durability::Process).unwrap();
    append(&log, 5, 100, Durability::Process).unwrap();
    script.note("process, twice");
    log.sync().unwrap();
    log.sync().unwrap();
    script.note("sync, twice");
    append(&log, 6, 100, Durability::Disk).unwrap();
    append(&log, 7, 100, Durability::Disk).unwrap();
    log.sync().unwrap();
    script.note("two groups in flight");
    log.step_identifiers().unwrap();
    log.step_identifiers().unwrap();
    script.note("identifiers, twice");
    log.step_prepare().unwrap();
    log.step_prepare().unwrap();
    script.note("prepare, twice");
    append(&log, 8, 9_000, Durability::Disk).unwrap();
    script.note("rotation");
    log.sync().unwrap();
    log.step_identifiers().unwrap();
    script.note("sync, identifiers");
    append(&log, 9, 60_000, Durability::Disk).unwrap();
    script.note("rotation with none prepared, a file of its own size");
    log.close().unwrap();
    script.note("close");
    drop(log);

    let (log, report) = Log::open(setup_on(Arc::new(vfs.clone()), 2)).unwrap();
    assert!(report.ended_cleanly);
    script.note("reopen after a clean close");
    append_synced(&log, 10, 100).unwrap();
    script.note("first append after that");
    append(&log, 11, 5_000, Durability::Disk).unwrap();
    let _ = script.vfs.take_script();
    drop(log);

    let torn = |disk: &MemoryVfs| Log::open(setup(&disk.fork())).unwrap().1.torn_bytes > 0;
    let memory = (0..).map(|seed| memory.crash(seed, TearUnit::Page));
    let memory = memory.take(100).find(torn).unwrap();
    let vfs = FaultVfs::on_memory(&memory);
    vfs.record_changes();
    script.vfs = vfs.clone();
    let (log, _) = Log::open(setup_on(Arc::new(vfs.clone()), 3)).unwrap();
    script.note("reopen after a torn write");
    append_synced(&log, 11, 100).unwrap();
    script.note("first append after that");
    log.truncate_after(Index(10)).unwrap();
    script.note("truncate");
    log.purge_before(Index(9)).unwrap();
    script.note("purge");
    assert_eq!(script.text, EXPECTED, "\n{}", script.text);
}

const EXPECTED: &str = "\
# open an empty folder
mkdir log
lock LOCK
# first durable append
create 00000001.ids.tmp or truncate
preallocate 00000001.ids.tmp 20480
write 00000001.ids.tmp 0+20480
sync 00000001.ids.tmp
rename 00000001.ids.tmp -> 00000001.ids
create 00000001.log.tmp or truncate
preallocate 00000001.log.tmp 32768
write 00000001.log.tmp 0+4096
sync 00000001.log.tmp
rename 00000001.log.tmp -> 00000001.log
create 00000001.parity or truncate
preallocate 00000001.parity 73728
syncdir
write 00000001.log 4096+28672
sync 00000001.log
# second
write 00000001.log 8192+8192
sync 00000001.log
# buffered
# process, twice
write 00000001.log 16384+282
write 00000001.log 16666+141
# sync, twice
sync 00000001.log
# two groups in flight
write 00000001.log 20480+4096
write 00000001.log 24576+4096
sync 00000001.log
# identifiers, twice
write 00000001.ids 4096+4096
sync 00000001.ids
# prepare, twice
create 00000002.ids.tmp or truncate
preallocate 00000002.ids.tmp 20480
write 00000002.ids.tmp 0+20480
sync 00000002.ids.tmp
rename 00000002.ids.tmp -> 00000002.ids
create 00000002.log.tmp or truncate
preallocate 00000002.log.tmp 32768
write 00000002.log.tmp 0+4096
sync 00000002.log.tmp
rename 00000002.log.tmp -> 00000002.log
create 00000002.parity or truncate
preallocate 00000002.parity 73728
syncdir
# rotation
write 00000001.log 28672+4096
sync 00000001.log
write 00000002.log 4096+28672
# sync, identifiers
sync 00000002.log
write 00000001.ids 8192+4096
sync 00000001.ids
write 00000002.ids 4096+4096
sync 00000002.ids
write 00000001.parity 0+73728
sync 00000001.parity
# rotation with none prepared, a file of its own size
create 00000003.ids.tmp or truncate
preallocate 00000003.ids.tmp 20480
write 00000003.ids.tmp 0+20480
sync 00000003.ids.tmp
rename 00000003.ids.tmp -> 00000003.ids
create 00000003.log.tmp or truncate
preallocate 00000003.log.tmp 69632
write 00000003.log.tmp 0+4096
sync 00000003.log.tmp
rename 00000003.log.tmp -> 00000003.log
create 00000003.parity or truncate
preallocate 00000003.parity 73728
syncdir
write 00000002.log 16384+4096
sync 00000002.log
write 00000003.log 4096+65536
# close
sync 00000003.log
write 00000003.log 65536+4096
sync 00000003.log
write 00000002.ids 8192+4096
sync 00000002.ids
write 00000003.ids 4096+4096
sync 00000003.ids
write 00000002.parity 0+73728
sync 00000002.parity
write 00000003.parity 0+73728
sync 00000003.parity
# reopen after a clean close
mkdir log
lock LOCK
sync 00000002.ids
sync 00000003.ids
# first append after that
create 00000004.ids.tmp or truncate
preallocate 00000004.ids.tmp 20480
write 00000004.ids.tmp 0+20480
sync 00000004.ids.tmp
rename 00000004.ids.tmp -> 00000004.ids
create 00000004.log.tmp or truncate
preallocate 00000004.log.tmp 32768
write 00000004.log.tmp 0+4096
sync 00000004.log.tmp
rename 00000004.log.tmp -> 00000004.log
create 00000004.parity or truncate
preallocate 00000004.parity 73728
syncdir
write 00000004.log 4096+28672
sync 00000004.log
# reopen after a torn write
mkdir log
lock LOCK
sync 00000004.ids
sync 00000004.log
# first append after that
create 00000004.ids.tmp or truncate
write 00000004.ids.tmp 0+8192
sync 00000004.ids.tmp
rename 00000004.ids.tmp -> 00000004.ids
create 00000005.ids.tmp or truncate
preallocate 00000005.ids.tmp 20480
write 00000005.ids.tmp 0+20480
sync 00000005.ids.tmp
rename 00000005.ids.tmp -> 00000005.ids
create 00000005.log.tmp or truncate
preallocate 00000005.log.tmp 32768
write 00000005.log.tmp 0+4096
sync 00000005.log.tmp
rename 00000005.log.tmp -> 00000005.log
create 00000005.parity or truncate
preallocate 00000005.parity 73728
syncdir
write 00000005.log 4096+28672
sync 00000005.log
# truncate
write 00000005.log 8192+4096
sync 00000005.log
# purge
write 00000005.ids 4096+4096
sync 00000005.ids
remove 00000001.log
syncdir
remove 00000001.ids
syncdir
remove 00000001.parity
syncdir
remove 00000002.log
syncdir
remove 00000002.ids
syncdir
remove 00000002.parity
syncdir
syncdir
";
