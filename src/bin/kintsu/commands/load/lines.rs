//! Records from TSV or JSON lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::loader::Loader;
use crate::failure::{Failure, Outcome};
use crate::format::{Format, Lines};

/// An input of lines, opened.
pub struct Source {
    name: PathBuf,
    format: Format,
    bytes: Option<u64>,
    lines: Lines<Box<dyn BufRead>>,
}

impl Source {
    /// Opens the file, or standard input if its name is `-`.
    pub fn open(path: &Path, format: Option<Format>) -> Outcome<Self> {
        let (reader, bytes): (Box<dyn BufRead>, _) = if path == Path::new("-") {
            (Box::new(io::stdin().lock()), None)
        } else {
            let failed = |error: io::Error| Failure::file("read", path, &error);
            let file = File::open(path).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if metadata.is_dir() {
                let what = format!("{} is a folder; load it with --files", path.display());
                return Err(Failure::Usage(what));
            }
            let bytes = metadata.is_file().then_some(metadata.len());
            (Box::new(BufReader::with_capacity(1 << 20, file)), bytes)
        };
        Ok(Self {
            name: path.to_owned(),
            format: format.unwrap_or_else(|| Format::of(path)),
            bytes,
            lines: Lines::new(reader),
        })
    }

    /// Its length, if that is known.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Loads all lines, up to the first that is malformed.
    pub fn load(&mut self, loader: &mut Loader<'_>) -> Outcome {
        let lines = &mut self.lines;
        loop {
            let before = lines.bytes;
            let record = match lines.next() {
                Ok(Some(line)) => self.format.read(line),
                Ok(None) => return Ok(()),
                Err(error) => return Err(Failure::file("read", &self.name, &error)),
            };
            match record {
                Ok(Some((key, value))) => loader.put(&key, &value, lines.bytes - before)?,
                Ok(None) => {}
                Err(what) => {
                    let (name, number) = (self.name.display(), lines.number);
                    return Err(Failure::Input(format!("{name}, line {number}: {what}")));
                }
            }
        }
    }
}
