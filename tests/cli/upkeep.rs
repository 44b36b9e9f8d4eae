//! Compaction by hand, and the bench.

use serde_json::Value;

use crate::support::Room;

#[test]
fn compact_gives_back_what_was_deleted() {
    let room = Room::new();
    // Values that hardly shrink, so that what goes is more than a page.
    let value = |n: u64| -> String {
        let words = (0..100).map(|i| (n * 1_000 + i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.map(|word| format!("{word:016x}")).collect()
    };
    let lines: String = (0..2_000)
        .map(|n| format!("key {n:05}\t{}\n", value(n)))
        .collect();
    room.feed(&room.store(), "load", &["-"], lines.as_bytes())
        .fine();
    let text = room.run("compact", &["--from", "a"]).fine();
    assert!(text.text().starts_with("compacted "), "{text:?}");
    let bytes = || {
        let told = room.run("compact", &["--json"]).fine();
        let told: Value = serde_json::from_slice(&told.out).unwrap();
        told["bytes_after"].as_u64().unwrap()
    };
    let before = bytes();
    for number in 0..10 {
        room.run("delete", &[format!("key {number:05}")]).fine();
    }
    assert!(bytes() < before);
    assert_eq!(
        room.run("count", &["--prefix", "key"]).fine().text(),
        "1990\n"
    );
    room.run("compact", &["--keyspace", "none"]).expect(4);
}

#[test]
fn every_workload_of_the_bench_runs_and_is_told() {
    let room = Room::new();
    let workloads = "bulk-load,fill-seq,fill-random,read-random,read-missing,read-seq,read-reverse,\
                     scan,overwrite,durable,mixed,transactions,delete-random";
    let arguments = [
        "--workloads",
        workloads,
        "--keys",
        "300",
        "--threads",
        "3",
        "--batch",
        "7",
    ];
    let table = room.run("bench", &arguments).fine();
    let names: Vec<_> = table
        .text()
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let wanted: Vec<_> = std::iter::once("workload")
        .chain(workloads.split(','))
        .collect();
    assert_eq!(names, wanted);
    // A store that is there isn't written to by accident.
    room.run("bench", &["--keys", "10"])
        .expect(2)
        .says(&["--existing"]);
    let more = [
        "--existing",
        "--json",
        "--keys",
        "1000",
        "--workloads",
        "read-random,read-missing",
    ];
    let told = room.run("bench", &more).fine();
    let rows: Vec<Value> = told
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["operations"], 1000);
    assert_eq!(rows[1]["missing"], 1000);
    assert!(rows[0]["latency_us"]["p99"].as_f64().unwrap() > 0.0);
    room.run("bench", &["--workloads", "nonsense"]).expect(2);
}
