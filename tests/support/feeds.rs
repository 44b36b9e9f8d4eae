//! Subscriptions beside the model: what each is shown, and where it goes on after a crash.

use std::collections::BTreeMap;

use kintsu::{
    Append, Db, Error, FeedChange, FeedKeyspace, FeedRecord, Follower, Index, Options, Result,
    Subscription,
};

use super::driver::Driver;
use super::model::{Change, Effect, Model, Record};

/// How often what was done.
#[derive(Clone, Debug, Default)]
pub struct FeedCounts {
    begun: u64,
    resumed: u64,
    followed: u64,
    shown: u64,
    purged: u64,
}

impl FeedCounts {
    pub fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.resumed += other.resumed;
        self.followed += other.followed;
        self.shown += other.shown;
        self.purged += other.purged;
    }
}

/// Where a subscriber reads.
enum Source {
    Within(Box<Subscription>),
    Beside(Box<Follower>),
    /// Its store is gone, and it remembers its position.
    Nowhere,
}

/// A subscriber.
struct Feed {
    source: Source,
    /// The record that comes next.
    next: u64,
    has_shown: bool,
}

/// Every subscriber of a run.
#[derive(Default)]
pub struct Feeds {
    feeds: Vec<Feed>,
    /// Which number each keyspace was seen to have, by its place in the model.
    ids: BTreeMap<usize, u32>,
    pub counts: FeedCounts,
}

impl Feeds {
    /// Begins a subscription at a record.
    pub fn begin(&mut self, db: &Db, model: &Model, pick: usize) -> Result<()> {
        let pick = pick as u64;
        let kept = db.statistics().log_first_index.0.min(model.last + 1);
        let next = match pick % 4 {
            0 => model.last + 1,
            1 => 1 + pick % (model.last + 1),
            _ => kept + pick % (model.last + 2 - kept),
        };
        match subscribe(db, model, next)? {
            Some(subscription) => {
                self.counts.begun += 1;
                self.push(Source::Within(Box::new(subscription)), next);
            }
            None => self.counts.purged += 1,
        }
        Ok(())
    }

    fn push(&mut self, source: Source, next: u64) {
        let has_shown = false;
        self.feeds.push(Feed {
            source,
            next,
            has_shown,
        });
    }

