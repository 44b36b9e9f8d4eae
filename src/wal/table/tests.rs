use super::*;

const RECORDS: [RecordState; 2] = [RecordState::Good, RecordState::Bad];
const IDENTIFIERS: [IdentifierState; 4] = [
    IdentifierState::Agrees,
    IdentifierState::Disagrees,
    IdentifierState::None,
    IdentifierState::Lost,
];

fn every_case() -> impl Iterator<Item = (RecordState, IdentifierState, Surroundings)> {
    let around = (0..8).map(|bits| Surroundings {
        covered: bits & 1 != 0,
        finished: bits & 2 != 0,
        followed: bits & 4 != 0,
    });
    RECORDS.into_iter().flat_map(move |record| {
        let around = around.clone();
        IDENTIFIERS.into_iter().flat_map(move |identifier| {
            around
                .clone()
                .map(move |around| (record, identifier, around))
        })
    })
}

#[test]
fn every_combination_of_conditions_has_exactly_one_row() {
    let mut used = [0; TABLE.len()];
    let mut cases = 0;
    for (record, identifier, around) in every_case() {
        let rows: Vec<usize> = (0..TABLE.len())
            .filter(|&row| TABLE[row].applies(record, identifier, around))
            .collect();
        assert_eq!(
            rows.len(),
            1,
            "{record:?} {identifier:?} {around:?}: {rows:?}"
        );
        used[rows[0]] += 1;
        cases += 1;
    }
    assert_eq!(cases, 64);
    assert!(used.iter().all(|&count| count > 0), "an idle row: {used:?}");
}

/// The table again, in the words of the rules, not in rows.
#[test]
fn every_verdict_is_the_one_that_the_rules_ask_for() {
    for (record, identifier, around) in every_case() {
        let proof = around.covered || around.finished;
        let wanted = if record == RecordState::Good {
            match identifier {
                IdentifierState::Agrees => Verdict::Keep,
                IdentifierState::Disagrees => Verdict::Misplaced,
                IdentifierState::None | IdentifierState::Lost => Verdict::KeepAndIdentify,
            }
        } else if matches!(
            identifier,
            IdentifierState::Agrees | IdentifierState::Disagrees
        ) {
            Verdict::Corrupt
        } else if identifier == IdentifierState::Lost {
            Verdict::Unknown
        } else if proof {
            Verdict::LostGroup
        } else {
            Verdict::Torn
        };
        let found = verdict(record, identifier, around);
        assert_eq!(found, wanted, "{record:?} {identifier:?} {around:?}");
        if found == Verdict::Torn {
            assert!(!proof, "what was once durable is never called torn");
        }
    }
}
