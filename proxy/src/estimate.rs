//! How many rows the server's planner expects a held statement to return or change: EXPLAIN, on a side connection in a read-only transaction,
//! within a configured time. For reviewers, where the policy asks for it.
//!
//! Planning evaluates functions it may fold, so only statements are explained that call nothing but built-in ones (kinds `read` and `write`
//! of the judge), in sessions that look names up as they did at login. The plan must name no relation that the judge did not name: the side
//! connection would mean something else otherwise. Whatever does not work out means that there is no estimate, and never that a hold fails.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use countersign_policy::{StatementFacts, StatementKind};
use countersign_recording::v1::event::Parameter;
use countersign_wire::{fe, put_bind, put_empty, put_execute, put_parse};
use serde_json::Value;

use crate::catalog::CatalogSource;
use crate::upstream::{Frames, LoginRequest, UpstreamError};

const EXPLAIN: &str = "EXPLAIN (FORMAT JSON, VERBOSE) ";

/// The estimate, if there is one.
pub(crate) async fn rows(source: &CatalogSource, text: &[u8], parameters: &[Parameter], facts: &StatementFacts) -> Option<u64> {
    let known = matches!(facts.kind, StatementKind::Read | StatementKind::Write) && facts.executes.is_empty();
    let (true, Ok(text)) = (known, std::str::from_utf8(text)) else { return None };
    // So many at a time; nobody waits for a turn.
    let _turn = source.side_connection()?;
    match tokio::time::timeout(source.dialer().settings().estimate_timeout, plan(source, text, parameters)).await {
        Ok(Ok(plan)) => rows_of(&plan, facts),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no estimate for a held statement");
            None
        }
        Err(_) => {
            tracing::debug!("no estimate for a held statement within its time");
            None
        }
    }
}

async fn plan(source: &CatalogSource, text: &str, parameters: &[Parameter]) -> Result<String, UpstreamError> {
    let request = LoginRequest {
        database: source.database().to_owned(),
        application_name: "countersign:estimate".to_owned(),
        ..LoginRequest::default()
    };
    let login = source.dialer().login(&request).await?;
    let mut frames = Frames::with_buffer(login.io, login.buffer);
    // Nothing of it outlives its time at the server, nor stands long in a queue for a lock.
    let tenths = source.dialer().settings().estimate_timeout.as_millis() / 10;
    let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {tenths}", 4 * tenths);
    frames.query(&begin, |_| Ok(())).await?;
    // By the extended protocol, which takes one statement and no more, whatever a text may be made to look like.
    let mut out = BytesMut::new();
    let types: Vec<u32> = parameters.iter().map(|parameter| parameter.type_oid).collect();
    put_parse(&mut out, b"", format!("{EXPLAIN}{text}").as_bytes(), &types);
    put_bind(&mut out, b"", b"", &bound(parameters)?);
    put_execute(&mut out, b"", 0);
    put_empty(&mut out, fe::SYNC);
    let mut plan = String::new();
    frames
        .rows(&out, |row| {
            plan.extend(row.iter().flatten().copied());
            Ok(())
        })
        .await?;
    let mut bye = BytesMut::new();
    put_empty(&mut bye, fe::TERMINATE);
    // All is read; how the goodbye goes does not matter.
    let _ = frames.send(&bye).await;
    Ok(plan)
}

/// The tail of a Bind: formats, values, and text for all results.
fn bound(parameters: &[Parameter]) -> Result<BytesMut, UpstreamError> {
    let long = |_| UpstreamError::Protocol("more parameters, or longer ones, than a Bind holds".to_owned());
    let count = u16::try_from(parameters.len()).map_err(long)?;
    let mut tail = BytesMut::new();
    tail.put_u16(count);
    for parameter in parameters {
        tail.put_i16(parameter.format);
    }
    tail.put_u16(count);
    for parameter in parameters {
        match &parameter.value {
            None => tail.put_i32(-1),
            Some(value) => {
                tail.put_i32(i32::try_from(value.len()).map_err(long)?);
                tail.put_slice(value);
            }
        }
    }
    tail.put_u16(0);
    Ok(tail)
}

