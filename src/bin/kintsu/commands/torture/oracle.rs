//! What a store holds against what it must hold: every acknowledged write, no wrong byte, no hole.

use std::fmt;

use kintsu::{Bytes, Db, Error, Range};

use super::load::Store;
use super::plan::{Each, Plan, Stamp, THREADS};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Something acknowledged isn't there, and nobody said so.
    Lost(String),
    /// An answer that was never right, or can't be right any more.
    Wrong(String),
    /// An error, an end or a panic that isn't among what may happen.
    Unexpected(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(what) => write!(f, "lost without notice: {what}"),
            Self::Wrong(what) => write!(f, "a wrong answer: {what}"),
            Self::Unexpected(what) => write!(f, "unexpected: {what}"),
        }
    }
}

/// How many writes of each thread must be there at least, and may be at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What was acknowledged, and survives the fault.
    pub low: Each<u64>,
    /// What was begun.
    pub high: Each<u64>,
}

impl Bounds {
    /// Exactly so many.
    pub fn exactly(positions: Each<u64>) -> Self {
        Self {
            low: positions,
            high: positions,
        }
    }
}

/// What the keys of each thread hold after so many of its writes.
#[derive(Clone, Debug)]
pub struct Model {
    plan: Plan,
    /// For each thread how many writes, and for each slot the one that wrote it.
    threads: Each<(u64, Vec<Option<u64>>)>,
}

impl Model {
    /// Nothing written yet.
    pub fn new(plan: Plan) -> Self {
        let slots = usize::try_from(plan.slots).unwrap_or_default();
        Self {
            plan,
            threads: [(); THREADS].map(|()| (0, vec![None; slots])),
        }
    }

    /// What is written.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Makes the writes up to these.
    pub fn advance(&mut self, positions: &Each<u64>) {
        for (thread, position) in positions.iter().enumerate() {
            if let Some((next, slots)) = self.threads.get_mut(thread) {
                while *next < *position {
                    step(&self.plan, thread, *next, |slot, number| {
                        put(slots, slot, number);
                    });
                    *next += 1;
                }
            }
        }
    }

    /// How many writes of each thread are made.
    pub fn positions(&self) -> Each<u64> {
        std::array::from_fn(|thread| self.threads.get(thread).map_or(0, |(next, _)| *next))
    }
}

fn step(plan: &Plan, thread: usize, number: u64, mut change: impl FnMut(u64, Option<u64>)) {
    for one in plan.changes(thread, number) {
        change(one.slot, (!one.delete).then_some(number));
    }
}

fn put<T>(slots: &mut [T], slot: u64, value: T) {
    if let Some(place) = usize::try_from(slot).ok().and_then(|at| slots.get_mut(at)) {
        *place = value;
    }
}

/// What a read of a slot gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Absent,
    Written(Stamp),
    /// Refused, by name.
    Refused,
}

impl Cell {
    /// Whether it can be what this write left.
    fn fits(&self, number: Option<u64>) -> bool {
        match self {
            Self::Absent => number.is_none(),
            Self::Written(stamp) => number == Some(stamp.number),
            Self::Refused => true,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing"),
            Self::Written(stamp) => write!(f, "write {}", stamp.number),
            Self::Refused => f.write_str("a refusal"),
        }
    }
}

/// What came of a check that found nothing broken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked {
    /// How many writes of each thread are there.
    pub positions: Each<u64>,
    /// Reads that were refused by name.
    pub refused: u64,
}

/// Reads everything, and compares it with what must be there after the writes that `base` has, at least `low` and
/// at most `high` of them. With `damaged`, reads may be refused if they name that file.
pub fn check(
    store: &Store,
    base: &Model,
    bounds: &Bounds,
    damaged: Option<&str>,
) -> Result<Checked, Broken> {
    let mut checked = Checked::default();
    let mut content = Vec::new();
    for thread in 0..THREADS {
        let cells = (0..base.plan.slots)
            .map(|slot| read(store, &base.plan, thread, slot, damaged))
            .collect::<Result<Vec<Cell>, Broken>>()?;
        checked.refused += cells.iter().filter(|cell| **cell == Cell::Refused).count() as u64;
        content.push(cells);
    }
    for (even, range) in [(true, store.db.range(..)), (false, store.second.range(..))] {
        scan(range, &base.plan, &content, even, damaged)?;
    }
    let mut model = base.clone();
    model.advance(&bounds.low);
    for (thread, cells) in content.iter().enumerate() {
        let high = bounds.high.get(thread).copied().unwrap_or_default();
        let position = place(&model, thread, cells, high)?;
        put(&mut checked.positions, thread as u64, position);
    }
    for (thread, cells) in content.iter().enumerate() {
        no_hole(thread, cells, &checked.positions)?;
    }
    Ok(checked)
}

