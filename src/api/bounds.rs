//! Ranges of keys, in every form that Rust writes them.

use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of keys: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b`, or a pair of [`Bound`]s. A range that
/// ends before it begins is empty.
pub trait KeyRange {
    /// The first key in the range, and the first key after it (`None`: no end).
    fn into_half_open(self) -> (Vec<u8>, Option<Vec<u8>>);
}

/// The smallest key above `key`.
fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// The first key after all that begin with `prefix`; `None` if there is no such key.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {
    fn into_half_open(self) -> (Vec<u8>, Option<Vec<u8>>) {
        let lower = match self.0 {
            Bound::Included(key) => key.as_ref().to_vec(),
            Bound::Excluded(key) => after(key.as_ref()),
            Bound::Unbounded => Vec::new(),
        };
        let upper = match self.1 {
            Bound::Included(key) => Some(after(key.as_ref())),
            Bound::Excluded(key) => Some(key.as_ref().to_vec()),
            Bound::Unbounded => None,
        };
        (lower, upper)
    }
}

impl KeyRange for RangeFull {
    fn into_half_open(self) -> (Vec<u8>, Option<Vec<u8>>) {
        (Vec::new(), None)
    }
}

macro_rules! key_range {
    ($($type:ident { $range:ident => $lower:expr, $upper:expr })*) => {
        $(impl<K: AsRef<[u8]>> KeyRange for $type<K> {
            fn into_half_open(self) -> (Vec<u8>, Option<Vec<u8>>) {
                let $range = self;
                ($lower, $upper)
            }
        })*
    };
}

key_range! {
    Range { range => range.start.as_ref().to_vec(), Some(range.end.as_ref().to_vec()) }
    RangeInclusive { range => range.start().as_ref().to_vec(), Some(after(range.end().as_ref())) }
    RangeFrom { range => range.start.as_ref().to_vec(), None }
    RangeTo { range => Vec::new(), Some(range.end.as_ref().to_vec()) }
    RangeToInclusive { range => Vec::new(), Some(after(range.end.as_ref())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_they_should() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn every_form_becomes_half_open() {
        let all = (Vec::new(), None::<Vec<u8>>);
        assert_eq!((..).into_half_open(), all);
        assert_eq!(
            ("a"..="b").into_half_open(),
            (b"a".to_vec(), Some(b"b\0".to_vec()))
        );
        assert_eq!((.."b").into_half_open(), (vec![], Some(b"b".to_vec())));
        let pair = (Bound::Excluded("a"), Bound::Unbounded);
        assert_eq!(pair.into_half_open(), (b"a\0".to_vec(), None));
    }
}
