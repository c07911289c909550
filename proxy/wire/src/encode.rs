//! Messages the gateway writes.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::{ErrorFields, ReadyStatus, Target, be, fe};

/// Appends a frame whose body `write` appends.
pub fn frame(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    write(out);
    let length = u32::try_from(out.len().saturating_sub(at)).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *slot = length.to_be_bytes();
    }
}

fn cstring(out: &mut BytesMut, text: &[u8]) {
    // A zero byte inside would end the string early and let the rest be read as something else.
    out.extend(text.iter().copied().filter(|byte| *byte != 0));
    out.put_u8(0);
}

/// Query.
pub fn put_query(out: &mut BytesMut, sql: &[u8]) {
    frame(out, fe::QUERY, |out| cstring(out, sql));
}

/// Parse.
pub fn put_parse(out: &mut BytesMut, name: &[u8], sql: &[u8], types: &[u32]) {
    frame(out, fe::PARSE, |out| {
        cstring(out, name);
        cstring(out, sql);
        out.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        for oid in types {
            out.put_u32(*oid);
        }
    });
}

/// Bind with new names and the original remainder.
pub fn put_bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], tail: &[u8]) {
    frame(out, fe::BIND, |out| {
        cstring(out, portal);
        cstring(out, statement);
        out.put_slice(tail);
    });
}

/// Describe.
pub fn put_describe(out: &mut BytesMut, target: Target, name: &[u8]) {
    frame(out, fe::DESCRIBE, |out| {
        out.put_u8(target.letter());
        cstring(out, name);
    });
}

/// Close.
pub fn put_close(out: &mut BytesMut, target: Target, name: &[u8]) {
    frame(out, fe::CLOSE, |out| {
        out.put_u8(target.letter());
        cstring(out, name);
    });
}

/// Execute.
pub fn put_execute(out: &mut BytesMut, portal: &[u8], max_rows: i32) {
    frame(out, fe::EXECUTE, |out| {
        cstring(out, portal);
        out.put_i32(max_rows);
    });
}

/// A message without a body: Sync, Flush, Terminate, CopyDone, ParseComplete …
pub fn put_empty(out: &mut BytesMut, tag: u8) {
    frame(out, tag, |_| {});
}

/// ReadyForQuery.
pub fn put_ready(out: &mut BytesMut, status: ReadyStatus) {
    frame(out, be::READY, |out| out.put_u8(status.letter()));
}

/// ParameterStatus.
pub fn put_parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    frame(out, be::PARAMETER_STATUS, |out| {
        cstring(out, name);
        cstring(out, value);
    });
}

/// AuthenticationOk.
pub fn put_authentication_ok(out: &mut BytesMut) {
    frame(out, be::AUTHENTICATION, |out| out.put_i32(0));
}

/// BackendKeyData; the secret is 4 bytes in protocol 3.0 and up to 256 in 3.2.
pub fn put_backend_key_data(out: &mut BytesMut, process_id: i32, secret: &[u8]) {
    frame(out, be::BACKEND_KEY_DATA, |out| {
        out.put_i32(process_id);
        out.put_slice(secret);
    });
}

/// ErrorResponse.
pub fn put_error(out: &mut BytesMut, fields: &ErrorFields) {
    let mut message = BytesMut::new();
    if ErrorResponse::new(without_zeros(fields)).encode(&mut message).is_ok() {
        out.put_slice(&message);
    }
}

/// NoticeResponse.
pub fn put_notice(out: &mut BytesMut, fields: &ErrorFields) {
    let mut message = BytesMut::new();
    if NoticeResponse::new(without_zeros(fields)).encode(&mut message).is_ok() {
        out.put_slice(&message);
    }
}

fn without_zeros(fields: &ErrorFields) -> Vec<(u8, String)> {
    fields.0.iter().map(|(letter, text)| (*letter, text.replace('\0', ""))).collect()
}

/// A whole frame on its own.
#[must_use]
pub fn framed(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}
