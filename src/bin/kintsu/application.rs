//! From the arguments to the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::{Cli, Command};
use crate::commands;
use crate::console::Console;
use crate::failure::{Failure, Outcome, exit};

/// Runs the command that the process's arguments name.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            let mut console = Console::new(cli.json);
            let outcome = dispatch(&cli.command, &mut console);
            settle(outcome, &mut console)
        }
        Err(error) => refuse(&error, &arguments),
    };
    ExitCode::from(code)
}

fn dispatch(command: &Command, console: &mut Console) -> Outcome {
    match command {
        Command::Put(arguments) => commands::put::run(arguments, console),
        Command::Get(arguments) => commands::get::run(arguments, console),
        Command::Delete(arguments) => commands::delete::run(arguments, console),
        Command::Scan(arguments) => commands::scan::run(arguments, console),
        Command::Count(arguments) => commands::count::run(arguments, console),
        Command::Load(arguments) => commands::load::run(arguments, console),
        Command::Export(arguments) => commands::export::run(arguments, console),
        Command::Watch(arguments) => commands::watch::run(arguments, console),
        Command::Keyspaces(arguments) => commands::keyspaces::run(arguments, console),
        Command::Stat(arguments) => commands::stat::run(arguments, console),
        Command::Verify(arguments) => commands::verify::run(arguments, console),
        Command::Scrub(arguments) => commands::scrub::run(arguments, console),
        Command::Repair(arguments) => commands::repair::run(arguments, console),
        Command::Repairs(arguments) => commands::repairs::run(arguments, console),
        Command::Salvage(arguments) => commands::salvage::run(arguments, console),
        Command::Compact(arguments) => commands::compact::run(arguments, console),
        Command::Bench(arguments) => commands::bench::run(arguments, console),
        Command::Snapshot(arguments) => commands::snapshot::run(arguments, console),
        Command::Backup(arguments) => commands::backup::run(arguments, console),
        Command::Restore(arguments) => commands::restore::run(arguments, console),
        Command::Log(arguments) => commands::log::run(arguments, console),
        Command::Segments(arguments) => commands::segments::run(arguments, console),
        Command::Manifest(arguments) => commands::manifest::run(arguments, console),
        Command::Demo(arguments) => commands::demo::run(arguments, console),
        Command::DemoWriter(arguments) => commands::demo::writer::run(arguments),
        Command::Torture(arguments) => commands::torture::run(arguments, console),
        Command::TortureChild(arguments) => commands::torture::child::run(arguments),
        Command::Completions(arguments) => commands::completions::run(arguments, console),
    }
}

/// Writes out what is left and tells what went wrong.
fn settle(outcome: Outcome, console: &mut Console) -> u8 {
    let flushed = console.flush();
    match outcome.and(flushed) {
        Ok(()) => exit::FINE,
        Err(failure) => {
            console.fail(&failure);
            failure.exit_code()
        }
    }
}

/// Tells of arguments that can't be understood, or gives the help that they ask for.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> u8 {
    let wanted = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    let json = arguments
        .iter()
        .take_while(|one| *one != "--")
        .any(|one| one == "--json");
    if wanted || !json {
        // A reader who has gone away needs no help.
        let _ = error.print();
    } else {
        let message = error.to_string();
        let message = message.trim_end().trim_start_matches("error: ").to_owned();
        Console::new(json).fail(&Failure::Usage(message));
    }
    if wanted { exit::FINE } else { exit::USAGE }
}
