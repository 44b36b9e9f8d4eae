//! Which file system holds a path, and whether it can keep the rules of the seam.

use std::io;
use std::path::Path;

use super::FileSystem;

const NETWORK: &str = "locks and syncs of a network file system aren't reliable";
const SHARED: &str = "locks and syncs of a folder shared with a host aren't reliable";
const UNJOURNALED: &str = "a rename isn't one step on it: power loss can lose both names";

/// Kernel numbers (`f_type` of `statfs`), names, and the reason to refuse if there is one.
#[cfg(target_os = "linux")]
const KNOWN: &[(u32, &str, Option<&str>)] = &[
    (0x0000_EF53, "ext4", None), // and its elders, ext2 and ext3, which share the number
    (0x5846_5342, "xfs", None),
    (0x9123_683E, "btrfs", None),
    (0x2FC1_2FC1, "zfs", None),
    (0xF2F5_2010, "f2fs", None),
    (0xCA45_1A4E, "bcachefs", None),
    (0x0102_1994, "tmpfs", None),
    (0x8584_58F6, "ramfs", None),
    (0x794C_7630, "overlay", None),
    (0x3153_464A, "jfs", None),
    (0x0000_3434, "nilfs2", None),
    (0x5265_4973, "reiserfs", None),
    (0x7366_746E, "ntfs3", None),
    (0x0000_F15F, "ecryptfs", None),
    (0x7371_7368, "squashfs", None),
    (0xE0F5_E1E2, "erofs", None),
    (0x0000_9660, "iso9660", None),
    // What lies behind it, the number doesn't tell: a local disk (ntfs-3g), a host's (virtiofs),
    // or a network's (sshfs).
    (0x6573_5546, "fuse", None),
    (0x0000_6969, "nfs", Some(NETWORK)),
    (0x0000_517B, "smb", Some(NETWORK)),
    (0xFF53_4D42, "cifs", Some(NETWORK)),
    (0xFE53_4D42, "smb2", Some(NETWORK)),
    (0x0000_564C, "ncp", Some(NETWORK)),
    (0x5346_414F, "afs", Some(NETWORK)),
    (0x6B41_4653, "kafs", Some(NETWORK)),
    (0x7375_7245, "coda", Some(NETWORK)),
    (0x00C3_6400, "ceph", Some(NETWORK)),
    (0x0BD0_0BD0, "lustre", Some(NETWORK)),
    (0x0102_1997, "9p", Some(SHARED)),
    (0x786F_4256, "vboxsf", Some(SHARED)),
    (0xBACB_ACBC, "vmhgfs", Some(SHARED)),
    (0x0000_4D44, "fat", Some(UNJOURNALED)),
    (0x2011_BAB0, "exfat", Some(UNJOURNALED)),
];

/// Asks the kernel.
#[cfg(target_os = "linux")]
pub(super) fn of(path: &Path) -> io::Result<FileSystem> {
    Ok(by_number(rustix::fs::statfs(path)?.f_type as u32))
}

/// Only Linux gives the number; elsewhere a path is merely looked for.
#[cfg(not(target_os = "linux"))]
pub(super) fn of(path: &Path) -> io::Result<FileSystem> {
    std::fs::metadata(path)?;
    Ok(FileSystem {
        name: "unknown".into(),
        refused: None,
    })
}

/// What is known of the kernel's number.
#[cfg(target_os = "linux")]
fn by_number(number: u32) -> FileSystem {
    match KNOWN.iter().find(|known| known.0 == number) {
        Some((_, name, refused)) => FileSystem {
            name: (*name).into(),
            refused: *refused,
        },
        None => FileSystem {
            name: format!("{number:#x}"),
            refused: None,
        },
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_known_once_and_networks_refused() {
        for (at, (number, name, _)) in KNOWN.iter().enumerate() {
            assert_eq!(by_number(*number).name, *name);
            assert!(
                KNOWN[at + 1..].iter().all(|later| later.0 != *number),
                "{name} twice"
            );
        }
        assert_eq!(by_number(0xEF53).refused, None);
        assert_eq!(by_number(0x6969).refused, Some(NETWORK));
        assert_eq!(by_number(0x0102_1997).refused, Some(SHARED));
        assert_eq!(by_number(0x4D44).refused, Some(UNJOURNALED));
        assert_eq!(by_number(0x1234).name, "0x1234");
    }
}
