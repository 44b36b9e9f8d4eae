use std::path::Path;

use super::*;
use crate::testing::{MemoryVfs, SeededRng};
use crate::vfs::{TearUnit, Vfs};

const DIR: &str = "store";

fn repair(time_us: u64) -> Repair {
    let repair = Repair::new(time_us, Outcome::Mended, Means::Parity, "00000007.segment");
    repair
        .at([(4_096, 4_096), (12_288, 4_096)].into_iter())
        .because("a block's checksum is wrong")
}

fn disk() -> MemoryVfs {
    let disk = MemoryVfs::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn path() -> std::path::PathBuf {
    Path::new(DIR).join(JOURNAL_FILE)
}

#[test]
fn lines_come_back() {
    let disk = disk();
    assert_eq!(read(&disk, Path::new(DIR)).unwrap(), Repairs::default());
    let lost = Repair::new(9, Outcome::Lost, Means::None, "00000001.log");
    let odd = repair(10).because("line\nend, # and \u{1f4a5}\t");
    let all = vec![repair(8), lost, odd];
    for repair in &all {
        append(&disk, Path::new(DIR), repair).unwrap();
    }
    let found = read(&disk, Path::new(DIR)).unwrap();
    assert_eq!(found.repairs, all);
    assert_eq!(found.unreadable_lines, 0);
    let text = disk.read_file(path()).unwrap();
    let first =
        "8 mended parity 00000007.segment 4096+4096,12288+4096 a block's checksum is wrong #";
    assert!(String::from_utf8(text).unwrap().starts_with(first));
}

#[test]
fn long_ones_are_cut() {
    let places = (0..1_000).map(|n| (n * 4_096, 4_096));
    let long = repair(1).at(places).because(&"\u{e9}".repeat(5_000));
    assert_eq!((long.places.len(), long.what.len()), (64, 1_024));
    assert_eq!(Repair::decode(long.encode().trim_end()), Some(long));
}

#[test]
fn every_line_but_the_damaged_one_is_read() {
    let disk = disk();
    for time_us in 0..3 {
        append(&disk, Path::new(DIR), &repair(time_us)).unwrap();
    }
    let whole = disk.read_file(path()).unwrap();
    let mut rng = SeededRng::new(1);
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << rng.below(8);
        disk.write_file(path(), &bytes);
        let found = read(&disk, Path::new(DIR)).unwrap();
        // Where a line's end was, two are one; where one came about, one is two.
        assert!((1..=2).contains(&found.repairs.len()), "{place}");
        assert!((1..=2).contains(&found.unreadable_lines), "{place}");
        assert!(found.repairs.iter().all(|r| *r == repair(r.time_us)));
    }
}

#[test]
fn what_was_told_survives_the_loss_of_power() {
    for seed in 0..50 {
        let disk = disk();
        for time_us in 0..3 {
            append(&disk, Path::new(DIR), &repair(time_us)).unwrap();
        }
        let after = disk.crash(seed, TearUnit::Sector);
        // A torn line is a line of its own.
        let mut torn = after.read_file(path()).unwrap();
        torn.extend(&repair(9).encode().as_bytes()[..20 + seed as usize]);
        after.write_file(path(), &torn);
        append(&after, Path::new(DIR), &repair(3)).unwrap();
        let found = read(&after, Path::new(DIR)).unwrap();
        assert_eq!(found.repairs, (0..4).map(repair).collect::<Vec<_>>());
        assert_eq!(found.unreadable_lines, 1);
    }
}

#[test]
fn a_journal_that_has_grown_too_long_goes_on_in_a_new_file() {
    let disk = disk();
    let line = repair(0).encode();
    let many = line.repeat((1 << 20) / line.len() + 1);
    disk.write_file(path(), many.as_bytes());
    append(&disk, Path::new(DIR), &repair(1)).unwrap();
    assert_eq!(
        disk.read_file(path()).unwrap(),
        repair(1).encode().into_bytes()
    );
    let old = Path::new(DIR).join(JOURNAL_OLD_FILE);
    assert_eq!(disk.read_file(old).unwrap(), many.into_bytes());
    let found = read(&disk, Path::new(DIR)).unwrap();
    assert_eq!(found.repairs.last(), Some(&repair(1)));
}

#[test]
fn the_scrubbers_progress_is_there_or_nothing_is() {
    let disk = disk();
    let dir = Path::new(DIR);
    assert_eq!(Progress::read(&disk, dir), Progress::default());
    let progress = Progress {
        finished_us: 1,
        started_us: 22,
        through: crate::types::SegmentNumber(333),
        before: crate::types::SegmentNumber(4_444),
        bytes: u64::MAX,
    };
    Progress::default().write(&disk, dir).unwrap();
    progress.write(&disk, dir).unwrap();
    assert_eq!(Progress::read(&disk, dir), progress);
    let path = dir.join(PROGRESS_FILE);
    let whole = disk.read_file(&path).unwrap();
    for place in 0..whole.len() {
        disk.write_file(&path, &whole[..place]);
        assert_eq!(Progress::read(&disk, dir), Progress::default());
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        disk.write_file(&path, &bytes);
        assert_eq!(Progress::read(&disk, dir), Progress::default());
    }
}
