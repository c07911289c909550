//! tokio-postgres: what its users do. Everything goes in binary; pipelines are made of futures polled together.

use std::fmt::Write as _;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_e2e::client::{Gateway, Session};
use countersign_e2e::compat::matrix::Operation;
use countersign_e2e::compat::{Route, USER};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row, SimpleQueryMessage};

/// Does everything at one server.
///
/// # Errors
/// The server does not let it in.
pub(crate) async fn operations(route: &Route) -> Result<Vec<Operation>> {
    super::route_context(route, all(route).await)
}

async fn connect(route: &Route) -> Result<Session> {
    let gateway = Gateway { host: "127.0.0.1".to_owned(), port: route.port, ca: route.ca.clone().into(), database: route.database.clone() };
    Ok(gateway.connect(USER, &route.password).await?)
}

async fn all(route: &Route) -> Result<Vec<Operation>> {
    let mut seen: Vec<Operation> = Vec::new();
    macro_rules! operations {
        ($($name:ident),* $(,)?) => {
            $(
                let mut session = connect(route).await?;
                let outcome = tokio::time::timeout(Duration::from_secs(60), $name(&mut session)).await;
                let value = match outcome {
                    Ok(Ok(value)) => value,
                    Ok(Err(error)) => json!({ "failed": format!("{error:#}") }),
                    Err(_) => json!({ "failed": "it does not end" }),
                };
                seen.push((stringify!($name).to_owned(), value));
            )*
        };
    }
    operations!(
        simple_queries,
        values,
        parameters,
        portals,
        portal_after_an_error,
        transactions,
        errors,
        pipelined,
        pipelined_with_an_error,
        copies,
        binary_copies,
        copy_abandoned,
        cancelled,
        typed_queries,
        prepared_again,
        schema_changes,
        notices,
        large,
        dropped_futures
    );
    let mut session = connect(route).await?;
    let other = connect(route).await?;
    seen.push(("notifications".to_owned(), notifications(&mut session, &other).await?));
    Ok(seen)
}

fn why(error: &tokio_postgres::Error) -> Value {
    match error.as_db_error() {
        Some(db) => json!({
            "severity": db.severity(), "code": db.code().code(), "message": db.message(), "detail": db.detail(), "hint": db.hint(),
            "position": format!("{:?}", db.position()), "where": db.where_(), "schema": db.schema(), "table": db.table(), "column": db.column(),
            "datatype": db.datatype(), "constraint": db.constraint(), "file": db.file(), "line": db.line(), "routine": db.routine(),
        }),
        None => json!(error.to_string()),
    }
}

fn rows(result: std::result::Result<Vec<Row>, tokio_postgres::Error>) -> Value {
    match result {
        Ok(rows) => json!(
            rows.iter()
                .map(|row| row.columns().iter().map(|column| format!("{} {}", column.name(), column.type_())).collect::<Vec<_>>())
                .next()
        )
        .as_array()
        .map_or_else(|| json!([]), |columns| json!([columns, rows.iter().map(first).collect::<Vec<_>>()])),
        Err(error) => why(&error),
    }
}

/// The first column, where it is a number or a text.
fn first(row: &Row) -> Value {
    row.try_get::<_, Option<i32>>(0)
        .map(|value| json!(value))
        .or_else(|_| row.try_get::<_, Option<i64>>(0).map(|value| json!(value)))
        .or_else(|_| row.try_get::<_, Option<String>>(0).map(|value| json!(value)))
        .unwrap_or_else(|error| json!(error.to_string()))
}

fn count(result: std::result::Result<u64, tokio_postgres::Error>) -> Value {
    result.map_or_else(|error| why(&error), |count| json!(count))
}

fn done(result: std::result::Result<(), tokio_postgres::Error>) -> Value {
    result.map_or_else(|error| why(&error), |()| json!("done"))
}

async fn simple(session: &Session, sql: &str) -> Value {
    match session.simple_query(sql).await {
        Ok(messages) => messages
            .iter()
            .map(|message| match message {
                SimpleQueryMessage::Row(row) => json!((0..row.len()).map(|n| row.get(n)).collect::<Vec<_>>()),
                SimpleQueryMessage::CommandComplete(count) => json!(count),
                SimpleQueryMessage::RowDescription(columns) => {
                    json!(columns.iter().map(|column| column.name().to_owned()).collect::<Vec<_>>())
                }
                _ => json!("another message"),
            })
            .collect(),
        Err(error) => why(&error),
    }
}