    /// Begins to follow the store from beside it.
    pub fn follow(&mut self, options: &Options, model: &Model, pick: usize) -> Result<()> {
        let next = 1 + pick as u64 % (model.process + 1);
        match options.follow(Index(next)) {
            Ok(follower) => {
                self.counts.followed += 1;
                self.push(Source::Beside(Box::new(follower)), next);
            }
            Err(Error::Purged { asked, first }) => assert!(asked == Index(next) && asked < first),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The store is open again: all go on from the positions that they remember.
    pub fn resume(&mut self, db: &Db, model: &Model) {
        for mut feed in std::mem::take(&mut self.feeds) {
            if feed.next > model.last + 1 && !feed.has_shown {
                // It began behind writes of which nothing was promised.
                let refused = db.subscribe(Index(feed.next)).map(drop);
                assert!(matches!(refused, Err(Error::NotYetWritten { .. })));
                continue;
            }
            match subscribe(db, model, feed.next).expect("nothing is in the way") {
                Some(subscription) => {
                    self.counts.resumed += 1;
                    feed.source = Source::Within(Box::new(subscription));
                    self.feeds.push(feed);
                }
                None => self.counts.purged += 1,
            }
        }
    }

    /// Reads some records of one.
    pub fn read(&mut self, model: &mut Model, pick: usize, records: u8) -> Result<()> {
        if self.feeds.is_empty() {
            return Ok(());
        }
        let at = pick % self.feeds.len();
        for _ in 0..records {
            match self.one(model, at) {
                Ok(true) => {}
                Ok(false) => break,
                Err(Error::Purged { first, .. }) => {
                    assert!(first.0 > self.feeds[at].next);
                    self.counts.purged += 1;
                    self.feeds.swap_remove(at);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a record of one. `false` if there was none, and should be none.
    fn one(&mut self, model: &mut Model, at: usize) -> Result<bool> {
        let feed = &mut self.feeds[at];
        let record = match &mut feed.source {
            Source::Within(subscription) => {
                assert_eq!(subscription.next_index(), Index(feed.next));
                let record = subscription.try_next()?;
                assert!(record.is_some() || feed.next == model.last + 1);
                record
            }
            Source::Beside(follower) => {
                assert_eq!(follower.next_index(), Index(feed.next));
                let record = follower.try_next()?;
                assert!(record.is_some() || feed.next > model.process);
                record
            }
            Source::Nowhere => None,
        };
        let Some(record) = record else {
            return Ok(false);
        };
        assert_eq!(record.index, Index(feed.next), "the order of the feed");
        model.shown(feed.next);
        compare(model, &mut self.ids, &record);
        feed.next += 1;
        feed.has_shown = true;
        self.counts.shown += 1;
        Ok(true)
    }

    pub fn let_go(&mut self, pick: usize) {
        if !self.feeds.is_empty() {
            self.feeds.swap_remove(pick % self.feeds.len());
        }
    }

    /// The store was closed: each is shown all that there was, and then that it is closed.
    pub fn end(&mut self, model: &mut Model) -> Result<()> {
        for at in 0..self.feeds.len() {
            if !matches!(self.feeds[at].source, Source::Within(_)) {
                continue;
            }
            let error = loop {
                if let Err(error) = self.one(model, at) {
                    break error;
                }
            };
            match error {
                Error::Closed => assert_eq!(self.feeds[at].next, model.last + 1),
                Error::Purged { first, .. } => assert!(first.0 > self.feeds[at].next),
                error => return Err(error),
            }
        }
        Ok(())
    }

    /// The store is gone, in whatever way; the positions are remembered.
    pub fn remember(&mut self) {
        for feed in &mut self.feeds {
            feed.source = Source::Nowhere;
        }
    }
}

/// Reads all that there is once, from the oldest record on that the log has.
pub fn read_all(driver: &mut Driver) -> Result<()> {
    let mut subscription = driver.db().subscribe(Index(0))?;
    let mut next = subscription.next_index().0;
    while let Some(record) = subscription.try_next()? {
        assert_eq!(record.index, Index(next), "the order of the feed");
        driver.model.shown(next);
        compare(&driver.model, &mut BTreeMap::new(), &record);
        next += 1;
    }
    assert_eq!(next, driver.model.last + 1, "a subscriber isn't shown all");
    Ok(())
}

/// `None` if the log no longer has the record.
fn subscribe(db: &Db, model: &Model, next: u64) -> Result<Option<Subscription>> {
    assert!(next <= model.last + 1, "what was shown is gone");
    let kept = db.statistics().log_first_index;
    match db.subscribe(Index(next)) {
        Ok(subscription) => {
            assert!(Index(next) >= kept);
            Ok(Some(subscription))
        }
        Err(Error::Purged { asked, first }) => {
            assert_eq!((asked, first), (Index(next), kept));
            assert!(asked < first);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A record as the model has it.
fn compare(model: &Model, ids: &mut BTreeMap<usize, u32>, record: &FeedRecord) {
    let (expected, time_us) = model.record(record.index.0);
    assert_eq!(record.time_us, time_us, "the time of {}", record.index);
    let mut same = |keyspace: &FeedKeyspace, place: usize| {
        if let Some(name) = &keyspace.name {
            assert_eq!(&**name, model.keyspaces[place].name);
        } else {
            assert!(!model.is_live(place, model.last), "its name is known");
        }
        // What was shown stays, so a place that was seen keeps its number, which no other has.
        let known = *ids.entry(place).or_insert(keyspace.id.0);
        assert_eq!(known, keyspace.id.0);
        assert_eq!(ids.values().filter(|id| **id == known).count(), 1);
    };
    match (expected, &record.changes[..]) {
        (Record::Batch(changes), found) => {
            assert_eq!(changes.len(), found.len(), "{}", record.index);
            for (change, found) in changes.iter().zip(found) {
                same(found.keyspace(), change.keyspace);
                assert!(is_same(change, found, time_us), "{change:?} and {found:?}");
            }
        }
        (Record::Load(changes), [FeedChange::Loaded { keyspace, segments }]) => {
            same(keyspace, changes[0].keyspace);
            let entries: u64 = segments.iter().map(|segment| segment.entries).sum();
            assert_eq!(entries, changes.len() as u64);
            assert_eq!(segments[0].smallest_key, changes[0].key);
            let largest = segments.last().map(|segment| &segment.largest_key);
            assert_eq!(largest, changes.last().map(|change| &change.key));
        }
        (Record::Create(name), [FeedChange::KeyspaceCreated { keyspace, options }]) => {
            assert_eq!(keyspace.name.as_deref(), Some(name.as_str()));
            assert_eq!(options.merge_operator.as_deref(), Some(Append::NAME));
        }
        (Record::Drop(place), [FeedChange::KeyspaceDropped { keyspace }]) => {
            same(keyspace, *place);
        }
        (expected, found) => panic!("{}: {expected:?} and {found:?}", record.index),
    }
}

fn is_same(expected: &Change, found: &FeedChange, time_us: u64) -> bool {
    let (key, effect) = match found {
        FeedChange::Put { key, value, .. } => (key, Effect::Put(value.to_vec())),
        FeedChange::Delete { key, .. } => (key, Effect::Delete),
        FeedChange::Merge { key, operand, .. } => (key, Effect::Merge(operand.to_vec())),
        FeedChange::PutExpiring {
            key,
            value,
            expires_us,
            ..
        } => {
            let after = expires_us.saturating_sub(time_us);
            (key, Effect::PutExpiring(after, value.to_vec()))
        }
        FeedChange::DeleteRange { from, to, .. } => {
            let to = to.as_ref().map(|to| to.to_vec());
            (from, Effect::DeleteTo(to))
        }
        other => panic!("{other:?}"),
    };
    expected.key == key[..] && expected.effect == effect
}
