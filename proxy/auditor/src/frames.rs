//! Server messages as they lie in `Rows` events, read with every length checked.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::values::{self, Cell};

/// One column of a `RowDescription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: u32,
    /// Format code: 0 text, 1 binary.
    pub format: i16,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Columns of the rows to come.
    Columns(Vec<Column>),
    /// A row.
    Row(Vec<Cell>),
    /// Data of a COPY begins or ends, or another message of the type.
    Note(String),
    /// Data of a COPY.
    Copy(Bytes),
    /// Not a frame; nothing after it can be read.
    Malformed(&'static str),
}

/// Reads frames of statements, remembering each statement's columns between events.
#[derive(Debug, Default)]
pub struct Reader {
    columns: BTreeMap<u64, Vec<Column>>,
    /// Beginnings of long frames, which go on in the statement's next event.
    begun: BTreeMap<u64, BytesMut>,
}

impl Reader {
    /// The pieces of one event's frames, in order. A frame that was recorded in parts counts with its last one.
    pub fn read(&mut self, statement: u64, mut frames: Bytes) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if let Some(mut begun) = self.begun.remove(&statement) {
            begun.extend_from_slice(&frames);
            if let Some(note) = goes_on(&begun) {
                self.begun.insert(statement, begun);
                return vec![note];
            }
            frames = begun.freeze();
        }
        while !frames.is_empty() {
            if let Some(note) = goes_on(&frames) {
                self.begun.insert(statement, BytesMut::from(frames));
                pieces.push(note);
                break;
            }
            let Some((tag, body)) = next_frame(&mut frames) else {
                pieces.push(Piece::Malformed("the length of a frame is not valid"));
                break;
            };
            pieces.push(match tag {
                b'T' => match row_description(&body) {
                    Some(columns) => {
                        self.columns.insert(statement, columns.clone());
                        Piece::Columns(columns)
                    }
                    None => Piece::Malformed("a RowDescription is cut off"),
                },
                b'D' => {
                    let columns = self.columns.get(&statement).map_or(&[][..], Vec::as_slice);
                    data_row(&body, columns).map_or(Piece::Malformed("a DataRow is cut off"), Piece::Row)
                }
                b'd' => Piece::Copy(body),
                b'H' => {
                    Piece::Note(if body.first() == Some(&1) { "COPY to the client, binary" } else { "COPY to the client, text" }.to_owned())
                }
                b'G' => Piece::Note("COPY from the client".to_owned()),
                b'c' => Piece::Note("end of COPY data".to_owned()),
                b'n' => Piece::Note("no rows are returned".to_owned()),
                other => Piece::Note(format!("message {:?}, {} bytes", char::from(other), body.len())),
            });
        }
        pieces
    }
}

/// Whether these are the first bytes of a frame that is longer; then what there is to say of it.
fn goes_on(frames: &[u8]) -> Option<Piece> {
    let total = match frames.split_first().and_then(|(_, rest)| rest.first_chunk::<4>()) {
        Some(length) => usize::try_from(i32::from_be_bytes(*length)).ok()?.checked_add(1)?,
        None => return Some(Piece::Note(format!("the first {} bytes of a message", frames.len()))),
    };
    (total > frames.len()).then(|| Piece::Note(format!("the first {} of {total} bytes of a message", frames.len())))
}

/// Cuts off tag, length (which counts itself) and body.
fn next_frame(frames: &mut Bytes) -> Option<(u8, Bytes)> {
    let (tag, rest) = frames.split_first()?;
    let length = usize::try_from(i32::from_be_bytes(*rest.first_chunk::<4>()?)).ok()?.checked_sub(4)?;
    let tag = *tag;
    if frames.len().checked_sub(5)? < length {
        return None;
    }
    frames.advance(5);
    Some((tag, frames.split_to(length)))
}

fn row_description(mut body: &[u8]) -> Option<Vec<Column>> {
    let count = u16::from_be_bytes(take(&mut body)?);
    let mut columns = Vec::new();
    for _ in 0..count {
        let end = body.iter().position(|byte| *byte == 0)?;
        let (name, rest) = body.split_at_checked(end)?;
        body = rest.get(1..)?;
        let _table: [u8; 4] = take(&mut body)?;
        let _attribute: [u8; 2] = take(&mut body)?;
        let type_oid = u32::from_be_bytes(take(&mut body)?);
        let _size: [u8; 2] = take(&mut body)?;
        let _modifier: [u8; 4] = take(&mut body)?;
        let format = i16::from_be_bytes(take(&mut body)?);
        columns.push(Column { name: String::from_utf8_lossy(name).into_owned(), type_oid, format });
    }
    body.is_empty().then_some(columns)
}

