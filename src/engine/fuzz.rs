//! What the fuzz targets of `api` need of rooms that it may not enter.
#![allow(
    clippy::expect_used,
    reason = "a check that fails must stop the fuzzer"
)]

use std::sync::Arc;

use crate::engine::Engine;
use crate::types::Term;
use crate::wal::{LogAccess, TermVote, Vote};

impl Engine {
    /// Leaves a term and a vote in the store's folder, as one who replicates would.
    pub(crate) fn leave_vote(&self) {
        let vfs = Arc::clone(&self.options.vfs);
        let dir = &self.options.path;
        let vote = Vote {
            term: Term(3),
            candidate: Some(7),
        };
        TermVote::open(vfs, dir, self.store_id, Term(0), LogAccess::ReadWrite)
            .and_then(|kept| kept.store(vote))
            .expect("the disk answers");
    }
}
