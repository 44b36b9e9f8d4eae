//! Slots: the parity of a file that still grows.

use super::damage::Damaged;
use super::{ID, LEVELS, OTHER, content};
use crate::parity::heal::Unhealable;
use crate::parity::{GROUP_UNITS, GroupTable, Healed, SlotCoder, Slots, UNIT_BYTES, restore};
use crate::testing::Input;
use crate::types::{FileId, Parity};

const UNIT: u64 = UNIT_BYTES as u64;

/// A group of a file, and what says how it must be.
#[derive(Clone, Copy)]
struct Group {
    level: Parity,
    number: u64,
    units: usize,
    end: u64,
}

pub(super) fn run(input: &mut Input<'_>) {
    let group = Group::of(input);
    let mut coder = SlotCoder::default();
    if input.flag() {
        // One that has made another slot before.
        let other = Group {
            units: 1 + input.place(6),
            ..group
        };
        drop(other.slot(&mut coder, OTHER, 2));
    }
    let mut log = Damaged::new(group.start(), content(group.units * UNIT_BYTES, 1));
    let slots = Slots::new(group.level);
    let slot = group.slot(&mut coder, ID, 1);
    assert_eq!(slot.len() as u64, slots.slot_bytes(), "its length");
    let mut parity = Damaged::new(slots.start(group.number), slot);
    log.damage(input, || content(group.units * UNIT_BYTES, 2));
    parity.damage(input, || group.slot(&mut SlotCoder::default(), OTHER, 2));
    check(&group, &log, &parity);
}

impl Group {
    fn of(input: &mut Input<'_>) -> Self {
        let level = input.pick(&LEVELS);
        let number = input.below(5);
        let units = match input.u8() % 16 {
            0..12 => 1 + input.place(12),
            12..15 => 1 + input.place(70),
            _ => GROUP_UNITS as usize - input.place(3),
        };
        let start = number * GROUP_UNITS * UNIT;
        let end = start + units as u64 * UNIT - input.below(UNIT);
        Self {
            level,
            number,
            units,
            end,
        }
    }

    fn start(&self) -> u64 {
        self.number * GROUP_UNITS * UNIT
    }

    fn slot(&self, coder: &mut SlotCoder, id: FileId, seed: u64) -> Vec<u8> {
        let content = content(self.units * UNIT_BYTES, seed);
        let slot = coder.encode(self.level, id, self.number, &content, self.end);
        slot.expect("within the coder's limits")
    }
}

fn check(group: &Group, log: &Damaged, parity: &Damaged) {
    let slots = Slots::new(group.level);
    let mut known: Option<GroupTable> = None;
    for offset in slots.tables(group.number) {
        let from = (offset - slots.start(group.number)) as usize;
        let Some(bytes) = parity.now.get(from..from + UNIT_BYTES) else {
            continue;
        };
        let decode =
            |level, id, number, offset| GroupTable::decode(level, id, number, offset, bytes);
        let table = decode(group.level, ID, group.number, offset);
        let is_same = parity.written.get(from..from + UNIT_BYTES) == Some(bytes);
        assert_eq!(
            table.is_some(),
            is_same,
            "a table, of which that is its state"
        );
        let Some(table) = table else {
            continue;
        };
        assert_eq!(table.end(), group.end, "how far it goes");
        let elsewhere = [
            decode(group.level, ID, group.number + 1, offset),
            decode(group.level, ID, group.number, offset + UNIT),
            decode(group.level, OTHER, group.number, offset),
        ];
        assert!(elsewhere.iter().all(Option::is_none), "taken for another's");
        let is_slot = table.is_slot(ID, &parity.now);
        let slot = slots.slot_bytes() as usize;
        let begins = |bytes: &[u8]| bytes.get(..slot).map(<[u8]>::to_vec);
        if begins(&parity.now) == begins(&parity.written) {
            assert!(is_slot, "a whole slot is refused");
        } else if is_slot {
            check_rooms(group, parity);
        }
        assert!(known.as_ref().is_none_or(|known| *known == table));
        known = Some(table);
    }
    if let Some(table) = known {
        let found = restore(log, parity, &table, ID);
        assert_eq!(found, expected(group, log, parity));
    }
}

/// A slot passes with what nobody reads changed: the room of parity that a short group doesn't need.
fn check_rooms(group: &Group, parity: &Damaged) {
    let slots = Slots::new(group.level);
    for unit in 0..parity_units(group) {
        let at = slots.parity(group.number, unit) - slots.start(group.number);
        let unit = at as usize..at as usize + UNIT_BYTES;
        let (now, written) = (parity.now.get(unit.clone()), parity.written.get(unit));
        assert_eq!(now, written, "a changed slot passes");
    }
}

fn parity_units(group: &Group) -> u64 {
    (group.units as u64).min(group.level.units_per_group())
}

fn expected(group: &Group, log: &Damaged, parity: &Damaged) -> Result<Healed, Unhealable> {
    let slots = Slots::new(group.level);
    let offsets = (0..group.units as u64).map(|unit| group.start() + unit * UNIT);
    let lost: Vec<u64> = offsets.filter(|at| !log.is_good(*at..at + UNIT)).collect();
    let good = (0..parity_units(group)).filter(|unit| {
        let at = slots.parity(group.number, *unit);
        parity.is_good(at..at + UNIT)
    });
    let good = good.count() as u64;
    if lost.len() as u64 > good {
        return Err(Unhealable::TooMuch {
            lost: lost.len() as u64,
            parity: good,
        });
    }
    Ok(Healed {
        bytes: log.written.clone(),
        units: lost,
    })
}
