//! Segments that are damaged beyond repair: what is lost is refused by name, everything else goes on, and nothing
//! older is ever told in its place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use kintsu::testing::{Fault, FaultKind, MemoryVfs, OperationKind, SeededRng, TearUnit};
use kintsu::{Db, Durability, Error, Job, Options, Parity, RepairOutcome, WriteBatch};

use support::noise::{key, value};
use support::store::{FOLDER, Machine, path};

const KEYS: u64 = 600;

fn options(machine: &Machine) -> Options {
    machine.options().segment_bytes(8 << 10)
}

fn segments(memory: &MemoryVfs) -> Vec<String> {
    let names = memory.file_names(FOLDER).into_iter();
    names.filter(|name| name.ends_with(".segment")).collect()
}

/// A store with all of its keys in segments.
fn filled(seed: u64) -> Machine {
    let machine = Machine::new(seed);
    let db = options(&machine).open().unwrap();
    for number in 0..KEYS {
        db.put(key(number), value(number)).unwrap();
    }
    db.compact_range(..).unwrap();
    db.close().unwrap();
    machine
}

/// The keys of which the store doesn't say what they are; all others are as they were written.
#[track_caller]
fn refused(db: &Db, expected: impl Fn(u64) -> Option<Vec<u8>>) -> BTreeSet<u64> {
    let is_refused = |number: &u64| match db.get(key(*number)) {
        Ok(found) => {
            assert_eq!(found.as_deref(), expected(*number).as_deref(), "{number}");
            false
        }
        Err(Error::Damaged(_)) => true,
        Err(other) => panic!("{other}"),
    };
    (0..KEYS).filter(is_refused).collect()
}

#[track_caller]
fn settle(db: &Db) {
    while db.step(Job::Mend).unwrap() {}
    while db.step(Job::Compact).unwrap() {}
    while db.step(Job::Reclaim).unwrap() {}
}

#[test]
fn a_lost_block_is_fenced_and_the_rest_is_whole_again() {
    let machine = filled(1);
    let name = segments(&machine.memory)[1].clone();
    machine.memory.overwrite(path(&name), 1500, [0xa5; 10]);
    let db = options(&machine).open().unwrap();
    let first = refused(&db, |number| Some(value(number)));
    assert!((1..5).contains(&first.len()), "{first:?}");
    settle(&db);
    // The segment is another one now, without that block.
    assert!(!segments(&machine.memory).contains(&name));
    let lost = db.lost_ranges();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].damage.path.to_string_lossy(), path(&name));
    assert_eq!(refused(&db, |number| Some(value(number))), first);
    let kept = machine
        .memory
        .read_file(format!("{FOLDER}/quarantine/{name}.1"));
    assert_eq!(kept.unwrap()[1500..1510], [0xa5; 10]);
    let repairs = db.repairs().unwrap().repairs;
    assert_eq!(repairs[0].outcome, RepairOutcome::Lost);
    // It survives, and verification names it.
    db.close().unwrap();
    let report = kintsu::verify(options(&machine), |_| {}).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    let db = options(&machine).open().unwrap();
    assert_eq!(refused(&db, |number| Some(value(number))), first);
    assert_eq!(db.lost_ranges(), lost);
}

#[test]
fn what_can_be_read_of_a_segment_that_can_t_be_opened_is_saved_by_the_next_compaction() {
    let machine = filled(9);
    let name = segments(&machine.memory)[1].clone();
    let bytes = machine.memory.read_file(path(&name)).unwrap();
    // Its index and footer are gone, and far more than parity makes up for; the first half of its blocks is whole.
    let half = bytes.len() / 2;
    machine.memory.write_file(path(&name), &bytes[..half]);
    let db = options(&machine).open().unwrap();
    let first = refused(&db, |number| Some(value(number)));
    assert!(first.len() > 15, "{first:?}");
    db.put(key(KEYS), "new").unwrap();
    db.compact_range(..).unwrap();
    settle(&db);
    let left = refused(&db, |number| Some(value(number)));
    assert!(left.is_subset(&first));
    assert!(
        !left.is_empty() && left.len() < first.len() * 3 / 4,
        "{} of {}",
        left.len(),
        first.len()
    );
    db.close().unwrap();
    let db = options(&machine).open().unwrap();
    assert_eq!(refused(&db, |number| Some(value(number))), left);
}

