//! What a log went through: every state, and which of them it must still have.

use std::collections::BTreeMap;

use crate::types::{Index, Term};
use crate::wal::{Append, Log, Record, RecordKind, StreamId};

/// One record that was appended, by its tag, which its `client` field carries.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    pub index: u64,
    pub term: u64,
    pub kind: RecordKind,
    pub payload: Vec<u8>,
}

/// The log's content at one moment.
#[derive(Clone, Debug)]
struct State {
    /// Records below this index needn't be there.
    first: u64,
    /// Index and tag of each record that counts.
    records: Vec<(u64, u64)>,
}

/// What a log holds, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub first: u64,
    pub records: Vec<(u64, u64)>,
}

/// See the module. States are counted from 0, the empty log.
#[derive(Clone, Debug)]
pub(super) struct History {
    states: Vec<State>,
    appended: BTreeMap<u64, Appended>,
    next_tag: u64,
    /// Below this index the log may have been purged.
    purged: u64,
    /// What the operating system had.
    pub written: usize,
    /// What was durable.
    pub synced: usize,
    /// What was durable, identifiers and all.
    pub identified: usize,
    /// What the log held when it was opened last: identified by the first append after that.
    opened: usize,
    /// Whether the log has been appended to since.
    in_use: bool,
}

impl History {
    pub fn new() -> Self {
        let nothing = State {
            first: 1,
            records: Vec::new(),
        };
        Self {
            states: vec![nothing],
            appended: BTreeMap::new(),
            next_tag: 1,
            purged: 1,
            written: 0,
            synced: 0,
            identified: 0,
            opened: 0,
            in_use: false,
        }
    }

    pub fn now(&self) -> usize {
        self.states.len() - 1
    }

    /// How many records were ever appended.
    pub fn count(&self) -> usize {
        self.appended.len()
    }

    /// The next record of a group, and the state with it in place of whatever had its index or a higher
    /// one. To be called before the append, of which a failure may leave any part.
    pub fn append(&mut self, index: u64, term: u64, kind: RecordKind, bytes: usize) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        let payload = payload(tag, bytes);
        let appended = Appended {
            index,
            term,
            kind,
            payload,
        };
        self.appended.insert(tag, appended);
        let mut state = self.current().clone();
        let follows = state.records.last().map_or(state.first, |last| last.0 + 1);
        if index > follows {
            // What came before is of no more use.
            state.first = index;
        }
        state.records.retain(|one| one.0 < index);
        state.records.push((index, tag));
        self.states.push(state);
        tag
    }

    /// The record to append for a tag.
    pub fn record(&self, tag: u64) -> Append<'_> {
        let one = &self.appended[&tag];
        Append {
            stream: StreamId(tag as u32 % 3),
            term: Term(one.term),
            time_us: 1_000 + tag,
            client: tag,
            sequence: tag % 5,
            ..Append::new(one.kind, Index(one.index), &one.payload)
        }
    }

    /// The log is about to be truncated.
    pub fn truncate(&mut self, index: u64) {
        let mut state = self.current().clone();
        state.records.retain(|one| one.0 <= index);
        self.states.push(state);
    }

    pub fn purge(&mut self, index: u64) {
        self.purged = self.purged.max(index);
    }

    /// An append came through.
    pub fn appended(&mut self) {
        self.in_use = true;
        self.identified = self.identified.max(self.opened);
    }

    /// A sync came through.
    pub fn synced(&mut self, identified: bool) {
        self.synced = self.now();
        self.written = self.now();
        // What was there at the open waits for the first append.
        if identified && self.in_use {
            self.identified = self.now();
        }
    }

    /// The log was closed; one that wasn't appended to is left as it is.
    pub fn closed(&mut self) {
        if self.in_use {
            self.synced(true);
        }
    }

    fn current(&self) -> &State {
        &self.states[self.now()]
    }

    /// Whether a record is one that was appended, as it was appended.
    pub fn check_record(&self, record: &Record) {
        let Some(one) = self.appended.get(&record.client) else {
            panic!("a record that was never appended: {record:?}");
        };
        let expected = self.record(record.client);
        assert_eq!(record.payload, one.payload, "another payload");
        assert_eq!(
            (record.index, record.term, record.kind, record.stream),
            (
                expected.index,
                expected.term,
                expected.kind,
                expected.stream
            )
        );
        assert_eq!(
            (record.time_us, record.sequence),
            (expected.time_us, expected.sequence)
        );
    }

    /// Reads what a log holds; every record must be one that was appended.
    pub fn read(&self, log: &Log) -> crate::error::Result<Content> {
        let first = log.first_index();
        let mut reader = log.read_from(first)?;
        let mut records: Vec<(u64, u64)> = Vec::new();
        while let Some(record) = reader.next()? {
            self.check_record(&record);
            records.push((record.index.0, record.client));
            assert!(records.len() <= self.count(), "a record was read twice");
        }
        let last = records.last().map_or(first.0 - 1, |one| one.0);
        assert_eq!(log.last_index().0, last, "the last index");
        Ok(Content {
            first: first.0,
            records,
        })
    }

    /// The newest state, not below `floor`, that a log can be in which holds this. Records up to
    /// `covered` needn't be there.
    pub fn find(&self, content: &Content, floor: usize, covered: u64) -> Option<usize> {
        let fits = |at: &usize| {
            let state = &self.states[*at];
            let most = self.purged.max(state.first).max(covered.saturating_add(1));
            let from = state.records.partition_point(|one| one.0 < content.first);
            (content.first <= most || content.records.is_empty())
                && state.records[from..] == content.records
        };
        (floor..self.states.len()).rev().find(fits)
    }

    /// The log was opened, and this is what it holds from now on.
    pub fn reopened(&mut self, at: usize) {
        self.states.truncate(at + 1);
        self.written = at;
        self.synced = at;
        self.identified = self.identified.min(at);
        self.opened = at;
        self.in_use = false;
    }

    /// For messages: what the states from `floor` on hold.
    pub fn describe(&self, floor: usize) -> String {
        let states = self.states[floor..].iter();
        let states = states.map(|state| format!("from {}: {:?}", state.first, state.records));
        states.collect::<Vec<_>>().join("\n")
    }
}

/// A payload that no other record has.
fn payload(tag: u64, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes);
    let mut state = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while payload.len() < bytes {
        state = state.rotate_left(7).wrapping_mul(0xd6e8_feb8_6659_fd93);
        payload.extend_from_slice(&state.to_le_bytes());
    }
    payload.truncate(bytes);
    payload
}
