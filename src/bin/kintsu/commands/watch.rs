//! `kintsu watch STORE`

use std::thread;
use std::time::Duration;

use clap::Args;
use kintsu::{FeedChange, FeedRecord, Index};
use serde_json::{Value, json};

use crate::console::Console;
use crate::escape::{escape, escape_into};
use crate::failure::Outcome;
use crate::format;
use crate::store::StoreArguments;
use crate::text;

/// How long `--follow` waits before it looks again.
const POLL_AFTER: Duration = Duration::from_millis(50);

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// From this record on; 0 is the oldest that the log still has
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// Wait for what comes
    #[arg(long, short)]
    follow: bool,
    /// Only changes in this keyspace
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// At most so many records
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// Writes what the log says has been done, a line a change; with `--json`, an object a record.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let mut follower = arguments.store.options().follow(Index(arguments.from))?;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(mut record) = follower.try_next()? else {
            if !arguments.follow {
                break;
            }
            console.flush()?;
            // Another process's files wake nobody.
            thread::park_timeout(POLL_AFTER);
            continue;
        };
        if let Some(wanted) = &arguments.keyspace {
            let is_wanted = |change: &FeedChange| change.keyspace().to_string() == *wanted;
            record.changes.retain(is_wanted);
            if record.changes.is_empty() {
                continue;
            }
        }
        show(&record, console)?;
        left -= 1;
    }
    Ok(())
}

fn show(record: &FeedRecord, console: &mut Console) -> Outcome {
    if console.json {
        let changes: Vec<_> = record.changes.iter().map(to_json).collect();
        return console.value(&json!({
            "index": record.index.0,
            "time_us": record.time_us,
            "changes": changes,
        }));
    }
    let time = text::time(record.time_us);
    let mut line = String::new();
    for change in &record.changes {
        line.clear();
        write_change(change, &mut line);
        writeln!(console, "{}\t{time}\t{line}", record.index)?;
    }
    Ok(())
}

/// Operation, keyspace, and what belongs to it, with tabs between.
fn write_change(change: &FeedChange, line: &mut String) {
    let operation = operation(change);
    let keyspace = escape(change.keyspace().to_string().as_bytes());
    line.push_str(&format!("{operation}\t{keyspace}"));
    let mut field = |bytes: &[u8]| {
        line.push('\t');
        escape_into(bytes, line);
    };
    match change {
        FeedChange::Put { key, value, .. } => {
            field(key);
            field(value);
        }
        FeedChange::PutExpiring {
            key,
            value,
            expires_us,
            ..
        } => {
            field(key);
            field(value);
            field(text::time(*expires_us).as_bytes());
        }
        FeedChange::Delete { key, .. } => field(key),
        FeedChange::DeleteRange { from, to, .. } => {
            field(from);
            if let Some(to) = to {
                field(to);
            }
        }
        FeedChange::Merge { key, operand, .. } => {
            field(key);
            field(operand);
        }
        FeedChange::Loaded { segments, .. } => {
            for segment in segments {
                field(&segment.smallest_key);
                field(&segment.largest_key);
            }
        }
        _ => {}
    }
}

fn operation(change: &FeedChange) -> &'static str {
    match change {
        FeedChange::Put { .. } => "put",
        FeedChange::PutExpiring { .. } => "put_expiring",
        FeedChange::Delete { .. } => "delete",
        FeedChange::DeleteRange { .. } => "delete_range",
        FeedChange::Merge { .. } => "merge",
        FeedChange::Loaded { .. } => "load",
        FeedChange::KeyspaceCreated { .. } => "create_keyspace",
        FeedChange::KeyspaceDropped { .. } => "drop_keyspace",
        _ => "other",
    }
}

fn to_json(change: &FeedChange) -> Value {
    let mut value = json!({
        "operation": operation(change),
        "keyspace": change.keyspace().to_string(),
        "keyspace_id": change.keyspace().id.0,
    });
    let mut field = |name: &str, bytes: &[u8]| value[name] = format::to_json(bytes);
    match change {
        FeedChange::Put { key, value, .. } => {
            field("key", key);
            field("value", value);
        }
        FeedChange::PutExpiring {
            key,
            value: new,
            expires_us,
            ..
        } => {
            field("key", key);
            field("value", new);
            value["expires_us"] = (*expires_us).into();
        }
        FeedChange::Delete { key, .. } => field("key", key),
        FeedChange::DeleteRange { from, to, .. } => {
            field("from", from);
            match to {
                Some(to) => field("to", to),
                None => value["to"] = Value::Null,
            }
        }
        FeedChange::Merge { key, operand, .. } => {
            field("key", key);
            field("operand", operand);
        }
        FeedChange::KeyspaceCreated { options, .. } => {
            let time_to_live = options.time_to_live.map(|time| time.as_micros() as u64);
            value["time_to_live_us"] = time_to_live.into();
            value["merge_operator"] = options.merge_operator.clone().into();
        }
        FeedChange::Loaded { segments, .. } => {
            let segments = segments.iter().map(|segment| {
                json!({
                    "digest": format!("{:032x}", segment.digest),
                    "entries": segment.entries,
                    "smallest_key": format::to_json(&segment.smallest_key),
                    "largest_key": format::to_json(&segment.largest_key),
                })
            });
            value["segments"] = segments.collect();
        }
        _ => {}
    }
    value
}
