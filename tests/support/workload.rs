//! A fixed workload that touches everything, small enough to be run again for each of its operations.

use std::time::Duration;

use kintsu::{Durability, Error, Job, Result};

use super::check::Survived;
use super::driver::Driver;
use super::feeds;
use super::model::{Change, Effect};

/// One thing that a program does with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Open,
    /// Key, bytes of value, durability, in the default keyspace.
    Put(&'static str, usize, Durability),
    Delete(&'static str, Durability),
    /// One batch over all keyspaces that there are: puts, a deletion, one key twice.
    Batch(usize, Durability),
    /// As `Batch`, to wait in the queue.
    Submit(usize, Durability),
    /// One batch over all keyspaces of merges, a value that expires soon, and the deletion of a range.
    Effects(Durability),
    /// A bulk load of so many keys into each keyspace.
    Load(u64),
    CompactRange,
    Create(&'static str),
    Drop(&'static str),
    Sync,
    Flush,
    Advance(u64),
    Job(Job),
    All(Job),
    Check,
    /// Reads the change feed, as far back as there is log.
    Feed,
    Close,
    /// Drops the store without closing it.
    LetGo,
}

use Durability::{Buffered, Disk, Process};
use Step::*;

/// Every kind of file, every kind of record, rotation, flush, compaction, purge, close, reopen.
pub const EVERYTHING: &[Step] = &[
    Open,
    Put("a", 10, Disk),
    Put("b", 300, Disk),
    Put("c", 10, Buffered),
    Put("d", 10, Process),
    Feed,
    Put("e", 10, Buffered),
    Sync,
    Advance(20),
    Job(Job::SyncIdentifiers),
    Create("users"),
    Batch(20, Disk),
    Submit(30, Buffered),
    Submit(30, Disk),
    Submit(30, Process),
    Job(Job::Commit),
    Job(Job::PrepareLog),
    // Three to four files of log.
    Put("f", 20_000, Disk),
    Put("g", 20_000, Disk),
    Delete("a", Disk),
    Put("h", 20_000, Disk),
    Put("a", 5_000, Process),
    Batch(500, Buffered),
    Job(Job::PrepareLog),
    Job(Job::SyncIdentifiers),
    Put("i", 20_000, Disk),
    Put("j", 30_000, Disk),
    Flush,
    Check,
    Effects(Buffered),
    Load(30),
    Effects(Disk),
    Put("b", 200, Disk),
    Flush,
    Load(10),
    CompactRange,
    Effects(Process),
    Delete("c", Disk),
    Batch(100, Buffered),
    Flush,
    All(Job::Compact),
    All(Job::Reclaim),
    Put("k", 66_000, Disk),
    Drop("users"),
    Put("l", 10, Buffered),
    Create("users"),
    Batch(40, Process),
    Flush,
    All(Job::Compact),
    Put("l", 10, Buffered),
    Feed,
    Put("l", 10, Disk),
    All(Job::Reclaim),
    Close,
    Open,
    Check,
    Put("m", 10, Disk),
    Put("n", 10, Buffered),
    Put("o", 10, Process),
    LetGo,
    Open,
    Put("p", 10, Disk),
    Batch(20, Disk),
    Job(Job::PrepareLog),
    Advance(20),
    Job(Job::SyncIdentifiers),
    Put("q", 50_000, Buffered),
    Delete("f", Buffered),
    Put("q", 50_000, Buffered),
    Job(Job::Flush),
    All(Job::Compact),
    Put("r", 10, Disk),
    Create("late"),
    Batch(60, Buffered),
    Put("s", 10, Disk),
    LetGo,
    Open,
    Drop("late"),
    Delete("r", Disk),
    Flush,
    All(Job::Compact),
    All(Job::Reclaim),
    Put("t", 10, Process),
    Feed,
    Check,
];

/// What every recovered store must be able to do: enough to write the header of a new log file and a
/// new generation of the manifest.
const AFTERWARDS: &[Step] = &[
    Put("x", 10, Disk),
    Batch(20, Buffered),
    Feed,
    Job(Job::PrepareLog),
    Flush,
    Delete("x", Process),
    All(Job::Compact),
    All(Job::Reclaim),
    Put("y", 10, Disk),
];

/// [`AFTERWARDS`], at times after a removal of files on the strength of what was found alone.
pub fn afterwards(seed: u64) -> Vec<Step> {
    let mut steps = AFTERWARDS.to_vec();
    if seed.is_multiple_of(2) {
        steps.insert(0, All(Job::Reclaim));
    }
    steps
}

/// A value that no other write has, of about so many bytes.
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{number}:").into_bytes();
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while value.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.push(state as u8);
    }
    value
}

impl Driver {
    /// Does the steps until one fails.
    pub fn run(&mut self, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.take(*step))
    }

    /// Does one step; those that need a store do nothing if none is open.
    pub fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Open if self.db.is_none() => return self.open(Survived::ProcessDeath),
            Advance(ms) => self.machine.clock.advance(Duration::from_millis(ms)),
            _ if self.db.is_none() => {}
            Open => {}
            Put(key, bytes, durability) => {
                let value = value(self.model.last + 1, bytes);
                return self.write(vec![change(0, key, Some(value))], durability);
            }
            Delete(key, durability) => return self.write(vec![change(0, key, None)], durability),
            Batch(bytes, durability) => return self.write(self.everywhere(bytes), durability),
            Submit(bytes, durability) => return self.submit(self.everywhere(bytes), durability),
            // Steps left out because of an error may have been about this very keyspace.
            Create(name) if self.model.find(name).is_some() => {}
            Drop(name) if self.model.find(name).is_none() => {}
            Create(name) => return self.create_keyspace(name),
            Drop(name) => return self.drop_keyspace(name),
            Effects(durability) => return self.write(self.effects(), durability),
            Load(count) => return self.load_everywhere(count),
            CompactRange => return self.compact_everywhere(),
            Sync => return self.sync(),
            Flush => return self.flush(),
            Job(job) => return self.step(job).map(drop),
            All(job) => return self.step_all(job),
            Check => return self.check(),
            Feed => return feeds::read_all(self),
            Close => return self.close(),
            LetGo => self.let_go(),
        }
        Ok(())
    }

    fn effects(&self) -> Vec<Change> {
        let number = self.model.last + 1;
        let mut changes = Vec::new();
        let mut add = |keyspace, key: &str, effect| {
            let key = key.as_bytes().to_vec();
            changes.push(Change {
                keyspace,
                key,
                effect,
            });
        };
        for place in self.model.live(self.model.last) {
            let merge = || Effect::Merge(format!("+{number}").into_bytes());
            add(place, "merged", merge());
            add(place, "twice", merge());
            add(
                place,
                "expiring",
                Effect::PutExpiring(5_000, value(number, 9)),
            );
            add(
                place,
                "batch 2",
                Effect::DeleteTo(Some(b"load 05".to_vec())),
            );
            add(place, "batch 3", merge());
            add(place, "merged", merge());
        }
        changes
    }

    fn load_everywhere(&mut self, count: u64) -> Result<()> {
        for place in self.model.live(self.model.last) {
            let number = self.model.last + 1;
            let put = |at| change(place, &format!("load {at:02}"), Some(value(number, 200)));
            self.load((0..count).map(put).collect())?;
        }
        Ok(())
    }

    fn compact_everywhere(&mut self) -> Result<()> {
        for place in self.model.live(self.model.last) {
            let keyspace = self.db().keyspace(&self.model.keyspaces[place].name)?;
            keyspace.compact_range(..)?;
            self.model.promise(Durability::Disk);
        }
        Ok(())
    }

    fn everywhere(&self, bytes: usize) -> Vec<Change> {
        let number = self.model.last + 1;
        let mut changes = Vec::new();
        for place in self.model.live(self.model.last) {
            let new = Some(value(number, bytes));
            changes.push(change(place, "twice", Some(value(number, 1))));
            changes.push(change(place, &format!("batch {number}"), new.clone()));
            changes.push(change(place, &format!("batch {}", number / 2), None));
            changes.push(change(place, "twice", new));
        }
        changes
    }
}

fn change(keyspace: usize, key: &str, value: Option<Vec<u8>>) -> Change {
    let key = key.as_bytes().to_vec();
    let effect = value.map_or(Effect::Delete, Effect::Put);
    Change {
        keyspace,
        key,
        effect,
    }
}

/// Whether an error says that the store takes no more writes.
pub fn is_final(error: &Error) -> bool {
    matches!(error, Error::OutcomeUnknown { .. } | Error::Poisoned { .. })
}
