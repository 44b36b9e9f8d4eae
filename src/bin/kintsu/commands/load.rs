//! `kintsu load STORE FILE|-` and `kintsu load STORE --files DIR`

pub mod files;
mod lines;
pub mod loader;

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::json;

use crate::console::Console;
use crate::failure::Outcome;
use crate::format::Format;
use crate::store::{KeyspaceArgument, StoreArguments, keyspace_to_write};
use crate::text;

use loader::Loader;

/// Its arguments.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("source").required(true).args(["file", "files"])))]
pub struct Arguments {
    #[command(flatten)]
    store: StoreArguments,
    /// A file of TSV or JSON lines; - is standard input
    file: Option<PathBuf>,
    /// Load every regular file under this folder: the path from there is the key, the content the value
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// How FILE is written [default: jsonl if its name ends in .jsonl, .ndjson or .json, else tsv]
    #[arg(long, conflicts_with = "files")]
    format: Option<Format>,
    /// Make what is loaded durable, and report it, at least after so many bytes and once a second
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    sync_bytes: u64,
    /// Refuse to create a store or a keyspace
    #[arg(long)]
    no_create: bool,
    #[command(flatten)]
    keyspace: KeyspaceArgument,
}

/// Loads. What it reports as loaded is there after any crash.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    // Everything that can be told before the store is touched.
    let mut source = Source::open(arguments, console)?;
    let create = !arguments.no_create;
    let db = arguments.store.open_to_write(console, create)?;
    let keyspace = keyspace_to_write(&db, &arguments.keyspace.keyspace, create)?;
    let bytes_total = source.bytes();
    let mut loader = Loader::new(&db, keyspace, console, bytes_total, arguments.sync_bytes);
    let loaded = source.load(&mut loader).and_then(|()| loader.sync());
    if let Err(failure) = loaded {
        // What was whole before the failure is kept, if the disk still takes it.
        let kept = text::plural(loader.give_up(), "record");
        console.note("note", &format!("loaded and on disk before that: {kept}"));
        // The failure is what the user must know; one more on the way out adds nothing.
        let _ = db.close();
        return Err(failure);
    }
    let (done, time) = loader.finish();
    db.close()?;
    if console.json {
        return console.value(&json!({
            "records": done.records,
            "key_and_value_bytes": done.bytes,
            "skipped": source.skipped(),
            "seconds": time.as_secs_f64(),
        }));
    }
    if source.skipped() > 0 {
        let skipped = text::count(source.skipped());
        writeln!(
            console,
            "skipped {skipped} links and special files, as only regular files are loaded"
        )?;
    }
    writeln!(
        console,
        "loaded {} ({}) in {}, {}; all on disk",
        text::plural(done.records, "record"),
        text::bytes(done.bytes),
        text::duration(time),
        text::rate(done.bytes, time),
    )
}

/// Where records come from.
enum Source {
    Lines(lines::Source),
    Files(files::Folder),
}

impl Source {
    fn open(arguments: &Arguments, console: &Console) -> Outcome<Self> {
        match (&arguments.file, &arguments.files) {
            (_, Some(folder)) => {
                files::Folder::survey(folder, &arguments.store.store, console).map(Self::Files)
            }
            (Some(file), None) => lines::Source::open(file, arguments.format).map(Self::Lines),
            (None, None) => Err(crate::failure::Failure::Usage(
                "there is nothing to load".into(),
            )),
        }
    }

    fn bytes(&self) -> Option<u64> {
        match self {
            Self::Lines(lines) => lines.bytes(),
            Self::Files(folder) => Some(folder.bytes()),
        }
    }

    fn skipped(&self) -> u64 {
        match self {
            Self::Lines(_) => 0,
            Self::Files(folder) => folder.skipped(),
        }
    }

    fn load(&mut self, loader: &mut Loader<'_>) -> Outcome {
        match self {
            Self::Lines(lines) => lines.load(loader),
            Self::Files(folder) => folder.load(loader),
        }
    }
}
