//! Runs the binary.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

/// A folder for a test's stores and files.
pub struct Room {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The output as text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.out).unwrap()
    }

    /// Fails unless the command ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Fails unless the command was fine.
    #[track_caller]
    pub fn fine(self) -> Self {
        let ended = self.expect(0);
        assert!(!ended.err.contains("error"), "{ended:?}");
        ended
    }

    /// Fails unless the command's error says all of `words`.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {self:?}");
        }
        self
    }
}

/// The binary, with its output and errors caught.
pub fn kintsu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kintsu"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Room {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The store of most tests.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Runs `kintsu SUBCOMMAND STORE ARGUMENTS…` on the store.
    pub fn run<A: AsRef<OsStr>>(&self, subcommand: &str, arguments: &[A]) -> Ended {
        self.run_on(&self.store(), subcommand, arguments)
    }

    /// The same on another store.
    pub fn run_on<A: AsRef<OsStr>>(&self, store: &Path, subcommand: &str, more: &[A]) -> Ended {
        Ended::of(
            kintsu()
                .arg(subcommand)
                .arg(store)
                .args(more)
                .output()
                .unwrap(),
        )
    }

    /// The same with something on standard input.
    pub fn feed(&self, store: &Path, subcommand: &str, more: &[&str], input: &[u8]) -> Ended {
        let mut command = kintsu();
        command.arg(subcommand).arg(store).args(more);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        thread::scope(|scope| {
            // The command may end before it has read everything.
            scope.spawn(move || pipe.write_all(input).unwrap_or_default());
            Ended::of(child.wait_with_output().unwrap())
        })
    }

    /// Puts a few records.
    pub fn put(&self, records: &[(&str, &str)]) {
        let mut lines = String::new();
        for (key, value) in records {
            lines.push_str(&format!("{key}\t{value}\n"));
        }
        self.feed(&self.store(), "load", &["-"], lines.as_bytes())
            .fine();
    }

    /// What `scan` writes.
    pub fn scan(&self, store: &Path) -> String {
        let none: [&str; 0] = [];
        self.run_on(store, "scan", &none).fine().text().to_owned()
    }
}
