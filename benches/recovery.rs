//! Opening a store beside its physical limit: reading the log's bytes.
//!
//! `cargo bench --bench recovery`. The log is left as kill -9 leaves it: forgotten, never closed.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kintsu::{Durability, Options, WriteBatch};

const RECORDS: u64 = 1_000_000;

fn options(path: &Path) -> Options {
    // Everything stays in the log: the buffer holds a million records.
    Options::new(path)
        .write_buffer_bytes(1 << 30)
        .log_bytes_before_flush(4 << 30)
}

fn key(n: u64) -> [u8; 16] {
    u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes()
}

/// A store whose last process died with `records` in the log, and `segments` keys flushed before.
fn left_behind(path: &Path, records: u64, segments: u64) {
    let db = options(path)
        .durability(Durability::Process)
        .open()
        .unwrap();
    for first in (0..segments).step_by(1000) {
        let mut batch = WriteBatch::new();
        for n in first..first + 1000 {
            batch.put(key(n), [7; 100]);
        }
        db.write(batch).unwrap();
    }
    db.flush().unwrap();
    for n in 0..records {
        db.put(key(n), [8; 100]).unwrap();
    }
    // What kill -9 leaves: the files as they are, no destructor run. The copy has no lock on it.
    let left = path.with_extension("left");
    fs::create_dir_all(&left).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), left.join(entry.file_name())).unwrap();
    }
}

fn reopen(c: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = c.benchmark_group("reopen after kill -9");
    group.sample_size(10);
    for (name, records, segments) in [
        ("1 M records in the log", RECORDS, 0),
        (
            "1 M records in the log, 3 M keys in segments",
            RECORDS,
            3_000_000,
        ),
        ("0 records in the log, 3 M keys in segments", 0, 3_000_000),
    ] {
        let path = folder.path().join(format!("store-{records}-{segments}"));
        left_behind(&path, records, segments);
        let left = path.with_extension("left");
        group.bench_function(format!("limit: read the log, {name}"), |b| {
            b.iter(|| read_logs(&left));
        });
        group.bench_function(format!("kintsu, {name}"), |b| {
            b.iter_batched(
                || (),
                |()| black_box(options(&left).open().unwrap()),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn read_logs(path: &Path) -> usize {
    let mut bytes = 0;
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            bytes += black_box(fs::read(path).unwrap()).len();
        }
    }
    bytes
}

criterion_group!(benches, reopen);
criterion_main!(benches);
