//! Term and vote, in two checksummed copies.
//!
//! Invariants:
//! - the two copies are never being written at the same time: the one that doesn't hold the current
//!   value goes first, and is synced before the other is touched;
//! - nothing is answered before both are durable.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::codec::{Reader, block_checksum};
use crate::error::{Damage, Error, Result};
use crate::types::{FileId, StoreId, Term, UNIT};
use crate::vfs::{Access, Vfs};

use super::names;
use super::options::LogAccess;

const MAGIC: &[u8; 8] = b"KNTSVOTE";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = UNIT - 8;

/// The highest term that a member has seen, and whom it voted for in that term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term; 0 before the first.
    pub term: Term,
    /// The member that was voted for in it.
    pub candidate: Option<u64>,
}

/// One of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    A,
    B,
}

impl Copy {
    fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::A => "vote.a",
            Self::B => "vote.b",
        })
    }

    /// Seeds the checksum, so that neither another store's copy nor the other copy passes.
    fn file_id(self, store_id: StoreId) -> FileId {
        FileId(store_id.0 ^ (1 + self as u128))
    }
}

/// A copy's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    sequence: u64,
    vote: Vote,
}

/// What is at a copy's place.
#[derive(Debug)]
enum Found {
    Missing,
    Bad,
    Foreign(StoreId),
    Newer(u32),
    Good(Stored),
}

/// Keeps a member's term and vote.
#[derive(Debug)]
pub struct TermVote {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    store_id: StoreId,
    access: LogAccess,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Stored,
    /// Which copies hold `current`, durably.
    holds: [bool; 2],
    latch: Option<Arc<str>>,
}

/// Refuses a copy of another store or of a newer format.
fn accept(copy: Found, path: PathBuf, store_id: StoreId) -> Result<Found> {
    match copy {
        Found::Foreign(other) => Err(Error::ForeignFile {
            path,
            found: other.to_string(),
            expected: store_id.to_string(),
        }),
        Found::Newer(found) => Err(Error::NewerFormat {
            path,
            found,
            supported: VERSION,
        }),
        copy => Ok(copy),
    }
}

