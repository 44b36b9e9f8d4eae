//! Logs of which nobody has vouched for anything: raw bytes, and records, identifiers and headers that
//! say what they like under right checksums.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::workload::{Options, STORE, dir};
use super::{is_refusal, path, show_all};
use crate::parity::SlotCoder;
use crate::testing::{Input, MemoryVfs, edit_bytes};
use crate::types::{FileId, UNIT};
use crate::vfs::Vfs;
use crate::wal::format::{Envelope, FileHeader, HeaderKind, encode_record, record_bytes};
use crate::wal::identifiers::{Identifier, encode_units};
use crate::wal::{
    Append, DamagePolicy, Durability, Index, Log, LogAccess, LogFileMeta, LogNumber, Lsn, Parity,
    RecordKind, StreamId, Term, TermVote,
};

/// The longest file that is made.
const BYTES_MAX: usize = 40 << 10;

/// Makes a folder of what the input says and puts it to every use.
pub(super) fn run(input: &mut Input<'_>) {
    let options = Options::of(input);
    let disk = MemoryVfs::new();
    let made = disk.create_dir_all(dir());
    made.expect("a simulated disk makes folders");
    let mut payloads = BTreeSet::new();
    let files = match input.u8() {
        0..64 => raw(input, &disk),
        _ => {
            let count = 1 + input.below(3);
            let mut previous = None;
            for number in 1..=count {
                let meta = meta(input, number, previous.as_ref());
                file(input, &disk, &meta, &mut payloads);
                previous = Some(meta);
            }
            count
        }
    };
    let damage = input.below(3);
    for _ in 0..damage {
        let kind = input.pick(&["log", "ids", "parity"]);
        let path = path(1 + input.below(files), kind);
        crate::testing::edit_file(input, &disk, &path);
    }
    use_all(&options, &disk, &payloads);
}

/// The rest of the input, as it stands, in files of every kind.
fn raw(input: &mut Input<'_>, disk: &MemoryVfs) -> u64 {
    let identifiers = input.bytes(12 << 10);
    let vote = input.bytes(64);
    disk.write_file(path(1, "ids"), identifiers);
    disk.write_file(dir().join("vote.a"), vote);
    disk.write_file(dir().join("vote.b"), identifiers);
    disk.write_file(path(1, "log"), input.rest());
    1
}

/// A header's content: as it should be, but for what the input says.
fn meta(input: &mut Input<'_>, number: u64, previous: Option<&LogFileMeta>) -> LogFileMeta {
    let mut meta = LogFileMeta {
        number: LogNumber(number),
        file_id: FileId(7 + u128::from(number)),
        salt: 40 + number,
        first_lsn: previous.map_or(Lsn(UNIT as u64), |previous| {
            Lsn(previous.first_lsn.0.saturating_add(previous.capacity))
        }),
        capacity: 4 * UNIT as u64,
        first_index: Index(0),
        previous_number: previous.map_or(LogNumber(0), |previous| previous.number),
        previous_end_lsn: Lsn(0),
        parity: [Parity::Off, Parity::Standard, Parity::Strong][number as usize % 3],
    };
    match input.u8() {
        200..215 => meta.first_lsn = Lsn(input.number() & !(UNIT as u64 - 1)),
        215..225 => meta.capacity = input.number() & !(UNIT as u64 - 1),
        225..235 => meta.previous_number = LogNumber(input.number()),
        235..245 => {
            let first = previous.map_or(0, |previous| previous.first_lsn.0);
            meta.previous_end_lsn = Lsn(first.saturating_add(input.below(5 * UNIT as u64)));
        }
        245.. => {
            meta.previous_end_lsn = Lsn(input.number());
            meta.number = LogNumber(input.number());
        }
        _ => {}
    }
    meta
}

