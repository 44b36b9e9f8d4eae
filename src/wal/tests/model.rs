//! Random appends, supersessions, truncations, purges, crashes and reopenings against a plain model.

use proptest::prelude::*;

use super::history::History;
use super::*;
use crate::vfs::TearUnit;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>, Durability),
    Supersede(u64, usize),
    Truncate(u64),
    Sync,
    Identifiers,
    Prepare,
    Purge(u64),
    Reopen,
    Close,
    Crash(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || prop_oneof![20..200usize, 1_000..6_000usize, Just(30_000)];
    let durability = prop_oneof![
        Just(Durability::Buffered),
        Just(Durability::Process),
        Just(Durability::Disk)
    ];
    let step = prop_oneof![
        8 => (prop::collection::vec(bytes(), 1..4), durability)
            .prop_map(|(bytes, durability)| Step::Append(bytes, durability)),
        2 => (0..5u64, bytes()).prop_map(|(back, bytes)| Step::Supersede(back, bytes)),
        1 => (0..5u64).prop_map(Step::Truncate),
        4 => Just(Step::Sync),
        2 => Just(Step::Identifiers),
        1 => Just(Step::Prepare),
        1 => (0..20u64).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, page)| Step::Crash(seed, page)),
    ];
    prop::collection::vec(step, 1..40)
}

fn run(steps: Vec<Step>, delay: Duration) -> Result<()> {
    let mut disk = MemoryVfs::new();
    let mut history = History::new();
    let mut opened = 0;
    let mut reopen = |disk: &MemoryVfs| {
        opened += 1;
        let mut setup = setup_on(Arc::new(disk.clone()), opened);
        setup.options.identifier_delay = delay;
        Log::open(setup).unwrap()
    };
    let mut log = reopen(&disk).0;
    for step in steps {
        match step {
            Step::Append(bytes, durability) => {
                let next = log.last_index().0 + 1;
                history.append(&log, next, &bytes, durability)?;
            }
            Step::Supersede(back, bytes) => {
                let last = log.last_index().0;
                let index = (last + 1).saturating_sub(back).max(log.first_index().0);
                history.append(&log, index, &[bytes], Durability::Disk)?;
            }
            Step::Truncate(back) => {
                let index = log.last_index().0.saturating_sub(back);
                if index >= log.first_index().0 && back > 0 {
                    history.truncate(&log, index)?;
                }
            }
            Step::Sync => history.sync(&log)?,
            Step::Identifiers => drop(log.step_identifiers()?),
            Step::Prepare => drop(log.step_prepare()?),
            Step::Purge(back) => {
                let index = log.last_index().0.saturating_sub(back);
                history.purge(&log, index)?;
            }
            Step::Reopen | Step::Close | Step::Crash(..) => {
                if let Step::Close = step {
                    log.close()?;
                    history.acknowledged = history.now();
                    assert!(append(&log, log.last_index().0 + 1, 1, Durability::Disk).is_err());
                }
                drop(log);
                disk = match step {
                    Step::Crash(seed, true) => disk.crash(seed, TearUnit::Page),
                    Step::Crash(seed, false) => disk.crash(seed, TearUnit::Sector),
                    _ => disk.kill(),
                };
                let report;
                (log, report) = reopen(&disk);
                assert_eq!(report.damage, []);
                history.check(&log, "reopened");
            }
        }
        let (first, last) = (log.first_index().0, log.last_index().0);
        assert!(first <= last + 1);
    }
    history.acknowledged = history.now();
    history.check(&log, "at the end");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_its_history(steps in steps()) {
        run(steps, Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn with_identifiers_before_the_acknowledgement_too(steps in steps()) {
        run(steps, Duration::ZERO).unwrap();
    }
}
