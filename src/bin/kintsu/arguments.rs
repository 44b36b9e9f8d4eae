//! What the command line looks like.

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Parser, Subcommand};

use crate::commands::{
    backup, bench, compact, completions, count, delete, demo, export, get, keyspaces, load, log,
    manifest, put, repair, repairs, restore, salvage, scan, scrub, segments, snapshot, stat,
    torture, verify, watch,
};

const AFTER_HELP: &str = "\
Exit codes:
  0  fine
  1  not found: the key isn't there
  2  usage: the command line can't be served as it is
  3  damage: something on disk isn't what was written there
  4  any other error
  5  verify: damage, all of which can be mended
  6  verify: damage, and the store can't be opened
  7  torture: a promise was broken

Keys and values are the bytes of their arguments; with --escaped, \\t \\n \\r \\\\ and \\xHH stand for
bytes that an argument can't hold. Put -- before keys that begin with a dash.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// An embedded key-value store that survives the bad day: its command line
#[derive(Parser, Debug)]
#[command(name = "kintsu", version, after_help = AFTER_HELP, styles = STYLES)]
pub struct Cli {
    /// Write JSON to standard output, and errors and progress as JSON to standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Set a key to a value; creates the store if there is none
    Put(put::Arguments),
    /// Write the value of a key to standard output, as it is and with nothing else
    Get(get::Arguments),
    /// Remove a key
    Delete(delete::Arguments),
    /// Write keys and values: KEY, tab, VALUE a line, with escapes
    Scan(scan::Arguments),
    /// Count keys
    Count(count::Arguments),
    /// Load TSV, JSON lines or a folder of files; creates the store if there is none
    Load(load::Arguments),
    /// Write the store's content as TSV, JSON lines or a folder of files
    Export(export::Arguments),
    /// Write what is done to the store, record by record, as its log says
    Watch(watch::Arguments),
    /// List, create or drop keyspaces
    Keyspaces(keyspaces::Arguments),
    /// Show what the store is made of, and what opening it took
    Stat(stat::Arguments),
    /// Read and check every byte; changes nothing, and can run beside a writer
    Verify(verify::Arguments),
    /// Read every byte, and mend what is damaged from parity and copies
    Scrub(scrub::Arguments),
    /// Say what is damaged and what is lost; with --apply, mend it
    Repair(repair::Arguments),
    /// Show what was found damaged so far, and what became of it
    Repairs(repairs::Arguments),
    /// Copy what is readable of a damaged store into a new one
    Salvage(salvage::Arguments),
    /// Compact a range, or all, of a keyspace
    Compact(compact::Arguments),
    /// Measure how fast a new store is here, with latencies
    Bench(bench::Arguments),
    /// Make a folder that is a store with what this one holds, sharing its segments
    Snapshot(snapshot::Arguments),
    /// Back the store up to a repository, incrementally; list, prune or verify the backups there
    Backup(backup::Arguments),
    /// Make a store from a backup repository: the newest state, or as it was at a record or a moment
    Restore(restore::Arguments),
    /// Show the log as it is on disk, damaged or not
    Log(log::Arguments),
    /// Show the segments as they are on disk, damaged or not
    Segments(segments::Arguments),
    /// Show the manifest as it is on disk, damaged or not
    Manifest(manifest::Arguments),
    /// Load real files, kill a writer in the middle, prove that nothing acknowledged is lost, damage a copy
    Demo(demo::Arguments),
    /// What the demo kills
    #[command(hide = true)]
    DemoWriter(demo::writer::Arguments),
    /// Kill, cut the power, damage, fill the disk and fail its calls for a time; look for anything lost or wrong
    Torture(torture::Arguments),
    /// What torture kills
    #[command(hide = true)]
    TortureChild(torture::child::Arguments),
    /// Write a completion script for a shell
    Completions(completions::Arguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
