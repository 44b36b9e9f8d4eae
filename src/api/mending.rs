//! Damage: finding it, mending it, and what is lost of it.

use crate::api::Db;
use crate::engine::{LostRange, Repairs, ScrubReport, repairs};
use crate::error::Result;

impl Db {
    /// Writes anew every segment that reads have found damaged and could put together again from its parity.
    /// Returns how many were. It need not be asked: unless the jobs are stepped by hand, a thread does it as
    /// soon as a read has met the damage.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// db.put("key", "value")?;
    /// assert_eq!(db.mend()?, 0);
    /// assert_eq!(db.statistics().damaged_segments, 0);
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the disk answers; the segment is then read as before. That more of it is lost than its parity makes up
    /// for is no error here: see [`Db::lost_ranges`]; but [`Error::Damaged`](crate::Error::Damaged) as long as the disk
    /// refuses to read a part, which may be there the next time, or a compaction is at work on it. `Poisoned`, `ReadOnly`, `Closed`.
    pub fn mend(&self) -> Result<u64> {
        self.shared.engine.mend()
    }

    /// Reads the store now, its segments past the page cache where the disk has a way to do that, and mends what can
    /// be mended. It need not be called: unless the jobs are stepped by hand, a thread does the same little by little
    /// ([`Options::scrub_every`](crate::Options::scrub_every)).
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = kintsu::Db::open(folder.path())?;
    /// db.put("key", "value")?;
    /// let report = db.scrub()?;
    /// assert_eq!((report.records, report.damage.len()), (1, 0));
    /// assert!(db.repairs()?.repairs.is_empty());
    /// # Ok::<(), kintsu::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the disk answers. Damage is no error here, also where it can't be mended: it is in the report and in
    /// [`Db::repairs`]. `Poisoned`, `ReadOnly`, `Closed`.
    pub fn scrub(&self) -> Result<ScrubReport> {
        self.shared.engine.scrub_all()
    }

    /// What was found damaged so far, and what became of it, oldest first: the last MiB or two of the journal in the
    /// store's folder.
    ///
    /// # Errors
    /// What the disk answers. Lines that aren't as they were written are counted, and no error.
    pub fn repairs(&self) -> Result<Repairs> {
        repairs(&self.shared.engine.options)
    }

    /// What the store has lost: ranges of keys whose newest values may have been in blocks that are damaged beyond
    /// repair. Reads there are refused with [`Error::Damaged`](crate::Error::Damaged), but for keys that were written since. Everything
    /// else is served. O(ranges).
    ///
    /// A deletion of the whole range ([`Db::delete_range`]) ends it, once it is compacted; so does
    /// [`Db::accept_losses`].
    #[must_use]
    pub fn lost_ranges(&self) -> Vec<LostRange> {
        self.shared.engine.lost_ranges()
    }

    /// Accepts that what [`Db::lost_ranges`] names is lost, and returns it: from now on reads there answer with what
    /// is left, **be it older than what was lost, or deleted by it**. The damaged files stay in `quarantine/`.
    ///
    /// # Errors
    /// What the disk answers. `Poisoned`, `ReadOnly`, `Closed`.
    pub fn accept_losses(&self) -> Result<Vec<LostRange>> {
        self.shared.engine.accept_losses()
    }
}
