//! How a store is let go, and what its jobs do when something fails or nobody writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kintsu::environment::{Clock, Entropy};
use kintsu::testing::{Fault, FaultKind, OperationKind};
use kintsu::{Background, Bytes, Db, Durability, Error, Job, KeyspaceOptions, MergeOperator};
use kintsu::{Options, WriteBatch, inspect};
use parking_lot::Mutex;

use super::support::store::{FOLDER, Machine};

type Hook = Box<dyn FnOnce() + Send>;

/// Randomness that calls a hook when a thread of a given name asks for some, once: a place inside the store's
/// own work, as it begins a segment.
#[derive(Clone)]
struct Hooked {
    entropy: Arc<dyn Entropy>,
    hook: Arc<Mutex<Option<(String, Hook)>>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    fn new(machine: &Machine) -> Self {
        Self {
            entropy: machine.entropy.clone(),
            hook: Arc::default(),
        }
    }

    fn arm(&self, thread: &str, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock() = Some((thread.to_owned(), Box::new(hook)));
    }

    fn options(&self, machine: &Machine) -> Options {
        machine.options().entropy(Arc::new(self.clone()))
    }
}

impl Entropy for Hooked {
    fn next_u64(&self) -> u64 {
        let mut armed = self.hook.lock();
        let name = std::thread::current().name().map(str::to_owned);
        let is_asked = armed.as_ref().map(|(thread, _)| thread) == name.as_ref();
        let hook = if is_asked { armed.take() } else { None };
        drop(armed);
        if let Some((_, hook)) = hook {
            hook();
        }
        self.entropy.next_u64()
    }
}

/// Waits until something is so that the store's own threads bring about.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

fn segments(machine: &Machine) -> Vec<String> {
    let names = machine.files().into_iter().map(|(name, _)| name);
    names.filter(|name| name.contains("segment")).collect()
}

/// The store that opened the folder next gave its first segment the number of one that a load was still
/// building. The load's next block went into the published segment, and its end removed the new store's file.
#[test]
fn a_load_that_outlives_its_store_touches_nothing_of_the_next() {
    for is_closed in [true, false] {
        let machine = Machine::new(1);
        let db = machine.options().open().unwrap();
        let mut load = db.bulk_load().unwrap();
        let mut second = db.bulk_load().unwrap();
        load.add("a", "1").unwrap();
        second.add("b", "2").unwrap();
        match is_closed {
            true => db.close().unwrap(),
            false => drop(db),
        }
        let unfinished = segments(&machine);
        let db = machine.options().open().unwrap();
        db.put("key", "value").unwrap();
        db.flush().unwrap();
        let published = segments(&machine);
        for name in published.iter().filter(|name| name.ends_with(".segment")) {
            assert!(
                !unfinished.contains(&format!("{name}.tmp")),
                "{published:?}"
            );
        }
        let before = machine.faults.changes();
        for n in 0..100 {
            let added = load.add(format!("b{n:05}"), vec![n; 1000]);
            assert!(matches!(added, Err(Error::Closed)), "{added:?}");
        }
        let committed = second.commit();
        assert!(matches!(committed, Err(Error::Closed)), "{committed:?}");
        drop(load);
        assert_eq!(machine.faults.changes(), before);
        while db.step(Job::Reclaim).unwrap() {}
        db.close().unwrap();
        let db = machine.options().open().unwrap();
        assert_eq!(db.get("key").unwrap().as_deref(), Some(&b"value"[..]));
        assert_eq!(segments(&machine).len(), 1, "{:?}", segments(&machine));
    }
}

