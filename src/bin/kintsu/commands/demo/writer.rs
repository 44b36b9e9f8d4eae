//! The process that the demo kills: it writes until it dies, and says which writes were acknowledged.

use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;

use clap::Args;
use kintsu::{Db, Options};

use super::records::Name;
use crate::failure::{Failure, Outcome};

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The store's folder
    store: PathBuf,
    /// Before which kill this is
    #[arg(long)]
    round: u32,
    /// Threads that write
    #[arg(long)]
    threads: u32,
    /// The store's write buffer
    #[arg(long)]
    write_buffer_bytes: usize,
}

/// Writes for ever. After each put that the store has acknowledged, and not before, one line with
/// thread and number goes to standard output.
pub fn run(arguments: &Arguments) -> Outcome {
    let options = Options::new(&arguments.store)
        .write_buffer_bytes(arguments.write_buffer_bytes)
        .create_if_missing(false);
    let db = options.open()?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads)
            .map(|thread| {
                let db = db.clone();
                scope.spawn(move || write(&db, arguments.round, thread))
            })
            .collect();
        let mut outcome = Ok(());
        for thread in threads {
            let ended = thread.join();
            outcome = outcome
                .and(ended.unwrap_or_else(|_| Err(Failure::File("a writer panicked".into()))));
        }
        outcome
    })
}

fn write(db: &Db, round: u32, thread: u32) -> Outcome {
    for number in 0.. {
        let name = Name {
            round,
            thread,
            number,
        };
        db.put(name.key(), name.value())?;
        let mut out = io::stdout().lock();
        let told = writeln!(out, "{thread} {number}").and_then(|()| out.flush());
        told.map_err(|error| Failure::write("standard output", &error))?;
    }
    Ok(())
}
