//! `kintsu put STORE KEY VALUE`

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use kintsu::VALUE_BYTES_MAX;
use serde_json::json;

use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::store::{EscapedArgument, KeyspaceArgument, StoreArguments, keyspace_to_write};

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    /// The value
    #[arg(allow_negative_numbers = true, required_unless_present = "file")]
    value: Option<OsString>,
    /// Take the value from this file, or from standard input if it is -
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Refuse to create a store or a keyspace
    #[arg(long)]
    no_create: bool,
    #[command(flatten)]
    escaped: EscapedArgument,
    #[command(flatten)]
    keyspace: KeyspaceArgument,
}

/// Puts, and returns when the value is on disk.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let key = arguments.escaped.bytes(&arguments.key)?;
    let value = match (&arguments.value, &arguments.file) {
        (Some(value), _) => arguments.escaped.bytes(value)?,
        (None, Some(file)) => read(file)?,
        (None, None) => return Err(Failure::Usage("there is no value".into())),
    };
    // Told before a store is created for nothing.
    format::check(&key, &value).map_err(Failure::Usage)?;
    let create = !arguments.no_create;
    let db = arguments.store.open_for_one_write(console, create)?;
    let keyspace = keyspace_to_write(&db, &arguments.keyspace.keyspace, create)?;
    keyspace.put(&key, &value)?;
    db.close()?;
    if console.json {
        console.value(&json!({ "key": format::to_json(&key), "value_bytes": value.len() }))?;
    }
    Ok(())
}

/// The file's content, and at most one byte more than a value can have.
fn read(path: &Path) -> Outcome<Vec<u8>> {
    let mut value = Vec::new();
    let limit = VALUE_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut value)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut value))
    };
    match read {
        Ok(_) => Ok(value),
        Err(error) => Err(Failure::file("read", path, &error)),
    }
}