async fn simple_queries(session: &mut Session) -> Result<Value> {
    let mut seen = Vec::new();
    for sql in [
        "select 1 as a; select 2 as b, null as c",
        "",
        ";",
        "insert into scratch values (1, 'x'); select 1/0; select 2",
        "begin; insert into scratch values (2, 'x'); commit; select nope",
        "select * from scratch",
        "begin; select 1/0",
        "select 1",
        "rollback; select 2",
        "select * from typed",
    ] {
        seen.push(simple(session, sql).await);
    }
    Ok(json!(seen))
}

/// Every column of the table of types, as bytes the server sent.
struct Raw(Option<Vec<u8>>);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

async fn values(session: &mut Session) -> Result<Value> {
    let mut seen = Vec::new();
    for row in session.query("select * from typed", &[]).await? {
        for (index, column) in row.columns().iter().enumerate() {
            let raw = row.try_get::<_, Raw>(index)?.0.map(|bytes| {
                bytes.iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            });
            // The oid of an own type stands in the value of a composite.
            seen.push(json!([column.name(), column.type_().name(), if column.name() == "pr" { None } else { raw }]));
        }
    }
    Ok(json!(seen))
}

async fn parameters(session: &mut Session) -> Result<Value> {
    let values: Vec<(&str, Box<dyn ToSql + Sync>)> = vec![
        ("select $1::int4 + 1", Box::new(41)),
        ("select $1::int8", Box::new(1_i64 << 50)),
        ("select $1::text", Box::new("ü€😀")),
        ("select length($1::bytea)", Box::new(vec![0_u8, 255])),
        ("select $1::bool::int4", Box::new(true)),
        ("select $1::float8::text", Box::new(1e-300)),
        ("select array_to_string($1::int4[], ',')", Box::new(vec![Some(1), None])),
        ("select $1::text", Box::new(None::<String>)),
        ("select $1::int4", Box::new("wrong")),
    ];
    let mut seen = Vec::new();
    for (sql, value) in &values {
        seen.push(rows(session.query(*sql, &[value.as_ref()]).await));
    }
    Ok(json!(seen))
}

async fn portals(session: &mut Session) -> Result<Value> {
    let transaction = session.transaction().await?;
    let portal = transaction.bind("select id from shop.orders where id > $1 order by id", &[&10]).await?;
    let other = transaction.bind("select name from shop.customers order by id", &[]).await?;
    let seen = [
        rows(transaction.query_portal(&portal, 3).await),
        rows(transaction.query_portal(&other, 2).await),
        rows(transaction.query_portal(&portal, 2).await),
        rows(transaction.query_portal(&other, 0).await),
        rows(transaction.query_portal(&portal, 0).await),
        rows(transaction.query_portal(&portal, 5).await),
    ];
    transaction.commit().await?;
    Ok(json!(seen))
}

async fn portal_after_an_error(session: &mut Session) -> Result<Value> {
    let transaction = session.transaction().await?;
    let portal = transaction.bind("select 100 / (5 - n) from generate_series(1, 100) as n", &[]).await?;
    let mut seen = vec![rows(transaction.query_portal(&portal, 3).await), rows(transaction.query_portal(&portal, 3).await)];
    seen.push(rows(transaction.query_portal(&portal, 3).await));
    seen.push(done(transaction.rollback().await));
    seen.push(rows(session.query("select 1", &[]).await));
    Ok(json!(seen))
}

async fn transactions(session: &mut Session) -> Result<Value> {
    let mut seen = Vec::new();
    let mut transaction = session.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
    seen.push(count(transaction.execute("insert into scratch values ($1, $2)", &[&11, &"kept"]).await));
    let inner = transaction.savepoint("s").await?;
    seen.push(count(inner.execute("insert into scratch values ($1, $2)", &[&11, &"again"]).await));
    seen.push(rows(inner.query("select 1", &[]).await));
    seen.push(done(inner.rollback().await));
    seen.push(count(transaction.execute("insert into scratch values (12, 'kept')", &[]).await));
    seen.push(done(transaction.commit().await));
    let transaction = session.transaction().await?;
    seen.push(count(transaction.execute("delete from scratch", &[]).await));
    drop(transaction);
    seen.push(rows(session.query("select id from scratch order by id", &[]).await));
    let transaction = session.build_transaction().read_only(true).start().await?;
    seen.push(count(transaction.execute("delete from scratch", &[]).await));
    seen.push(done(transaction.commit().await));
    Ok(json!(seen))
}

