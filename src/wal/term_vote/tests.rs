use super::*;
use crate::vfs::{Fault, FaultKind, FaultVfs, MemoryVfs, TearUnit};

const STORE: StoreId = StoreId(0x5107e);

fn open_on(vfs: Arc<dyn Vfs>, log_term: u64) -> Result<TermVote> {
    TermVote::open(vfs, "/log", STORE, Term(log_term), LogAccess::ReadWrite)
}

fn open(vfs: &MemoryVfs, log_term: u64) -> Result<TermVote> {
    open_on(Arc::new(vfs.clone()), log_term)
}

fn disk() -> MemoryVfs {
    let vfs = MemoryVfs::new();
    vfs.create_dir_all(Path::new("/log")).unwrap();
    vfs
}

fn vote(term: u64, candidate: u64) -> Vote {
    Vote {
        term: Term(term),
        candidate: (candidate > 0).then_some(candidate),
    }
}

/// Votes and new terms, in the order in which they may come.
const HISTORY: [(u64, u64); 6] = [(1, 0), (1, 3), (2, 1), (4, 0), (4, 2), (9, 7)];

#[test]
fn what_is_stored_is_there_after_reopening() {
    let vfs = disk();
    assert_eq!(open(&vfs, 0).unwrap().get(), Vote::default());
    for (term, candidate) in HISTORY {
        let votes = open(&vfs, 0).unwrap();
        votes.store(vote(term, candidate)).unwrap();
        assert_eq!(votes.get(), vote(term, candidate));
        let crashed = vfs.crash(term, TearUnit::Page);
        assert_eq!(open(&crashed, 0).unwrap().get(), vote(term, candidate));
    }
}

#[test]
fn terms_never_go_back_and_votes_never_change() {
    let vfs = disk();
    let votes = open(&vfs, 0).unwrap();
    votes.store(vote(5, 2)).unwrap();
    for wrong in [vote(4, 2), vote(5, 3), vote(5, 0)] {
        assert!(matches!(votes.store(wrong), Err(Error::LogOrder { .. })));
    }
    votes.store(vote(5, 2)).unwrap();
    votes.store(vote(6, 0)).unwrap();
    votes.store(vote(6, 3)).unwrap();
}

#[test]
fn at_every_crash_point_it_is_the_last_answer_or_the_one_asked_for() {
    let mut crashes = 0;
    for k in 0.. {
        let memory = disk();
        let vfs = FaultVfs::on_memory(&memory);
        vfs.crash_after_changes(k);
        let (mut answered, mut asked) = (Vote::default(), Vote::default());
        let mut run = || -> Result<()> {
            let votes = open_on(Arc::new(vfs.clone()), 0)?;
            for (term, candidate) in HISTORY {
                asked = vote(term, candidate);
                votes.store(asked)?;
                answered = asked;
            }
            Ok(())
        };
        let done = run().is_ok();
        for seed in 0..40 {
            for unit in [TearUnit::Sector, TearUnit::Page] {
                let disk = memory.crash(seed, unit);
                let found = open(&disk, 0).unwrap().get();
                assert!(found == answered || found == asked, "{k} {seed}: {found:?}");
                assert!(open(&disk, answered.term.0).is_ok());
                // And once more, with a crash in the middle of mending.
                let again = FaultVfs::on_memory(&disk);
                again.crash_after_changes(seed % 8);
                let votes = open_on(Arc::new(again.clone()), 0);
                let stored = votes.and_then(|votes| votes.store(vote(50, 1)));
                let found_again = open(&disk.crash(seed, unit), 0).unwrap().get();
                assert!(found_again == vote(50, 1) || (stored.is_err() && found_again == found));
                crashes += 1;
            }
        }
        if done {
            break;
        }
    }
    assert!(crashes > 2_000, "{crashes}");
}

