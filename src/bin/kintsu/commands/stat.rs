//! `kintsu stat STORE`

use std::time::Duration;

use clap::Args;
use kintsu::{Activity, Health, KeyspaceStatistics, Latencies, RecoveryReport, Statistics};
use serde_json::{Value, json};

use crate::console::Console;
use crate::escape::escape;
use crate::failure::{Outcome, damage_json};
use crate::store::StoreArguments;
use crate::text;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
}

/// Opens the store read-only and says what it is made of.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = arguments.store.open_to_read(console)?;
    let (statistics, report, health) = (db.statistics(), db.recovery_report(), db.health());
    if console.json {
        return console.value(&to_json(&statistics, report, &health));
    }
    tell_store(console, &statistics)?;
    tell_health(console, &health)?;
    tell_recovery(console, report)?;
    if let Some(activity) = &statistics.activity_before {
        tell_activity(console, activity)?;
    }
    tell_keyspaces(console, &statistics.keyspaces)
}

fn row(console: &mut Console, name: &str, value: &str) -> Outcome {
    writeln!(console, "{name:<26}{value}")
}

fn tell_store(console: &mut Console, statistics: &Statistics) -> Outcome {
    let Statistics {
        log_end,
        log_durable,
        ..
    } = statistics;
    row(console, "store id", &statistics.store_id.to_string())?;
    row(
        console,
        "records written",
        &text::count(statistics.last_index.0),
    )?;
    row(
        console,
        "held by segments up to",
        &text::count(statistics.covered_index.0),
    )?;
    row(console, "log files", &text::bytes(statistics.log_bytes))?;
    let first = text::count(statistics.log_first_index.0);
    row(console, "log begins at record", &first)?;
    row(console, "log ends at position", &log_end.to_string())?;
    if log_durable != log_end {
        row(console, "log on disk to position", &log_durable.to_string())?;
    }
    let segments = statistics
        .keyspaces
        .iter()
        .flat_map(|keyspace| &keyspace.level_bytes)
        .sum();
    row(console, "segments", &text::bytes(segments))?;
    Ok(())
}

fn tell_health(console: &mut Console, health: &Health) -> Outcome {
    row(console, "health", &health.state.to_string())?;
    for finding in &health.findings {
        row(console, &format!("  {}", finding.kind), &finding.what)?;
    }
    Ok(())
}

fn tell_recovery(console: &mut Console, report: &RecoveryReport) -> Outcome {
    let time = Duration::from_micros(report.duration_us);
    let closed = if report.closed_cleanly {
        "yes"
    } else {
        "no, or it is open for writing"
    };
    writeln!(console)?;
    row(console, "closed cleanly", closed)?;
    row(console, "opened in", &text::duration(time))?;
    row(console, "log read", &text::bytes(report.log_bytes_read))?;
    row(
        console,
        "records replayed",
        &text::count(report.records_replayed),
    )?;
    row(
        console,
        "torn bytes dropped",
        &text::count(report.torn_bytes),
    )?;
    row(
        console,
        "damaged places",
        &text::count(report.damage.len() as u64),
    )?;
    for name in &report.foreign_files {
        row(console, "not a file of Kintsu's", &escape(name.as_bytes()))?;
    }
    Ok(())
}

/// Of the run that wrote last.
fn tell_activity(console: &mut Console, activity: &Activity) -> Outcome {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
    let percent = |part: Option<f64>| {
        part.map_or_else(|| "-".to_owned(), |part| format!("{:.2} %", part * 100.0))
    };
    writeln!(console)?;
    writeln!(
        console,
        "The last run that wrote, up to its last flush or compaction:"
    )?;
    let rows = [
        ("records", text::count(activity.records)),
        ("bytes of records", text::bytes(activity.record_bytes)),
        ("write amplification", ratio(activity.write_amplification())),
        (
            "flushes, compactions",
            format!(
                "{}, {} and {} moves",
                text::count(activity.flushes),
                text::count(activity.compactions),
                text::count(activity.moves)
            ),
        ),
        ("block cache hits", percent(activity.block_cache_hit_rate())),
        (
            "filters' false positives",
            percent(activity.filter_false_positive_rate()),
        ),
        ("conflicts", text::count(activity.conflicts)),
        ("syncs of the log", latencies(&activity.syncs)),
        ("waits for a flush", latencies(&activity.flush_waits)),
        ("slow-downs", latencies(&activity.slow_downs)),
    ];
    for (name, value) in rows {
        row(console, name, &value)?;
    }
    Ok(())
}

fn latencies(latencies: &Latencies) -> String {
    let count = text::count(latencies.count);
    if latencies.count == 0 {
        return count;
    }
    let us = |us| text::duration(Duration::from_micros(us));
    let (p50, p99, max) = (latencies.p50_us, latencies.p99_us, latencies.max_us);
    format!("{count}: p50 {}, p99 {}, max {}", us(p50), us(p99), us(max))
}

