//! `kintsu scan STORE`

use clap::Args;
use kintsu::{Bytes, Range};

use crate::console::Console;
use crate::escape::escape_into;
use crate::failure::Outcome;
use crate::format::Format;
use crate::store::{RangeArguments, StoreArguments};

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    range: RangeArguments,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Write the bytes as they are, without escapes
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Write only the keys
    #[arg(long, conflicts_with = "json")]
    keys: bool,
}

/// Writes the records as they stood when the scan began.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = arguments.store.open_to_read(console)?;
    let mut range = arguments.range.open(&db)?;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut line = String::new();
    while left > 0
        && let Some((key, value)) = step(&mut range, arguments.reverse)?
    {
        show(arguments, console, (key, &value), &mut line)?;
        left -= 1;
    }
    Ok(())
}

fn step(range: &mut Range, reverse: bool) -> kintsu::Result<Option<(&[u8], Bytes)>> {
    if reverse {
        range.next_back_ref()
    } else {
        range.next_ref()
    }
}

fn show(
    arguments: &Arguments,
    console: &mut Console,
    (key, value): (&[u8], &[u8]),
    line: &mut String,
) -> Outcome {
    if arguments.raw {
        console.bytes(key)?;
        if !arguments.keys {
            console.bytes(b"\t")?;
            console.bytes(value)?;
        }
        return console.bytes(b"\n");
    }
    line.clear();
    if arguments.keys {
        escape_into(key, line);
        line.push('\n');
    } else {
        let format = if console.json {
            Format::Jsonl
        } else {
            Format::Tsv
        };
        format.write(key, value, line);
    }
    console.bytes(line.as_bytes())
}
