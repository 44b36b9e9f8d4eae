use super::*;

const FILE: FileId = FileId(77);
const START: Lsn = Lsn(4096);

/// Records of varied length, with gaps of padding, terms and indexes that go back now and then.
fn records(count: u64) -> Vec<Identifier> {
    let mut lsn = START.0;
    let mut index = 0;
    (0..count)
        .map(|at| {
            if at % 7 == 3 {
                lsn = lsn.next_multiple_of(4096);
            }
            index = if at % 50 == 49 { index - 20 } else { index + 1 };
            let one = Identifier {
                lsn: Lsn(lsn),
                bytes: 40 + at * 13 % 500,
                kind: RecordKind::ALL[at as usize % 6],
                index: Index(index),
                term: Term(at / 50),
                checksum: at.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            lsn += one.bytes;
            one
        })
        .collect()
}

/// A file's bytes: an empty header unit, then the steps.
fn file(steps: &[(&[Identifier], Option<Lsn>)]) -> Vec<u8> {
    let mut bytes = vec![0; UNIT];
    let mut first = START;
    for (identifiers, seal) in steps {
        let offset = bytes.len() as u64;
        let (units, end) = encode_units(FILE, offset, first, identifiers, *seal);
        assert_eq!(units.len() % UNIT, 0);
        bytes.extend_from_slice(&units);
        first = end;
    }
    bytes
}

#[test]
fn units_list_what_was_given_and_say_what_they_answer_for() {
    let all = records(1_000);
    let end = Lsn(all.last().unwrap().end().0 + 10);
    let bytes = file(&[
        (&all[..1], None),
        (&all[1..600], None),
        (&all[600..], Some(end)),
    ]);
    let mut table = IdentifierTable::new(FILE, START, bytes);
    assert_eq!(table.end(), end);
    assert_eq!(table.sealed(), Some(end));
    assert!(table.bad_units().is_empty() && table.lost().is_empty());
    for one in &all {
        assert_eq!(table.lookup(one.lsn), Lookup::Listed(*one));
        assert_eq!(table.lookup(Lsn(one.lsn.0 + 1)), Lookup::Unlisted);
    }
    for one in all.iter().rev() {
        assert_eq!(table.lookup(one.lsn), Lookup::Listed(*one));
    }
    assert_eq!(table.lookup(end), Lookup::Beyond);
    assert_eq!(table.listed_within(START, end), all);
    let (from, to) = (all[300].lsn, all[700].lsn);
    assert_eq!(table.listed_within(from, to), &all[300..700]);
    assert_eq!(table.listed_within(Lsn(from.0 + 1), to), &all[301..700]);
    assert_eq!(table.listed_within(from, from), []);
}

#[test]
fn a_seal_alone_takes_a_unit() {
    let all = records(3);
    let end = all[2].end();
    let table = IdentifierTable::new(FILE, START, file(&[(&all, None), (&[], Some(end))]));
    assert_eq!(table.sealed(), Some(end));
    assert_eq!(table.end(), end);
    let (nothing, first) = encode_units(FILE, 4096, START, &[], None);
    assert!(nothing.is_empty());
    assert_eq!(first, START);
}

#[test]
fn extreme_values_fit() {
    let one = |lsn, bytes, index, term| Identifier {
        lsn: Lsn(lsn),
        bytes,
        kind: RecordKind::Truncate,
        index: Index(index),
        term: Term(term),
        checksum: u64::MAX,
    };
    let all: Vec<Identifier> = (0..200)
        .map(|at| {
            let (index, term) = match at % 2 {
                0 => (0, u64::MAX),
                _ => (u64::MAX, 0),
            };
            one(4096 + at * (1 << 34), u64::from(u32::MAX), index, term)
        })
        .collect();
    let mut table = IdentifierTable::new(FILE, START, file(&[(&all, None)]));
    assert_eq!(table.listed_within(START, Lsn(u64::MAX)), all);
}

#[test]
fn a_bad_unit_in_the_middle_loses_its_positions_and_a_bad_last_one_nothing() {
    let all = records(1_000);
    let good = file(&[
        (&all[..300], None),
        (&all[300..600], None),
        (&all[600..], None),
    ]);
    let units = good.len() / UNIT - 1;
    let whole = IdentifierTable::new(FILE, START, good.clone());
    for unit in 1..=units {
        for garbage in [false, true] {
            let mut bytes = good.clone();
            match garbage {
                true => bytes[unit * UNIT + 100] ^= 4,
                false => bytes[unit * UNIT..(unit + 1) * UNIT].fill(0),
            }
            let mut table = IdentifierTable::new(FILE, START, bytes);
            if unit == units {
                assert!(table.lost().is_empty());
                assert!(table.end() < whole.end());
                assert_eq!(table.bad_units().len(), usize::from(garbage));
                assert_eq!(table.lookup(all[999].lsn), Lookup::Beyond);
            } else {
                let (from, to) = table.lost()[0];
                assert_eq!(table.lost().len(), 1);
                assert_eq!(table.bad_units(), [(unit * UNIT) as u64]);
                assert_eq!(table.end(), whole.end());
                for one in &all {
                    let is_lost = from <= one.lsn && one.lsn < to;
                    let found = table.lookup(one.lsn);
                    assert_eq!(found == Lookup::Lost, is_lost, "{one:?}");
                    assert_eq!(found == Lookup::Listed(*one), !is_lost, "{one:?}");
                }
            }
        }
    }
}

#[test]
fn no_changed_unit_passes_nor_one_that_is_elsewhere() {
    let all = records(60);
    let (unit, _) = encode_units(FILE, 8192, START, &all, Some(Lsn(1 << 20)));
    assert!(matches!(decode_unit(FILE, 8192, &unit), UnitState::Good(_)));
    assert_eq!(decode_unit(FILE, 4096, &unit), UnitState::Bad);
    assert_eq!(decode_unit(FileId(78), 8192, &unit), UnitState::Bad);
    assert_eq!(decode_unit(FILE, 8192, &[0; UNIT]), UnitState::Empty);
    for cut in 1..UNIT {
        assert_eq!(decode_unit(FILE, 8192, &unit[..cut]), UnitState::Bad);
    }
    for bit in 0..UNIT * 8 {
        let mut flipped = unit.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            decode_unit(FILE, 8192, &flipped),
            UnitState::Bad,
            "bit {bit}"
        );
    }
}

/// Hostile content under a right checksum: no panic, no huge allocation.
#[test]
fn forged_units_under_a_right_checksum_are_refused_or_harmless() {
    let all = records(60);
    let (unit, _) = encode_units(FILE, 4096, START, &all, None);
    let mut seen = 0;
    for at in 8..200 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut forged = unit.clone();
            forged[at] = value;
            forged[at + 1] ^= value;
            let checksum = block_checksum(FILE, 4096, &forged[8..]);
            forged[..8].copy_from_slice(&checksum.to_le_bytes());
            if let UnitState::Good(unit) = decode_unit(FILE, 4096, &forged) {
                assert!(unit.identifiers.len() < UNIT);
                seen += 1;
            }
            let mut bytes = vec![0; UNIT];
            bytes.extend_from_slice(&forged);
            let mut table = IdentifierTable::new(FILE, START, bytes);
            for lsn in [0, 4096, 5000, u64::MAX] {
                table.lookup(Lsn(lsn));
            }
            table.listed_within(Lsn(0), Lsn(u64::MAX));
        }
    }
    assert!(seen > 0);
}
