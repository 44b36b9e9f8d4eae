//! What the demo shows: steps and their outcomes, in colour on a terminal, plain elsewhere.

use crate::console::{Console, stdout_is_terminal};
use crate::failure::Outcome;

/// Where the demo tells its story. Silent if the output is for a machine.
pub struct Screen<'a> {
    pub console: &'a mut Console,
    colour: bool,
    steps: u32,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "1;33";

impl<'a> Screen<'a> {
    /// A screen on the console.
    pub fn new(console: &'a mut Console) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = stdout_is_terminal() && !plain;
        Self {
            console,
            colour,
            steps: 0,
        }
    }

    /// The headline.
    pub fn title(&mut self, text: &str) -> Outcome {
        let text = self.paint(YELLOW, text);
        self.print(&text)
    }

    /// A new step begins.
    pub fn step(&mut self, text: &str) -> Outcome {
        self.steps += 1;
        let text = self.paint(BOLD, &format!("{}. {text}", self.steps));
        self.print(&format!("\n{text}"))
    }

    /// Something to know.
    pub fn line(&mut self, text: &str) -> Outcome {
        let text = self.paint(DIM, text);
        self.print(&format!("   {text}"))
    }

    /// Something that the library said.
    pub fn quote(&mut self, text: &str) -> Outcome {
        self.print(&format!("     {text}"))
    }

    /// Something that held.
    pub fn good(&mut self, text: &str) -> Outcome {
        let mark = self.paint(GREEN, "✓");
        self.print(&format!(" {mark} {text}"))
    }

    /// Something that did not hold.
    pub fn bad(&mut self, text: &str) -> Outcome {
        let mark = self.paint(RED, "✗");
        self.print(&format!(" {mark} {text}"))
    }

    /// Something that held or not.
    pub fn verdict(&mut self, held: bool, text: &str) -> Outcome {
        if held {
            self.good(text)
        } else {
            self.bad(text)
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Each line goes out at once: whoever watches sees where it is.
    fn print(&mut self, text: &str) -> Outcome {
        if self.console.json {
            return Ok(());
        }
        writeln!(self.console, "{text}")?;
        self.console.flush()
    }
}