/// A disk that is full for a while is no reason to give up what can be read.
#[test]
fn a_full_disk_costs_nothing_of_a_segment_that_can_t_be_opened() {
    let machine = filled(9);
    let name = segments(&machine.memory)[1].clone();
    let bytes = machine.memory.read_file(path(&name)).unwrap();
    machine
        .memory
        .write_file(path(&name), &bytes[..bytes.len() / 2]);
    let db = options(&machine).open().unwrap();
    let first = refused(&db, |number| Some(value(number)));
    db.put(key(KEYS), "new").unwrap();
    db.flush().unwrap();
    let full = Fault::for_good(1, FaultKind::NoSpace).on(".segment");
    let writes = [OperationKind::Create, OperationKind::Write];
    machine.faults.inject(full.only(&writes));
    for _ in 0..12 {
        assert!(db.compact_range(..).is_err());
        machine.clock.advance(std::time::Duration::from_secs(60));
    }
    assert_eq!(refused(&db, |number| Some(value(number))), first);
    let kept = machine.memory.file_names(format!("{FOLDER}/quarantine"));
    assert_eq!(kept, [""; 0]);
    machine.faults.clear_faults();
    db.compact_range(..).unwrap();
    settle(&db);
    let left = refused(&db, |number| Some(value(number)));
    assert!(left.is_subset(&first) && left.len() < first.len());
}

#[test]
fn what_is_written_after_is_told() {
    let machine = filled(2);
    let name = segments(&machine.memory)[0].clone();
    machine.memory.overwrite(path(&name), 1500, [0xa5; 10]);
    let db = options(&machine).open().unwrap();
    let lost: Vec<u64> = refused(&db, |number| Some(value(number)))
        .into_iter()
        .collect();
    settle(&db);
    db.put(key(lost[0]), "new").unwrap();
    db.delete(key(lost[1])).unwrap();
    let expected = |number: u64| match number {
        number if number == lost[0] => Some(b"new".to_vec()),
        number if number == lost[1] => None,
        number => Some(value(number)),
    };
    for _ in 0..2 {
        let still = refused(&db, expected);
        assert!(!still.contains(&lost[0]) && !still.contains(&lost[1]));
        assert_eq!(still.len(), lost.len() - 2);
        // The deletion has nothing left to delete, and is kept all the same.
        db.compact_range(..).unwrap();
        settle(&db);
    }
    // A walk doesn't know what it would have met.
    let walk = db.range(..).unwrap();
    let before = walk.take_while(Result::is_ok).count() as u64;
    assert_eq!(before, lost[0]);
    let walk = db.range(..).unwrap().rev();
    let behind = walk.take_while(Result::is_ok).count() as u64;
    assert_eq!(behind, KEYS - 1 - lost.last().unwrap());
    // Of what is deleted as a whole nothing is lost any more.
    let from = db.lost_ranges()[0].from.clone();
    let to = db.lost_ranges()[0].to.clone().unwrap();
    db.delete_range(from..to).unwrap();
    let gone = |number: u64| match lost.contains(&number) {
        true => None,
        false => Some(value(number)),
    };
    assert_eq!(refused(&db, gone), BTreeSet::new());
    let count = |db: &Db| {
        let all: kintsu::Result<Vec<_>> = db.range(..).unwrap().collect();
        all.unwrap().len()
    };
    assert_eq!(count(&db), KEYS as usize - lost.len());
    db.compact_range(..).unwrap();
    assert_eq!(db.lost_ranges(), []);
    assert_eq!(refused(&db, gone), BTreeSet::new());
    assert_eq!(count(&db), KEYS as usize - lost.len());
}

