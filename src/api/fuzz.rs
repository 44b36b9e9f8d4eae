//! Operations, power cuts, failing disks and damage, as a fuzzer's bytes say, against a model of what
//! was promised. The whole production engine, in one thread.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must stop the fuzzer"
)]

mod check;
mod model;
mod run;
mod store;

pub use store::{store_damage, store_repair};

use std::sync::Arc;
use std::time::Duration;

use self::run::Run;
use crate::options::{Background, Options};
use crate::testing::{Input, ManualClock, SeededEntropy};

const FOLDER: &str = "store";
/// The keyspace that comes and goes.
const OTHER: &str = "other";
/// How many keys there are to choose from.
const KEYS: u8 = 24;
/// The most operations in a run.
const STEPS_MAX: u64 = 48;

/// Runs the operations that these bytes describe on a small store, and checks every answer: whatever
/// the power, the disk and rot do, what was acknowledged is there, or the store says what is damaged.
pub fn engine_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let machine = Machine::of(&mut input);
    let mut run = Run::new(machine);
    let steps = input.below(STEPS_MAX);
    for _ in 0..steps {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.finish(&mut input);
}

/// What stays the same over crashes: the options, the clock and the randomness.
#[derive(Clone)]
struct Machine {
    bits: u16,
    clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
}

impl Machine {
    fn of(input: &mut Input<'_>) -> Self {
        let bits = input.u16();
        Self {
            bits,
            clock: Arc::new(ManualClock::new()),
            entropy: Arc::new(SeededEntropy::new(u64::from(bits))),
        }
    }

    fn identifies_at_once(&self) -> bool {
        self.bits & 3 == 3
    }

    /// The smallest limits that there are, varied a little.
    fn options(&self) -> Options {
        let pick = |shift: u16, choices: [u64; 4]| choices[usize::from(self.bits >> shift & 3)];
        let delay = if self.identifies_at_once() { 0 } else { 10 };
        Options::new(FOLDER)
            .clock(self.clock.clone())
            .entropy(self.entropy.clone())
            .background(Background::Manual)
            .identifier_delay(Duration::from_millis(delay))
            .write_buffer_bytes(64 << 10)
            .log_file_bytes(pick(2, [64 << 10, 64 << 10, 72 << 10, 128 << 10]))
            .log_bytes_before_flush(64 << 10)
            .log_buffer_bytes(pick(4, [0, 100, 8 << 10, 8 << 10]) as usize)
            .block_bytes(pick(6, [256, 256, 512, 4096]) as usize)
            .block_cache_bytes(pick(8, [0, 4 << 10, 32 << 10, 32 << 10]))
            .filter_bits_per_key(pick(10, [0, 1, 10, 10]) as u32)
            .segment_bytes(4 << 10)
            .level_base_bytes(pick(12, [4 << 10, 4 << 10, 8 << 10, 32 << 10]))
            .level0_segments_compact(2)
            .level0_segments_stop(4)
    }
}

/// Keys that share prefixes, end in 0x00 and 0xff, are empty, or are longer than a block.
fn key_of(number: u8) -> Vec<u8> {
    match number % KEYS {
        0 => Vec::new(),
        1 => vec![0],
        2 => vec![0, 0],
        3 => vec![0xff],
        4 => vec![0xff, 0xff],
        5 => [&[b'p'; 300][..], b"1"].concat(),
        6 => [&[b'p'; 300][..], b"2"].concat(),
        7 => b"key\x00".to_vec(),
        8 => b"key\xff".to_vec(),
        number => format!("key {number:02}").into_bytes(),
    }
}

/// A value that no other write has.
fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{number}:").into_bytes();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < bytes {
        state = state.rotate_left(9).wrapping_mul(0xd6e8_feb8_6659_fd93);
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(bytes.max(2));
    value
}
