//! Merge operators: values changed without being read first.
//!
//! A merge writes an operand; the value that a reader sees is worked out from the value below and all
//! operands above it, when it is read or compacted. Which operator a keyspace has is one of its options,
//! by name; what the name stands for is registered with [`Options::merge_operator`](crate::Options::merge_operator).

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

/// How a keyspace's values are merged. It must be a function of its arguments alone: every replica,
/// and every later version of the program, must come to the same value.
pub trait MergeOperator: Send + Sync + 'static {
    /// The value after `operands`, oldest first, one at least. `value` is what is below them: `None` if
    /// there is no value, or it was deleted or has expired.
    ///
    /// # Errors
    /// In words, if an operand or the value isn't what it should be. Reads of the key then answer
    /// [`Error::MergeFailed`](crate::Error::MergeFailed); nothing is thrown away. A panic counts as such an
    /// error, and is not handed on.
    fn merge(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        operands: &[Bytes],
    ) -> Result<Vec<u8>, String>;

    /// One operand that does the same as these, oldest first, two at least; `None` if there is no such
    /// thing, or if it panics. Compaction uses it where it doesn't know the value below.
    fn combine(&self, _key: &[u8], _operands: &[Bytes]) -> Option<Vec<u8>> {
        None
    }
}

/// What an operator makes of its arguments. One that panics has refused them: its caller may be a job that
/// everybody waits for.
///
/// # Errors
/// As [`MergeOperator::merge`].
pub(crate) fn merge(
    operator: &dyn MergeOperator,
    key: &[u8],
    value: Option<&[u8]>,
    operands: &[Bytes],
) -> Result<Vec<u8>, String> {
    let merged = catch_unwind(AssertUnwindSafe(|| operator.merge(key, value, operands)));
    merged.unwrap_or_else(|panic| Err(format!("it panicked: {}", panic_message(&*panic))))
}

/// As [`MergeOperator::combine`]; `None` also if that panics.
pub(crate) fn combine(
    operator: &dyn MergeOperator,
    key: &[u8],
    operands: &[Bytes],
) -> Option<Vec<u8>> {
    let combined = catch_unwind(AssertUnwindSafe(|| operator.combine(key, operands)));
    combined.unwrap_or_default()
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    let message = owned.or_else(|| panic.downcast_ref::<&str>().copied());
    message.unwrap_or("it said nothing")
}

impl fmt::Debug for dyn MergeOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MergeOperator")
    }
}

/// Adds numbers: value and operands are 64-bit signed integers, little-endian, and wrap around. No value
/// is 0. Registered in every store as `counter`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter;

impl Counter {
    /// Its name.
    pub const NAME: &'static str = "counter";

    fn number(bytes: &[u8]) -> Result<i64, String> {
        let number = bytes.try_into().map(i64::from_le_bytes);
        number.map_err(|_| format!("a number has 8 bytes, not {}", bytes.len()))
    }

    fn sum(operands: &[Bytes]) -> Result<i64, String> {
        let mut sum = 0_i64;
        for operand in operands {
            sum = sum.wrapping_add(Self::number(operand)?);
        }
        Ok(sum)
    }
}

impl MergeOperator for Counter {
    fn merge(
        &self,
        _key: &[u8],
        value: Option<&[u8]>,
        operands: &[Bytes],
    ) -> Result<Vec<u8>, String> {
        let value = value.map_or(Ok(0), Self::number)?;
        let sum = value.wrapping_add(Self::sum(operands)?);
        Ok(sum.to_le_bytes().to_vec())
    }

    fn combine(&self, _key: &[u8], operands: &[Bytes]) -> Option<Vec<u8>> {
        Some(Self::sum(operands).ok()?.to_le_bytes().to_vec())
    }
}

/// Appends operands to the value, one behind the other. Registered in every store as `append`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append;

impl Append {
    /// Its name.
    pub const NAME: &'static str = "append";
}

impl MergeOperator for Append {
    fn merge(
        &self,
        _key: &[u8],
        value: Option<&[u8]>,
        operands: &[Bytes],
    ) -> Result<Vec<u8>, String> {
        let value = value.unwrap_or_default();
        let bytes = operands.iter().map(Bytes::len).sum::<usize>();
        let mut whole = Vec::with_capacity(value.len() + bytes);
        whole.extend_from_slice(value);
        operands
            .iter()
            .for_each(|operand| whole.extend_from_slice(operand));
        Ok(whole)
    }

    fn combine(&self, _key: &[u8], operands: &[Bytes]) -> Option<Vec<u8>> {
        Some(operands.concat())
    }
}

/// The operators that a store knows, by name.
#[derive(Clone, Debug)]
pub(crate) struct MergeOperators(Vec<(Box<str>, Arc<dyn MergeOperator>)>);

impl Default for MergeOperators {
    fn default() -> Self {
        let mut all = Self(Vec::new());
        all.register(Counter::NAME, Arc::new(Counter));
        all.register(Append::NAME, Arc::new(Append));
        all
    }
}

impl MergeOperators {
    /// Adds an operator, in place of the one that has the name.
    pub(crate) fn register(&mut self, name: &str, operator: Arc<dyn MergeOperator>) {
        self.0.retain(|(known, _)| **known != *name);
        self.0.push((name.into(), operator));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn MergeOperator>> {
        let found = self.0.iter().find(|(known, _)| **known == *name);
        found.map(|(_, operator)| operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: i64) -> Bytes {
        Bytes::copy_from_slice(&number.to_le_bytes())
    }

    #[test]
    fn counters_add_and_refuse_what_is_no_number() {
        let operands = [number(5), number(-7)];
        let merged = Counter.merge(b"", Some(&number(1)), &operands).unwrap();
        assert_eq!(merged, number(-1));
        assert_eq!(Counter.combine(b"", &operands).unwrap(), number(-2));
        assert!(Counter.merge(b"", Some(b"1"), &operands).is_err());
        assert!(
            Counter
                .combine(b"", &[number(1), Bytes::from("x")])
                .is_none()
        );
        let wrapped = Counter.merge(b"", Some(&number(i64::MAX)), &[number(1)]);
        assert_eq!(wrapped.unwrap(), number(i64::MIN));
    }

    #[test]
    fn appended_operands_stand_in_their_order() {
        let operands = [Bytes::from("b"), Bytes::from("c")];
        assert_eq!(Append.merge(b"", Some(b"a"), &operands).unwrap(), b"abc");
        assert_eq!(Append.merge(b"", None, &operands).unwrap(), b"bc");
        assert_eq!(Append.combine(b"", &operands).unwrap(), b"bc");
    }
}
