//! That a window is the same however it came about: record by record, from the log, from a copy.

use std::path::Path;

use super::*;
use crate::engine::backup::restore;
use crate::engine::conflicts::carried::of_pieces;
use crate::engine::conflicts::window::last_of;
use crate::engine::{Engine, RestorePoint};
use crate::manifest::Change;
use crate::options::{Background, Options};
use crate::testing::{MemoryVfs, SeededRng};

const WINDOW: usize = 20_000;

fn value(rng: &mut SeededRng) -> Vec<u8> {
    let most = [10, 300, 3_000][rng.below(3) as usize];
    vec![7; rng.below(most) as usize]
}

fn some_record(rng: &mut SeededRng) -> Arc<Request> {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + rng.below(4) {
        let (key, to) = (rng.below(100).to_string(), rng.below(100).to_string());
        let value = value(rng);
        let effect = match rng.below(8) {
            0 => Effect::Delete,
            1 if key < to => Effect::DeleteTo(Some(to.as_bytes())),
            2 if rng.below(20) == 0 => Effect::DeleteTo(None),
            _ => Effect::Put(&value),
        };
        batch.add(KeyspaceId::DEFAULT, key.as_bytes(), effect);
    }
    Request::of_batch(batch, Durability::Buffered).unwrap()
}

/// The newest records that cost no more than a limit, as the module's text says.
fn floor_of(records: &[Arc<Request>], limit: usize) -> Index {
    let mut left = limit;
    let costs = records.iter().rev().map(|r| r.payload.len() + 64);
    let kept = costs.take_while(|cost| match left.checked_sub(*cost) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    Index((records.len() - kept.count()) as u64)
}

fn carried(limit: usize, pieces: &[&[u8]]) -> ConflictWindow {
    let pieces: Vec<Arc<[u8]>> = pieces.iter().map(|piece| Arc::from(*piece)).collect();
    of_pieces(limit, &pieces)
}

impl ConflictWindow {
    /// All of it, to be compared.
    fn whole(&self) -> Vec<u8> {
        self.piece_after(Index(0)).bytes
    }
}

fn of_records(records: &[Arc<Request>], limit: usize) -> ConflictWindow {
    let mut window = ConflictWindow::new(limit, Index(0));
    for (index, record) in (1..).zip(records) {
        push(&mut window, index, record);
    }
    window
}

#[test]
fn a_window_has_as_many_of_the_newest_records_as_fit() {
    for seed in 0..20 {
        let mut rng = SeededRng::new(seed);
        let limit = [0, 64, 1_000, 300_000][seed as usize % 4];
        let mut records = Vec::new();
        let mut window = ConflictWindow::new(limit, Index(0));
        for index in 1..1_000 {
            records.push(some_record(&mut rng));
            push(&mut window, index, &records[records.len() - 1]);
            assert_eq!(window.floor(), floor_of(&records, limit));
            assert_eq!(window.last(), Index(index));
        }
        let mut carried = carried(limit, &[&window.whole()]);
        assert_eq!(carried.whole(), window.whole());
        assert_eq!(last_of(&window.whole()), Some(Index(999)));
        let smaller = self::carried(limit / 2, &[&window.whole()]);
        assert_eq!(smaller.whole(), of_records(&records, limit / 2).whole());
        for index in 1_000..1_500 {
            records.push(some_record(&mut rng));
            push(&mut carried, index, &records[records.len() - 1]);
        }
        assert_eq!(carried.whole(), of_records(&records, limit).whole());
    }
}

#[test]
fn a_check_in_the_window_is_the_same_as_against_each_record() {
    let mut rng = SeededRng::new(3);
    let records: Vec<_> = (0..1_500).map(|_| some_record(&mut rng)).collect();
    let window = of_records(&records, 200_000);
    let (mut met, mut passed) = (0, 0);
    for _ in 0..2_000 {
        let at = match rng.below(2) {
            0 => 1_490 + rng.below(11),
            _ => rng.between(window.floor().0, 1_500),
        };
        let (a, b) = (rng.below(100).to_string(), rng.below(100).to_string());
        let reads = Reads {
            at: Index(at),
            keys: HashSet::from([(KeyspaceId::DEFAULT, a.clone().into_bytes())]),
            ranges: vec![ReadRange {
                keyspace: KeyspaceId::DEFAULT,
                lower: a.into_bytes(),
                upper: (rng.below(9) > 0).then(|| b.into_bytes()),
            }],
        };
        let reads = reads.finish();
        let since = &records[at as usize..];
        let expected = since.iter().any(|r| reads.check_against(r).is_err());
        assert_eq!(window.check(&reads, &[]).is_err(), expected, "{reads:?}");
        (met, passed) = (met + u32::from(expected), passed + u32::from(!expected));
    }
    assert!(met > 100 && passed > 100, "{met} {passed}");
}

#[test]
fn bytes_that_are_no_window_are_refused() {
    let mut rng = SeededRng::new(5);
    let records: Vec<_> = (0..30).map(|_| some_record(&mut rng)).collect();
    let bytes = of_records(&records, 10_000).whole();
    for cut in 2..bytes.len() {
        let window = carried(10_000, &[&bytes[..cut]]);
        assert_eq!((window.floor(), window.last()), (Index(30), Index(30)));
    }
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << rng.below(8);
        // Whatever it says then: nothing is to panic, and no more than there was to be kept.
        let window = carried(10_000, &[&changed, &bytes]);
        assert!(window.whole().len() <= 2 * bytes.len());
        assert!(window.floor() <= window.last());
    }
}

