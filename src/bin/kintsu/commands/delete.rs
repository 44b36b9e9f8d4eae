//! `kintsu delete STORE KEY`

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use crate::console::Console;
use crate::escape::escape;
use crate::failure::{Failure, Outcome};
use crate::format::to_json;
use crate::store::{EscapedArgument, KeyspaceArgument, StoreArguments};

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    #[command(flatten)]
    escaped: EscapedArgument,
    #[command(flatten)]
    keyspace: KeyspaceArgument,
}

/// Removes the key, and returns when that is on disk. A key that isn't there is "not found".
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let key = arguments.escaped.bytes(&arguments.key)?;
    let db = arguments.store.open_for_one_write(console, false)?;
    let keyspace = db.keyspace(&arguments.keyspace.keyspace)?;
    let found = keyspace.contains(&key)?;
    if found {
        keyspace.delete(&key)?;
    }
    db.close()?;
    if !found {
        return Err(Failure::NotFound(format!("no key {}", escape(&key))));
    }
    if console.json {
        console.value(&json!({ "key": to_json(&key), "deleted": true }))?;
    }
    Ok(())
}
