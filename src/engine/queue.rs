//! The commit queue: writers put their encoded records in, one of them leads a group through the log.
//!
//! A request's state goes Waiting → Leading (its owner must lead the next group) or → Done. The
//! leader hands the lead on before it wakes its group, so that the next sync begins while the woken
//! threads are still getting up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::Thread;

use parking_lot::Mutex;

use crate::codec::payload_hash;
use crate::engine::batch::{Operations, Touched, WriteBatch};
use crate::engine::catalog::CatalogOperation;
use crate::engine::conflicts::ReadSet;
use crate::engine::load::Cargo;
use crate::error::Result;
use crate::types::{Durability, Index, KeyspaceId};
use crate::wal::{Record, RecordKind};

const WAITING: u8 = 0;
const LEADING: u8 = 1;
const DONE: u8 = 2;

/// Bytes of payload in one group, so that a group's writers don't wait for too long a write.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Requests in one group.
const GROUP_REQUESTS_MAX: usize = 1024;
/// How often a leader lets other threads run before it takes a group that is to be synced.
const GATHER_YIELDS: usize = 8;

/// One record on its way into the log.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: RecordKind,
    pub(crate) payload: Vec<u8>,
    pub(crate) payload_hash: u64,
    pub(crate) operations: u32,
    pub(crate) touched: Touched,
    pub(crate) durability: Durability,
    /// What a transaction read, to be held against what has been written since.
    pub(crate) reads: Option<ReadSet>,
    /// Segments that the record loads.
    pub(crate) cargo: Cargo,
    /// The time that the record had before, if it is committed again.
    pub(crate) time_us: Option<u64>,
    state: AtomicU8,
    outcome: Mutex<Option<Result<Index>>>,
    owner: Thread,
}

impl Request {
    /// A batch on its way; its sizes have been checked.
    pub(crate) fn of_batch(batch: WriteBatch, durability: Durability) -> Result<Arc<Self>> {
        Self::of_transaction(batch, durability, None)
    }

    /// A transaction's writes on their way, if nothing that it read is changed before.
    pub(crate) fn of_transaction(
        batch: WriteBatch,
        durability: Durability,
        reads: Option<ReadSet>,
    ) -> Result<Arc<Self>> {
        let (payload, operations, touched) = batch.finish()?;
        let request = Self::new(RecordKind::Batch, payload, operations, touched, durability);
        Ok(Arc::new(Self { reads, ..request }))
    }

    /// A change of the catalog on its way; always synced.
    pub(crate) fn of_catalog(operation: &CatalogOperation) -> Arc<Self> {
        let (kind, payload) = (RecordKind::Catalog, operation.encode());
        let touched = Touched::default();
        Arc::new(Self::new(kind, payload, 0, touched, Durability::Disk))
    }

    /// A record that brings segments, which its leader takes.
    pub(super) fn of_cargo(
        kind: RecordKind,
        payload: Vec<u8>,
        keyspace: KeyspaceId,
        durability: Durability,
        cargo: Cargo,
    ) -> Arc<Self> {
        let mut touched = Touched::default();
        touched.insert(keyspace);
        let request = Self::new(kind, payload, 0, touched, durability);
        Arc::new(Self { cargo, ..request })
    }

    /// A record that is committed again, as a restore does: with the time that it had. What it says was
    /// checked when it was written. `cargo`: the segments that it loads.
    pub(crate) fn of_record(record: &Record, cargo: Cargo) -> Arc<Self> {
        let payload = record.payload.to_vec();
        let operations = match record.kind {
            RecordKind::Batch => Operations::new(&payload).count(),
            _ => 0,
        };
        let operations = u32::try_from(operations).unwrap_or(u32::MAX);
        let (touched, durability) = (Touched::default(), Durability::Buffered);
        let mut request = Self::new(record.kind, payload, operations, touched, durability);
        request.time_us = Some(record.time_us);
        request.cargo = cargo;
        Arc::new(request)
    }

