//! `kintsu log STORE`

use std::sync::Arc;

use kintsu::vfs::DiskVfs;
use kintsu::wal::{self, Inspected, InspectedUnit, LogAccess, LogSetup, RecordKind};
use kintsu::{LogFileMeta, Lsn};
use serde_json::{Value, json};

use super::dump::{Dump, DumpArguments, verdict};
use super::manifest::known_log_files;
use crate::console::Console;
use crate::failure::Outcome;

/// Its arguments.
pub type Arguments = DumpArguments;

/// Shows each log file, its records, its identifiers, and its parity.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let mut setup = LogSetup::new(&arguments.store.store);
    setup.vfs = Arc::new(DiskVfs);
    setup.access = LogAccess::ReadOnly;
    // A file whose headers are both lost can still be read with what the manifest knows of it.
    setup.known = known_log_files(&arguments.store.store);
    let mut listing = Listing {
        dump: Dump::new(arguments, console),
        unproven: Vec::new(),
        first: 0,
    };
    wal::inspect(setup, &mut |found| listing.show(&found))?;
    listing.dump.finish()
}

struct Listing<'a> {
    dump: Dump<'a>,
    /// Positions of bad records that may have been torn, for all that is known so far.
    unproven: Vec<Lsn>,
    /// The position of the current file's first byte.
    first: u64,
}

impl Listing<'_> {
    fn show(&mut self, found: &Inspected) {
        match found {
            Inspected::File { path, meta, faults } => {
                self.first = meta.as_ref().map_or(0, |meta| meta.first_lsn.0);
                let (text, mut value) = file(meta.as_ref(), faults);
                value["file"] = path.to_string_lossy().into();
                self.dump.damaged |= !faults.is_empty();
                self.dump.file(
                    &format!("{}: {text}", path.display()),
                    &json!({ "log": value }),
                );
            }
            Inspected::Record {
                is_good,
                lsn,
                watermark,
                kind,
                ..
            } => {
                self.prove(*watermark, *kind);
                if !is_good {
                    self.unproven.push(*lsn);
                }
                let (text, value) = record(found);
                self.dump.part(*is_good, &text, &value);
            }
            Inspected::Gap { from, to } => {
                self.unproven.push(Lsn(self.first.saturating_add(*from)));
                self.stretch("lost", "no record can be recognised here", *from, *to);
            }
            Inspected::Stray { from, to } => {
                self.stretch("stray", "padding that isn't zero", *from, *to);
            }
            Inspected::Tail { from, used_to } if used_to > from => {
                self.stretch(
                    "unfinished",
                    "no record; most likely a torn write",
                    *from,
                    *used_to,
                );
            }
            Inspected::Tail { from, .. } => {
                let text = format!("{from:>10}  the records end here");
                self.dump
                    .part(true, &text, &json!({ "end": { "offset": from } }));
            }
            Inspected::Identifiers { path } => {
                let value = json!({ "identifiers": { "file": path.to_string_lossy() } });
                self.dump
                    .file(&format!("{}: identifiers", path.display()), &value);
            }
            Inspected::IdentifierUnit { offset, unit } => {
                let (text, value) = identifiers(*offset, unit.as_ref());
                self.dump.part(unit.is_some(), &text, &value);
            }
            Inspected::Parity { path } => {
                let value = json!({ "parity": { "file": path.to_string_lossy() } });
                self.dump
                    .file(&format!("{}: parity", path.display()), &value);
            }
            Inspected::ParityGroup { .. } => {
                let (is_good, text, value) = parity(found);
                self.dump.part(is_good, &text, &value);
            }
        }
    }

    /// A record that says what was durable before it, or that ends its file, proves that a bad one
    /// before it is no torn write.
    fn prove(&mut self, watermark: Lsn, kind: RecordKind) {
        let is_end = kind == RecordKind::End;
        if self.unproven.iter().any(|lsn| is_end || *lsn < watermark) {
            self.dump.damaged = true;
        }
    }

    fn stretch(&mut self, kind: &str, what: &str, from: u64, to: u64) {
        let bytes = to.saturating_sub(from);
        let text = format!("{from:>10}  {bytes} bytes  {}", verdict(Some(what)));
        let value = json!({ kind: { "offset": from, "bytes": bytes, "verdict": what } });
        self.dump.part(false, &text, &value);
    }
}

