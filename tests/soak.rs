//! A store at work for a long time: writers, readers, transactions, bulk loads, snapshots, backups and an
//! archive, killed with SIGKILL again and again, and compared key by key with a model each time.
//!
//! By default it takes some seconds; `KINTSU_SOAK_SECONDS=3600` makes it an hour over a store many times
//! larger than its cache. `KINTSU_SOAK_FOLDER` says where, `KINTSU_SEED` what is done.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "soak/child.rs"]
mod child;
#[path = "soak/figures.rs"]
mod figures;
#[path = "soak/model.rs"]
mod model;
#[path = "soak/operation.rs"]
mod operation;
#[path = "soak/store.rs"]
mod store;
#[path = "soak/work.rs"]
mod work;

use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use kintsu::environment::{Clock, SystemClock};
use kintsu::{Db, Error, KeyspaceStatistics, Options, Repository, RestorePoint};

use child::{Child, Role, numbers, say};
use figures::{Figures, Samples};
use model::{Compared, Direction, Model, Progress};
use operation::{Size, WRITERS};
use store::{Folders, Store, disk_bytes, files};
use work::Work;

/// What [`Child`] begins with; a test by its own account, so that the test binary can be started again
/// as a child.
#[test]
fn child_role() {
    if let Some(role) = Role::given() {
        play(&role);
    }
}

/// A child's work, until its parent says `stop`.
fn play(role: &Role) {
    // One thread's failure is the child's: the others would go on for ever.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::exit(101);
    }));
    let size = Size::chosen();
    let folders = Folders::new(&role.folder);
    let options = store::working_options(&size, &folders, role.archived);
    let db = options.open().unwrap();
    let work = Work {
        size,
        seed: role.seed,
        store: Store::create(db, &size),
        folders,
        clock: SystemClock::new(),
        stopped: AtomicBool::new(false),
        operations: AtomicU64::new(0),
        longest_us: AtomicU64::new(0),
        audited: AtomicU64::new(0),
    };
    work.clear_scratch();
    if role.archived {
        // Without an archive until now there is a gap before this.
        back_up(&work);
    }
    let orders = listen();
    work.run(|| {
        let interval = Duration::from_millis(size.sample_ms);
        while let Err(RecvTimeoutError::Timeout) = orders.recv_timeout(interval) {
            say(&figures::line("figures", &figures::look(&work)));
        }
    });
    finish(work);
}

