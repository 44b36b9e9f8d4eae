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

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    raise_file_limit();
    application::run()
}

/// A store keeps each of its segments open: takes as many file handles as the system allows this user.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Else with as many as there are: an open that needs more says so.
    let _ = setrlimit(Resource::Nofile, raised);
}
