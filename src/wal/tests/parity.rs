//! Damage that parity heals, and damage that it doesn't.

use super::*;
use crate::parity::{GROUP_UNITS, Slots};
use crate::vfs::{Fault, FaultKind, FaultVfs, OperationKind, TearUnit};

const UNIT: u64 = 4096;
const GROUP: u64 = GROUP_UNITS * UNIT;

fn with(vfs: &MemoryVfs, file_bytes: u64, parity: Parity) -> LogSetup<'static> {
    let mut setup = setup(vfs);
    setup.options.file_bytes = file_bytes;
    setup.options.parity = parity;
    setup
}

fn path(number: u64, ending: &str) -> PathBuf {
    dir().join(format!("{number:08}.{ending}"))
}

/// How a block is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Zeroed,
    Garbled,
    Unreadable,
}

const LOSSES: [Loss; 3] = [Loss::Zeroed, Loss::Garbled, Loss::Unreadable];

fn lose(disk: &MemoryVfs, path: &PathBuf, from: u64, bytes: u64, how: Loss) {
    let pattern = |with: u8| {
        (0..bytes)
            .map(|at| with.wrapping_mul(at as u8 | 1))
            .collect()
    };
    let bytes_now: Vec<u8> = match how {
        Loss::Zeroed => pattern(0),
        Loss::Garbled => pattern(0x5b),
        Loss::Unreadable => {
            assert!(disk.wear_out(path, from, bytes));
            return;
        }
    };
    assert!(disk.overwrite(path, from, bytes_now));
}

/// A log whose first file is sealed and has about so many bytes in it; how many records there are.
fn sealed(bytes: u64, parity: Parity) -> (MemoryVfs, u64) {
    let disk = MemoryVfs::new();
    let (log, _) = Log::open(with(&disk, bytes, parity)).unwrap();
    let mut index = 0;
    while log.files() < 2 {
        index += 1;
        // Some share units, some have several.
        append_synced(&log, index, 100 + (index % 7) as usize * 900).unwrap();
    }
    log.close().unwrap();
    drop(log);
    (disk.kill(), index)
}

/// Everything is there, as it was.
#[track_caller]
fn check_whole(disk: &MemoryVfs, last: u64, what: &str) -> LogReport {
    let opened = Log::open(super::setup(disk));
    let (log, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.needed, [], "{what}");
    assert_eq!(indexes(&log), (1..=last).collect::<Vec<_>>(), "{what}");
    for record in read(&log, 1).unwrap() {
        let expected = payload(record.index.0, record.payload.len());
        assert_eq!(record.payload, expected, "{what}");
    }
    report
}

fn units(disk: &MemoryVfs, path: &PathBuf) -> u64 {
    disk.file_bytes(path).unwrap() / UNIT
}

/// After the last unit of a file with anything in it.
fn used(disk: &MemoryVfs, path: &PathBuf) -> u64 {
    let bytes = disk.read_file(path).unwrap();
    let mut units = bytes.chunks(UNIT as usize);
    let last = units.rposition(|unit| unit.iter().any(|&byte| byte != 0));
    last.map_or(0, |last| last as u64 + 1)
}

#[test]
fn any_bad_unit_of_a_sealed_file_heals() {
    for parity in [Parity::Standard, Parity::Strong] {
        for bytes in [32 << 10, 160 << 10, GROUP + (100 << 10)] {
            let (disk, last) = sealed(bytes, parity);
            let file = path(1, "log");
            assert_eq!(check_whole(&disk, last, "whole").healed_blocks, 0);
            // The middle of the large one is all alike.
            let is_told =
                |unit: &u64| bytes < GROUP || !(10..250).contains(unit) || unit.is_multiple_of(24);
            for unit in (0..used(&disk, &file)).filter(is_told) {
                for how in LOSSES {
                    let what = format!("{parity:?} {bytes} unit {unit} {how:?}");
                    let disk = disk.fork();
                    lose(&disk, &file, unit * UNIT, UNIT, how);
                    let report = check_whole(&disk, last, &what);
                    let is_padding = report.healed_blocks == 0;
                    assert!(report.healed_blocks <= 1, "{what}");
                    assert!(!is_padding, "{what}");
                    let healed = format!("{}", report.damage.last().unwrap());
                    assert!(healed.contains("parity makes up for it"), "{healed}");
                }
            }
        }
    }
}

