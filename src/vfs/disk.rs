//! The disk of the operating system.
#[derive(Debug)]
/// The disk of the operating system.
pub struct DiskVfs;