#[test]
fn every_failing_operation_leaves_an_answer_that_was_asked_for() {
    for kind in [
        FaultKind::Io,
        FaultKind::NoSpace,
        FaultKind::ShortWrite,
        FaultKind::IoAfter,
    ] {
        for once in [true, false] {
            for n in 1.. {
                let memory = disk();
                let vfs = FaultVfs::on_memory(&memory);
                vfs.inject(match once {
                    true => Fault::once(n, kind),
                    false => Fault::for_good(n, kind),
                });
                let (mut answered, mut asked) = (Vote::default(), Vote::default());
                if let Ok(votes) = open_on(Arc::new(vfs.clone()), 0) {
                    for (term, candidate) in HISTORY {
                        asked = vote(term, candidate);
                        if votes.store(asked).is_err() {
                            break;
                        }
                        answered = asked;
                    }
                }
                for disk in [memory.crash(n, TearUnit::Page), memory.kill()] {
                    let found = open(&disk, 0).unwrap().get();
                    assert!(
                        found == answered || found == asked,
                        "{n} {kind:?}: {found:?}"
                    );
                }
                if vfs.faults_hit() == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn one_copy_suffices_and_none_is_lost() {
    let vfs = disk();
    open(&vfs, 0).unwrap().store(vote(5, 2)).unwrap();
    for name in ["/log/vote.a", "/log/vote.b"] {
        for byte in 0..4096 {
            let damaged = vfs.fork();
            assert!(damaged.flip_bit(name, byte, (byte % 8) as u8));
            assert_eq!(open(&damaged, 5).unwrap().get(), vote(5, 2));
        }
        for cut in [0, 1, 100, 4095] {
            let damaged = vfs.fork();
            assert!(damaged.truncate_file(name, cut));
            assert_eq!(open(&damaged, 5).unwrap().get(), vote(5, 2));
        }
        let gone = vfs.fork();
        assert!(gone.remove_file(name));
        let votes = open(&gone, 5).unwrap();
        assert_eq!(votes.get(), vote(5, 2));
        // Storing the same mends the other copy.
        votes.store(vote(5, 2)).unwrap();
        assert_eq!(gone.read_file(name), vfs.read_file(name));
    }
    let both = vfs.fork();
    assert!(both.flip_bit("/log/vote.a", 50, 1) && both.flip_bit("/log/vote.b", 50, 1));
    assert!(matches!(open(&both, 0), Err(Error::VoteLost { .. })));
}

#[test]
fn rolled_back_missing_swapped_and_foreign_copies_are_refused() {
    let vfs = disk();
    open(&vfs, 0).unwrap().store(vote(5, 2)).unwrap();
    assert!(matches!(open(&vfs, 6), Err(Error::VoteLost { .. })));
    assert!(matches!(open(&disk(), 1), Err(Error::VoteLost { .. })));
    let copied = vfs.fork();
    let a = copied.read_file("/log/vote.a").unwrap();
    assert!(copied.write_file("/log/vote.b", &a));
    assert!(copied.remove_file("/log/vote.a"));
    assert!(matches!(open(&copied, 0), Err(Error::VoteLost { .. })));
    let other = TermVote::open(
        Arc::new(vfs.clone()),
        "/log",
        StoreId(9),
        Term(0),
        LogAccess::ReadOnly,
    );
    assert!(matches!(other, Err(Error::ForeignFile { .. })));
}

#[test]
fn a_failed_sync_is_final() {
    let memory = disk();
    let vfs = FaultVfs::on_memory(&memory);
    let votes = open_on(Arc::new(vfs.clone()), 0).unwrap();
    votes.store(vote(1, 1)).unwrap();
    vfs.inject(Fault::once(1, FaultKind::Io).only(&[crate::vfs::OperationKind::SyncData]));
    assert!(matches!(
        votes.store(vote(2, 1)),
        Err(Error::OutcomeUnknown { .. })
    ));
    assert!(matches!(
        votes.store(vote(3, 1)),
        Err(Error::Poisoned { .. })
    ));
    assert_eq!(votes.get(), vote(1, 1));
    let read_only = TermVote::open(
        Arc::new(memory.crash(1, TearUnit::Page)),
        "/log",
        STORE,
        Term(0),
        LogAccess::ReadOnly,
    );
    let read_only = read_only.unwrap();
    assert_eq!(read_only.get().term, Term(1));
    assert!(matches!(read_only.store(vote(3, 1)), Err(Error::ReadOnly)));
}
