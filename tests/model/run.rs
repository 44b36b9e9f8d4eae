//! Does a run's operations on the store and on the model, and compares.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

use kintsu::testing::TearUnit;
use kintsu::{Durability, Error, Keyspace, Options, Range, ReadView, Result};

use crate::backup::{BackupCounts, Backups};
use crate::operation::{Advance, Change, Down, KEYS, NAMES, Operation, Pick, Side, What};
use crate::support::backup::REPOSITORY;
use crate::support::check::{self, Survived};
use crate::support::driver::Driver;
use crate::support::feeds::{FeedCounts, Feeds};
use crate::support::model::{self, Effect, Pair};
use crate::support::store::{Machine, varied};
use crate::support::workload::value;
use crate::transaction::HeldTransaction;

/// How often what was done.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    runs: u64,
    operations: u64,
    records: u64,
    reads: u64,
    commits: u64,
    conflicts: u64,
    reopened: u64,
    power_lost: u64,
    records_lost: u64,
    flushes_and_compactions: u64,
    feeds: FeedCounts,
    backups: BackupCounts,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.operations += other.operations;
        self.records += other.records;
        self.reads += other.reads;
        self.commits += other.commits;
        self.conflicts += other.conflicts;
        self.reopened += other.reopened;
        self.power_lost += other.power_lost;
        self.records_lost += other.records_lost;
        self.flushes_and_compactions += other.flushes_and_compactions;
        self.feeds.add(&other.feeds);
        self.backups.add(&other.backups);
    }
}

/// An iterator, and what it has yet to give.
struct Held {
    range: Range,
    expected: VecDeque<Pair>,
}

