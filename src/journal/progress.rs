//! How far the scrubber has come, so that it goes on after a restart.
//!
//! One line of numbers, and ` #` with XXH3-64 of all before it. Nothing depends on it: one that can't be read is as
//! none.

use std::path::Path;

use crate::codec::payload_hash;
use crate::error::{Error, Result};
use crate::types::SegmentNumber;
use crate::vfs::{Access, Vfs};

/// Its name in a store's folder.
pub const PROGRESS_FILE: &str = "kintsu.scrub";
/// More than a line has.
const BYTES_MAX: usize = 256;

/// How far the scrubber has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the last whole round ended, in microseconds since 1970; 0: never.
    pub finished_us: u64,
    /// When the round under way began; 0: none is.
    pub started_us: u64,
    /// The segments up to this one have been read in it.
    pub through: SegmentNumber,
    /// It ends before this one: what is written later is for the next round.
    pub before: SegmentNumber,
    /// Bytes read in it.
    pub bytes: u64,
}

impl Progress {
    fn encode(self) -> String {
        let Self {
            finished_us,
            started_us,
            through,
            before,
            bytes,
        } = self;
        let line = format!("{finished_us} {started_us} {through} {before} {bytes}");
        let sum = payload_hash(line.as_bytes());
        format!("{line} #{sum:016x}\n")
    }

    fn decode(line: &str) -> Option<Self> {
        let (line, sum) = line.strip_suffix('\n')?.rsplit_once(" #")?;
        if sum != format!("{:016x}", payload_hash(line.as_bytes())) {
            return None;
        }
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let mut number = || numbers.next()?.ok();
        Some(Self {
            finished_us: number()?,
            started_us: number()?,
            through: SegmentNumber(number()?),
            before: SegmentNumber(number()?),
            bytes: number()?,
        })
    }

    /// What was written last; nothing if there is nothing that can be read.
    #[must_use]
    pub fn read(vfs: &dyn Vfs, dir: &Path) -> Self {
        let mut buffer = [0; BYTES_MAX];
        let file = vfs.open(&dir.join(PROGRESS_FILE), Access::Read);
        let read = file.and_then(|file| file.read_at(&mut buffer, 0));
        let bytes = read.ok().and_then(|read| buffer.get(..read));
        let line = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        line.and_then(Self::decode).unwrap_or_default()
    }

    /// Puts it in place of what was written last. (A crash may take it back: then something is read twice.)
    ///
    /// # Errors
    /// What the disk answers.
    pub fn write(self, vfs: &dyn Vfs, dir: &Path) -> Result<()> {
        let path = dir.join(PROGRESS_FILE);
        let temporary = dir.join(format!("{PROGRESS_FILE}.tmp"));
        let write = || {
            let file = vfs.open(&temporary, Access::CreateOrTruncate)?;
            file.write_at(self.encode().as_bytes(), 0)?;
            file.sync_data()?;
            vfs.rename(&temporary, &path)
        };
        write().map_err(|error| Error::io("write", &path, error))
    }
}
