//! The command line of Kintsu: one module a subcommand, over the public API.

mod application;
mod arguments;
mod commands;
mod console;
mod escape;
mod failure;
mod format;
mod moment;
mod progress;
mod store;
mod text;
mod walk;

use std::process::ExitCode;

fn main() -> ExitCode {
    application::run()
}
