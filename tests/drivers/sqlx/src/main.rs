//! sqlx: what its users do. Each operation runs on a connection of its own and prints one line of JSON with what came of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use sqlx::postgres::{PgAdvisoryLock, PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgRow, PgSslMode};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Either, Executor as _, Row as _, SqlSafeStr as _, Statement as _, TypeInfo as _,
    ValueRef as _,
};

type Seen<'a> = Pin<Box<dyn Future<Output = sqlx::Result<Value>> + 'a>>;

fn options() -> PgConnectOptions {
    // From the environment, except that sqlx has a name of its own for the authority.
    PgConnectOptions::new().ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(std::env::var("PGSSLROOTCERT").unwrap_or_default())
}

fn why(error: &sqlx::Error) -> Value {
    let sqlx::Error::Database(said) = error else { return json!({"error": error.to_string()}) };
    let said = said.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    json!({
        "severity": format!("{:?}", said.severity()), "code": said.code(), "message": said.message(), "detail": said.detail(), "hint": said.hint(),
        "position": format!("{:?}", said.position()), "where": said.r#where(), "schema": said.schema(), "table": said.table(), "column": said.column(),
        "type": said.data_type(), "constraint": said.constraint(), "routine": said.routine(),
    })
}

fn row(row: &PgRow) -> Value {
    let value = |column: &sqlx::postgres::PgColumn| {
        let raw = row.try_get_raw(column.ordinal()).ok()?;
        let bytes = (!raw.is_null()).then(|| raw.as_bytes().ok()).flatten()?;
        Some(if bytes.len() < 200 { bytes.iter().map(|byte| format!("{byte:02x}")).collect() } else { format!("{} bytes", bytes.len()) })
    };
    // Types made by the fixture have other OIDs at each server.
    row.columns().iter().map(|column| json!([column.name(), column.type_info().name(), value(column)])).collect()
}

/// Everything a query gives, as rows, counts and at last perhaps an error.
async fn all<'q>(c: &mut PgConnection, query: impl sqlx::Execute<'q, sqlx::Postgres> + 'q) -> Value {
    let mut stream = c.fetch_many(query);
    let mut seen = Vec::new();
    loop {
        match stream.try_next().await {
            Ok(Some(Either::Left(done))) => seen.push(json!({"done": done.rows_affected()})),
            Ok(Some(Either::Right(found))) => seen.push(row(&found)),
            Ok(None) => return json!(seen),
            Err(error) => {
                seen.push(why(&error));
                return json!(seen);
            }
        }
    }
}

async fn types(c: &mut PgConnection) -> sqlx::Result<Value> {
    Ok(json!([all(c, sqlx::query("select * from typed")).await, all(c, sqlx::raw_sql("select * from typed")).await]))
}

async fn parameters(c: &mut PgConnection) -> sqlx::Result<Value> {
    let query = sqlx::query("select $1::bool, $2::int2, $3::int4, $4::int8, $5::float8, $6::text, $7::bytea, $8::int4[], $9::text")
        .bind(true)
        .bind(-3_i16)
        .bind(70_000_i32)
        .bind(1_i64 << 50)
        .bind(1e100_f64)
        .bind("ü€😀")
        .bind(&b"\0\xff"[..])
        .bind(vec![1, 2, 3])
        .bind(None::<String>);
    let seen = all(c, query).await;
    Ok(json!([
        seen,
        all(c, sqlx::query("select $1::int4 / $2::int4").bind(1).bind(0)).await,
        all(c, sqlx::query("select $1::int4").bind("x")).await
    ]))
}

async fn prepared(c: &mut PgConnection) -> sqlx::Result<Value> {
    let statement = c.prepare("select id, name from shop.customers where id = $1".into_sql_str()).await?;
    let columns: Vec<Value> = statement.columns().iter().map(|column| json!([column.name(), column.type_info().name()])).collect();
    let parameters = format!("{:?}", statement.parameters());
    let mut seen = vec![json!(columns), json!(parameters)];
    for id in 1..4 {
        seen.push(all(c, statement.query().bind(id)).await);
    }
    seen.push(all(c, sqlx::query("select name, statement from pg_prepared_statements order by prepare_time")).await);
    seen.push(json!(c.cached_statements_size()));
    c.clear_cached_statements().await?;
    seen.push(all(c, sqlx::raw_sql("select count(*) from pg_prepared_statements")).await);
    Ok(json!(seen))
}

async fn many_statements(c: &mut PgConnection) -> sqlx::Result<Value> {
    // More than the cache keeps: the oldest are closed.
    for n in 0..150 {
        c.fetch_one(sqlx::query(AssertSqlSafe(format!("select {n} + $1"))).bind(1)).await?;
    }
    Ok(json!([c.cached_statements_size(), all(c, sqlx::raw_sql("select count(*) from pg_prepared_statements")).await]))
}

