//! Events to bytes: `[number, time_us, previous, kind, {…}]`, keys in the order of RFC 8949 section 4.2.1.

use super::cbor::Writer;
use super::event::{Event, MaskedColumn, Parameter, SessionStart, Verdict};
use super::ids::Hash;

/// Appends the exact bytes of one event.
pub(crate) fn encode(number: u64, time_us: i64, previous: &Hash, event: &Event, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    w.array(5);
    w.uint(number);
    w.int(time_us);
    w.bytes(previous.as_bytes());
    w.text(kind(event));
    body(&mut w, event);
}

/// Name of an event's kind.
pub(crate) fn kind(event: &Event) -> &'static str {
    match event {
        Event::SessionStart(_) => "session-start",
        Event::Statement { .. } => "statement",
        Event::Decision { .. } => "decision",
        Event::Hold { .. } => "hold",
        Event::Approval { .. } => "approval",
        Event::Rows { .. } => "rows",
        Event::CopyIn { .. } => "copy-in",
        Event::Masked { .. } => "masked",
        Event::Completion { .. } => "completion",
        Event::Error { .. } => "error",
        Event::Notice { .. } => "notice",
        Event::Parameter { .. } => "parameter",
        Event::Token { .. } => "token",
        Event::Cancel { .. } => "cancel",
        Event::Gap { .. } => "gap",
        Event::Anomaly { .. } => "anomaly",
        Event::Sealed(_) => "sealed",
        Event::SessionEnd { .. } => "session-end",
    }
}

pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Hold => "hold",
    }
}

/// The body of an event.
pub(super) fn body(w: &mut Writer<'_>, event: &Event) {
    match event {
        Event::SessionStart(start) => session_start(w, start),
        Event::Statement { statement, extended, text, parameters, digest } => {
            w.map(5);
            bytes(w, "text", text);
            bytes(w, "digest", digest);
            w.text("extended");
            w.bool(*extended);
            uint(w, "statement", *statement);
            w.text("parameters");
            w.array(parameters.len());
            for parameter in parameters {
                self::parameter(w, parameter);
            }
        }
        Event::Decision { statement, verdict, rule, policy, facts } => {
            w.map(5);
            text(w, "rule", rule);
            text(w, "facts", facts);
            bytes(w, "policy", policy);
            text(w, "verdict", self::verdict(*verdict));
            uint(w, "statement", *statement);
        }
        Event::Hold { statement, request, body } => {
            w.map(3);
            text(w, "body", body);
            text(w, "request", request);
            uint(w, "statement", *statement);
        }
        Event::Approval { statement, request, outcome, decisions } => {
            w.map(4);
            text(w, "outcome", outcome);
            text(w, "request", request);
            texts(w, "decisions", decisions);
            uint(w, "statement", *statement);
        }
        Event::Rows { statement, frames, count } => {
            w.map(3);
            uint(w, "count", *count);
            bytes(w, "frames", frames);
            uint(w, "statement", *statement);
        }
        Event::CopyIn { statement, frames } => {
            w.map(2);
            bytes(w, "frames", frames);
            uint(w, "statement", *statement);
        }
        Event::Masked { statement, columns } => {
            w.map(2);
            w.text("columns");
            w.array(columns.len());
            for column in columns {
                masked(w, column);
            }
            uint(w, "statement", *statement);
        }
        Event::Completion { statement, tag, duration_us } => {
            w.map(3);
            text(w, "tag", tag);
            uint(w, "statement", *statement);
            uint(w, "duration_us", *duration_us);
        }
        Event::Error { statement, code, message, from_server } => {
            w.map(4);
            text(w, "code", code);
            text(w, "message", message);
            uint(w, "statement", *statement);
            w.text("from_server");
            w.bool(*from_server);
        }
        Event::Notice { frame } => {
            w.map(1);
            bytes(w, "frame", frame);
        }
        Event::Parameter { name, value } => {
            w.map(2);
            text(w, "name", name);
            text(w, "value", value);
        }
        Event::Token { issuer, subject, expires_us } => {
            w.map(3);
            text(w, "issuer", issuer);
            text(w, "subject", subject);
            w.text("expires_us");
            w.int(*expires_us);
        }
        Event::Cancel { statement } => {
            w.map(1);
            uint(w, "statement", *statement);
        }
        Event::Gap { events, reason } => {
            w.map(2);
            uint(w, "events", *events);
            text(w, "reason", reason);
        }
        Event::Anomaly { statement, what } => {
            w.map(2);
            text(w, "what", what);
            uint(w, "statement", *statement);
        }
        Event::Sealed(sealed) => super::sealed::write(w, sealed),
        Event::SessionEnd { reason } => {
            w.map(1);
            text(w, "reason", reason);
        }
    }
}

fn session_start(w: &mut Writer<'_>, start: &SessionStart) {
    w.map(19);
    text(w, "build", &start.build);
    w.text("email");
    match &start.email {
        Some(email) => w.text(email),
        None => w.null(),
    }
    w.text("claims");
    w.array(start.claims.len());
    for (name, value) in &start.claims {
        w.array(2);
        w.text(name);
        w.text(value);
    }
    texts(w, "groups", &start.groups);
    text(w, "issuer", &start.issuer);
    bytes(w, "policy", &start.policy);
    text(w, "session", &start.session);
    text(w, "subject", &start.subject);
    text(w, "database", &start.database);
    text(w, "client_tls", &start.client_tls);
    text(w, "durability", &start.durability);
    text(w, "application", &start.application);
    text(w, "client_addr", &start.client_addr);
    text(w, "environment", &start.environment);
    uint(w, "upstream_pid", u64::from(start.upstream_pid));
    text(w, "upstream_tls", &start.upstream_tls);
    text(w, "upstream_addr", &start.upstream_addr);
    text(w, "upstream_user", &start.upstream_user);
    // The version of the event format, so that a stream alone says what it is.
    uint(w, "format_version", 1);
}

fn parameter(w: &mut Writer<'_>, parameter: &Parameter) {
    w.map(3);
    w.text("value");
    match &parameter.value {
        Some(value) => w.bytes(value),
        None => w.null(),
    }
    w.text("format");
    w.int(i64::from(parameter.format));
    uint(w, "type_oid", u64::from(parameter.type_oid));
}

fn masked(w: &mut Writer<'_>, column: &MaskedColumn) {
    w.map(4);
    text(w, "mask", &column.mask);
    text(w, "column", &column.column);
    text(w, "source", &column.source);
    uint(w, "values", column.values);
}

fn text(w: &mut Writer<'_>, name: &str, value: &str) {
    w.text(name);
    w.text(value);
}

fn texts(w: &mut Writer<'_>, name: &str, values: &[String]) {
    w.text(name);
    w.array(values.len());
    for value in values {
        w.text(value);
    }
}

fn bytes(w: &mut Writer<'_>, name: &str, value: &[u8]) {
    w.text(name);
    w.bytes(value);
}

fn uint(w: &mut Writer<'_>, name: &str, value: u64) {
    w.text(name);
    w.uint(value);
}
