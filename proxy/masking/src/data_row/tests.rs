#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

use super::Columns;
use crate::detect::Detectors;
use crate::{ColumnMask, ColumnPlan, Mask, MaskError, MaskKey, RowMasker, TextStyle, TimeUnit};

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(i16::try_from(values.len()).unwrap());
    for value in values {
        match value {
            None => body.put_i32(-1),
            Some(value) => {
                body.put_i32(i32::try_from(value.len()).unwrap());
                body.extend_from_slice(value);
            }
        }
    }
    body.to_vec()
}

fn frame(values: &[Option<&[u8]>]) -> Vec<u8> {
    let body = row(values);
    let length = u32::try_from(body.len() + 4).unwrap();
    [b"D".to_vec(), length.to_be_bytes().to_vec(), body].concat()
}

fn column(mask: Mask) -> Option<ColumnMask> {
    Some(ColumnMask { mask, type_oid: 25, binary: false })
}

fn masker(columns: Vec<Option<ColumnMask>>) -> RowMasker {
    let plans: Vec<ColumnPlan> = columns.into_iter().map(|column| column.map_or(ColumnPlan::Clear, ColumnPlan::Mask)).collect();
    RowMasker::new(&plans, &MaskKey::new([7; 32]), TextStyle::default())
}

#[test]
fn masks_its_columns_and_leaves_the_rest() {
    let mut masker = masker(vec![None, column(Mask::Last4), None, column(Mask::Null), column(Mask::Full)]);
    let mut out = BytesMut::from(&b"earlier"[..]);
    masker.mask(&row(&[Some(b"1"), Some(b"123-45-6789"), None, Some(b"secret"), None]), &mut out).unwrap();
    masker.mask(&row(&[None, None, Some(b""), None, Some(b"")]), &mut out).unwrap();
    let expected = [
        b"earlier".to_vec(),
        frame(&[Some(b"1"), Some(b"*******6789"), None, None, None]),
        frame(&[None, None, Some(b""), None, Some(b"****")]),
    ];
    assert_eq!(out.to_vec(), expected.concat());
    assert_eq!(masker.counts(), [0, 1, 0, 1, 1]);
}

#[test]
fn a_bad_row_changes_nothing() {
    let good = row(&[Some(b"123-45-6789"), Some(b"x")]);
    let mut trailing = good.clone();
    trailing.push(0);
    let mut negative = good.clone();
    *negative.get_mut(17..21).unwrap().first_chunk_mut::<4>().unwrap() = (-2_i32).to_be_bytes();
    let mut long = good.clone();
    *long.get_mut(17..21).unwrap().first_chunk_mut::<4>().unwrap() = 2_i32.to_be_bytes();
    let cases: &[(&[u8], &str)] = &[
        (b"", "no column count"),
        (b"\0", "no column count"),
        (b"\xff\xff", "negative column count"),
        (b"\0\x01\0\0\0\0", "1 columns, the plan 2"),
        (b"\0\x02", "no column length"),
        (&trailing, "bytes after the last column"),
        (&negative, "negative column length"),
        (&long, "column longer than the row"),
        (good.get(..good.len() - 1).unwrap(), "column longer than the row"),
    ];
    let mut masker = masker(vec![column(Mask::Last4), None]);
    for (body, message) in cases {
        let mut out = BytesMut::from(&b"earlier"[..]);
        let error: MaskError = masker.mask(body, &mut out).unwrap_err();
        assert!(error.to_string().contains(message), "{error} is not {message}");
        assert_eq!(&out[..], b"earlier");
        assert_eq!(masker.counts(), [0, 0], "{message}");
    }
}

#[test]
fn detectors_change_what_they_find_and_nothing_else() {
    let detect = |type_oid| ColumnPlan::Detect { detectors: Detectors::standard(), type_oid, binary: false };
    let mut masker = RowMasker::new(&[detect(25), detect(23), detect(3802)], &MaskKey::new([7; 32]), TextStyle::default());
    assert!(!masker.is_idle());
    let clean = row(&[Some(b"nothing here"), Some(b"4111111111111111"), None]);
    assert!(masker.passes(&clean).unwrap());
    let mut out = BytesMut::new();
    masker.mask(&clean, &mut out).unwrap();
    assert_eq!(out.get(5..), Some(&clean[..]));
    let found = row(&[Some(b"is 123-45-6789"), Some(b"7"), Some(b"{\"a\": \"4111111111111111\"}")]);
    assert!(!masker.passes(&found).unwrap());
    out.clear();
    masker.mask(&found, &mut out).unwrap();
    assert_eq!(out.to_vec(), frame(&[Some(b"is ***-**-6789"), Some(b"7"), Some(b"{\"a\": \"************1111\"}")]));
    assert_eq!(masker.counts(), [1, 0, 1]);
    assert!(RowMasker::new(&[detect(23), ColumnPlan::Clear], &MaskKey::new([7; 32]), TextStyle::default()).is_idle());
    assert!(masker.passes(&[0, 3, 0, 0, 0, 0]).is_err());
}

