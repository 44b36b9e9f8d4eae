//! `kintsu segments STORE`

use kintsu::Codec;
use kintsu::inspect::{self, InspectedSegment, SegmentContent, SegmentIdentity, SegmentProperties};
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

/// What kind of part, its content in words, its content as JSON.
type Shown = (&'static str, String, Value);

fn content(content: &SegmentContent) -> Shown {
    match content {
        SegmentContent::Header { identity } => header(identity.as_ref()),
        SegmentContent::Block {
            codec,
            plain_bytes,
            entries,
            first_key,
            last_key,
        } => {
            let key = |key: &Option<Vec<u8>>| key.as_deref().map(escape).unwrap_or_default();
            let (entries_text, first, last) =
                (text::count(*entries), key(first_key), key(last_key));
            let value = json!({
                "codec": codec.name(),
                "plain_bytes": plain_bytes,
                "entries": entries,
                "first_key": first_key.as_deref().map(to_json),
                "last_key": last_key.as_deref().map(to_json),
            });
            let mut text = format!("entries: {entries_text}, keys {first} to {last}");
            if *codec != Codec::None {
                text += &format!(", {} of {}", codec.name(), text::bytes(*plain_bytes));
            }
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
        SegmentContent::Dictionary { usable } => {
            let text = if *usable { "" } else { "not one" };
            ("dictionary", text.to_owned(), json!({ "usable": usable }))
        }
        SegmentContent::Index { blocks } => {
            let value = json!({ "blocks": blocks });
            ("index", text::plural(*blocks, "block"), value)
        }
        SegmentContent::Properties { properties } => show_properties(properties.as_ref()),
        SegmentContent::Footer { footer } => {
            let bytes = footer.as_ref().map(|footer| footer.content_bytes);
            let text = bytes.map(|bytes| format!("of {bytes} bytes of content"));
            let value = bytes.map(|bytes| json!({ "content_bytes": bytes }));
            ("footer", text.unwrap_or_default(), value.into())
        }
        SegmentContent::Parity { name } => ("parity", (*name).to_owned(), json!({ "part": name })),
        SegmentContent::Unknown => ("unknown", String::new(), Value::Null),
    }
}

fn header(identity: Option<&SegmentIdentity>) -> Shown {
    let Some(identity) = identity else {
        return ("header", String::new(), Value::Null);
    };
    let text = format!(
        "segment {} of keyspace {}, store {}",
        identity.number, identity.keyspace, identity.store_id
    );
    let value = json!({
        "number": identity.number.0,
        "keyspace": identity.keyspace.0,
        "store_id": identity.store_id.to_string(),
        "file_id": identity.file_id.to_string(),
    });
    ("header", text, value)
}

fn show_properties(properties: Option<&SegmentProperties>) -> Shown {
    let Some(properties) = properties else {
        return ("properties", String::new(), Value::Null);
    };
    let text = format!(
        "{}, {}, {}, records {} to {}, keys {} to {}",
        text::plural(properties.keys, "key"),
        text::plural(properties.deletes, "deletion"),
        text::plural(properties.range_deletes.len() as u64, "range deletion"),
        properties.smallest_index,
        properties.largest_index,
        escape(&properties.smallest_key),
        escape(&properties.largest_key),
    );
    let value = json!({
        "entries": properties.entries,
        "deletes": properties.deletes,
        "range_deletes": properties.range_deletes.len(),
        "expiring": properties.expiring,
        "keys": properties.keys,
        "key_bytes": properties.key_bytes,
        "value_bytes": properties.value_bytes,
        "blocks": properties.blocks,
        "smallest_index": properties.smallest_index.0,
        "largest_index": properties.largest_index.0,
        "smallest_key": to_json(&properties.smallest_key),
        "largest_key": to_json(&properties.largest_key),
    });
    ("properties", text, value)
}
