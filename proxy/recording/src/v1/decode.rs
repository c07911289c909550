//! Bytes to events. Anything that is not exactly what [`super::encode`] would write is refused.

use super::cbor::{Fields, Value};
use super::event::{Event, MaskedColumn, Parameter, SessionStart, Verdict};
use super::object::FormatError;

/// The event of a kind from its body.
pub(crate) fn event(kind: &str, body: Value) -> Result<Event, FormatError> {
    let mut f = Fields::of(body)?;
    let event = match kind {
        "session-start" => Event::SessionStart(session_start(&mut f)?),
        "statement" => Event::Statement {
            statement: f.uint("statement")?,
            extended: f.bool("extended")?,
            text: f.bytes("text")?,
            parameters: f.array("parameters")?.into_iter().map(parameter).collect::<Result<_, _>>()?,
            digest: f.hash("digest")?,
        },
        "decision" => Event::Decision {
            statement: f.uint("statement")?,
            verdict: verdict(&f.text("verdict")?)?,
            rule: f.text("rule")?,
            policy: f.hash("policy")?,
            facts: f.text("facts")?,
        },
        "hold" => Event::Hold { statement: f.uint("statement")?, request: f.text("request")?, body: f.text("body")? },
        "approval" => Event::Approval {
            statement: f.uint("statement")?,
            request: f.text("request")?,
            outcome: f.text("outcome")?,
            decisions: f.texts("decisions")?,
        },
        "rows" => Event::Rows { statement: f.uint("statement")?, frames: f.bytes("frames")?, count: f.uint("count")? },
        "copy-in" => Event::CopyIn { statement: f.uint("statement")?, frames: f.bytes("frames")? },
        "masked" => Event::Masked {
            statement: f.uint("statement")?,
            columns: f.array("columns")?.into_iter().map(masked).collect::<Result<_, _>>()?,
        },
        "completion" => Event::Completion { statement: f.uint("statement")?, tag: f.text("tag")?, duration_us: f.uint("duration_us")? },
        "error" => Event::Error {
            statement: f.uint("statement")?,
            code: f.text("code")?,
            message: f.text("message")?,
            from_server: f.bool("from_server")?,
        },
        "notice" => Event::Notice { frame: f.bytes("frame")? },
        "parameter" => Event::Parameter { name: f.text("name")?, value: f.text("value")? },
        "token" => Event::Token { issuer: f.text("issuer")?, subject: f.text("subject")?, expires_us: f.int("expires_us")? },
        "cancel" => Event::Cancel { statement: f.uint("statement")? },
        "gap" => Event::Gap { events: f.uint("events")?, reason: f.text("reason")? },
        "anomaly" => Event::Anomaly { statement: f.uint("statement")?, what: f.text("what")? },
        "sealed" => Event::Sealed(super::sealed::read(&mut f)?),
        "session-end" => Event::SessionEnd { reason: f.text("reason")? },
        _ => return Err(FormatError::UnknownKind(kind.chars().take(40).collect())),
    };
    f.end()?;
    Ok(event)
}

fn session_start(f: &mut Fields) -> Result<SessionStart, FormatError> {
    if f.uint("format_version")? != 1 {
        return Err(FormatError::Field { name: "format_version", expected: "1" });
    }
    Ok(SessionStart {
        session: f.text("session")?,
        environment: f.text("environment")?,
        build: f.text("build")?,
        issuer: f.text("issuer")?,
        subject: f.text("subject")?,
        email: f.optional_text("email")?,
        groups: f.texts("groups")?,
        claims: f
            .array("claims")?
            .into_iter()
            .map(|claim| match claim {
                Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                    Ok([Value::Text(name), Value::Text(value)]) => Ok((name, value)),
                    _ => Err(FormatError::Field { name: "claims", expected: "pairs of texts" }),
                },
                _ => Err(FormatError::Field { name: "claims", expected: "pairs of texts" }),
            })
            .collect::<Result<_, _>>()?,
        client_addr: f.text("client_addr")?,
        client_tls: f.text("client_tls")?,
        upstream_addr: f.text("upstream_addr")?,
        upstream_tls: f.text("upstream_tls")?,
        upstream_pid: u32::try_from(f.uint("upstream_pid")?)
            .map_err(|_| FormatError::Field { name: "upstream_pid", expected: "32 bits" })?,
        upstream_user: f.text("upstream_user")?,
        database: f.text("database")?,
        application: f.text("application")?,
        policy: f.hash("policy")?,
        durability: f.text("durability")?,
    })
}

fn parameter(value: Value) -> Result<Parameter, FormatError> {
    let mut f = Fields::of(value)?;
    let parameter = Parameter {
        type_oid: u32::try_from(f.uint("type_oid")?).map_err(|_| FormatError::Field { name: "type_oid", expected: "32 bits" })?,
        format: i16::try_from(f.int("format")?).map_err(|_| FormatError::Field { name: "format", expected: "16 bits" })?,
        value: f.optional_bytes("value")?,
    };
    f.end()?;
    Ok(parameter)
}

fn masked(value: Value) -> Result<MaskedColumn, FormatError> {
    let mut f = Fields::of(value)?;
    let column = MaskedColumn { column: f.text("column")?, source: f.text("source")?, mask: f.text("mask")?, values: f.uint("values")? };
    f.end()?;
    Ok(column)
}

fn verdict(text: &str) -> Result<Verdict, FormatError> {
    match text {
        "allow" => Ok(Verdict::Allow),
        "deny" => Ok(Verdict::Deny),
        "hold" => Ok(Verdict::Hold),
        _ => Err(FormatError::Field { name: "verdict", expected: "allow, deny or hold" }),
    }
}
