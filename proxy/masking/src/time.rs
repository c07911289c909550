//! Cutting dates and timestamps down to a unit.
//!
//! In text only ISO output is understood (`DateStyle` `ISO`, the default); any other is hidden whole. A `timestamptz` is cut in
//! the zone it is shown in: the session's in text, UTC in binary. Years before the common era and the infinities are hidden whole.

use bytes::{BufMut as _, BytesMut};

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
}

impl Cut {
    pub(crate) const fn new(family: Family, unit: TimeUnit) -> Option<Self> {
        match (family, unit) {
            (Family::Date, TimeUnit::Year | TimeUnit::Month) | (Family::Timestamp | Family::Timestamptz, _) => Some(Self { unit, family }),
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
        let (year, rest) = text.split_once('-')?;
        let (month, rest) = rest.split_once('-')?;
        let (day, clock) = rest.split_at_checked(2)?;
        if !(4..=6).contains(&year.len()) || month.len() != 2 || ![year, month, day].iter().all(|part| digits(part)) {
            return None;
        }
        let (hour, zone) = match (self.family, clock.strip_prefix(' ')) {
            (Family::Date, None) if clock.is_empty() => ("", ""),
            (Family::Timestamp | Family::Timestamptz, Some(clock)) => clock_and_zone(clock)?,
            _ => return None,
        };
        if (self.family == Family::Timestamptz) == zone.is_empty() {
            return None;
        }
        let (month, day) = match self.unit {
            TimeUnit::Year => ("01", "01"),
            TimeUnit::Month => (month, "01"),
            TimeUnit::Day | TimeUnit::Hour => (month, day),
        };
        for part in [year, "-", month, "-", day] {
            out.extend_from_slice(part.as_bytes());
        }
        if self.family != Family::Date {
            let hour = if self.unit == TimeUnit::Hour { hour } else { "00" };
            for part in [" ", hour, ":00:00", zone] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        Some(())
    }
}

/// The hour and the zone of `07:08:09.123456+02:30`.
fn clock_and_zone(clock: &str) -> Option<(&str, &str)> {
    let at = clock.find(['+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(at)?;
    let hour = clock.get(..2)?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.');
    let zone_digits = zone.strip_prefix(['+', '-']).unwrap_or_default();
    (digits(hour) && plain(clock) && plain(zone_digits) && zone.len() <= 9).then_some((hour, zone))
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
