//! Does a run's operations on the store and on the model.

mod end;
mod feed;

use std::collections::VecDeque;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::model::{Change, Model, Record, within};
use super::{FOLDER, KEYS, Machine, OTHER, check, key_of, value};
use crate::api::{Db, ReadView, Ticket};
use crate::engine::{Job, WriteBatch};
use crate::error::{Error, Result};
use crate::testing::{Fault, FaultKind, FaultVfs, Input, MemoryVfs, OperationKind};
use crate::types::Durability;

/// The most bytes of values that a run writes.
const BYTES_MAX: usize = 220 << 10;
/// A job that finds more to do than this never ends.
const JOB_STEPS_MAX: usize = 500;

/// A write in the commit queue.
struct Pending {
    record: Record,
    durability: Durability,
    ticket: Ticket,
}

/// A store at work.
pub(super) struct Run {
    machine: Machine,
    memory: MemoryVfs,
    faults: FaultVfs,
    db: Option<Db>,
    model: Model,
    pending: VecDeque<Pending>,
    views: Vec<ReadView>,
    /// Whether anything has been written since the store was opened.
    in_use: bool,
    /// Whether the system may still show what a failed sync has lost: the process died, the machine
    /// didn't. A writer's open reads past that; a reader beside it doesn't.
    haunted: bool,
    written: u64,
    bytes: usize,
}

impl Run {
    pub fn new(machine: Machine) -> Self {
        let memory = MemoryVfs::new();
        let mut run = Self {
            machine,
            faults: FaultVfs::on_memory(&memory),
            memory,
            db: None,
            model: Model::default(),
            pending: VecDeque::new(),
            views: Vec::new(),
            in_use: false,
            haunted: false,
            written: 0,
            bytes: 0,
        };
        run.open(0);
        run
    }

    /// The end: everything once more.
    pub fn finish(mut self, input: &mut Input<'_>) {
        self.go_down(input);
        self.open_after(input);
        let found = check::whole(self.db(), &self.model.now());
        found.unwrap_or_else(|error| panic!("at the end: {error}"));
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the store is open")
    }

    /// Opens the store and checks all of it; it must have kept the records through `floor`.
    fn open(&mut self, floor: u64) {
        self.faults = FaultVfs::on_memory(&self.memory);
        let vfs = Arc::new(self.faults.clone());
        let opened = self.machine.options().vfs(vfs).open();
        let db = opened.unwrap_or_else(|error| panic!("it doesn't open: {error}"));
        let damage = &db.recovery_report().damage;
        assert!(damage.is_empty(), "damage that nobody has done: {damage:?}");
        let last = db.last_index().0;
        let most = self.model.last_possible();
        assert!(
            (floor..=most).contains(&last),
            "record {last} is the last, of {floor} to {most}"
        );
        self.model.reopened(last);
        let found = check::whole(&db, &self.model.now());
        found.unwrap_or_else(|error| panic!("opened, and can't be read: {error}"));
        self.db = Some(db);
        self.in_use = false;
    }

    pub fn step(&mut self, input: &mut Input<'_>) {
        let outcome = self.act(input);
        if let Err(error) = outcome {
            self.excuse(&error);
        }
        if self.faults.crashed() {
            self.lose_power(input);
        }
    }

    /// An error needs a reason; a disk that fails is none for calling what it holds damaged.
    fn excuse(&self, error: &Error) {
        if self.faults.crashed() {
            return;
        }
        assert!(self.faults.faults_hit() > 0, "{error:?}");
        let is_honest = matches!(
            error,
            Error::Io { .. }
                | Error::NoSpace { .. }
                | Error::OutcomeUnknown { .. }
                | Error::Poisoned { .. }
        );
        assert!(is_honest, "a failing disk led to {error:?}");
    }

    fn act(&mut self, input: &mut Input<'_>) -> Result<()> {
        match input.u8() % 32 {
            0..=3 => self.write_shortly(input),
            4..=9 => self.write(input),
            10 | 11 => self.submit(input),
            12 | 13 => self.step_job(input.pick(&Job::ALL)).map(drop),
            14 | 15 => self.step_all(input.pick(&Job::ALL)),
            16 => self.sync(),
            17 | 18 => self.flush(),
            19 | 20 => self.look(input),
            21 | 22 => self.look_at_view(input),
            23 => self.come_or_go(),
            24 => {
                let by = Duration::from_millis(input.below(25));
                self.machine.clock.advance(by);
                Ok(())
            }
            25 => self.open_beside(),
            26 | 27 => {
                self.faults.crash_after_changes(input.below(40));
                Ok(())
            }
            28 => {
                self.inject(input);
                Ok(())
            }
            29 => self.read_feed(input),
            _ => {
                self.go_down(input);
                self.open_after(input);
                Ok(())
            }
        }
    }