async fn errors(session: &mut Session) -> Result<Value> {
    let mut seen = Vec::new();
    for sql in [
        "selec 1",
        "select nope from shop.customers",
        "select 1/0",
        "insert into shop.customers values (1, 'x')",
        "insert into shop.orders values (5000, 5000)",
        "select shop.complain('loud')",
        "select shop.deep(0)",
        "select '-1'::shop.positive",
        "select 1; select 2",
        "vacuum",
        "select $1",
    ] {
        seen.push(json!([rows(session.query(sql, &[]).await), simple(session, sql).await]));
    }
    Ok(json!(seen))
}

async fn pipelined(session: &mut Session) -> Result<Value> {
    let statement = session.prepare("select $1::int4 * 2").await?;
    let numbers: Vec<i32> = (0..300).collect();
    let calls = numbers.iter().map(|number| {
        let (session, statement) = (&*session, &statement);
        async move { rows(session.query(statement, &[number]).await) }
    });
    Ok(json!(futures_util::future::join_all(calls).await))
}

async fn pipelined_with_an_error(session: &mut Session) -> Result<Value> {
    let session = &*session;
    let seen = tokio::join!(
        async { rows(session.query("select 1", &[]).await) },
        async { rows(session.query("select 1/0", &[]).await) },
        async { rows(session.query("select 2", &[]).await) },
        async { simple(session, "begin; select 1/0").await },
        async { rows(session.query("select 3", &[]).await) },
        async { simple(session, "rollback").await },
        async { rows(session.query("select 4", &[]).await) },
    );
    let (a, b, c, d, e, f, g) = seen;
    // Each prepares first, so which of them meets the failed transaction is the scheduler's doing; that all end is not.
    Ok(json!([a, b, c, d, e.is_null(), f, g.is_null()]))
}

async fn copies(session: &mut Session) -> Result<Value> {
    let mut sink = pin!(session.copy_in("copy scratch from stdin").await?);
    for n in 1000..4000 {
        sink.send(chunk(format!("{n}\tcopied {n}\n"))).await?;
    }
    let mut seen = vec![count(sink.finish().await)];
    let mut sink = pin!(session.copy_in("copy scratch from stdin (format csv)").await?);
    let sent = async {
        sink.send(chunk("x,y\n".to_owned())).await?;
        sink.finish().await
    };
    seen.push(count(sent.await));
    let text: Vec<bytes::Bytes> =
        session.copy_out("copy (select * from scratch where id < 1500 order by id) to stdout").await?.try_collect().await?;
    seen.push(json!(String::from_utf8_lossy(&text.concat())));
    let failing = session.copy_out("copy (select 100 / (5 - n) from generate_series(1, 100) as n) to stdout").await;
    seen.push(match failing {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.map_or_else(|error| why(&error), |all| json!(all.len())),
        Err(error) => why(&error),
    });
    seen.push(match session.copy_in::<_, bytes::Bytes>("copy nowhere from stdin").await {
        Ok(_) => json!("a sink"),
        Err(error) => why(&error),
    });
    seen.push(rows(session.query("select count(*) from scratch", &[]).await));
    Ok(json!(seen))
}

fn chunk(text: String) -> bytes::Bytes {
    bytes::Bytes::from(text)
}

async fn binary_copies(session: &mut Session) -> Result<Value> {
    let sink = session.copy_in("copy scratch from stdin (format binary)").await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]));
    for n in 5000..5500 {
        writer.as_mut().write(&[&n, &(n % 2 == 0).then(|| format!("b{n}"))]).await?;
    }
    let written = writer.finish().await?;
    let stream = session.copy_out("copy (select id, note from scratch where id >= 5000 order by id) to stdout (format binary)").await?;
    let mut stream = pin!(BinaryCopyOutStream::new(stream, &[Type::INT4, Type::TEXT]));
    let mut sum = 0;
    while let Some(row) = stream.next().await {
        sum += row?.get::<i32>(0);
    }
    Ok(json!([written, sum]))
}

async fn copy_abandoned(session: &mut Session) -> Result<Value> {
    {
        let mut sink = pin!(session.copy_in("copy scratch from stdin").await?);
        sink.send(chunk("6000\tx\n".to_owned())).await?;
    }
    let stream = session.copy_out("copy (select repeat('x', 1000) from generate_series(1, 5000)) to stdout").await?;
    drop(stream);
    Ok(rows(session.query("select count(*) from scratch where id = 6000", &[]).await))
}

