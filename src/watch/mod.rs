//! A disk that is watched while it is used: how long its syncs take, which calls it holds up, and which it fails.
//!
//! A disk that dies seldom says so first: before its errors come, its calls take seconds (for the numbers see Gunawi
//! et al., "Fail-Slow at Scale", FAST 2018). [`WatchedVfs`] passes every call on, and notes; [`DiskWatch::health`] says
//! what follows from the notes of the last ten minutes.
//!
//! What it costs: two readings of the coarse clock a read or a write, and two of the exact one a sync.

mod disk;
mod latencies;
mod verdict;

pub(crate) use disk::WatchedVfs;
pub(crate) use latencies::Gathered;
pub use latencies::Latencies;
pub(crate) use verdict::DiskWatch;
pub use verdict::{DiskHealth, DiskState};