/// Whether an error names a file as damaged.
pub fn names(error: &Error, file: &str) -> bool {
    match error {
        Error::Damaged(damage) => damage.iter().any(|damage| {
            let name = damage.path.file_name().unwrap_or_default();
            name.to_string_lossy() == *file
        }),
        Error::ForeignFile { path, .. } | Error::NewerFormat { path, .. } => {
            path.file_name().unwrap_or_default().to_string_lossy() == *file
        }
        _ => false,
    }
}

fn refusal(error: &Error, damaged: Option<&str>, place: &str) -> Result<(), Broken> {
    match damaged {
        Some(file) if names(error, file) => Ok(()),
        _ => Err(Broken::Unexpected(format!("{place}: {error}"))),
    }
}

fn read(
    store: &Store,
    plan: &Plan,
    thread: usize,
    slot: u64,
    damaged: Option<&str>,
) -> Result<Cell, Broken> {
    let key = Plan::key(thread, slot);
    let found = match slot % 2 {
        0 => store.db.get(&key),
        _ => store.second.get(&key),
    };
    match found {
        Ok(None) => Ok(Cell::Absent),
        Ok(Some(value)) => match plan.stamp(thread, slot, &value) {
            Some(stamp) => Ok(Cell::Written(stamp)),
            None => Err(Broken::Wrong(format!(
                "the {} bytes under {key} were never written there",
                value.len()
            ))),
        },
        Err(error) => refusal(&error, damaged, &format!("reading {key}")).map(|()| Cell::Refused),
    }
}

/// Whether everything that a store shows was written once, by one of so many writes of each thread.
pub fn intact(db: &Db, plan: &Plan, positions: &Each<u64>) -> Result<(), Broken> {
    for name in db.keyspaces() {
        let shown = db.keyspace(&name).and_then(|keyspace| keyspace.range(..));
        let shown = shown.map_err(|error| Broken::Unexpected(format!("scanning: {error}")))?;
        for pair in shown {
            let (key, value) =
                pair.map_err(|error| Broken::Unexpected(format!("scanning: {error}")))?;
            let number = Plan::slot(&key).and_then(|(thread, slot)| {
                let stamp = plan.stamp(thread, slot, &value)?;
                (stamp.number < *positions.get(thread)?).then_some(stamp.number)
            });
            if number.is_none() {
                let key = String::from_utf8_lossy(&key);
                return Err(Broken::Wrong(format!("{key} holds what nobody wrote")));
            }
        }
    }
    Ok(())
}

/// A scan must show what point reads show.
fn scan(
    range: kintsu::Result<Range>,
    plan: &Plan,
    content: &[Vec<Cell>],
    even: bool,
    damaged: Option<&str>,
) -> Result<(), Broken> {
    let mut shown = 0;
    let range = match range {
        Ok(range) => range,
        Err(error) => return refusal(&error, damaged, "scanning"),
    };
    for pair in range {
        let (key, value): (Bytes, Bytes) = match pair {
            Ok(pair) => pair,
            Err(error) => return refusal(&error, damaged, "scanning"),
        };
        let cell = Plan::slot(&key).and_then(|(thread, slot)| {
            let cell = *content.get(thread)?.get(usize::try_from(slot).ok()?)?;
            let stamp = plan.stamp(thread, slot, &value)?;
            matches!(cell, Cell::Refused).then_some(()).or_else(|| {
                (slot.is_multiple_of(2) == even && cell == Cell::Written(stamp)).then_some(())
            })
        });
        if cell.is_none() {
            let key = String::from_utf8_lossy(&key);
            let what = format!("a scan shows {key} other than a read of it does");
            return Err(Broken::Wrong(what));
        }
        shown += 1;
    }
    let of_keyspace = |(slot, _): &(usize, &Cell)| slot.is_multiple_of(2) == even;
    let cells = content
        .iter()
        .flat_map(|cells| cells.iter().enumerate().filter(of_keyspace));
    let (mut written, mut refused) = (0, 0);
    for (_, cell) in cells {
        written += u64::from(matches!(cell, Cell::Written(_)));
        refused += u64::from(*cell == Cell::Refused);
    }
    if (written..=written + refused).contains(&shown) {
        return Ok(());
    }
    let what = format!("a scan shows {shown} keys, and reads of them {written}");
    Err(Broken::Lost(what))
}