/// The lock was given up while a call in another thread was still at work: it went on to publish in a folder
/// that somebody else may have opened since.
#[test]
fn a_store_is_not_let_go_under_a_call_at_work() {
    type Call = fn(&Db) -> Result<(), Error>;
    let calls: [(&str, Call); 4] = [
        ("compact_range", |db| db.compact_range(..)),
        ("flush", Db::flush),
        ("snapshot_to", |db| db.snapshot_to("snapshot").map(drop)),
        ("backup_to", |db| db.backup_to("backups").map(drop)),
    ];
    for (name, call) in calls {
        let machine = Machine::new(1);
        let hooked = Hooked::new(&machine);
        let db = hooked.options(&machine).open().unwrap();
        for n in 0..4_u8 {
            db.put("key", vec![n; 900]).unwrap();
            if n < 3 || name == "compact_range" {
                db.flush().unwrap();
            }
        }
        let (arrived, begun) = std::sync::mpsc::channel();
        let other = db.clone();
        hooked.arm("at-work", move || {
            arrived.send(()).unwrap();
            // The flush of the one who closes may have to wait for this one, so it can't always be told.
            for _ in 0..200 {
                if matches!(other.get("key"), Err(Error::Closed)) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        let other = db.clone();
        let working = std::thread::Builder::new().name("at-work".into());
        let working = working.spawn(move || call(&other)).unwrap();
        begun.recv().unwrap();
        db.close().unwrap();
        let changes = machine.faults.changes();
        let outcome = working.join().unwrap();
        assert_eq!(machine.faults.changes(), changes, "{name}: {outcome:?}");
        if name == "compact_range" {
            assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
        }
        let db = machine.options().open().unwrap();
        assert_eq!(db.get("key").unwrap().as_deref(), Some(&[3; 900][..]));
    }
}

/// A compaction that failed was tried again at once, for ever, and its error went to writers that waited for a
/// flush.
#[test]
fn a_failing_compaction_is_tried_again_after_a_while() {
    let machine = Machine::new(1);
    let options = machine.options().background(Background::Threads);
    let db = options.open().unwrap();
    let (bad, good) = (
        db.create_keyspace("bad").unwrap(),
        db.create_keyspace("good").unwrap(),
    );
    bad.put("key", "old").unwrap();
    db.flush().unwrap();
    let [segment] = &segments(&machine)[..] else {
        panic!("{:?}", segments(&machine))
    };
    let unreadable = Fault::for_good(1, FaultKind::Io).only(&[OperationKind::Read]);
    machine.faults.inject(unreadable.on(segment));
    bad.put("key", "new").unwrap();
    db.flush().unwrap();
    wait_until("the note of a failure", || {
        db.statistics().background_failure.is_some()
    });
    let hit = machine.faults.faults_hit();
    let compacted = |name: &str| {
        let statistics = db.statistics();
        let of = statistics.keyspaces.iter().find(|k| k.name == name);
        of.unwrap().level_segments[0] < 2
    };
    for n in 0..10_u8 {
        good.put("key", [n]).unwrap();
        db.flush().unwrap();
        wait_until("the other tree's compaction", || compacted("good"));
    }
    // The store's clock stands still, so it isn't time yet.
    assert_eq!(machine.faults.faults_hit(), hit);
    assert!(db.statistics().background_failure.is_some());
    machine.faults.clear_faults();
    machine.clock.advance(Duration::from_secs(1));
    wait_until("another try", || compacted("bad"));
    wait_until("its success", || {
        db.statistics().background_failure.is_none()
    });
    assert_eq!(bad.get("key").unwrap().as_deref(), Some(&b"new"[..]));
}

struct Panicking;

impl MergeOperator for Panicking {
    fn merge(
        &self,
        _key: &[u8],
        value: Option<&[u8]>,
        operands: &[Bytes],
    ) -> Result<Vec<u8>, String> {
        let mut merged = value.unwrap_or_default().to_vec();
        operands
            .iter()
            .for_each(|operand| merged.extend(checked(operand)));
        Ok(merged)
    }

    fn combine(&self, _key: &[u8], operands: &[Bytes]) -> Option<Vec<u8>> {
        Some(operands.iter().flat_map(checked).copied().collect())
    }
}

fn checked(operand: &Bytes) -> &[u8] {
    assert!(!operand.is_empty(), "nobody merges nothing");
    operand
}

/// A merge operator that panicked ended the thread that flushes, and nobody was told.
#[test]
fn an_operator_that_panics_has_refused_its_operands() {
    let machine = Machine::new(1);
    let open = || {
        let keyspace = KeyspaceOptions::default().merge_operator("panicking");
        let options = machine.options().merge_operator("panicking", Panicking);
        options.default_keyspace(keyspace).open().unwrap()
    };
    let db = open();
    for value in ["", "", "a"] {
        db.merge("bad", value).unwrap();
        db.merge("good", "b").unwrap();
    }
    for _ in 0..2 {
        db.flush().unwrap();
        db.compact_range(..).unwrap();
        let read = db.get("bad");
        assert!(
            matches!(&read, Err(Error::MergeFailed { why, .. }) if why.contains("panicked")),
            "{read:?}"
        );
        assert_eq!(db.get("good").unwrap().as_deref(), Some(&b"bbb"[..]));
        db.put("other", "value").unwrap();
    }
    db.close().unwrap();
    // Nothing was thrown away: once it is put right there is a value.
    let db = open();
    assert!(db.get("bad").is_err());
    db.put("bad", "c").unwrap();
    db.merge("bad", "d").unwrap();
    assert_eq!(db.get("bad").unwrap().as_deref(), Some(&b"cd"[..]));
}

/// When the thread that flushes was gone, writers waited for it for ever.
#[test]
fn a_job_that_panics_latches_the_store() {
    let machine = Machine::new(1);
    let hooked = Hooked::new(&machine);
    let options = hooked.options(&machine).background(Background::Threads);
    let db = options.open().unwrap();
    hooked.arm("kintsu-flush", || panic!("as the test wants it"));
    let write = |n: u32| {
        let mut batch = WriteBatch::new();
        batch.put(n.to_be_bytes(), vec![7; 1000]);
        db.write_with(batch, Durability::Buffered)
    };
    let failed = (0..10_000).find_map(|n| write(n).err());
    assert!(
        matches!(&failed, Some(Error::Poisoned { cause }) if cause.contains("as the test wants it")),
        "{failed:?}"
    );
    assert!(db.get(0_u32.to_be_bytes()).unwrap().is_some());
    assert!(matches!(db.close(), Err(Error::Poisoned { .. })));
    let db = machine.options().open().unwrap();
    assert_eq!(db.recovery_report().damage, []);
}

/// A copy was made between a keyspace's last writes and its end, while the flush for it was under way. It had
/// the keyspace, without those writes.
#[test]
fn a_copy_beside_the_end_of_a_keyspace_has_all_of_it_or_nothing() {
    let machine = Machine::new(1);
    let hooked = Hooked::new(&machine);
    let db = hooked.options(&machine).open().unwrap();
    let keyspace = db.create_keyspace("dropped").unwrap();
    keyspace.put("flushed", "value").unwrap();
    db.flush().unwrap();
    keyspace.put("key", "value").unwrap();
    let mut load = keyspace.bulk_load().unwrap();
    load.add("loaded", "value").unwrap();
    load.commit().unwrap();
    keyspace.put("later", "value").unwrap();
    // Its segment is built first.
    db.put("key", "value").unwrap();
    let other = db.clone();
    let here = std::thread::current().name().unwrap().to_owned();
    hooked.arm(&here, move || other.drop_keyspace("dropped").unwrap());
    db.snapshot_to("copy").unwrap();
    assert!(matches!(
        db.keyspace("dropped"),
        Err(Error::KeyspaceNotFound { .. })
    ));
    let copy = machine.options_at("copy").open().unwrap();
    let keys = copy.keyspace("dropped").unwrap().range(..).unwrap();
    let keys: Vec<_> = keys.map(|item| item.unwrap().0).collect();
    assert_eq!(keys, ["flushed", "key", "later", "loaded"]);
    // And the space is given back all the same.
    drop(keyspace);
    while db.step(Job::Flush).unwrap() {}
    while db.step(Job::Compact).unwrap() {}
    while db.step(Job::Reclaim).unwrap() {}
    assert_eq!(segments(&machine).len(), 1, "{:?}", segments(&machine));
}

/// What had been loaded into a keyspace that was dropped since was counted as garbage once for each flush that
/// met a full disk, and then held by its own count for ever.
#[test]
fn a_dropped_keyspaces_load_is_removed_after_a_full_disk() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    let mut refused = 0;
    for round in 0..2_000 {
        let keyspace = db.create_keyspace("dropped").unwrap();
        db.flush().unwrap();
        if refused % 2 == 1 {
            db.create_keyspace(&format!("{round}")).unwrap();
            db.flush().unwrap();
        }
        let mut load = keyspace.bulk_load().unwrap();
        load.add("loaded", "value").unwrap();
        load.commit().unwrap();
        drop(keyspace);
        db.drop_keyspace("dropped").unwrap();
        // The manifest needs room only now and then, for a new generation, and then for any of the edits.
        let full = Fault::for_good(1, FaultKind::NoSpace).only(&[OperationKind::Create]);
        machine.faults.inject(full.on("manifest"));
        if let Err(error) = db.flush() {
            assert!(matches!(error, Error::NoSpace { .. }), "{round}: {error:?}");
            assert!(db.flush().is_err());
            refused += 1;
        }
        machine.faults.clear_faults();
        db.flush().unwrap();
        while db.step(Job::Reclaim).unwrap() {}
        assert_eq!(segments(&machine), [""; 0], "{round}");
        if refused == 6 {
            return;
        }
    }
    panic!("refused {refused} times");
}

/// A dropped keyspace's segments stayed on the disk until somebody wrote enough for a flush.
#[test]
fn a_dropped_keyspace_gives_its_space_back_without_another_write() {
    for background in [Background::Manual, Background::Threads] {
        for is_opened_again in [false, true] {
            let machine = Machine::new(1);
            let open = |by| machine.options().background(by).open().unwrap();
            // If it is to be opened again, the record must be all that there is of it till then.
            let mut db = match is_opened_again {
                true => open(Background::Manual),
                false => open(background),
            };
            let keyspace = db.create_keyspace("dropped").unwrap();
            keyspace.put("key", "value").unwrap();
            db.flush().unwrap();
            assert_eq!(segments(&machine).len(), 1);
            drop(keyspace);
            db.drop_keyspace("dropped").unwrap();
            if is_opened_again {
                drop(db);
                db = open(background);
            }
            if background == Background::Manual {
                while db.step(Job::Flush).unwrap() {}
                while db.step(Job::Reclaim).unwrap() {}
            }
            wait_until("the space", || segments(&machine).is_empty());
            assert!(!db.step(Job::Flush).unwrap());
        }
    }
}

/// Versions that had been kept for a reader stayed after it had gone, until something else gave the jobs work.
#[test]
fn the_last_view_lets_superseded_versions_go() {
    let machine = Machine::new(1);
    let options = machine.options().background(Background::Threads);
    let db = options.open().unwrap();
    let entries = || db.statistics().keyspaces[0].segment_entries;
    db.put("key", "old").unwrap();
    let view = db.view();
    db.put("key", "newer").unwrap();
    let newer = db.view();
    db.put("key", "newest").unwrap();
    db.compact_range(..).unwrap();
    assert_eq!(entries(), 3);
    // Not the lowest: nothing is to be had yet.
    drop(newer);
    let passing = db.view();
    assert_eq!(passing.get("key").unwrap().as_deref(), Some(&b"newest"[..]));
    drop(passing);
    assert_eq!(view.get("key").unwrap().as_deref(), Some(&b"old"[..]));
    drop(view);
    wait_until("the space", || entries() == 1);
}

/// Of two that closed at the same time one gave up the lock while the other was still at work.
#[test]
fn whoever_closes_second_is_told() {
    let machine = Machine::new(1);
    let db = machine.options().open().unwrap();
    let closed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let db = db.clone();
            scope.spawn(|| match db.close() {
                Ok(()) => assert!(!closed.swap(true, Ordering::SeqCst)),
                Err(error) => assert!(matches!(error, Error::Closed), "{error:?}"),
            });
        }
    });
    assert!(closed.into_inner());
    machine.options().open().unwrap().close().unwrap();
}

