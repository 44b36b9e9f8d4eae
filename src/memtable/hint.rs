//! Where two keys part: a word that says, most of the time, which of two keys is smaller, without
//! a look at either.
//!
//! For a reference key `r` and a key `n`, `hint(r, n)` packs **the number of the first bit in which
//! they differ** and the bits of `n` from there on, arranged so that for a fixed `r` the word never
//! falls as `n` rises. So
//!
//! - `hint(r, t) < hint(r, n)` proves `t < n`,
//! - `hint(r, t) > hint(r, n)` proves `t > n`,
//! - equal words prove nothing, and the keys themselves have to be compared.
//!
//! A link of the list carries the hint of the node it leads to as seen from the node it comes from;
//! so does a slot of the index, as seen from the index node's anchor; and a search carries the hint of
//! its target as seen from where it stands. So it passes nodes without reading their keys, however
//! long the prefix is that all keys share.
//!
//! Keys count as followed by endless zero bits here. Keys that then look the same ("a" and "a\0")
//! have equal words, which decides nothing, so the order of the real keys is not touched by it.

use std::cmp::Ordering;

/// Bits of the word that hold key bits after the first that differs. Above them stand 13 bits for that
/// one's number, and one that says whether the key is at or above the reference.
const BITS: u32 = 18;
/// Keys that agree in this many bits (a little short of 1 KiB) count as the same: their words are equal.
pub const SAME: u32 = (1 << (31 - BITS)) - 1;
/// The bit of keys at or above the reference.
const ABOVE: u32 = 1 << 31;
/// The word of "nothing follows": no smaller than any other.
pub const END: u32 = u32::MAX;

/// Eight bytes of `key` from byte `at` on, zeros after its end, the first byte the most significant.
#[inline]
fn word(key: &[u8], at: usize) -> u64 {
    if let Some(bytes) = key.get(at..).and_then(<[u8]>::first_chunk) {
        return u64::from_be_bytes(*bytes);
    }
    if at >= key.len() {
        return 0;
    }
    if let Some(bytes) = key.last_chunk() {
        // The last eight bytes, those before `at` pushed out.
        return u64::from_be_bytes(*bytes) << (8 * (at + 8 - key.len()));
    }
    key[at..]
        .iter()
        .rev()
        .fold(0, |word, byte| (word >> 8) | (u64::from(*byte) << 56))
}

/// The number of the first bit in which two keys differ that are known to agree before byte `from`;
/// [`SAME`] if there is none before that.
#[inline]
pub fn difference(a: &[u8], b: &[u8], from: usize) -> u32 {
    let mut at = from;
    let end = a.len().max(b.len()).min(SAME as usize / 8 + 1);
    while at < end {
        let differ = word(a, at) ^ word(b, at);
        if differ != 0 {
            return (at as u32 * 8 + differ.leading_zeros()).min(SAME);
        }
        at += 8;
    }
    SAME
}

/// The word for `key` as seen from a reference from which it first differs in bit `bit`.
#[inline]
pub fn hint(bit: u32, key: &[u8]) -> u32 {
    if bit >= SAME {
        return ABOVE;
    }
    let bits = word(key, bit as usize / 8) << (bit % 8);
    let after = (bits << 1 >> (64 - BITS)) as u32;
    if bits >> 63 == 0 {
        // Below: the later it parts, the nearer, the larger.
        bit << BITS | after
    } else {
        ABOVE | (SAME - bit) << BITS | after
    }
}

/// The bit in which the key of a word first differs from the reference.
#[inline]
pub fn bit(hint: u32) -> u32 {
    let bit = hint >> BITS & SAME;
    if hint & ABOVE == 0 { bit } else { SAME - bit }
}

/// If `a` and `b` are the words of two keys as seen from one reference, and `a != b`: the first bit in
/// which those two keys differ.
#[inline]
pub fn difference_of(a: u32, b: u32) -> u32 {
    if a >> BITS == b >> BITS {
        (bit(a) + 1 + ((a ^ b) << (32 - BITS)).leading_zeros()).min(SAME)
    } else {
        // One of them leaves the common road while the other still goes along.
        bit(a).min(bit(b))
    }
}

