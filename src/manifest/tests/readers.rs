//! A reader beside a live writer: the writer does some of its work between any two operations of the
//! reader.

use std::collections::BTreeSet;
use std::io;

use parking_lot::Mutex;

use super::*;
use crate::vfs::{Access, DirEntry, File, FileSystem, Lock};

type Step = Box<dyn FnMut() + Send>;

/// A disk on which something happens before each operation.
#[derive(Clone)]
struct Interrupted {
    memory: MemoryVfs,
    step: Arc<Mutex<Step>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    fn interrupt(&self) -> &MemoryVfs {
        (self.step.lock())();
        &self.memory
    }
}

#[derive(Debug)]
struct InterruptedFile {
    vfs: Interrupted,
    file: Arc<dyn File>,
}

/// Bytes that a read gives before the writer goes on.
const PART: usize = 4096;

impl File for InterruptedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        for (number, part) in buffer.chunks_mut(PART).enumerate() {
            if number < 4 {
                self.vfs.interrupt();
            }
            done += self.file.read_at(part, offset + (number * PART) as u64)?;
        }
        Ok(done)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("a reader writes nothing")
    }

    fn sync_data(&self) -> io::Result<()> {
        unreachable!("a reader syncs nothing")
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("a reader writes nothing")
    }

    fn len(&self) -> io::Result<u64> {
        self.vfs.interrupt();
        self.file.len()
    }

    fn preallocate(&self, _: u64) -> io::Result<()> {
        unreachable!("a reader writes nothing")
    }
}

impl Vfs for Interrupted {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        assert_eq!(access, Access::Read);
        Ok(Arc::new(InterruptedFile {
            vfs: self.clone(),
            file: self.interrupt().open(path, access)?,
        }))
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        unreachable!("a reader creates nothing")
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.interrupt().list(path)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("a reader renames nothing")
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        unreachable!("a reader removes nothing")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("a reader syncs nothing")
    }

    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        unreachable!("a reader locks nothing")
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.memory.file_system(path)
    }
}

/// The disk before each change that a writer makes, and at its end; a write of several units is seen
/// after each of them.
fn moments(work: impl Fn(&FaultVfs)) -> Vec<MemoryVfs> {
    let mut moments = Vec::new();
    for k in 0.. {
        let memory = disk();
        let vfs = FaultVfs::on_memory(&memory);
        vfs.crash_after_changes(k);
        work(&vfs);
        moments.push(memory.fork());
        if !vfs.crashed() {
            return moments;
        }
    }
    moments
}

/// Makes `memory` show what `moment` holds; files that stay are changed in place, as a writer does.
fn become_like(memory: &MemoryVfs, moment: &MemoryVfs) {
    let names = moment.file_names(dir());
    for name in memory.file_names(dir()) {
        if !names.contains(&name) {
            memory.remove_file(dir().join(name));
        }
    }
    for name in names {
        let path = dir().join(name);
        let bytes = moment.read_file(&path).unwrap();
        if memory.read_file(&path).as_ref() != Some(&bytes) {
            memory.write_file(&path, bytes);
        }
    }
}

/// Opens to read while the writer goes from one moment to the next, so many at each interruption,
/// from each moment on.
fn read_beside(moments: &[MemoryVfs], states: &[ManifestState], stride: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    for start in 0..moments.len() {
        let memory = moments[start].fork();
        if !Manifest::is_present(&memory, dir()).unwrap() {
            continue;
        }
        let (mut at, later) = (start, moments.to_vec());
        let shown = memory.clone();
        let step = move || {
            at = (at + stride).min(later.len() - 1);
            become_like(&shown, &later[at]);
        };
        let vfs = Interrupted {
            memory: memory.clone(),
            step: Arc::new(Mutex::new(Box::new(step))),
        };
        let setup = setup(Arc::new(vfs), ManifestAccess::ReadOnly);
        let (manifest, report) = Manifest::open(setup).unwrap();
        assert_eq!(report.damage, [], "from {start} by {stride}");
        let found = states.iter().position(|state| state == manifest.state());
        seen.insert(found.unwrap_or_else(|| panic!("from {start} by {stride}")));
        // Never older than what was acknowledged before the open.
        let (before, _) = Manifest::open(read_only(&moments[start])).unwrap();
        assert!(manifest.position() >= before.position());
    }
    seen
}

#[test]
fn a_reader_sees_a_state_that_was_there() {
    let edits = edits();
    let states = states(&edits);
    let moments = moments(|vfs| {
        let Ok(mut manifest) = Manifest::create(on_faults(vfs), empty_state()) else {
            return;
        };
        for (number, edit) in edits.iter().enumerate() {
            if number == 6 {
                let Ok((opened, _)) = Manifest::open(on_faults(vfs)) else {
                    return;
                };
                manifest = opened;
            }
            if manifest.apply(edit).is_err() {
                return;
            }
        }
    });
    assert!(moments.len() > 60);
    let mut seen = BTreeSet::new();
    for stride in [0, 1, 2, 3, 5, 8] {
        seen.extend(read_beside(&moments, &states, stride));
    }
    assert_eq!(seen.len(), states.len());
}

#[test]
fn damage_is_damage_also_beside_a_writer() {
    let memory = store(&small_edits());
    memory.flip_bit(file(1, Side::B), 8200, 1);
    let looks = Arc::new(Mutex::new(0));
    let count = looks.clone();
    let vfs = Interrupted {
        memory,
        step: Arc::new(Mutex::new(Box::new(move || *count.lock() += 1))),
    };
    let setup = setup(Arc::new(vfs), ManifestAccess::ReadOnly);
    let (_, report) = Manifest::open(setup).unwrap();
    assert_eq!(report.damage.len(), 1);
    assert!(*looks.lock() > 20, "it looked twice");
}

#[test]
fn a_reader_does_not_look_for_ever() {
    let memory = store(&small_edits());
    let shown = memory.clone();
    let mut byte = 0;
    let step = move || {
        byte = byte % 255 + 1;
        shown.overwrite(file(1, Side::A), 8192 - 50, [byte]);
    };
    let vfs = Interrupted {
        memory,
        step: Arc::new(Mutex::new(Box::new(step))),
    };
    let setup = setup(Arc::new(vfs), ManifestAccess::ReadOnly);
    let (manifest, report) = Manifest::open(setup).unwrap();
    assert_eq!(Some(manifest.state()), states(&small_edits()).last());
    assert!(!report.damage.is_empty());
}
