//! The test binary started again as a child that writes to a store and says what was acknowledged.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use kintsu::{Db, Durability, Error, Options, WriteBatch};

/// Threads of a loading child.
pub const WRITERS: usize = 4;
/// Keys of the large stores.
pub const MILLION: u64 = 1_000_000;

const ROLE: &str = "KINTSU_CHILD_ROLE";
const FOLDER: &str = "KINTSU_CHILD_FOLDER";
const ARGUMENT: &str = "KINTSU_CHILD_ARGUMENT";
/// Begins each line that is meant for the parent; the test harness prints others.
const MARK: &str = "child: ";

/// A child at work.
pub struct Child {
    process: std::process::Child,
    lines: BufReader<ChildStdout>,
}

impl Child {
    pub fn start(role: &str, folder: &Path) -> Self {
        Self::start_with(role, folder, "")
    }

    pub fn start_with(role: &str, folder: &Path, argument: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child_role", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FOLDER, folder)
            .env(ARGUMENT, argument)
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

    /// Kills it with SIGKILL; returns what it had acknowledged that wasn't read yet, and all that was
    /// still under way to the parent.
    pub fn kill(mut self) -> VecDeque<(usize, u64)> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut rest = VecDeque::new();
        while let Some(line) = self.next_line() {
            rest.extend(parse(&line));
        }
        rest
    }

    pub fn wait(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// A loading child's line: the writer and its count.
pub fn parse(line: &str) -> Option<(usize, u64)> {
    let (writer, count) = line.split_once(' ')?;
    Some((writer.parse().ok()?, count.parse().ok()?))
}

/// Plays the role that the environment names, if any.
pub fn play_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let folder = std::env::var_os(FOLDER).unwrap();
    let folder = Path::new(&folder);
    match role.as_str() {
        "load" => load(folder),
        "open" => open(folder),
        _ => load_million(folder, &role),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone: then there is nobody to tell.
    let _ = out.write_all(format!("{MARK}{line}\n").as_bytes());
    let _ = out.flush();
}

/// Returns once the parent has let go of the pipe, so that no child outlives its test.
fn wait_for_parent() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

pub fn load_options(folder: &Path) -> Options {
    Options::new(folder)
        .write_buffer_bytes(64 << 10)
        .log_file_bytes(256 << 10)
        .log_bytes_before_flush(512 << 10)
        .segment_bytes(32 << 10)
        .level_base_bytes(64 << 10)
        .block_bytes(1024)
}

pub fn counter_key(writer: usize) -> String {
    format!("counter {writer:02}")
}

pub fn item_key(writer: usize, count: u64) -> String {
    format!("item {writer:02} {count:012}")
}

pub fn item_value(writer: usize, count: u64) -> String {
    let length = (count * 37 % 400) as usize;
    format!("{writer} {count} {}", "x".repeat(length))
}

/// Writes without end: each writer its items and, in the same batch, their count.
fn load(folder: &Path) {
    let db = load_options(folder).open().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || load_items(db, writer));
        }
        wait_for_parent();
        std::process::exit(0);
    });
}

fn load_items(db: &Db, writer: usize) {
    let before = db.get(counter_key(writer)).unwrap();
    let before: u64 = before.map_or(0, |bytes| {
        std::str::from_utf8(&bytes).unwrap().parse().unwrap()
    });
    for count in before + 1.. {
        let mut batch = WriteBatch::new();
        batch.put(item_key(writer, count), item_value(writer, count));
        batch.put(counter_key(writer), count.to_string());
        // What is merely handed to the system survives a SIGKILL as well.
        let durability = match count % 4 {
            0 => Durability::Disk,
            _ => Durability::Process,
        };
        db.write_with(batch, durability).unwrap();
        say(&format!("{writer} {count}"));
    }
}

fn open(folder: &Path) {
    match load_options(folder).open() {
        Ok(_db) => {
            say("opened");
            wait_for_parent();
        }
        Err(Error::Locked { .. }) => say("locked"),
        Err(error) => say(&format!("{error:?}")),
    }
}

pub fn million_options(folder: &Path, role: &str) -> Options {
    match role {
        "million-small" => Options::new(folder)
            .write_buffer_bytes(4 << 20)
            .log_file_bytes(4 << 20)
            .segment_bytes(4 << 20)
            .level_base_bytes(16 << 20),
        _ => Options::new(folder)
            .write_buffer_bytes(1 << 30)
            .log_bytes_before_flush(1 << 40),
    }
}

/// Keys in no order.
pub fn million_key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub fn million_value(number: u64) -> String {
    format!("value {number}")
}

fn load_million(folder: &Path, role: &str) {
    let count: u64 = std::env::var(ARGUMENT).unwrap().parse().unwrap();
    let db = million_options(folder, role).open().unwrap();
    for start in (0..count).step_by(100) {
        let mut batch = WriteBatch::new();
        for number in start..(start + 100).min(count) {
            batch.put(million_key(number), million_value(number));
        }
        db.write_with(batch, Durability::Process).unwrap();
    }
    say("loaded");
    wait_for_parent();
}
