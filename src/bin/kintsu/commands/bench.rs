//! `kintsu bench STORE`

mod report;
mod runner;
mod workload;

use std::num::NonZeroU64;

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
    let db = arguments.store.open_to_write(console, true)?;
    if db.recovery_report().created || arguments.existing {
        return Ok(db);
    }
    let path = db.path().display();
    let why =
        format!("{path} is a store already; give a new folder, or --existing to write into it");
    Err(Failure::Usage(why))
}
