//! What `log`, `segments` and `manifest` share: lines of a dump, shown while the library walks the
//! files, with nothing but the output able to fail.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::console::Console;
use crate::failure::{Failure, Outcome, exit};
use crate::store::StoreArguments;

/// The arguments of a dump.
#[derive(Args, Debug)]
pub struct DumpArguments {
    #[command(flatten)]
    pub store: StoreArguments,
    /// Show only the files and what is bad in them
    #[arg(long)]
    pub bad: bool,
}

/// Where a dump goes.
pub struct Dump<'a> {
    console: &'a mut Console,
    only_bad: bool,
    outcome: Outcome,
    /// Whether something was shown that can only be damage: no torn write leaves such a thing.
    pub damaged: bool,
}

impl<'a> Dump<'a> {
    /// A dump to the console.
    pub fn new(arguments: &DumpArguments, console: &'a mut Console) -> Self {
        Self {
            console,
            only_bad: arguments.bad,
            outcome: Ok(()),
            damaged: false,
        }
    }

    /// A line about a whole file.
    pub fn file(&mut self, text: &str, value: &Value) {
        self.show(text, value);
    }

    /// A line about a part of a file. After the output has failed, nothing is written any more.
    pub fn part(&mut self, is_good: bool, text: &str, value: &Value) {
        if !(is_good && self.only_bad) {
            self.show(&format!("  {text}"), value);
        }
    }

    fn show(&mut self, text: &str, value: &Value) {
        if self.outcome.is_ok() {
            self.outcome = if self.console.json {
                self.console.value(value)
            } else {
                writeln!(self.console, "{text}")
            };
        }
    }

    /// How it went; damage if there was any.
    pub fn finish(self) -> Outcome {
        self.outcome?;
        if self.damaged {
            Err(Failure::Told(exit::DAMAGE))
        } else {
            Ok(())
        }
    }
}

/// The store's files with this extension, in the order of their names.
pub fn files(store: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let failed = |error: std::io::Error| Failure::file("list", store, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(store).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// A verdict in words.
pub fn verdict(wrong: Option<&str>) -> String {
    wrong.map_or_else(|| "good".into(), |what| format!("BAD: {what}"))
}
