//! Standard output and standard error: the one place that writes to them.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::time::Duration;

use kintsu::environment::{Clock, SystemClock};
use serde_json::Value;

use crate::failure::{Failure, Outcome};

const STANDARD_OUTPUT: &str = "standard output";

/// Where a command writes.
pub struct Console {
    /// Whether the output is for a machine.
    pub json: bool,
    out: BufWriter<Stdout>,
    clock: SystemClock,
}

impl Console {
    /// The process's standard output and error.
    pub fn new(json: bool) -> Self {
        let out = BufWriter::with_capacity(64 << 10, io::stdout());
        Self {
            json,
            out,
            clock: SystemClock::new(),
        }
    }

    /// What `write!` and `writeln!` call.
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> Outcome {
        let written = self.out.write_fmt(arguments);
        written.map_err(|error| Failure::write(STANDARD_OUTPUT, &error))
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Outcome {
        let written = self.out.write_all(bytes);
        written.map_err(|error| Failure::write(STANDARD_OUTPUT, &error))
    }

    /// One line of JSON.
    pub fn value(&mut self, value: &Value) -> Outcome {
        writeln!(self, "{value}")
    }

    /// Everything written so far goes out.
    pub fn flush(&mut self) -> Outcome {
        self.out
            .flush()
            .map_err(|error| Failure::write(STANDARD_OUTPUT, &error))
    }

    /// Standard output for those who take any writer.
    pub fn writer(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// A remark beside the output, on standard error.
    pub fn note(&self, kind: &str, text: &str) {
        if self.json {
            complain(&format!("{}\n", serde_json::json!({ kind: text })));
        } else {
            complain(&format!("{kind}: {text}\n"));
        }
    }

    /// Something that the user should know but that stops nothing.
    pub fn warn(&self, text: &str) {
        self.note("warning", text);
    }

    /// Tells a failure on standard error.
    pub fn fail(&self, failure: &Failure) {
        if self.json {
            if let Some(value) = failure.to_json() {
                complain(&format!("{value}\n"));
            }
        } else if let Some(message) = failure.message() {
            complain(&format!("error: {message}\n"));
        }
    }
}

/// Writes to standard error. If that fails too, there is nobody left to tell.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether a person looks at standard error.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether a person looks at standard output.
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}