    fn change(&mut self, input: &mut Input<'_>) -> Change {
        let what = input.u8();
        let in_other = what & 1 == 1 && self.model.now().other.is_some();
        let key = key_of(input.u8() % KEYS);
        let most = [20, 200, 200, 2_000, 2_000, 9_000, 30_000, 0][usize::from(what >> 5)];
        let bytes = input.place(most + 1);
        self.written += 1;
        let fits = self.bytes + bytes <= BYTES_MAX;
        let value = (what & 6 != 0 && fits).then(|| value(self.written, bytes));
        self.bytes += value.as_ref().map_or(0, Vec::len);
        Change {
            in_other,
            key,
            value,
        }
    }

    fn changes(&mut self, input: &mut Input<'_>) -> Vec<Change> {
        let count = 1 + input.below(5);
        (0..count).map(|_| self.change(input)).collect()
    }

    fn batch(&self, changes: &[Change]) -> Result<WriteBatch> {
        let mut batch = WriteBatch::new();
        for change in changes {
            let name = if change.in_other { OTHER } else { "default" };
            let keyspace = self.db().keyspace(name)?;
            match &change.value {
                Some(value) => batch.put_in(&keyspace, &change.key, value),
                None => batch.delete_in(&keyspace, &change.key),
            };
        }
        Ok(batch)
    }

    fn write_shortly(&mut self, input: &mut Input<'_>) -> Result<()> {
        let mut change = self.change(input);
        change.in_other = false;
        let outcome = match &change.value {
            Some(value) => self.db().put(&change.key, value),
            None => self.db().delete(&change.key),
        };
        self.note(Record::Batch(vec![change]), Durability::Disk, outcome)
    }

    fn write(&mut self, input: &mut Input<'_>) -> Result<()> {
        let durability = durability(input);
        let changes = self.changes(input);
        let outcome = self.db().write_with(self.batch(&changes)?, durability);
        self.note(Record::Batch(changes), durability, outcome)
    }

    fn submit(&mut self, input: &mut Input<'_>) -> Result<()> {
        let durability = durability(input);
        let changes = self.changes(input);
        let ticket = self.db().submit(self.batch(&changes)?, durability)?;
        self.pending.push_back(Pending {
            record: Record::Batch(changes),
            durability,
            ticket,
        });
        Ok(())
    }

    /// The keyspace that comes and goes does so.
    fn come_or_go(&mut self) -> Result<()> {
        // What waits in the queue may be about it.
        self.step_all(Job::Commit)?;
        let (record, outcome) = match self.model.now().other {
            None => (Record::Create, self.db().create_keyspace(OTHER).map(drop)),
            Some(_) => (Record::Drop, self.db().drop_keyspace(OTHER)),
        };
        self.note(record, Durability::Disk, outcome)
    }

    /// Notes how a write went that took all that waited with it.
    fn note(&mut self, record: Record, durability: Durability, outcome: Result<()>) -> Result<()> {
        self.settle();
        match &outcome {
            Ok(()) => self.acknowledge(record, durability),
            Err(Error::OutcomeUnknown { .. }) => self.model.leave_open(record),
            Err(_) => {}
        }
        outcome
    }

    fn acknowledge(&mut self, record: Record, durability: Durability) {
        self.model.acknowledge(record, durability);
        self.in_use = true;
        if durability == Durability::Disk && self.machine.identifies_at_once() {
            self.model.identified = self.model.disk;
        }
    }

    /// Notes the outcomes of what has been taken out of the queue; the first error, if any.
    fn settle(&mut self) -> Option<Error> {
        let mut first = None;
        while let Some(outcome) = self.pending.front().and_then(|one| one.ticket.take()) {
            let Some(one) = self.pending.pop_front() else {
                break;
            };
            match outcome {
                Ok(index) => {
                    assert_eq!(
                        index.0,
                        self.model.last() + 1,
                        "the index of a queued write"
                    );
                    self.acknowledge(one.record, one.durability);
                }
                Err(error) => {
                    if matches!(error, Error::OutcomeUnknown { .. }) {
                        self.model.leave_open(one.record);
                    }
                    first.get_or_insert(error);
                }
            }
        }
        first
    }

