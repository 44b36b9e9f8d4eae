//! What a child does: writers, readers that check what they see, upkeep.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kintsu::environment::{Clock, SystemClock};
use kintsu::testing::SeededRng;
use kintsu::{Durability, Keyspace, ReadView, Transaction, WriteBatch};

use super::child::say;
use super::model::{Direction, Model};
use super::operation::{
    ACCOUNTS, Change, ITEM_KEYSPACES, Operation, SHARED_COUNTERS, Size, WRITERS, Way, account_key,
    counter_key, item_key, item_value, number_in, operation, progress_key, session_key,
    session_value, shared_counter_key,
};
use super::store::{Folders, Store};

/// Rounds of the auditor that a view is held for.
const AUDITS_HELD: u64 = 100;

/// What the threads of a child share.
pub struct Work {
    pub size: Size,
    pub seed: u64,
    pub folders: Folders,
    pub store: Store,
    pub clock: SystemClock,
    pub stopped: AtomicBool,
    /// Operations done by this child.
    pub operations: AtomicU64,
    /// The longest that one has taken.
    pub longest_us: AtomicU64,
    /// Keys that the auditor has compared with the model while writing went on.
    pub audited: AtomicU64,
}

impl Work {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Runs all of it until it is stopped; `beside` runs in this thread meanwhile.
    pub fn run(&self, beside: impl FnOnce()) {
        std::thread::scope(|scope| {
            let first = self.store.progress(&self.store.db.view());
            for (writer, progress) in first.into_iter().enumerate() {
                scope.spawn(move || self.write(writer, progress));
            }
            scope.spawn(|| self.audit());
            scope.spawn(|| self.read());
            scope.spawn(|| self.keep_up());
            beside();
            self.stopped.store(true, Ordering::Release);
        });
    }

    fn write(&self, writer: usize, mut number: u64) {
        while !self.is_stopped() {
            number += 1;
            let operation = operation(&self.size, self.seed, writer, number);
            let begun = self.clock.elapsed();
            let acknowledged = self.perform(writer, number, &operation);
            let taken_us = (self.clock.elapsed() - begun).as_micros() as u64;
            self.longest_us.fetch_max(taken_us, Ordering::Relaxed);
            self.operations.fetch_add(1, Ordering::Relaxed);
            // Each line costs; what comes before one that is acknowledged is so too.
            if acknowledged && number.is_multiple_of(8) {
                say(&format!("ack {writer} {number}"));
            }
        }
    }

    /// Does an operation; whether it survives the process from here on.
    fn perform(&self, writer: usize, number: u64, operation: &Operation) -> bool {
        match operation.way {
            Way::Transaction => self.transact(writer, number, operation),
            Way::Swap => self.swap(writer, number),
            Way::Load => self.load(writer, number, operation),
            Way::Batch => {
                let mut batch = WriteBatch::new();
                for change in &operation.changes {
                    self.add(&mut batch, writer, number, change);
                }
                batch.put(progress_key(writer), number.to_le_bytes());
                let durability = match number {
                    _ if number.is_multiple_of(64) => Durability::Disk,
                    _ if number.is_multiple_of(8) => Durability::Process,
                    _ => Durability::Buffered,
                };
                self.store.db.write_with(batch, durability).unwrap();
                return durability != Durability::Buffered;
            }
        }
        true
    }

    fn add(&self, batch: &mut WriteBatch, writer: usize, number: u64, change: &Change) {
        let store = &self.store;
        match *change {
            Change::Put { keyspace, slot } => {
                let value = item_value(self.seed, writer, number, keyspace, slot);
                batch.put_in(&store.items[keyspace], item_key(writer, slot), value);
            }
            Change::Delete { keyspace, slot } => {
                batch.delete_in(&store.items[keyspace], item_key(writer, slot));
            }
            Change::DeleteRange { keyspace, from, to } => {
                let range = item_key(writer, from)..item_key(writer, to);
                batch.delete_range_in(&store.items[keyspace], range);
            }
            Change::Merge { counter, amount } => {
                let key = counter_key(writer, counter);
                batch.merge_in(&store.counters, key, amount.to_le_bytes());
            }
            Change::DeleteCounters { from, to } => {
                let range = counter_key(writer, from)..counter_key(writer, to);
                batch.delete_range_in(&store.counters, range);
            }
            Change::Shift { from, to, amount } => {
                for (counter, amount) in [(from, -amount), (to, amount)] {
                    let key = shared_counter_key(counter);
                    batch.merge_in(&store.counters, key, amount.to_le_bytes());
                }
            }
            Change::Session => {
                let value = session_value(self.seed, writer, number);
                batch.put_in(&store.sessions, session_key(writer, number), value);
            }
            Change::Transfer { .. } => panic!("a transfer belongs into a transaction"),
        }
    }