#[test]
fn any_bad_unit_beside_a_sealed_file_is_harmless() {
    for bytes in [160 << 10, GROUP + (100 << 10)] {
        let (disk, last) = sealed(bytes, Parity::Standard);
        for ending in ["ids", "parity"] {
            for number in [1, 2] {
                let file = path(number, ending);
                for unit in 0..units(&disk, &file) {
                    for how in LOSSES {
                        let disk = disk.fork();
                        lose(&disk, &file, unit * UNIT, UNIT, how);
                        let what = format!("{ending} {number}, unit {unit} {how:?}");
                        let report = check_whole(&disk, last, &what);
                        assert_eq!(report.healed_blocks, 0, "{what}");
                    }
                }
            }
        }
    }
}

/// One bad unit in each file at a time: the tables are there twice.
#[test]
fn a_bad_unit_in_every_file_at_once_heals() {
    let (disk, last) = sealed(160 << 10, Parity::Standard);
    for unit in 1..used(&disk, &path(1, "log")) {
        for parity_unit in [0, 5, 17] {
            for ids_unit in 0..3 {
                let disk = disk.fork();
                lose(&disk, &path(1, "log"), unit * UNIT, UNIT, Loss::Garbled);
                let at = parity_unit * UNIT;
                lose(&disk, &path(1, "parity"), at, UNIT, Loss::Unreadable);
                lose(&disk, &path(1, "ids"), ids_unit * UNIT, UNIT, Loss::Zeroed);
                check_whole(&disk, last, &format!("{unit} {parity_unit} {ids_unit}"));
            }
        }
    }
}

#[test]
fn runs_up_to_the_documented_length_heal_and_longer_ones_are_named() {
    for (parity, most) in [(Parity::Standard, 16), (Parity::Strong, 32)] {
        let (disk, last) = sealed(320 << 10, parity);
        let file = path(1, "log");
        let used = used(&disk, &file);
        assert!(used > 2 * most, "{used}");
        for start in 0..used - most {
            let healed = disk.fork();
            lose(&healed, &file, start * UNIT, most * UNIT, Loss::Garbled);
            let report = check_whole(&healed, last, &format!("{most} units from {start}"));
            assert_eq!(report.healed_blocks, most);
            // Not a multiple of the unit: what is documented.
            let healed = disk.fork();
            let run = (most - 1) * UNIT;
            lose(&healed, &file, start * UNIT + 512, run, Loss::Zeroed);
            check_whole(&healed, last, &format!("{run} bytes from {start}"));
        }
        for start in 1..used - most - 1 {
            let beyond = disk.fork();
            let bytes = (most + 1) * UNIT;
            lose(&beyond, &file, start * UNIT, bytes, Loss::Garbled);
            let Err(Error::Damaged(all)) = Log::open(setup(&beyond)).map(drop) else {
                panic!("{start}: too much is lost, and nobody says so");
            };
            for damage in &all {
                let end = damage.offset + damage.bytes;
                assert!(damage.path == file && damage.lsns.is_some(), "{damage}");
                assert!(damage.offset < start * UNIT + bytes && end > start * UNIT);
            }
            let mut tolerant = setup(&beyond);
            tolerant.damage = DamagePolicy::Tolerate;
            let (log, _) = Log::open(tolerant).unwrap();
            for record in read(&log, 0).unwrap() {
                let expected = payload(record.index.0, record.payload.len());
                assert_eq!(record.payload, expected);
            }
        }
    }
}

/// Each has parity of its own, across which a run is shared.
#[test]
fn a_run_over_two_groups_heals_as_far() {
    let (disk, last) = sealed(GROUP + (160 << 10), Parity::Standard);
    let file = path(1, "log");
    for start in 240..=256 {
        let disk = disk.fork();
        lose(&disk, &file, start * UNIT, 16 * UNIT, Loss::Zeroed);
        let report = check_whole(&disk, last, &format!("from {start}"));
        assert_eq!(report.healed_blocks, 16);
    }
}