#[test]
fn nothing_older_is_told() {
    let machine = Machine::new(3);
    // One flush, one segment.
    let options = |machine: &Machine| {
        let options = options(machine).write_buffer_bytes(1 << 20);
        options.log_bytes_before_flush(8 << 20)
    };
    let db = options(&machine).open().unwrap();
    for number in 0..KEYS {
        db.put(key(number), "old").unwrap();
    }
    db.compact_range(..).unwrap();
    for number in 0..KEYS / 2 {
        db.put(key(number), value(number)).unwrap();
    }
    db.flush().unwrap();
    let newest = segments(&machine.memory).pop().unwrap();
    db.close().unwrap();
    for damage in 0..2 {
        let memory = machine.memory.fork();
        let machine = machine.rebooted(memory.clone());
        match damage {
            0 => assert!(memory.remove_file(path(&newest))),
            _ => assert!(memory.truncate_file(path(&newest), 3000)),
        }
        let db = options(&machine).open().unwrap();
        let written = |number: u64| {
            Some(if number < KEYS / 2 {
                value(number)
            } else {
                b"old".to_vec()
            })
        };
        let mut lost = refused(&db, written);
        assert_eq!(lost, (0..KEYS / 2).collect(), "{damage}");
        for _ in 0..2 {
            let still = refused(&db, written);
            // The compaction has saved what could be read.
            assert!(still.is_subset(&lost) && still.contains(&(KEYS / 2 - 1)));
            lost = still;
            assert!(db.range(..).unwrap().any(|entry| entry.is_err()));
            let behind = db.range(key(KEYS / 2)..).unwrap();
            let behind: kintsu::Result<Vec<_>> = behind.collect();
            assert_eq!(behind.unwrap().len() as u64, KEYS / 2);
            // Compaction puts other segments where it was.
            for number in KEYS / 2..KEYS {
                db.put(key(number), "old").unwrap();
            }
            db.compact_range(..).unwrap();
            settle(&db);
        }
        assert_eq!(lost.len() as u64 == KEYS / 2, damage == 0);
        // What is accepted as lost is gone, and what was below it shows.
        assert!(!db.accept_losses().unwrap().is_empty());
        // (Of the last key that was saved older versions may be lost; the newest is there.)
        let is_saved =
            |number: &u64| db.get(key(*number)).unwrap() == written(*number).map(Into::into);
        let shown: Vec<u64> = lost.iter().copied().filter(is_saved).collect();
        assert!(shown.len() <= 1, "{shown:?}");
        let left = |number: u64| match lost.contains(&number) && !shown.contains(&number) {
            true => Some(b"old".to_vec()),
            false => written(number),
        };
        assert_eq!(refused(&db, left), BTreeSet::new());
        assert_eq!(db.lost_ranges(), []);
        db.close().unwrap();
        let db = options(&machine).open().unwrap();
        assert_eq!(refused(&db, left), BTreeSet::new());
    }
}

/// What each key must be, if the store says anything; and the keys of which it must.
#[derive(Clone, Default)]
struct Model {
    values: BTreeMap<u64, Vec<u8>>,
    known: BTreeSet<u64>,
}

impl Model {
    /// One change, to the model and to the store.
    fn change(&mut self, db: &Db, rng: &mut SeededRng) {
        let number = rng.below(KEYS);
        match rng.below(20) {
            0 => {
                let to = (number + 1 + rng.below(40)).min(KEYS);
                db.delete_range(key(number)..key(to)).unwrap();
                self.values.retain(|at, _| !(number..to).contains(at));
                self.known.extend(number..to);
            }
            1..=4 => {
                db.delete(key(number)).unwrap();
                self.values.remove(&number);
                self.known.insert(number);
            }
            5..=8 => {
                let operand = [b'a' + rng.below(26) as u8; 7];
                db.merge(key(number), operand).unwrap();
                self.values.entry(number).or_default().extend(operand);
            }
            _ => {
                let new = value(rng.below(1 << 40))[..rng.below(80) as usize].to_vec();
                let mut batch = WriteBatch::new();
                batch.put(key(number), &new);
                db.write_with(batch, Durability::Buffered).unwrap();
                self.values.insert(number, new);
                self.known.insert(number);
            }
        }
    }

    /// How many keys the store refuses.
    #[track_caller]
    fn check(&self, db: &Db, seed: u64) -> usize {
        let refused = refused(db, |number| self.values.get(&number).cloned());
        let wrongly = refused.intersection(&self.known).next();
        assert_eq!(wrongly, None, "seed {seed}");
        let parse = |found: &[u8]| {
            let text = std::str::from_utf8(found).unwrap();
            text.trim_start_matches("key ").parse::<u64>().unwrap()
        };
        let mut all = self.values.iter();
        for item in db.range(..).unwrap() {
            let Ok((found, content)) = item else { break };
            let (number, expected) = all.next().unwrap();
            assert_eq!(
                (parse(&found), &content[..]),
                (*number, &expected[..]),
                "seed {seed}"
            );
        }
        let is_whole = db.range(..).unwrap().all(|item| item.is_ok());
        assert!(
            !is_whole || (refused.is_empty() && all.next().is_none()),
            "seed {seed}"
        );
        let mut all = self.values.iter().rev();
        for item in db.range(..).unwrap().rev() {
            let Ok((found, content)) = item else { break };
            let (number, expected) = all.next().unwrap();
            assert_eq!(
                (parse(&found), &content[..]),
                (*number, &expected[..]),
                "seed {seed}"
            );
        }
        refused.len()
    }
}

fn work(db: &Db, model: &mut Model, rng: &mut SeededRng, changes: u64) {
    for _ in 0..changes {
        model.change(db, rng);
        if rng.below(60) == 0 {
            db.flush().unwrap();
        }
        if rng.below(60) == 0 {
            settle(db);
        }
    }
}

