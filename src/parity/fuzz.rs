//! Hostile bytes for parity: protected files, and slots of a growing one, some of whose units are lost.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a check that fails must stop the fuzzer"
)]

mod damage;
mod raw;
mod slots;
mod trailers;

use crate::testing::Input;
use crate::types::{FileId, Parity};

use super::UNIT_BYTES;

const ID: FileId = FileId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
/// The file that others' units come from.
const OTHER: FileId = FileId(0x0fed_cba9_8765_4321_1234_5678_9abc_def0);
const LEVELS: [Parity; 2] = [Parity::Standard, Parity::Strong];

/// Damages protected files as these bytes say, and heals them: what comes back is what was written, to the
/// byte, or it is said to be lost, and it is lost only where more of a group is than its parity makes up for.
/// Bytes that nobody wrote are never taken for a table or a tail. Never a panic, never memory for what isn't there.
pub fn parity_heal(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 8 {
        0..4 => trailers::run(&mut input),
        4..7 => slots::run(&mut input),
        _ => raw::run(&mut input),
    }
}

/// How many bytes there are: mostly a few units, sometimes most of a group, now and then several groups.
fn content_bytes(input: &mut Input<'_>) -> usize {
    let kind = input.u8();
    let units = match kind % 32 {
        0..24 => input.place(12),
        24..30 => input.place(70),
        30 => 254 + input.place(5),
        _ => 256 + input.place(40),
    };
    let rest = match kind / 64 {
        0 => 0,
        1 => 1,
        2 => UNIT_BYTES - 1,
        _ => input.place(UNIT_BYTES),
    };
    units * UNIT_BYTES + rest
}

/// Bytes that no other seed has.
fn content(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state = state.rotate_left(9).wrapping_mul(0xd6e8_feb8_6659_fd93);
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}
