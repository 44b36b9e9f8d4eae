//! What a store has to hold, given how far each writer has come; and the comparison.

use kintsu::{Keyspace, ReadView};

use super::operation::{
    ACCOUNTS, Change, ITEM_KEYSPACES, OWN_COUNTERS, Operation, SHARED_COUNTERS, Size, WRITERS,
    account_key, counter_key, item_key, item_value, number_in, operation, progress_key,
    session_key, session_value, shared_counter_key,
};
use super::store::Store;

/// How many operations of each writer are in a store.
pub type Progress = [u64; WRITERS];

/// What one writer has brought about.
#[derive(Clone, Debug)]
struct Written {
    progress: u64,
    /// For each item the operation that put it; 0: it isn't there.
    items: [Vec<u64>; ITEM_KEYSPACES],
    counters: Vec<Option<i64>>,
    /// Operations that put a session.
    sessions: Vec<u64>,
    /// What it has added to the shared ones, and whether it has touched them.
    shared: Vec<(i64, bool)>,
    accounts: Vec<(i64, bool)>,
}

impl Written {
    fn new(size: &Size) -> Self {
        Self {
            progress: 0,
            items: size.slots.map(|slots| vec![0; slots as usize]),
            counters: vec![None; OWN_COUNTERS],
            sessions: Vec::new(),
            shared: vec![(0, false); SHARED_COUNTERS],
            accounts: vec![(0, false); ACCOUNTS],
        }
    }

    fn apply(&mut self, number: u64, operation: &Operation) {
        for change in &operation.changes {
            self.change(number, change);
        }
        self.progress = number;
    }

    fn change(&mut self, number: u64, change: &Change) {
        match *change {
            Change::Put { keyspace, slot } => self.items[keyspace][slot as usize] = number,
            Change::Delete { keyspace, slot } => self.items[keyspace][slot as usize] = 0,
            Change::DeleteRange { keyspace, from, to } => {
                self.items[keyspace][from as usize..to as usize].fill(0);
            }
            Change::Merge { counter, amount } => {
                let counter = &mut self.counters[counter as usize];
                *counter = Some(counter.unwrap_or(0) + amount);
            }
            Change::DeleteCounters { from, to } => {
                self.counters[from as usize..to as usize].fill(None);
            }
            Change::Shift { from, to, amount } => shift(&mut self.shared, from, to, amount),
            Change::Transfer { from, to, amount } => shift(&mut self.accounts, from, to, amount),
            Change::Session => self.sessions.push(number),
        }
    }
}

fn shift(places: &mut [(i64, bool)], from: u64, to: u64, amount: i64) {
    for (place, amount) in [(from, -amount), (to, amount)] {
        let place = &mut places[place as usize];
        *place = (place.0 + amount, true);
    }
}

/// What a comparison went over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub keys: u64,
    pub bytes: u64,
}

impl Compared {
    fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

#[derive(Clone, Debug)]
pub struct Model {
    size: Size,
    seed: u64,
    written: Vec<Written>,
}

/// Whether to go over the keys from the last to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

type Expected<'a> = Box<dyn DoubleEndedIterator<Item = (String, Vec<u8>)> + 'a>;

impl Model {
    pub fn new(size: Size, seed: u64) -> Self {
        let written = vec![Written::new(&size); WRITERS];
        Self {
            size,
            seed,
            written,
        }
    }

    pub fn progress(&self) -> Progress {
        std::array::from_fn(|writer| self.written[writer].progress)
    }

    /// Goes on to where the writers are; `None` if this is beyond that already.
    pub fn advanced(mut self, to: Progress) -> Option<Self> {
        for (writer, to) in to.into_iter().enumerate() {
            let written = &mut self.written[writer];
            if written.progress > to {
                return None;
            }
            for number in written.progress + 1..=to {
                let operation = operation(&self.size, self.seed, writer, number);
                written.apply(number, &operation);
            }
        }
        Some(self)
    }

    /// The model for another store, from here if that isn't in the past, else from the beginning.
    pub fn at(&self, progress: Progress) -> Self {
        let here = self.clone().advanced(progress);
        here.unwrap_or_else(|| {
            let new = Self::new(self.size, self.seed);
            new.advanced(progress).unwrap()
        })
    }

    /// A writer's items in a keyspace, by key.
    pub fn items(&self, keyspace: usize, writer: usize, from: u64, to: u64) -> Expected<'_> {
        let seed = self.seed;
        let items = &self.written[writer].items[keyspace];
        Box::new((from..to).filter_map(move |slot| {
            let number = items[slot as usize];
            (number > 0).then(|| {
                let value = item_value(seed, writer, number, keyspace, slot);
                (item_key(writer, slot), value)
            })
        }))
    }

