//! The test binary started again as a child, and what the two say to each other.
//!
//! A child writes lines: `ack WRITER NUMBER` (that operation is acknowledged and survives the process),
//! `figures …`, `done …` at the end of its work. It works until its standard input says `stop`, and dies
//! with its parent.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

const FOLDER: &str = "KINTSU_SOAK_CHILD_FOLDER";
const SEED: &str = "KINTSU_SOAK_CHILD_SEED";
const ARCHIVED: &str = "KINTSU_SOAK_CHILD_ARCHIVED";
/// Begins each line that is meant for the parent; the test harness prints others.
const MARK: &str = "soak: ";

/// What a child is to do.
#[derive(Clone, Debug)]
pub struct Role {
    pub folder: PathBuf,
    pub seed: u64,
    /// Whether the log is archived.
    pub archived: bool,
}

impl Role {
    /// The one that the environment names, if this is a child.
    pub fn given() -> Option<Self> {
        let folder = std::env::var_os(FOLDER)?.into();
        let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
        Some(Self {
            folder,
            seed: number(SEED),
            archived: number(ARCHIVED) == 1,
        })
    }
}

/// A child at work.
pub struct Child {
    process: std::process::Child,
    lines: BufReader<ChildStdout>,
}

impl Child {
    pub fn start(folder: &Path, seed: u64, archived: bool) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child_role", "--exact", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .env(SEED, seed.to_string())
            .env(ARCHIVED, u64::from(archived).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    /// The next whole line; `None` once the child is gone.
    pub fn next_line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            let whole = line.strip_suffix('\n')?;
            if let Some((_, said)) = whole.split_once(MARK) {
                return Some(said.to_owned());
            }
        }
    }

    /// Kills it with SIGKILL; returns the lines that were still under way.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.next_line()).collect()
    }

    /// Has it end its work; the lines that follow say how.
    pub fn stop(&mut self) {
        let mut input = self.process.stdin.as_ref().unwrap();
        input.write_all(b"stop\n").unwrap();
    }

    /// Waits for its end, which has to be a good one.
    pub fn wait(mut self) {
        // A child whose input ends believes that its parent is gone.
        let _input = self.process.stdin.take();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the child ended with {status}");
    }
}

/// Tells the parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone: then there is nobody to tell.
    let _ = out.write_all(format!("{MARK}{line}\n").as_bytes());
    let _ = out.flush();
}

/// The numbers of a line that begins with `word`.
pub fn numbers(line: &str, word: &str) -> Option<Vec<u64>> {
    let rest = line.strip_prefix(word)?;
    rest.split_whitespace()
        .map(|number| number.parse().ok())
        .collect()
}
