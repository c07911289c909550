//! Days and hours of rules.

use crate::rule::When;

const DAY: i64 = 86_400;

/// Whether `when` holds at `now`, and the time from which that may change.
pub(super) fn holds(when: &When, now: u64) -> (bool, u64) {
    let now = i64::try_from(now).unwrap_or(i64::MAX / 2);
    let local = now.saturating_add(i64::from(when.offset));
    let minute = local.rem_euclid(DAY) / 60;
    // 1970-01-01 was a Thursday; Monday is 0.
    let day = u8::try_from((local.div_euclid(DAY) + 3).rem_euclid(7)).unwrap_or(0);
    let in_days = when.days.is_empty() || when.days.contains(&day);
    let (from, until) = (i64::from(when.from), i64::from(when.until));
    let in_hours = if from <= until { (from..until).contains(&minute) } else { minute >= from || minute < until };
    // Whole minutes decide, so the next minute is early enough.
    let next = now.saturating_add(60 - local.rem_euclid(60));
    (in_days && in_hours, u64::try_from(next).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_hours_are_local() {
        let office = When { days: vec![0, 1, 2, 3, 4], from: 8 * 60, until: 18 * 60, offset: 2 * 3600 };
        // Thursday 1970-01-01 06:00 UTC is 08:00 there.
        assert!(holds(&office, 6 * 3600).0);
        assert!(!holds(&office, 6 * 3600 - 1).0);
        assert!(!holds(&office, 16 * 3600).0);
        // Saturday.
        assert!(!holds(&office, 2 * 86_400 + 6 * 3600).0);
        let night = When { days: Vec::new(), from: 22 * 60, until: 6 * 60, offset: 0 };
        assert!(holds(&night, 23 * 3600).0);
        assert!(holds(&night, 5 * 3600).0);
        assert!(!holds(&night, 12 * 3600).0);
        assert_eq!(holds(&night, 59).1, 60);
    }
}
