//! The change feed: the log's records, as subscribers read them.
//!
//! A subscriber reads the log's files by itself, and only what is both visible and durable: a crash
//! never takes back what it has shown. What is visible and not yet durable it syncs first, as anybody
//! may. It takes no lock that a writer holds for long, and a writer pays one relaxed load of a
//! counter for a feed that nobody reads.

mod record;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

pub(crate) use self::record::{Decoded, Decoder};
pub use self::record::{FeedChange, FeedKeyspace, FeedRecord};
use crate::engine::Engine;
use crate::engine::jobs::Job;
use crate::engine::pins::{Pin, PinKind};
use crate::error::{Error, Result};
use crate::types::{Index, Lsn};
use crate::wal::{LogReader, Record};

/// What wakes subscribers that wait.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    subscribers: AtomicU64,
    /// The store is let go; nothing comes any more.
    ended: AtomicBool,
    state: Mutex<()>,
    news: Condvar,
}

impl Feed {
    /// Tells subscribers, if there are any, to look again. Called by the leader, under its lock, after it has
    /// made records visible.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.subscribers.load(Ordering::Relaxed) > 0 {
            self.wake_all();
        }
    }

    /// Tells whoever waits to look again, from anywhere.
    pub(crate) fn wake_all(&self) {
        // Whoever has looked and not yet begun to wait holds this lock.
        drop(self.state.lock());
        self.news.notify_all();
    }

    /// No more records come.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// One reader of the feed.
#[derive(Debug)]
pub(crate) struct Subscriber {
    engine: Arc<Engine>,
    decoder: Decoder,
    pin: Pin,
    /// The record to be shown next.
    next: Index,
    reader: Option<LogReader>,
    /// Where the reader before ended.
    at: Option<Lsn>,
    /// The reader was made when its first record was visible already, and it has shown nothing yet.
    is_newest: bool,
    /// Every commit from now on sees the counter.
    is_noticed: bool,
}

/// What a look into the log has found.
enum Found {
    Record(Record),
    /// There is no more in it, as it was when the reader was made.
    End,
    /// A file was purged that the reader came from; it must begin anew.
    Moved,
}

