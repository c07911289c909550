#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::BytesMut;

use crate::{ColumnMask, Mask, MaskKey, TextStyle, TimeUnit, ValueMasker};

const TEXT: u32 = 25;
const BPCHAR: u32 = 1042;
const INT4: u32 = 23;
const NUMERIC: u32 = 1700;

fn masked(mask: Mask, type_oid: u32, binary: bool, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = BytesMut::from(&b"before"[..]);
    let masker = ValueMasker::new(&ColumnMask { mask, type_oid, binary }, &MaskKey::new([7; 32]), TextStyle::default());
    let result = masker.mask(value, &mut out);
    assert_eq!(out.get(..6), Some(&b"before"[..]));
    let added = out.get(6..).unwrap().to_vec();
    assert!(result.is_some() || added.is_empty());
    result.map(|()| added)
}

fn text(mask: Mask, type_oid: u32, value: &str) -> Option<String> {
    masked(mask, type_oid, false, value.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn last_four_characters() {
    for (value, expected) in [
        ("123-45-6789", "*******6789"),
        ("12345", "*2345"),
        ("1234", "****"),
        ("12", "****"),
        ("", "****"),
        ("žluťoučký", "*****učký"),
        ("🙂🙂🙂🙂", "****"),
        ("🙂🙂🙂🙂🙂", "*🙂🙂🙂🙂"),
    ] {
        assert_eq!(text(Mask::Last4, TEXT, value).as_deref(), Some(expected), "{value}");
        assert_eq!(masked(Mask::Last4, TEXT, true, value.as_bytes()).unwrap(), expected.as_bytes());
    }
    assert_eq!(text(Mask::Last4, BPCHAR, "123456789   ").as_deref(), Some("*****6789   "), "padding does not count");
    assert_eq!(text(Mask::Last4, BPCHAR, "1234        ").as_deref(), Some("****"));
    assert_eq!(masked(Mask::Last4, TEXT, false, b"12345\xff6789").unwrap(), b"****", "not UTF-8");
}

#[test]
fn addresses_and_what_only_looks_like_one() {
    for (value, expected) in [
        ("alice@example.com", "a***@example.com"),
        ("a@example.com", "***@example.com"),
        ("jürgen+x@mail.example.co.uk", "j***@mail.example.co.uk"),
        ("alice@example.com   ", "a***@example.com"),
        ("alice@localhost", "****"),
        ("alice", "****"),
        ("@example.com", "****"),
        ("alice@", "****"),
        ("ssn 123-45-6789 @example.com", "****"),
        ("alice@123-45-6789", "****"),
        ("alice@78.123456789", "****"),
        ("a@b@example.com", "****"),
        ("alice@example.com, bob@example.com", "****"),
        ("alice@exa mple.com", "****"),
    ] {
        assert_eq!(text(Mask::Email, TEXT, value).as_deref(), Some(expected), "{value}");
    }
}

#[test]
fn masks_that_do_not_suit_a_type_hide_all_of_it() {
    for (mask, oid, value, expected) in [
        (Mask::Last4, INT4, "123456", "0"),
        (Mask::Email, INT4, "123456", "0"),
        (Mask::Hash, INT4, "123456", "0"),
        (Mask::Token, INT4, "123456", "0"),
        (Mask::Last4, NUMERIC, "123456.78", "0"),
        (Mask::Last4, 2950, "0190c6b8-1111-7222-8333-444455556666", "00000000-0000-0000-0000-000000000000"),
        (Mask::Last4, 1009, "{123-45-6789}", "{}"),
        (Mask::Last4, 3802, "{\"ssn\": \"123-45-6789\"}", "\"****\""),
        (Mask::Email, 142, "<a>alice@example.com</a>", "<masked/>"),
        (Mask::Round { to: 10 }, TEXT, "123", "****"),
        (Mask::Round { to: 1 }, INT4, "123", "0"),
        (Mask::Truncate { unit: TimeUnit::Day }, 1082, "2024-05-17", "2000-01-01"),
        (Mask::Truncate { unit: TimeUnit::Year }, INT4, "2024", "0"),
        (Mask::Constant { value: "x".into() }, INT4, "123456", "0"),
        (Mask::Constant { value: "2024-02-30".into() }, 1082, "2024-05-17", "2000-01-01"),
        (Mask::Constant { value: "not json".into() }, 114, "{\"a\":1}", "\"****\""),
    ] {
        assert_eq!(text(mask.clone(), oid, value).as_deref(), Some(expected), "{mask:?} {oid}");
    }
    for mask in [Mask::Full, Mask::Last4, Mask::Hash, Mask::Token, Mask::Constant { value: "happy".into() }] {
        assert_eq!(text(mask, 16_999, "happy"), None, "an unknown type becomes NULL");
    }
    assert_eq!(text(Mask::Null, TEXT, "x"), None);
}

#[test]
fn values_of_the_wrong_shape_are_hidden_whole() {
    for (mask, oid, value) in [
        (Mask::Hash, 2950, &b"\x01\x02"[..]),
        (Mask::Hash, 20, b"123"),
        (Mask::Hash, 3802, b"{}"),
        (Mask::Round { to: 10 }, INT4, b"\x01"),
        (Mask::Round { to: 10 }, 701, &f64::NAN.to_be_bytes()),
        (Mask::Round { to: 10 }, 701, &1e300_f64.to_be_bytes()),
        (Mask::Round { to: 10 }, NUMERIC, b"\0\x01\0\0\0\0\0\0"),
        (Mask::Round { to: 10 }, NUMERIC, b"\0\0\0\0\xc0\0\0\0"),
        (Mask::Round { to: 10 }, NUMERIC, b"\0\x01\x7f\xff\0\0\0\0\0\x01"),
        (Mask::Truncate { unit: TimeUnit::Year }, 1082, &i32::MAX.to_be_bytes()),
        (Mask::Truncate { unit: TimeUnit::Year }, 1114, &i64::MIN.to_be_bytes()),
        (Mask::Truncate { unit: TimeUnit::Year }, 1082, &(-800_000_i32).to_be_bytes()),
    ] {
        assert_eq!(masked(mask.clone(), oid, true, value), masked(Mask::Full, oid, true, b""), "{mask:?} {oid}");
    }
    for (mask, oid, value) in [
        (Mask::Truncate { unit: TimeUnit::Year }, 1082, "17/05/2024"),
        (Mask::Truncate { unit: TimeUnit::Year }, 1082, "infinity"),
        (Mask::Truncate { unit: TimeUnit::Year }, 1082, "0044-03-15 BC"),
        (Mask::Truncate { unit: TimeUnit::Year }, 1082, "2024-05-17 secret"),
        (Mask::Truncate { unit: TimeUnit::Year }, 1184, "2024-05-17 07:08:09"),
        (Mask::Truncate { unit: TimeUnit::Year }, 1184, "2024-05-17 07:08:09+secret"),
        (Mask::Round { to: 10 }, NUMERIC, "NaN"),
        (Mask::Round { to: 10 }, 701, "Infinity"),
        (Mask::Round { to: 10 }, NUMERIC, "12.5 (alice)"),
        (Mask::Hash, 17, "\\x0"),
        (Mask::Hash, 17, "\\9"),
    ] {
        assert_eq!(text(mask.clone(), oid, value), text(Mask::Full, oid, ""), "{mask:?} {value}");
    }
}

#[test]
fn rounding_goes_towards_zero_in_every_number_type() {
    let round = || Mask::Round { to: 1000 };
    for (oid, value, expected) in [
        (21, "32767", "32000"),
        (INT4, "-12345", "-12000"),
        (20, "-9223372036854775808", "-9223372036854775000"),
        (701, "12345.678", "12000"),
        (NUMERIC, "-12345678901234567890.99", "-12345678901234567000"),
        (NUMERIC, "999.99", "0"),
        (NUMERIC, ".5", "0"),
    ] {
        assert_eq!(text(round(), oid, value).as_deref(), Some(expected), "{value}");
    }
    assert_eq!(masked(round(), INT4, true, &(-12_345_i32).to_be_bytes()).unwrap(), (-12_000_i32).to_be_bytes());
    assert_eq!(masked(round(), 21, true, &12_345_i16.to_be_bytes()).unwrap(), 12_000_i16.to_be_bytes());
    assert_eq!(masked(round(), 20, true, &12_345_i64.to_be_bytes()).unwrap(), 12_000_i64.to_be_bytes());
    assert_eq!(masked(round(), 700, true, &12_345.5_f32.to_be_bytes()).unwrap(), 12_000_f32.to_be_bytes());
    assert_eq!(masked(round(), 701, true, &12_345.5_f64.to_be_bytes()).unwrap(), 12_000_f64.to_be_bytes());
    // -12345.67 is digits 1, 2345, 6700 with weight 1; -12000 is 1, 2000.
    let clear = b"\0\x03\0\x01\x40\0\0\x02\0\x01\x09\x29\x1a\x2c";
    assert_eq!(masked(round(), NUMERIC, true, clear).unwrap(), b"\0\x02\0\x01\x40\0\0\0\0\x01\x07\xd0");
    assert_eq!(masked(Mask::Round { to: 10_000 }, NUMERIC, true, clear).unwrap(), b"\0\x01\0\x01\x40\0\0\0\0\x01");
}

#[test]
fn dates_and_timestamps_are_cut() {
    let cut = |unit| Mask::Truncate { unit };
    for (unit, oid, value, expected) in [
        (TimeUnit::Year, 1082, "2024-05-17", "2024-01-01"),
        (TimeUnit::Month, 1082, "2024-05-17", "2024-05-01"),
        (TimeUnit::Year, 1114, "2024-05-17 07:08:09.123456", "2024-01-01 00:00:00"),
        (TimeUnit::Day, 1114, "2024-05-17 07:08:09", "2024-05-17 00:00:00"),
        (TimeUnit::Hour, 1114, "2024-05-17 07:08:09", "2024-05-17 07:00:00"),
        (TimeUnit::Month, 1184, "2024-05-17 07:08:09.5-03:30", "2024-05-01 00:00:00-03:30"),
        (TimeUnit::Year, 1082, "12024-05-17", "12024-01-01"),
    ] {
        assert_eq!(text(cut(unit), oid, value).as_deref(), Some(expected), "{value}");
    }
    // 2024-05-17 is day 8903 of PostgreSQL's epoch, 2024-01-01 day 8766, 2024-05-01 day 8887.
    for (unit, day) in [(TimeUnit::Year, 8766_i32), (TimeUnit::Month, 8887)] {
        assert_eq!(masked(cut(unit), 1082, true, &8903_i32.to_be_bytes()).unwrap(), day.to_be_bytes());
    }
    let (day_us, hour_us) = (86_400_000_000_i64, 3_600_000_000_i64);
    let clear = 8903 * day_us + 7 * hour_us + 123;
    for (unit, expected) in [
        (TimeUnit::Year, 8766 * day_us),
        (TimeUnit::Month, 8887 * day_us),
        (TimeUnit::Day, 8903 * day_us),
        (TimeUnit::Hour, 8903 * day_us + 7 * hour_us),
    ] {
        assert_eq!(masked(cut(unit), 1184, true, &clear.to_be_bytes()).unwrap(), expected.to_be_bytes());
    }
    // 1999-12-31 23:59:59.999999 is one microsecond before the epoch.
    assert_eq!(masked(cut(TimeUnit::Day), 1114, true, &(-1_i64).to_be_bytes()).unwrap(), (-day_us).to_be_bytes());
}

#[test]
fn hashes_join_across_formats_and_need_the_key() {
    let hash = |oid, binary, value: &[u8]| masked(Mask::Hash, oid, binary, value).unwrap();
    // HMAC-SHA-256 under 32 bytes of 7, from Python's hmac module.
    assert_eq!(hash(TEXT, false, b"123-45-6789"), b"68fff8937a009d1dad34299678fc8d2419874e5e7308f75cf4295c0ac47122ba");
    assert_eq!(hash(TEXT, false, b"x"), hash(TEXT, true, b"x"));
    assert_eq!(hash(BPCHAR, false, b"x   "), hash(TEXT, true, b"x"));
    assert_eq!(hash(19, false, b"x").len(), 32);
    assert_ne!(hash(TEXT, false, b"x"), hash(TEXT, false, b"y"));
    let as_text = String::from_utf8(hash(2950, false, b"0190c6b8-1111-7222-8333-444455556666")).unwrap();
    let clear = hex::decode("0190c6b8111172228333444455556666").unwrap();
    assert_eq!(hex::decode(as_text.replace('-', "")).unwrap(), hash(2950, true, &clear));
    assert_eq!(as_text.len(), 36);
    let number = i64::from_be_bytes(hash(20, true, &42_i64.to_be_bytes()).try_into().unwrap());
    assert_eq!(hash(20, false, b"42"), number.to_string().into_bytes());
    assert!(number >= 0);
    let bytes = hash(17, true, b"a\\\xff");
    assert_eq!(hash(17, false, b"\\x615cff"), format!("\\x{}", hex::encode(&bytes)).into_bytes());
    assert_eq!(hash(17, false, b"a\\\\\\377"), hash(17, false, b"\\x615cff"), "escape format");
    assert_eq!(hash(3802, true, b"\x01{}").strip_prefix(b"\x01"), Some(&hash(3802, false, b"{}")[..]));
    let other =
        ValueMasker::new(&ColumnMask { mask: Mask::Hash, type_oid: TEXT, binary: false }, &MaskKey::new([8; 32]), TextStyle::default());
    let mut out = BytesMut::new();
    assert_eq!(other.mask(b"x", &mut out), Some(()));
    assert_ne!(out.to_vec(), hash(TEXT, false, b"x"));
}

#[test]
fn tokens_keep_the_form() {
    let token = |value| text(Mask::Token, TEXT, value).unwrap();
    let masked = token("AB12-cd34 Ω");
    assert_eq!(masked, token("AB12-cd34 Ω"), "equal values stay equal");
    assert_ne!(masked, token("AB12-cd35 Ω"));
    for (from, to) in "AB12-cd34 Ω".chars().zip(masked.chars()) {
        let same = match from {
            'Ω' => to == '*',
            c if c.is_ascii_digit() => to.is_ascii_digit(),
            c if c.is_ascii_uppercase() => to.is_ascii_uppercase(),
            c if c.is_ascii_lowercase() => to.is_ascii_lowercase(),
            c => to == c,
        };
        assert!(same, "{from} became {to}");
    }
    assert_eq!(token("--- ---"), "****", "nothing to replace");
    assert_ne!(token(&"7".repeat(100)), "7".repeat(100));
}

#[test]
fn constants_take_the_types_own_form() {
    let constant = |value: &str| Mask::Constant { value: value.into() };
    for (oid, value, shown, binary) in [
        (TEXT, "hidden", "hidden", b"hidden".to_vec()),
        (16, "TRUE", "t", vec![1]),
        (INT4, "-7", "-7", (-7_i32).to_be_bytes().to_vec()),
        (701, "1.5", "1.5", 1.5_f64.to_be_bytes().to_vec()),
        (NUMERIC, "12000", "12000", b"\0\x02\0\x01\0\0\0\0\0\x01\x07\xd0".to_vec()),
        (1082, "2024-05-17", "2024-05-17", 8903_i32.to_be_bytes().to_vec()),
        (3802, "{\"a\": 1}", "{\"a\": 1}", b"\x01{\"a\": 1}".to_vec()),
        (17, "\\xff00", "\\xff00", vec![255, 0]),
    ] {
        assert_eq!(text(constant(value), oid, "clear").as_deref(), Some(shown), "{oid}");
        assert_eq!(masked(constant(value), oid, true, b"clear").unwrap(), binary, "{oid}");
    }
}
