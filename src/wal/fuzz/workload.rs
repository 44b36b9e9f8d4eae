//! Lives of a small log: appends, syncs, truncations, purges, and the ways in which it goes down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::history::History;
use crate::error::{Error, Result};
use crate::testing::{FaultVfs, Input, ManualClock, MemoryVfs, SeededEntropy, TearUnit};
use crate::vfs::Vfs;
use crate::wal::{
    Append, DamagePolicy, Durability, FILE_BYTES_MIN, Index, Log, LogAccess, LogFileMeta,
    LogNumber, LogOptions, LogRegistry, LogSetup, Lsn, Parity, RecordKind, StoreId,
};

/// The most that a run does, so that an input takes milliseconds.
const STEPS_MAX: usize = 40;
const RECORDS_MAX: usize = 60;
const BYTES_MAX: u64 = 160 << 10;

pub(super) const STORE: StoreId = StoreId(0x5107e);

pub(super) fn dir() -> &'static Path {
    Path::new("log")
}

/// A registry as the manifest is one: what it has been told is durable at once.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<LogNumber, LogFileMeta>>);

impl LogRegistry for Registry {
    fn prepared(&self, meta: &LogFileMeta) -> Result<()> {
        self.0.lock().insert(meta.number, meta.clone());
        Ok(())
    }

    fn removed(&self, numbers: &[LogNumber]) -> Result<()> {
        self.0.lock().retain(|number, _| !numbers.contains(number));
        Ok(())
    }
}

/// How the log on one disk is opened.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub log: LogOptions,
    pub registry: Option<Arc<Registry>>,
    entropy: Arc<SeededEntropy>,
}

impl Options {
    pub fn of(input: &mut Input<'_>) -> Self {
        let bits = input.u8();
        Self {
            log: LogOptions {
                file_bytes: FILE_BYTES_MIN << (bits >> 6),
                identifier_delay: Duration::from_secs(u64::from(bits & 1)),
                buffer_bytes: [0, 100, 4 << 10, 1 << 20][usize::from(bits >> 1 & 3)],
                parity: [
                    Parity::Standard,
                    Parity::Off,
                    Parity::Strong,
                    Parity::Standard,
                ][usize::from(bits >> 4 & 3)],
            },
            registry: (bits & 8 != 0).then(Arc::default),
            entropy: Arc::new(SeededEntropy::new(u64::from(bits))),
        }
    }

    pub fn identifies_at_once(&self) -> bool {
        self.log.identifier_delay.is_zero()
    }

    pub fn setup(&self, vfs: Arc<dyn Vfs>) -> LogSetup<'static> {
        let known = self.registry.as_ref();
        let known = known.map(|registry| registry.0.lock().values().cloned().collect());
        let registry = self.registry.clone();
        LogSetup {
            dir: PathBuf::from(dir()),
            vfs,
            clock: Arc::new(ManualClock::new()),
            entropy: self.entropy.clone(),
            store_id: STORE,
            options: self.log.clone(),
            registry: registry.map(|registry| -> Arc<dyn LogRegistry> { registry }),
            known: known.unwrap_or_default(),
            needed_above: Index(0),
            access: LogAccess::ReadWrite,
            damage: DamagePolicy::Refuse,
            parallel: false,
            progress: None,
        }
    }
}

/// A log that has gone down: its disk, and what it must hold.
#[derive(Debug)]
pub(super) struct Rest {
    pub disk: MemoryVfs,
    pub options: Options,
    pub history: History,
    /// The oldest state that it may be in.
    pub floor: usize,
}

/// A log at work.
struct Run {
    options: Options,
    memory: MemoryVfs,
    faults: FaultVfs,
    log: Option<Log>,
    history: History,
    floor: usize,
    bytes: u64,
    term: u64,
}

/// Runs the log that the input describes, to its end.
pub(super) fn run(input: &mut Input<'_>) -> Rest {
    let options = Options::of(input);
    let memory = MemoryVfs::new();
    let mut run = Run {
        options,
        faults: FaultVfs::on_memory(&memory),
        memory,
        log: None,
        history: History::new(),
        floor: 0,
        bytes: 0,
        term: 0,
    };
    run.open();
    let steps = input.below(STEPS_MAX as u64);
    for _ in 0..steps {
        if input.is_empty() {
            break;
        }
        run.step(input);
        if run.faults.crashed() {
            run.lose_power(input);
            run.open();
        }
    }
    run.faults.crash_after_changes(u64::MAX);
    run.go_down(input);
    Rest {
        disk: run.memory,
        options: run.options,
        history: run.history,
        floor: run.floor,
    }
}

