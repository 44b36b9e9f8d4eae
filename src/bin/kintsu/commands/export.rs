//! `kintsu export STORE FILE|-` and `kintsu export STORE --files DIR`

mod files;
mod lines;

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use crate::console::Console;
use crate::failure::Outcome;
use crate::format::Format;
use crate::store::{RangeArguments, StoreArguments};

/// What to do about a key that can't be the path of a file in the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unsafe {
    /// Leave it out with a warning, and exit with 4 at the end
    Skip,
    /// Look at all keys first, and write nothing if there is one
    Refuse,
}

/// Its arguments.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("target").required(true).args(["file", "files"])))]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// A file to write TSV or JSON lines to; - is standard output
    file: Option<PathBuf>,
    /// Write each value to a file of its own under this folder, with the key as its path
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// How FILE is written [default: jsonl if its name ends in .jsonl, .ndjson or .json, else tsv]
    #[arg(long, conflicts_with = "files")]
    format: Option<Format>,
    /// Replace files that are there already
    #[arg(long)]
    overwrite: bool,
    /// With --files: what to do about a key that can't be a path in DIR, such as ../x
    #[arg(long, value_name = "WHAT", default_value = "skip", requires = "files")]
    unsafe_keys: Unsafe,
    #[command(flatten)]
    range: RangeArguments,
}

/// Writes the records as they stood when the export began.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    match (&arguments.file, &arguments.files) {
        (_, Some(folder)) => files::run(arguments, folder, console),
        (Some(file), None) => lines::run(arguments, file, console),
        (None, None) => Err(crate::failure::Failure::Usage(
            "there is nothing to write to".into(),
        )),
    }
}
