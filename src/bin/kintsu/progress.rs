//! How far long work has come: a bar where a person looks, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kintsu::environment::{Clock, SystemClock};
use serde_json::json;

use crate::console::{Console, complain, stderr_is_terminal};
use crate::text;

/// How often a bar moves.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Tells on standard error how far some work has come.
pub struct Progress {
    bar: Option<ProgressBar>,
    json: bool,
    /// What has been done, as in "loaded 7 records".
    done: &'static str,
    /// What is counted, as in "loaded 7 records"; none if only bytes are.
    noun: Option<&'static str>,
    bytes_total: Option<u64>,
    clock: SystemClock,
    told_at: Duration,
}

impl Progress {
    /// Begins now. Nothing is shown before the first interval is over, so short work stays silent.
    pub fn new(
        console: &Console,
        done: &'static str,
        noun: Option<&'static str>,
        bytes_total: Option<u64>,
    ) -> Self {
        let bar = (!console.json && stderr_is_terminal()).then(|| bar(bytes_total));
        let clock = SystemClock::new();
        Self {
            bar,
            json: console.json,
            done,
            noun,
            bytes_total,
            clock,
            told_at: Duration::ZERO,
        }
    }

    /// Whether it is time to tell.
    pub fn is_due(&self) -> bool {
        let interval = if self.bar.is_some() {
            BAR_INTERVAL
        } else {
            LINE_INTERVAL
        };
        self.elapsed().saturating_sub(self.told_at) >= interval
    }

    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Learns how much there is to do.
    pub fn set_total(&mut self, bytes_total: u64) {
        self.bytes_total = Some(bytes_total);
    }

    /// Tells, if it is time.
    pub fn tell_if_due(&mut self, items: u64, bytes: u64) {
        if self.is_due() {
            self.tell(items, bytes);
        }
    }

    /// Tells that `items` things and `bytes` bytes are done.
    pub fn tell(&mut self, items: u64, bytes: u64) {
        self.told_at = self.elapsed();
        let total = self.bytes_total.map(|total| total.max(bytes));
        if let Some(bar) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(bytes);
            bar.set_message(format!("{} {}", self.done, self.words(items, bytes, total)));
        } else if self.json {
            let progress = json!({
                "done": self.done,
                "items": items,
                "bytes": bytes,
                "bytes_total": total,
                "seconds": self.told_at.as_secs_f64(),
            });
            complain(&format!("{}\n", json!({ "progress": progress })));
        } else {
            complain(&format!(
                "{} {}\n",
                self.done,
                self.words(items, bytes, total)
            ));
        }
    }

    fn words(&self, items: u64, bytes: u64, total: Option<u64>) -> String {
        let time = self.elapsed();
        let mut parts = Vec::new();
        if let Some(noun) = self.noun {
            parts.push(text::plural(items, noun));
        }
        let mut size = text::bytes(bytes);
        if let Some(total) = total {
            size = format!("{size} of {}", text::bytes(total));
        }
        parts.push(size);
        parts.push(text::rate(bytes, time));
        if let Some(total) = total
            && bytes > 0
        {
            let left = time.mul_f64((total - bytes.min(total)) as f64 / bytes as f64);
            parts.push(format!("{} left", text::about(left)));
        }
        parts.join(", ")
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(bytes_total: Option<u64>) -> ProgressBar {
    let template = match bytes_total {
        Some(_) => "{bar:30} {percent:>3} % {wide_msg}",
        None => "{spinner} {wide_msg}",
    };
    // A template that doesn't parse would leave the default style, which is fine too.
    let style = ProgressStyle::with_template(template).map_or_else(
        |_| ProgressStyle::default_bar(),
        |style| style.progress_chars("━╸ "),
    );
    ProgressBar::with_draw_target(bytes_total, ProgressDrawTarget::stderr()).with_style(style)
}