#[test]
fn a_file_that_was_cut_off_heals() {
    let (disk, last) = sealed(160 << 10, Parity::Standard);
    let file = path(1, "log");
    let end = used(&disk, &file);
    for lost in 1..=16 {
        let disk = disk.fork();
        assert!(disk.truncate_file(&file, (end - lost) * UNIT));
        let report = check_whole(&disk, last, &format!("{lost} units"));
        assert!(
            report
                .damage
                .iter()
                .any(|damage| damage.what.contains("cut short"))
        );
        let (log, _) = open(&disk);
        let mended = log.step_mend(&|| Ok(()), &|_| {}).unwrap().unwrap();
        assert_eq!(mended.units.len() as u64, lost);
        drop(log);
        assert_eq!(check_whole(&disk, last, "mended").damage, []);
    }
}

#[test]
fn without_parity_there_is_none() {
    let (disk, _) = sealed(160 << 10, Parity::Off);
    assert!(disk.file_bytes(path(1, "parity")).is_none());
    // The last one has the `End` record, which nobody needs.
    for unit in 1..used(&disk, &path(1, "log")) - 1 {
        let disk = disk.fork();
        lose(&disk, &path(1, "log"), unit * UNIT, UNIT, Loss::Zeroed);
        let Err(Error::Damaged(_)) = Log::open(setup(&disk)).map(drop) else {
            panic!("unit {unit} is lost, and nobody says so");
        };
    }
}

/// A log with a file that is appended to, of so many bytes, all of them durable and identified.
fn active(bytes: u64, parity: Parity) -> (MemoryVfs, u64) {
    let disk = MemoryVfs::new();
    let (log, _) = Log::open(with(&disk, 8 << 20, parity)).unwrap();
    let mut index = 0;
    while log.appended_bytes() < bytes {
        index += 1;
        append(&log, index, 60_000, Durability::Process).unwrap();
        if index % 5 == 0 {
            log.sync().unwrap();
            log.step_identifiers().unwrap();
        }
    }
    log.sync().unwrap();
    log.step_identifiers().unwrap();
    drop(log);
    (disk, index)
}

#[test]
fn each_full_mib_of_the_active_file_heals_after_a_crash() {
    for parity in [Parity::Standard, Parity::Strong] {
        let (disk, last) = active(2 * GROUP + (300 << 10), parity);
        for seed in 0..2 {
            let disk = disk.crash(seed, TearUnit::Page);
            for unit in (seed..2 * GROUP_UNITS).step_by(17).chain([255, 256, 511]) {
                let how = LOSSES[unit as usize % 3];
                let disk = disk.fork();
                lose(&disk, &path(1, "log"), unit * UNIT, UNIT, how);
                let report = check_whole(&disk, last, &format!("{parity:?} {unit} {how:?}"));
                assert_eq!(report.healed_blocks, 1);
            }
        }
        // What comes after the last full MiB has none.
        let disk = disk.crash(1, TearUnit::Page);
        let at = 2 * GROUP + 10 * UNIT;
        lose(&disk, &path(1, "log"), at, UNIT, Loss::Zeroed);
        let Err(Error::Damaged(_)) = Log::open(setup(&disk)).map(drop) else {
            panic!("a unit is lost, and nobody says so");
        };
    }
}

