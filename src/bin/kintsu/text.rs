//! Numbers, sizes and times as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in decimal units: `0 B`, `1.5 kB`, `12.3 MB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1000.0;
    let mut unit = 0;
    // Where rounding would show 1000.0 of a unit, it is 1.0 of the next.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).unwrap_or(&""))
}

/// A length of time: `85 µs`, `3.2 ms`, `4.1 s`, `2 min 5 s`, `3 h 4 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match duration.as_micros() {
        0..1_000 => format!("{} µs", duration.as_micros()),
        1_000..1_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        1_000_000..60_000_000 => format!("{:.1} s", duration.as_secs_f64()),
        60_000_000..3_600_000_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A time that is only guessed at, in whole seconds.
pub fn about(guess: Duration) -> String {
    if guess < Duration::from_secs(60) {
        return format!("{} s", guess.as_secs().saturating_add(1));
    }
    duration(guess)
}

/// Bytes a second, in words.
pub fn rate(amount: u64, time: Duration) -> String {
    format!("{}/s", bytes(per_second(amount, time)))
}

/// How many in a second.
pub fn per_second(amount: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64().max(1e-6);
    (amount as f64 / seconds) as u64
}

/// Microseconds since 1970 as `2024-02-29T12:34:56.000789Z`; a time after the year 9999 as the bare number.
pub fn time(us: u64) -> String {
    let (days, within) = (us / 86_400_000_000, us % 86_400_000_000);
    let (hour, minute) = (within / 3_600_000_000, within / 60_000_000 % 60);
    let (second, fraction) = (within / 1_000_000 % 60, within % 1_000_000);
    // Years that begin in March have their leap day at the end; 400 of them have 146,097 days.
    let from_march = days + 719_468;
    let (era, day) = (from_march / 146_097, from_march % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = match month {
        0..10 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    let year = era * 400 + year + next_year;
    if year > 9999 {
        return us.to_string();
    }
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// `1 key`, `2 keys`.
pub fn plural(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_the_calendar() {
        for (seconds, told) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (951_868_800, "2000-03-01T00:00:00.000007Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000007Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000007Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000007Z"),
            (253_402_300_800, "253402300800000007"),
        ] {
            assert_eq!(time(seconds * 1_000_000 + 7), told);
        }
        assert_eq!(time(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(0), count(999), count(1000)], ["0", "999", "1,000"]);
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(
            [bytes(0), bytes(999), bytes(1000)],
            ["0 B", "999 B", "1.0 kB"]
        );
        assert_eq!([bytes(999_949), bytes(999_950)], ["999.9 kB", "1.0 MB"]);
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
        assert_eq!(duration(Duration::from_micros(85)), "85 µs");
        assert_eq!(duration(Duration::from_micros(3_210)), "3.2 ms");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(11_040)), "3 h 4 min");
        assert_eq!(about(Duration::from_millis(1_700)), "2 s");
        assert_eq!(rate(5_000_000, Duration::from_secs(2)), "2.5 MB/s");
        assert_eq!([plural(1, "key"), plural(0, "key")], ["1 key", "0 keys"]);
    }
}
