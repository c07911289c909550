//! Exports with a line for each event.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_recording::Event;
use countersign_recording::v1::event::Parameter;
use serde_json::{Map, Value, json};

use crate::frames::{self, Piece, Reader};
use crate::load::Session;
use crate::show::verdict_name;
use crate::text::{lossless, visible};
use crate::values::{self, Cell};

/// Everything, one JSON object for each event. Bytes that are no text are `{"base64": …}`.
///
/// # Errors
/// When the output cannot be written.
pub fn jsonl(session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    let mut reader = Reader::default();
    for (raw, event) in &session.events {
        let mut object = Map::new();
        object.insert("session".into(), json!(session.id.to_string()));
        object.insert("event".into(), json!(raw.number));
        object.insert("time".into(), json!(super::time(raw.time_us)));
        object.insert("time_us".into(), json!(raw.time_us));
        object.insert("kind".into(), json!(raw.kind));
        if let Some(sealed) = session.sealed.get(&raw.number) {
            let keys: Vec<&str> = sealed.shares.iter().map(|share| &*share.key).collect();
            object.insert("sealed".into(), json!({ "keys": keys, "opened": sealed.closed.is_none() }));
        }
        object.insert("hash".into(), json!(raw.hash.to_string()));
        object.insert("previous".into(), json!(raw.previous.to_string()));
        match event.as_ref().map(|event| body(event, &mut reader)) {
            Some(Value::Object(body)) => object.extend(body),
            Some(_) => {}
            None => {
                object.insert("unreadable".into(), json!(true));
            }
        }
        writeln!(out, "{}", Value::Object(object))?;
    }
    Ok(())
}

fn bytes(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "base64": STANDARD.encode(bytes) }), |text| json!(text))
}

fn cell(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => json!(text),
        Cell::Bytes(hex) => json!({ "hex": hex }),
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let value = values::parameter(parameter.type_oid, parameter.format, parameter.value.as_deref());
    json!({ "type_oid": parameter.type_oid, "format": parameter.format, "value": cell(&value), "bytes": parameter.value.as_deref().map(bytes) })
}

fn pieces(pieces: Vec<Piece>) -> Value {
    let piece = |piece: Piece| match piece {
        Piece::Columns(columns) => {
            let columns: Vec<Value> =
                columns.iter().map(|column| json!({ "name": column.name, "type_oid": column.type_oid, "format": column.format })).collect();
            json!({ "columns": columns })
        }
        Piece::Row(cells) => json!({ "row": cells.iter().map(cell).collect::<Vec<_>>() }),
        Piece::Copy(data) => json!({ "copy": bytes(&data) }),
        Piece::Note(note) => json!({ "note": note }),
        Piece::Malformed(why) => json!({ "malformed": why }),
    };
    Value::Array(pieces.into_iter().map(piece).collect())
}

fn body(event: &Event, reader: &mut Reader) -> Value {
    match event {
        Event::SessionStart(start) => json!({
            "environment": start.environment, "build": start.build, "issuer": start.issuer, "subject": start.subject, "email": start.email,
            "groups": start.groups, "claims": start.claims.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
            "client_addr": start.client_addr, "client_tls": start.client_tls, "upstream_addr": start.upstream_addr, "upstream_tls": start.upstream_tls, "upstream_pid": start.upstream_pid,
            "upstream_user": start.upstream_user, "database": start.database, "application": start.application, "policy": hex::encode(start.policy),
            "durability": start.durability,
        }),
        Event::Statement { statement, extended, text, parameters, digest } => json!({
            "statement": statement, "extended": extended, "text": bytes(text), "parameters": parameters.iter().map(parameter).collect::<Vec<_>>(),
            "digest": hex::encode(digest),
        }),
        Event::Decision { statement, verdict, rule, policy, facts } => json!({
            "statement": statement, "verdict": verdict_name(*verdict), "rule": rule, "policy": hex::encode(policy),
            "facts": serde_json::from_str::<Value>(facts).unwrap_or_else(|_| json!(facts)),
        }),
        Event::Hold { statement, request, body } => json!({ "statement": statement, "request": request, "body": body }),
        Event::Approval { statement, request, outcome, decisions } => {
            json!({ "statement": statement, "request": request, "outcome": outcome, "decisions": decisions })
        }
        Event::Rows { statement, frames, count } => json!({
            "statement": statement, "count": count, "pieces": pieces(reader.read(*statement, frames.clone())), "frames": STANDARD.encode(frames),
        }),
        Event::CopyIn { statement, frames } => json!({
            "statement": statement, "pieces": pieces(reader.read(*statement, frames.clone())), "frames": STANDARD.encode(frames),
        }),
        Event::Masked { statement, columns } => {
            let columns: Vec<Value> = columns
                .iter()
                .map(|column| json!({ "column": column.column, "source": column.source, "mask": column.mask, "values": column.values }))
                .collect();
            json!({ "statement": statement, "columns": columns })
        }
        Event::Completion { statement, tag, duration_us } => json!({ "statement": statement, "tag": tag, "duration_us": duration_us }),
        Event::Error { statement, code, message, from_server } => {
            json!({ "statement": statement, "code": code, "message": message, "from_server": from_server })
        }
        Event::Notice { frame } => json!({ "notice": frames::notice(frame), "frame": STANDARD.encode(frame) }),
        Event::Parameter { name, value } => json!({ "name": name, "value": value }),
        Event::Token { issuer, subject, expires_us } => {
            json!({ "issuer": issuer, "subject": subject, "expires": crate::text::timestamp(*expires_us) })
        }
        Event::Cancel { statement } => json!({ "statement": statement }),
        Event::Gap { events, reason } => json!({ "events": events, "reason": reason }),
        Event::Anomaly { statement, what } => json!({ "statement": statement, "what": what }),
        Event::SessionEnd { reason } => json!({ "reason": reason }),
        _ => json!({}),
    }
}

