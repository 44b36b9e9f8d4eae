//! `kintsu completions SHELL`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::console::Console;
use crate::failure::Outcome;

/// Its arguments.
#[derive(Args, Debug)]
pub struct Arguments {
    /// For which shell
    shell: Shell,
}

/// Writes the script.
pub fn run(arguments: &Arguments, console: &mut Console) -> Outcome {
    // Made in memory first: the generator panics when its writer fails.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "kintsu", &mut script);
    console.bytes(&script)
}