/// A run at work.
pub struct Run {
    driver: Driver,
    views: Vec<ReadView>,
    ranges: Vec<Held>,
    keyspaces: Vec<Keyspace>,
    transactions: Vec<HeldTransaction>,
    feeds: Feeds,
    backups: Backups,
    /// What the disk will be like once the power has failed, if that is to happen.
    cut: Option<(u64, TearUnit)>,
    written: u64,
    counts: Counts,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let driver = Driver::new(Machine::new(seed));
        let driver = driver.tuned(move |options: Options| {
            let options = varied(options, seed);
            match seed % 6 {
                0 => options.archive_to(REPOSITORY),
                // Here the log waits for the archive, whatever happens.
                3 => options
                    .archive_to(REPOSITORY)
                    .log_retained_bytes_max(1 << 30),
                _ => options,
            }
        });
        let mut run = Self {
            driver,
            views: Vec::new(),
            ranges: Vec::new(),
            keyspaces: Vec::new(),
            transactions: Vec::new(),
            feeds: Feeds::default(),
            backups: Backups::new(seed.is_multiple_of(6)),
            cut: None,
            written: 0,
            counts: Counts {
                runs: 1,
                ..Counts::default()
            },
        };
        run.driver.open(Survived::PowerLoss).expect("a new store");
        run
    }

    /// The end: everything once more, after a last clean reopening.
    pub fn finish(mut self) -> Counts {
        self.driver.machine.faults.crash_after_changes(u64::MAX);
        self.cut = None;
        if self.driver.machine.faults.crashed() {
            self.lose_power(1, TearUnit::Sector);
        }
        self.go_down(Down::Close);
        self.counts.feeds = self.feeds.counts.clone();
        self.counts.backups = self.backups.counts.clone();
        self.counts.records = self.driver.model.last + self.counts.records_lost;
        self.counts
    }

    /// Does one operation. If the power fails in it, the machine is started again.
    pub fn take(&mut self, operation: &Operation) {
        self.counts.operations += 1;
        let outcome = self.act(operation);
        match outcome {
            Err(error) if self.cut.is_none() || !self.driver.machine.faults.crashed() => {
                panic!("{error:?}");
            }
            _ => {}
        }
        if self.driver.machine.faults.crashed() {
            let (seed, unit) = self.cut.take().unwrap();
            self.lose_power(seed, unit);
        }
    }

    fn act(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Short(change) => {
                let change = self.change(change);
                self.driver.write_shortly(change)?;
            }
            Operation::Write(changes, durability) => {
                let changes = self.changes(changes);
                self.write(changes, *durability)?;
            }
            Operation::Submit(changes, durability) => {
                let changes = self.changes(changes);
                if !changes.is_empty() {
                    self.driver.submit(changes, *durability)?;
                }
            }
            Operation::Create(pick) => self.create(*pick)?,
            Operation::Drop(pick) => self.drop_keyspace(*pick)?,
            Operation::Sync => self.driver.sync()?,
            Operation::Flush => self.driver.flush()?,
            Operation::Load(keyspace, keys, bytes) => self.load(*keyspace, keys, *bytes)?,
            Operation::Compact(keyspace, lower, upper) => {
                self.compact(*keyspace, *lower, *upper)?
            }
            Operation::Step(job) => {
                let done = self.driver.step(*job)?;
                self.counts.flushes_and_compactions += u64::from(done);
            }
            Operation::AllJobs(order) => {
                for job in order {
                    self.driver.step_all(*job)?;
                }
            }
            Operation::AdvanceClock(ms) => {
                let by = std::time::Duration::from_millis(u64::from(*ms));
                self.driver.machine.clock.advance(by);
            }
            Operation::CutPowerAfter(changes, seed, unit) => {
                self.driver
                    .machine
                    .faults
                    .crash_after_changes(u64::from(*changes));
                self.cut = Some((*seed, *unit));
            }
            Operation::Snapshot => self.backups.snapshot(&mut self.driver)?,
            Operation::Backup => self.backups.back_up(&mut self.driver)?,
            Operation::Archive => self.backups.archive(&mut self.driver)?,
            Operation::Restore(pick) => {
                let last = self.driver.model.last;
                let wanted = pick.map(|pick| u64::from(pick) % (last + 3));
                self.backups.restore(&self.driver, wanted);
            }
            Operation::Down(down) => self.go_down(*down),
            _ => {
                self.counts.reads += 1;
                self.look(operation)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, changes: Vec<model::Change>, durability: Durability) -> Result<()> {
        if changes.is_empty() {
            // An empty batch is no record, but what came before it has its durability.
            let outcome = self
                .driver
                .db()
                .write_with(self.driver.batch(&[])?, durability);
            self.driver.settle();
            outcome?;
            if durability == Durability::Disk {
                self.driver.model.promise(Durability::Disk);
            }
            return Ok(());
        }
        self.driver.write(changes, durability)
    }

    fn change(
        &mut self,
        Change {
            keyspace,
            key,
            what,
        }: &Change,
    ) -> model::Change {
        self.written += 1;
        let keyspace = self.live(*keyspace);
        let value = |bytes: u32| value(self.written, bytes as usize);
        let effect = match *what {
            What::Put(bytes) => Effect::Put(value(bytes)),
            What::Delete => Effect::Delete,
            What::Merge(bytes) => Effect::Merge(value(bytes)),
            What::PutExpiring(ms, bytes) => Effect::PutExpiring(u64::from(ms) * 1000, value(bytes)),
            What::DeleteTo(to) => Effect::DeleteTo(to.map(key_of)),
        };
        // The range of a deletion is a matter of its ends, whichever comes first.
        let (mut key, mut effect) = (key_of(*key), effect);
        if let Effect::DeleteTo(Some(to)) = &mut effect {
            if *to < key {
                std::mem::swap(to, &mut key);
            }
            // An empty one isn't even written.
            if *to == key {
                effect = Effect::Delete;
            }
        }
        model::Change {
            keyspace,
            key,
            effect,
        }
    }

    fn changes(&mut self, changes: &[Change]) -> Vec<model::Change> {
        changes.iter().map(|change| self.change(change)).collect()
    }

    /// A keyspace that is there; the default one more often than others.
    fn live(&self, pick: Pick) -> usize {
        let live = self.driver.model.live(self.driver.model.last);
        let at = (usize::from(pick) % (live.len() + 2)).saturating_sub(2);
        live[at]
    }

    fn load(&mut self, keyspace: Pick, keys: &[Pick], bytes: u32) -> Result<()> {
        let place = self.live(keyspace);
        let keys: BTreeSet<Vec<u8>> = keys.iter().map(|key| key_of(*key)).collect();
        let changes = keys.into_iter().map(|key| {
            self.written += 1;
            model::Change {
                keyspace: place,
                key,
                effect: Effect::Put(value(self.written, bytes as usize)),
            }
        });
        let changes = changes.collect();
        self.driver.load(changes)
    }

    fn compact(&mut self, keyspace: Pick, lower: Side, upper: Side) -> Result<()> {
        let place = self.live(keyspace);
        let bounds = (lower.bound(key_of), upper.bound(key_of));
        match place {
            0 => self.driver.db().compact_range(bounds)?,
            place => self.keyspace(place)?.compact_range(bounds)?,
        }
        self.driver.model.promise(Durability::Disk);
        Ok(())
    }

    fn keyspace(&self, place: usize) -> Result<Keyspace> {
        self.driver
            .db()
            .keyspace(&self.driver.model.keyspaces[place].name)
    }

    fn create(&mut self, pick: Pick) -> Result<()> {
        let name = name_of(pick);
        let exists = self.driver.model.find(&name).is_some();
        match self.driver.create_keyspace(&name) {
            Err(Error::KeyspaceExists { .. }) if exists => Ok(()),
            other => {
                assert!(other.is_err() || !exists, "{name} was created twice");
                other
            }
        }
    }

    fn drop_keyspace(&mut self, pick: Pick) -> Result<()> {
        let name = name_of(pick);
        let exists = self.driver.model.find(&name).is_some();
        match self.driver.drop_keyspace(&name) {
            Err(Error::KeyspaceNotFound { .. }) if !exists => Ok(()),
            other => {
                assert!(other.is_err() || exists, "{name} was dropped twice");
                other
            }
        }
    }

    fn look(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Get(keyspace, key) => self.get(*keyspace, *key),
            Operation::Range(keyspace, lower, upper, moves) => {
                let mut held = self.begin(*keyspace, *lower, *upper)?;
                moves.iter().try_for_each(|advance| held.advance(*advance))
            }
            Operation::Prefix(keyspace, key, bytes) => self.prefix(*keyspace, *key, *bytes),
            Operation::CheckAll => self.driver.check(),
            Operation::OpenBeside => self.open_beside(),
            Operation::OpenTwice => {
                let second = self.driver.options().open();
                assert!(second.is_err());
                let crashed = self.driver.machine.faults.crashed();
                assert!(
                    crashed || matches!(second, Err(Error::Locked { .. })),
                    "{second:?}"
                );
                Ok(())
            }
            _ => self.hold(operation),
        }
    }

    fn hold(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::HoldView => self.views.push(self.driver.db().view()),
            Operation::ReadView(view, keyspace, lower, upper) => {
                self.read_view(*view, *keyspace, *lower, *upper)?;
            }
            Operation::LetViewGo(pick) => drop(take_one(&mut self.views, *pick)),
            Operation::HoldRange(keyspace, lower, upper) => {
                let held = self.begin(*keyspace, *lower, *upper)?;
                self.ranges.push(held);
            }
            Operation::AdvanceRange(pick, advance) => {
                if let Some(held) = pick_one(&mut self.ranges, *pick) {
                    held.advance(*advance)?;
                }
            }
            Operation::LetRangeGo(pick) => drop(take_one(&mut self.ranges, *pick)),
            Operation::HoldKeyspace(pick) => {
                let keyspace = self.keyspace(self.live(*pick))?;
                self.keyspaces.push(keyspace);
            }
            Operation::UseHeldKeyspace(pick) => self.use_held(*pick)?,
            other => self.transact(other)?,
        }
        Ok(())
    }

    fn transact(&mut self, operation: &Operation) -> Result<()> {
        match operation {
            Operation::Begin => {
                let held = HeldTransaction::begin(&self.driver)?;
                self.transactions.push(held);
            }
            Operation::TransactionGet(transaction, keyspace, key) => {
                let (place, key) = (self.live(*keyspace), key_of(*key));
                if let Some(held) = pick_one(&mut self.transactions, *transaction) {
                    held.get(&self.driver, place, &key)?;
                }
            }
            Operation::TransactionRange(transaction, keyspace, lower, upper, moves) => {
                let place = self.live(*keyspace);
                let bounds = (lower.bound(key_of), upper.bound(key_of));
                if let Some(held) = pick_one(&mut self.transactions, *transaction) {
                    held.range(&self.driver, place, bounds, moves)?;
                }
            }
            Operation::TransactionWrite(transaction, change) => {
                let change = self.change(change);
                if let Some(held) = pick_one(&mut self.transactions, *transaction) {
                    held.write(&self.driver, change)?;
                }
            }
            Operation::Savepoint(transaction) => {
                if let Some(held) = pick_one(&mut self.transactions, *transaction) {
                    held.savepoint();
                }
            }
            Operation::RollBack(transaction) => {
                if let Some(held) = pick_one(&mut self.transactions, *transaction) {
                    held.roll_back();
                }
            }
            Operation::Commit(transaction, durability) => {
                if let Some(held) = take_one(&mut self.transactions, *transaction) {
                    let committed = held.commit(&mut self.driver, *durability)?;
                    self.counts.commits += u64::from(committed);
                    self.counts.conflicts += u64::from(!committed);
                }
            }
            Operation::Swap(keyspace, key, expected) => self.swap(*keyspace, *key, *expected)?,
            Operation::Subscribe(pick) => {
                self.feeds
                    .begin(self.driver.db(), &self.driver.model, (*pick).into())?;
            }
            Operation::Follow(pick) => {
                let options = self.driver.options();
                let model = &self.driver.model;
                self.feeds.follow(&options, model, (*pick).into())?;
            }
            Operation::ReadFeed(pick, records) => {
                let model = &mut self.driver.model;
                self.feeds.read(model, (*pick).into(), *records)?;
            }
            Operation::LetFeedGo(pick) => self.feeds.let_go((*pick).into()),
            other => panic!("{other:?} is done elsewhere"),
        }
        Ok(())
    }

    /// Swaps what is there, or tries to swap what isn't.
    fn swap(&mut self, keyspace: Pick, key: Pick, expected: bool) -> Result<()> {
        self.written += 1;
        let (place, key) = (self.live(keyspace), key_of(key));
        let new = value(self.written, 20);
        // What waits in the queue comes first, and may have changed it.
        self.driver.step_all(kintsu::Job::Commit)?;
        let found = self.driver.model.get(place, &key, self.driver.model.last);
        let wanted = match expected {
            true => found.clone(),
            false => Some(b"something else".to_vec()),
        };
        let keyspace = self.keyspace(place)?;
        let outcome = keyspace.compare_and_swap(&key, wanted.as_ref(), Some(&new));
        let change = model::Change {
            keyspace: place,
            key,
            effect: Effect::Put(new),
        };
        match outcome {
            Ok(Err(other)) => {
                assert!(!expected);
                assert!(other.as_deref() == found.as_deref());
                Ok(())
            }
            outcome => {
                assert!(expected || outcome.is_err());
                let outcome = outcome.map(drop);
                let record = model::Record::Batch(vec![change]);
                self.driver.note(record, Durability::Disk, outcome)
            }
        }
    }

    fn get(&self, keyspace: Pick, key: Pick) -> Result<()> {
        let (place, key) = (self.live(keyspace), key_of(key));
        let found = if place == 0 {
            self.driver.db().get(&key)?
        } else {
            self.keyspace(place)?.get(&key)?
        };
        let model = &self.driver.model;
        let expected = model.get(place, &key, model.last);
        let tag = |value: &Option<_>| value.as_deref().map(check::tag);
        assert_eq!(found.as_deref().map(check::tag), tag(&expected));
        assert!(found.as_deref() == expected.as_deref());
        Ok(())
    }

    fn begin(&self, keyspace: Pick, lower: Side, upper: Side) -> Result<Held> {
        let place = self.live(keyspace);
        let bounds = (lower.bound(key_of), upper.bound(key_of));
        let range = match place {
            0 => self.driver.db().range(bounds.clone())?,
            _ => self.keyspace(place)?.range(bounds.clone())?,
        };
        let at = self.driver.model.last;
        let expected = self.scan(place, &bounds, at).into();
        Ok(Held { range, expected })
    }

    fn scan(&self, place: usize, bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>), at: u64) -> Vec<Pair> {
        let (lower, upper) = (bounds.0.as_ref(), bounds.1.as_ref());
        let (lower, upper) = (lower.map(Vec::as_slice), upper.map(Vec::as_slice));
        self.driver.model.scan(place, lower, upper, at)
    }

    fn prefix(&self, keyspace: Pick, key: Pick, bytes: u8) -> Result<()> {
        let (place, key) = (self.live(keyspace), key_of(key));
        let prefix = &key[..key.len().min(usize::from(bytes))];
        let model = &self.driver.model;
        let expected = model.scan_prefix(place, prefix, model.last);
        let forward = check::collect(self.keyspace(place)?.prefix(prefix)?)?;
        check::assert_pairs(&forward, &expected, "by prefix");
        let mut reverse = check::collect_back(self.keyspace(place)?.prefix(prefix)?)?;
        reverse.reverse();
        check::assert_pairs(&reverse, &expected, "by prefix, in reverse");
        Ok(())
    }

    fn read_view(&mut self, view: Pick, keyspace: Pick, lower: Side, upper: Side) -> Result<()> {
        let place = self.live(keyspace);
        let Some(view) = pick_one(&mut self.views, view) else {
            return Ok(());
        };
        let (view, keyspace) = (view.clone(), self.keyspace(place)?);
        let at = view.index().0;
        check::keyspace_at(&view, &keyspace, &self.driver.model, place, at)?;
        let bounds = (lower.bound(key_of), upper.bound(key_of));
        let found = check::collect(view.range_in(&keyspace, bounds.clone())?)?;
        check::assert_pairs(&found, &self.scan(place, &bounds, at), "in a view");
        if let Bound::Included(key) = bounds.0 {
            let found = view.get_in(&keyspace, &key)?;
            assert!(found.as_deref() == self.driver.model.get(place, &key, at).as_deref());
        }
        Ok(())
    }

    /// A handle goes on to mean the keyspace that it was made for, also when that is gone and another
    /// has its name.
    fn use_held(&mut self, pick: Pick) -> Result<()> {
        let Some(keyspace) = pick_one(&mut self.keyspaces, pick) else {
            return Ok(());
        };
        match keyspace.get("\u{1}") {
            Ok(_) | Err(Error::KeyspaceNotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A read-only open beside the writer shows what has left the process, and changes nothing.
    fn open_beside(&mut self) -> Result<()> {
        let before = self.driver.machine.files();
        let beside = self.driver.options().read_only(true).open()?;
        assert!(
            before == self.driver.machine.files(),
            "a read-only open wrote"
        );
        let model = &self.driver.model;
        let last = beside.last_index().0;
        assert!(
            (model.process..=model.last).contains(&last),
            "a reader beside sees through {last}, not {} to {}",
            model.process,
            model.last
        );
        let mut model = model.clone();
        model.reopened_at(last);
        check::whole(&beside, &model)?;
        let refused = beside.put("no", "thing");
        assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
        Ok(())
    }

    fn go_down(&mut self, down: Down) {
        let power_was_cut = |run: &mut Self| {
            let crashed = run.driver.machine.faults.crashed();
            if crashed {
                let (seed, unit) = run.cut.take().unwrap();
                run.lose_power(seed, unit);
            }
            crashed
        };
        if power_was_cut(self) {
            return;
        }
        self.driver.settle();
        match down {
            Down::Close | Down::CloseAndPowerLoss(..) => {
                if self.close().is_err() || self.driver.machine.faults.crashed() {
                    assert!(power_was_cut(self), "closing failed");
                    return;
                }
            }
            Down::LetGo => self.forget_handles(),
            Down::Kill | Down::PowerLoss(..) => {}
        }
        match down {
            Down::PowerLoss(seed, unit) | Down::CloseAndPowerLoss(seed, unit) => {
                self.cut = None;
                self.lose_power(seed, unit);
            }
            Down::Kill => {
                self.cut = None;
                let disk = self.driver.machine.memory.kill();
                self.forget_handles();
                self.driver.reboot(disk);
                self.reopen(Survived::ProcessDeath);
            }
            Down::Close | Down::LetGo => {
                self.driver.let_go();
                if !power_was_cut(self) {
                    self.reopen(Survived::ProcessDeath);
                }
            }
        }
    }

    /// Closes the store. Calls answer that it is closed; iterators that were begun go on.
    fn close(&mut self) -> Result<()> {
        let handle = self.driver.db().clone();
        self.driver.close()?;
        assert!(matches!(handle.get("a"), Err(Error::Closed)));
        assert!(matches!(handle.put("a", "b"), Err(Error::Closed)));
        assert!(matches!(handle.sync(), Err(Error::Closed)));
        assert!(matches!(handle.close(), Err(Error::Closed)));
        for view in &self.views {
            assert!(matches!(view.get("a"), Err(Error::Closed)));
        }
        for mut held in std::mem::take(&mut self.ranges) {
            held.advance(Advance {
                back: false,
                steps: 255,
            })?;
        }
        self.feeds.end(&mut self.driver.model)?;
        self.forget_handles();
        Ok(())
    }

    fn lose_power(&mut self, seed: u64, unit: TearUnit) {
        self.counts.power_lost += 1;
        let disk = self.driver.machine.memory.crash(seed, unit);
        self.driver.settle();
        self.forget_handles();
        self.driver.reboot(disk);
        self.reopen(Survived::PowerLoss);
    }

    fn reopen(&mut self, survived: Survived) {
        let before = self.driver.model.last;
        let mut survived = survived;
        while let Err(error) = self.driver.open(survived) {
            // The power can fail while the store is being opened.
            assert!(
                self.driver.machine.faults.crashed(),
                "{survived:?}: {error:?}"
            );
            let (seed, unit) = self.cut.take().unwrap();
            self.counts.power_lost += 1;
            let disk = self.driver.machine.memory.crash(seed, unit);
            self.driver.reboot(disk);
            survived = Survived::PowerLoss;
        }
        self.counts.reopened += 1;
        self.feeds.resume(self.driver.db(), &self.driver.model);
        self.counts.records_lost += before.saturating_sub(self.driver.model.last);
    }

    fn forget_handles(&mut self) {
        self.ranges.clear();
        self.views.clear();
        self.keyspaces.clear();
        self.transactions.clear();
        self.feeds.remember();
    }
}

impl Held {
    fn advance(&mut self, Advance { back, steps }: Advance) -> Result<()> {
        for _ in 0..steps {
            let (found, expected) = match back {
                true => (self.range.next_back(), self.expected.pop_back()),
                false => (self.range.next(), self.expected.pop_front()),
            };
            let found = found
                .transpose()?
                .map(|(key, value)| (key.to_vec(), value.to_vec()));
            let tags = |pair: &Pair| (check::tag(&pair.0), check::tag(&pair.1));
            assert_eq!(
                found.as_ref().map(tags),
                expected.as_ref().map(tags),
                "back: {back}"
            );
            assert!(found == expected);
        }
        Ok(())
    }
}

fn pick_one<T>(all: &mut [T], pick: Pick) -> Option<&mut T> {
    let count = all.len().max(1);
    all.get_mut(usize::from(pick) % count)
}

fn take_one<T>(all: &mut Vec<T>, pick: Pick) -> Option<T> {
    if all.is_empty() {
        return None;
    }
    let at = usize::from(pick) % all.len();
    Some(all.swap_remove(at))
}

fn name_of(pick: Pick) -> String {
    let names = ["users", "Ünïcode", "x", "x y", "default2"];
    names[usize::from(pick) % NAMES as usize].into()
}

/// Keys that share prefixes, end in 0x00 and 0xff, are empty, or are longer than a block.
fn key_of(pick: Pick) -> Vec<u8> {
    let number = u64::from(pick) % KEYS;
    match number % 16 {
        0 if number == 0 => Vec::new(),
        1 => vec![0xff; 1 + (number / 16) as usize],
        2 => vec![0; 1 + (number / 16) as usize],
        3 => [b"key", &[0xff; 3][..], &[number as u8]].concat(),
        4 => [b"key", &[0; 2][..], &[number as u8]].concat(),
        5 => [&[b'p'; 300][..], &[number as u8]].concat(),
        _ => format!("key {:03}", number / 2 * 2 + number % 2).into_bytes(),
    }
}
