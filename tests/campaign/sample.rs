//! The small store that is damaged: all kinds of files, at rest after the death of its process, with a
//! snapshot and a repository beside it.

use std::sync::Arc;

use kintsu::environment::Clock;
use kintsu::testing::{ManualClock, MemoryVfs, SeededEntropy};
use kintsu::{Codec, Compression, Durability, Job, KeyspaceOptions, Options, Parity};

use crate::support::backup::{REPOSITORY, SNAPSHOT};
use crate::support::driver::Driver;
use crate::support::model::Model;
use crate::support::store::{FOLDER, Machine, path};
use crate::support::workload::Step;

use Durability::{Buffered, Disk, Process};

/// A file with its bytes; the path begins with its folder.
pub type File = (String, Vec<u8>);

/// A store at rest, and what it must answer.
pub struct Sample {
    pub disk: MemoryVfs,
    pub model: Model,
    /// The record that the snapshot ends with.
    pub snapshot_index: u64,
    /// Every file of the store.
    pub files: Vec<File>,
    /// The files as they were at times before.
    pub earlier: Vec<Vec<File>>,
    wall_us: u64,
}

/// Where the store was restored from: this is why it has a lineage.
const ORIGIN: &str = "origin";

const BEGINNING: &[Step] = &[
    Step::Open,
    Step::Create("users"),
    Step::Batch(60, Disk),
    Step::Put("a", 900, Disk),
    Step::Flush,
];

/// Segments on several levels, with everything that can be in one.
const SEGMENTS: &[Step] = &[
    Step::Open,
    Step::Effects(Disk),
    Step::Batch(60, Disk),
    Step::Delete("a", Disk),
    Step::Flush,
    Step::Put("c", 2_000, Buffered),
    Step::Load(25),
    Step::Effects(Buffered),
    Step::Flush,
    Step::All(Job::Compact),
    Step::All(Job::Reclaim),
    Step::Load(8),
    Step::Put("b", 300, Disk),
    Step::Batch(40, Disk),
    Step::Effects(Disk),
    Step::Flush,
];

/// Two files of log with records that no segment has.
const LOG: &[Step] = &[
    Step::Put("d", 10, Process),
    Step::Put("e", 10, Process),
    Step::Batch(50, Disk),
    Step::Delete("b", Disk),
    Step::Create("late"),
    Step::Effects(Disk),
    Step::Load(5),
    Step::Advance(20),
    Step::Job(Job::SyncIdentifiers),
    Step::Put("f", 25_000, Disk),
    // Doesn't fit any more.
    Step::Put("g", 33_000, Disk),
    Step::Advance(20),
    Step::Job(Job::SyncIdentifiers),
    Step::Batch(30, Process),
    Step::Put("h", 10, Disk),
    Step::Advance(20),
    Step::All(Job::SyncIdentifiers),
];

/// Small limits, packed blocks, parity.
pub fn tune(options: Options) -> Options {
    let packed = KeyspaceOptions::default()
        .merge_operator(kintsu::Append::NAME)
        .compression(Compression::all(Codec::Lz4));
    options
        .parity(Parity::Standard)
        .block_bytes(512)
        .segment_bytes(8 << 10)
        .default_keyspace(packed)
}

pub fn in_folder(driver: Driver, machine: &Machine, folder: &'static str) -> Driver {
    let machine = machine.clone();
    driver.tuned(move |_| tune(machine.options_at(folder)))
}

impl Sample {
    pub fn take() -> Self {
        Self::with(Parity::Standard)
    }

    /// The same with more parity, or none.
    pub fn with(parity: Parity) -> Self {
        let machine = Machine::new(41);
        let mut origin = in_folder(Driver::new(machine.clone()), &machine, ORIGIN);
        origin.run(BEGINNING).unwrap();
        origin.db().snapshot_to(FOLDER).unwrap();
        let model = origin.model.clone();
        drop(origin);
        for name in machine.memory.file_names(ORIGIN) {
            machine.memory.remove_file(format!("{ORIGIN}/{name}"));
        }
        let mut driver = Driver::resume(machine.clone(), model);
        driver = driver.tuned(move |options| {
            let options = tune(options).archive_to(REPOSITORY).parity(parity);
            options.log_retained_bytes_max(0)
        });
        let mut earlier = Vec::new();
        let mut go = |driver: &mut Driver, steps: &[Step]| {
            for steps in steps.chunks(1) {
                driver.run(steps).unwrap();
                // The log is purged by the next flush.
                driver.db().archive_now().unwrap();
                earlier.push(files_in(&driver.machine.memory, FOLDER));
            }
        };
        go(&mut driver, SEGMENTS);
        if parity != Parity::Off {
            mend_something(&driver);
        }
        driver.db().backup_to(REPOSITORY).unwrap();
        driver.db().snapshot_to(SNAPSHOT).unwrap();
        let snapshot_index = driver.model.last;
        go(&mut driver, LOG);
        let model = driver.model.clone();
        let disk = machine.memory.kill();
        Self {
            files: files_in(&disk, FOLDER),
            wall_us: machine.clock.wall_us(),
            disk,
            model,
            snapshot_index,
            earlier,
        }
    }

    /// A machine of its own with that disk.
    pub fn machine(&self, disk: &MemoryVfs, seed: u64) -> Machine {
        let mut machine = Machine::with_disk(disk.clone(), seed);
        let clock = ManualClock::new();
        clock.set_wall_us(self.wall_us);
        machine.clock = Arc::new(clock);
        machine.entropy = Arc::new(SeededEntropy::new(seed ^ 0x5eed_0041));
        machine
    }
}

/// So that there is a journal, a quarantine, and a note of how far the scrubber is.
fn mend_something(driver: &Driver) {
    let memory = &driver.machine.memory;
    let mut names = memory.file_names(FOLDER).into_iter();
    let name = names.rfind(|name| name.ends_with(".segment"));
    memory.flip_bit(path(&name.unwrap()), 700, 3);
    let report = driver.db().scrub().unwrap();
    assert!(report.mended > 0, "{report:?}");
    while driver.db().step(Job::Scrub).unwrap() {}
}

/// Every file of a folder with its bytes, but for the lock.
pub fn files_in(disk: &MemoryVfs, folder: &str) -> Vec<File> {
    let names = disk.file_names(folder).into_iter();
    names
        .filter(|name| name != "LOCK")
        .map(|name| format!("{folder}/{name}"))
        .map(|path| {
            let bytes = disk.read_file(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// The end of what is written in a file: what follows is preallocated zeros.
pub fn end_of_content(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}
