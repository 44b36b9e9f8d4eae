//! `kintsu bench STORE`

mod report;
mod runner;
mod workload;

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use clap::{Args, ValueEnum};
use kintsu::{Db, Durability};

use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::store::StoreArguments;

use self::runner::Runner;
use self::workload::Workload;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// What to do, in this order
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "WORKLOADS",
        default_value = "fill-seq,fill-random,read-random,read-seq,scan,overwrite,durable"
    )]
    workloads: Vec<Workload>,
    /// Operations of each workload; also how many keys there are to choose from
    #[arg(long, default_value = "1000000")]
    keys: NonZeroU64,
    /// Bytes of a key, at least 8
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=65_536))]
    key_bytes: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    value_bytes: u32,
    /// Of 100 bytes of a value, how many say nothing new, so that compression can leave them out
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    compressible: u32,
    /// Threads that work at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Writes in a batch
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// What each write survives, but for `durable`, which is always on disk
    #[arg(long, value_enum, default_value_t = Survives::Process)]
    durability: Survives,
    /// Ends a workload after so many seconds, done or not
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<NonZeroU64>,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Work on a store that is there already; otherwise only a new one is taken
    #[arg(long)]
    existing: bool,
}

/// What a write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Survives {
    /// Nothing is promised
    Buffered,
    /// The death of the process
    Process,
    /// The loss of power
    Disk,
}

impl From<Survives> for Durability {
    fn from(survives: Survives) -> Self {
        match survives {
            Survives::Buffered => Self::Buffered,
            Survives::Process => Self::Process,
            Survives::Disk => Self::Disk,
        }
    }
}

/// Runs the workloads and reports each.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    let db = open(arguments, console)?;
    if !console.json {
        report::head(console)?;
    }
    for workload in &arguments.workloads {
        let runner = Runner::new(&db, arguments, *workload);
        let measured = runner.run(console)?;
        report::tell(console, &measured, &db)?;
    }
    Ok(db.close()?)
}

fn open(arguments: &Arguments, console: &Console) -> Outcome<Db> {
    let path = &arguments.store.store;
    // Opening a store to write changes it, so this is asked before.
    if !arguments.existing && is_store(path) {
        return Err(is_there(path));
    }
    let db = arguments.store.open_to_write(console, true)?;
    if db.recovery_report().created || arguments.existing {
        return Ok(db);
    }
    Err(is_there(path))
}

fn is_there(path: &Path) -> Failure {
    let path = path.display();
    let why =
        format!("{path} is a store already; give a new folder, or --existing to write into it");
    Failure::Usage(why)
}

/// Whether there is a manifest in a folder.
fn is_store(path: &Path) -> bool {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.as_encoded_bytes().starts_with(b"manifest-"))
}
