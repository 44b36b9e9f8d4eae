//! The squares of a file's map: each a block, or as many blocks as make the map small enough. The worst block of
//! a square gives it its state, so that none is hidden.

use kintsu::{BlockState, FileMap, FilePlace};

const UNIT: u64 = 4096;
/// Squares of a file at most.
const CELLS_MAX: u64 = 1024;

/// What a square is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There is nothing in it.
    Unused,
    /// As it was written.
    Whole,
    /// Put together again.
    Mendable,
    /// Lost.
    Damaged,
}

impl State {
    pub fn class(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Whole => "whole",
            Self::Mendable => "mendable",
            Self::Damaged => "damaged",
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Whole => "whole",
            Self::Mendable => "healed",
            Self::Damaged => "lost",
        }
    }

    pub fn is_bad(self) -> bool {
        self >= Self::Mendable
    }
}

/// The squares of a file.
#[derive(Debug)]
pub struct Cells {
    /// Bytes of each; the last may have fewer.
    pub unit_bytes: u64,
    pub states: Vec<State>,
}

/// Squares next to each other that are the same: `from` up to before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub from: usize,
    pub to: usize,
    pub state: State,
}

impl Cells {
    pub fn of(file: &FileMap) -> Self {
        let blocks = file.bytes.div_ceil(UNIT).max(1);
        let unit_bytes = UNIT * blocks.div_ceil(CELLS_MAX).next_power_of_two();
        let count = file.bytes.div_ceil(unit_bytes).max(1);
        let whole = match file.is_missing {
            true => State::Damaged,
            false => State::Whole,
        };
        let mut unused = vec![0; count as usize];
        let mut states = vec![whole; count as usize];
        for place in &file.places {
            let end = place.offset + place.bytes.max(1);
            let first = place.offset / unit_bytes;
            let last = end.div_ceil(unit_bytes).min(count);
            for cell in first..last {
                let (from, to) = (cell * unit_bytes, (cell + 1) * unit_bytes);
                let (Some(state), Some(unused)) =
                    (states.get_mut(cell as usize), unused.get_mut(cell as usize))
                else {
                    continue;
                };
                match place.state {
                    BlockState::Unused => *unused += end.min(to) - place.offset.max(from),
                    BlockState::Mendable => *state = (*state).max(State::Mendable),
                    BlockState::Damaged => *state = State::Damaged,
                }
            }
        }
        for (cell, (state, unused)) in (0..).zip(states.iter_mut().zip(unused)) {
            let there = file.bytes.saturating_sub(cell * unit_bytes).min(unit_bytes);
            if *state == State::Whole && there > 0 && unused >= there {
                *state = State::Unused;
            }
        }
        Self { unit_bytes, states }
    }

    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (at, state) in self.states.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.state == *state => run.to = at + 1,
                _ => runs.push(Run {
                    from: at,
                    to: at + 1,
                    state: *state,
                }),
            }
        }
        runs
    }

    /// How many of each kind, for those who don't see the map.
    pub fn in_words(&self) -> String {
        let states = [State::Whole, State::Mendable, State::Damaged, State::Unused];
        let count = |state| self.states.iter().filter(|s| **s == state).count();
        let words = states.into_iter().map(|state| (count(state), state.word()));
        let words = words.filter(|(count, _)| *count > 0);
        let words: Vec<_> = words
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        words.join(", ")
    }
}

/// The first place of this state in these bytes, and its number among the file's bad places.
pub fn place_in(file: &FileMap, from: u64, to: u64, state: State) -> Option<(usize, &FilePlace)> {
    let wanted = match state {
        State::Mendable => BlockState::Mendable,
        State::Damaged => BlockState::Damaged,
        State::Unused | State::Whole => return None,
    };
    let bad = file
        .places
        .iter()
        .filter(|place| place.state != BlockState::Unused);
    let mut bad = bad.enumerate();
    bad.find(|(_, place)| {
        place.state == wanted && place.offset < to && from < place.offset + place.bytes.max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64, places: &[(u64, u64, BlockState)]) -> FileMap {
        let mut file = FileMap::default();
        file.name = "f".into();
        file.bytes = bytes;
        let place = |(offset, bytes, state): &(u64, u64, BlockState)| FilePlace {
            offset: *offset,
            bytes: *bytes,
            state: *state,
            what: String::new(),
        };
        file.places = places.iter().map(place).collect();
        file
    }

    #[test]
    fn no_block_is_hidden_by_its_neighbours() {
        for blocks in [1, 5, 1024, 1025, 16_384, 1 << 20] {
            let bytes = blocks * UNIT;
            for block in [0, blocks / 2, blocks - 1] {
                for (state, shown) in [
                    (BlockState::Mendable, State::Mendable),
                    (BlockState::Damaged, State::Damaged),
                ] {
                    let unused = (0, bytes, BlockState::Unused);
                    let file = file(bytes, &[unused, (block * UNIT, UNIT, state)]);
                    let cells = Cells::of(&file);
                    assert!(cells.states.len() as u64 <= CELLS_MAX);
                    let at = (block * UNIT / cells.unit_bytes) as usize;
                    assert_eq!(cells.states[at], shown);
                    let bad = cells.states.iter().filter(|s| s.is_bad()).count();
                    assert_eq!(bad, 1);
                    let runs = cells.runs();
                    assert_eq!(runs.last().map(|run| run.to), Some(cells.states.len()));
                }
            }
        }
    }

    #[test]
    fn a_square_is_unused_only_as_a_whole() {
        let half = file(2 << 24, &[(0, (1 << 24) + 4096, BlockState::Unused)]);
        let cells = Cells::of(&half);
        assert_eq!(cells.unit_bytes, 32 << 10);
        assert_eq!(cells.states[511], State::Unused);
        assert_eq!(cells.states[512], State::Whole);
    }
}
