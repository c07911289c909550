#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

use super::{CopyFormat, CopyLayout, CopyMasker};
use crate::detect::Detectors;
use crate::{ColumnMask, ColumnPlan, Mask, MaskKey, TextStyle};

fn plan(mask: Mask, binary: bool) -> ColumnPlan {
    ColumnPlan::Mask(ColumnMask { mask, type_oid: 25, binary })
}

fn detect(binary: bool) -> ColumnPlan {
    ColumnPlan::Detect { detectors: Detectors::standard(), type_oid: 25, binary }
}

fn text() -> CopyFormat {
    CopyFormat::Text { delimiter: b'\t', null: b"\\N".to_vec() }
}

fn csv() -> CopyFormat {
    CopyFormat::Csv { delimiter: b',', null: Vec::new(), quote: b'"', escape: b'"', force_quote: Vec::new() }
}

/// Feeds the data cut into pieces of `size`; gives what the frames carry.
fn masked(format: CopyFormat, header: bool, columns: &[ColumnPlan], data: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut masker = CopyMasker::new(CopyLayout { format, header }, columns, &MaskKey::new([7; 32]), TextStyle::default());
    let mut out = BytesMut::new();
    for piece in data.chunks(size.max(1)) {
        masker.feed(piece, &mut out).map_err(|error| error.to_string())?;
    }
    masker.finish().map_err(|error| error.to_string())?;
    let mut rest = &out[..];
    let mut carried = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let (tag, length) = head.split_first().unwrap();
        assert_eq!(*tag, b'd');
        let length = usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap() - 4;
        let (body, after) = after.split_at(length);
        carried.extend_from_slice(body);
        rest = after;
    }
    Ok(carried)
}

fn all_ways(format: &CopyFormat, header: bool, columns: &[ColumnPlan], data: &str, expected: &str) {
    for size in [1, 2, 3, 7, data.len()] {
        let found = masked(format.clone(), header, columns, data.as_bytes(), size).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "in pieces of {size}");
    }
}

#[test]
fn text_format() {
    let columns = [ColumnPlan::Clear, plan(Mask::Last4, false), detect(false), plan(Mask::Null, false)];
    all_ways(
        &text(),
        false,
        &columns,
        "1\t123-45-6789\tnothing\tx\n\\N\t\\N\tis 123-45-6789\\nyes\t\\N\na\\tb\tab\\tcdefg\\\\\t\\\\N\t\\n\n",
        "1\t*******6789\tnothing\t\\N\n\\N\t\\N\tis ***-**-6789\\nyes\t\\N\na\\tb\t*****efg\\\\\t\\\\N\t\\N\n",
    );
    let bar = CopyFormat::Text { delimiter: b'|', null: Vec::new() };
    let constant = plan(Mask::Constant { value: "a|b\n\\".to_owned() }, false);
    all_ways(&bar, true, &[constant, ColumnPlan::Clear], "ssn|b\\|c\nx\\|y|z\n|z\n", "ssn|b\\|c\na\\|b\\n\\\\|z\n|z\n");
    all_ways(&text(), false, &[], "\n\n", "\n\n");
}

#[test]
fn csv_format() {
    let columns = [ColumnPlan::Clear, plan(Mask::Last4, false), detect(false)];
    all_ways(
        &csv(),
        true,
        &columns,
        "id,ssn,note\n1,123-45-6789,plain\n2,\"1,2\"\"3\n45678\",\"call 123-45-6789, \"\"now\"\"\"\n3,,\"\"\n",
        "id,ssn,note\n1,*******6789,plain\n2,*******5678,\"call ***-**-6789, \"\"now\"\"\"\n3,,\"\"\n",
    );
    // A quote that is a digit: that the clear value needed quotes does not show.
    let odd = CopyFormat::Csv { delimiter: b'5', null: b"NULL".to_vec(), quote: b'1', escape: b'\\', force_quote: vec![false, true] };
    let columns = [plan(Mask::Full, false), plan(Mask::Constant { value: "NULL".to_owned() }, false)];
    all_ways(&odd, false, &columns, "1a\\1b15x\nNULL5NULL\nc51\\\\1\n", "****51NULL1\nNULL5NULL\n****51NULL1\n");
    // An empty masked value is not NULL.
    let empty = [plan(Mask::Constant { value: String::new() }, false)];
    all_ways(&csv(), false, &empty, "secret\n\n", "\"\"\n\n");
}

fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut out = BytesMut::from(&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..]);
    for row in rows {
        out.put_i16(i16::try_from(row.len()).unwrap());
        for value in *row {
            out.put_i32(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()));
            out.extend_from_slice(value.unwrap_or_default());
        }
    }
    out.put_i16(-1);
    out.to_vec()
}

#[test]
fn binary_format() {
    let columns = [plan(Mask::Last4, true), detect(true), plan(Mask::Null, true), ColumnPlan::Clear];
    let data = binary(&[&[Some(b"123-45-6789"), Some(b"is 123-45-6789"), Some(b"x"), Some(b"y")], &[None, None, None, None]]);
    let expected = binary(&[&[Some(b"*******6789"), Some(b"is ***-**-6789"), None, Some(b"y")], &[None, None, None, None]]);
    for size in [1, 5, data.len()] {
        assert_eq!(masked(CopyFormat::Binary, false, &columns, &data, size).unwrap(), expected);
    }
}

/// As the server sends it: a driver that reads row by row takes the header from the first row's message.
#[test]
fn the_header_of_a_binary_copy_comes_with_what_follows_it() {
    for (rows, messages) in [(0, 1), (1, 2), (3, 4)] {
        let row: &[Option<&[u8]>] = &[Some(b"123-45-6789")];
        let data = binary(&vec![row; rows]);
        for size in [1, 19, data.len()] {
            let layout = CopyLayout { format: CopyFormat::Binary, header: false };
            let mut masker = CopyMasker::new(layout, &[plan(Mask::Last4, true)], &MaskKey::new([7; 32]), TextStyle::default());
            let mut out = BytesMut::new();
            data.chunks(size).for_each(|piece| masker.feed(piece, &mut out).unwrap());
            let mut found = 0;
            let mut rest = &out[..];
            while let Some((head, after)) = rest.split_first_chunk::<5>() {
                let length = u32::from_be_bytes(head[1..].try_into().unwrap());
                rest = after.split_at(usize::try_from(length).unwrap() - 4).1;
                found += 1;
            }
            assert_eq!(found, messages, "{rows} rows in pieces of {size}");
        }
    }
}

#[test]
fn what_does_not_fit_the_plan_is_not_passed_on() {
    let two = [ColumnPlan::Clear, plan(Mask::Full, false)];
    for (format, data, error) in [
        (text(), b"a\n".as_slice(), "1 columns, the plan 2"),
        (text(), b"a\tb\tc\n", "3 columns, the plan 2"),
        (text(), b"a\tb", "ends within a row"),
        (text(), b"a\tb\\\n", "ends within a row"),
        (csv(), b"a,b,c\n", "3 columns, the plan 2"),
        (csv(), b"a,\"b\n", "ends within a row"),
        (CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\x01\0\0\0\0", "not the header"),
        (CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", "ends within a row"),
        (CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0", "1 columns, the plan 2"),
        (CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff\0", "after the trailer"),
        (CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xfe", "negative column count"),
    ] {
        let found = masked(format, false, &two, data, data.len()).unwrap_err();
        assert!(found.contains(error), "{found} is not {error}");
    }
}

proptest! {
    /// Arbitrary bytes never panic, whatever the pieces.
    #[test]
    fn arbitrary_data(data in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\t\n\\\",0123".to_vec())], 0..80), size in 1_usize..20) {
        for format in [text(), csv(), CopyFormat::Binary] {
            let binary = format == CopyFormat::Binary;
            let _ = masked(format, false, &[plan(Mask::Last4, binary), detect(binary)], &data, size);
        }
    }

    /// No four bytes in a row of a protected value come out, in whatever it is written.
    #[test]
    fn protected_values_do_not_come_out(value in "[a-z0-9\",|]{6,30}", csv_format in any::<bool>(), size in 1_usize..50) {
        let (format, written) = if csv_format {
            (csv(), format!("id,\"{}\"\n", value.replace('"', "\"\"")))
        } else {
            (text(), format!("id\t{value}\n"))
        };
        let out = masked(format, false, &[ColumnPlan::Clear, plan(Mask::Full, false)], written.as_bytes(), size).unwrap();
        for window in value.as_bytes().windows(4) {
            prop_assert!(!out.windows(4).any(|found| found == window));
        }
    }
}