/// A log file and its identifiers.
fn file(
    input: &mut Input<'_>,
    disk: &MemoryVfs,
    meta: &LogFileMeta,
    payloads: &mut BTreeSet<Vec<u8>>,
) {
    let names = disk.file_names(dir()).into_iter();
    let number = names.filter(|name| name.ends_with("log")).count() as u64 + 1;
    let header = FileHeader {
        store_id: STORE,
        meta: meta.clone(),
    };
    let mut log = header.encode(HeaderKind::Log);
    let listed = records(input, meta, &mut log, payloads);
    if input.u8() < 200 {
        let capacity = usize::try_from(meta.capacity).unwrap_or(0);
        log.resize(capacity.min(BYTES_MAX), 0);
    }
    let mut sidecar = header.encode(HeaderKind::Identifiers);
    identifiers(input, meta, &listed, &mut sidecar);
    if meta.parity != Parity::Off {
        disk.write_file(path(number, "parity"), parity(meta, &log));
    }
    disk.write_file(path(number, "log"), log);
    disk.write_file(path(number, "ids"), sidecar);
}

/// Parity of all that a log file has, whatever that is.
fn parity(meta: &LogFileMeta, log: &[u8]) -> Vec<u8> {
    let mut content = log.to_vec();
    content.resize(log.len().next_multiple_of(UNIT), 0);
    let end = log.len() as u64;
    let slot = SlotCoder::default().encode(meta.parity, meta.file_id, 0, &content, end);
    slot.unwrap_or_default()
}

/// Appends records to a file's bytes, with whatever else the input puts between them.
fn records(
    input: &mut Input<'_>,
    meta: &LogFileMeta,
    log: &mut Vec<u8>,
    payloads: &mut BTreeSet<Vec<u8>>,
) -> Vec<Identifier> {
    let mut listed: Vec<Identifier> = Vec::new();
    let mut index = 0;
    for _ in 0..input.below(24) {
        match input.u8() % 12 {
            0 => log.resize(log.len().next_multiple_of(UNIT), 0),
            1 => log.extend_from_slice(input.bytes(40)),
            2 => log.resize(log.len() + input.place(600), 0),
            _ => {
                let lsn = Lsn(meta.first_lsn.0.saturating_add(log.len() as u64));
                let payload = input.bytes(60);
                let mut record = Append::new(RecordKind::Batch, Index(index + 1), payload);
                let mut place = Envelope {
                    lsn,
                    watermark: lsn,
                    previous: listed.last().map(|one| one.lsn),
                };
                twist(input, &mut record, &mut place);
                index = record.index.0.min(u64::MAX - 1);
                let bytes = record_bytes(&record);
                let checksum = encode_record(log, meta.salt, &place, &record);
                payloads.insert(payload.to_vec());
                listed.push(Identifier {
                    lsn: place.lsn,
                    bytes,
                    kind: record.kind,
                    index: record.index,
                    term: record.term,
                    checksum,
                });
            }
        }
        log.truncate(BYTES_MAX);
    }
    listed
}

/// Makes a record say something else than it should, now and then.
fn twist(input: &mut Input<'_>, record: &mut Append<'_>, place: &mut Envelope) {
    let what = input.u8();
    match what {
        0..8 => record.index = Index(input.number()),
        8..16 => record.index = Index(record.index.0.saturating_sub(input.below(4))),
        16..24 => record.term = Term(input.number()),
        24..32 => record.time_us = input.number(),
        32..48 => record.kind = input.pick(&RecordKind::ALL),
        48..56 => {
            record.stream = StreamId(input.u32());
            record.client = input.number();
        }
        56..64 => place.lsn = Lsn(input.number()),
        64..72 => place.watermark = Lsn(place.lsn.0.saturating_sub(input.below(9_000))),
        72..80 => place.watermark = Lsn(0),
        80..88 => place.previous = Some(Lsn(place.lsn.0.saturating_sub(input.below(9_000)))),
        88..92 => place.previous = None,
        92..96 => record.payload_hash = input.u64(),
        _ => {}
    }
}