/// After which of a thread's writes, from where the model stands to `high`, its keys are as they are.
fn place(model: &Model, thread: usize, cells: &[Cell], high: u64) -> Result<u64, Broken> {
    let Some((low, before)) = model.threads.get(thread) else {
        return Ok(0);
    };
    let mut slots = before.clone();
    let misfit = |cell: &Cell, number: Option<u64>| u64::from(!cell.fits(number));
    let mut misfits: u64 = cells
        .iter()
        .zip(&slots)
        .map(|(cell, number)| misfit(cell, *number))
        .sum();
    let mut found = (misfits == 0).then_some(*low);
    for number in *low..high {
        step(&model.plan, thread, number, |slot, by| {
            let at = usize::try_from(slot).unwrap_or(usize::MAX);
            if let (Some(cell), Some(now)) = (cells.get(at), slots.get_mut(at)) {
                misfits -= misfit(cell, *now);
                *now = by;
                misfits += misfit(cell, *now);
            }
        });
        if misfits == 0 {
            found = Some(number + 1);
        }
    }
    found.ok_or_else(|| explain(model, thread, cells, high))
}

/// Why a thread's keys are as after none of its writes.
fn explain(model: &Model, thread: usize, cells: &[Cell], high: u64) -> Broken {
    let Some((low, before)) = model.threads.get(thread) else {
        return Broken::Unexpected(format!("thread {thread}"));
    };
    // For each slot what may be there; the first cell that is none of it tells most.
    let mut allowed: Vec<Vec<Option<u64>>> = before.iter().map(|number| vec![*number]).collect();
    for number in *low..high {
        step(&model.plan, thread, number, |slot, by| {
            let at = usize::try_from(slot).unwrap_or(usize::MAX);
            if let Some(allowed) = allowed.get_mut(at) {
                allowed.push(by);
            }
        });
    }
    for (slot, (cell, allowed)) in cells.iter().zip(&allowed).enumerate() {
        if allowed.iter().any(|number| cell.fits(*number)) {
            continue;
        }
        let key = Plan::key(thread, slot as u64);
        let due = match allowed.first() {
            Some(Some(number)) => format!("write {number}"),
            _ => "nothing".into(),
        };
        let what = format!(
            "{key} holds {cell} instead of {due}; of thread {thread}'s writes {low} were acknowledged, \
             {high} begun"
        );
        return match cell {
            Cell::Written(stamp) if stamp.number >= high => Broken::Wrong(what),
            _ => Broken::Lost(what),
        };
    }
    Broken::Lost(format!(
        "thread {thread} has some of its writes after {low} without those before them"
    ))
}

/// Whoever has a write has all that was acknowledged before it began.
fn no_hole(thread: usize, cells: &[Cell], positions: &Each<u64>) -> Result<(), Broken> {
    for cell in cells {
        let Cell::Written(stamp) = cell else {
            continue;
        };
        for (other, (seen, position)) in stamp.seen.iter().zip(positions).enumerate() {
            if seen > position {
                return Err(Broken::Lost(format!(
                    "a hole: write {} of thread {thread} is there, and write {} of thread {other}, \
                     acknowledged before it began, isn't",
                    stamp.number,
                    seen - 1
                )));
            }
        }
    }
    Ok(())
}
