//! A log and what it has promised: every state that it went through, and which of them it must still
//! have. Checks what a reopened log holds against that.

use super::*;

/// One state of the log's content: index and tag (the payload's seed) of each record that counts.
type State = Vec<(u64, u64)>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Every state, one a record, oldest first.
    states: Vec<State>,
    /// The state that was acknowledged as durable.
    pub acknowledged: usize,
    /// Below this index the log may have been purged.
    purged: u64,
    next_tag: u64,
}

impl History {
    pub fn new() -> Self {
        Self {
            states: vec![Vec::new()],
            acknowledged: 0,
            purged: 0,
            next_tag: 1,
        }
    }

    pub fn last(&self) -> u64 {
        let state = self.states.last().unwrap();
        state
            .last()
            .map_or(self.purged.saturating_sub(1), |one| one.0)
    }

    pub fn now(&self) -> usize {
        self.states.len() - 1
    }

    fn push(&mut self, state: State) {
        self.states.push(state);
    }

    /// Appends records in one group, the first at `index`, and notes each as a state of its own.
    pub fn append(
        &mut self,
        log: &Log,
        index: u64,
        bytes: &[usize],
        durability: Durability,
    ) -> Result<Lsn> {
        let payloads: Vec<Vec<u8>> = bytes
            .iter()
            .enumerate()
            .map(|(at, &bytes)| payload(self.next_tag + at as u64, bytes))
            .collect();
        let records: Vec<Append<'_>> = (index..)
            .zip(&payloads)
            .map(|(index, payload)| Append {
                term: Term(3),
                ..Append::new(RecordKind::Batch, Index(index), payload)
            })
            .collect();
        // Before the call: a failed one may have done any part of it.
        for record in &records {
            let mut state = self.states.last().unwrap().clone();
            state.retain(|one| one.0 < record.index.0);
            state.push((record.index.0, self.next_tag));
            self.next_tag += 1;
            self.push(state);
        }
        log.append(&records, durability)
    }

    /// What was just tried is known not to have happened.
    pub fn take_back(&mut self, records: usize) {
        self.states.truncate(self.states.len() - records);
    }

    pub fn sync(&mut self, log: &Log) -> Result<()> {
        log.sync()?;
        self.acknowledged = self.now();
        Ok(())
    }

    pub fn truncate(&mut self, log: &Log, index: u64) -> Result<()> {
        let mut state = self.states.last().unwrap().clone();
        state.retain(|one| one.0 <= index);
        self.push(state);
        log.truncate_after(Index(index))?;
        self.acknowledged = self.now();
        Ok(())
    }

    pub fn purge(&mut self, log: &Log, index: u64) -> Result<()> {
        self.purged = self.purged.max(index);
        log.purge_before(Index(index))?;
        Ok(())
    }

    /// What the log holds, as a state. Fails if a payload isn't what was appended.
    fn read(log: &Log) -> Result<(u64, State)> {
        let first = log.first_index().0;
        let mut state = Vec::new();
        for record in read(log, first)? {
            let text = String::from_utf8_lossy(&record.payload);
            let tag = text.split(' ').nth(1).and_then(|tag| tag.parse().ok());
            let tag: u64 = tag.unwrap_or_else(|| panic!("not a payload: {text}"));
            assert_eq!(record.payload, payload(tag, record.payload.len()));
            state.push((record.index.0, tag));
        }
        assert_eq!(
            state.last().map_or(log.last_index().0, |one| one.0),
            log.last_index().0
        );
        Ok((first, state))
    }

    /// Checks that the log holds one of the states from the acknowledged one on, and goes on from there:
    /// what it holds now is durable, so it is the state that it must have after the next crash.
    pub fn check(&mut self, log: &Log, what: &str) {
        let (first, found) = Self::read(log).unwrap();
        assert!(
            first <= self.purged.max(1) || found.is_empty(),
            "{what}: begins at {first}, purged {}",
            self.purged
        );
        let matching = (self.acknowledged..self.states.len()).rev().find(|&at| {
            let state = &self.states[at];
            let rest = state.partition_point(|one| one.0 < first);
            state[rest..] == found
        });
        let Some(at) = matching else {
            panic!(
                "{what}: holds {found:?} from {first} on, acknowledged {:?}, last {:?}",
                self.states[self.acknowledged],
                self.states.last()
            );
        };
        self.states.truncate(at + 1);
        self.acknowledged = at;
    }
}
