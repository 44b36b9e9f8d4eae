//! The decision table of recovery: what becomes of a record, from what is known about it.
//!
//! | record | identifier | surroundings | verdict |
//! |---|---|---|---|
//! | good | valid, agrees | any | keep |
//! | good | none, or bad | any | keep, write the identifier anew |
//! | good | valid, disagrees | any | corrupt: misdirected or stale |
//! | bad | valid | any | corrupt, and what it was is known |
//! | bad | none | something proves that it once was durable | corrupt: a lost group |
//! | bad | none | valid records after it, none of which covers it | torn: discard from here on |
//! | bad | none | nothing valid after it | torn: discard |
//! | bad | bad, and not the last | any | unknown |
//!
//! A bad last identifier counts as none: it may be a torn write. Proof that a record once was durable
//! is a watermark or an identifier of a later one, an `End` record after it, sealed identifiers, parity of
//! bytes from it on, or a following file with something in it.

use std::fmt;

/// Whether all checksums of a record are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RecordState {
    /// They are.
    Good,
    /// One isn't, or there is nothing where the log goes on.
    Bad,
}

/// What the identifiers say of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IdentifierState {
    /// That it is what was found; for a bad record: that there was one.
    Agrees,
    /// That it was something else.
    Disagrees,
    /// Nothing: none was written, or it was in a bad last unit.
    None,
    /// Nothing any more: it was in a unit that is bad, and not the last.
    Lost,
}

/// What the log around a record proves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Surroundings {
    /// A later record's watermark, a later identifier, or parity covers it.
    pub covered: bool,
    /// Its file was finished: it is sealed, or another with something in it follows.
    pub finished: bool,
    /// A valid record comes after it in its file.
    pub followed: bool,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    /// It stays.
    Keep,
    /// It stays, and its identifier is written anew with the rest at the next append.
    KeepAndIdentify,
    /// Another record should be here.
    Misplaced,
    /// It was durable, its identity is known, its bytes are lost.
    Corrupt,
    /// It was durable; all that is known is where it was.
    LostGroup,
    /// It never became durable, nor did what comes after it: the log ends before it.
    Torn,
    /// Whether it was durable is not to be known.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep | Self::KeepAndIdentify => "good",
            Self::Misplaced => "another record was written here; this one is stale or misdirected",
            Self::Corrupt => "a record that was durable is damaged",
            Self::LostGroup => "records that were durable are damaged, and so is what they were",
            Self::Torn => "torn: never became durable",
            Self::Unknown => {
                "a damaged record, and the identifier that would tell what it was is damaged too"
            }
        })
    }
}

/// One row: the conditions that are given must all hold.
struct Row {
    record: RecordState,
    identifiers: &'static [IdentifierState],
    /// Whether there is proof that the record once was durable.
    proof: Option<bool>,
    followed: Option<bool>,
    verdict: Verdict,
}

const TABLE: [Row; 8] = {
    use IdentifierState::{Agrees, Disagrees, Lost, None as Nothing};
    use RecordState::{Bad, Good};
    const fn row(
        record: RecordState,
        identifiers: &'static [IdentifierState],
        proof: Option<bool>,
        followed: Option<bool>,
        verdict: Verdict,
    ) -> Row {
        Row {
            record,
            identifiers,
            proof,
            followed,
            verdict,
        }
    }
    [
        row(Good, &[Agrees], None, None, Verdict::Keep),
        row(Good, &[Nothing, Lost], None, None, Verdict::KeepAndIdentify),
        row(Good, &[Disagrees], None, None, Verdict::Misplaced),
        row(Bad, &[Agrees, Disagrees], None, None, Verdict::Corrupt),
        row(Bad, &[Nothing], Some(true), None, Verdict::LostGroup),
        row(Bad, &[Nothing], Some(false), Some(true), Verdict::Torn),
        row(Bad, &[Nothing], Some(false), Some(false), Verdict::Torn),
        row(Bad, &[Lost], None, None, Verdict::Unknown),
    ]
};

impl Row {
    fn applies(
        &self,
        record: RecordState,
        identifier: IdentifierState,
        around: Surroundings,
    ) -> bool {
        let proof = around.covered || around.finished;
        self.record == record
            && self.identifiers.contains(&identifier)
            && self.proof.is_none_or(|wanted| wanted == proof)
            && self.followed.is_none_or(|wanted| wanted == around.followed)
    }
}

/// Looks the case up. Exactly one row applies to each; if none did, nothing would be known.
pub(crate) fn verdict(
    record: RecordState,
    identifier: IdentifierState,
    around: Surroundings,
) -> Verdict {
    let row = TABLE
        .iter()
        .find(|row| row.applies(record, identifier, around));
    row.map_or(Verdict::Unknown, |row| row.verdict)
}

/// What becomes of a record whose checksums are right. No row asks what lies around one, so it can be
/// said while its file is still being read.
pub(crate) fn verdict_of_good(identifier: IdentifierState) -> Verdict {
    verdict(RecordState::Good, identifier, Surroundings::default())
}

#[cfg(test)]
mod tests;
