#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::BytesMut;

use crate::{ColumnMask, Mask, MaskKey, TextStyle, TimeUnit, ValueMasker};

const DATE: u32 = 1082;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const MONEY: u32 = 790;

fn style(date: &str, interval: &str) -> TextStyle {
    let mut style = TextStyle::default();
    style.reported("DateStyle", date);
    style.reported("IntervalStyle", interval);
    style
}

fn shown(mask: Mask, type_oid: u32, style: TextStyle, value: &str) -> String {
    let mut out = BytesMut::new();
    let masker = ValueMasker::new(&ColumnMask { mask, type_oid, binary: false }, &MaskKey::new([7; 32]), style);
    masker.mask(value.as_bytes(), &mut out).unwrap();
    String::from_utf8(out.to_vec()).unwrap()
}

/// What PostgreSQL 15 writes for the same three values, in the zone Europe/Vienna.
const WRITTEN: &[(&str, &str, &str, &str)] = &[
    ("ISO, MDY", "2024-05-17", "2024-05-17 07:08:09.123", "2024-05-17 07:08:09.123+02"),
    ("ISO, DMY", "2024-05-17", "2024-05-17 07:08:09.123", "2024-05-17 07:08:09.123+02"),
    ("SQL, MDY", "05/17/2024", "05/17/2024 07:08:09.123", "05/17/2024 07:08:09.123 CEST"),
    ("SQL, YMD", "05/17/2024", "05/17/2024 07:08:09.123", "05/17/2024 07:08:09.123 CEST"),
    ("SQL, DMY", "17/05/2024", "17/05/2024 07:08:09.123", "17/05/2024 07:08:09.123 CEST"),
    ("German, MDY", "17.05.2024", "17.05.2024 07:08:09.123", "17.05.2024 07:08:09.123 CEST"),
    ("German, DMY", "17.05.2024", "17.05.2024 07:08:09.123", "17.05.2024 07:08:09.123 CEST"),
    ("Postgres, MDY", "05-17-2024", "Fri May 17 07:08:09.123 2024", "Fri May 17 07:08:09.123 2024 CEST"),
    ("Postgres, DMY", "17-05-2024", "Fri 17 May 07:08:09.123 2024", "Fri 17 May 07:08:09.123 2024 CEST"),
];

const CUT: &[(&str, TimeUnit, &str, &str)] = &[
    ("ISO, MDY", TimeUnit::Year, "2024-01-01", "2024-01-01 00:00:00"),
    ("ISO, MDY", TimeUnit::Month, "2024-05-01", "2024-05-01 00:00:00"),
    ("ISO, DMY", TimeUnit::Hour, "2000-01-01", "2024-05-17 07:00:00"),
    ("SQL, MDY", TimeUnit::Month, "05/01/2024", "05/01/2024 00:00:00"),
    ("SQL, YMD", TimeUnit::Month, "05/01/2024", "05/01/2024 00:00:00"),
    ("SQL, DMY", TimeUnit::Month, "01/05/2024", "01/05/2024 00:00:00"),
    ("SQL, DMY", TimeUnit::Day, "01/01/2000", "17/05/2024 00:00:00"),
    ("German, MDY", TimeUnit::Month, "01.05.2024", "01.05.2024 00:00:00"),
    ("German, DMY", TimeUnit::Hour, "01.01.2000", "17.05.2024 07:00:00"),
    ("Postgres, MDY", TimeUnit::Year, "01-01-2024", "Mon Jan 01 00:00:00 2024"),
    ("Postgres, MDY", TimeUnit::Month, "05-01-2024", "Wed May 01 00:00:00 2024"),
    ("Postgres, DMY", TimeUnit::Month, "01-05-2024", "Wed 01 May 00:00:00 2024"),
    ("Postgres, DMY", TimeUnit::Hour, "01-01-2000", "Fri 17 May 07:00:00 2024"),
];

#[test]
fn dates_are_cut_in_the_style_they_are_written_in() {
    for (name, unit, date, timestamp) in CUT {
        let (_, clear_date, clear_timestamp, zoned) = WRITTEN.iter().find(|(known, ..)| known == name).unwrap();
        let style = style(name, "postgres");
        let cut = |oid, value| shown(Mask::Truncate { unit: *unit }, oid, style, value);
        assert_eq!(cut(DATE, clear_date), *date, "{name}");
        assert_eq!(cut(TIMESTAMP, clear_timestamp), *timestamp, "{name}");
        let zone = zoned.strip_prefix(clear_timestamp).unwrap();
        assert_eq!(cut(TIMESTAMPTZ, zoned), format!("{timestamp}{zone}"), "{name}");
    }
}

