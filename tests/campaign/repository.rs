//! Bits of a snapshot and of a backup repository with its archive.

use kintsu::testing::MemoryVfs;
use kintsu::{Error, RestorePoint};

use crate::support::backup::{
    REPOSITORY, RESTORED, SNAPSHOT, is_about_damage, is_there, repository, repository_files,
    restore,
};
use crate::support::driver::Driver;

use super::expected::{kind, may_refuse, region};
use super::oracle::Seen;
use super::play::Plan;
use super::sample::{File, Sample, end_of_content, files_in, in_folder};
use super::table::{Played, Table, Verdict};

fn flipped(sample: &Sample, path: &str, bit: u64) -> MemoryVfs {
    let disk = sample.disk.fork();
    assert!(disk.flip_bit(path, bit / 8, (bit % 8) as u8));
    disk
}

/// Every so many bits of what is written in a file.
fn bits(files: &[File], every: u64, seed: u64) -> Vec<(usize, u64)> {
    let of = |(file, (_, bytes)): (usize, &File)| {
        let end = end_of_content(bytes) as u64 * 8;
        let first = (seed * 7919 + file as u64 * 31) % every.min(end.max(1));
        (first..end)
            .step_by(every as usize)
            .map(move |bit| (file, bit))
    };
    files.iter().enumerate().flat_map(of).collect()
}

pub fn every_bit(plan: &Plan) -> Table {
    let sample = Sample::take();
    let mut table = snapshot(plan, &sample);
    table.add(archive(plan, &sample));
    table
}

fn snapshot(plan: &Plan, sample: &Sample) -> Table {
    let files = files_in(&sample.disk, SNAPSHOT);
    let bits = bits(&files, plan.pick(997, 1), plan.seed);
    plan.play(
        "one bit of a snapshot",
        "snapshot-bit",
        bits.len() as u64,
        |n| {
            let (file, bit) = bits[n as usize];
            let (path, bytes) = &files[file];
            let kind = kind(path, &files);
            let region = region(kind, bytes, bit as usize / 8);
            let machine = sample.machine(&flipped(sample, path, bit), n);
            let mut model = sample.model.clone();
            model.reopened_at(sample.snapshot_index);
            let driver = Driver::resume(machine.clone(), model);
            let driver = in_folder(driver, &machine, SNAPSHOT);
            let changed = [path.as_str()];
            let mut seen = Seen::new(&changed);
            match driver.options().open() {
                Ok(db) => seen.read(&db, &driver.model),
                Err(error) => seen.refuse(&error, "the open"),
            }
            let mut played = Played::new(format!("{kind}: {region}"), seen.verdict());
            played.may_refuse = may_refuse(kind, region);
            Some(played)
        },
    )
}

fn place(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("segment") => "segment",
        Some("backup") => "description of a backup",
        Some("log") => "archived log",
        Some("ids") => "archived identifiers",
        Some("volume") => "description of a volume",
        Some("load") => "description of a load",
        _ if path.ends_with("repository") => "description of the repository",
        _ => "others",
    }
}

/// Restores the newest state.
fn restored(sample: &Sample, disk: &MemoryVfs, path: &str, n: u64) -> Verdict {
    let machine = sample.machine(disk, n);
    let found = repository(&machine).verify(|_| {});
    let found = found.map_or(true, |report| !report.damage.is_empty());
    let report = match restore(&machine, RESTORED, RestorePoint::Newest) {
        Ok(report) => report,
        Err(error) => return refused(&error, found, is_there(&machine, RESTORED)),
    };
    let (index, newest) = (report.index.0, sample.model.last);
    let mut model = sample.model.clone();
    model.reopened_at(index.min(newest));
    let driver = Driver::resume(machine.clone(), model);
    let driver = in_folder(driver, &machine, RESTORED);
    let mut seen = Seen::new(&[]);
    match driver.options().open() {
        Ok(db) => seen.read(&db, &driver.model),
        Err(error) => seen.refuse(&error, "the open of what was restored"),
    }
    match seen.verdict() {
        Verdict::Harmless | Verdict::Repaired if index == newest && found => Verdict::Repaired,
        Verdict::Harmless | Verdict::Repaired if index == newest => Verdict::Harmless,
        Verdict::Harmless | Verdict::Repaired if !report.reached && found => {
            Verdict::Refused("restored as far as it goes, and said so")
        }
        Verdict::Harmless | Verdict::Repaired => {
            Verdict::Lost(format!("{path}: ends at {index}, {report:?}"))
        }
        other => other,
    }
}

fn refused(error: &Error, found: bool, left: bool) -> Verdict {
    let named = error.to_string().contains(REPOSITORY);
    match named && is_about_damage(error) && found && !left {
        true => Verdict::Refused("nothing restored, damage by name"),
        false => Verdict::Wrong(format!("found {found}, left {left}: {error:?}")),
    }
}

fn archive(plan: &Plan, sample: &Sample) -> Table {
    let whole = restored(sample, &sample.disk.fork(), "nothing", 0);
    assert_eq!(whole, Verdict::Harmless, "a repository without a fault");
    let machine = sample.machine(&sample.disk, 0);
    let files: Vec<File> = repository_files(&machine)
        .into_iter()
        .map(|path| {
            let bytes = sample.disk.read_file(&path).unwrap();
            (path, bytes)
        })
        .collect();
    let bits = bits(&files, plan.pick(1499, 1), plan.seed);
    let fault = "one bit of a repository, then a restore";
    plan.play(fault, "repository-bit", bits.len() as u64, |n| {
        let (file, bit) = bits[n as usize];
        let path = &files[file].0;
        let verdict = restored(sample, &flipped(sample, path, bit), path, n);
        Some(Played::new(place(path), verdict))
    })
}
