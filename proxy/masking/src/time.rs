//! Cutting dates and timestamps down to a unit.
//!
//! In text what the session's `DateStyle` makes of a value is read and written ([`crate::style`]); what is not written so is hidden whole. A
//! `timestamptz` is cut in the zone it is shown in: the session's in text, UTC in binary. Years before the common era and the infinities are hidden
//! whole.

use bytes::{BufMut as _, BytesMut};

use crate::style::{DateFormat, TextStyle};
use crate::{TimeUnit, types::Family};

/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// A unit that hides something of a family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    unit: TimeUnit,
    family: Family,
    style: TextStyle,
}

/// A date as text, taken apart.
struct Parts<'t> {
    year: &'t str,
    month: &'t str,
    day: &'t str,
    hour: &'t str,
    /// With whatever stands before it.
    zone: &'t str,
}

impl Cut {
    pub(crate) const fn new(family: Family, unit: TimeUnit, style: TextStyle) -> Option<Self> {
        match (family, unit) {
            (Family::Date, TimeUnit::Year | TimeUnit::Month) | (Family::Timestamp | Family::Timestamptz, _) => {
                Some(Self { unit, family, style })
            }
            _ => None,
        }
    }

    pub(crate) fn apply(self, value: &[u8], binary: bool, out: &mut BytesMut) -> Option<()> {
        match (self.family, binary) {
            (Family::Date, true) => {
                let days = i32::from_be_bytes(value.try_into().ok()?);
                if days == i32::MAX || days == i32::MIN {
                    return None;
                }
                out.put_i32(i32::try_from(self.days(i64::from(days))?).ok()?);
            }
            (_, true) => {
                let microseconds = i64::from_be_bytes(value.try_into().ok()?);
                if microseconds == i64::MAX || microseconds == i64::MIN {
                    return None;
                }
                let day = microseconds.div_euclid(DAY_US);
                let hour = match self.unit {
                    TimeUnit::Hour => microseconds.rem_euclid(DAY_US) / HOUR_US * HOUR_US,
                    _ => 0,
                };
                out.put_i64(self.days(day)?.checked_mul(DAY_US)?.checked_add(hour)?);
            }
            (_, false) => self.text(value, out)?,
        }
        Some(())
    }

    /// Cuts days since 2000-01-01.
    fn days(self, days: i64) -> Option<i64> {
        let (year, month, day) = civil_from_days(days.checked_add(EPOCH_DAYS)?)?;
        if year < 1 {
            return None;
        }
        let (month, day) = match self.unit {
            TimeUnit::Year => (1, 1),
            TimeUnit::Month => (month, 1),
            TimeUnit::Day | TimeUnit::Hour => (month, day),
        };
        days_from_civil(year, month, day)?.checked_sub(EPOCH_DAYS)
    }

    fn text(self, value: &[u8], out: &mut BytesMut) -> Option<()> {
        let text = std::str::from_utf8(value).ok()?;
        let worded = self.style.date == DateFormat::Postgres && self.family != Family::Date;
        let parts = if worded { words(text)? } else { self.numbers(text)? };
        if !(4..=6).contains(&parts.year.len()) || parts.month.len() < 2 || !digits(parts.year) || !is_day(parts.day) {
            return None;
        }
        if (self.family == Family::Timestamptz) == parts.zone.is_empty() || (self.family == Family::Date) != parts.hour.is_empty() {
            return None;
        }
        let (month, day) = match self.unit {
            TimeUnit::Year => (if worded { "Jan" } else { "01" }, "01"),
            TimeUnit::Month => (parts.month, "01"),
            TimeUnit::Day | TimeUnit::Hour => (parts.month, parts.day),
        };
        let hour = if self.unit == TimeUnit::Hour { parts.hour } else { "00" };
        if worded {
            let weekday = weekday(parts.year, month, day)?;
            let [first, second] =
                if text.get(4..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) { [day, month] } else { [month, day] };
            for part in [weekday, " ", first, " ", second, " ", hour, ":00:00 ", parts.year, parts.zone] {
                out.extend_from_slice(part.as_bytes());
            }
            return Some(());
        }
        // Which of the two is the month need not be known where both stay, or neither.
        let order_matters = self.unit == TimeUnit::Month && matches!(self.style.date, DateFormat::Sql | DateFormat::Postgres);
        if order_matters && self.style.unsettled {
            return None;
        }
        let date = self.style.unsettled(false).date(parts.year, month, day)?;
        out.extend_from_slice(date.as_bytes());
        if self.family != Family::Date {
            for part in [" ", hour, ":00:00", parts.zone] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        Some(())
    }

    /// `2024-05-17…`, `05/17/2024…`, `17.05.2024…`, `05-17-2024…`.
    fn numbers(self, text: &str) -> Option<Parts<'_>> {
        let style = self.style;
        let separator = match style.date {
            DateFormat::Iso | DateFormat::Postgres => '-',
            DateFormat::Sql => '/',
            DateFormat::German => '.',
        };
        let (first, rest) = text.split_once(separator)?;
        let (second, rest) = rest.split_once(separator)?;
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (third, clock) = rest.split_at_checked(length)?;
        let (year, month, day) = match style.date {
            DateFormat::Iso => (first, second, third),
            DateFormat::German => (third, second, first),
            _ if style.day_first => (third, second, first),
            _ => (third, first, second),
        };
        // In an order that is not sure either may be the month.
        let months = if style.unsettled && matches!(style.date, DateFormat::Sql | DateFormat::Postgres) { 31 } else { 12 };
        if !is_day(month) || month.parse::<u8>().ok()? > months {
            return None;
        }
        let (hour, zone) = match clock.strip_prefix(' ') {
            None if clock.is_empty() => ("", ""),
            Some(clock) => clock_and_zone(clock, style.date == DateFormat::Iso)?,
            None => return None,
        };
        Some(Parts { year, month, day, hour, zone })
    }
}

