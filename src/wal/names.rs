//! Names of the log's files.

use std::path::{Path, PathBuf};

use crate::types::{LogNumber, Parity};

use super::format::NUMBER_MAX;

/// What a file of the log is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    Log,
    Identifiers,
    Parity,
    /// Not yet published.
    Temporary,
}

pub(crate) fn log_path(dir: &Path, number: LogNumber) -> PathBuf {
    dir.join(format!("{:08}.log", number.0))
}

pub(crate) fn identifiers_path(dir: &Path, number: LogNumber) -> PathBuf {
    dir.join(format!("{:08}.ids", number.0))
}

/// The parity of a log file, if it has any.
pub(crate) fn parity_path(dir: &Path, number: LogNumber) -> PathBuf {
    dir.join(format!("{:08}.parity", number.0))
}

/// All files that a log file consists of, if it has this parity.
pub(crate) fn all_paths(dir: &Path, number: LogNumber, parity: Parity) -> Vec<PathBuf> {
    let mut paths = vec![log_path(dir, number), identifiers_path(dir, number)];
    if parity != Parity::Off {
        paths.push(parity_path(dir, number));
    }
    paths
}

/// The name under which a file is made before it is published.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Reads a name; `None` if it isn't one that a log gives.
pub(crate) fn parse(name: &str) -> Option<(LogNumber, NameKind)> {
    let (digits, kind) = name.split_once('.')?;
    let kind = match kind {
        "log" => NameKind::Log,
        "ids" => NameKind::Identifiers,
        "parity" => NameKind::Parity,
        "log.tmp" | "ids.tmp" => NameKind::Temporary,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    ((1..=NUMBER_MAX).contains(&number) && format!("{number:08}") == digits)
        .then_some((LogNumber(number), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_are_given_are_read() {
        let dir = Path::new("/d");
        for number in [1, 99_999_999, 100_000_000, NUMBER_MAX].map(LogNumber) {
            for (path, kind) in [
                (log_path(dir, number), NameKind::Log),
                (identifiers_path(dir, number), NameKind::Identifiers),
                (parity_path(dir, number), NameKind::Parity),
                (temporary(&log_path(dir, number)), NameKind::Temporary),
                (
                    temporary(&identifiers_path(dir, number)),
                    NameKind::Temporary,
                ),
            ] {
                let name = path.file_name().unwrap().to_str().unwrap();
                assert_eq!(parse(name), Some((number, kind)));
            }
        }
        for name in [
            "",
            "log",
            ".log",
            "1.log",
            "00000000.log",
            "+0000001.log",
            "000000001.log",
            "0000000a.log",
            "00000001.segment",
            "00000001.logs",
            "00000001.log.tmp.tmp",
            "99999999999999999999.log",
            "18446744073709551615.log",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