    fn new(
        kind: RecordKind,
        payload: Vec<u8>,
        operations: u32,
        touched: Touched,
        durability: Durability,
    ) -> Self {
        Self {
            kind,
            payload_hash: payload_hash(&payload),
            payload,
            operations,
            touched,
            durability,
            reads: None,
            cargo: Cargo::default(),
            time_us: None,
            state: AtomicU8::new(WAITING),
            outcome: Mutex::new(None),
            owner: std::thread::current(),
        }
    }

    /// Says how it went. The owner is woken by [`Queue::finish`], not here.
    pub(crate) fn complete(&self, outcome: Result<Index>) {
        *self.outcome.lock() = Some(outcome);
    }

    /// The outcome, once.
    pub(crate) fn take_outcome(&self) -> Option<Result<Index>> {
        if self.state.load(Ordering::Acquire) == DONE {
            self.outcome.lock().take()
        } else {
            None
        }
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }

    /// Waits until this request is done (`false`) or must lead (`true`). Called by the owner.
    pub(crate) fn wait(&self) -> bool {
        // A group without a sync takes about a microsecond: look again a few times before sleeping.
        let spins = if self.durability == Durability::Disk {
            0
        } else {
            200
        };
        for _ in 0..spins {
            if self.state.load(Ordering::Acquire) != WAITING {
                break;
            }
            std::hint::spin_loop();
        }
        loop {
            match self.state.load(Ordering::Acquire) {
                WAITING => std::thread::park(),
                state => return state == LEADING,
            }
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    requests: std::collections::VecDeque<Arc<Request>>,
    led: bool,
    /// How many may be waiting once those who were woken last are back.
    expected: usize,
}

/// Requests that wait for a leader.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
}

impl Queue {
    /// Puts a request in. `true` if its owner must lead: nobody else does.
    pub(crate) fn push(&self, request: Arc<Request>) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.requests.push_back(request);
        !std::mem::replace(&mut waiting.led, true)
    }

    /// Puts a request in for [`Queue::take`] by whoever steps the commit job.
    pub(crate) fn push_unled(&self, request: Arc<Request>) {
        self.waiting.lock().requests.push_back(request);
    }

    /// Called by a leader before a sync: lets those who were woken a moment ago come back with their next
    /// write. Two writers would otherwise wait for each other's syncs in turn.
    pub(crate) fn gather(&self) {
        for _ in 0..GATHER_YIELDS {
            {
                let waiting = self.waiting.lock();
                if waiting.requests.len() >= waiting.expected {
                    return;
                }
            }
            std::thread::yield_now();
        }
    }

    /// Takes the next group out, oldest first. A record of the catalog travels alone, so that every
    /// batch is checked against the keyspaces as they are when it is applied.
    pub(crate) fn take(&self, group: &mut Vec<Arc<Request>>) {
        let mut waiting = self.waiting.lock();
        let mut bytes = 0;
        while let Some(next) = waiting.requests.front() {
            let alone = next.kind != RecordKind::Batch;
            let full =
                bytes + next.payload.len() > GROUP_BYTES_MAX || group.len() >= GROUP_REQUESTS_MAX;
            if !group.is_empty() && (alone || full) {
                return;
            }
            bytes += next.payload.len();
            group.extend(waiting.requests.pop_front());
            if alone {
                return;
            }
        }
    }

    /// Ends the leader's turn: hands the lead to the oldest waiting request, then wakes the group.
    pub(crate) fn finish(&self, group: &mut Vec<Arc<Request>>) {
        let next = {
            let mut waiting = self.waiting.lock();
            let next = waiting.requests.front().cloned();
            waiting.led = next.is_some();
            waiting.expected = waiting.requests.len() + group.len();
            next
        };
        if let Some(next) = next {
            next.set(LEADING);
            next.owner.unpark();
        }
        let own = std::thread::current().id();
        for request in group.drain(..) {
            request.set(DONE);
            if request.owner.id() != own {
                request.owner.unpark();
            }
        }
    }

    /// As [`Queue::finish`], for whoever steps the commit job: nobody leads afterwards.
    pub(crate) fn finish_unled(&self, group: &mut Vec<Arc<Request>>) {
        for request in group.drain(..) {
            request.set(DONE);
        }
    }
}
