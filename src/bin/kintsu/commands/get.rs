//! `kintsu get STORE KEY`

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

/// Writes the value's bytes and nothing else.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let key = arguments.escaped.bytes(&arguments.key)?;
    let db = arguments.store.open_to_read(console)?;
    let Some(value) = db.keyspace(&arguments.keyspace.keyspace)?.get(&key)? else {
        return Err(Failure::NotFound(format!("no key {}", escape(&key))));
    };
    if console.json {
        console.value(&json!({ "key": to_json(&key), "value": to_json(&value) }))
    } else {
        console.bytes(&value)
    }
}
