//! `kintsu count STORE`

use clap::Args;
use serde_json::json;

use crate::console::Console;
use crate::failure::Outcome;
use crate::progress::Progress;
use crate::store::{RangeArguments, StoreArguments};

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    range: RangeArguments,
}

/// Writes how many keys there are. Reads them all.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = arguments.store.open_to_read(console)?;
    let mut range = arguments.range.open(&db)?;
    let mut progress = Progress::new(console, "counted", Some("key"), None);
    let (mut keys, mut bytes) = (0, 0);
    while let Some((key, value)) = range.next_ref()? {
        keys += 1;
        bytes += (key.len() + value.len()) as u64;
        progress.tell_if_due(keys, bytes);
    }
    progress.finish();
    if console.json {
        console.value(&json!({ "count": keys }))
    } else {
        writeln!(console, "{keys}")
    }
}