fn file(meta: Option<&LogFileMeta>, faults: &[String]) -> (String, Value) {
    let faults_text = (!faults.is_empty()).then(|| faults.join("; "));
    let header = verdict(faults_text.as_deref());
    let Some(meta) = meta else {
        let value = json!({ "faults": faults });
        return (
            format!("header {header}; nothing tells how to read it"),
            value,
        );
    };
    let end = match meta.previous_end_lsn.0 {
        0 => "its own end".to_owned(),
        end => format!("position {end}"),
    };
    let text = format!(
        "header {header}; positions {} to {}, first record {}, follows file {} up to {end}",
        meta.first_lsn,
        meta.first_lsn.0.saturating_add(meta.capacity),
        meta.first_index,
        meta.previous_number,
    );
    let value = json!({
        "number": meta.number.0,
        "file_id": meta.file_id.to_string(),
        "salt": format!("{:016x}", meta.salt),
        "first_position": meta.first_lsn.0,
        "capacity": meta.capacity,
        "first_index": meta.first_index.0,
        "previous_number": meta.previous_number.0,
        "previous_end_position": meta.previous_end_lsn.0,
        "parity": meta.parity.name(),
        "faults": faults,
    });
    (text, value)
}

fn record(found: &Inspected) -> (String, Value) {
    let Inspected::Record {
        offset,
        lsn,
        bytes,
        kind,
        stream,
        index,
        term,
        time_us,
        watermark,
        payload_bytes,
        is_good,
    } = found
    else {
        return Default::default();
    };
    let kind = format!("{kind:?}").to_lowercase();
    let wrong = (!is_good).then_some("its payload's checksum is wrong");
    let mut text = format!(
        "{offset:>10}  {kind:<8}  record {index}, position {lsn}, {bytes} bytes, durable before \
         {watermark}"
    );
    if term.0 != 0 || stream.0 != 0 {
        text.push_str(&format!(", term {term}, stream {stream}"));
    }
    text.push_str(&format!("  {}", verdict(wrong)));
    let value = json!({ "record": {
        "offset": offset,
        "position": lsn.0,
        "bytes": bytes,
        "kind": kind,
        "stream": stream.0,
        "index": index.0,
        "term": term.0,
        "time_us": time_us,
        "watermark": watermark.0,
        "payload_bytes": payload_bytes,
        "good": is_good,
    }});
    (text, value)
}

fn parity(found: &Inspected) -> (bool, String, Value) {
    let Inspected::ParityGroup {
        offset,
        from,
        to,
        bad,
        is_healable,
        is_whole,
    } = found
    else {
        return Default::default();
    };
    let wrong = match (bad.len(), is_healable, is_whole) {
        (0, _, true) => None,
        (0, _, false) => Some("the parity isn't as it was written".to_owned()),
        (n, true, _) => Some(format!(
            "{n} blocks of the log aren't; it makes up for them"
        )),
        (n, false, _) => Some(format!("{n} blocks of the log aren't, too many for it")),
    };
    let text = format!(
        "{offset:>10}  for offsets {from} to {to} of the log  {}",
        verdict(wrong.as_deref())
    );
    let value = json!({ "parity": {
        "offset": offset,
        "from": from,
        "to": to,
        "bad_blocks": bad,
        "healable": is_healable,
        "good": is_whole,
    }});
    (wrong.is_none(), text, value)
}

fn identifiers(offset: u64, unit: Option<&InspectedUnit>) -> (String, Value) {
    let Some(unit) = unit else {
        let wrong = verdict(Some("this unit can't be believed"));
        let value = json!({ "identifiers": { "offset": offset, "good": false } });
        return (format!("{offset:>10}  {wrong}"), value);
    };
    let sealed = if unit.sealed {
        ", where the log in this file ends"
    } else {
        ""
    };
    let text = format!(
        "{offset:>10}  {} records, positions {} to {}{sealed}  good",
        unit.records.len(),
        unit.first,
        unit.end,
    );
    let value = json!({ "identifiers": {
        "offset": offset,
        "good": true,
        "first_position": unit.first.0,
        "end_position": unit.end.0,
        "sealed": unit.sealed,
        "records": unit.records.iter().map(|(lsn, index, term)| [lsn.0, index.0, term.0])
            .collect::<Vec<_>>(),
    }});
    (text, value)
}