    fn transact(&self, writer: usize, number: u64, operation: &Operation) {
        let done = self.store.db.transact(|transaction| {
            let progress = transaction.get(progress_key(writer))?;
            let progress = progress.as_deref().and_then(number_in).unwrap_or(0);
            assert_eq!(progress, number - 1, "a writer doesn't see its own write");
            for change in &operation.changes {
                match *change {
                    Change::Transfer { from, to, amount } => {
                        self.transfer(transaction, from, to, amount)?;
                    }
                    Change::Put { keyspace, slot } => {
                        let value = item_value(self.seed, writer, number, keyspace, slot);
                        let key = item_key(writer, slot);
                        transaction.put_in(&self.store.items[keyspace], key, value);
                    }
                    _ => panic!("{change:?} in a transaction"),
                }
            }
            if number.is_multiple_of(16) {
                // What it has itself moved is seen, and the rest held against what others write.
                let mut sum = 0;
                for item in transaction.range_in(&self.store.bank, ..)? {
                    sum += amount(&item?.1);
                }
                assert_eq!(sum, 0, "a transaction sees half a transfer");
            }
            transaction.put(progress_key(writer), number.to_le_bytes());
            Ok(())
        });
        done.unwrap();
    }

    fn transfer(
        &self,
        transaction: &mut Transaction,
        from: u64,
        to: u64,
        moved: i64,
    ) -> kintsu::Result<()> {
        let bank = &self.store.bank;
        for (account, moved) in [(from, -moved), (to, moved)] {
            let balance = transaction.get_in(bank, account_key(account))?;
            let balance = balance.map_or(0, |value| amount(&value)) + moved;
            transaction.put_in(bank, account_key(account), balance.to_le_bytes());
        }
        Ok(())
    }

    fn swap(&self, writer: usize, number: u64) {
        let (db, key) = (&self.store.db, progress_key(writer));
        let (before, after) = ((number - 1).to_le_bytes(), number.to_le_bytes());
        let refused = db.compare_and_swap(&key, Some(after), Some(before));
        let held = refused.unwrap().unwrap_err();
        assert_eq!(held.as_deref(), Some(&before[..]), "swapped against a lie");
        let swapped = db.compare_and_swap(&key, Some(before), Some(after));
        assert_eq!(swapped.unwrap(), Ok(()), "writer {writer}, {number}");
    }

    fn load(&self, writer: usize, number: u64, operation: &Operation) {
        let mut load = self.store.db.bulk_load().unwrap();
        for change in &operation.changes {
            let Change::Put { keyspace: 0, slot } = *change else {
                panic!("{change:?} in a bulk load");
            };
            let value = item_value(self.seed, writer, number, 0, slot);
            load.add(item_key(writer, slot), value).unwrap();
        }
        load.add(progress_key(writer), number.to_le_bytes())
            .unwrap();
        load.commit().unwrap();
    }

    /// Compares views, piece by piece, with a model that follows: one that was just made, and one that is
    /// held while the store moves on.
    fn audit(&self) {
        let mut rng = SeededRng::new(self.seed ^ 1);
        let mut model = Model::new(self.size, self.seed);
        let mut held: Option<(ReadView, Model)> = None;
        for round in 1_u64.. {
            if self.is_stopped() {
                return;
            }
            let view = self.store.db.view();
            let progress = self.store.progress(&view);
            model = model.advanced(progress).expect("a view goes back in time");
            self.audit_piece(&mut rng, &view, &model);
            match round % 8 {
                2 => model.compare_sessions(&self.store, &view),
                6 => drop(model.compare_shared(&self.store, &view, Direction::Forward)),
                _ => {}
            }
            if let Some((view, model)) = &held {
                self.audit_piece(&mut rng, view, model);
                if round % 8 == 4 {
                    model.compare_shared(&self.store, view, Direction::Backward);
                }
            }
            if round % AUDITS_HELD == 1 {
                held = Some((view, model.clone()));
            }
        }
    }

    fn audit_piece(&self, rng: &mut SeededRng, view: &ReadView, model: &Model) {
        let keyspace = rng.below(ITEM_KEYSPACES as u64) as usize;
        let writer = rng.below(WRITERS as u64) as usize;
        let slots = self.size.slots[keyspace];
        let from = rng.below(slots);
        let piece = (from, (from + slots / 16).min(slots));
        for direction in [Direction::Forward, Direction::Backward] {
            let compared =
                model.compare_items(&self.store, view, (keyspace, writer), piece, direction);
            self.audited.fetch_add(compared.keys, Ordering::Relaxed);
        }
    }

