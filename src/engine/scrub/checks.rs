//! What a round of the scrubber reads that isn't a segment: the log, and what is kept twice.

use std::path::Path;

use crate::engine::Engine;
use crate::engine::scrub::{GoOn, PACE_BYTES, ScrubReport};
use crate::error::{Damage, Error, Result};
use crate::journal::{Means, Outcome};
use crate::snapshot::{LINEAGE_FILE, mend_lineage};

impl Engine {
    /// One part that can't be read keeps none of the others from it.
    pub(super) fn scrub_the_rest(&self, go_on: GoOn<'_>) -> ScrubReport {
        let mut found = ScrubReport::default();
        let files = self.scrub_log_files(&mut found, go_on);
        let log = self.scrub_log(&mut found, go_on);
        let manifest = self.scrub_manifest(&mut found);
        let lineage = self.scrub_lineage(&mut found);
        let failures = [files, log, manifest, lineage]
            .into_iter()
            .filter_map(Result::err);
        found.failures = failures.map(|error| error.to_string()).collect();
        found
    }

    /// Reads the log's files with their parity, also those that are kept for others only.
    fn scrub_log_files(&self, found: &mut ScrubReport, go_on: GoOn<'_>) -> Result<()> {
        for number in self.log.numbers() {
            let checked = self.log.check_file(number, go_on);
            let checked = checked.inspect_err(|error| self.latch_if_final(error))?;
            found.bytes = found.bytes.saturating_add(checked.bytes);
            for damage in &checked.renewed {
                self.note_copy_mended(Means::Memory, damage);
                found.mended += 1;
            }
            found.damage.extend(checked.renewed);
            found.damage.extend(checked.healed);
            found.damage.extend(checked.lost);
        }
        Ok(())
    }

    /// Reads the records that the log has, as far as they are durable.
    fn scrub_log(&self, found: &mut ScrubReport, go_on: GoOn<'_>) -> Result<()> {
        let damage = match self.read_log(found, go_on) {
            Err(Error::Damaged(damage)) => damage,
            Err(ref error @ Error::Io { ref path, .. }) => unreadable(path, error),
            // What was purged meanwhile is nobody's any more.
            Err(Error::Purged { .. }) => return Ok(()),
            read => return read,
        };
        found.damage.extend(damage.iter().cloned());
        // What its records say is in memory.
        self.flush()?;
        for damage in &damage {
            self.note_copy_mended(Means::Memory, damage);
        }
        found.mended += 1;
        Ok(())
    }

    fn read_log(&self, found: &mut ScrubReport, go_on: GoOn<'_>) -> Result<()> {
        go_on()?;
        let mut reader = self.log.read_durable_from(self.covered().next(), None)?;
        let mut paced = 0;
        while let Some(record) = reader.next()? {
            found.records += 1;
            let bytes = record.payload.len() as u64;
            found.bytes = found.bytes.saturating_add(bytes);
            paced += bytes;
            if paced >= PACE_BYTES {
                paced = 0;
                go_on()?;
            }
        }
        Ok(())
    }

    /// Compares the manifest's copies, and publishes new ones if either isn't as it was written.
    fn scrub_manifest(&self, found: &mut ScrubReport) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let damage = manifest.check()?;
        if damage.is_empty() {
            return Ok(());
        }
        found.damage.extend(damage.iter().cloned());
        manifest
            .renew()
            .inspect_err(|error| self.latch_if_final(error))?;
        drop(manifest);
        for damage in &damage {
            self.note_copy_mended(Means::Memory, damage);
        }
        found.mended += 1;
        Ok(())
    }

    fn scrub_lineage(&self, found: &mut ScrubReport) -> Result<()> {
        let (vfs, dir) = (&*self.options.vfs, &self.options.path);
        match mend_lineage(vfs, dir, self.store_id) {
            Ok(None) => {}
            Ok(Some(damage)) => {
                self.note_copy_mended(Means::Copy, &damage);
                found.mended += 1;
                found.damage.push(damage);
            }
            Err(Error::Damaged(damage)) => self.lose_lineage(found, damage),
            Err(ref error @ (Error::Io { ref path, .. } | Error::ForeignFile { ref path, .. })) => {
                self.lose_lineage(found, unreadable(path, error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn lose_lineage(&self, found: &mut ScrubReport, damage: Vec<Damage>) {
        let lost = self.repair(Outcome::Lost, Means::None, LINEAGE_FILE);
        self.note_repair(&lost.because("both copies are damaged"));
        found.damage.extend(damage);
        found.lost += 1;
    }

    fn note_copy_mended(&self, means: Means, damage: &Damage) {
        self.note_damage(Outcome::Mended, means, damage);
    }
}

fn unreadable(path: &Path, error: &Error) -> Vec<Damage> {
    vec![Damage::new(path, 0, 0, error.to_string())]
}
