//! What a workload took, as a line or as JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use kintsu::Db;
use serde_json::json;

use crate::console::Console;
use crate::failure::Outcome;
use crate::text;

/// What was measured.
pub struct Measured {
    /// Name of the workload.
    pub name: String,
    /// Operations done; of a walk, keys.
    pub operations: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Keys that a get didn't find.
    pub missing: u64,
    /// From the first to the last, settling included.
    pub taken: Duration,
    /// Of each call, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Measured {
    fn per_second(&self, number: u64) -> f64 {
        number as f64 / self.taken.as_secs_f64().max(1e-9)
    }
}

/// The names of the columns.
pub fn head(console: &mut Console) -> Outcome {
    let names = [
        "workload",
        "ops/s",
        "MB/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "max µs",
        "ops",
        "s",
    ];
    let [first, rest @ ..] = names;
    let rest: Vec<_> = rest.iter().map(|name| format!("{name:>10}")).collect();
    writeln!(console, "{first:<15}{}", rest.join(""))
}

/// One workload.
pub fn tell(console: &mut Console, measured: &Measured, db: &Db) -> Outcome {
    let us = |quantile| measured.latencies.value_at_quantile(quantile) as f64 / 1e3;
    let max_us = measured.latencies.max() as f64 / 1e3;
    let statistics = db.statistics();
    let default = statistics
        .keyspaces
        .iter()
        .find(|one| one.name == kintsu::DEFAULT_KEYSPACE);
    if console.json {
        return console.value(&json!({
            "workload": measured.name,
            "operations": measured.operations,
            "bytes": measured.bytes,
            "missing": measured.missing,
            "seconds": measured.taken.as_secs_f64(),
            "operations_per_second": measured.per_second(measured.operations),
            "bytes_per_second": measured.per_second(measured.bytes),
            "latency_us": {
                "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p99.9": us(0.999), "max": max_us,
            },
            "write_amplification": statistics.activity.write_amplification(),
            "space_amplification": default.and_then(kintsu::KeyspaceStatistics::space_amplification),
            "read_amplification": default.map(|one| one.read_amplification),
            "level_bytes": default.map(|one| one.level_bytes.clone()),
        }));
    }
    writeln!(
        console,
        "{:<15}{:>10}{:>10.1}{:>10.1}{:>10.1}{:>10.1}{:>10.0}{:>10}{:>10.1}",
        measured.name,
        text::count(measured.per_second(measured.operations) as u64),
        measured.per_second(measured.bytes) / 1e6,
        us(0.5),
        us(0.99),
        us(0.999),
        max_us,
        text::count(measured.operations),
        measured.taken.as_secs_f64(),
    )
}
