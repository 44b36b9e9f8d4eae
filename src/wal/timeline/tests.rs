use proptest::prelude::*;

use super::*;

/// What is to be remembered, told in the plainest way.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Position and index of the records that count, in order.
    live: Vec<(u64, u64)>,
    all: Vec<(u64, u64)>,
    first: u64,
    last: u64,
    begun: bool,
}

impl Model {
    fn record(&mut self, mark: &Mark) {
        let Some(Index(from)) = mark.supersedes() else {
            return;
        };
        if self.begun && from > self.last + 1 {
            self.live.clear();
            self.first = from;
        }
        if !self.begun {
            self.first = from;
        }
        self.begun = true;
        self.live.retain(|&(_, index)| index < from);
        self.first = self.first.min(from);
        self.last = mark.index.0;
        if mark.kind != RecordKind::Truncate {
            self.live.push((mark.lsn.0, mark.index.0));
            self.all.push((mark.lsn.0, mark.index.0));
        }
    }
}

/// Steps of a log: how the index moves, how long the record is.
fn marks() -> impl Strategy<Value = Vec<Mark>> {
    let step = (0..100u32, 0..6u64, 40..30_000u64);
    prop::collection::vec(step, 1..120).prop_map(|steps| {
        // Nothing below the last gap is superseded: the writer refuses that.
        let (mut lsn, mut last, mut first) = (4096, 5u64, 1u64);
        let mut marks = Vec::new();
        for (what, back, bytes) in steps {
            let (kind, index) = match what {
                0..70 => (RecordKind::Batch, last + 1),
                70..85 => (RecordKind::Noop, (last + 1).saturating_sub(back).max(first)),
                85..93 => (
                    RecordKind::Truncate,
                    last.saturating_sub(back).max(first - 1),
                ),
                93..97 => (RecordKind::End, last),
                _ => (RecordKind::Batch, last + 2 + back),
            };
            if kind == RecordKind::Batch && index > last + 1 {
                first = index;
            }
            if kind != RecordKind::End {
                last = index;
            }
            marks.push(Mark {
                lsn: Lsn(lsn),
                kind,
                index: Index(index),
                term: Term(1),
                time_us: lsn,
            });
            lsn += bytes;
        }
        marks
    })
}

fn check(timeline: &Timeline, model: &Model) {
    assert_eq!(timeline.begun(), model.begun);
    if !model.begun {
        return;
    }
    assert_eq!(timeline.last().0, model.last);
    assert_eq!(timeline.first().0, model.first, "{timeline:?}\n{model:?}");
    for &(lsn, index) in &model.all {
        // Below the first nothing is promised: readers don't go there.
        if index >= model.first {
            let counts = model.live.contains(&(lsn, index));
            assert_eq!(
                timeline.counts(Lsn(lsn), Index(index)),
                counts,
                "{lsn} {index}"
            );
        }
    }
    for &(lsn, index) in &model.live {
        let start = timeline.start_for(Index(index));
        assert!(
            start.is_none_or(|start| start.0 <= lsn),
            "reading for {index} misses it"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_remembers_what_counts(marks in marks()) {
        let (mut timeline, mut model) = (Timeline::default(), Model::default());
        for mark in &marks {
            timeline.record(mark);
            model.record(mark);
            check(&timeline, &model);
        }
    }

    #[test]
    fn stretches_join_to_the_whole(marks in marks(), cuts in prop::collection::vec(0..120usize, 0..6)) {
        let (mut whole, mut model) = (Timeline::default(), Model::default());
        for mark in &marks {
            whole.record(mark);
            model.record(mark);
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(marks.len())).collect();
        cuts.sort_unstable();
        cuts.push(marks.len());
        let (mut joined, mut from) = (Timeline::default(), 0);
        for cut in cuts {
            let mut stretch = Timeline::default();
            marks[from..cut].iter().for_each(|mark| stretch.record(mark));
            joined.join(stretch);
            from = cut;
        }
        check(&joined, &model);
        assert_eq!(joined.last_term(), whole.last_term());
        assert_eq!(joined.last_time_us(), whole.last_time_us());
    }
}

fn mark(lsn: u64, index: u64) -> Mark {
    Mark {
        lsn: Lsn(lsn),
        kind: RecordKind::Batch,
        index: Index(index),
        term: Term(1),
        time_us: 0,
    }
}

#[test]
fn a_hole_sets_what_follows_apart() {
    let mut timeline = Timeline::default();
    for index in 1..=5 {
        timeline.record(&mark(index * 100_000, index));
    }
    timeline.hole();
    assert_eq!(timeline.first(), Index(1));
    timeline.record(&mark(600_000, 6));
    assert_eq!(timeline.first(), Index(6));
    timeline.record(&mark(700_000, 7));
    assert_eq!(timeline.first(), Index(6));
    assert_eq!(timeline.start_for(Index(7)), Some(Lsn(700_000)));
    timeline.lost(&mark(800_000, 8));
    assert_eq!((timeline.first(), timeline.last()), (Index(9), Index(8)));

    let mut before = Timeline::default();
    before.record(&mark(1, 1));
    before.hole();
    let mut after = Timeline::default();
    after.record(&mark(2, 2));
    before.join(after);
    assert_eq!(before.first(), Index(2));
}

#[test]
fn it_forgets_what_was_purged() {
    let mut timeline = Timeline::default();
    for index in 1..=20 {
        timeline.record(&mark(index * 100_000, index));
    }
    timeline.record(&mark(2_100_000, 15));
    assert_eq!(
        timeline.top_before(Lsn(1_850_000), Index(18), Lsn(9_000_000)),
        Index(14)
    );
    assert_eq!(
        timeline.top_before(Lsn(1_050_000), Index(10), Lsn(9_000_000)),
        Index(10)
    );
    // Superseded, but not durably.
    let top = timeline.top_before(Lsn(1_850_000), Index(18), Lsn(2_100_000));
    assert_eq!(top, Index(18));
    timeline.forget_before(Lsn(1_050_000), Index(11));
    assert_eq!(timeline.first(), Index(11));
    assert_eq!(timeline.start_for(Index(10)), None);
    assert_eq!(timeline.start_for(Index(11)), Some(Lsn(1_100_000)));
    assert!(!timeline.counts(Lsn(1_600_000), Index(16)));
    assert!(timeline.counts(Lsn(1_400_000), Index(14)));
}