/// `Fri May 17 07:08:09.123 2024 CEST`, or with the day before the month.
fn words(text: &str) -> Option<Parts<'_>> {
    let (weekday, rest) = text.split_once(' ')?;
    let (first, rest) = rest.split_once(' ')?;
    let (second, rest) = rest.split_once(' ')?;
    let (clock, rest) = rest.split_once(' ')?;
    let length = rest.find(' ').unwrap_or(rest.len());
    let (year, zone) = rest.split_at_checked(length)?;
    let (month, day) = if digits(first) { (second, first) } else { (first, second) };
    WEEKDAYS.iter().find(|known| **known == weekday)?;
    MONTHS.iter().find(|known| **known == month)?;
    let (hour, "") = clock_and_zone(clock, true)? else { return None };
    (zone.is_empty() || is_zone_name(zone)).then_some(Parts { year, month, day, hour, zone })
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn weekday(year: &str, month: &str, day: &str) -> Option<&'static str> {
    let month = i64::try_from(MONTHS.iter().position(|known| *known == month)?).ok()?.checked_add(1)?;
    // The first of January 1970 was a Thursday.
    let days = days_from_civil(year.parse().ok()?, month, day.parse().ok()?)?.checked_add(4)?;
    WEEKDAYS.get(usize::try_from(days.rem_euclid(7)).ok()?).copied()
}

/// The hour and the zone of `07:08:09.123456+02:30`, or of `07:08:09 CEST`; in ISO zones are numbers always.
fn clock_and_zone(clock: &str, iso: bool) -> Option<(&str, &str)> {
    let at = clock.find(['+', '-', ' ']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(at)?;
    let hour = clock.get(..2)?;
    let plain = clock.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.');
    let known = zone.is_empty() || is_offset(zone) || (!iso && is_zone_name(zone));
    (digits(hour) && plain && known).then_some((hour, zone))
}

/// `+02`, `-05:30`, `+00:19:32`.
fn is_offset(zone: &str) -> bool {
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b':');
    zone.len() <= 9 && zone.strip_prefix(['+', '-']).is_some_and(numbers)
}

/// ` CEST`, ` +03`. What a zone of somebody's making is called is not shown.
fn is_zone_name(zone: &str) -> bool {
    let Some(name) = zone.strip_prefix(' ') else { return false };
    let word = (1..=6).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphabetic()) && name != "BC";
    word || (name.len() <= 5 && is_offset(name))
}

fn is_day(text: &str) -> bool {
    text.len() == 2 && digits(text) && text.parse().is_ok_and(|day: u8| (1..=31).contains(&day))
}

fn digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Year, month and day of days since 1970-01-01 in the proleptic Gregorian calendar
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>).
fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    let days = days.checked_add(719_468)?;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era.checked_mul(400)?.checked_add(year_of_era)?.checked_add(i64::from(month <= 2))?;
    Some((year, month, day))
}

/// The way back (<https://howardhinnant.github.io/date_algorithms.html#days_from_civil>).
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = year.checked_sub(i64::from(month <= 2))?;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era.checked_mul(146_097)?.checked_add(day_of_era)?.checked_sub(719_468)
}

/// Days since 2000-01-01 of an ISO date, which must exist.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    if !(4..=6).contains(&year.len()) || month.len() != 2 || day.len() != 2 || ![year, month, day].iter().all(|part| digits(part)) {
        return None;
    }
    let (year, month, day): (i64, i64, i64) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let days = days_from_civil(year, month, day)?;
    // A day that does not exist comes back as another one.
    (year >= 1 && civil_from_days(days)? == (year, month, day)).then_some(())?;
    i32::try_from(days.checked_sub(EPOCH_DAYS)?).ok()
}
