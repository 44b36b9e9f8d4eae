//! Moments as people write them: RFC 3339, or microseconds since 1970.

const SECOND_US: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Reads `2026-03-01T12:30:00Z`, `…:00.25+01:00`, or a number of microseconds since 1970.
pub fn parse(text: &str) -> Result<u64, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("{text} is out of range"));
    }
    parse_rfc3339(text).ok_or_else(|| {
        format!(
            "{text:?} is no moment: write 2026-03-01T12:30:00Z, or with +01:00 for Z, or microseconds since \
             1970"
        )
    })
}

fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{fraction:0<6}");
    let fraction_us: i64 = digits.get(..6)?.parse().ok()?;
    let offset_seconds = offset(zone)?;
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    let us = (seconds - offset_seconds).checked_mul(SECOND_US)?;
    u64::try_from(us.checked_add(fraction_us)?).ok()
}

/// Seconds that a zone is ahead.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, ahead) = zone.split_at_checked(1)?;
    let [hours, minutes] = numbers(ahead, ':', [2, 2])?;
    let seconds = hours * 3600 + minutes * 60;
    (hours < 24 && minutes < 60).then_some(if sign == "-" { -seconds } else { seconds })
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that the leap day
/// comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A moment in UTC, to the microsecond.
pub fn format(us: u64) -> String {
    let seconds = (us / 1_000_000) as i64;
    let (days, in_day) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    let fraction = us % 1_000_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        let cases = [
            ("0", 0),
            ("1577836800000001", 1_577_836_800_000_001),
            ("1970-01-01T00:00:00Z", 0),
            ("2020-01-01T00:00:00Z", 1_577_836_800_000_000),
            ("2020-01-01 01:00:00+01:00", 1_577_836_800_000_000),
            ("2019-12-31T18:30:00.25-05:30", 1_577_836_800_250_000),
            ("2024-02-29T23:59:59.9999999z", 1_709_251_199_999_999),
        ];
        for (text, us) in cases {
            assert_eq!(parse(text), Ok(us), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2020-01-01",
            "2020-01-01T00:00:00",
            "2020-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:00:60Z",
            "2020-01-01T00:00:00.Z",
            "2020-01-01T00:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_written_as_they_are_read() {
        assert_eq!(format(1_709_251_199_999_999), "2024-02-29T23:59:59.999999Z");
        let mut us: u64 = 1;
        while us < 250_000_000_000_000_000 {
            assert_eq!(parse(&format(us)), Ok(us));
            us = us * 3 / 2 + 86_399_000_001;
        }
    }
}