async fn scripts(c: &mut PgConnection) -> sqlx::Result<Value> {
    let mut seen = Vec::new();
    for text in [
        "select 1 as a; insert into scratch values (1, 'x'), (2, 'y'); select * from scratch order by id; update scratch set note = 'z'",
        "insert into scratch values (3, 'x'); select 1/0; select 2",
        "",
        ";",
        "selec",
        "begin; select 1",
        "select 1/0",
        "select 1",
        "rollback",
        "table scratch",
    ] {
        seen.push(all(c, sqlx::raw_sql(text)).await);
    }
    Ok(json!(seen))
}

async fn errors(c: &mut PgConnection) -> sqlx::Result<Value> {
    let mut seen = Vec::new();
    for text in [
        "selec 1",
        "select nope from shop.customers",
        "select 1/0",
        "insert into shop.customers values (1, 'x')",
        "insert into shop.orders values (5000, 5000)",
        "select shop.complain('loud')",
        "select shop.deep(0)",
        "select '-1'::shop.positive",
        "select 1; select 2",
    ] {
        seen.push(json!([all(c, sqlx::query(text)).await, all(c, sqlx::raw_sql(text)).await]));
    }
    Ok(json!(seen))
}

async fn transactions(c: &mut PgConnection) -> sqlx::Result<Value> {
    let mut seen = Vec::new();
    let mut outer = c.begin().await?;
    seen.push(all(&mut outer, sqlx::query("insert into scratch values ($1, $2)").bind(10).bind("kept")).await);
    let mut inner = outer.begin().await?;
    seen.push(all(&mut inner, sqlx::query("insert into scratch values (11, 'gone')")).await);
    seen.push(all(&mut inner, sqlx::query("select 1/0")).await);
    seen.push(all(&mut inner, sqlx::query("select 1")).await);
    inner.rollback().await?;
    seen.push(all(&mut outer, sqlx::query("select count(*) from scratch")).await);
    outer.commit().await?;
    {
        let mut dropped = c.begin().await?;
        seen.push(all(&mut dropped, sqlx::query("delete from scratch")).await);
    }
    seen.push(all(c, sqlx::query("select * from scratch")).await);
    let mut serializable = c.begin_with("begin isolation level serializable read only").await?;
    seen.push(all(&mut serializable, sqlx::query("insert into scratch values (12, 'no')")).await);
    serializable.rollback().await?;
    Ok(json!(seen))
}

async fn streams(c: &mut PgConnection) -> sqlx::Result<Value> {
    let mut seen = Vec::new();
    {
        // Left half-way: the rest is read over before the next one.
        let mut stream = c.fetch(sqlx::query("select n, repeat('x', 100) from generate_series(1, 20000) as n"));
        for _ in 0..10 {
            seen.push(stream.try_next().await?.as_ref().map(row).unwrap_or_default());
        }
    }
    seen.push(all(c, sqlx::query("select 'next'")).await);
    let sum: i64 = c
        .fetch(sqlx::query("select n from generate_series(1, 20000) as n"))
        .try_fold(0, |sum, row| async move { Ok(sum + i64::from(row.get::<i32, _>(0))) })
        .await?;
    seen.push(json!(sum));
    seen.push(all(c, sqlx::query("select 100 / (50 - n) from generate_series(1, 100) as n")).await);
    Ok(json!(seen))
}

async fn copies(c: &mut PgConnection) -> sqlx::Result<Value> {
    let mut copy = c.copy_in_raw("copy scratch from stdin (format csv)").await?;
    copy.send(&b"100,one\n101,two\n"[..]).await?;
    let mut seen = vec![json!(copy.finish().await?)];
    let mut copy = c.copy_in_raw("copy scratch from stdin (format csv)").await?;
    copy.send(&b"x,one\n"[..]).await?;
    seen.push(copy.finish().await.map_or_else(|error| why(&error), |rows| json!(rows)));
    let mut copy = c.copy_in_raw("copy scratch from stdin (format csv)").await?;
    copy.send(&b"102,three\n"[..]).await?;
    seen.push(copy.abort("changed my mind").await.map_or_else(|error| why(&error), |()| json!("aborted")));
    for text in [
        "copy (select * from scratch order by id) to stdout (format csv, header)",
        "copy (select * from scratch order by id) to stdout (format binary)",
    ] {
        let chunks: Vec<_> = c.copy_out_raw(text).await?.try_collect().await?;
        seen.push(json!(chunks.iter().map(|chunk| chunk.to_vec()).collect::<Vec<_>>()));
    }
    seen.push(c.copy_in_raw("copy nowhere from stdin").await.map_or_else(|error| why(&error), |_| json!("copies")));
    seen.push(all(c, sqlx::query("select count(*) from scratch")).await);
    Ok(json!(seen))
}

