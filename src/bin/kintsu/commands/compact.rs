//! `kintsu compact STORE`

use std::ops::Bound;

use clap::Args;
use serde_json::json;

use crate::console::Console;
use crate::failure::Outcome;
use crate::store::{RangeArguments, StoreArguments};
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    range: RangeArguments,
}

/// Compacts a range, or all, of a keyspace down to its last level, and says what that gave back.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = arguments.store.open_to_write(console, false)?;
    let keyspace = db.keyspace(&arguments.range.keyspace.keyspace)?;
    let size = || -> u64 {
        let all = db.statistics().keyspaces;
        let own = all.iter().filter(|one| one.name == keyspace.name());
        own.flat_map(|one| &one.level_bytes).sum()
    };
    let (lower, upper): (Bound<Vec<u8>>, Bound<Vec<u8>>) = arguments.range.bounds()?;
    // What is only in memory becomes a segment first, and counts.
    db.flush()?;
    let before = size();
    keyspace.compact_range((lower, upper))?;
    let after = size();
    db.close()?;
    if console.json {
        return console.value(&json!({ "bytes_before": before, "bytes_after": after }));
    }
    let (before, after) = (text::bytes(before), text::bytes(after));
    writeln!(console, "compacted {before} of segments to {after}")
}
