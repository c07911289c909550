//! Frames of a login or of a side connection, one by one. Not on the data's way: a session's driver has its own reader.

use bytes::{Buf, BytesMut};
use countersign_wire::{HEADER_LEN, be, notice_fields, peek_frame, put_query};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::UpstreamError;

/// Largest frame taken here.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// A stream with what was read ahead.
#[derive(Debug)]
pub struct Frames<S> {
    io: S,
    buffer: BytesMut,
}

/// One column's text of a row, `None` for NULL.
pub(crate) type Row<'a> = Vec<Option<&'a str>>;

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Wraps a stream nothing was read from yet.
    pub fn new(io: S) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    /// Continues with bytes read ahead already.
    pub const fn with_buffer(io: S, buffer: BytesMut) -> Self {
        Self { io, buffer }
    }

    /// The stream and the bytes read ahead.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.buffer)
    }

    /// Writes bytes and flushes.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.io.write_all(bytes).await.map_err(UpstreamError::Lost)?;
        self.io.flush().await.map_err(UpstreamError::Lost)
    }

    /// The next frame: tag and body. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is lost or the frame is absurd.
    pub async fn next(&mut self) -> Result<(u8, BytesMut), UpstreamError> {
        loop {
            if let Some(header) = peek_frame(&self.buffer, MAX_FRAME)?
                && self.buffer.len() >= header.total
            {
                let mut frame = self.buffer.split_to(header.total);
                frame.advance(HEADER_LEN);
                return Ok((header.tag, frame));
            }
            if self.io.read_buf(&mut self.buffer).await.map_err(UpstreamError::Lost)? == 0 {
                return Err(UpstreamError::Lost(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The next frame that is no notice, with an ErrorResponse made an error.
    pub(crate) async fn next_answer(&mut self) -> Result<(u8, BytesMut), UpstreamError> {
        loop {
            let (tag, body) = self.next().await?;
            match tag {
                be::NOTICE | be::NOTIFICATION => {}
                be::ERROR => {
                    let fields = notice_fields(&body)?;
                    return Err(UpstreamError::Refused { code: fields.code().to_owned(), message: fields.get(b'M').to_owned() });
                }
                _ => return Ok((tag, body)),
            }
        }
    }

    /// Runs one simple query whose rows go to `row`, in text format. An error leaves the connection unusable.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        mut row: impl FnMut(&Row<'_>) -> Result<(), UpstreamError>,
    ) -> Result<(), UpstreamError> {
        let mut out = BytesMut::new();
        put_query(&mut out, sql.as_bytes());
        self.rows(&out, &mut row).await
    }

    /// Sends messages that ReadyForQuery answers in the end; rows on the way there go to `row`, in text format. An error leaves the
    /// connection unusable.
    pub(crate) async fn rows(
        &mut self,
        messages: &[u8],
        mut row: impl FnMut(&Row<'_>) -> Result<(), UpstreamError>,
    ) -> Result<(), UpstreamError> {
        self.send(messages).await?;
        loop {
            let (tag, body) = self.next_answer().await?;
            match tag {
                be::DATA_ROW => row(&data_row(&body)?)?,
                be::READY => return Ok(()),
                be::ROW_DESCRIPTION | be::COMMAND_COMPLETE | be::EMPTY_QUERY | be::PARAMETER_STATUS => {}
                be::PARSE_COMPLETE | be::BIND_COMPLETE => {}
                other => return Err(UpstreamError::Protocol(format!("message {:?} within a query's answer", char::from(other)))),
            }
        }
    }
}

fn data_row(body: &[u8]) -> Result<Row<'_>, UpstreamError> {
    let mut reader = countersign_wire::Reader::new(body);
    let count = reader.count("column count")?;
    let mut row = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let value = reader.value("column")?.map(std::str::from_utf8).transpose();
        row.push(value.map_err(|_| UpstreamError::Protocol("a value is not UTF-8".to_owned()))?);
    }
    reader.finish()?;
    Ok(row)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rows_are_bounds_checked() {
        assert_eq!(data_row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap(), vec![Some("a"), None]);
        for bad in [&b""[..], b"\0\x01", b"\0\x01\0\0\0\x05ab", b"\0\x01\xff\xff\xff\xfe", b"\0\0x", b"\0\x01\0\0\0\x01\xff"] {
            assert!(matches!(data_row(bad), Err(UpstreamError::Protocol(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn frames_come_whole_or_not_at_all() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut frames = Frames::new(near);
        far.write_all(b"Z\0\0").await.unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), frames.next()).await.is_err());
        far.write_all(b"\0\x05I").await.unwrap();
        let (tag, body) = frames.next().await.unwrap();
        assert_eq!((tag, &body[..]), (b'Z', &b"I"[..]));
        far.write_all(b"Z\0\0\0\x03").await.unwrap();
        assert!(matches!(frames.next().await, Err(UpstreamError::Protocol(_))));
    }
}
