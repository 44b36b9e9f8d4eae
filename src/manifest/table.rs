//! The decision table: what two copies of the log of edits, read at one place, mean together.
//!
//! What it stands on: an edit is written and synced to A before a byte of it goes to B, and it is
//! acknowledged, and the next one begun, only once B is synced as well. Hence:
//! - bytes of an edit in B prove that A once held the whole of it;
//! - bytes of a later edit in either copy prove that both once held the whole of this one;
//! - what neither copy proves was never acknowledged.

/// What one copy holds at the place where the next edit would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The edit, and nothing after it.
    Last,
    /// The edit, and something after it.
    More,
    /// Nothing, here or beyond.
    Blank,
    /// It can't be had: the file ends too early, or the disk answers with an error.
    Lost,
    /// Not the edit, but something was written here or beyond.
    Bytes,
    /// Not the edit, but intact frames beyond.
    Followed,
}

impl Found {
    /// All there are.
    #[cfg(test)]
    pub(super) const ALL: [Self; 6] = [
        Self::Last,
        Self::More,
        Self::Blank,
        Self::Lost,
        Self::Bytes,
        Self::Followed,
    ];
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The edit counts.
    Keep,
    /// The edit counts; the crash came while it was being written to B.
    KeepTornB,
    /// The edit counts; B is damaged.
    KeepHealB,
    /// The edit counts, as B has it; A is damaged.
    KeepHealA,
    /// The log ends here.
    End,
    /// The log ends here; the crash came while the next edit was being written to A.
    Torn,
    /// Both copies are damaged.
    Damaged,
}

/// One row: for what is found in A and in B (any of each), and whether they agree where both hold the
/// edit (`None`: either way).
pub(super) struct Row {
    pub a: &'static [Found],
    pub b: &'static [Found],
    pub agree: Option<bool>,
    pub verdict: Verdict,
}

const fn row(a: &'static [Found], b: &'static [Found], verdict: Verdict) -> Row {
    Row {
        a,
        b,
        agree: None,
        verdict,
    }
}

const VALID: &[Found] = &[Found::Last, Found::More];

/// Every combination is in exactly one row.
pub(super) const TABLE: &[Row] = {
    use Found::{Blank, Bytes, Followed, Last, Lost, More};
    &[
        // Both hold it.
        Row {
            agree: Some(true),
            ..row(VALID, VALID, Verdict::Keep)
        },
        Row {
            agree: Some(false),
            ..row(VALID, VALID, Verdict::Damaged)
        },
        // Only A holds it, and nothing after: it was under way to B, or B has lost it.
        row(&[Last], &[Blank], Verdict::Keep),
        row(&[Last], &[Bytes], Verdict::KeepTornB),
        row(&[Last], &[Lost, Followed], Verdict::KeepHealB),
        // A went on, so B held it.
        row(&[More], &[Blank, Lost, Bytes, Followed], Verdict::KeepHealB),
        // B holds it, so A held it.
        row(&[Blank, Lost, Bytes, Followed], VALID, Verdict::KeepHealA),
        // B never began it: it was not acknowledged. A never began it: it was never written.
        row(&[Blank, Lost], &[Blank], Verdict::End),
        row(&[Blank], &[Lost], Verdict::End),
        row(&[Bytes], &[Blank], Verdict::Torn),
        // Nothing says that it wasn't acknowledged.
        row(&[Lost, Bytes], &[Lost], Verdict::Damaged),
        // B began it, so A held it; or there are later ones, so both did.
        row(&[Blank, Lost, Bytes], &[Bytes, Followed], Verdict::Damaged),
        row(
            &[Followed],
            &[Blank, Lost, Bytes, Followed],
            Verdict::Damaged,
        ),
    ]
};

impl Row {
    /// Whether this row is for that combination.
    pub(super) fn is_for(&self, a: Found, b: Found, agree: bool) -> bool {
        let agreement = self.agree.is_none_or(|wanted| wanted == agree);
        self.a.contains(&a) && self.b.contains(&b) && agreement
    }
}

/// Looks the verdict up. `agree` matters only if both copies hold the edit.
pub(super) fn decide(a: Found, b: Found, agree: bool) -> Verdict {
    let row = TABLE.iter().find(|row| row.is_for(a, b, agree));
    row.map_or(Verdict::Damaged, |row| row.verdict)
}