/// A line for each event: `event,time,kind,statement,what,detail,rows`, RFC 4180. A cell that a spreadsheet would take for a formula gets an
/// apostrophe before it; for exact bytes there is JSON lines.
///
/// # Errors
/// When the output cannot be written.
pub fn csv(session: &Session, out: &mut dyn Write) -> std::io::Result<()> {
    write!(out, "event,time,kind,statement,what,detail,rows\r\n")?;
    for (raw, event) in &session.events {
        let [statement, what, detail, rows] =
            event.as_ref().map_or_else(|| [String::new(), "unreadable".to_owned(), String::new(), String::new()], cells);
        let cells = [raw.number.to_string(), super::time(raw.time_us), raw.kind.clone(), statement, what, detail, rows];
        write!(out, "{}\r\n", cells.map(|cell| quoted(&cell)).join(","))?;
    }
    Ok(())
}

fn cells(event: &Event) -> [String; 4] {
    let none = String::new;
    let of = |statement: &u64| statement.to_string();
    match event {
        Event::SessionStart(start) => {
            [none(), start.email.clone().unwrap_or_else(|| start.subject.clone()), start.database.clone(), none()]
        }
        Event::Statement { statement, text, parameters, .. } => {
            let parameters: Vec<String> = parameters
                .iter()
                .map(|parameter| values::parameter(parameter.type_oid, parameter.format, parameter.value.as_deref()).text("NULL"))
                .collect();
            [of(statement), lossless(text), parameters.join("; "), none()]
        }
        Event::Decision { statement, verdict, rule, .. } => [of(statement), verdict_name(*verdict).to_owned(), rule.clone(), none()],
        Event::Hold { statement, request, .. } => [of(statement), request.clone(), none(), none()],
        Event::Approval { statement, request, outcome, .. } => [of(statement), outcome.clone(), request.clone(), none()],
        Event::Rows { statement, count, .. } => [of(statement), none(), none(), count.to_string()],
        Event::CopyIn { statement, frames } => [of(statement), format!("{} bytes", frames.len()), none(), none()],
        Event::Masked { statement, columns } => {
            let columns: Vec<String> =
                columns.iter().map(|column| format!("{} {} {}", column.source, column.mask, column.values)).collect();
            [of(statement), columns.join("; "), none(), none()]
        }
        Event::Completion { statement, tag, duration_us } => [of(statement), tag.clone(), format!("{duration_us} us"), none()],
        Event::Error { statement, code, message, .. } => [of(statement), code.clone(), message.clone(), none()],
        Event::Notice { frame } => [none(), frames::notice(frame), none(), none()],
        Event::Parameter { name, value } => [none(), name.clone(), value.clone(), none()],
        Event::Cancel { statement } => [of(statement), none(), none(), none()],
        Event::Gap { events, reason } => [none(), events.to_string(), reason.clone(), none()],
        Event::Anomaly { statement, what } => [of(statement), what.clone(), none(), none()],
        Event::SessionEnd { reason } => [none(), reason.clone(), none(), none()],
        _ => [none(), none(), none(), none()],
    }
}

pub(crate) fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", visible(cell, true).replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn spreadsheets_find_no_formula() {
        for (cell, expected) in [
            ("select 1", "\"select 1\""),
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("-1", "\"'-1\""),
            ("a\nb", "\"a\nb\""),
            ("\x1b[1m", "\"\\u{1b}[1m\""),
        ] {
            assert_eq!(quoted(cell), expected);
        }
    }
}