/// Damages some segments; as little as a block, or as much as the file.
fn damage(memory: &MemoryVfs, rng: &mut SeededRng) {
    let names = segments(memory);
    for _ in 0..=rng.below(3) {
        let Some(name) = rng.pick(&names) else { return };
        let Some(bytes) = memory.file_bytes(path(name)) else {
            continue;
        };
        let offset = rng.below(bytes);
        let done = match rng.below(8) {
            0 => memory.remove_file(path(name)),
            1 => memory.truncate_file(path(name), offset),
            2 => memory.overwrite(path(name), bytes - 40, [0x5a; 10]),
            _ => {
                let length = 1 + rng.below(700).min(bytes - offset - 1);
                memory.overwrite(path(name), offset, vec![0x5a; length as usize])
            }
        };
        assert!(done);
    }
}

/// Changes, damage, reads, repair, more changes, power loss: for many seeds.
#[test]
fn whatever_is_damaged_nothing_wrong_is_told_campaign() {
    let (mut refused, mut fenced, mut healed) = (0, 0, 0);
    for seed in 0..60 * support::scale() {
        let seed = support::only_seed().unwrap_or(seed);
        let rng = &mut SeededRng::new(seed);
        let mut machine = Machine::new(seed);
        let parity = [Parity::Off, Parity::Off, Parity::Standard][rng.below(3) as usize];
        let opened = |machine: &Machine| options(machine).parity(parity).open().unwrap();
        let mut model = Model::default();
        let db = opened(&machine);
        work(&db, &mut model, rng, 1500);
        model.known.clear();
        db.flush().unwrap();
        db.close().unwrap();
        for _ in 0..3 {
            // What was written before, may be lost now.
            model.known.clear();
            damage(&machine.memory, rng);
            let db = opened(&machine);
            refused += model.check(&db, seed);
            work(&db, &mut model, rng, 300);
            model.check(&db, seed);
            settle(&db);
            model.check(&db, seed);
            if rng.below(2) == 0 {
                db.compact_range(..).unwrap();
                model.check(&db, seed);
            }
            fenced += db.lost_ranges().len();
            healed += db.statistics().healed_blocks;
            db.flush().unwrap();
            if rng.below(2) == 0 {
                db.close().unwrap();
            } else {
                drop(db);
                machine = machine.rebooted(machine.memory.crash(seed, TearUnit::Page));
            }
        }
        let db = opened(&machine);
        model.check(&db, seed);
        db.delete_range(..).unwrap();
        model.values.clear();
        model.known = (0..KEYS).collect();
        model.check(&db, seed);
        db.compact_range(..).unwrap();
        assert_eq!(db.lost_ranges(), [], "seed {seed}");
        model.check(&db, seed);
    }
    println!("{refused} refusals, {fenced} fences, {healed} blocks healed");
    assert!(refused > 0 && fenced > 0 && healed > 0);
}

/// The power fails at every change that a fencing makes.
#[test]
fn the_power_fails_at_every_change_of_a_fencing() {
    let damaged = filled(5);
    let names = segments(&damaged.memory);
    damaged.memory.overwrite(path(&names[0]), 1500, [0xa5; 10]);
    damaged.memory.truncate_file(path(&names[1]), 1500);
    let db = options(&damaged).read_only(true).open().unwrap();
    let lost = refused(&db, |number| Some(value(number)));
    drop(db);
    let fence = |machine: &Machine| -> kintsu::Result<BTreeSet<u64>> {
        let db = options(machine).open()?;
        let refused = refused(&db, |number| Some(value(number)));
        while db.step(Job::Mend)? {}
        // What can't be opened is taken out by the compaction that needs its place.
        db.put(key(1), value(1))?;
        db.compact_range(..)?;
        let ranges: BTreeSet<_> = db.lost_ranges().into_iter().map(|one| one.from).collect();
        assert_eq!(ranges.len(), 2, "{ranges:?}");
        db.close()?;
        Ok(refused)
    };
    for changes in 0.. {
        let memory = damaged.memory.fork();
        let machine = damaged.rebooted(memory.clone());
        machine.faults.crash_after_changes(changes);
        let outcome = fence(&machine);
        if !machine.faults.crashed() {
            assert_eq!(outcome.unwrap(), lost);
            assert!(changes > 10, "{changes}");
            break;
        }
        for unit in [TearUnit::Sector, TearUnit::Page] {
            let machine = damaged.rebooted(memory.crash(changes, unit));
            // If it was done before, more can be read.
            let still = fence(&machine).unwrap();
            assert!(
                still.is_subset(&lost) && still.len() > 5,
                "{changes}: {still:?}"
            );
            let kept = machine.memory.file_names(format!("{FOLDER}/quarantine"));
            assert!(
                kept.iter().any(|name| name.starts_with(&names[0])),
                "{kept:?}"
            );
            assert!(
                kept.iter().any(|name| name.starts_with(&names[1])),
                "{kept:?}"
            );
        }
    }
}
