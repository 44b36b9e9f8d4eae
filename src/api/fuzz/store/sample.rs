//! The stores that are damaged. They are made once, always the same.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::api::Db;
use crate::api::fuzz::model::{Change, Model, Record};
use crate::api::fuzz::{FOLDER, KEYS, OTHER, key_of, value};
use crate::engine::{Job, WriteBatch};
use crate::options::{Background, Options};
use crate::testing::{Input, ManualClock, MemoryVfs, SeededEntropy, SeededRng};
use crate::types::{Durability, Parity};

/// A store at rest.
pub(super) struct Sample {
    pub(super) disk: MemoryVfs,
    pub(super) model: Model,
    shape: Shape,
}

/// What makes one store unlike another.
#[derive(Clone, Copy)]
struct Shape {
    parity: Parity,
    block_bytes: usize,
    segment_bytes: u64,
    /// Whether its process died; else it was closed.
    was_killed: bool,
    /// Whether it was copied from another one, and so has a lineage.
    has_origin: bool,
    batches: usize,
}

const SHAPES: [Shape; 6] = [
    Shape::new(Parity::Standard, 512, 8 << 10, true, 40),
    Shape::new(Parity::Standard, 1024, 64 << 10, false, 40).copied(),
    Shape::new(Parity::Strong, 4096, 32 << 10, true, 60).copied(),
    Shape::new(Parity::Off, 256, 8 << 10, true, 40),
    Shape::new(Parity::Off, 1024, 64 << 10, false, 30).copied(),
    Shape::new(Parity::Standard, 256, 16 << 10, true, 4),
];

impl Shape {
    const fn new(
        parity: Parity,
        block_bytes: usize,
        segment_bytes: u64,
        was_killed: bool,
        batches: usize,
    ) -> Self {
        Self {
            parity,
            block_bytes,
            segment_bytes,
            was_killed,
            has_origin: false,
            batches,
        }
    }

    const fn copied(mut self) -> Self {
        self.has_origin = true;
        self
    }

    fn options(self, folder: &str) -> Options {
        Options::new(folder)
            .background(Background::Manual)
            .parity(self.parity)
            .identifier_delay(Duration::from_millis(10))
            .write_buffer_bytes(64 << 10)
            .log_file_bytes(64 << 10)
            .log_bytes_before_flush(1 << 20)
            .block_bytes(self.block_bytes)
            .block_cache_bytes(16 << 10)
            .segment_bytes(self.segment_bytes)
            .level_base_bytes(16 << 10)
            .level0_segments_compact(3)
            .level0_segments_stop(12)
    }
}

/// One of the stores.
pub(super) fn pick(input: &mut Input<'_>) -> &'static Sample {
    static SAMPLES: [OnceLock<Sample>; SHAPES.len()] = [const { OnceLock::new() }; SHAPES.len()];
    let place = input.place(SHAPES.len());
    SAMPLES[place].get_or_init(|| Sample::make(SHAPES[place], place as u64))
}

impl Sample {
    pub(super) fn options(&self) -> Options {
        self.shape.options(FOLDER)
    }

    fn make(shape: Shape, seed: u64) -> Self {
        let disk = MemoryVfs::new();
        let clock = Arc::new(ManualClock::new());
        let entropy = Arc::new(SeededEntropy::new(seed));
        let options = |folder: &str| {
            let options = shape.options(folder).vfs(Arc::new(disk.clone()));
            options.clock(clock.clone()).entropy(entropy.clone())
        };
        let mut maker = Maker::new(seed);
        if shape.has_origin {
            let origin = options("origin").open().expect("a new store");
            maker.write(&origin, 5);
            origin.snapshot_to(FOLDER).expect("the disk answers");
        }
        let db = options(FOLDER).open().expect("a new store");
        maker.fill(&db, &clock, shape.batches);
        db.shared.engine.leave_vote();
        if shape.was_killed {
            drop(db);
        } else {
            db.close().expect("the disk answers");
        }
        let Maker { mut model, .. } = maker;
        model.promise(Durability::Disk);
        model.identified = model.last();
        Self {
            disk: disk.kill(),
            model,
            shape,
        }
    }
}

/// Writes what a store holds.
struct Maker {
    rng: SeededRng,
    model: Model,
    written: u64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self {
            rng: SeededRng::new(seed),
            model: Model::default(),
            written: 0,
        }
    }

    /// Segments in several levels, and records that only the log has.
    fn fill(&mut self, db: &Db, clock: &ManualClock, batches: usize) {
        for round in 0..4 {
            if round == 1 {
                db.create_keyspace(OTHER).expect("the disk answers");
                self.model.acknowledge(Record::Create, Durability::Disk);
            }
            self.write(db, batches / 4);
            db.flush().expect("the disk answers");
            if round == 2 {
                self.all(db, Job::Compact);
                self.all(db, Job::Reclaim);
            }
        }
        self.write(db, batches / 4);
        clock.advance(Duration::from_millis(20));
        self.all(db, Job::SyncIdentifiers);
        self.write(db, 3);
        clock.advance(Duration::from_millis(20));
        for job in [Job::SyncIdentifiers, Job::Scrub] {
            self.all(db, job);
        }
    }

    fn all(&self, db: &Db, job: Job) {
        while db.step(job).expect("the disk answers") {}
    }

    fn write(&mut self, db: &Db, batches: usize) {
        for _ in 0..batches {
            let changes: Vec<Change> = (0..self.rng.between(1, 6)).map(|_| self.change()).collect();
            let batch = batch(db, &changes);
            db.write_with(batch, Durability::Disk)
                .expect("the disk answers");
            self.model
                .acknowledge(Record::Batch(changes), Durability::Disk);
        }
    }

    fn change(&mut self) -> Change {
        let in_other = self.rng.below(3) == 0 && self.model.now().other.is_some();
        self.written += 1;
        let bytes = [20, 100, 400, 1500, 3000][self.rng.below(5) as usize];
        let value = (self.rng.below(6) > 0).then(|| value(self.written, bytes));
        Change {
            in_other,
            key: key_of(self.rng.below(u64::from(KEYS)) as u8),
            value,
        }
    }
}

pub(super) fn batch(db: &Db, changes: &[Change]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for change in changes {
        let name = if change.in_other { OTHER } else { "default" };
        let keyspace = db.keyspace(name).expect("a keyspace of the model");
        match &change.value {
            Some(value) => batch.put_in(&keyspace, &change.key, value),
            None => batch.delete_in(&keyspace, &change.key),
        };
    }
    batch
}