/// Appends units of identifiers: of those records, or not quite.
fn identifiers(
    input: &mut Input<'_>,
    meta: &LogFileMeta,
    listed: &[Identifier],
    sidecar: &mut Vec<u8>,
) {
    let mut listed = listed.to_vec();
    let mut first = Lsn(meta.first_lsn.0.saturating_add(UNIT as u64));
    for _ in 0..input.below(4) {
        let what = input.u8();
        let count = listed.len().min(1 + input.place(12));
        let mut some: Vec<Identifier> = listed.drain(..count).collect();
        if let Some(one) = some.last_mut() {
            match what {
                0..16 => one.lsn = Lsn(input.number()),
                16..24 => one.bytes = input.number().max(1),
                24..32 => one.index = Index(input.number()),
                32..40 => one.checksum = input.u64(),
                40..48 => one.kind = input.pick(&RecordKind::ALL),
                48..56 => one.term = Term(input.number()),
                _ => {}
            }
        }
        let end = some.last().map_or(first, Identifier::end);
        let seal = match what {
            56..80 => Some(end),
            80..88 => Some(Lsn(input.number())),
            _ => None,
        };
        if (88..96).contains(&what) {
            first = Lsn(input.number());
        }
        let (units, end) = encode_units(meta.file_id, sidecar.len() as u64, first, &some, seal);
        sidecar.extend_from_slice(&units);
        first = end;
        if what >= 250 {
            edit_bytes(input, sidecar);
        }
        sidecar.truncate(BYTES_MAX);
    }
    sidecar.resize(
        sidecar.len().next_multiple_of(UNIT) + input.place(3) * UNIT,
        0,
    );
}

/// Nothing panics, nothing goes on for ever, and every record that is given out was encoded here.
fn use_all(options: &Options, disk: &MemoryVfs, payloads: &BTreeSet<Vec<u8>>) {
    for (access, damage) in [
        (LogAccess::ReadOnly, DamagePolicy::Tolerate),
        (LogAccess::ReadWrite, DamagePolicy::Tolerate),
        (LogAccess::ReadOnly, DamagePolicy::Refuse),
        (LogAccess::ReadWrite, DamagePolicy::Refuse),
    ] {
        let mut setup = options.setup(Arc::new(disk.fork()));
        (setup.access, setup.damage) = (access, damage);
        let log = match Log::open(setup) {
            Ok((log, _)) => log,
            Err(error) => {
                assert!(is_refusal(&error), "{error}");
                continue;
            }
        };
        read_all(&log, disk, payloads);
        if access == LogAccess::ReadWrite {
            use_log(&log);
        }
    }
    if let Err(error) = show_all(options.setup(Arc::new(disk.clone())), disk) {
        assert!(is_refusal(&error), "{error}");
    }
    let vfs: Arc<dyn Vfs> = Arc::new(disk.fork());
    if let Ok(vote) = TermVote::open(vfs, dir(), STORE, Term(0), LogAccess::ReadWrite) {
        // Nothing here carries a right checksum.
        assert_eq!(vote.get(), super::super::Vote::default());
    }
}

fn read_all(log: &Log, disk: &MemoryVfs, payloads: &BTreeSet<Vec<u8>>) {
    let bytes: usize = disk
        .file_names(dir())
        .iter()
        .filter_map(|name| disk.read_file(dir().join(name)))
        .map(|bytes| bytes.len())
        .sum();
    let Ok(mut reader) = log.read_from(log.first_index()) else {
        return;
    };
    let mut count = 0;
    while let Ok(Some(record)) = reader.next() {
        assert!(
            payloads.contains(&record.payload[..]),
            "{record:?} is invented"
        );
        count += 1;
        assert!(count <= bytes, "it finds no end");
    }
}

/// Everything that is done with a log, whatever it says it holds.
fn use_log(log: &Log) {
    let next = Index(log.last_index().0.saturating_add(1));
    let record = Append::new(RecordKind::Batch, next, b"more");
    let appended = log.append(&[record], Durability::Disk);
    if let Err(error) = appended.and_then(|end| log.sync_to(end)) {
        assert!(is_refusal(&error), "{error}");
    }
    let _ = log.truncate_after(Index(log.last_index().0.saturating_sub(1)));
    let _ = log.step_prepare();
    let _ = log.purge_before(log.last_index());
    let _ = log.close();
}