#[test]
fn pieces_that_follow_each_other_are_the_window() {
    let mut rng = SeededRng::new(6);
    let mut window = ConflictWindow::new(WINDOW, Index(0));
    let (mut pieces, mut before) = (Vec::<Arc<[u8]>>::new(), Index(0));
    for index in 1..3_000 {
        push(&mut window, index, &some_record(&mut rng));
        if rng.below(3) == 0 {
            let piece = window.piece_after(before);
            before = window.last();
            let Some(Change::ConflictWindow { dropped, added }) = piece.change(&pieces) else {
                panic!("no piece");
            };
            pieces.drain(..dropped as usize);
            pieces.push(added);
            assert_eq!(of_pieces(WINDOW, &pieces).whole(), window.whole());
            let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
            assert!(bytes < 2 * WINDOW);
        }
    }
    let gap = &pieces[pieces.len() / 2];
    let last = last_of(gap).unwrap();
    pieces.retain(|piece| last_of(piece) != Some(last));
    let window = of_pieces(WINDOW, &pieces);
    assert_eq!(
        (window.floor(), window.last()),
        (last, before),
        "what was before is unknown"
    );
}

fn options(disk: &MemoryVfs, path: &str) -> Options {
    let options = Options::new(path).vfs(Arc::new(disk.clone()));
    let options = options.background(Background::Manual);
    let options = options
        .write_buffer_bytes(64 << 10)
        .log_file_bytes(64 << 10);
    options.conflict_window_bytes(WINDOW)
}

fn open(disk: &MemoryVfs, path: &str) -> Arc<Engine> {
    Engine::open(options(disk, path)).unwrap().0
}

fn bytes_of(engine: &Engine) -> Vec<u8> {
    engine.commit.lock().window.whole()
}

fn end(engine: &Engine) {
    engine.close().unwrap();
    engine.abandon();
}

/// What a store was told so far.
struct Told {
    records: Vec<Arc<Request>>,
    rng: SeededRng,
}

impl Told {
    fn nothing(seed: u64) -> Self {
        Self {
            records: Vec::new(),
            rng: SeededRng::new(seed),
        }
    }

    fn write(&mut self, engine: &Engine, records: u64) {
        for _ in 0..records {
            let record = some_record(&mut self.rng);
            engine.write(record.clone()).unwrap();
            self.records.push(record);
        }
    }

    fn write_up_to(&mut self, engine: &Engine, records: u64) {
        let records = self.rng.below(records);
        self.write(engine, records);
    }

