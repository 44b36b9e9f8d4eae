//! Opening the store that a command names, and the arguments that many commands share.

use std::ffi::{OsStr, OsString};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use kintsu::{DEFAULT_KEYSPACE, Db, Keyspace, Options, Range};
use parking_lot::Mutex;

use crate::console::Console;
use crate::escape;
use crate::failure::{Failure, Outcome};
use crate::progress::Progress;

/// Which store.
#[derive(Args, Debug)]
pub struct StoreArguments {
    /// The store's folder
    #[arg(value_name = "STORE")]
    pub store: PathBuf,
    /// Open it even on a file system that can't keep the promises (a network share, say)
    #[arg(long)]
    pub allow_unsafe_file_system: bool,
}

/// Which keyspace.
#[derive(Args, Debug)]
pub struct KeyspaceArgument {
    /// The keyspace
    #[arg(long, value_name = "NAME", default_value = DEFAULT_KEYSPACE)]
    pub keyspace: String,
}

/// Whether keys and values on the command line are escaped.
#[derive(Args, Debug)]
pub struct EscapedArgument {
    /// Read \t \n \r \\ and \xHH in keys and values given as arguments, so that any bytes can be
    #[arg(long, short)]
    pub escaped: bool,
}

impl EscapedArgument {
    /// The bytes that an argument stands for.
    pub fn bytes(&self, argument: &OsStr) -> Outcome<Vec<u8>> {
        if !self.escaped {
            return Ok(argument.as_bytes().to_vec());
        }
        escape::unescape(argument.as_bytes()).map_err(Failure::Usage)
    }
}

/// Which keys.
#[derive(Args, Debug)]
pub struct RangeArguments {
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    pub from: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    pub to: Option<OsString>,
    /// Only keys that begin so
    #[arg(long, value_name = "KEY")]
    pub prefix: Option<OsString>,
    #[command(flatten)]
    pub escaped: EscapedArgument,
    #[command(flatten)]
    pub keyspace: KeyspaceArgument,
}

impl RangeArguments {
    /// The keys and values asked for.
    pub fn open(&self, db: &Db) -> Outcome<Range> {
        let bounds = self.bounds()?;
        Ok(db.keyspace(&self.keyspace.keyspace)?.range(bounds)?)
    }

    /// The bounds asked for.
    pub fn bounds(&self) -> Outcome<(Bound<Vec<u8>>, Bound<Vec<u8>>)> {
        let argument = |key: &Option<OsString>| match key {
            Some(key) => self.escaped.bytes(key).map(Some),
            None => Ok(None),
        };
        let (from, to) = (argument(&self.from)?, argument(&self.to)?);
        Ok(bounds(from, to, argument(&self.prefix)?))
    }
}

/// The keys that lie in the range and have the prefix.
fn bounds(
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let end = prefix.as_deref().and_then(prefix_end);
    let lower = from.max(prefix);
    let upper = match (to, end) {
        (Some(to), Some(end)) => Some(to.min(end)),
        (to, end) => to.or(end),
    };
    (
        lower.map_or(Bound::Unbounded, Bound::Included),
        upper.map_or(Bound::Unbounded, Bound::Excluded),
    )
}

/// The first key after all that begin with `prefix`, if there is one.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let (last, _) = prefix
        .iter()
        .enumerate()
        .rfind(|(_, byte)| **byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

impl StoreArguments {
    /// How to open it.
    pub fn options(&self) -> Options {
        Options::new(&self.store).allow_unsafe_file_system(self.allow_unsafe_file_system)
    }

    /// Opens it to read, beside a writer if there is one. Never creates it.
    pub fn open_to_read(&self, console: &Console) -> Outcome<Db> {
        open(self.options().read_only(true), console)
    }

    /// Opens it for a single write.
    pub fn open_for_one_write(&self, console: &Console, create: bool) -> Outcome<Db> {
        // A log file is as long from the start as it may become; one write needs no more than this,
        // and a larger value gets a file of its own.
        let options = self.options().log_file_bytes(1 << 20);
        open(options.create_if_missing(create), console)
    }

    /// Opens it to write a lot.
    pub fn open_to_write(&self, console: &Console, create: bool) -> Outcome<Db> {
        open(self.options().create_if_missing(create), console)
    }
}

/// Opens a store, tells how far a long recovery has come, and warns of what it healed.
pub fn open(options: Options, console: &Console) -> Outcome<Db> {
    let progress = Mutex::new(Progress::new(console, "recovered", None, Some(0)));
    let options = options.progress(move |so_far| {
        let mut progress = progress.lock();
        progress.set_total(so_far.bytes_total);
        progress.tell_if_due(0, so_far.bytes_done);
        if so_far.bytes_done >= so_far.bytes_total {
            progress.finish();
        }
    });
    let db = options.open()?;
    for damage in &db.recovery_report().damage {
        console.warn(&format!("damage that costs no data: {damage}"));
    }
    Ok(db)
}

/// The keyspace of a command that writes: created along with the store if that is asked for.
pub fn keyspace_to_write(db: &Db, name: &str, create: bool) -> Outcome<Keyspace> {
    let keyspace = if create {
        db.keyspace_or_create(name)
    } else {
        db.keyspace(name)
    };
    Ok(keyspace?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<Vec<u8>> {
        Some(text.into())
    }

    #[test]
    fn range_and_prefix_meet() {
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(bounds(None, None, None), (Unbounded, Unbounded));
        let within = bounds(key("ab"), key("b"), key("a"));
        assert_eq!(within, (Included(b"ab".to_vec()), Excluded(b"b".to_vec())));
        let narrower = bounds(key("A"), key("z"), key("m"));
        assert_eq!(narrower, (Included(b"m".to_vec()), Excluded(b"n".to_vec())));
        assert_eq!(
            bounds(None, None, Some(vec![255])),
            (Included(vec![255]), Unbounded)
        );
    }

    #[test]
    fn prefixes_end() {
        assert_eq!(prefix_end(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b""), None);
    }
}
