//! What tests of a store need: a simulated disk with a model of power loss, a disk that fails on
//! demand, a clock that stands still, and randomness that can be repeated. Behind the feature
//! `testing`.
//!
//! A crash test in short: run a workload on a [`FaultVfs`] over a [`MemoryVfs`] that cuts the power
//! at the k-th change, take what the disk then holds, and look:
//!
//! ```
//! use kintsu::testing::{FaultVfs, MemoryVfs, TearUnit};
//! use kintsu::vfs::{Access, Vfs};
//! use std::path::Path;
//!
//! fn workload(vfs: &dyn Vfs) -> std::io::Result<()> {
//!     let file = vfs.open(Path::new("new.tmp"), Access::CreateNew)?;
//!     file.write_at(b"all or nothing", 0)?;
//!     file.sync_data()?;
//!     vfs.rename(Path::new("new.tmp"), Path::new("published"))?;
//!     vfs.sync_dir(Path::new(""))
//! }
//!
//! for k in 0.. {
//!     let memory = MemoryVfs::new();
//!     let vfs = FaultVfs::on_memory(&memory);
//!     vfs.crash_after_changes(k);
//!     let done = workload(&vfs).is_ok();
//!     for seed in 0..20 {
//!         match memory.crash(seed, TearUnit::Sector).read_file("published") {
//!             Some(bytes) => assert_eq!(bytes, b"all or nothing"),
//!             None => assert!(!done),
//!         }
//!     }
//!     if done {
//!         break;
//!     }
//! }
//! ```

mod clock;
mod edit;
mod entropy;
mod input;

pub use self::clock::ManualClock;
pub(crate) use self::edit::{edit_bytes, edit_file};
pub use self::entropy::SeededEntropy;
pub(crate) use self::input::Input;
pub use crate::vfs::{
    Fault, FaultKind, FaultVfs, LostPages, MemoryVfs, OperationKind, SeededRng, SyncFailure,
    TearUnit,
};
