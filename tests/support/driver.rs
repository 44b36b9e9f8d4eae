//! Runs a store and its model side by side. Errors are handed back, and what they leave in doubt is
//! noted; wrong answers panic.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::Duration;

use kintsu::environment::Clock;
use kintsu::testing::MemoryVfs;
use kintsu::{
    Append, Db, Durability, Error, Index, Job, KeyspaceOptions, Options, Result, Ticket, WriteBatch,
};

use super::check::{self, Survived};
use super::model::{Change, Effect, Model, Record};
use super::store::Machine;

/// How a store's options differ from the tiny ones.
pub type Tune = fn(Options) -> Options;

/// A write in the commit queue.
struct Pending {
    record: Record,
    durability: Durability,
    ticket: Ticket,
}

/// A store, or the lack of one, and what it must hold.
pub struct Driver {
    pub machine: Machine,
    pub model: Model,
    pub db: Option<Db>,
    pub tune: Box<dyn Fn(Options) -> Options + Send>,
    pending: VecDeque<Pending>,
    /// The last record when the store was left, and how far back it remembered for transactions.
    left_at: Option<(Index, Index)>,
    /// Faults that had struck when the store was opened last.
    pub faults_excused: u64,
}

impl Driver {
    /// Nothing is opened yet.
    pub fn new(machine: Machine) -> Self {
        Self::resume(machine, Model::default())
    }

    /// Nothing is opened yet; the disk holds what the model says.
    pub fn resume(machine: Machine, model: Model) -> Self {
        Self {
            machine,
            model,
            db: None,
            tune: Box::new(|options| options),
            pending: VecDeque::new(),
            left_at: None,
            faults_excused: 0,
        }
    }

    #[must_use]
    pub fn tuned(mut self, tune: impl Fn(Options) -> Options + Send + 'static) -> Self {
        self.tune = Box::new(tune);
        self
    }

    pub fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    pub fn options(&self) -> Options {
        (self.tune)(self.machine.options())
    }

    /// Opens the store and checks all of it.
    pub fn open(&mut self, survived: Survived) -> Result<()> {
        assert!(self.db.is_none());
        let db = self.options().open()?;
        if let Some((last, first)) = self.left_at.take()
            && last == db.last_index()
        {
            assert_eq!(db.statistics().conflict_window_first, first);
        }
        check::recovered(&db, &mut self.model, survived)?;
        self.db = Some(db);
        Ok(())
    }

    /// Goes on with another disk: what a crash or a kill has left of this one.
    pub fn reboot(&mut self, memory: MemoryVfs) {
        self.let_go();
        self.machine = self.machine.rebooted(memory);
    }

    /// Drops the store without closing it.
    pub fn let_go(&mut self) {
        self.pending.clear();
        self.left_at = self.db.take().as_ref().map(window_of);
    }

    /// Checks everything against the model.
    pub fn check(&self) -> Result<()> {
        check::whole(self.db(), &self.model)
    }

    pub fn batch(&self, changes: &[Change]) -> Result<WriteBatch> {
        let mut batch = WriteBatch::new();
        for change in changes {
            let key = &change.key;
            if change.keyspace == 0 {
                match &change.effect {
                    Effect::Put(value) => batch.put(key, value),
                    Effect::Delete => batch.delete(key),
                    Effect::Merge(operand) => batch.merge(key, operand),
                    Effect::PutExpiring(us, value) => batch.put_expiring(key, value, after(*us)),
                    Effect::DeleteTo(to) => batch.delete_range(range(key, to)),
                };
                continue;
            }
            let name = &self.model.keyspaces[change.keyspace].name;
            let keyspace = &self.db().keyspace(name)?;
            match &change.effect {
                Effect::Put(value) => batch.put_in(keyspace, key, value),
                Effect::Delete => batch.delete_in(keyspace, key),
                Effect::Merge(operand) => batch.merge_in(keyspace, key, operand),
                Effect::PutExpiring(us, value) => {
                    batch.put_expiring_in(keyspace, key, value, after(*us))
                }
                Effect::DeleteTo(to) => batch.delete_range_in(keyspace, range(key, to)),
            };
        }
        Ok(batch)
    }

    pub fn write(&mut self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        let batch = self.batch(&changes)?;
        let outcome = self.db().write_with(batch, durability);
        self.note(Record::Batch(changes), durability, outcome)
    }

    /// A write by one of the short ways, with the store's own durability, which is `Disk`.
    pub fn write_shortly(&mut self, change: Change) -> Result<()> {
        let (key, db) = (&change.key, self.db());
        let outcome = if change.keyspace == 0 {
            match &change.effect {
                Effect::Put(value) => db.put(key, value),
                Effect::Delete => db.delete(key),
                Effect::Merge(operand) => db.merge(key, operand),
                Effect::PutExpiring(us, value) => db.put_expiring(key, value, after(*us)),
                Effect::DeleteTo(to) => db.delete_range(range(key, to)),
            }
        } else {
            let keyspace = db.keyspace(&self.model.keyspaces[change.keyspace].name)?;
            match &change.effect {
                Effect::Put(value) => keyspace.put(key, value),
                Effect::Delete => keyspace.delete(key),
                Effect::Merge(operand) => keyspace.merge(key, operand),
                Effect::PutExpiring(us, value) => keyspace.put_expiring(key, value, after(*us)),
                Effect::DeleteTo(to) => keyspace.delete_range(range(key, to)),
            }
        };
        self.note(Record::Batch(vec![change]), Durability::Disk, outcome)
    }