impl TermVote {
    /// Reads term and vote. `log_term` is the term of the log's last record ([`super::Log::last_term`]).
    /// Writes nothing.
    ///
    /// # Errors
    /// `VoteLost` if neither copy can be read, or the term is below `log_term` (then the copies were
    /// rolled back, or are missing); `ForeignFile`, `NewerFormat`; whatever the disk answers.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: impl Into<PathBuf>,
        store_id: StoreId,
        log_term: Term,
        access: LogAccess,
    ) -> Result<Self> {
        let dir = dir.into();
        let mut found = Vec::new();
        for copy in [Copy::A, Copy::B] {
            let path = copy.path(&dir);
            let copy = read(&*vfs, &path, copy, store_id, access)?;
            found.push(accept(copy, path, store_id)?);
        }
        let lost = |why: String| Error::VoteLost {
            path: dir.clone(),
            why,
        };
        let stored = |found: &Found| match found {
            Found::Good(stored) => Some(*stored),
            _ => None,
        };
        let best = found
            .iter()
            .filter_map(stored)
            .max_by_key(|one| one.sequence);
        let fresh = found.iter().all(|one| matches!(one, Found::Missing));
        let current = match best {
            Some(stored) => stored,
            None if fresh => Stored {
                sequence: 0,
                vote: Vote::default(),
            },
            None => return Err(lost("neither copy can be read".into())),
        };
        if current.vote.term < log_term {
            let term = current.vote.term;
            return Err(lost(match fresh {
                true => format!("both copies are missing, and the log has term {log_term}"),
                false => format!("they say term {term}, and the log has term {log_term}"),
            }));
        }
        let mut holds = [false; 2];
        for (holds, found) in holds.iter_mut().zip(&found) {
            *holds = stored(found) == Some(current);
        }
        Ok(Self {
            vfs,
            dir,
            store_id,
            access,
            state: Mutex::new(State {
                current,
                holds,
                latch: None,
            }),
        })
    }

    /// The current term and vote: durable in at least one copy, and in both if [`TermVote::store`]
    /// wrote them.
    #[must_use]
    pub fn get(&self) -> Vote {
        self.state.lock().current.vote
    }

    /// Replaces term and vote. Once this returns, both copies are durable. Storing what is there already
    /// only mends a copy that is missing or damaged.
    ///
    /// # Errors
    /// `LogOrder` if the term goes back, or the vote in a term changes; `ReadOnly`; `NoSpace` if a copy
    /// couldn't be made for the first time; `OutcomeUnknown` if a write or sync failed, and then
    /// `Poisoned`.
    pub fn store(&self, vote: Vote) -> Result<()> {
        if self.access == LogAccess::ReadOnly {
            return Err(Error::ReadOnly);
        }
        let mut state = self.state.lock();
        if let Some(cause) = &state.latch {
            return Err(Error::Poisoned {
                cause: Arc::clone(cause),
            });
        }
        let now = state.current.vote;
        let changes_vote =
            vote.term == now.term && now.candidate.is_some() && vote.candidate != now.candidate;
        if vote.term < now.term || changes_vote {
            let why = format!("{now:?} can't become {vote:?}");
            return Err(Error::LogOrder { why });
        }
        let sequence =
            state.current.sequence + u64::from(vote != now || state.current.sequence == 0);
        let stored = Stored { sequence, vote };
        if stored != state.current {
            // The copy that holds the last value stays whole until the other holds the new one.
            let first = match state.holds {
                [true, false] => Copy::B,
                _ => Copy::A,
            };
            self.write(&mut state, first, stored)?;
            state.current = stored;
            state.holds = [false; 2];
            state.holds[first as usize] = true;
        }
        for copy in [Copy::A, Copy::B] {
            if !state.holds[copy as usize] {
                self.write(&mut state, copy, stored)?;
                state.holds[copy as usize] = true;
            }
        }
        Ok(())
    }

    fn write(&self, state: &mut State, copy: Copy, stored: Stored) -> Result<()> {
        let path = copy.path(&self.dir);
        let bytes = encode(copy, self.store_id, stored);
        match self.vfs.open(&path, Access::Write) {
            Ok(file) => {
                let written = file.write_at(&bytes, 0);
                let done = written
                    .map_err(|e| Error::io("write", &path, e))
                    .and_then(|()| file.sync_data().map_err(|e| Error::io("sync", &path, e)));
                done.map_err(|e| {
                    let cause: Arc<str> = e.to_string().into();
                    state.latch = Some(Arc::clone(&cause));
                    Error::OutcomeUnknown { cause }
                })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.publish(&path, &bytes).inspect_err(|error| {
                    if let Error::OutcomeUnknown { cause } = error {
                        state.latch = Some(Arc::clone(cause));
                    }
                })
            }
            Err(e) => Err(Error::io("open", &path, e)),
        }
    }

    /// Makes a copy that isn't there yet.
    fn publish(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = names::temporary(path);
        let created = self.vfs.open(&temporary, Access::CreateOrTruncate);
        let file = created.map_err(|e| Error::io("create", &temporary, e))?;
        let written = file.write_at(bytes, 0);
        written.map_err(|e| Error::io("write", &temporary, e))?;
        file.sync_data()
            .map_err(|e| Error::io("sync", &temporary, e))?;
        let renamed = self.vfs.rename(&temporary, path);
        renamed.map_err(|e| Error::io("publish", path, e))?;
        let synced = self.vfs.sync_dir(&self.dir);
        synced.map_err(|e| Error::OutcomeUnknown {
            cause: Error::io("sync", &self.dir, e).to_string().into(),
        })
    }
}

