//! Where two keys part: a word that says, most of the time, which of two keys is smaller, without
//! a look at either.
//!
//! For a key `a` and a key `n` at or after it, `hint(a, n)` packs **the number of the first bit in
//! which they differ** (inverted, so that a nearer key has the smaller word) and the bits of `n`
//! after that one. For a fixed `a` the word never falls as `n` rises, so
//!
//! - `hint(a, t) < hint(a, n)` proves `t < n`,
//! - `hint(a, t) > hint(a, n)` proves `t > n`,
//! - equal words prove nothing, and the keys themselves have to be compared.
//!
//! A link of the list carries the hint of its target as seen from its source, and a search carries
//! the hint of its target as seen from where it stands: it passes a node without reading its key,
//! however long the prefix is that all keys share.
//!
//! Keys count as followed by endless zero bits here. Keys that then look the same ("a" and "a\0")
//! have equal words, which decides nothing, so the order of the real keys is not touched by it.

use std::cmp::Ordering;

/// Bits of the word that hold key bits.
const BITS: u32 = 19;
/// Keys that agree in this many bits (a little short of 1 KiB) count as the same: their words are equal.
pub const SAME: u32 = (1 << (32 - BITS)) - 1;
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

/// The word for `key` as seen from a key before it from which it first differs in bit `bit`.
#[inline]
pub fn hint(bit: u32, key: &[u8]) -> u32 {
    if bit >= SAME {
        return 0;
    }
    let after = bit + 1;
    let bits = (word(key, after as usize / 8) << (after % 8)) >> (64 - BITS);
    ((SAME - bit) << BITS) | bits as u32
}

/// The bit in which the key of a word first differs from the one it is seen from.
#[inline]
pub fn bit(hint: u32) -> u32 {
    SAME - (hint >> BITS)
}

/// If `a` and `b` are the words of two keys as seen from one key, and `a != b`: the first bit in
/// which those two differ.
#[inline]
pub fn difference_of(a: u32, b: u32) -> u32 {
    if a >> BITS == b >> BITS {
        bit(a) + 1 + ((a ^ b) << (32 - BITS)).leading_zeros()
    } else {
        // One of them leaves the common road at the earlier bit, while the other still goes along.
        bit(a.max(b))
    }
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

/// Whether the key of word `a` goes along with the key that both are seen from for longer than that
/// of word `b`. Then that of `b` has the same word as seen from that of `a`.
#[inline]
pub fn is_nearer(a: u32, b: u32) -> bool {
    a >> BITS < b >> BITS
}

/// The word of `key`, which was `hint`, as seen from a key before it whose word is `passed`, when
/// `passed < hint`.
#[inline]
pub fn beyond(hint: u32, passed: u32, key: &[u8]) -> u32 {
    if is_nearer(passed, hint) {
        hint
    } else {
        self::hint(difference_of(hint, passed), key)
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
        fn unequal_words_prove_an_order_and_a_difference(a in key(), b in key(), c in key()) {
            let mut keys = [a, b, c];
            keys.sort();
            let [from, near, far] = &keys;
            let (near_word, far_word) = (seen(from, near), seen(from, far));
            prop_assert!(near_word <= far_word);
            prop_assert!(far_word < END || difference(from, far, 0) == 0);
            if near_word != far_word {
                prop_assert_eq!(difference_of(near_word, far_word), difference(near, far, 0));
                prop_assert_eq!(difference_of(far_word, near_word), difference(near, far, 0));
            }
            let near_far = seen(near, far);
            if near_word < far_word {
                prop_assert_eq!(beyond(far_word, near_word, far), near_far);
                if is_nearer(near_word, far_word) {
                    prop_assert_eq!(far_word, near_far);
                }
            }
            let apart = difference(near, far, 0);
            if apart < SAME {
                prop_assert_eq!(order_at(apart, near), Ordering::Less);
                prop_assert_eq!(order_at(apart, far), Ordering::Greater);
            }
            // What a finger relies on when it moves on.
            prop_assert_eq!(difference(from, far, 0), difference(from, near, 0).min(apart));
            if near_word != 0 {
                prop_assert_eq!(bit(near_word), difference(from, near, 0));
            }
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
            assert_eq!(seen(&other, &long) == 0, same, "byte {at}");
            other[at] = 9;
        }
    }
}