#[test]
fn what_is_hidden_whole_is_valid_in_the_style() {
    for (name, date, timestamp, interval_style, interval) in [
        ("ISO, MDY", "2000-01-01", "2000-01-01 00:00:00", "postgres", "00:00:00"),
        ("SQL, DMY", "01/01/2000", "01/01/2000 00:00:00", "postgres_verbose", "@ 0"),
        ("German, DMY", "01.01.2000", "01.01.2000 00:00:00", "sql_standard", "0"),
        ("Postgres, MDY", "01-01-2000", "Sat Jan 01 00:00:00 2000", "iso_8601", "PT0S"),
        ("Postgres, DMY", "01-01-2000", "Sat 01 Jan 00:00:00 2000", "iso_8601", "PT0S"),
    ] {
        let style = style(name, interval_style);
        assert_eq!(shown(Mask::Full, DATE, style, "17/05/2024"), date);
        assert_eq!(shown(Mask::Hash, TIMESTAMP, style, "17/05/2024 07:08:09"), timestamp);
        assert_eq!(shown(Mask::Full, INTERVAL, style, "3 days"), interval);
        let zoned = shown(Mask::Full, TIMESTAMPTZ, style, "17/05/2024 07:08:09 CEST");
        assert!(zoned == format!("{timestamp}+00") || zoned == format!("{timestamp} UTC"), "{zoned}");
        // The infinities, years before the common era, and what is no date in this style.
        let others =
            ["infinity", "-infinity", "", "2024-17-05", "99/99/2024", "17/05/2024 x", "0044-03-15 BC", "03/15/0044 BC", "15.03.0044 BC"];
        for value in
            others.into_iter().chain(["Fri May 17 07:08:09 2024 BC", "17.05.2024 314-15-9265", "Fri Xay 17 07:08:09 2024", "03-15-0044 BC"])
        {
            for unit in [TimeUnit::Year, TimeUnit::Month, TimeUnit::Hour] {
                for oid in [DATE, TIMESTAMP, TIMESTAMPTZ] {
                    assert_eq!(shown(Mask::Truncate { unit }, oid, style, value), shown(Mask::Full, oid, style, ""), "{name}: {value}");
                }
            }
        }
        // The other styles' values, where they cannot be taken for this one's.
        for (other, date, timestamp, zoned) in WRITTEN.iter().filter(|(other, ..)| other.split(',').next() != name.split(',').next()) {
            for (oid, value) in [(DATE, date), (TIMESTAMP, timestamp), (TIMESTAMPTZ, zoned)] {
                let cut = shown(Mask::Truncate { unit: TimeUnit::Year }, oid, style, value);
                assert_eq!(cut, shown(Mask::Full, oid, style, ""), "{value} of {other} under {name}");
            }
        }
    }
}

#[test]
fn a_style_that_is_not_sure_never_shows_a_day_for_a_month() {
    for name in ["SQL, MDY", "SQL, DMY", "Postgres, MDY", "Postgres, DMY"] {
        let style = style(name, "postgres").unsettled(true);
        let separator = if name.starts_with("SQL") { "/" } else { "-" };
        let value = format!("04{separator}05{separator}2024");
        let cut = |unit| shown(Mask::Truncate { unit }, DATE, style, &value);
        assert_eq!(cut(TimeUnit::Month), format!("01{separator}01{separator}2000"), "{name}");
        assert_eq!(cut(TimeUnit::Year), format!("01{separator}01{separator}2024"), "{name}");
        assert_eq!(shown(Mask::Constant { value: "1970-02-03".into() }, DATE, style, &value), format!("01{separator}01{separator}2000"));
    }
    let hour = shown(Mask::Truncate { unit: TimeUnit::Hour }, TIMESTAMP, style("SQL, MDY", "").unsettled(true), "17/05/2024 07:08:09");
    assert_eq!(hour, "17/05/2024 07:00:00");
    // These say by themselves which is which.
    let iso = shown(Mask::Truncate { unit: TimeUnit::Month }, DATE, style("ISO, MDY", "").unsettled(true), "2024-05-17");
    assert_eq!(iso, "2024-05-01");
    let words =
        shown(Mask::Truncate { unit: TimeUnit::Month }, TIMESTAMP, style("Postgres, MDY", "").unsettled(true), "Fri 17 May 07:08:09 2024");
    assert_eq!(words, "Wed 01 May 00:00:00 2024");
}

#[test]
fn constants_are_written_in_the_style() {
    for (name, expected) in [
        ("ISO, DMY", "1970-02-03"),
        ("SQL, MDY", "02/03/1970"),
        ("SQL, DMY", "03/02/1970"),
        ("German, MDY", "03.02.1970"),
        ("Postgres, YMD", "02-03-1970"),
        ("Postgres, DMY", "03-02-1970"),
    ] {
        assert_eq!(shown(Mask::Constant { value: "1970-02-03".into() }, DATE, style(name, ""), "x"), expected, "{name}");
    }
}

/// A value of the same text in every row of a masked column, so that a NULL that is shown cannot be told from others.
#[test]
fn derived_values_are_one_value() {
    for (oid, values) in [(MONEY, ["$12.00", "12,00 €"]), (DATE, ["17/05/2024", "infinity"]), (TIMESTAMP, ["17/05/2024 07:08:09", "x"])] {
        let style = style("SQL, DMY", "");
        let masker = ValueMasker::new(&ColumnMask { mask: Mask::Derived, type_oid: oid, binary: false }, &MaskKey::new([7; 32]), style);
        for value in values {
            assert_eq!(shown(Mask::Derived, oid, style, value).as_bytes(), masker.in_place_of_null().unwrap());
        }
    }
}

#[test]
fn money_keeps_its_currency_where_drivers_look_for_it() {
    let plain = TextStyle::default();
    for (value, expected) in [("$1,234.56", "$0.00"), ("-$1,234.56", "$0.00"), ("1.234,56 €", "0"), ("￥1,234", "0")] {
        assert_eq!(shown(Mask::Full, MONEY, plain, value), expected);
    }
}
