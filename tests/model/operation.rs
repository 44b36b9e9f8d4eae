//! What a run does, as data: each operation stands alone, so that any of them can be left out.

use std::ops::Bound;

use kintsu::testing::{SeededRng, TearUnit};
use kintsu::{Durability, Job};

/// A number that picks one of whatever there is when its turn comes.
pub type Pick = u16;

/// What a change does: values and operands by their length in bytes.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Put(u32),
    Delete,
    Merge(u32),
    /// Milliseconds to live, bytes.
    PutExpiring(u16, u32),
    /// Up to this key, or all.
    DeleteTo(Option<Pick>),
}

/// One change of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub keyspace: Pick,
    pub key: Pick,
    pub what: What,
}

/// How the store goes down.
#[derive(Clone, Copy, Debug)]
pub enum Down {
    Close,
    LetGo,
    Kill,
    PowerLoss(u64, TearUnit),
    /// Closed, and then the power fails.
    CloseAndPowerLoss(u64, TearUnit),
}

/// Which end of an iterator moves, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Advance {
    pub back: bool,
    pub steps: u8,
}

/// A bound made from a key.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Included(Pick),
    Excluded(Pick),
    Unbounded,
}

impl Side {
    pub fn bound(self, key: impl Fn(Pick) -> Vec<u8>) -> Bound<Vec<u8>> {
        match self {
            Self::Included(pick) => Bound::Included(key(pick)),
            Self::Excluded(pick) => Bound::Excluded(key(pick)),
            Self::Unbounded => Bound::Unbounded,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Operation {
    /// `put` or `delete` with the store's durability.
    Short(Change),
    Write(Vec<Change>, Durability),
    Submit(Vec<Change>, Durability),
    Create(Pick),
    Drop(Pick),
    Sync,
    Flush,
    Compact(Pick, Side, Side),
    /// Keyspace, keys, bytes of each value.
    Load(Pick, Vec<Pick>, u32),
    Step(Job),
    /// Each job in this order until it finds nothing to do.
    AllJobs([Job; Job::ALL.len()]),
    AdvanceClock(u16),
    Get(Pick, Pick),
    /// Keyspace, bounds, and how the ends move.
    Range(Pick, Side, Side, Vec<Advance>),
    /// Keyspace, key, bytes of it.
    Prefix(Pick, Pick, u8),
    HoldView,
    ReadView(Pick, Pick, Side, Side),
    LetViewGo(Pick),
    HoldRange(Pick, Side, Side),
    AdvanceRange(Pick, Advance),
    LetRangeGo(Pick),
    Begin,
    TransactionGet(Pick, Pick, Pick),
    TransactionRange(Pick, Pick, Side, Side, Vec<Advance>),
    TransactionWrite(Pick, Change),
    Savepoint(Pick),
    RollBack(Pick),
    Commit(Pick, Durability),
    /// One read and one write, with nothing between.
    Swap(Pick, Pick, bool),
    HoldKeyspace(Pick),
    UseHeldKeyspace(Pick),
    /// From which record on, of all there ever were.
    Subscribe(Pick),
    /// As `Subscribe`, from the files alone.
    Follow(Pick),
    /// Which subscription, and how many records of it.
    ReadFeed(Pick, u8),
    LetFeedGo(Pick),
    Snapshot,
    Backup,
    Archive,
    /// As of which record, or of the newest.
    Restore(Option<Pick>),
    CheckAll,
    OpenBeside,
    OpenTwice,
    /// The power fails after so many more changes of the disk.
    CutPowerAfter(u16, u64, TearUnit),
    Down(Down),
}

/// What a campaign does most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    Everything,
    Crashes,
    Reads,
}

/// Keys that there are to choose from.
pub const KEYS: u64 = 160;
/// Names of keyspaces to choose from.
pub const NAMES: u64 = 5;

pub fn generate(seed: u64, mix: Mix, length: usize) -> Vec<Operation> {
    let mut rng = SeededRng::new(seed);
    // Some runs write much to few keys, some little to many.
    let generator = Generator {
        mix,
        keys: *rng.pick(&[6, 40, KEYS]).unwrap(),
        bytes: *rng.pick(&[40, 600, 600, 3000]).unwrap(),
    };
    let mut operations = Vec::new();
    while operations.len() < length {
        let operation = generator.one(&mut rng);
        let begins = matches!(operation, Operation::Begin);
        operations.push(operation);
        if begins {
            generator.transaction_to_its_end(&mut rng, &mut operations);
        }
    }
    operations
}

struct Generator {
    mix: Mix,
    keys: u64,
    bytes: u64,
}

impl Generator {
    fn one(&self, rng: &mut SeededRng) -> Operation {
        // Weights of: writes, catalog, jobs, reads, views, ranges and feeds held, going down.
        let weights: [u64; 6] = match self.mix {
            Mix::Everything => [45, 4, 20, 14, 20, 3],
            Mix::Crashes => [55, 5, 20, 5, 14, 12],
            Mix::Reads => [35, 3, 12, 25, 30, 1],
        };
        let mut drawn = rng.below(weights.iter().sum());
        let mut group = 0;
        while drawn >= weights[group] {
            drawn -= weights[group];
            group += 1;
        }
        match group {
            0 => self.write(rng),
            1 => catalog(rng),
            2 if rng.one_in(12) => Operation::Compact(pick(rng), self.side(rng), self.side(rng)),
            2 if rng.one_in(16) => {
                let keys = (0..rng.below(40)).map(|_| self.key(rng)).collect();
                Operation::Load(pick(rng), keys, rng.below(self.bytes) as u32)
            }
            2 if rng.one_in(10) => self.backup(rng),
            2 => job(rng),
            3 => self.read(rng),
            4 => self.hold(rng),
            _ => down(rng),
        }
    }

    fn backup(&self, rng: &mut SeededRng) -> Operation {
        match rng.below(10) {
            0 => Operation::Snapshot,
            1..4 => Operation::Backup,
            4..6 => Operation::Archive,
            6 => Operation::Restore(None),
            _ => Operation::Restore(Some(pick(rng))),
        }
    }

    fn write(&self, rng: &mut SeededRng) -> Operation {
        match rng.below(10) {
            0..3 => Operation::Short(self.change(rng)),
            3..5 => Operation::Submit(self.batch(rng), durability(rng)),
            5..8 => Operation::Write(vec![self.change(rng)], durability(rng)),
            _ => Operation::Write(self.batch(rng), durability(rng)),
        }
    }

    fn batch(&self, rng: &mut SeededRng) -> Vec<Change> {
        let count = if rng.one_in(20) {
            0
        } else {
            rng.between(1, 12)
        };
        (0..count).map(|_| self.change(rng)).collect()
    }

    fn change(&self, rng: &mut SeededRng) -> Change {
        let mut bytes = |below: u64| rng.below(below) as u32;
        let what = match bytes(100) {
            0..16 => What::Delete,
            16..20 => What::Put(0),
            20..24 => What::PutExpiring(bytes(60) as u16, bytes(self.bytes)),
            24..32 => What::Merge(bytes(self.bytes.min(200))),
            32..35 => What::DeleteTo((bytes(8) > 0).then_some(bytes(self.keys) as Pick)),
            35..97 => What::Put(bytes(self.bytes)),
            97..99 => What::Put(bytes(12_000)),
            _ => What::Put(bytes(90_000)),
        };
        Change {
            keyspace: pick(rng),
            key: self.key(rng),
            what,
        }
    }

    fn key(&self, rng: &mut SeededRng) -> Pick {
        rng.below(self.keys) as Pick
    }

    fn side(&self, rng: &mut SeededRng) -> Side {
        match rng.below(5) {
            0 => Side::Unbounded,
            1..3 => Side::Excluded(self.key(rng)),
            _ => Side::Included(self.key(rng)),
        }
    }

    fn read(&self, rng: &mut SeededRng) -> Operation {
        match rng.below(12) {
            0..3 => Operation::Get(pick(rng), self.key(rng)),
            3..8 => {
                let moves = (0..rng.between(1, 6)).map(|_| advance(rng)).collect();
                Operation::Range(pick(rng), self.side(rng), self.side(rng), moves)
            }
            8..10 => Operation::Prefix(pick(rng), self.key(rng), rng.below(4) as u8),
            10 => Operation::OpenBeside,
            _ if rng.one_in(4) => Operation::OpenTwice,
            _ => Operation::CheckAll,
        }
    }

    fn hold(&self, rng: &mut SeededRng) -> Operation {
        match rng.below(38) {
            24..38 => self.transaction(rng),
            0..3 => Operation::HoldView,
            3..6 => Operation::ReadView(pick(rng), pick(rng), self.side(rng), self.side(rng)),
            6 => Operation::LetViewGo(pick(rng)),
            7..9 => Operation::HoldRange(pick(rng), self.side(rng), self.side(rng)),
            9..13 => Operation::AdvanceRange(pick(rng), advance(rng)),
            13 => Operation::LetRangeGo(pick(rng)),
            16 => Operation::Subscribe(pick(rng)),
            17 if rng.one_in(2) => Operation::Subscribe(pick(rng)),
            17 => Operation::Follow(pick(rng)),
            18..21 => Operation::ReadFeed(pick(rng), rng.below(12) as u8),
            21..23 => Operation::ReadFeed(pick(rng), u8::MAX),
            23 => Operation::LetFeedGo(pick(rng)),
            14 => Operation::HoldKeyspace(pick(rng)),
            _ => Operation::UseHeldKeyspace(pick(rng)),
        }
    }

    /// Steps of a transaction with others between: left to chance, few would live to be committed.
    fn transaction_to_its_end(&self, rng: &mut SeededRng, operations: &mut Vec<Operation>) {
        for _ in 0..rng.below(16) {
            operations.push(match rng.below(5) {
                0 => self.write(rng),
                1 => self.one(rng),
                _ => self.transaction(rng),
            });
        }
    }

    fn transaction(&self, rng: &mut SeededRng) -> Operation {
        match rng.below(14) {
            0..2 => Operation::Begin,
            2..4 => Operation::TransactionGet(pick(rng), pick(rng), self.key(rng)),
            4..6 => {
                let moves = (0..rng.below(4)).map(|_| advance(rng)).collect();
                let (lower, upper) = (self.side(rng), self.side(rng));
                Operation::TransactionRange(pick(rng), pick(rng), lower, upper, moves)
            }
            6..9 => Operation::TransactionWrite(pick(rng), self.change(rng)),
            9 => Operation::Savepoint(pick(rng)),
            10 => Operation::RollBack(pick(rng)),
            11 => Operation::Swap(pick(rng), self.key(rng), rng.one_in(2)),
            _ => Operation::Commit(pick(rng), durability(rng)),
        }
    }
}

fn pick(rng: &mut SeededRng) -> Pick {
    rng.below(1 << 16) as Pick
}

fn durability(rng: &mut SeededRng) -> Durability {
    let all = [Durability::Buffered, Durability::Process, Durability::Disk];
    *rng.pick(&all).unwrap()
}

fn advance(rng: &mut SeededRng) -> Advance {
    Advance {
        back: rng.one_in(2),
        steps: rng.between(1, 9) as u8,
    }
}

fn catalog(rng: &mut SeededRng) -> Operation {
    match rng.below(5) {
        0..3 => Operation::Create(pick(rng)),
        _ => Operation::Drop(pick(rng)),
    }
}

fn job(rng: &mut SeededRng) -> Operation {
    match rng.below(20) {
        0..12 => Operation::Step(*rng.pick(&Job::ALL).unwrap()),
        12..14 => {
            let mut order = Job::ALL;
            rng.shuffle(&mut order);
            Operation::AllJobs(order)
        }
        14..16 => Operation::Sync,
        16..18 => Operation::Flush,
        _ => Operation::AdvanceClock(rng.below(25) as u16),
    }
}

fn down(rng: &mut SeededRng) -> Operation {
    let unit = if rng.one_in(2) {
        TearUnit::Sector
    } else {
        TearUnit::Page
    };
    let seed = rng.next_u64();
    match rng.below(10) {
        0 => Operation::Down(Down::Close),
        1 => Operation::Down(Down::LetGo),
        2..4 => Operation::Down(Down::Kill),
        4..6 => Operation::Down(Down::PowerLoss(seed, unit)),
        6 => Operation::Down(Down::CloseAndPowerLoss(seed, unit)),
        _ => Operation::CutPowerAfter(rng.below(25) as u16, seed, unit),
    }
}