    fn all_items(&self, keyspace: usize) -> Expected<'_> {
        Box::new((0..WRITERS).flat_map(move |writer| {
            let items = self.items(keyspace, writer, 0, self.size.slots[keyspace]);
            let progress = (keyspace == 0).then(|| {
                let number = self.written[writer].progress;
                (progress_key(writer), number.to_le_bytes().to_vec())
            });
            let progress = progress.filter(|_| self.written[writer].progress > 0);
            items.chain(progress)
        }))
    }

    fn counters(&self) -> Expected<'_> {
        let own = (0..WRITERS).flat_map(move |writer| {
            let counters = self.written[writer].counters.iter().enumerate();
            counters.filter_map(move |(at, counter)| {
                let value = (*counter)?.to_le_bytes().to_vec();
                Some((counter_key(writer, at as u64), value))
            })
        });
        let shared = self.shared(SHARED_COUNTERS, shared_counter_key, |w| &w.shared);
        Box::new(shared.chain(own))
    }

    fn shared<'a>(
        &'a self,
        count: usize,
        key: impl Fn(u64) -> String + 'a,
        of: impl Fn(&Written) -> &Vec<(i64, bool)> + 'a,
    ) -> Expected<'a> {
        Box::new((0..count).filter_map(move |at| {
            let parts = self.written.iter().map(|written| of(written)[at]);
            let sum = parts.fold((0, false), |sum, part| (sum.0 + part.0, sum.1 || part.1));
            sum.1
                .then(|| (key(at as u64), i64::to_le_bytes(sum.0).to_vec()))
        }))
    }

    fn accounts(&self) -> Expected<'_> {
        self.shared(ACCOUNTS, account_key, |w| &w.accounts)
    }

    /// Compares everything that a view sees.
    pub fn compare(&self, store: &Store, view: &ReadView, direction: Direction) -> Compared {
        let mut compared = Compared::default();
        for (at, keyspace) in store.items.iter().enumerate() {
            compared.add(compare(view, keyspace, direction, self.all_items(at)));
        }
        compared.add(self.compare_shared(store, view, direction));
        self.compare_sessions(store, view);
        compared
    }

    /// Compares counters and accounts.
    pub fn compare_shared(&self, store: &Store, view: &ReadView, direction: Direction) -> Compared {
        let mut compared = compare(view, &store.counters, direction, self.counters());
        compared.add(compare(view, &store.bank, direction, self.accounts()));
        compared
    }

    /// Sessions expire in the order in which they were put: those that are left are the last ones.
    pub fn compare_sessions(&self, store: &Store, view: &ReadView) {
        for (writer, written) in self.written.iter().enumerate() {
            let range = view.prefix_in(&store.sessions, format!("w{writer}/"));
            let mut wanted = written.sessions.iter().rev();
            for item in range.unwrap().rev() {
                let (key, value) = item.unwrap();
                let number = *wanted.next().expect("a session that nobody has put");
                assert_eq!(key, session_key(writer, number), "not the next session");
                assert_eq!(value, session_value(self.seed, writer, number), "{key:?}");
            }
        }
    }

    /// Compares a piece of a writer's items.
    pub fn compare_items(
        &self,
        store: &Store,
        view: &ReadView,
        (keyspace, writer): (usize, usize),
        (from, to): (u64, u64),
        direction: Direction,
    ) -> Compared {
        let bounds = item_key(writer, from)..item_key(writer, to);
        let range = view.range_in(&store.items[keyspace], bounds).unwrap();
        let expected = self.items(keyspace, writer, from, to);
        let context = format!("{} of writer {writer}", store.items[keyspace].name());
        compare_range(&context, range, direction, expected)
    }
}

fn compare(
    view: &ReadView,
    keyspace: &Keyspace,
    direction: Direction,
    expected: Expected<'_>,
) -> Compared {
    let range = view.range_in(keyspace, ..).unwrap();
    compare_range(keyspace.name(), range, direction, expected)
}

fn compare_range(
    context: &str,
    mut range: kintsu::Range,
    direction: Direction,
    mut expected: Expected<'_>,
) -> Compared {
    let mut compared = Compared::default();
    loop {
        let (found, wanted) = match direction {
            Direction::Forward => (range.next(), expected.next()),
            Direction::Backward => (range.next_back(), expected.next_back()),
        };
        let found = found.map(|item| item.unwrap());
        match (found, wanted) {
            (None, None) => return compared,
            (Some((key, value)), Some((wanted_key, wanted))) if key == wanted_key => {
                assert!(
                    value == wanted,
                    "{context}: the value of {wanted_key} is of operation {:?} ({} bytes), not \
                     of {:?} ({} bytes)",
                    number_in(&value),
                    value.len(),
                    number_in(&wanted),
                    wanted.len()
                );
                compared.keys += 1;
                compared.bytes += (key.len() + value.len()) as u64;
            }
            (found, wanted) => {
                let wanted = wanted.map(|(key, value)| (key, number_in(&value)));
                let found = found.map(|(key, value)| (key, number_in(&value)));
                panic!("{context}, {direction:?}: found {found:?}, not {wanted:?}");
            }
        }
    }
}