    fn check(&self, engine: &Engine, what: &str) {
        let expected = of_records(&self.records, WINDOW);
        assert!(expected.floor() > Index(0));
        assert_eq!(bytes_of(engine), expected.whole(), "{what}");
        assert_eq!(engine.conflict_floor(), expected.floor(), "{what}");
        let pieces = engine.manifest.lock().state().conflict_window.clone();
        let covered = usize::try_from(engine.covered().0).unwrap();
        let carried = of_pieces(WINDOW, &pieces).whole();
        let expected = of_records(&self.records[..covered], WINDOW).whole();
        assert_eq!(carried, expected, "{what}, in the manifest");
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert!(bytes <= 2 * WINDOW);
    }
}

#[test]
fn a_store_that_is_opened_again_has_the_window_it_had() {
    let mut purged = 0;
    for seed in 0..8 {
        let disk = MemoryVfs::new();
        let mut told = Told::nothing(seed);
        for round in 0..8 {
            let engine = open(&disk, "store");
            if round > 0 {
                told.check(&engine, "opened again");
            }
            told.write(&engine, 100);
            told.write_up_to(&engine, 300);
            if told.rng.below(2) == 0 {
                engine.flush().unwrap();
                told.check(&engine, "flushed");
            }
            told.write_up_to(&engine, 20);
            told.check(&engine, "written");
            purged += u32::from(engine.log.first_index() > Index(1));
            match told.rng.below(2) {
                0 => end(&engine),
                _ => {
                    engine.sync().unwrap();
                    engine.abandon();
                }
            }
        }
    }
    assert!(purged > 20, "{purged}");
}

#[test]
fn a_copy_has_the_window_of_its_last_record_and_goes_on_with_it() {
    for seed in 0..8 {
        let disk = MemoryVfs::new();
        let mut told = Told::nothing(seed);
        let mut engine = open(&disk, "store");
        for round in 0..4 {
            told.write(&engine, 100);
            told.write_up_to(&engine, 300);
            // A copy of a copy: its manifest has a part of what it needs, the log the rest.
            let name = format!("copy{round}");
            if told.rng.below(2) == 0 {
                engine.snapshot_to(Path::new(&name)).unwrap();
            } else {
                let repository = format!("repository{round}");
                engine.backup_to(Path::new(&repository)).unwrap();
                let target = options(&disk, &name);
                restore(Path::new(&repository), target, RestorePoint::Newest, None).unwrap();
            }
            end(&engine);
            engine = open(&disk, &name);
            assert_eq!(engine.log.files(), 0);
            told.check(&engine, "copied");
            told.write_up_to(&engine, 30);
            told.check(&engine, "copied, and written to");
            engine.sync().unwrap();
            engine.abandon();
            engine = open(&disk, &name);
            told.check(&engine, "copied, written to, opened again");
            if told.rng.below(2) == 0 {
                engine.flush().unwrap();
                told.check(&engine, "copied, written to, flushed");
            }
        }
        end(&engine);
    }
}

#[test]
fn an_archive_takes_the_window_on_from_its_backup() {
    let disk = MemoryVfs::new();
    let mut told = Told::nothing(11);
    let archived = options(&disk, "store").archive_to("repository");
    let engine = Engine::open(archived).unwrap().0;
    told.write(&engine, 300);
    engine.backup_to(Path::new("repository")).unwrap();
    told.write(&engine, 10);
    engine.archive_now().unwrap();
    end(&engine);
    let target = options(&disk, "restored");
    let restored = restore(Path::new("repository"), target, RestorePoint::Newest, None);
    assert_eq!(restored.unwrap().records, 10);
    let engine = open(&disk, "restored");
    told.check(&engine, "restored");
    end(&engine);
}

