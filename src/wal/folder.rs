//! What a log's folder holds: its files, their headers, their identifiers.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Damage, Error, Result};
use crate::types::{LogFileMeta, LogNumber, Lsn, STRAY_NUMBER_MIN, StoreId, UNIT};
use crate::vfs::{Access, File, Vfs};

use super::format::{FileHeader, HeaderFault, HeaderKind, UNIT_BYTES, VERSION, is_plausible};
use super::identifiers::{IdentifierTable, bytes_max};
use super::names::{self, NameKind};
use super::options::{DamagePolicy, LogAccess, LogSetup};
use super::source::Source;

/// One log file, as far as its header and its name tell.
#[derive(Debug)]
pub(crate) struct FoundFile {
    pub number: LogNumber,
    pub path: PathBuf,
    /// Whether the log file is there.
    pub is_there: bool,
    /// All that is needed to read it, from its header, else from its identifiers' header, else from the
    /// registry.
    pub meta: Option<LogFileMeta>,
    /// Whether the registry knows it.
    pub is_known: bool,
    /// What is wrong with its headers.
    pub damage: Vec<Damage>,
    /// Whether that is the log file's own one.
    pub is_header_bad: bool,
}

/// The folder's content.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// Every log file there is or should be.
    pub files: BTreeMap<LogNumber, FoundFile>,
    /// Names of ours that are of no use: not yet published, or left over.
    pub litter: Vec<PathBuf>,
    /// The store that the files belong to; 0 if there are none.
    pub store_id: StoreId,
    /// The highest number that was ever given out, as far as names tell.
    pub number_max: LogNumber,
    /// After the highest position that any file owns.
    pub lsn_end: Lsn,
}

/// Lists the folder and reads the headers.
pub(crate) fn read_folder(setup: &LogSetup<'_>) -> Result<Folder> {
    let listed = setup.vfs.list(&setup.dir);
    let entries = match listed {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::NotAStore {
                path: setup.dir.clone(),
                why: "there is no such folder".into(),
            });
        }
        Err(e) => return Err(Error::io("list", &setup.dir, e)),
    };
    let mut folder = Folder {
        store_id: setup.store_id,
        ..Folder::default()
    };
    let mut logs = Vec::new();
    let mut sidecars = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let Some((number, kind)) = names::parse(&entry.name) else {
            continue;
        };
        if number.0 < STRAY_NUMBER_MIN {
            folder.number_max = folder.number_max.max(number);
        }
        match kind {
            NameKind::Log => logs.push(number),
            NameKind::Identifiers | NameKind::Parity => {
                sidecars.push((number, setup.dir.join(&entry.name)));
            }
            NameKind::Temporary => folder.litter.push(setup.dir.join(&entry.name)),
        }
    }
    let known: BTreeMap<LogNumber, &LogFileMeta> = setup
        .known
        .iter()
        .filter(|meta| is_plausible(meta))
        .map(|meta| (meta.number, meta))
        .collect();
    let numbers = logs.iter().chain(known.keys()).copied();
    for number in numbers.collect::<std::collections::BTreeSet<_>>() {
        let is_there = logs.contains(&number);
        let file = read_headers(
            setup,
            &mut folder,
            number,
            is_there,
            known.get(&number).copied(),
        )?;
        if let Some(meta) = &file.meta {
            folder.number_max = folder.number_max.max(number);
            let end = Lsn(meta.first_lsn.0 + meta.capacity);
            folder.lsn_end = folder.lsn_end.max(end);
        }
        folder.files.insert(number, file);
    }
    for (number, path) in sidecars {
        if !folder.files.contains_key(&number) {
            folder.litter.push(path);
        }
    }
    Ok(folder)
}

fn read_headers(
    setup: &LogSetup<'_>,
    folder: &mut Folder,
    number: LogNumber,
    is_there: bool,
    known: Option<&LogFileMeta>,
) -> Result<FoundFile> {
    let path = names::log_path(&setup.dir, number);
    let mut damage = Vec::new();
    let mut read = |path: &Path, kind: HeaderKind| -> Result<Option<LogFileMeta>> {
        let found = header(setup, folder, path, kind)?;
        match found.and_then(|meta| agree(meta, number, known)) {
            Ok(meta) => Ok(Some(meta)),
            Err(what) => {
                damage.push(Damage::new(path, 0, UNIT_BYTES, what));
                Ok(None)
            }
        }
    };
    let own = match is_there {
        true => read(&path, HeaderKind::Log)?,
        false => None,
    };
    let is_header_bad = is_there && own.is_none();
    let copy = read(
        &names::identifiers_path(&setup.dir, number),
        HeaderKind::Identifiers,
    )?;
    let meta = own.or(known.cloned()).or(copy);
    Ok(FoundFile {
        number,
        path,
        is_there,
        meta,
        is_known: known.is_some(),
        damage,
        is_header_bad,
    })
}

/// Whether a whole header is the one that belongs under this number.
fn agree(
    meta: LogFileMeta,
    number: LogNumber,
    known: Option<&LogFileMeta>,
) -> Result<LogFileMeta, String> {
    if meta.number != number {
        return Err(format!(
            "the file is log file {} under another's name",
            meta.number
        ));
    }
    match known {
        Some(known) if known.file_id != meta.file_id => Err(format!(
            "the file is {}, and should be {}",
            meta.file_id, known.file_id
        )),
        _ => Ok(meta),
    }
}