impl Run {
    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is open")
    }

    /// Opens the log, which must be as it was left.
    fn open(&mut self) {
        self.faults = FaultVfs::on_memory(&self.memory);
        let opened = Log::open(self.options.setup(Arc::new(self.faults.clone())));
        let (log, report) = opened.unwrap_or_else(|error| panic!("it doesn't open: {error}"));
        assert_eq!(report.damage, [], "damage that nobody has done");
        let content = self.history.read(&log);
        let content = content.unwrap_or_else(|error| panic!("it can't be read: {error}"));
        let found = self.history.find(&content, self.floor, 0);
        let Some(at) = found else {
            let states = self.history.describe(self.floor);
            panic!("it holds {content:?}, and should one of\n{states}");
        };
        self.history.reopened(at);
        self.log = Some(log);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let outcome = match input.u8() % 16 {
            0..=4 => self.append(input, false),
            5..=7 => self.append(input, true),
            8 => self.sync(),
            9 => self.identify(),
            10 => self.log().step_prepare().map(drop),
            11 => self.truncate(input),
            12 => self.purge(input),
            13 => {
                self.go_down(input);
                self.open();
                Ok(())
            }
            14 => {
                self.faults.crash_after_changes(input.below(24));
                Ok(())
            }
            _ => self.look(),
        };
        match outcome {
            Err(error) if !self.faults.crashed() => panic!("{error}"),
            _ => {}
        }
    }

    /// The index of the next record: mostly the one after the last; sometimes one that is there, or
    /// one further on.
    fn next_index(&mut self, input: &mut Input<'_>) -> u64 {
        let (first, last) = (self.log().first_index().0, self.log().last_index().0);
        match input.u8() {
            0..32 if last >= first => {
                self.term += 1;
                first + input.below(last - first + 1)
            }
            32..40 => {
                let index = last + 1 + input.below(4);
                self.log().skip_to(Index(index));
                index
            }
            _ => last + 1,
        }
    }

    fn append(&mut self, input: &mut Input<'_>, synced: bool) -> Result<()> {
        let count = 1 + input.place(4);
        let room = RECORDS_MAX.saturating_sub(self.history.count());
        if count > room || self.bytes > BYTES_MAX {
            return Ok(());
        }
        let durability = match synced {
            true => Durability::Disk,
            false => input.pick(&[Durability::Buffered, Durability::Process, Durability::Disk]),
        };
        let first = self.next_index(input);
        let mut tags = Vec::new();
        for index in (first..).take(count) {
            let most = input.pick(&[0, 30, 200, 1_000, 5_000, 20_000]);
            let bytes = input.place(most + 1);
            let kinds = [
                RecordKind::Batch,
                RecordKind::Catalog,
                RecordKind::Noop,
                RecordKind::Config,
            ];
            let kind = input.pick(&kinds);
            self.bytes += bytes as u64;
            tags.push(self.history.append(index, self.term, kind, bytes));
        }
        let records: Vec<Append<'_>> = tags.iter().map(|&tag| self.history.record(tag)).collect();
        let end: Lsn = self.log().append(&records, durability)?;
        drop(records);
        self.history.appended();
        if durability >= Durability::Process {
            self.history.written = self.history.now();
        }
        if synced {
            self.log().sync_to(end)?;
            self.history.synced(self.options.identifies_at_once());
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.log().sync()?;
        self.history.synced(self.options.identifies_at_once());
        Ok(())
    }

    /// Identifiers are written of whatever was appended since the open, and is durable.
    fn identify(&mut self) -> Result<()> {
        let done = self.log().step_identifiers()?;
        if done {
            self.history.identified = self.history.synced;
        }
        Ok(())
    }

    fn truncate(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (first, last) = (self.log().first_index().0, self.log().last_index().0);
        if last < first {
            return Ok(());
        }
        let index = (first - 1) + input.below(last - first + 2);
        if index >= last {
            // Without effect, and so without a promise.
            return self.log().truncate_after(Index(index));
        }
        self.history.truncate(index);
        self.log().truncate_after(Index(index))?;
        self.history.appended();
        self.history.synced(self.options.identifies_at_once());
        Ok(())
    }

    fn purge(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (first, last) = (self.log().first_index().0, self.log().last_index().0);
        let index = first + input.below((last + 2).saturating_sub(first));
        self.history.purge(index);
        self.log().purge_before(Index(index)).map(drop)
    }

    /// A log at work shows exactly what was appended.
    fn look(&mut self) -> Result<()> {
        let content = self.history.read(self.log())?;
        let found = self.history.find(&content, self.history.now(), 0);
        assert!(
            found.is_some(),
            "it holds {content:?}, and should {}",
            self.history.describe(self.history.now())
        );
        Ok(())
    }

    fn go_down(&mut self, input: &mut Input<'_>) {
        match input.u8() % 4 {
            0 => {
                let closed = self.log().close();
                self.log = None;
                match closed {
                    Ok(()) => {
                        self.history.closed();
                        self.floor = self.history.now();
                        self.memory = self.memory.kill();
                    }
                    Err(error) => {
                        assert!(self.faults.crashed(), "{error}");
                        self.lose_power(input);
                    }
                }
            }
            1 => {
                self.log = None;
                self.floor = self.history.written;
                self.memory = self.memory.kill();
            }
            _ => self.lose_power(input),
        }
    }

    fn lose_power(&mut self, input: &mut Input<'_>) {
        self.log = None;
        self.floor = self.history.synced;
        let unit = input.pick(&[TearUnit::Sector, TearUnit::Page]);
        self.memory = self.memory.crash(u64::from(input.u16()), unit);
    }
}

/// Whether an error is what damage is answered with.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Damaged(damage) if !damage.is_empty())
}
