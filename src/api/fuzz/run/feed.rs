//! The change feed shows the model's records, in order, and whatever it shows survives.

use super::Run;
use crate::api::fuzz::model::{Change, Record};
use crate::engine::FeedChange;
use crate::error::{Error, Result};
use crate::testing::Input;
use crate::types::{Durability, Index};

impl Run {
    /// Reads the feed to its end, from some record on.
    pub(super) fn read_feed(&mut self, input: &mut Input<'_>) -> Result<()> {
        let from = Index(input.below(self.model.last() + 2));
        let begun = self.db().subscribe(from);
        let kept = self.db().statistics().log_first_index;
        let mut feed = match begun {
            Err(Error::Purged { asked, first }) => {
                assert!(asked == from && first == kept && from < first);
                return Ok(());
            }
            other => other?,
        };
        let mut next = from.max(kept.min(Index(self.model.last() + 1)));
        while let Some(record) = feed.try_next()? {
            assert_eq!(record.index, next, "the order of the feed");
            let written = self.model.record(next.0);
            let written = written.unwrap_or_else(|| panic!("record {next} was never written"));
            assert!(
                is_same(written, &record.changes),
                "{record:?} and {written:?}"
            );
            next = next.next();
        }
        assert_eq!(next.0, self.model.last() + 1, "not all was shown");
        self.model.promise(Durability::Disk);
        Ok(())
    }
}

fn is_same(written: &Record, shown: &[FeedChange]) -> bool {
    match (written, shown) {
        (Record::Create, [FeedChange::KeyspaceCreated { .. }])
        | (Record::Drop, [FeedChange::KeyspaceDropped { .. }]) => true,
        (Record::Batch(changes), shown) => {
            let pairs = changes.iter().zip(shown);
            changes.len() == shown.len() && pairs.into_iter().all(|(a, b)| is_same_change(a, b))
        }
        _ => false,
    }
}

fn is_same_change(written: &Change, shown: &FeedChange) -> bool {
    let (key, value) = match shown {
        FeedChange::Put { key, value, .. } => (key, Some(&value[..])),
        FeedChange::Delete { key, .. } => (key, None),
        _ => return false,
    };
    let is_default = shown.keyspace().id.0 == 0;
    written.key == key[..] && written.value.as_deref() == value && written.in_other != is_default
}