    /// Reads what it likes, as fast as it can.
    fn read(&self) {
        let mut rng = SeededRng::new(self.seed ^ 2);
        while !self.is_stopped() {
            let view = self.store.db.view();
            let sums = self.sums(&view);
            for _ in 0..20 {
                let keyspace = rng.below(ITEM_KEYSPACES as u64) as usize;
                let writer = rng.below(WRITERS as u64) as usize;
                let slots: Vec<u64> = (0..8)
                    .map(|_| rng.below(self.size.slots[keyspace]))
                    .collect();
                self.read_items(keyspace, writer, &slots);
            }
            assert_eq!(self.sums(&view), sums, "a view has changed");
        }
    }

    fn read_items(&self, keyspace: usize, writer: usize, slots: &[u64]) {
        let from: &Keyspace = &self.store.items[keyspace];
        let keys = slots.iter().map(|slot| item_key(writer, *slot));
        let values = from.multi_get(keys).unwrap();
        for (slot, value) in slots.iter().zip(values) {
            let Some(value) = value else { continue };
            let number = number_in(&value).unwrap();
            let wanted = item_value(self.seed, writer, number, keyspace, *slot);
            assert!(
                value == wanted,
                "wrong bytes: {} of writer {writer} in {}, operation {number}",
                item_key(writer, *slot),
                from.name()
            );
        }
    }

    /// The sums of what is only ever moved; and how much there is of it.
    fn sums(&self, view: &ReadView) -> Vec<i64> {
        let mut all = Vec::new();
        for account in 0..ACCOUNTS as u64 {
            let value = view.get_in(&self.store.bank, account_key(account));
            all.push(value.unwrap().map_or(0, |value| amount(&value)));
        }
        assert_eq!(all.iter().sum::<i64>(), 0, "half a transfer is seen");
        let mut sum = 0;
        for counter in 0..SHARED_COUNTERS as u64 {
            let value = view.get_in(&self.store.counters, shared_counter_key(counter));
            all.push(value.unwrap().map_or(0, |value| amount(&value)));
            sum += all.last().unwrap();
        }
        assert_eq!(sum, 0, "half a batch of merges is seen");
        all
    }

    /// Snapshots, compactions by hand, keyspaces that come and go, a look at every byte.
    fn keep_up(&self) {
        let mut rng = SeededRng::new(self.seed ^ 3);
        let mut due = self.size.upkeep_operations;
        let mut round = 0;
        while !self.is_stopped() {
            if self.operations.load(Ordering::Relaxed) < due {
                std::thread::park_timeout(Duration::from_millis(20));
                continue;
            }
            due += self.size.upkeep_operations;
            round += 1;
            match round % 4 {
                1 => self.snapshot(),
                2 => self.compact(&mut rng),
                3 => self.scratch(round),
                _ => self.verify(),
            }
        }
    }

    /// Two are kept.
    fn snapshot(&self) {
        let index = self.store.db.last_index().0;
        let path = self.folders.snapshots().join(format!("{index:012}"));
        std::fs::create_dir_all(self.folders.snapshots()).unwrap();
        self.store.db.snapshot_to(path).unwrap();
        let all = self.folders.all_snapshots();
        for old in all.iter().rev().skip(2) {
            std::fs::remove_dir_all(old).unwrap();
        }
    }

    fn compact(&self, rng: &mut SeededRng) {
        let keyspace = rng.below(ITEM_KEYSPACES as u64) as usize;
        let writer = rng.below(WRITERS as u64) as usize;
        let from = rng.below(self.size.slots[keyspace]);
        let to = from + self.size.slots[keyspace] / 8;
        let range = item_key(writer, from)..item_key(writer, to);
        self.store.items[keyspace].compact_range(range).unwrap();
    }

    fn scratch(&self, round: u64) {
        let db = &self.store.db;
        let name = format!("scratch {round}");
        let scratch = db.keyspace_or_create(&name).unwrap();
        for number in 0..200_u64 {
            scratch.put(number.to_be_bytes(), [7; 1_000]).unwrap();
        }
        assert!(scratch.range(..).unwrap().count() == 200);
        db.drop_keyspace(&name).unwrap();
        assert!(scratch.get("key").is_err());
    }

    /// What an earlier child was killed at.
    pub fn clear_scratch(&self) {
        let db = &self.store.db;
        for name in db.keyspaces() {
            if name.starts_with("scratch") {
                db.drop_keyspace(&name).unwrap();
            }
        }
    }

    fn verify(&self) {
        let options = super::store::options(&self.size, &self.folders.store());
        let report = kintsu::verify(options, |_| {}).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
    }
}

fn amount(value: &[u8]) -> i64 {
    i64::from_le_bytes(value.try_into().unwrap())
}