/// Parity is written after the identifiers; should those be lost, it proves as much as they.
#[test]
fn what_has_parity_is_never_taken_for_torn() {
    let (disk, last) = active(2 * GROUP, Parity::Standard);
    let disk = disk.crash(3, TearUnit::Page);
    // The identifiers of all are gone, and so are the last durable records, as a torn write would leave them.
    let ids = path(1, "ids");
    let ids_bytes = disk.file_bytes(&ids).unwrap();
    lose(&disk, &ids, UNIT, ids_bytes - UNIT, Loss::Zeroed);
    let end = used(&disk, &path(1, "log")) * UNIT;
    let from = GROUP + 200 * UNIT;
    let healable = disk.fork();
    lose(
        &healable,
        &path(1, "log"),
        2 * GROUP - 16 * UNIT,
        16 * UNIT,
        Loss::Zeroed,
    );
    let report = check_whole(&healable, last, "the end of the last full MiB");
    assert_eq!(report.healed_blocks, 16);
    lose(&disk, &path(1, "log"), from, end - from, Loss::Zeroed);
    let Err(Error::Damaged(all)) = Log::open(setup(&disk)).map(drop) else {
        panic!("durable records are gone, and nobody says so");
    };
    assert!(all[0].what.contains("durable"), "{}", all[0]);
}

/// The tail that a crash leaves gets its parity with its identifiers.
#[test]
fn a_tail_that_recovery_kept_is_covered_once_the_log_goes_on() {
    for seed in 0..3 {
        let (disk, last) = active(GROUP + (300 << 10), Parity::Standard);
        let (log, _) = Log::open(with(&disk, 8 << 20, Parity::Standard)).unwrap();
        drop(log);
        let disk = disk.crash(seed, TearUnit::Sector);
        let (log, report) = open(&disk);
        assert_eq!(report.damage, []);
        append_synced(&log, last + 1, 200).unwrap();
        log.step_identifiers().unwrap();
        drop(log);
        let disk = disk.kill();
        for unit in (0..used(&disk, &path(1, "log")))
            .step_by(5)
            .chain([255, 256])
        {
            let disk = disk.fork();
            lose(&disk, &path(1, "log"), unit * UNIT, UNIT, Loss::Garbled);
            let report = check_whole(&disk, last + 1, &format!("{seed}: {unit}"));
            assert_eq!(report.healed_blocks, 1, "{seed}: {unit}");
        }
    }
}

/// A tail that was torn, with what a crash left of the write behind it.
#[test]
fn a_torn_tail_stays_torn_with_whatever_parity_beside_it() {
    let disk = MemoryVfs::new();
    let (log, _) = Log::open(with(&disk, 4 << 20, Parity::Standard)).unwrap();
    let mut last = 0;
    while log.appended_bytes() < GROUP + (40 << 10) {
        last += 1;
        append_synced(&log, last, 30_000).unwrap();
    }
    log.step_identifiers().unwrap();
    for index in last + 1..last + 4 {
        append(&log, index, 30_000, Durability::Disk).unwrap();
    }
    drop(log);
    let slots = Slots::new(Parity::Standard);
    let mut torn = 0;
    for seed in 0..12 {
        let disk = disk.crash(seed, TearUnit::Page);
        let (before, report) = open(&disk.fork());
        let (indexes_before, torn_before) = (indexes(&before), report.torn_bytes);
        torn += u64::from(torn_before > 0);
        for group in 0..4 {
            // Of its own, of another place, and garbage.
            let own = disk.read_file(path(1, "parity")).unwrap();
            let first = &own[..slots.slot_bytes() as usize];
            let garbage: Vec<u8> = first.iter().map(|byte| byte ^ 0x31).collect();
            for slot in [first, &garbage, &vec![0; first.len()]] {
                let disk = disk.fork();
                disk.overwrite(path(1, "parity"), slots.start(group), slot);
                let (log, report) = open(&disk);
                assert_eq!(report.damage, [], "{seed} {group}");
                assert_eq!(indexes(&log), indexes_before, "{seed} {group}");
                assert_eq!(report.torn_bytes, torn_before, "{seed} {group}");
            }
        }
    }
    assert!(torn > 2, "{torn}");
}

