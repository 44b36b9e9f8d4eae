//! Numbered keys, with values that no codec makes shorter.

pub fn key(number: u64) -> String {
    format!("key {number:06}")
}

/// Nothing that packs.
pub fn value(number: u64) -> Vec<u8> {
    let words = (1..11).map(|n| (number * 100 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}
