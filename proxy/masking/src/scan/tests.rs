#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

use super::ValueScanner;
use crate::detect::Detectors;

fn redacted(oid: u32, binary: bool, value: &[u8]) -> Option<Vec<u8>> {
    let scanner = ValueScanner::new(&Detectors::standard(), oid, binary)?;
    let mut out = BytesMut::new();
    let hits = scanner.redact(value, &mut out);
    assert_eq!(scanner.finds(value), hits > 0, "{value:?}");
    assert!(hits > 0 || out[..] == *value);
    Some(out.to_vec())
}

fn array(element: u32, values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for number in [1, 1, i32::try_from(element).unwrap(), i32::try_from(values.len()).unwrap(), 1] {
        out.put_i32(number);
    }
    fields(values, &mut out);
    out.to_vec()
}

fn record(values: &[(u32, Option<&[u8]>)]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i32(i32::try_from(values.len()).unwrap());
    for (oid, value) in values {
        out.put_u32(*oid);
        fields(&[*value], &mut out);
    }
    out.to_vec()
}

fn fields(values: &[Option<&[u8]>], out: &mut BytesMut) {
    for value in values {
        out.put_i32(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()));
        out.extend_from_slice(value.unwrap_or_default());
    }
}

#[test]
fn each_layout_stays_one_of_its_type() {
    let long = [b"123-45-6789 ".as_slice(), &[b'x'; 37]].concat();
    let hidden = [b"***-**-6789 ".as_slice(), &[b'x'; 37]].concat();
    // The length of the element is 49, an ASCII digit: looked at as plain bytes, the number would not begin there.
    assert_eq!(redacted(1009, true, &array(25, &[None, Some(&long)])).unwrap(), array(25, &[None, Some(&hidden)]));
    assert_eq!(redacted(1009, false, b"{NULL,\"a b\",123-45-6789}").unwrap(), b"{NULL,\"a b\",***-**-6789}");
    assert_eq!(redacted(3802, true, b"\x01{\"card\": 4111111111111111}").unwrap(), b"\x01{\"card\": 1000000000001111}");
    assert_eq!(
        redacted(3807, true, &array(3802, &[Some(b"\x01[\"123-45-6789\"]")])).unwrap(),
        array(3802, &[Some(b"\x01[\"***-**-6789\"]")])
    );
    assert_eq!(redacted(3807, false, br#"{"{\"card\": 4111111111111111}"}"#).unwrap(), br#"{"{\"card\": 1111111111111111}"}"#);
    assert_eq!(redacted(17, false, b"\\x3132332d34352d36373839").unwrap(), b"\\x2a2a2a2d2a2a2d36373839");
    assert_eq!(redacted(17, true, b"123-45-6789").unwrap(), b"***-**-6789");
    assert_eq!(redacted(17, true, b"\0\x01123-45-6789").unwrap(), b"\0\x01123-45-6789", "not text: an image stays one");
    assert_eq!(redacted(142, false, b"<a b=\"123-45-6789\"/>").unwrap(), b"<a b=\"***-**-6789\"/>");
    let clear = record(&[(23, Some(&7_i32.to_be_bytes())), (25, Some(b"123-45-6789")), (25, None)]);
    let masked = record(&[(23, Some(&7_i32.to_be_bytes())), (25, Some(b"***-**-6789")), (25, None)]);
    for oid in [2249, 99_999] {
        assert_eq!(redacted(oid, true, &clear).unwrap(), masked);
    }
    assert_eq!(redacted(99_999, true, &array(25, &[Some(b"123-45-6789")])).unwrap(), array(25, &[Some(b"***-**-6789")]));
    assert_eq!(redacted(99_999, true, b"citext 123-45-6789").unwrap(), b"citext ***-**-6789");
    assert_eq!(redacted(99_999, false, b"(1,123-45-6789)").unwrap(), b"(1,***-**-6789)");
    // Addresses change nothing of lengths either.
    assert_eq!(redacted(1015, true, &array(1043, &[Some(b"a@example.com")])).unwrap(), array(1043, &[Some(b"*@example.com")]));
}

#[test]
fn numbers_dates_and_identifiers_are_not_looked_at() {
    for oid in [16, 20, 21, 23, 26, 700, 701, 1082, 1114, 1184, 1700, 2950, 869, 790, 1016, 1231, 2951] {
        for binary in [false, true] {
            assert_eq!(redacted(oid, binary, b"4111111111111111"), None, "{oid}");
        }
    }
}

proptest! {
    /// Arbitrary bytes in any layout never panic, and lengths within agree.
    #[test]
    fn arbitrary_values(
        oid in prop::sample::select(vec![17_u32, 25, 114, 142, 1009, 1263, 2249, 2287, 3802, 3807, 4072, 99_999]),
        binary in any::<bool>(),
        value in prop::collection::vec(prop_oneof![any::<u8>(), Just(0_u8), prop::sample::select(b"0123456789-@.".to_vec())], 0..120)
    ) {
        let _ = redacted(oid, binary, &value);
    }
}