fn data_row(mut body: &[u8], columns: &[Column]) -> Option<Vec<Cell>> {
    let count = usize::from(u16::from_be_bytes(take(&mut body)?));
    let mut cells = Vec::new();
    for index in 0..count {
        let length = i32::from_be_bytes(take(&mut body)?);
        if length == -1 {
            cells.push(Cell::Null);
            continue;
        }
        let (value, rest) = body.split_at_checked(usize::try_from(length).ok()?)?;
        body = rest;
        cells.push(values::cell(columns.get(index), value));
    }
    body.is_empty().then_some(cells)
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*head)
}

/// The fields of an ErrorResponse or NoticeResponse frame, or the text of a NotificationResponse.
#[must_use]
pub fn notice(frame: &Bytes) -> String {
    let mut frame = frame.clone();
    let Some((tag, body)) = next_frame(&mut frame) else { return "a frame that is cut off".to_owned() };
    let texts = |body: &[u8]| {
        body.split(|byte| *byte == 0)
            .filter(|part| !part.is_empty())
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect::<Vec<_>>()
    };
    match tag {
        b'A' => format!("notification: {}", texts(body.get(4..).unwrap_or_default()).join(": ")),
        _ => texts(&body)
            .into_iter()
            .filter_map(|field| {
                let mut characters = field.chars();
                match characters.next()? {
                    'S' => Some(format!("{}:", characters.as_str())),
                    'M' => Some(characters.as_str().to_owned()),
                    'D' => Some(format!("(detail: {})", characters.as_str())),
                    'H' => Some(format!("(hint: {})", characters.as_str())),
                    _ => None,
                }
            })
            .collect::<Vec<_>>()
            .join(" "),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn description() -> Vec<u8> {
        let column =
            |name: &str, oid: u32, format: i16| [name.as_bytes(), &[0; 7], &oid.to_be_bytes(), &[0; 6], &format.to_be_bytes()].concat();
        frame(b'T', &[&2_i16.to_be_bytes()[..], &column("id", 23, 1), &column("name", 25, 0)].concat())
    }

    #[test]
    fn reads_rows_by_their_columns_across_events() {
        let row = frame(b'D', b"\0\x02\0\0\0\x04\0\0\0\x2a\0\0\0\x02hi");
        let nulls = frame(b'D', b"\0\x02\xff\xff\xff\xff\xff\xff\xff\xff");
        let mut reader = Reader::default();
        let first = reader.read(1, Bytes::from([description(), row.clone()].concat()));
        assert_eq!(first.get(1), Some(&Piece::Row(vec![Cell::Text("42".into()), Cell::Text("hi".into())])));
        assert_eq!(reader.read(1, Bytes::from(nulls)), [Piece::Row(vec![Cell::Null, Cell::Null])]);
        assert_eq!(
            reader.read(2, Bytes::from(row)),
            [Piece::Row(vec![Cell::Bytes("0000002a".into()), Cell::Text("hi".into())])],
            "no columns known"
        );
    }

    #[test]
    fn every_cut_is_noticed_and_none_panics() {
        let whole = [description(), frame(b'D', b"\0\x02\0\0\0\x04\0\0\0\x2a\0\0\0\x02hi")].concat();
        let frames = [description().len(), whole.len()];
        for length in 1..whole.len() {
            let pieces = Reader::default().read(1, Bytes::copy_from_slice(whole.get(..length).unwrap()));
            assert_eq!(matches!(pieces.last(), Some(Piece::Note(_))), !frames.contains(&length), "{length}");
        }
        for bad in [&b"D\xff\xff\xff\xff"[..], b"D\0\0\0\x03", b"D\x80\0\0\0x"] {
            assert!(matches!(Reader::default().read(1, Bytes::copy_from_slice(bad)).first(), Some(Piece::Malformed(_))));
        }
        for bad in [&b"\0\x01\xff\xff\xff\xfe"[..], b"\0\x01\x7f\xff\xff\xff", b"\0\0\0"] {
            assert!(matches!(Reader::default().read(1, Bytes::from(frame(b'D', bad))).first(), Some(Piece::Malformed(_))));
        }
    }

    #[test]
    fn a_long_frame_is_put_together_from_its_parts() {
        let whole = [description(), frame(b'D', b"\0\x02\0\0\0\x04\0\0\0\x2a\0\0\0\x02hi")].concat();
        let expected = Reader::default().read(1, Bytes::from(whole.clone()));
        for part in 1..whole.len() {
            let mut reader = Reader::default();
            let pieces: Vec<Piece> = whole.chunks(part).flat_map(|part| reader.read(1, Bytes::copy_from_slice(part))).collect();
            let said: Vec<Piece> = pieces.into_iter().filter(|piece| !matches!(piece, Piece::Note(_))).collect();
            assert_eq!(said, expected, "{part}");
        }
    }

    #[test]
    fn notices_are_readable() {
        let body = b"SNOTICE\0VNOTICE\0C00000\0Mwaiting for approval\0Hsee Slack\0\0";
        assert_eq!(notice(&Bytes::from(frame(b'N', body))), "NOTICE: waiting for approval (hint: see Slack)");
        assert_eq!(notice(&Bytes::from_static(b"N\0")), "a frame that is cut off");
    }
}