/// Parity never tells of bytes that aren't durable.
#[test]
fn parity_comes_after_the_sync_of_what_it_covers() {
    let mut covered = 0;
    for k in 0.. {
        let disk = MemoryVfs::new();
        let vfs = FaultVfs::on_memory(&disk);
        vfs.crash_after_changes(k);
        let mut own = setup_on(Arc::new(vfs.clone()), 5);
        own.options.file_bytes = 2 << 20;
        let mut acknowledged = 0;
        let run = || -> Result<()> {
            let (log, _) = Log::open(own)?;
            for index in 1..=24 {
                append(&log, index, 120_000, Durability::Process)?;
                if index % 4 == 0 {
                    log.sync()?;
                    acknowledged = index;
                    log.step_identifiers()?;
                }
            }
            log.close()
        };
        let done = run().is_ok();
        for seed in 0..3 {
            let disk = disk.crash(seed + k * 7, TearUnit::Page);
            covered += check_slots(&disk);
            let (log, report) = open(&disk);
            assert_eq!(report.damage, [], "crash after {k}, {seed}");
            assert!(
                log.last_index().0 >= acknowledged,
                "crash after {k}, {seed}"
            );
        }
        if done {
            break;
        }
    }
    assert!(covered > 50, "{covered}");
}

/// Every slot that is whole is that of what the log file has. Returns how many there are.
fn check_slots(disk: &MemoryVfs) -> u64 {
    use crate::wal::format::{FileHeader, HeaderKind};
    use crate::wal::heal::Healer;
    let mut found = 0;
    for number in 1..4 {
        let Some(bytes) = disk.read_file(path(number, "log")) else {
            continue;
        };
        let Ok(header) = FileHeader::decode(HeaderKind::Log, &bytes[..UNIT as usize]) else {
            continue;
        };
        let mut healer = Healer::new(disk, &dir(), &header.meta);
        for group in healer.groups() {
            let Some(table) = healer.table(group).cloned() else {
                continue;
            };
            found += 1;
            for offset in table.content().step_by(UNIT as usize) {
                let unit = &bytes[offset as usize..(offset + UNIT) as usize];
                assert!(table.is_good(header.meta.file_id, offset, unit), "{offset}");
            }
        }
    }
    found
}

/// The n-th operation fails, in what the identifiers' step does.
#[test]
fn a_failure_while_parity_is_written_harms_nobody() {
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::ShortWrite] {
        for n in 1..8 {
            let disk = MemoryVfs::new();
            let vfs = FaultVfs::on_memory(&disk);
            let mut own = setup_on(Arc::new(vfs.clone()), 5);
            own.options.file_bytes = 4 << 20;
            let (log, _) = Log::open(own).unwrap();
            for index in 1..=20 {
                append(&log, index, 120_000, Durability::Process).unwrap();
            }
            log.sync().unwrap();
            vfs.inject(Fault::once(n, kind).on("parity"));
            let stepped = log.step_identifiers();
            let hit = vfs.faults_hit() > 0;
            // Without room it is tried again; with anything else a part stays without parity.
            let is_told = hit && kind == FaultKind::NoSpace;
            assert_eq!(stepped.is_err(), is_told, "{kind:?} {n}");
            assert!(log.poisoned().is_none(), "{kind:?} {n}");
            assert_eq!(read(&log, 1).unwrap().len(), 20);
            if is_told {
                assert!(log.step_identifiers().unwrap());
                assert_eq!(check_slots(&disk), 2);
            }
            drop(log);
            check_whole(&disk.crash(n, TearUnit::Page), 20, &format!("{kind:?} {n}"));
        }
    }
}

#[test]
fn a_reader_heals_what_rots_under_it() {
    let (disk, last) = sealed(160 << 10, Parity::Standard);
    for how in LOSSES {
        for unit in 1..used(&disk, &path(1, "log")) {
            let disk = disk.fork();
            let (log, report) = open(&disk);
            assert_eq!(report.damage, []);
            lose(&disk, &path(1, "log"), unit * UNIT, UNIT, how);
            assert_eq!(
                indexes(&log),
                (1..=last).collect::<Vec<_>>(),
                "{how:?} {unit}"
            );
            assert_eq!(read(&log, 1).unwrap().len() as u64, last);
            let is_noticed = log.mendings().units() == 1;
            let mended = log.step_mend(&|| Ok(()), &|_| {}).unwrap();
            assert_eq!(mended.is_some(), is_noticed, "{how:?} {unit}");
            let checked = log.check_file(LogNumber(1), &|| Ok(())).unwrap();
            assert_eq!(checked.healed.is_empty(), is_noticed, "{how:?} {unit}");
            drop(log.step_mend(&|| Ok(()), &|_| {}).unwrap());
            drop(log);
            assert_eq!(check_whole(&disk, last, "mended").damage, []);
        }
    }
}