/// The rows of a plan: those it returns or, where it changes any, those it changes.
fn rows_of(plan: &str, facts: &StatementFacts) -> Option<u64> {
    let plan: Value = serde_json::from_str(plan).ok()?;
    let root = plan.pointer("/0/Plan")?;
    let known: BTreeSet<(&str, &str)> =
        facts.reads.iter().chain(&facts.writes).map(|relation| (relation.schema.as_str(), relation.name.as_str())).collect();
    if !names_only(root, &known) {
        return None;
    }
    Some(changed(root).into_iter().chain([own_rows(root)?]).max().unwrap_or_default())
}

/// Whether every relation below is one of these.
fn names_only(node: &Value, known: &BTreeSet<(&str, &str)>) -> bool {
    match node {
        Value::Array(all) => all.iter().all(|inner| names_only(inner, known)),
        Value::Object(fields) => {
            let named = fields.get("Relation Name").and_then(Value::as_str);
            let schema = fields.get("Schema").and_then(Value::as_str).unwrap_or_default();
            named.is_none_or(|name| known.contains(&(schema, name))) && fields.values().all(|inner| names_only(inner, known))
        }
        _ => true,
    }
}

/// For each part of the plan that changes rows, how many.
fn changed(node: &Value) -> Vec<u64> {
    let mut found = Vec::new();
    let inner = || node.get("Plans").and_then(Value::as_array).into_iter().flatten();
    if node.get("Node Type").and_then(Value::as_str) == Some("ModifyTable") {
        // What is below it is what it changes; servers before 14 have one such part for each table.
        let fed = inner().filter(|part| matches!(part.get("Parent Relationship").and_then(Value::as_str), Some("Outer" | "Member")));
        found.push(fed.filter_map(own_rows).fold(0, u64::saturating_add));
    }
    found.extend(inner().flat_map(changed));
    found
}

fn own_rows(node: &Value) -> Option<u64> {
    let rows = node.get("Plan Rows")?;
    // More than can be counted is as many as can be.
    rows.as_u64().or_else(|| rows.is_number().then_some(u64::MAX))
}

#[cfg(test)]
mod tests {
    use countersign_policy::facts::{RelationName, SessionAction};
    use countersign_policy::{StatementFacts, StatementKind};

    use super::rows_of;

    fn facts(relations: &[(&str, &str)]) -> StatementFacts {
        let name = |(schema, name): &(&str, &str)| RelationName { schema: (*schema).to_owned(), name: (*name).to_owned() };
        StatementFacts {
            kind: StatementKind::Write,
            reads: relations.iter().map(name).collect(),
            writes: Vec::new(),
            functions: Vec::new(),
            missing_where: false,
            limit: None,
            notes: Vec::new(),
            executes: Vec::new(),
            action: SessionAction::None,
        }
    }

    #[test]
    fn a_plan_tells_its_rows_only_where_it_is_about_what_was_judged() {
        let scan = |schema: &str, rows: &str| {
            format!(
                r#"{{"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Schema": "{schema}", "Relation Name": "t", "Plan Rows": {rows}}}"#
            )
        };
        let delete = format!(
            r#"[{{"Plan": {{"Node Type": "ModifyTable", "Operation": "Delete", "Schema": "public", "Relation Name": "t", "Plan Rows": 0, "Plans": [{}]}}}}]"#,
            scan("public", "990")
        );
        let select = |schema: &str, rows: &str| format!(r#"[{{"Plan": {}}}]"#, scan(schema, rows));
        let with = format!(
            r#"[{{"Plan": {{"Node Type": "CTE Scan", "Plan Rows": 1, "Plans": [{{"Node Type": "ModifyTable", "Parent Relationship": "InitPlan", "Plan Rows": 0, "Plans": [{}]}}]}}}}]"#,
            scan("public", "77")
        );
        let known = facts(&[("public", "t")]);
        for (plan, rows) in [
            (delete.as_str(), Some(990)),
            (&select("public", "12"), Some(12)),
            (&with, Some(77)),
            (&select("public", "1e300"), Some(u64::MAX)),
            // Another relation than was judged: the side connection means something else.
            (&select("evil", "12"), None),
            (r#"[{"Plan": {"Node Type": "Result", "Plan Rows": 1}}]"#, Some(1)),
            (r#"[{"Plan": {"Node Type": "Result"}}]"#, None),
            ("[]", None),
            ("", None),
            ("not JSON", None),
        ] {
            assert_eq!(rows_of(plan, &known), rows, "{plan}");
        }
        assert_eq!(rows_of(&delete, &facts(&[])), None);
    }
}