/// Whether the keys of words `near < far` part in the same bit, and look the same there, as the
/// reference and the key of `far` do: then `far` is its word as seen from the key of `near` as well.
#[inline]
pub fn carries_over(near: u32, far: u32) -> bool {
    near & ABOVE != 0 && near >> BITS < far >> BITS
}

/// How `key` stands to a key from which it first differs in bit `bit`.
#[inline]
pub fn order_at(bit: u32, key: &[u8]) -> Ordering {
    let byte = key.get(bit as usize / 8).copied().unwrap_or(0);
    if byte & (0x80 >> (bit % 8)) == 0 {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

/// The word of `key`, which is `far` from some reference, as seen from a key before it whose word from
/// that reference is `near < far`.
#[inline]
pub fn beyond(near: u32, far: u32, key: &[u8]) -> u32 {
    if carries_over(near, far) {
        far
    } else {
        hint(difference_of(near, far), key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Short keys over few bytes, so that prefixes, zeros and near misses are common.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(1), Just(0x80), Just(0xff), any::<u8>()];
        (0usize..40, proptest::collection::vec(byte, 0..20)).prop_map(|(zeros, tail)| {
            let mut key = vec![7; zeros];
            key.extend(tail);
            key
        })
    }

    fn padded(key: &[u8], bytes: usize) -> Vec<u8> {
        let mut key = key.to_vec();
        key.resize(bytes, 0);
        key
    }

    fn difference_by_bits(a: &[u8], b: &[u8]) -> u32 {
        let bytes = a.len().max(b.len());
        let (a, b) = (padded(a, bytes), padded(b, bytes));
        let bit = |key: &[u8], at: u32| key[at as usize / 8] >> (7 - at % 8) & 1;
        (0..bytes as u32 * 8)
            .find(|&at| bit(&a, at) != bit(&b, at))
            .map_or(SAME, |at| at.min(SAME))
    }

    fn seen(from: &[u8], key: &[u8]) -> u32 {
        hint(difference(from, key, 0), key)
    }

    fn proptest_config() -> ProptestConfig {
        ProptestConfig {
            cases: if cfg!(miri) { 20 } else { 3000 },
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(proptest_config())]

        #[test]
        fn the_difference_is_that_of_the_bits(a in key(), b in key()) {
            prop_assert_eq!(difference(&a, &b, 0), difference_by_bits(&a, &b));
            let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            for from in 0..=common {
                prop_assert_eq!(difference(&a, &b, from), difference_by_bits(&a, &b));
            }
        }

        #[test]
        fn unequal_words_prove_an_order_and_a_difference(
            reference in key(), a in key(), b in key()
        ) {
            let (near, far) = if a <= b { (a, b) } else { (b, a) };
            let (near_word, far_word) = (seen(&reference, &near), seen(&reference, &far));
            prop_assert!(near_word <= far_word);
            let apart = difference(&near, &far, 0);
            if near_word < far_word {
                prop_assert_eq!(difference_of(near_word, far_word), apart);
                prop_assert_eq!(difference_of(far_word, near_word), apart);
                prop_assert_eq!(beyond(near_word, far_word, &far), seen(&near, &far));
            }
            if apart < SAME {
                prop_assert_eq!(order_at(apart, &near), Ordering::Less);
                prop_assert_eq!(order_at(apart, &far), Ordering::Greater);
            }
            prop_assert_eq!(bit(far_word), difference(&reference, &far, 0));
        }
    }

    #[test]
    fn keys_that_agree_for_long_count_as_the_same() {
        let long = vec![9; 1100];
        let mut other = long.clone();
        // 1 differs from 9 in the fifth bit, 8 in the last.
        for (at, byte, same) in [
            (1022, 8, false),
            (1023, 1, false),
            (1023, 8, true),
            (1024, 1, true),
            (1099, 8, true),
        ] {
            other[at] = byte;
            assert_eq!(difference(&long, &other, 0) == SAME, same, "byte {at}");
            assert_eq!(seen(&other, &long) == ABOVE, same, "byte {at}");
            other[at] = 9;
        }
    }
}
