//! Days and times of the proleptic Gregorian calendar, without a clock.
//! Algorithms: <https://howardhinnant.github.io/date_algorithms.html>

/// Days since 1970-01-01 of a date written `YYYY-MM-DD`, years 0001 to 9999; `None` for anything else.
pub(super) fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() });
    if !shaped {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let days = from_civil(year, month, day);
    // A day that is none (30 February) comes back as another.
    (year >= 1 && to_civil(days) == (year, month, day)).then_some(days)
}

/// A time as `YYYY-MM-DD HH:MM:SS UTC`.
pub(super) fn time(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or(i64::MAX / 2).min(3_000_000);
    let (year, month, day) = to_civil(days);
    let rest = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3_600, rest / 60 % 60, rest % 60)
}

const fn from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const fn to_civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * index + 2) / 5 + 1;
    let month = if index < 10 { index + 3 } else { index - 9 };
    (year + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::{parse, time};

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, days) in
            [("1970-01-01", Some(0)), ("2000-02-29", Some(11_016)), ("1969-12-31", Some(-1)), ("0001-01-01", Some(-719_162))]
        {
            assert_eq!(parse(text), days, "{text}");
        }
        for text in
            ["2001-02-29", "2000-13-01", "2000-00-10", "2000-1-01", "2000-01-01 ", "infinity", "0000-01-01", "20000-01-01", "2000-01-0١"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00 UTC");
        assert!(!time(u64::MAX).is_empty());
    }
}