/// Between the last file of one run and the first of the next, positions pass over what stayed free there: that
/// was counted as written.
#[test]
fn an_opening_counts_no_bytes_of_log_that_nobody_wrote() {
    let machine = Machine::new(77);
    let options = || machine.options().log_file_bytes(16 << 20);
    for _ in 0..3 {
        let db = options().open().unwrap();
        db.put("key", [7; 100]).unwrap();
        let activity = db.statistics().activity;
        assert!((1..100_000).contains(&activity.log_bytes), "{activity:?}");
        db.close().unwrap();
    }
}

/// What is older than a load was described with the load's time.
#[test]
fn what_is_older_than_a_load_has_its_own_time() {
    for reopened in [false, true] {
        let machine = Machine::new(78);
        let db = machine
            .options()
            .background(Background::Manual)
            .open()
            .unwrap();
        db.put("key", "value").unwrap();
        let before = machine.clock.wall_us();
        machine.clock.advance(Duration::from_secs(9));
        let mut load = db.bulk_load().unwrap();
        load.add("loaded", "value").unwrap();
        load.commit().unwrap();
        let db = match reopened {
            true => {
                drop(db);
                machine
                    .options()
                    .background(Background::Manual)
                    .open()
                    .unwrap()
            }
            false => db,
        };
        // The generation before the load, and not yet the load.
        assert!(db.step(Job::Flush).unwrap());
        drop(db);
        let mut times = Vec::new();
        inspect::manifest(
            &machine.memory,
            FOLDER.as_ref(),
            &mut |found| match found.part {
                inspect::ManifestPart::State { state, .. } => times.push(state.covered_time_us),
                inspect::ManifestPart::Edit { changes, .. } => {
                    times.extend(changes.iter().filter_map(|change| match change {
                        inspect::ManifestChange::CoveredTime(time_us) => Some(*time_us),
                        _ => None,
                    }));
                }
                _ => {}
            },
        )
        .unwrap();
        assert_eq!(times.iter().max(), Some(&before), "{reopened} {times:?}");
    }
}
