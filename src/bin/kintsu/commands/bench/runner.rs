//! Does a workload on some threads, and measures each call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use kintsu::environment::{Clock, SystemClock};
use kintsu::{Db, Durability, Error, Result, WriteBatch};

use crate::commands::bench::Arguments;
use crate::commands::bench::report::Measured;
use crate::commands::bench::workload::{Content, Numbers, Workload};
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::progress::Progress;

/// The longest call that is told apart from longer ones (an hour).
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;
/// Keys in a range of the workload `scan`.
const SCAN_KEYS: u64 = 100;
/// How often the progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Gets to a put in the workload `mixed`.
const GETS_PER_PUT: u64 = 9;

/// A workload about to run.
pub struct Runner<'a> {
    db: &'a Db,
    arguments: &'a Arguments,
    workload: Workload,
    clock: SystemClock,
    done: AtomicU64,
    bytes: AtomicU64,
    missing: AtomicU64,
    stop: AtomicBool,
}

/// One thread's part of it.
struct Part<'a> {
    runner: &'a Runner<'a>,
    content: Content,
    numbers: Numbers,
    /// The keys of this thread, where each has its own.
    first: u64,
    end: u64,
    latencies: Histogram<u64>,
    batch: WriteBatch,
}

fn histogram() -> Outcome<Histogram<u64>> {
    let histogram = Histogram::new_with_max(LATENCY_MAX_NS, 3);
    histogram.map_err(|error| Failure::Usage(error.to_string()))
}