/// A crash at each change that mending makes.
#[test]
fn mending_is_all_or_nothing() {
    let (whole, last) = sealed(160 << 10, Parity::Standard);
    let expected = whole.read_file(path(1, "log")).unwrap();
    let damaged = whole.fork();
    for unit in [0, 3, 4, 20] {
        lose(&damaged, &path(1, "log"), unit * UNIT, UNIT, Loss::Garbled);
    }
    for k in 0.. {
        let disk = damaged.fork();
        let vfs = FaultVfs::on_memory(&disk);
        let (log, report) = Log::open(setup_on(Arc::new(vfs.clone()), 3)).unwrap();
        assert_eq!(report.healed_blocks, 4);
        vfs.crash_after_changes(k);
        let done = log.step_mend(&|| Ok(()), &|_| {}).is_ok();
        drop(log);
        for seed in 0..3 {
            let disk = disk.crash(seed, TearUnit::Sector);
            let report = check_whole(&disk, last, &format!("crash after {k}"));
            if done {
                assert_eq!(report.damage, []);
                assert!(disk.read_file(path(1, "log")).unwrap() == expected);
            }
        }
        if done {
            break;
        }
        assert!(k < 50);
    }
    // Or the disk answers with an error, once.
    for n in 1..40 {
        let disk = damaged.fork();
        let vfs = FaultVfs::on_memory(&disk);
        let (log, _) = Log::open(setup_on(Arc::new(vfs.clone()), 3)).unwrap();
        let changes = [
            OperationKind::Create,
            OperationKind::Write,
            OperationKind::SetLen,
            OperationKind::SyncData,
            OperationKind::Rename,
        ];
        vfs.inject(Fault::once(n, FaultKind::NoSpace).only(&changes));
        let first = log.step_mend(&|| Ok(()), &|_| {});
        if vfs.faults_hit() == 0 {
            assert!(n > 3, "{n}");
            break;
        }
        assert!(first.is_err(), "{n}");
        assert!(log.poisoned().is_none(), "{n}");
        assert!(log.step_mend(&|| Ok(()), &|_| {}).unwrap().is_some(), "{n}");
        assert!(disk.read_file(path(1, "log")).unwrap() == expected, "{n}");
        assert!(disk.file_bytes(path(1, "log.tmp")).is_none());
    }
}

/// The parity rots as well, and nobody reads it but this.
#[test]
fn parity_that_is_not_as_it_was_written_is_written_again() {
    let (disk, last) = sealed(GROUP + (160 << 10), Parity::Standard);
    let whole = disk.read_file(path(1, "parity")).unwrap();
    for unit in 0..units(&disk, &path(1, "parity")) {
        for how in LOSSES {
            let disk = disk.fork();
            lose(&disk, &path(1, "parity"), unit * UNIT, UNIT, how);
            let (log, _) = open(&disk);
            let checked = log.check_file(LogNumber(1), &|| Ok(())).unwrap();
            assert_eq!((checked.healed.len(), checked.lost.len()), (0, 0));
            assert_eq!(checked.renewed.len(), 1, "{unit} {how:?}");
            assert!(disk.read_file(path(1, "parity")).unwrap() == whole);
            let again = log.check_file(LogNumber(1), &|| Ok(())).unwrap();
            assert_eq!(again.renewed, []);
        }
    }
    // All of it.
    assert!(disk.remove_file(path(1, "parity")));
    let (log, _) = open(&disk);
    log.check_file(LogNumber(1), &|| Ok(())).unwrap();
    let now = disk.read_file(path(1, "parity")).unwrap();
    assert!(now[..] == whole[..now.len()]);
    drop(log);
    lose(&disk, &path(1, "log"), 9 * UNIT, UNIT, Loss::Zeroed);
    assert_eq!(check_whole(&disk, last, "with new parity").healed_blocks, 1);
}