    fn step_job(&mut self, job: Job) -> Result<bool> {
        let outcome = self.db().step(job);
        if let Some(error) = self.settle() {
            return Err(error);
        }
        let done = outcome?;
        if job == Job::SyncIdentifiers && self.in_use && self.db().statistics().latched.is_none() {
            self.model.identified = self.model.disk;
        }
        Ok(done)
    }

    fn step_all(&mut self, job: Job) -> Result<()> {
        for _ in 0..JOB_STEPS_MAX {
            if !self.step_job(job)? {
                return Ok(());
            }
        }
        panic!("{job:?} finds no end");
    }

    fn sync(&mut self) -> Result<()> {
        self.db().sync()?;
        self.model.promise(Durability::Disk);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.db().flush()?;
        self.model.promise(Durability::Disk);
        self.model.identified = self.model.last();
        Ok(())
    }

    /// A range, from both ends, and what is in the middle.
    fn look(&mut self, input: &mut Input<'_>) -> Result<()> {
        let state = self.model.now();
        let what = input.u8();
        let in_other = what & 1 == 1 && state.other.is_some();
        let Some(pairs) = state.pairs(in_other) else {
            return Ok(());
        };
        let keyspace = self
            .db()
            .keyspace(if in_other { OTHER } else { "default" })?;
        if what & 2 == 2 {
            return check::whole(self.db(), &state);
        }
        let mut bound = |kind: u8| {
            let key = key_of(input.u8());
            match kind % 3 {
                0 => Bound::Included(key),
                1 => Bound::Excluded(key),
                _ => Bound::Unbounded,
            }
        };
        let (lower, upper) = (bound(what >> 2), bound(what >> 4));
        let mut expected: VecDeque<_> = within(pairs, &lower, &upper).into();
        let mut range = keyspace.range((lower, upper))?;
        let mut turns = input.u8();
        loop {
            turns = turns.rotate_left(1);
            let (found, expected) = match turns & 1 {
                0 => (range.next(), expected.pop_front()),
                _ => (range.next_back(), expected.pop_back()),
            };
            let found = found.transpose()?;
            let found = found.map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert!(found == expected, "{found:?} instead of {expected:?}");
            if found.is_none() {
                return Ok(());
            }
        }
    }

    fn look_at_view(&mut self, input: &mut Input<'_>) -> Result<()> {
        let what = input.u8();
        if self.views.is_empty() || what & 3 == 0 && self.views.len() < 4 {
            self.views.push(self.db().view());
            return Ok(());
        }
        let at = usize::from(what >> 2) % self.views.len();
        let view = &self.views[at];
        // A keyspace of the same name that came later isn't the one that the view saw.
        let mut state = self.model.at(view.index().0);
        state.other = None;
        check::view(self.db(), view, &state)?;
        if what & 3 == 3 {
            self.views.swap_remove(at);
        }
        Ok(())
    }

    /// Who reads beside the writer sees a moment of the store, and changes nothing.
    fn open_beside(&mut self) -> Result<()> {
        let before = files(&self.memory);
        let options = self.machine.options().vfs(Arc::new(self.faults.clone()));
        let beside = options.read_only(true).open()?;
        assert!(before == files(&self.memory), "a read-only open wrote");
        if self.haunted && !self.in_use {
            return Ok(());
        }
        let last = beside.last_index().0;
        let most = self.model.at_most();
        if self.faults.faults_hit() == 0 {
            assert!(
                (self.model.process()..=most.last()).contains(&last),
                "{last}"
            );
        }
        check::whole(&beside, &most.at(last))
    }

    /// The disk will fail once.
    fn inject(&mut self, input: &mut Input<'_>) {
        let kind = input.pick(&[FaultKind::Io, FaultKind::NoSpace]);
        let only: &[OperationKind] = match input.u8() % 4 {
            0 => &[OperationKind::Write],
            1 => &[OperationKind::SyncData, OperationKind::SyncDir],
            2 => &[OperationKind::Read],
            _ => &[
                OperationKind::Create,
                OperationKind::Preallocate,
                OperationKind::Rename,
            ],
        };
        let n = 1 + input.below(12);
        self.faults.inject(Fault::once(n, kind).only(only));
    }
}

fn durability(input: &mut Input<'_>) -> Durability {
    input.pick(&[Durability::Buffered, Durability::Process, Durability::Disk])
}

/// Every file with its bytes, the lock aside.
fn files(disk: &MemoryVfs) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.file_names(FOLDER).into_iter();
    let names = names.filter(|name| name != "LOCK");
    names
        .map(|name| {
            let bytes = disk.read_file(Path::new(FOLDER).join(&name));
            (name, bytes)
        })
        .collect()
}