/// Reads a header unit. The inner error says what is wrong with it.
fn header(
    setup: &LogSetup<'_>,
    folder: &mut Folder,
    path: &Path,
    kind: HeaderKind,
) -> Result<Result<LogFileMeta, String>> {
    let file = match setup.vfs.open(path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Err("the file is missing".into())),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    let mut unit = vec![0; UNIT];
    // One that can't be read is as good as one that is bad: there is another.
    let source = Source::new(path, file, true)?;
    let read = source.read(&mut unit, 0)?;
    unit.truncate(read);
    if unit.is_empty() {
        return Ok(Err("the file is empty".into()));
    }
    match FileHeader::decode(kind, &unit) {
        Ok(header) => {
            if folder.store_id == StoreId(0) {
                folder.store_id = header.store_id;
            }
            if header.store_id == folder.store_id {
                return Ok(Ok(header.meta));
            }
            let foreign = Error::ForeignFile {
                path: path.to_owned(),
                found: header.store_id.to_string(),
                expected: folder.store_id.to_string(),
            };
            match setup.damage {
                DamagePolicy::Refuse => Err(foreign),
                DamagePolicy::Tolerate => Ok(Err(foreign.to_string())),
            }
        }
        Err(HeaderFault::Newer(found)) => Err(Error::NewerFormat {
            path: path.to_owned(),
            found,
            supported: VERSION,
        }),
        Err(HeaderFault::Bad(what)) => Ok(Err(what.into())),
    }
}

/// Whether what can't be read counts as damage in place of an error.
pub(crate) fn is_lenient(setup: &LogSetup<'_>) -> bool {
    setup.damage == DamagePolicy::Tolerate
}

/// A file that may have been written shortly before a loss of power: synced, and a handle that reads
/// past the page cache, if there is such a way.
struct Settled {
    file: Arc<dyn File>,
    direct: Option<Arc<dyn File>>,
}

/// Opens a file; `settle` syncs it first and looks for a way past the page cache.
fn open(setup: &LogSetup<'_>, path: &Path, settle: bool) -> Result<Option<Settled>> {
    let settle = settle && setup.access == LogAccess::ReadWrite;
    let access = match settle {
        true => Access::Write,
        false => Access::Read,
    };
    let file = match setup.vfs.open(path, access) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    let mut direct = None;
    if settle {
        file.sync_data().map_err(|e| Error::io("sync", path, e))?;
        direct = match setup.vfs.open(path, Access::ReadDirect) {
            Ok(direct) => Some(direct),
            Err(e) if e.kind() == ErrorKind::Unsupported => None,
            Err(e) => return Err(Error::io("open", path, e)),
        };
    }
    Ok(Some(Settled { file, direct }))
}

/// Reads a log file's identifiers; a missing file has none. `settle`: as they are on the disk.
pub(crate) fn read_identifiers(
    setup: &LogSetup<'_>,
    meta: &LogFileMeta,
    settle: bool,
) -> Result<IdentifierTable> {
    let start = Lsn(meta.first_lsn.0 + UNIT_BYTES);
    let path = names::identifiers_path(&setup.dir, meta.number);
    let Some(settled) = open(setup, &path, settle)? else {
        return Ok(IdentifierTable::none(meta.file_id, start));
    };
    let file = settled.direct.unwrap_or(settled.file);
    // A unit that can't be read lists nothing; the records are checked by themselves.
    let source = Source::new(&path, file, true)?;
    let len = source.len().min(bytes_max(meta.capacity));
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = source.read(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(IdentifierTable::new(meta.file_id, start, bytes))
}

/// Opens a log file to be scanned. `settle`: what the identifiers don't vouch for is read as it is on
/// the disk.
pub(crate) fn open_log(
    setup: &LogSetup<'_>,
    meta: &LogFileMeta,
    table: &IdentifierTable,
    settle: bool,
) -> Result<Option<Source>> {
    let path = names::log_path(&setup.dir, meta.number);
    // Sealed identifiers prove that the whole file was synced.
    let settle = settle && table.sealed().is_none();
    let Some(settled) = open(setup, &path, settle)? else {
        return Ok(None);
    };
    let mut source = Source::new(&path, settled.file, is_lenient(setup))?;
    if let Some(direct) = settled.direct {
        let vouched = table.end().0 - meta.first_lsn.0;
        source.read_direct_from(vouched, direct)?;
    }
    Ok(Some(source))
}

/// The log files of a folder that are missing although identifiers of what was in them are there. (In a log
/// that is purged without a registry that is what a crash leaves, and no loss.)
pub(crate) fn lost_files(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match vfs.list(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io("list", dir, e))?,
    };
    let parsed: Vec<_> = entries
        .iter()
        .filter_map(|e| names::parse(&e.name))
        .collect();
    let mut lost = Vec::new();
    for (number, kind) in &parsed {
        let is_there = parsed.contains(&(*number, NameKind::Log));
        if *kind != NameKind::Identifiers || is_there {
            continue;
        }
        let path = names::identifiers_path(dir, *number);
        let failed = |e| Error::io("read", &path, e);
        let file = vfs.open(&path, Access::Read).map_err(failed)?;
        let mut unit = vec![0; UNIT];
        let read = file.read_at(&mut unit, UNIT_BYTES).map_err(failed)?;
        if unit.iter().take(read).any(|&byte| byte != 0) {
            lost.push(names::log_path(dir, *number));
        }
    }
    Ok(lost)
}

/// Whether a file holds anything but zeros after its header unit.
pub(crate) fn is_used(setup: &LogSetup<'_>, path: &Path) -> Result<bool> {
    let Some(settled) = open(setup, path, true)? else {
        return Ok(false);
    };
    let source = Source::new(
        path,
        settled.direct.unwrap_or(settled.file),
        is_lenient(setup),
    )?;
    let mut chunk = vec![0; 64 << 10];
    let mut at = UNIT_BYTES;
    loop {
        let read = source.read(&mut chunk, at)?;
        if chunk[..read].iter().any(|&byte| byte != 0) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        at += read as u64;
    }
}