fn encode(copy: Copy, store_id: StoreId, stored: Stored) -> Vec<u8> {
    let mut out = Vec::with_capacity(UNIT);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&store_id.0.to_le_bytes());
    out.extend_from_slice(&stored.sequence.to_le_bytes());
    out.extend_from_slice(&stored.vote.term.0.to_le_bytes());
    let candidate = stored.vote.candidate;
    out.extend_from_slice(&u64::from(candidate.is_some()).to_le_bytes());
    out.extend_from_slice(&candidate.unwrap_or(0).to_le_bytes());
    out.resize(CHECKSUM_AT, 0);
    let checksum = block_checksum(copy.file_id(store_id), 0, &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(copy: Copy, store_id: StoreId, unit: &[u8]) -> Found {
    decode_checked(copy, store_id, unit).unwrap_or(Found::Bad)
}

fn decode_checked(copy: Copy, expected: StoreId, unit: &[u8]) -> Option<Found> {
    let (body, checksum) = unit.split_at_checked(CHECKSUM_AT)?;
    let mut reader = Reader::new(body);
    let magic = reader.array::<8>()?;
    let version = reader.u32()?;
    let _reserved = reader.u32()?;
    let store_id = StoreId(reader.u128()?);
    let checksum = Reader::new(checksum).u64()?;
    if magic != *MAGIC || checksum != block_checksum(copy.file_id(store_id), 0, body) {
        return None;
    }
    if store_id != expected {
        return Some(Found::Foreign(store_id));
    }
    if version > VERSION {
        return Some(Found::Newer(version));
    }
    let sequence = reader.u64()?;
    let term = Term(reader.u64()?);
    let voted = reader.u64()?;
    let candidate = reader.u64()?;
    let candidate = match voted {
        0 => None,
        1 => Some(candidate),
        _ => return None,
    };
    Some(Found::Good(Stored {
        sequence,
        vote: Vote { term, candidate },
    }))
}

/// Reads a copy; to write later, as it is on the disk.
fn read(
    vfs: &dyn Vfs,
    path: &Path,
    copy: Copy,
    store_id: StoreId,
    access: LogAccess,
) -> Result<Found> {
    let how = match access {
        LogAccess::ReadWrite => Access::Write,
        LogAccess::ReadOnly => Access::Read,
    };
    let mut file = match vfs.open(path, how) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Missing),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    if access == LogAccess::ReadWrite {
        file.sync_data().map_err(|e| Error::io("sync", path, e))?;
        match vfs.open(path, Access::ReadDirect) {
            Ok(direct) => file = direct,
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            Err(e) => return Err(Error::io("open", path, e)),
        }
    }
    let mut unit = vec![0; UNIT];
    let read = file.read_at(&mut unit, 0);
    let read = read.map_err(|e| Error::io("read", path, e))?;
    Ok(decode(copy, store_id, &unit[..read]))
}

/// What is wrong with one copy, of whichever store.
///
/// # Errors
/// `NewerFormat`, or what the disk answers.
pub(crate) fn check_vote(vfs: &dyn Vfs, path: &Path) -> Result<Option<Damage>> {
    let copy = match path.extension() {
        Some(of) if of == "b" => Copy::B,
        _ => Copy::A,
    };
    let claimed = |unit: &[u8]| {
        let id = unit.get(16..32)?.first_chunk()?;
        Some(StoreId(u128::from_le_bytes(*id)))
    };
    let file = vfs.open(path, Access::Read);
    let file = file.map_err(|e| Error::io("open", path, e))?;
    let mut unit = vec![0; UNIT];
    let read = file.read_at(&mut unit, 0);
    let read = read.map_err(|e| Error::io("read", path, e))?;
    unit.truncate(read);
    match decode(copy, claimed(&unit).unwrap_or_default(), &unit) {
        Found::Good(_) => Ok(None),
        Found::Newer(found) => Err(Error::NewerFormat {
            path: path.to_owned(),
            found,
            supported: VERSION,
        }),
        _ => {
            let what = "it isn't as it was written";
            Ok(Some(Damage::new(path, 0, UNIT as u64, what)))
        }
    }
}

#[cfg(test)]
mod tests;
