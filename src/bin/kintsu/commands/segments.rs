//! `kintsu segments STORE`

use kintsu::inspect::{self, InspectedSegment, SegmentContent};
use kintsu::vfs::DiskVfs;
use serde_json::{Value, json};

use super::dump::{Dump, DumpArguments, files, verdict};
use crate::console::Console;
use crate::escape::escape;
use crate::failure::Outcome;
use crate::format::to_json;
use crate::text;

/// Its arguments.
pub type Arguments = DumpArguments;

/// Shows each segment file, part by part.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let paths = files(&arguments.store.store, "segment")?;
    let mut dump = Dump::new(arguments, console);
    for path in paths {
        let file = json!({ "segment": { "file": path.to_string_lossy() } });
        dump.file(&format!("{}:", path.display()), &file);
        inspect::segment(&DiskVfs, &path, &mut |part| show(&mut dump, &part))?;
    }
    dump.finish()
}

fn show(dump: &mut Dump<'_>, part: &InspectedSegment) {
    let wrong = part.verdict.as_ref().err().map(String::as_str);
    // A segment is published whole and never changed: nothing in it can be torn.
    dump.damaged |= wrong.is_some();
    let (kind, details, value) = content(&part.content);
    let text = format!(
        "{:>10}  {:>8} bytes  {kind:<10}  {details}  {}",
        part.offset,
        part.bytes,
        verdict(wrong)
    );
    let value = json!({ kind: {
        "offset": part.offset,
        "bytes": part.bytes,
        "good": wrong.is_none(),
        "wrong": wrong,
        "content": value,
    }});
    dump.part(wrong.is_none(), &text, &value);
}

/// Kind, content in words, content as JSON.
fn content(content: &SegmentContent) -> (&'static str, String, Value) {
    match content {
        SegmentContent::Header { identity } => {
            let text = identity.as_ref().map_or_else(String::new, |identity| {
                format!(
                    "segment {} of keyspace {}, store {}",
                    identity.number, identity.keyspace, identity.store_id
                )
            });
            let value = identity.as_ref().map(|identity| {
                json!({
                    "number": identity.number.0,
                    "keyspace": identity.keyspace.0,
                    "store_id": identity.store_id.to_string(),
                    "file_id": identity.file_id.to_string(),
                })
            });
            ("header", text, value.into())
        }
        SegmentContent::Block {
            entries,
            first_key,
            last_key,
        } => {
            let key = |key: &Option<Vec<u8>>| key.as_deref().map(escape).unwrap_or_default();
            let text = format!("{entries} entries, {} to {}", key(first_key), key(last_key));
            let value = json!({
                "entries": entries,
                "first_key": first_key.as_deref().map(to_json),
                "last_key": last_key.as_deref().map(to_json),
            });
            ("block", text, value)
        }
        SegmentContent::Filter { usable } => {
            let text = if *usable {
                ""
            } else {
                "of a kind that this version can't ask"
            };
            ("filter", text.to_owned(), json!({ "usable": usable }))
        }
        SegmentContent::Index { blocks } => (
            "index",
            text::plural(*blocks, "block"),
            json!({ "blocks": blocks }),
        ),
        SegmentContent::Properties { properties } => {
            let text = properties.as_ref().map_or_else(String::new, |properties| {
                format!(
                    "{} ({} of them deletions), records {} to {}, keys {} to {}",
                    text::plural(properties.keys, "key"),
                    properties.deletes,
                    properties.smallest_index,
                    properties.largest_index,
                    escape(&properties.smallest_key),
                    escape(&properties.largest_key),
                )
            });
            let value = properties.as_ref().map(|properties| {
                json!({
                    "entries": properties.entries,
                    "deletes": properties.deletes,
                    "keys": properties.keys,
                    "key_bytes": properties.key_bytes,
                    "value_bytes": properties.value_bytes,
                    "blocks": properties.blocks,
                    "smallest_index": properties.smallest_index.0,
                    "largest_index": properties.largest_index.0,
                    "smallest_key": to_json(&properties.smallest_key),
                    "largest_key": to_json(&properties.largest_key),
                })
            });
            ("properties", text, value.into())
        }
        SegmentContent::Footer { footer } => {
            let text = footer.as_ref().map_or_else(String::new, |footer| {
                format!("of a file of {} bytes", footer.file_bytes)
            });
            let value = footer
                .as_ref()
                .map(|footer| json!({ "file_bytes": footer.file_bytes }));
            ("footer", text, value.into())
        }
        SegmentContent::Unknown => ("unknown", String::new(), Value::Null),
    }
}