impl<'a> Runner<'a> {
    pub fn new(db: &'a Db, arguments: &'a Arguments, workload: Workload) -> Self {
        Self {
            db,
            arguments,
            workload,
            clock: SystemClock::new(),
            done: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// Runs it, telling how far it has come.
    pub fn run(&self, console: &Console) -> Outcome<Measured> {
        let threads = match self.workload {
            Workload::BulkLoad => 1,
            _ => u64::from(self.arguments.threads),
        };
        let parts = (0..threads).map(|at| self.part(at, threads));
        let parts = parts.collect::<Outcome<Vec<_>>>()?;
        let begun = self.clock.elapsed();
        let outcomes: Vec<Result<Histogram<u64>>> = thread::scope(|scope| {
            let handles: Vec<_> = parts
                .into_iter()
                .map(|part| scope.spawn(|| part.run()))
                .collect();
            self.watch(console, || {
                handles.iter().all(thread::ScopedJoinHandle::is_finished)
            });
            let joined = handles.into_iter().map(|handle| match handle.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        let mut latencies = histogram()?;
        for outcome in outcomes {
            let added = latencies.add(outcome?);
            added.map_err(|error| Failure::Usage(error.to_string()))?;
        }
        self.settle()?;
        Ok(Measured {
            name: self.workload.name(),
            operations: self.done.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            missing: self.missing.load(Ordering::Relaxed),
            taken: self.clock.elapsed().saturating_sub(begun),
            latencies,
        })
    }

    fn part(&self, at: u64, threads: u64) -> Outcome<Part<'_>> {
        let arguments = self.arguments;
        let (keys, seed) = (arguments.keys.get(), arguments.seed ^ (at << 40));
        Ok(Part {
            runner: self,
            content: Content::new(
                arguments.key_bytes as usize,
                arguments.value_bytes as usize,
                arguments.compressible as usize,
                seed,
            ),
            numbers: Numbers(seed ^ self.workload as u64),
            first: keys * at / threads,
            end: keys * (at + 1) / threads,
            latencies: histogram()?,
            batch: WriteBatch::new(),
        })
    }

    /// Tells how far it has come until it is over, and ends it when its time is.
    fn watch(&self, console: &Console, is_over: impl Fn() -> bool) {
        let name: &'static str = match self.workload {
            Workload::ReadSeq | Workload::ReadReverse | Workload::Scan => "walked",
            Workload::ReadRandom | Workload::ReadMissing => "read",
            _ => "done",
        };
        let mut progress = Progress::new(console, name, Some("operation"), None);
        while !is_over() {
            thread::park_timeout(LOOK_EVERY);
            let (done, bytes) = (&self.done, &self.bytes);
            progress.tell_if_due(done.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
            let limit = self.arguments.seconds;
            if limit.is_some_and(|limit| progress.elapsed().as_secs() >= limit.get()) {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        progress.finish();
    }

    /// What belongs to the work though no call waits for it.
    fn settle(&self) -> Result<()> {
        match self.workload {
            Workload::FillSeq | Workload::FillRandom | Workload::DeleteRandom => self.db.flush(),
            Workload::Overwrite => self.db.compact_range(..),
            _ => Ok(()),
        }
    }

    fn durability(&self) -> Durability {
        match self.workload {
            Workload::Durable => Durability::Disk,
            _ => self.arguments.durability.into(),
        }
    }
}

impl Part<'_> {
    fn run(mut self) -> Result<Histogram<u64>> {
        match self.runner.workload {
            Workload::FillSeq => self.write(|part, number| (number, part.first + number))?,
            Workload::FillRandom | Workload::Overwrite | Workload::Durable => {
                let keys = self.runner.arguments.keys.get();
                self.write(move |part, number| (number, part.numbers.below(keys)))?;
            }
            Workload::DeleteRandom => self.delete()?,
            Workload::BulkLoad => self.bulk_load()?,
            Workload::ReadRandom => self.read(b"")?,
            // Between two keys that are there: where only a filter can tell.
            Workload::ReadMissing => self.read(b"-")?,
            Workload::ReadSeq => self.walk(false)?,
            Workload::ReadReverse => self.walk(true)?,
            Workload::Scan => self.scan()?,
            Workload::Mixed => self.mixed()?,
            Workload::Transactions => self.transactions()?,
        }
        Ok(self.latencies)
    }

    fn count(&self) -> u64 {
        self.end - self.first
    }

    fn stopped(&self) -> bool {
        self.runner.stop.load(Ordering::Relaxed)
    }

    fn did(&self, operations: u64, bytes: u64) {
        self.runner.done.fetch_add(operations, Ordering::Relaxed);
        self.runner.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Measures one call.
    fn timed<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let begun = self.runner.clock.elapsed();
        let outcome = call(self);
        let taken = self.runner.clock.elapsed().saturating_sub(begun);
        let ns = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(ns);
        outcome
    }

    /// Puts in batches; `choose` says which key comes at which number.
    fn write(&mut self, choose: impl Fn(&mut Self, u64) -> (u64, u64)) -> Result<()> {
        let each = u64::from(self.runner.arguments.batch);
        let mut number = 0;
        while number < self.count() && !self.stopped() {
            let size = each.min(self.count() - number);
            for at in 0..size {
                let (_, key) = choose(self, number + at);
                let content = &mut self.content;
                let key = content.key(key).to_vec();
                self.batch.put(key, content.value());
            }
            let batch = std::mem::take(&mut self.batch);
            let durability = self.runner.durability();
            self.timed(|part| part.runner.db.write_with(batch, durability))?;
            self.did(size, size * self.content.pair_bytes());
            number += size;
        }
        Ok(())
    }

    fn delete(&mut self) -> Result<()> {
        let keys = self.runner.arguments.keys.get();
        for _ in 0..self.count() {
            if self.stopped() {
                break;
            }
            let number = self.numbers.below(keys);
            let mut batch = WriteBatch::new();
            batch.delete(self.content.key(number));
            let durability = self.runner.durability();
            self.timed(|part| part.runner.db.write_with(batch, durability))?;
            self.did(1, 0);
        }
        Ok(())
    }

    fn bulk_load(&mut self) -> Result<()> {
        let mut load = self.runner.db.bulk_load()?;
        for number in 0..self.count() {
            if self.stopped() {
                break;
            }
            let key = self.content.key(number).to_vec();
            load.add(key, self.content.value())?;
            self.did(1, self.content.pair_bytes());
        }
        self.timed(|_| load.commit()).map(drop)
    }

    /// Gets keys, each with this at its end.
    fn read(&mut self, suffix: &[u8]) -> Result<()> {
        let keys = self.runner.arguments.keys.get();
        for _ in 0..self.count() {
            if self.stopped() {
                break;
            }
            let number = self.numbers.below(keys);
            let mut key = self.content.key(number).to_vec();
            key.extend_from_slice(suffix);
            let found = self.timed(|part| part.runner.db.get(&key))?;
            let bytes = found.as_ref().map_or(0, |value| value.len() + key.len());
            let missing = &self.runner.missing;
            missing.fetch_add(u64::from(found.is_none()), Ordering::Relaxed);
            self.did(1, bytes as u64);
        }
        Ok(())
    }

    fn walk(&mut self, reverse: bool) -> Result<()> {
        let mut range = self.runner.db.range(..)?;
        let mut left = self.count();
        while left > 0 && !self.stopped() {
            let step = left.min(1000);
            let (keys, bytes) = self.timed(|_| {
                let (mut keys, mut bytes) = (0, 0);
                while keys < step {
                    let next = if reverse {
                        range.next_back_ref()?
                    } else {
                        range.next_ref()?
                    };
                    let Some((key, value)) = next else {
                        break;
                    };
                    keys += 1;
                    bytes += (key.len() + value.len()) as u64;
                }
                Ok((keys, bytes))
            })?;
            self.did(keys, bytes);
            left -= keys;
            if keys < step {
                break;
            }
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<()> {
        let keys = self.runner.arguments.keys.get();
        for _ in 0..self.count().div_ceil(SCAN_KEYS) {
            if self.stopped() {
                break;
            }
            let number = self.numbers.below(keys);
            let from = self.content.key(number).to_vec();
            let (found, bytes) = self.timed(|part| {
                let mut range = part.runner.db.range(from..)?;
                let (mut found, mut bytes) = (0, 0);
                while found < SCAN_KEYS
                    && let Some((key, value)) = range.next_ref()?
                {
                    found += 1;
                    bytes += (key.len() + value.len()) as u64;
                }
                Ok((found, bytes))
            })?;
            self.did(found, bytes);
        }
        Ok(())
    }

    fn mixed(&mut self) -> Result<()> {
        let keys = self.runner.arguments.keys.get();
        for at in 0..self.count() {
            if self.stopped() {
                break;
            }
            let number = self.numbers.below(keys);
            let key = self.content.key(number).to_vec();
            if at % (GETS_PER_PUT + 1) < GETS_PER_PUT {
                let found = self.timed(|part| part.runner.db.get(&key))?;
                let missing = &self.runner.missing;
                missing.fetch_add(u64::from(found.is_none()), Ordering::Relaxed);
            } else {
                let mut batch = WriteBatch::new();
                batch.put(key, self.content.value());
                let durability = self.runner.durability();
                self.timed(|part| part.runner.db.write_with(batch, durability))?;
            }
            self.did(1, self.content.pair_bytes());
        }
        Ok(())
    }

    fn transactions(&mut self) -> Result<()> {
        let keys = self.runner.arguments.keys.get();
        for _ in 0..self.count() {
            if self.stopped() {
                break;
            }
            let number = self.numbers.below(keys);
            let key = self.content.key(number).to_vec();
            let value = self.content.value().to_vec();
            let durability = self.runner.durability();
            self.timed(|part| {
                loop {
                    let mut transaction = part.runner.db.transaction()?;
                    transaction.get(&key)?;
                    transaction.put(&key, &value);
                    match transaction.commit_with(durability) {
                        Err(Error::Conflict { .. }) => {}
                        other => return other,
                    }
                }
            })?;
            self.did(1, self.content.pair_bytes());
        }
        Ok(())
    }
}