    /// Loads ascending keys into a keyspace.
    pub fn load(&mut self, changes: Vec<Change>) -> Result<()> {
        let place = changes.first().map_or(0, |change| change.keyspace);
        let keyspace = self.db().keyspace(&self.model.keyspaces[place].name)?;
        let load = || -> Result<()> {
            let mut load = keyspace.bulk_load()?;
            for change in &changes {
                let Effect::Put(value) = &change.effect else {
                    panic!("{change:?} can't be loaded");
                };
                load.add(&change.key, value)?;
            }
            load.commit().map(drop)
        };
        let outcome = load();
        if changes.is_empty() {
            return outcome;
        }
        self.note(Record::Load(changes), Durability::Disk, outcome)
    }

    /// Notes how a write went that was taken through with all that waited before it.
    pub fn note(
        &mut self,
        record: Record,
        durability: Durability,
        outcome: Result<()>,
    ) -> Result<()> {
        self.settle();
        self.model.clock_us = self.machine.clock.wall_us();
        match &outcome {
            Ok(()) => self.model.acknowledge(&record, durability),
            Err(Error::OutcomeUnknown { .. }) => self.model.doubt(record),
            Err(_) => {}
        }
        outcome
    }

    /// Puts a write into the queue.
    pub fn submit(&mut self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        let ticket = self.db().submit(self.batch(&changes)?, durability)?;
        let record = Record::Batch(changes);
        self.pending.push_back(Pending {
            record,
            durability,
            ticket,
        });
        Ok(())
    }

    /// Notes the outcomes of what has been taken out of the queue.
    pub fn settle(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        self.model.clock_us = self.machine.clock.wall_us();
        while let Some(first) = self.pending.front() {
            let Some(outcome) = first.ticket.take() else {
                break;
            };
            let Some(Pending {
                record, durability, ..
            }) = self.pending.pop_front()
            else {
                break;
            };
            match outcome {
                Ok(index) => {
                    assert_eq!(index.0, self.model.last + 1, "the index of a queued write");
                    self.model.acknowledge(&record, durability);
                }
                Err(error) => {
                    if matches!(error, Error::OutcomeUnknown { .. }) {
                        self.model.doubt(record);
                    }
                    errors.push(error);
                }
            }
        }
        errors
    }

    pub fn create_keyspace(&mut self, name: &str) -> Result<()> {
        let options = KeyspaceOptions::default().merge_operator(Append::NAME);
        let outcome = self.db().create_keyspace_with(name, options).map(drop);
        self.note(Record::Create(name.into()), Durability::Disk, outcome)
    }

    pub fn drop_keyspace(&mut self, name: &str) -> Result<()> {
        let outcome = self.db().drop_keyspace(name);
        // Nothing in the queue can have changed what the name stands for.
        let Some(place) = self.model.find(name) else {
            self.settle();
            return outcome;
        };
        self.note(Record::Drop(place), Durability::Disk, outcome)
    }

    pub fn sync(&mut self) -> Result<()> {
        self.db().sync()?;
        self.model.promise(Durability::Disk);
        Ok(())
    }

    pub fn flush(&mut self) -> Result<()> {
        self.db().flush()?;
        self.model.promise(Durability::Disk);
        Ok(())
    }

    /// Steps a job once; the first error of what it took out of the queue, if any.
    pub fn step(&mut self, job: Job) -> Result<bool> {
        let outcome = self.db().step(job);
        let mut errors = self.settle();
        match outcome {
            Ok(_) if !errors.is_empty() => Err(errors.swap_remove(0)),
            other => other,
        }
    }

    /// Steps a job until there is nothing to do.
    pub fn step_all(&mut self, job: Job) -> Result<()> {
        for _ in 0..1000 {
            if !self.step(job)? {
                return Ok(());
            }
        }
        panic!("{job:?} finds no end");
    }

    /// Closes the store. It is let go even if that fails.
    pub fn close(&mut self) -> Result<()> {
        self.pending.clear();
        let Some(db) = self.db.take() else {
            return Ok(());
        };
        self.left_at = Some(window_of(&db));
        db.close()?;
        self.model.promise(Durability::Disk);
        Ok(())
    }
}

fn window_of(db: &Db) -> (Index, Index) {
    let statistics = db.statistics();
    (statistics.last_index, statistics.conflict_window_first)
}

pub fn after(us: u64) -> Duration {
    Duration::from_micros(us)
}

pub fn range<'a>(from: &'a [u8], to: &'a Option<Vec<u8>>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(from), to)
}