fn any_mask() -> impl Strategy<Value = Mask> {
    prop_oneof![
        Just(Mask::Full),
        Just(Mask::Last4),
        Just(Mask::Email),
        Just(Mask::Null),
        Just(Mask::Hash),
        Just(Mask::Token),
        ".{0,12}".prop_map(|value| Mask::Constant { value }),
        prop_oneof![Just(TimeUnit::Year), Just(TimeUnit::Month), Just(TimeUnit::Day), Just(TimeUnit::Hour)]
            .prop_map(|unit| Mask::Truncate { unit }),
        (1_u64..).prop_map(|to| Mask::Round { to }),
    ]
}

fn any_column() -> impl Strategy<Value = Option<ColumnMask>> {
    let oid = prop_oneof![
        prop::sample::select(vec![16_u32, 17, 18, 19, 20, 21, 23, 25, 114, 142, 700, 701, 1009, 1042, 1082, 1114, 1184, 1700, 2950, 3802]),
        any::<u32>()
    ];
    prop::option::of((any_mask(), oid, any::<bool>()).prop_map(|(mask, type_oid, binary)| ColumnMask { mask, type_oid, binary }))
}

fn any_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        ".{0,20}".prop_map(String::into_bytes),
        any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        "[0-9]{4,6}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}:[0-9]{2}(\\+[0-9]{2})?)?".prop_map(String::into_bytes),
    ];
    prop::option::of(bytes)
}

fn parse(frame: &[u8]) -> Vec<Option<Vec<u8>>> {
    let (head, body) = frame.split_at(5);
    assert_eq!(head.first(), Some(&b'D'));
    assert_eq!(head.get(1..).unwrap(), u32::try_from(frame.len() - 1).unwrap().to_be_bytes());
    let mut columns = Columns::new(body).unwrap();
    let values = (0..columns.count).map(|_| columns.next().unwrap().map(<[u8]>::to_vec)).collect();
    assert_eq!(columns.position, body.len());
    values
}

proptest! {
    /// Arbitrary bytes never panic; what comes out is a whole frame or nothing.
    #[test]
    fn arbitrary_bodies(columns in prop::collection::vec(any_column(), 0..4), body in prop::collection::vec(any::<u8>(), 0..64)) {
        let count = columns.len();
        let mut out = BytesMut::new();
        match masker(columns).mask(&body, &mut out) {
            Ok(()) => prop_assert_eq!(parse(&out).len(), count),
            Err(_) => prop_assert!(out.is_empty()),
        }
    }

    /// A well-formed row stays one: as many columns, clear ones untouched, nulls null.
    #[test]
    fn well_formed_rows(cells in prop::collection::vec((any_column(), any_value()), 0..6)) {
        let (columns, values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
        let body = row(&values.iter().map(Option::as_deref).collect::<Vec<_>>());
        let mut masker = masker(columns.clone());
        let mut out = BytesMut::new();
        masker.mask(&body, &mut out).unwrap();
        let masked = parse(&out);
        prop_assert_eq!(masked.len(), values.len());
        for (index, (column, (clear, masked))) in columns.iter().zip(values.iter().zip(&masked)).enumerate() {
            match (column, clear) {
                (None, _) => prop_assert_eq!(clear, masked),
                (_, None) => prop_assert_eq!(masked, &None),
                (Some(column), Some(clear)) => {
                    prop_assert_eq!(masker.counts().get(index), Some(&1));
                    if column.mask == Mask::Null {
                        prop_assert_eq!(masked, &None);
                    }
                    if matches!(column.mask, Mask::Full | Mask::Hash) && clear.len() >= 5 {
                        let survives = masked.as_ref().is_some_and(|masked| masked.windows(clear.len()).any(|window| window == clear));
                        // Zero values are values too: a clear zero is "masked" into itself.
                        let zero = masker_zero(column);
                        prop_assert!(!survives || *masked == zero, "{:?} survives in {:?}", clear, masked);
                    }
                }
            }
        }
    }

    /// No five bytes of a text value survive a full mask.
    #[test]
    fn full_hides_text(value in "[a-zA-Z0-9 äß@.-]{5,60}", oid in prop::sample::select(vec![25_u32, 1042, 1043, 19, 114, 3802, 142, 17]), binary in any::<bool>()) {
        let mut out = BytesMut::new();
        masker(vec![Some(ColumnMask { mask: Mask::Full, type_oid: oid, binary })]).mask(&row(&[Some(value.as_bytes())]), &mut out).unwrap();
        for window in value.as_bytes().windows(5) {
            prop_assert!(!out.windows(5).any(|found| found == window));
        }
    }

    /// Never more than the last four characters of a text.
    #[test]
    fn last4_hides_the_rest(value in "\\PC{0,40}") {
        let mut out = BytesMut::new();
        masker(vec![column(Mask::Last4)]).mask(&row(&[Some(value.as_bytes())]), &mut out).unwrap();
        let masked = String::from_utf8(parse(&out).remove(0).unwrap()).unwrap();
        let shown = masked.chars().rev().zip(value.chars().rev()).take_while(|(a, b)| a == b && *a != '*').count();
        prop_assert!(shown <= 4);
        prop_assert!(value.chars().count() > 4 || masked.chars().all(|c| c == '*'));
    }
}

fn masker_zero(column: &ColumnMask) -> Option<Vec<u8>> {
    crate::types::zero(column.type_oid, column.binary)
}
