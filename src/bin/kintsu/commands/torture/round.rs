//! One round: its folder, its seed, its time, and what is counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use kintsu::environment::{Clock, SystemClock};
use kintsu::testing::SeededRng;
use kintsu::{Error, Severity};
use serde_json::{Value, json};

use super::load::{Done, Store, options, write_all};
use super::oracle::{Bounds, Broken, Checked, Model, check};
use super::plan::{Each, Plan, THREADS};
use crate::failure::{Failure, Outcome};

/// A kind of bad day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A process that writes is killed
    Kill,
    /// Power is lost (simulated)
    Power,
    /// Files are damaged
    Damage,
    /// The disk is full
    Full,
    /// Syncs, writes and reads fail
    Sync,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Kill,
        Self::Power,
        Self::Damage,
        Self::Full,
        Self::Sync,
    ];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Damage => "damage",
            Self::Full => "full",
            Self::Sync => "sync",
        }
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident: $said:literal;)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Name, words and figure of each.
            pub fn each(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), $said, self.$name),)*]
            }

            /// Counts those as well.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// As JSON.
            pub fn to_json(self) -> Value {
                json!({ $(stringify!($name): self.$name,)* })
            }

            /// From JSON.
            pub fn of_json(value: &Value) -> Self {
                Self { $($name: value[stringify!($name)].as_u64().unwrap_or_default(),)* }
            }
        }
    };
}

counts! {
    /// Rounds played.
    rounds: "rounds";
    /// Writes acknowledged.
    acknowledged: "writes acknowledged";
    /// Times that a store was opened again, read and compared.
    checks: "stores opened again, read and compared";
    /// Processes killed.
    kills: "processes killed";
    /// … before they had opened the store.
    kills_in_open: "… before they had opened the store";
    /// Losses of power.
    power_losses: "losses of power";
    /// … again while recovering.
    power_losses_in_recovery: "… again while recovering";
    /// Places damaged.
    damaged_places: "places damaged";
    /// Bytes damaged.
    damaged_bytes: "bytes damaged";
    /// Damage after which everything was right.
    repaired: "damage after which everything was right";
    /// Damage that was refused by name.
    refused: "damage refused by name";
    /// Times the disk was full.
    disks_full: "disks filled up";
    /// Calls that failed because they were made to.
    failed_calls: "stores met failing I/O";
    /// … by the kernel.
    failed_calls_real: "… of the kernel";
    /// Acknowledged and gone, without a word.
    lost: "lost without notice";
    /// Wrong answers.
    wrong: "wrong answers";
    /// Panics and unexpected errors and ends.
    unexpected: "panics, unexpected errors and ends";
}

impl Counts {
    /// Counts a broken promise.
    pub fn count(&mut self, broken: &Broken) {
        match broken {
            Broken::Lost(_) => self.lost += 1,
            Broken::Wrong(_) => self.wrong += 1,
            Broken::Unexpected(_) => self.unexpected += 1,
        }
    }
}