fn tell_keyspaces(console: &mut Console, keyspaces: &[KeyspaceStatistics]) -> Outcome {
    writeln!(console)?;
    writeln!(
        console,
        "{:<24} {:>6} {:>9} {:>11} {:>14} {:>14} {:>6} {:>6}",
        "keyspace", "level", "segments", "bytes", "entries", "in memory", "reads", "space"
    )?;
    for keyspace in keyspaces {
        let space = keyspace.space_amplification();
        writeln!(
            console,
            "{:<24} {:>6} {:>9} {:>11} {:>14} {:>14} {:>6} {:>6}",
            escape(keyspace.name.as_bytes()),
            "all",
            keyspace.level_segments.iter().sum::<usize>(),
            text::bytes(keyspace.level_bytes.iter().sum()),
            text::count(keyspace.segment_entries),
            text::count(keyspace.memtable_entries),
            keyspace.read_amplification,
            space.map_or_else(|| "-".to_owned(), |space| format!("{space:.2}")),
        )?;
        let levels = keyspace
            .level_segments
            .iter()
            .zip(&keyspace.level_bytes)
            .enumerate()
            .filter(|(_, (segments, _))| **segments > 0);
        for (level, (segments, bytes)) in levels {
            let size = text::bytes(*bytes);
            writeln!(console, "{:<24} {level:>6} {segments:>9} {size:>11}", "")?;
        }
        if keyspace.lost_ranges > 0 {
            let ranges = text::plural(keyspace.lost_ranges as u64, "range");
            writeln!(
                console,
                "  something is lost in {ranges} of keys: see `kintsu verify`"
            )?;
        }
    }
    Ok(())
}

fn latencies_json(latencies: &Latencies) -> Value {
    json!({
        "count": latencies.count,
        "p50_us": latencies.p50_us,
        "p99_us": latencies.p99_us,
        "p999_us": latencies.p999_us,
        "max_us": latencies.max_us,
        "total_us": latencies.total_us,
    })
}

fn health_json(health: &Health) -> Value {
    let findings = health.findings.iter().map(|finding| {
        json!({
            "state": finding.state.to_string(),
            "kind": finding.kind.to_string(),
            "what": finding.what,
        })
    });
    let disk = &health.disk;
    json!({
        "state": health.state.to_string(),
        "findings": findings.collect::<Vec<_>>(),
        "disk": {
            "state": disk.state.to_string(),
            "syncs": latencies_json(&disk.syncs),
            "recent_sync_us": disk.recent_sync_us,
            "best_sync_us": disk.best_sync_us,
            "waiting_sync_us": disk.waiting_sync_us,
            "slow_calls": disk.slow_calls,
            "slowest_call_us": disk.slowest_call_us,
            "errors": disk.errors,
            "last_error": disk.last_error,
            "last_error_age_us": disk.last_error_age_us,
        },
    })
}

fn activity_json(activity: &Activity) -> Value {
    json!({
        "records": activity.records,
        "record_bytes": activity.record_bytes,
        "log_bytes": activity.log_bytes,
        "flushes": activity.flushes,
        "flush_bytes": activity.flush_bytes,
        "compactions": activity.compactions,
        "moves": activity.moves,
        "compaction_bytes_read": activity.compaction_bytes_read,
        "compaction_bytes_written": activity.compaction_bytes_written,
        "write_amplification": activity.write_amplification(),
        "block_cache_hits": activity.block_cache_hits,
        "block_cache_misses": activity.block_cache_misses,
        "filter_denials": activity.filter_denials,
        "filter_false_passes": activity.filter_false_passes,
        "conflicts": activity.conflicts,
        "syncs": latencies_json(&activity.syncs),
        "flush_waits": latencies_json(&activity.flush_waits),
        "slow_downs": latencies_json(&activity.slow_downs),
    })
}

fn to_json(statistics: &Statistics, report: &RecoveryReport, health: &Health) -> Value {
    let keyspace = |keyspace: &KeyspaceStatistics| {
        json!({
            "name": keyspace.name,
            "memtable_bytes": keyspace.memtable_bytes,
            "memtable_entries": keyspace.memtable_entries,
            "level_segments": keyspace.level_segments,
            "level_bytes": keyspace.level_bytes,
            "segment_entries": keyspace.segment_entries,
            "range_deletes": keyspace.range_deletes,
            "lost_ranges": keyspace.lost_ranges,
            "read_amplification": keyspace.read_amplification,
            "space_amplification": keyspace.space_amplification(),
        })
    };
    json!({
        "store_id": statistics.store_id.to_string(),
        "last_index": statistics.last_index.0,
        "covered_index": statistics.covered_index.0,
        "log_end": statistics.log_end.0,
        "log_durable": statistics.log_durable.0,
        "log_bytes": statistics.log_bytes,
        "log_first_index": statistics.log_first_index.0,
        "activity_before": statistics.activity_before.as_ref().map(activity_json),
        "health": health_json(health),
        "latched": statistics.latched,
        "background_failure": statistics.background_failure,
        "damaged_segments": statistics.damaged_segments,
        "healed_blocks": statistics.healed_blocks,
        "mended_segments": statistics.mended_segments,
        "mended_log_files": statistics.mended_log_files,
        "damaged_log_files": statistics.damaged_log_files,
        "mend_failure": statistics.mend_failure,
        "keyspaces": statistics.keyspaces.iter().map(keyspace).collect::<Vec<_>>(),
        "recovery": {
            "closed_cleanly": report.closed_cleanly,
            "records_replayed": report.records_replayed,
            "log_bytes_read": report.log_bytes_read,
            "torn_bytes": report.torn_bytes,
            "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
            "foreign_files": report.foreign_files,
            "duration_us": report.duration_us,
        },
    })
}
