//! The change feed of a store that somebody else has open: its log, followed, and its manifest for names.

use std::io::ErrorKind;

use crate::engine::feed::{Decoded, Decoder, FeedRecord};
use crate::engine::folder::prepare_folder;
use crate::engine::recovery::{RACES_MAX, RecoveryReport, manifest_setup};
use crate::error::{Damage, Error, Result};
use crate::manifest::Manifest;
use crate::options::{Background, Options};
use crate::types::Index;
use crate::wal::{Log, LogAccess, LogOptions, LogSetup, LogTail, Record, RecordKind};

/// Reads the feed from the files alone.
#[derive(Debug)]
pub(crate) struct Follow {
    options: Options,
    decoder: Decoder,
    tail: LogTail,
    /// The oldest record was asked for, and none was shown yet.
    is_at_oldest: bool,
}

impl Follow {
    /// Begins at record `from`; 0 stands for the oldest that is there.
    pub(crate) fn open(options: &Options, from: Index) -> Result<Self> {
        let options = options.clone().read_only(true);
        options.validate()?;
        let mut races = 0;
        loop {
            match Self::open_once(&options, from) {
                // A live writer has moved a file away.
                Err(Error::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && races < RACES_MAX =>
                {
                    races += 1;
                }
                // It has purged the record that was the oldest.
                Err(Error::Purged { .. }) if from == Index(0) && races < RACES_MAX => races += 1,
                other => return other,
            }
        }
    }

    fn open_once(options: &Options, from: Index) -> Result<Self> {
        prepare_folder(options, &mut RecoveryReport::default(), |_| Ok(()))?;
        let (manifest, _) = Manifest::open(manifest_setup(options))?;
        let state = manifest.state();
        let named = state.keyspaces.iter();
        let mut decoder = Decoder::new(named.map(|(id, k)| (*id, k.name.as_str())));
        let (log, _) = Log::open(LogSetup {
            vfs: options.vfs.clone(),
            clock: options.clock.clone(),
            entropy: options.entropy.clone(),
            store_id: state.store_id,
            options: LogOptions {
                file_bytes: options.log_file_bytes,
                identifier_delay: options.identifier_delay,
                buffer_bytes: options.log_buffer_bytes,
                parity: options.parity,
            },
            needed_above: Index(from.0.saturating_sub(1)),
            access: LogAccess::ReadOnly,
            parallel: options.background == Background::Threads,
            ..LogSetup::new(&options.path)
        })?;
        note_names(&log, from, &mut decoder);
        let tail = log.follow(from)?;
        Ok(Self {
            options: options.clone(),
            decoder,
            tail,
            is_at_oldest: from == Index(0),
        })
    }

    /// The next record, if it is there and durable.
    pub(crate) fn try_next(&mut self) -> Result<Option<FeedRecord>> {
        while let Some(record) = self.read()? {
            self.is_at_oldest = false;
            match self.decoder.decode(&record) {
                Decoded::Effects(effects) => return Ok(Some(effects)),
                Decoded::Nothing => {}
                Decoded::Malformed(what) => {
                    let index = record.index;
                    let what = format!("the {what} in record {index} can't be read");
                    let mut damage = Damage::new(&self.options.path, 0, 0, what);
                    damage.indexes = Some((index, index));
                    return Err(Error::damaged(damage));
                }
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> Result<Option<Record>> {
        for _ in 0..RACES_MAX {
            match self.tail.next() {
                // The live writer has purged it meanwhile: another one is the oldest now.
                Err(Error::Purged { .. }) if self.is_at_oldest => {
                    *self = Self::open(&self.options, Index(0))?;
                }
                other => return other,
            }
        }
        self.tail.next()
    }

    pub(crate) fn next_index(&self) -> Index {
        self.tail.next_index()
    }
}

/// Learns from the records before `from` what the manifest doesn't say: names of keyspaces that were
/// created since the last flush, or dropped. What can't be read there goes without a name.
fn note_names(log: &Log, from: Index, decoder: &mut Decoder) {
    let Ok(mut reader) = log.read_from(Index(0)) else {
        return;
    };
    while let Ok(Some(record)) = reader.next() {
        if record.index >= from {
            return;
        }
        if record.kind == RecordKind::Catalog {
            decoder.catalog(&record.payload);
        }
    }
}