/// Why a round ends early.
#[derive(Debug)]
pub enum End {
    /// A promise is broken: what the campaign is looking for.
    Broken(Broken),
    /// The round itself can't go on.
    Failed(Failure),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The result of a part of a round.
pub type Step<T = ()> = Result<T, End>;

/// What the store should have done without an error.
pub fn expect<T>(what: &str, outcome: kintsu::Result<T>) -> Step<T> {
    outcome.map_err(|error| match error {
        // Nothing to be found out about the store: the campaign can't be run here.
        error @ (Error::UnsafeFileSystem { .. } | Error::NoSpace { .. }) => {
            End::Failed(Failure::Store(error))
        }
        error => End::Broken(Broken::Unexpected(format!("{what}: {error}"))),
    })
}

/// What the store should have done without any of these errors.
pub fn none_failed(what: &str, errors: impl IntoIterator<Item = Error>) -> Step {
    match errors.into_iter().next() {
        None => Ok(()),
        Some(error) => expect(what, Err(error)),
    }
}

/// A round that is played.
pub struct Round {
    /// Its folder, which is its own.
    pub folder: PathBuf,
    /// What is decided by chance.
    pub rng: SeededRng,
    /// What is counted.
    pub counts: Counts,
    /// What couldn't be done here, and why.
    pub skipped: Vec<String>,
    /// Whether the next check is to look for writes that never were: the proof that it can fail.
    pub claim_unwritten: bool,
    /// Whether a block of the store is bad that parity makes up for.
    pub blemished: bool,
    /// How long it may take, more or less.
    pub time: Duration,
    clock: SystemClock,
}

impl Round {
    /// Makes its folder and begins.
    pub fn begin(folder: PathBuf, seed: u64, time: Duration) -> Outcome<Self> {
        let made = fs::create_dir(&folder);
        made.map_err(|error| Failure::file("create", &folder, &error))?;
        Ok(Self {
            folder,
            rng: SeededRng::new(seed),
            counts: Counts::default(),
            skipped: Vec::new(),
            claim_unwritten: false,
            blemished: false,
            time,
            clock: SystemClock::new(),
        })
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What is written.
    pub fn plan(&mut self, slots: u64) -> Plan {
        let seed = self.rng.next_u64();
        Plan { seed, slots }
    }

    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        self.clock.elapsed() >= self.time
    }

    /// Checks an open store, and counts it.
    pub fn check(
        &mut self,
        store: &Store,
        base: &Model,
        bounds: &Bounds,
        damaged: Option<&str>,
    ) -> Step<Checked> {
        self.counts.checks += 1;
        let mut bounds = *bounds;
        if self.claim_unwritten {
            for position in bounds.low.iter_mut().chain(&mut bounds.high) {
                *position += 1_000;
            }
        }
        Ok(check(store, base, &bounds, damaged)?)
    }

    /// A store that a crash has left: verifies it, opens it, looks for what must be there, writes on, closes it, opens it
    /// again. How many writes are there at the end.
    pub fn recover(&mut self, path: &Path, base: &Model, bounds: &Bounds) -> Step<Each<u64>> {
        self.verify(path)?;
        let store = expect("opening after the fault", Store::open(options(path)))?;
        let checked = self.check(&store, base, bounds, None)?;
        if self.blemished {
            expect("scrubbing", store.db.scrub())?;
            self.blemished = false;
            self.counts.repaired += 1;
        }
        let mut model = base.clone();
        model.advance(&checked.positions);
        let positions = self.write_on(&store, &model, 20)?;
        expect("closing", store.db.close())?;
        self.verify(path)?;
        let reader = options(path).read_only(true);
        let store = expect("opening to read", Store::open(reader))?;
        self.check(&store, &model, &Bounds::exactly(positions), None)?;
        Ok(positions)
    }

    /// Has each thread make a few writes more, none of which may fail.
    pub fn write_on(&mut self, store: &Store, model: &Model, writes: u64) -> Step<Each<u64>> {
        let from = model.positions();
        let done = Done::from(&from);
        let plan = *model.plan();
        let more = |thread: usize, number: u64| {
            from.get(thread)
                .is_some_and(|from| number + 1 < from + writes)
        };
        none_failed("writing on", write_all(store, &plan, &done, &more))?;
        self.counts.acknowledged += writes * THREADS as u64;
        Ok(done.acknowledged())
    }

    /// Nothing may be damaged where nobody damaged anything.
    fn verify(&self, path: &Path) -> Step {
        // A store that was killed while it was made isn't one yet.
        let report = match kintsu::verify(options(path), |_| ()) {
            Err(Error::NotAStore { .. }) => return Ok(()),
            report => expect("verifying", report)?,
        };
        match report.damage.first() {
            None if report.severity == Severity::Whole => Ok(()),
            Some(_) if self.blemished && report.severity == Severity::Mendable => Ok(()),
            damage => {
                let what = damage.map(ToString::to_string).unwrap_or_default();
                let what = format!("verify finds damage where nobody did any: {what}");
                Err(Broken::Unexpected(what).into())
            }
        }
    }
}
