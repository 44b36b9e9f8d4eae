//! What a run is measured by: disk, memory, handles, views, stalls.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use kintsu::environment::Clock;

use super::store::disk_bytes;
use super::work::Work;

/// What a sample has, in this order; and what it is divided by when it is shown.
pub const COLUMNS: [(&str, u64); COUNT] = [
    ("phase s", 1),
    ("operations", 1),
    ("store MiB", 1 << 20),
    ("log MiB", 1 << 20),
    ("superseded MiB", 1 << 20),
    ("cache KiB", 1 << 10),
    ("index+filter KiB", 1 << 10),
    ("RSS MiB", 1 << 20),
    ("peak MiB", 1 << 20),
    ("handles", 1),
    ("segments", 1),
    ("level 0", 1),
    ("views", 1),
    ("waiting", 1),
    ("snapshots MiB", 1 << 20),
    ("backups MiB", 1 << 20),
    ("audited", 1),
    ("longest ms", 1_000),
    ("flush wait ms", 1_000),
    ("slowed ms", 1_000),
];
const COUNT: usize = 20;

pub const STORE: usize = 2;
pub const CACHE: usize = 5;
pub const TABLES: usize = 6;
pub const PEAK: usize = 8;
pub const HANDLES: usize = 9;
pub const SEGMENTS: usize = 10;
pub const VIEWS: usize = 12;
/// Those that are to stay where they are, once the store is full.
const FLAT: [usize; 9] = [STORE, 3, 4, CACHE, 7, HANDLES, SEGMENTS, VIEWS, 13];

/// One look.
pub type Figures = [u64; COUNT];

/// A figure in KiB of `/proc/self/status`, in bytes; 0 where there is none.
fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let figure = line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok());
    figure.map_or(0, |kib: u64| kib << 10)
}

fn handles() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

pub fn look(work: &Work) -> Figures {
    let statistics = work.store.db.statistics();
    let keyspaces = &statistics.keyspaces;
    let levels = keyspaces
        .iter()
        .flat_map(|keyspace| &keyspace.level_segments);
    let level0 = keyspaces.iter().filter_map(|k| k.level_segments.first());
    let tables = keyspaces.iter().map(|k| k.index_bytes + k.filter_bytes);
    [
        work.clock.elapsed().as_secs(),
        work.operations.load(Ordering::Relaxed),
        disk_bytes(&work.folders.store()),
        statistics.log_bytes,
        statistics.superseded_bytes,
        statistics.block_cache_bytes,
        tables.sum(),
        status_bytes("VmRSS"),
        status_bytes("VmHWM"),
        handles(),
        levels.sum::<usize>() as u64,
        level0.copied().max().unwrap_or(0) as u64,
        statistics.views as u64,
        statistics.generations_waiting as u64,
        disk_bytes(&work.folders.snapshots()),
        disk_bytes(&work.folders.repository()),
        work.audited.load(Ordering::Relaxed),
        work.longest_us.load(Ordering::Relaxed),
        statistics.activity.flush_waits.max_us,
        statistics.activity.slow_downs.max_us,
    ]
}

/// A line that [`super::child::numbers`] reads again.
pub fn line(word: &str, figures: &[u64]) -> String {
    let mut line = word.to_owned();
    for figure in figures {
        write!(line, " {figure}").unwrap();
    }
    line
}

/// All samples of a run.
#[derive(Debug, Default)]
pub struct Samples(Vec<(u64, Figures)>);

impl Samples {
    pub fn add(&mut self, phase: u64, figures: Figures) {
        self.0.push((phase, figures));
    }

    pub fn max(&self, column: usize) -> u64 {
        let figures = self.0.iter().map(|(_, figures)| figures[column]);
        figures.max().unwrap_or(0)
    }

    /// About so many rows, and how the halves of the run compare once the store is full.
    pub fn show(&self, rows: usize) {
        let heads: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        println!("phase | {}", heads.join(" | "));
        let step = self.0.len().div_ceil(rows).max(1);
        for (phase, figures) in self.0.iter().step_by(step) {
            let cells: Vec<String> = figures
                .iter()
                .zip(COLUMNS)
                .map(|(figure, (_, unit))| (figure / unit).to_string())
                .collect();
            println!("{phase} | {}", cells.join(" | "));
        }
        // The first phase fills the store.
        let full: Vec<&Figures> = self.0.iter().filter(|s| s.0 > 0).map(|s| &s.1).collect();
        let (first, second) = full.split_at(full.len() / 2);
        for column in FLAT {
            let (name, unit) = COLUMNS[column];
            let max = |half: &[&Figures]| half.iter().map(|f| f[column]).max().unwrap_or(0);
            println!(
                "most {name}: {} in the first half after the first phase, {} in the second",
                max(first) / unit,
                max(second) / unit
            );
        }
    }
}
