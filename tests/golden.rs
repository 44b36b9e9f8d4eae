//! Golden scripts: each change of the disk that an operation of the store makes, in order, so that a
//! lost sync shows as a difference. `KINTSU_BLESS=1` writes them anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use kintsu::testing::TearUnit;
use kintsu::{Db, Durability, Job, Options, WriteBatch};

use support::store::Machine;

/// A store, and what has been written down of it.
struct Script {
    machine: Machine,
    db: Option<Db>,
    tune: fn(Options) -> Options,
    text: String,
}

impl Script {
    /// Begins with a new store; its creation isn't written down.
    fn new() -> Self {
        let mut script = Self::blank(|options| options);
        script.open();
        let _ = script.machine.faults.take_script();
        script
    }

    fn blank(tune: fn(Options) -> Options) -> Self {
        let machine = Machine::new(5);
        machine.faults.record_changes();
        Self {
            machine,
            db: None,
            tune,
            text: String::new(),
        }
    }

    fn open(&mut self) {
        self.db = Some((self.tune)(self.machine.options()).open().unwrap());
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Does something and writes down what the disk was asked for.
    fn show(&mut self, what: &str, act: impl FnOnce(&mut Self)) {
        let _ = self.machine.faults.take_script();
        act(self);
        writeln!(self.text, "> {what}").unwrap();
        for line in self.machine.faults.take_script() {
            writeln!(self.text, "{line}").unwrap();
        }
        writeln!(self.text).unwrap();
    }

    /// Does something that isn't written down.
    fn quietly(&mut self, act: impl FnOnce(&mut Self)) {
        act(self);
        let _ = self.machine.faults.take_script();
    }

    fn put(&self, key: &str, bytes: usize, durability: Durability) {
        let mut batch = WriteBatch::new();
        batch.put(key, vec![b'v'; bytes]);
        self.db().write_with(batch, durability).unwrap();
    }

    fn step(&self, job: Job) {
        while self.db().step(job).unwrap() {}
    }

    fn sync_identifiers(&self) {
        self.machine.clock.advance(Duration::from_millis(20));
        self.step(Job::SyncIdentifiers);
    }

    /// Compares with the golden file of that name.
    fn compare(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
        if std::env::var_os("KINTSU_BLESS").is_some() {
            fs::write(&path, &self.text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (found, wanted) = (lines(&self.text), lines(&expected));
        let differs =
            (0..found.len().max(wanted.len())).find(|at| found.get(*at) != wanted.get(*at));
        if let Some(at) = differs {
            panic!(
                "tests/golden/{name}.txt, line {}: {:?} instead of {:?}. All of it now:\n\n{}\n\
                 KINTSU_BLESS=1 takes it over, if that is what it should be.",
                at + 1,
                found.get(at),
                wanted.get(at),
                self.text
            );
        }
        println!("golden, {name}: {} lines", found.len());
    }
}

#[test]
fn create() {
    let mut script = Script::blank(|options| options);
    script.show("create", Script::open);
    script.show("close without a write", |s| {
        s.db.take().unwrap().close().unwrap()
    });
    script.show("open again", Script::open);
    script.show("drop without a write", |s| s.db = None);
    script.compare("create");
}

#[test]
fn writes() {
    let mut script = Script::new();
    script.show("first durable put", |s| s.put("a", 10, Durability::Disk));
    script.show("second durable put", |s| s.put("b", 10, Durability::Disk));
    script.show("a durable put of three units", |s| {
        s.put("c", 9000, Durability::Disk)
    });
    script.show("identifiers, 20 ms later", |s| s.sync_identifiers());
    script.show("a buffered put", |s| s.put("d", 10, Durability::Buffered));
    script.show("sync", |s| s.db().sync().unwrap());
    script.show("sync with nothing to sync", |s| s.db().sync().unwrap());
    script.show("a put for the process's death", |s| {
        s.put("e", 10, Durability::Process)
    });
    script.show("another", |s| s.put("f", 10, Durability::Process));
    script.show("a durable put after them", |s| {
        s.put("g", 10, Durability::Disk)
    });
    script.show("three writes in one group", |s| {
        let write = |key: &str, durability| {
            let mut batch = WriteBatch::new();
            batch.put(key, "v");
            s.db().submit(batch, durability).unwrap()
        };
        let tickets = [
            write("h", Durability::Buffered),
            write("i", Durability::Disk),
            write("j", Durability::Process),
        ];
        s.step(Job::Commit);
        assert!(tickets.iter().all(|ticket| ticket.take().unwrap().is_ok()));
    });
    script.show("drop", |s| s.db = None);
    script.compare("writes");
}

#[test]
fn identifiers_at_once() {
    let mut script = Script::blank(|options| options.identifier_delay(Duration::ZERO));
    script.quietly(Script::open);
    script.show("first durable put", |s| s.put("a", 10, Durability::Disk));
    script.show("second durable put", |s| s.put("b", 10, Durability::Disk));
    script.compare("identifiers_at_once");
}

#[test]
fn rotation() {
    let mut script = Script::new();
    script.quietly(|s| s.put("a", 30_000, Durability::Disk));
    script.show("prepare the next log file", |s| s.step(Job::PrepareLog));
    script.quietly(|s| s.put("b", 20_000, Durability::Disk));
    script.show("a durable put that doesn't fit", |s| {
        s.put("c", 20_000, Durability::Disk)
    });
    script.show("identifiers, 20 ms later", |s| s.sync_identifiers());
    script.quietly(|s| s.put("d", 20_000, Durability::Disk));
    script.show("one that doesn't fit, and nothing is prepared", |s| {
        s.put("e", 30_000, Durability::Disk);
    });
    script.show("one that is larger than a log file", |s| {
        s.put("f", 70_000, Durability::Disk)
    });
    script.compare("rotation");
}

#[test]
fn flush_and_compaction() {
    let mut script = Script::new();
    script.quietly(|s| s.put("a", 500, Durability::Disk));
    script.show("flush", |s| s.db().flush().unwrap());
    script.show("flush with nothing to flush", |s| s.db().flush().unwrap());
    script.quietly(|s| s.put("b", 500, Durability::Buffered));
    script.show("flush of what isn't synced yet", |s| {
        s.db().flush().unwrap()
    });
    script.show("compaction that moves segments as they are", |s| {
        s.step(Job::Compact)
    });
    script.quietly(|s| {
        s.put("a", 400, Durability::Disk);
        s.db().flush().unwrap();
        s.put("b", 300, Durability::Disk);
        s.db().flush().unwrap();
    });
    script.show("compaction that merges", |s| s.step(Job::Compact));
    script.show("reclaim", |s| s.step(Job::Reclaim));
    script.quietly(|s| {
        for _ in 0..4 {
            s.put("c", 20_000, Durability::Disk);
        }
    });
    script.show("flush that lets log files go", |s| s.db().flush().unwrap());
    script.compare("flush_and_compaction");
}

#[test]
fn keyspaces() {
    let mut script = Script::new();
    script.show("create a keyspace", |s| {
        drop(s.db().create_keyspace("users").unwrap())
    });
    script.show("a durable batch over two keyspaces", |s| {
        let users = s.db().keyspace("users").unwrap();
        let mut batch = WriteBatch::new();
        batch.put("a", "1").put_in(&users, "b", "2");
        s.db().write(batch).unwrap();
    });
    script.show("flush", |s| s.db().flush().unwrap());
    script.show("drop the keyspace", |s| {
        s.db().drop_keyspace("users").unwrap()
    });
    script.show("flush after the drop", |s| s.db().flush().unwrap());
    script.show("reclaim", |s| s.step(Job::Reclaim));
    script.compare("keyspaces");
}

#[test]
fn close_and_reopen() {
    let mut script = Script::new();
    script.quietly(|s| s.put("a", 10, Durability::Disk));
    script.quietly(|s| s.put("b", 10, Durability::Buffered));
    script.show("close", |s| s.db.take().unwrap().close().unwrap());
    script.show("open", Script::open);
    script.show("first durable put", |s| s.put("c", 10, Durability::Disk));
    script.show("second durable put", |s| s.put("d", 10, Durability::Disk));
    script.show("drop", |s| s.db = None);
    script.show("open", Script::open);
    script.show("first durable put", |s| s.put("e", 10, Durability::Disk));
    script.compare("close_and_reopen");
}

/// Loses power such that a write is torn.
fn tear(script: &mut Script) {
    script.put("torn", 9000, Durability::Process);
    for seed in 0.. {
        let disk = script.machine.memory.crash(seed, TearUnit::Sector);
        let machine = script.machine.rebooted(disk.fork());
        if machine
            .options()
            .read_only(true)
            .open()
            .unwrap()
            .recovery_report()
            .torn_bytes
            > 0
        {
            script.db = None;
            script.machine = script.machine.rebooted(disk);
            script.machine.faults.record_changes();
            return;
        }
    }
}

#[test]
fn torn_tail() {
    let mut script = Script::new();
    script.quietly(|s| s.put("a", 10, Durability::Disk));
    script.quietly(|s| s.put("b", 10, Durability::Disk));
    script.quietly(tear);
    script.show("open after a torn write", Script::open);
    assert!(script.db().recovery_report().torn_bytes > 0);
    assert_eq!(script.db().last_index().0, 2);
    script.show("first durable put", |s| s.put("c", 10, Durability::Disk));
    script.show("second durable put", |s| s.put("d", 10, Durability::Disk));
    script.show("identifiers, 20 ms later", |s| s.sync_identifiers());
    script.show("flush", |s| s.db().flush().unwrap());
    script.compare("torn_tail");
}