async fn cancelled(session: &mut Session) -> Result<Value> {
    let (token, tls) = session.canceller();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(tls).await
    };
    let (outcome, sent) = tokio::join!(session.query("select pg_sleep(60)", &[]), cancel);
    sent?;
    Ok(json!([rows(outcome), rows(session.query("select 1", &[]).await)]))
}

async fn typed_queries(session: &mut Session) -> Result<Value> {
    Ok(json!([
        rows(session.query_typed("select $1 + 1", &[(&41, Type::INT4)]).await),
        rows(session.query_typed("select $1 || $2", &[(&"a", Type::TEXT), (&"b", Type::TEXT)]).await),
        rows(session.query_typed("select 1/$1", &[(&0, Type::INT4)]).await),
        rows(session.query_typed("select", &[]).await),
        rows(session.query_typed("", &[]).await),
    ]))
}

async fn prepared_again(session: &mut Session) -> Result<Value> {
    let mut seen = Vec::new();
    for n in 0..40 {
        let statement = session.prepare_typed(&format!("select $1::int4 + {n}"), &[Type::INT4]).await?;
        seen.push(rows(session.query(&statement, &[&1]).await));
    }
    let statement = session.prepare("select id, name, mood from shop.customers where id = $1 and balance > $2").await;
    seen.push(match statement {
        Ok(statement) => json!([
            statement.params().iter().map(ToString::to_string).collect::<Vec<_>>(),
            statement.columns().iter().map(|column| format!("{} {}", column.name(), column.type_())).collect::<Vec<_>>()
        ]),
        Err(error) => why(&error),
    });
    seen.push(simple(session, "deallocate all; select count(*) from pg_prepared_statements").await);
    Ok(json!(seen))
}

async fn schema_changes(session: &mut Session) -> Result<Value> {
    session.batch_execute("create table changing (a integer); insert into changing values (1)").await?;
    let statement = session.prepare("select * from changing").await?;
    let mut seen = vec![rows(session.query(&statement, &[]).await)];
    session.batch_execute("alter table changing add column b text").await?;
    seen.push(rows(session.query(&statement, &[]).await));
    seen.push(rows(session.query("select * from changing", &[]).await));
    session.batch_execute("drop table changing").await?;
    seen.push(rows(session.query(&statement, &[]).await));
    Ok(json!(seen))
}

async fn notices(session: &mut Session) -> Result<Value> {
    session.batch_execute("do $$ begin raise notice 'n'; raise warning 'w' using hint = 'h'; end $$; drop table if exists nowhere").await?;
    let mut seen = Vec::new();
    while let Ok(Some(notice)) = tokio::time::timeout(Duration::from_secs(10), session.notices.recv()).await {
        seen.push(json!([notice.severity(), notice.code().code(), notice.message(), notice.hint(), notice.where_(), notice.line()]));
        if seen.len() == 3 {
            break;
        }
    }
    Ok(json!(seen))
}

async fn large(session: &mut Session) -> Result<Value> {
    let text = "0123456789abcdef".repeat(500_000);
    let hash: String = session.query_one("select md5($1)", &[&text]).await?.try_get(0)?;
    let long: String = session.query_one("select repeat('x', 20000000)", &[]).await?.try_get(0)?;
    let mut stream =
        pin!(session.query_raw("select n, repeat('r', n % 300) from generate_series(1, 30000) as n", Vec::<i32>::new()).await?);
    let mut total = 0;
    while let Some(row) = stream.try_next().await? {
        total += row.try_get::<_, String>(1)?.len();
    }
    Ok(json!([hash, long.len(), total]))
}

async fn dropped_futures(session: &mut Session) -> Result<Value> {
    for _ in 0..5 {
        let _ =
            tokio::time::timeout(Duration::from_millis(1), session.query("select pg_sleep(0.01), n from generate_series(1, 3) as n", &[]))
                .await;
    }
    Ok(rows(session.query("select 7", &[]).await))
}

async fn notifications(session: &mut Session, other: &Session) -> Result<Value> {
    session.batch_execute("listen news").await?;
    other.batch_execute("notify news, 'one'; notify other, 'not for us'").await?;
    session.batch_execute("notify news, 'two'").await?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let note = tokio::time::timeout(Duration::from_secs(10), session.notifications.recv()).await?.context("the connection ended")?;
        seen.push(json!([note.channel(), note.payload()]));
    }
    Ok(json!(seen))
}