impl Engine {
    /// Begins to read the feed at record `from`; 0 stands for the oldest that is there.
    pub(crate) fn subscribe(self: &Arc<Self>, from: Index) -> Result<Subscriber> {
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        let pin = self.pins.register(PinKind::Subscriber, from);
        let (next, reader) = loop {
            let last = self.views.visible();
            let next = match from {
                // (It may have lost all of its records, and the tree hold them.)
                Index(0) if self.log.last_index() < last => last.next(),
                Index(0) => self.log.first_index(),
                from => from,
            };
            if next > last.next() {
                let asked = next;
                return Err(Error::NotYetWritten { asked, last });
            }
            match self.log.read_durable_from(next, None) {
                // The oldest was purged since it was looked at: another one is the oldest now.
                Err(Error::Purged { .. }) if from == Index(0) => {}
                reader => break (next, reader?),
            }
        };
        pin.advance(next);
        let keyspaces = self.keyspaces.load();
        let names = keyspaces.trees().map(|tree| (tree.id, tree.name.as_str()));
        let decoder = Decoder::new(names);
        self.feed.subscribers.fetch_add(1, Ordering::SeqCst);
        Ok(Subscriber {
            engine: self.clone(),
            decoder,
            pin,
            next,
            reader: Some(reader),
            at: None,
            is_newest: false,
            is_noticed: false,
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.engine.feed.subscribers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Subscriber {
    /// The record that comes next.
    pub(crate) fn next_index(&self) -> Index {
        self.next
    }

    /// The next record, if there is one.
    pub(crate) fn try_next(&mut self) -> Result<Option<FeedRecord>> {
        while self.next <= self.engine.views.visible() {
            let record = self.read_visible()?;
            if record.index > self.next {
                // What was in between the tree holds, and the log has lost.
                self.begin_anew();
                return Err(self.purged(record.index));
            }
            let decoded = self.decoder.decode(&record);
            if let Decoded::Malformed(what) = decoded {
                self.begin_anew();
                return Err(self.engine.malformed(record.index, what));
            }
            // What is handed out now is still there for one who begins again because he fell over it.
            self.pin.advance(self.next);
            self.next = record.index.next();
            if let Decoded::Effects(effects) = decoded {
                return Ok(Some(effects));
            }
        }
        if self.engine.feed.has_ended() {
            return Err(Error::Closed);
        }
        self.engine.check_not_latched().map(|()| None)
    }

    /// The next record, waiting for it at most so long, or for ever.
    pub(crate) fn next_within(&mut self, time: Option<Duration>) -> Result<Option<FeedRecord>> {
        let clock = self.engine.clock.clone();
        let deadline = time.and_then(|time| clock.elapsed().checked_add(time));
        loop {
            if let Some(record) = self.try_next()? {
                return Ok(Some(record));
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(clock.elapsed()));
            if !self.wait(left) {
                return self.try_next();
            }
        }
    }

    /// Waits until there may be something. `false` if the time was over before.
    fn wait(&mut self, left: Option<Duration>) -> bool {
        if !self.is_noticed {
            // A commit under way may have looked at the counter before it could see us. Whoever leads
            // after this does see it, and what led before is visible.
            let commit = &self.engine.commit;
            let turn = match left {
                Some(left) => commit.try_lock_for(left),
                None => Some(commit.lock()),
            };
            self.is_noticed = turn.is_some();
            return self.is_noticed;
        }
        let feed = &self.engine.feed;
        let mut state = feed.state.lock();
        let is_nothing_new = self.next > self.engine.views.visible()
            && !feed.has_ended()
            && self.engine.latched().is_none();
        match left {
            Some(left) if is_nothing_new => !feed.news.wait_for(&mut state, left).timed_out(),
            None if is_nothing_new => {
                feed.news.wait(&mut state);
                true
            }
            _ => true,
        }
    }

    /// The log's next record; there is one that is visible.
    fn read_visible(&mut self) -> Result<Record> {
        let mut is_synced = false;
        loop {
            match self.read()? {
                Found::Record(record) => return Ok(record),
                Found::Moved => {}
                Found::End if self.is_newest => {
                    // All that was durable when its reader was made; this one wasn't, then.
                    if is_synced {
                        return Err(self.purged(self.engine.views.visible().next()));
                    }
                    self.sync()?;
                    is_synced = true;
                }
                Found::End => {}
            }
            self.reader = Some(self.engine.log.read_durable_from(self.next, self.at)?);
            self.is_newest = true;
        }
    }

    fn read(&mut self) -> Result<Found> {
        let Some(reader) = &mut self.reader else {
            self.is_newest = false;
            return Ok(Found::End);
        };
        match reader.next() {
            Ok(Some(record)) => {
                self.at = reader.position();
                self.is_newest = false;
                Ok(Found::Record(record))
            }
            Ok(None) => {
                self.reader = None;
                Ok(Found::End)
            }
            Err(Error::Purged { .. }) => {
                self.reader = None;
                // A file that it would have read in vain may be what is gone.
                match self.engine.log.first_index() {
                    first if first > self.next => Err(self.purged(first)),
                    _ => Ok(Found::Moved),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes durable what is visible.
    fn sync(&self) -> Result<()> {
        let engine = &self.engine;
        // While the store is being closed there is still something to be shown; after that, no more syncs.
        let _call = engine.calls.enter_late();
        if engine.feed.has_ended() {
            return Err(Error::Closed);
        }
        engine.check_not_latched()?;
        match engine.log.sync() {
            Ok(()) => {
                engine.signals.wake(Job::SyncIdentifiers);
                Ok(())
            }
            Err(error) => {
                engine.latch_if_final(&error);
                if engine.feed.has_ended() {
                    return Err(Error::Closed);
                }
                engine.check_not_latched()?;
                Err(error)
            }
        }
    }

    /// The record that was just read is to be read again.
    fn begin_anew(&mut self) {
        self.reader = None;
        self.at = None;
    }

    fn purged(&self, first: Index) -> Error {
        let asked = self.next;
        Error::Purged { asked, first }
    }
}