#[test]
fn damage_in_log_that_segments_hold_costs_the_window_nothing() {
    let disk = MemoryVfs::new();
    let mut told = Told::nothing(4);
    let engine = open(&disk, "store");
    told.write(&engine, 200);
    engine.flush().unwrap();
    let mut batch = WriteBatch::new();
    batch.add(KeyspaceId::DEFAULT, b"the last one", Effect::Delete);
    let last = Request::of_batch(batch, Durability::Disk).unwrap();
    let last_index = engine.write(last.clone()).unwrap();
    told.records.push(last);
    engine.abandon();
    for name in disk.file_names("store") {
        let path = Path::new("store").join(&name);
        let bytes = disk.read_file(&path).unwrap();
        let place = bytes.windows(12).position(|part| part == b"the last one");
        // All that segments hold: not the last record.
        for offset in (4_096..place.unwrap_or(0).saturating_sub(400)).step_by(100) {
            disk.flip_bit(&path, offset as u64, 3);
        }
    }
    let (engine, report) = Engine::open(options(&disk, "store")).unwrap();
    assert!(!report.damage.is_empty());
    assert_eq!(engine.views.visible(), last_index);
    told.check(&engine, "damaged");
    engine.abandon();
}

/// What a record takes in the log is more than it costs here, or less.
#[test]
fn a_window_of_small_records_goes_back_as_far_as_it_did() {
    let limit = 150_000;
    for durability in [Durability::Buffered, Durability::Disk] {
        let disk = MemoryVfs::new();
        let options = || {
            let options = options(&disk, "store").conflict_window_bytes(limit);
            options.write_buffer_bytes(4 << 20)
        };
        let engine = Engine::open(options()).unwrap().0;
        let mut records = Vec::new();
        for number in 0..4_000_u32 {
            let mut batch = WriteBatch::new();
            batch.add(KeyspaceId(0), &number.to_le_bytes(), Effect::Delete);
            let record = Request::of_batch(batch, durability).unwrap();
            engine.write(record.clone()).unwrap();
            records.push(record);
        }
        engine.sync().unwrap();
        engine.abandon();
        let engine = Engine::open(options()).unwrap().0;
        assert_eq!(engine.covered(), Index(0));
        let expected = of_records(&records, limit);
        assert_eq!(expected.floor(), floor_of(&records, limit));
        assert_eq!(engine.conflict_floor(), expected.floor());
        assert_eq!(bytes_of(&engine), expected.whole());
        engine.abandon();
    }
}

/// What comes before a transaction in its group counts as if it had been committed before.
#[test]
fn how_writes_are_grouped_decides_nothing() {
    let (mut committed, mut refused) = (0, 0);
    for seed in 0..40 {
        let outcomes = [false, true].map(|grouped| {
            let disk = MemoryVfs::new();
            let mut rng = SeededRng::new(seed);
            let limit = [0, 2_000, WINDOW][seed as usize % 3];
            let options = options(&disk, "store").conflict_window_bytes(limit);
            let engine = Engine::open(options).unwrap().0;
            for _ in 0..4 {
                engine.write(some_record(&mut rng)).unwrap();
            }
            let mut requests: Vec<_> = (0..20).map(|_| some_record(&mut rng)).collect();
            let key = |key: &str| (KeyspaceId::DEFAULT, key.as_bytes().to_vec());
            for _ in 0..5 {
                let place = rng.below(requests.len() as u64 + 1);
                let reads = Reads {
                    at: Index(rng.between(2, 4)),
                    keys: HashSet::from([key("that nobody writes")]),
                    ranges: Vec::new(),
                };
                let mut batch = WriteBatch::new();
                batch.add(KeyspaceId::DEFAULT, b"own", Effect::Delete);
                let own = Request::of_transaction(batch, Durability::Disk, Some(reads.finish()));
                requests.insert(place as usize, own.unwrap());
            }
            for request in &requests {
                engine.queue.push_unled(request.clone());
                while !grouped && engine.step_commit() {}
            }
            while engine.step_commit() {}
            engine.abandon();
            let outcomes = requests.iter().map(|r| r.take_outcome().unwrap().is_ok());
            outcomes.collect::<Vec<_>>()
        });
        assert_eq!(outcomes[0], outcomes[1], "seed {seed}");
        let all = outcomes[0].len();
        let fine = outcomes[0].iter().filter(|fine| **fine).count();
        (committed, refused) = (committed + fine - 20, refused + all - fine);
    }
    assert!(committed > 20 && refused > 20, "{committed} {refused}");
}