async fn schema_changes(c: &mut PgConnection) -> sqlx::Result<Value> {
    let mut seen = vec![all(c, sqlx::raw_sql("create table changing (a integer); insert into changing values (1)")).await];
    seen.push(all(c, sqlx::query("select * from changing")).await);
    seen.push(all(c, sqlx::raw_sql("alter table changing add column b text default 'new'")).await);
    seen.push(all(c, sqlx::query("select * from changing")).await);
    c.clear_cached_statements().await?;
    seen.push(all(c, sqlx::query("select * from changing")).await);
    seen.push(all(c, sqlx::raw_sql("drop table changing")).await);
    Ok(json!(seen))
}

async fn listener(c: &mut PgConnection) -> sqlx::Result<Value> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen_all(["news", "Weather"]).await?;
    all(c, sqlx::raw_sql("notify news, 'one'; notify \"Weather\"; notify other")).await;
    all(c, sqlx::query("select pg_notify($1, $2)").bind("news").bind("two")).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let heard = tokio::time::timeout(Duration::from_secs(20), listener.recv()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        seen.push(json!([heard.channel(), heard.payload()]));
    }
    Ok(json!(seen))
}

async fn pool(_: &mut PgConnection) -> sqlx::Result<Value> {
    let pool = PgPoolOptions::new().max_connections(3).connect_with(options()).await?;
    let one = |n: i32| {
        let pool = pool.clone();
        async move { sqlx::query_scalar::<_, i32>("select $1").bind(n).fetch_one(&pool).await }
    };
    let mut seen = futures_util::future::try_join_all((0..12).map(one)).await?;
    seen.sort_unstable();
    pool.close().await;
    Ok(json!(seen))
}

async fn advisory_lock(c: &mut PgConnection) -> sqlx::Result<Value> {
    let lock = PgAdvisoryLock::new("countersign matrix");
    let mut other = PgConnection::connect_with(&options()).await?;
    let held = lock.acquire(&mut *c).await?;
    let busy = matches!(lock.try_acquire(&mut other).await?, Either::Right(_));
    held.release_now().await?;
    Ok(json!([busy, matches!(lock.try_acquire(&mut other).await?, Either::Left(_))]))
}

async fn large(c: &mut PgConnection) -> sqlx::Result<Value> {
    let text = "0123456789".repeat(500_000);
    Ok(json!([
        all(c, sqlx::query("select md5($1)").bind(text)).await,
        all(c, sqlx::query("select repeat('x', 20000000)")).await,
        all(c, sqlx::query("select sum(x) from unnest($1::int8[]) as x").bind((0..200_000_i64).collect::<Vec<_>>())).await,
    ]))
}

async fn own_types(c: &mut PgConnection) -> sqlx::Result<Value> {
    // sqlx asks the catalog for what it does not know.
    Ok(json!([
        all(c, sqlx::query("select 'ok'::shop.mood, row(1, 'x')::shop.pair, 5::shop.positive, array['ok', 'sad']::shop.mood[]::text[]"))
            .await,
        all(c, sqlx::query("select $1::shop.mood::text").bind("sad")).await,
    ]))
}

async fn terminated(c: &mut PgConnection) -> sqlx::Result<Value> {
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *c).await?;
    let mut other = PgConnection::connect_with(&options()).await?;
    other.execute(sqlx::query("select pg_terminate_backend($1)").bind(pid)).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(json!([all(c, sqlx::query("select 1")).await.to_string().contains("57P01"), c.ping().await.is_ok()]))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    macro_rules! operations {
        ($($name:ident),*) => { [$((stringify!($name), (|c| Box::pin($name(c))) as for<'a> fn(&'a mut PgConnection) -> Seen<'a>)),*] };
    }
    let operations = operations!(
        types,
        parameters,
        prepared,
        many_statements,
        scripts,
        errors,
        transactions,
        streams,
        copies,
        schema_changes,
        listener,
        pool,
        advisory_lock,
        large,
        own_types,
        terminated
    );
    for (name, operation) in operations {
        let run = async {
            let mut connection = PgConnection::connect_with(&options()).await?;
            operation(&mut connection).await
        };
        let out = match tokio::time::timeout(Duration::from_secs(60), run).await {
            Ok(Ok(out)) => out,
            Ok(Err(error)) => json!({"failed": error.to_string()}),
            Err(_) => json!({"failed": "it does not end"}),
        };
        println!("{}", json!({"op": name, "out": out}));
    }
}
