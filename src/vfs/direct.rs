//! Reading what the disk itself holds, past the page cache, at any offset and length.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::File;
use super::disk::{FILE_BYTES_MAX, read_full};

/// Alignment of offset, length and memory that direct reads ask for at most on common disks.
const ALIGN: usize = 4096;
/// Most bytes read in one call, without the room for alignment.
const CHUNK_BYTES: usize = 1 << 20;
/// Alignment of what is dropped from the cache: the largest page size in use.
#[cfg(not(target_vendor = "apple"))]
const DROP_ALIGN: u64 = 64 << 10;

/// A file that is read past the page cache.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: fs::File,
    /// Whether reads are direct; false once the file system has refused that, and then pages are
    /// dropped from the cache before they are read.
    direct: AtomicBool,
}

impl DirectFile {
    /// Opens an existing file; `Unsupported` if neither way past the cache is open.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match OpenOptions::new()
            .read(true)
            .custom_flags(direct_flag())
            .open(path)
        {
            Ok(file) => {
                start_uncached(&file)?;
                Ok(Self {
                    file,
                    direct: AtomicBool::new(true),
                })
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let file = fs::File::open(path)?;
                drop_cache(&file, 0, 0)?;
                Ok(Self {
                    file,
                    direct: AtomicBool::new(false),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether reads are still direct.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    /// Drops pages before reads from now on.
    pub(super) fn give_up_direct(&self) -> io::Result<()> {
        stop_direct(&self.file)?;
        self.direct.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = buffer.len().min(CHUNK_BYTES).next_multiple_of(ALIGN) + ALIGN;
        let mut memory = vec![0; room + ALIGN];
        let skip = memory.as_ptr().align_offset(ALIGN);
        let Some(aligned) = memory.get_mut(skip..).and_then(|rest| rest.get_mut(..room)) else {
            return Err(ErrorKind::OutOfMemory.into()); // `align_offset` may give up by its contract
        };
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let position = offset.saturating_add(filled as u64);
            let before = (position % ALIGN as u64) as usize;
            let want = (before + rest.len()).next_multiple_of(ALIGN).min(room);
            let block = aligned.get_mut(..want).unwrap_or_default();
            let got = read_once(&self.file, block, position - before as u64)?;
            // After a short read the next round begins inside the last block: at the end of the
            // file that gives nothing new.
            let Some(new) = block.get(before..got).filter(|new| !new.is_empty()) else {
                break;
            };
            let taken = new.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..taken), new.get(..taken)) {
                to.copy_from_slice(from);
            }
            filled += taken;
        }
        Ok(filled)
    }

    fn read_dropped(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        drop_cache(&self.file, offset, buffer.len() as u64)?;
        read_full(&self.file, buffer, offset)
    }
}

impl File for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if buffer.is_empty() || offset >= FILE_BYTES_MAX {
            return Ok(0);
        }
        if self.is_direct() {
            match self.read_direct(buffer, offset) {
                // Some file systems take the flag at open and refuse the first read; some disks
                // have blocks larger than `ALIGN`.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    self.give_up_direct()?;
                }
                done => return done,
            }
        }
        self.read_dropped(buffer, offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn preallocate(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }
}

fn read_only() -> io::Error {
    io::Error::new(
        ErrorKind::PermissionDenied,
        "the file is open for direct reading only",
    )
}

/// One read, taken up again if interrupted.
fn read_once(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
fn direct_flag() -> i32 {
    rustix::fs::OFlags::DIRECT.bits().cast_signed()
}

#[cfg(target_vendor = "apple")]
fn direct_flag() -> i32 {
    0
}

/// Turns the cache off where that isn't a flag of the open call.
#[cfg(not(target_vendor = "apple"))]
fn start_uncached(_: &fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(target_vendor = "apple")]
fn start_uncached(file: &fs::File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_nocache(file, true)?)
}

/// Goes on through the page cache on the same descriptor.
#[cfg(not(target_vendor = "apple"))]
fn stop_direct(file: &fs::File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(
        file,
        flags - rustix::fs::OFlags::DIRECT,
    )?)
}

#[cfg(target_vendor = "apple")]
fn stop_direct(_: &fs::File) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Drops the pages of a range from the cache (`bytes` = 0: to the end); `Unsupported` if that can't
/// be had. Pages that aren't synced stay.
#[cfg(not(target_vendor = "apple"))]
fn drop_cache(file: &fs::File, offset: u64, bytes: u64) -> io::Result<()> {
    let from = offset - offset % DROP_ALIGN;
    let to = offset.saturating_add(bytes);
    let bytes = match bytes {
        0 => None,
        _ => std::num::NonZeroU64::new((to - from).next_multiple_of(DROP_ALIGN)),
    };
    rustix::fs::fadvise(file, from, bytes, rustix::fs::Advice::DontNeed)
        .map_err(|_| ErrorKind::Unsupported.into())
}

#[cfg(target_vendor = "apple")]
fn drop_cache(_: &fs::File, _: u64, _: u64) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