/// Backs up, once the store's own jobs have let go of the repository.
fn back_up(work: &Work) {
    loop {
        match work.store.db.backup_to(work.folders.repository()) {
            Ok(_) => return,
            Err(Error::Locked { .. }) => std::thread::park_timeout(Duration::from_millis(10)),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Hears `stop`; ends the process once the parent is gone.
fn listen() -> mpsc::Receiver<()> {
    let (stop, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_ok_and(|line| line == "stop") {
                let _ = stop.send(());
            }
        }
        std::process::exit(1);
    });
    orders
}

/// What has to be true once everybody has stopped.
fn finish(work: Work) {
    let db = &work.store.db;
    assert_eq!(db.statistics().views, 0, "a view has leaked");
    db.flush().unwrap();
    wait_for_jobs(db);
    let figures = figures::look(&work);
    let segments = figures[figures::SEGMENTS];
    assert_eq!(files(&work.folders.store(), ".tmp"), 0);
    assert!(
        figures[figures::HANDLES] <= segments + HANDLES_BEYOND_SEGMENTS,
        "{} handles for {segments} segments",
        figures[figures::HANDLES]
    );
    let archived = db.archive_now().map_or(0, |index| index.0);
    say(&figures::line("figures", &figures));
    let statistics = db.statistics();
    assert_eq!(statistics.latched, None);
    assert_eq!(statistics.background_failure, None);
    assert_eq!(statistics.backup_failure, None);
    say(&figures::line("done", &[archived, statistics.last_index.0]));
    work.store.db.close().unwrap();
    // The listener waits for a parent that waits for this process.
    std::process::exit(0);
}

/// Log files with their identifiers, the manifest's copies, the lock, the archive's, what the harness has.
const HANDLES_BEYOND_SEGMENTS: u64 = 40;

/// Until flushes and compactions have nothing left to do, and no segment file is there that nobody needs.
fn wait_for_jobs(db: &Db) {
    let mut before = None;
    let mut superfluous = 0;
    for _ in 0..240 {
        let statistics = db.statistics();
        let activity = statistics.activity;
        let now = (activity.flushes, activity.compactions, activity.moves);
        let levels = statistics.keyspaces.iter().flat_map(|k| &k.level_segments);
        superfluous = files(db.path(), ".segment").abs_diff(levels.sum::<usize>());
        let idle = statistics.generations_waiting == 0 && statistics.superseded_bytes == 0;
        if idle && superfluous == 0 && before == Some(now) {
            return;
        }
        before = Some(now);
        std::thread::park_timeout(Duration::from_millis(500));
    }
    let statistics = db.statistics();
    panic!("after two minutes: {superfluous} segment files that nobody needs; {statistics:?}");
}

/// A whole run, seen from the parent.
struct Run {
    size: Size,
    seed: u64,
    folders: Folders,
    clock: SystemClock,
    model: Model,
    samples: Samples,
    told: Progress,
    compared: Compared,
    /// The most that any comparison went over.
    most_bytes: u64,
    phase: u64,
}

impl Run {
    fn new(folder: &Path) -> Self {
        let size = Size::chosen();
        let seed = std::env::var("KINTSU_SEED").ok();
        let seed = seed.map_or(1, |text| text.parse().unwrap());
        println!("soak: seed {seed}, {size:?}");
        Self {
            size,
            seed,
            folders: Folders::new(folder),
            clock: SystemClock::new(),
            model: Model::new(size, seed),
            samples: Samples::default(),
            told: [0; WRITERS],
            compared: Compared::default(),
            most_bytes: 0,
            phase: 0,
        }
    }

    /// With an archive or without one: they take turns.
    fn is_archived(&self) -> bool {
        self.phase % 2 == 1
    }

    /// Whether this phase has had its share.
    fn is_over(&self, begun: Duration) -> bool {
        match self.size.seconds {
            Some(seconds) => {
                let share = Duration::from_secs(seconds) / self.size.phases as u32;
                self.clock.elapsed() - begun >= share
            }
            None => {
                let share = self.size.operations / self.size.phases;
                self.told.iter().sum::<u64>() >= share * (self.phase + 1)
            }
        }
    }

    fn hear(&mut self, line: &str) {
        if let Some(ack) = numbers(line, "ack") {
            let told = &mut self.told[ack[0] as usize];
            *told = ack[1].max(*told);
        } else if let Some(figures) = numbers(line, "figures") {
            let figures: Figures = figures.try_into().unwrap();
            self.samples.add(self.phase, figures);
        }
    }

    /// Lets a child work, and kills it in the middle of it.
    fn run_and_kill(&mut self) {
        let mut child = self.start();
        let begun = self.clock.elapsed();
        while !self.is_over(begun) {
            let line = child.next_line().expect("the child has died");
            self.hear(&line);
        }
        for line in child.kill() {
            self.hear(&line);
        }
    }

    /// Lets a child work to a good end. Returns the last record, and the last one archived.
    fn run_and_stop(&mut self) -> (u64, u64) {
        let mut child = self.start();
        let begun = self.clock.elapsed();
        let mut stopped = false;
        loop {
            let line = child.next_line().expect("the child has died");
            self.hear(&line);
            if let Some(done) = numbers(&line, "done") {
                child.wait();
                return (done[1], done[0]);
            }
            if !stopped && self.is_over(begun) {
                stopped = true;
                child.stop();
            }
        }
    }

    fn start(&self) -> Child {
        Child::start(self.folders.base(), self.seed, self.is_archived())
    }

    fn options(&self) -> Options {
        store::options(&self.size, &self.folders.store())
    }

    /// Everything in the store, from both ends, against the model at where the writers are.
    fn check_store(&mut self) {
        let opening = self.clock.elapsed();
        let store = Store::of(self.options().open().unwrap());
        let opened = self.clock.elapsed() - opening;
        let view = store.db.view();
        let found = store.progress(&view);
        for (writer, told) in self.told.into_iter().enumerate() {
            assert!(
                found[writer] >= told,
                "writer {writer} was told {told}, and {} is there",
                found[writer]
            );
        }
        let model = self.model.clone().advanced(found);
        self.model = model.expect("the store has gone back in time");
        self.compared = self.model.compare(&store, &view, Direction::Forward);
        self.most_bytes = self.most_bytes.max(self.compared.bytes);
        self.model.compare(&store, &view, Direction::Backward);
        drop(view);
        let report = store.db.recovery_report();
        println!(
            "phase {}: operations {found:?}; open took {} ms, {} records replayed, {} torn bytes; \
             {} keys of {} MiB compared",
            self.phase,
            opened.as_millis(),
            report.records_replayed,
            report.torn_bytes,
            self.compared.keys,
            self.compared.bytes >> 20
        );
        store.db.close().unwrap();
    }

    /// A copy of the store is what the store was at some moment, named by its own counters.
    fn check_copy(&self, what: &str, path: &Path, before: &Model) -> Progress {
        let options = store::options(&self.size, path).read_only(true);
        let store = Store::of(options.open().unwrap());
        let view = store.db.view();
        let found = store.progress(&view);
        let compared = before.at(found).compare(&store, &view, Direction::Forward);
        println!("{what}: operations {found:?}, {} keys", compared.keys);
        found
    }

    fn check_snapshots(&self, before: &Model) {
        for path in self.folders.all_snapshots() {
            let found = self.check_copy("snapshot", &path, before);
            let now = self.model.progress();
            assert!(found.iter().zip(now).all(|(found, now)| *found <= now));
        }
    }

    fn restore(&self, before: &Model) -> Option<Progress> {
        let repository = Repository::new(self.folders.repository());
        if repository.backups().map_or(0, |all| all.len()) == 0 {
            return None;
        }
        let path = self.folders.restored();
        let target = store::options(&self.size, &path);
        let report = repository.restore(target, RestorePoint::Newest).unwrap();
        assert!(report.skipped.is_empty(), "{:?}", report.skipped);
        let found = self.check_copy("restored", &path, before);
        std::fs::remove_dir_all(path).unwrap();
        Some(found)
    }

    /// What a killed child's next one cleans up must not lie about in the end; what is left is little
    /// more than it has to be.
    fn check_space(&self) {
        let path = self.folders.store();
        let disk = disk_bytes(&path);
        let db = self.options().open().unwrap();
        let before = segment_bytes(&db);
        for name in db.keyspaces() {
            db.keyspace(&name).unwrap().compact_range(..).unwrap();
        }
        wait_for_jobs(&db);
        let least = segment_bytes(&db);
        let log = db.statistics().log_bytes;
        db.close().unwrap();
        println!(
            "space: {} MiB on the disk; segments {} KiB, {} KiB when compacted by hand; log {} KiB",
            disk >> 20,
            before >> 10,
            least >> 10,
            log >> 10
        );
        assert!(before <= least + least / 2 + (1 << 20), "too much is kept");
        let log_max = 8 * self.size.write_buffer_bytes as u64;
        assert!(disk <= before + log_max + (2 << 20), "{disk} bytes on disk");
    }

    fn check_figures(&self) {
        let buffers = 3 * self.size.write_buffer_bytes as u64;
        let cache = self.samples.max(figures::CACHE);
        assert!(
            cache <= self.size.cache_bytes,
            "the cache holds {cache} bytes"
        );
        let peak = self.samples.max(figures::PEAK);
        let budget = cache + buffers + self.samples.max(figures::TABLES) + MEMORY_BEYOND;
        assert!(peak <= budget, "{} MiB of memory", peak >> 20);
        let disk = self.samples.max(figures::STORE);
        let disk_max = 2 * self.most_bytes + 64 * self.size.write_buffer_bytes as u64;
        assert!(disk <= disk_max, "{} MiB on the disk", disk >> 20);
    }
}

/// Threads, compressors, what an allocator keeps, the model of the child itself.
const MEMORY_BEYOND: u64 = 128 << 20;

fn segment_bytes(db: &Db) -> u64 {
    let keyspaces = db.statistics().keyspaces;
    let bytes = |keyspace: &KeyspaceStatistics| keyspace.level_bytes.iter().sum::<u64>();
    keyspaces.iter().map(bytes).sum()
}

#[test]
fn soak_campaign() {
    let folder = match std::env::var_os("KINTSU_SOAK_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let mut run = Run::new(folder.path());
    for phase in 0..run.size.phases {
        run.phase = phase;
        let before = run.model.clone();
        let is_last = phase + 1 == run.size.phases;
        let done = match is_last {
            true => Some(run.run_and_stop()),
            false => {
                run.run_and_kill();
                None
            }
        };
        run.check_store();
        run.check_snapshots(&before);
        let restored = run.restore(&before);
        if let Some((last, archived)) = done {
            assert_eq!(archived, last, "the archive isn't complete");
            assert_eq!(restored, Some(run.model.progress()));
        }
    }
    run.check_space();
    let report = kintsu::verify(run.options(), |_| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert!(report.foreign_files.is_empty(), "{report:?}");
    run.samples.show(20);
    run.check_figures();
    println!(
        "soak: {} operations in {} s, {} keys at the end",
        run.model.progress().iter().sum::<u64>(),
        run.clock.elapsed().as_secs(),
        run.compared.keys
    );
}
