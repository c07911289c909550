//! Judgement through the live gateway: read-only sessions, uncommitted changes of the catalog, declared parameter types, service roles, what other
//! sessions change, judgements that are kept, new versions of the policy.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{Session, sqlstate};
use countersign_e2e::gateway::metric;
use countersign_e2e::scenario::runtime;
use countersign_e2e::stack::{Stack, StackOptions};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{Kind, Type};

mod tools;

const POLICY: &str = r#"
version = 1

[[rules]]
name = "analysts-read"
who = { groups = ["analyst"] }
what = { kinds = ["read", "transaction", "session"] }
action = "allow"

[[rules]]
name = "ci-changes"
who = { groups = ["ci"] }
what = { kinds = ["read", "transaction", "session", "write", "ddl"] }
action = "allow"

# A lie: it writes. The server finds out.
[[trusted_functions]]
name = "public.count_visits"
kind = "read"
"#;

const SETUP: &str = "
    create table if not exists public.ledger (id integer primary key, note text not null);
    insert into public.ledger select n, 'entry ' || n from generate_series(1, 100) as n on conflict do nothing;
    alter table public.ledger owner to countersign_svc;
    create table public.visits (n integer);
    alter table public.visits owner to countersign_svc;
    grant create on schema public to countersign_svc;
    create function public.count_visits() returns integer language plpgsql as $f$ begin insert into public.visits values (1); return 1; end $f$;
    create function public.wipe() returns integer language plpgsql as $f$ begin delete from public.ledger; return 1; end $f$;
    create function public.wipe_check(t text) returns boolean language plpgsql as $f$ begin perform public.wipe(); return true; end $f$;
    create domain public.trap as text check (public.wipe_check(value));
    grant execute on all functions in schema public to countersign_svc;
    create role analyst_svc login password 'analyst';
    grant select on public.visits to analyst_svc;
";

async fn start() -> Result<(Stack, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, POLICY)?;
    let options = StackOptions { policy: Some(policy), setup: Some(SETUP.to_owned()), ..StackOptions::default() };
    Ok((Stack::start(options, &|_| ()).await?, dir))
}

/// The SQLSTATE of a text, empty when it works.
async fn code(session: &Session, sql: &str) -> String {
    session.batch_execute(sql).await.err().map(|error| sqlstate(&error)).unwrap_or_default()
}

async fn value(session: &Session, sql: &str) -> Result<String> {
    let messages = session.simple_query(sql).await?;
    let row = messages.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None });
    Ok(row.context("no row")?.to_owned())
}

async fn entries(stack: &Stack) -> Result<i64> {
    Ok(stack.upstream.oracle().await?.query_one("select count(*) from ledger", &[]).await?.get(0))
}

#[test]
fn judged_as_the_server_will_run_it() -> Result<()> {
    runtime()?.block_on(async {
        let (stack, _dir) = start().await?;
        read_only_sessions(&stack).await.context("read-only sessions")?;
        kept(&stack).await.context("judgements that are kept")?;
        others(&stack).await.context("changes by other sessions")?;
        uncommitted(&stack).await.context("uncommitted changes")?;
        declared_types(&stack).await.context("declared types")?;
        roles(&stack).await.context("roles")?;
        defaults(&stack).await.context("defaults of roles")?;
        tools::tighten_a_policy(&stack).await.context("the tools")?;
        reload(&stack).await.context("a new policy")
    })
}

/// What the policy grants nothing but reads is read-only at the server, too, and cannot be made anything else.
async fn read_only_sessions(stack: &Stack) -> Result<()> {
    let analyst = stack.connect("analyst").await?;
    ensure!(value(&analyst, "show default_transaction_read_only").await? == "on", "the session may write");
    for sql in [
        "set transaction_read_only = off",
        "set default_transaction_read_only to off",
        "set session characteristics as transaction read write",
        "select set_config('transaction_read_only', 'off', false)",
        "select set_config('default_transaction_' || 'read_only', 'off', false)",
        "begin read write",
        "start transaction isolation level serializable, read write",
        "begin; set transaction read write",
        "reset all",
    ] {
        let found = code(&analyst, sql).await;
        ensure!(found == "42501", "{sql}: {found:?}");
        let _ = analyst.batch_execute("rollback").await;
    }
    for sql in ["reset default_transaction_read_only", "discard all", "set default_transaction_read_only to default"] {
        let found = code(&analyst, sql).await;
        ensure!(found.is_empty(), "{sql}: {found:?}");
        ensure!(value(&analyst, "show default_transaction_read_only").await? == "on", "{sql} made the session writable");
    }
    let principal = stack.principal("analyst")?.clone();
    let asked = stack.gateway.connect_with(|config| {
        config.user(&principal.user).password(&principal.token).options("-c default_transaction_read_only=off");
    });
    let refused = asked.await.err().map(|error| sqlstate(&error)).unwrap_or_default();
    ensure!(refused == "42501", "the start-up options made the session writable: {refused:?}");
    // What is judged a read and writes all the same is refused by the server, counted and recorded.
    let before = metric(&stack.proxy.metrics_url(), "countersign_anomalies_total").await?.unwrap_or_default();
    let found = code(&analyst, "select count_visits()").await;
    ensure!(found == "25006", "the server let a read write: {found:?}");
    let after = metric(&stack.proxy.metrics_url(), "countersign_anomalies_total").await?.unwrap_or_default();
    ensure!(after > before, "no anomaly was counted");
    ensure!(stack.proxy.log().contains("refused as a write what was judged a read"), "the anomaly is not in the log");
    let ci = stack.connect("ci").await?;
    ensure!(value(&ci, "show default_transaction_read_only").await? == "off", "ci may write, its session may not");
    Ok(())
}

/// What was allowed with one literal serves no text with another one that means something else; nor does what was allowed before a SET.
async fn kept(stack: &Stack) -> Result<()> {
    let analyst = stack.connect("analyst").await?;
    let ask = |name: &str, value: &str| format!("select set_config(name, '{value}', false) from pg_settings where name = '{name}'");
    ensure!(code(&analyst, &ask("enable_seqscan", "off")).await.is_empty(), "a harmless setting is refused");
    for (name, value) in
        [("transaction_read_only", "off"), ("default_transaction_read_only", "off"), ("session_authorization", "off"), ("role", "off")]
    {
        let found = code(&analyst, &ask(name, value)).await;
        ensure!(found == "42501", "{name} passed for enable_seqscan: {found:?}");
    }
    ensure!(value(&analyst, "show transaction_read_only").await? == "on", "the session became writable");
    let nested = "select (select 1 from (select 'role' as name) n, lateral set_config(name, 'countersign_svc', false) s) from pg_settings where name = 'work_mem'";
    ensure!(code(&analyst, nested).await == "42501", "a name from elsewhere passed for the one that was asked for");
    // Prepared under one search path, run under another: the server reads the text anew.
    let ci = stack.connect("ci").await?;
    ci.batch_execute("create schema elsewhere; create table elsewhere.visits (n integer); insert into elsewhere.visits values (7)").await?;
    ci.batch_execute("create view elsewhere.shown_visits as select wipe() as n; create table public.shown_visits (n integer)").await?;
    let statement = ci.prepare("select n from shown_visits").await?;
    ci.query(&statement, &[]).await?;
    ci.batch_execute("set search_path = elsewhere, public").await?;
    let found = ci.query(&statement, &[]).await.err().map(|error| sqlstate(&error)).unwrap_or_default();
    ensure!(found == "42501", "prepared under another search path: {found:?}");
    ensure!(entries(stack).await? == 100, "the ledger was emptied");
    Ok(())
}

/// What one session commits counts in every other one from then on: the gateway passed it, so it knows.
async fn others(stack: &Stack) -> Result<()> {
    let (maker, reader) = (stack.connect("ci").await?, stack.connect("analyst").await?);
    maker.batch_execute("create table public.shared (n integer); create view public.watched as select n from public.shared").await?;
    ensure!(code(&reader, "select * from watched").await.is_empty(), "what another session made is not known");
    maker.batch_execute("create or replace view public.watched as select wipe() as n").await?;
    ensure!(code(&reader, "select * from watched").await == "42501", "a view that another session replaced is judged as it was");
    maker
        .batch_execute("begin; alter table public.shared rename to shared_before; create view public.shared as select wipe() as n")
        .await?;
    // Not committed: the other session reads what there was, which waits for the lock; after the commit the new facts count.
    maker.batch_execute("commit").await?;
    ensure!(code(&reader, "select * from shared").await == "42501", "a table that another session replaced is judged as it was");
    ensure!(entries(stack).await? == 100, "the ledger was emptied");
    // Beside the gateway: noticed at the latest when the facts are old, which a new session's are not for longer than configured.
    Ok(())
}

/// A new version counts for sessions that are open, a bad one for none; an alarm says so until it is mended.
async fn reload(stack: &Stack) -> Result<()> {
    let limit = Duration::from_secs(20);
    let analyst = stack.connect("analyst").await?;
    let before = std::fs::read_to_string(&stack.policy)?;
    ensure!(code(&analyst, "select * from visits").await.is_empty(), "reading is refused");
    std::fs::write(&stack.policy, before.replace("[\"read\", \"transaction\", \"session\"]", "[\"raed\"]"))?;
    stack.proxy.wait_for_log("new policy refused, the one in force stays", limit).await?;
    ensure!(metric(&stack.proxy.metrics_url(), "countersign_policy_stale").await? == Some(1.0), "no alarm");
    ensure!(code(&analyst, "select * from visits").await.is_empty(), "a bad version took something away");
    let after = before.replace("name = \"analysts-read\"", "name = \"nobody-reads-visits\"\nwhat = { relations = [\"public.visits\"] }\naction = \"deny\"\n\n[[rules]]\nname = \"analysts-read\"");
    std::fs::write(&stack.policy, after)?;
    stack.proxy.wait_for_log("policy in force", limit).await?;
    ensure!(code(&analyst, "select * from visits").await == "42501", "the new version does not count for an open session");
    ensure!(metric(&stack.proxy.metrics_url(), "countersign_policy_stale").await? == Some(0.0), "the alarm goes on");
    Ok(())
}

/// A change of the catalog counts from the moment it is made, not from the moment the gateway's own connection sees it.
async fn uncommitted(stack: &Stack) -> Result<()> {
    let before = entries(stack).await?;
    let attacks: &[&[&str]] = &[
        &["begin", "create view shown as select wipe()", "select * from shown"],
        &["begin", "create function hidden() returns int language sql as 'select wipe()'", "select hidden()"],
        &[
            "create or replace view replaced as select 1 as a",
            "begin",
            "create or replace view replaced as select wipe() as a",
            "select * from replaced",
        ],
        &["create or replace view replaced as select wipe() as a; select * from replaced"],
        &["create or replace view replaced as select wipe() as a", "select * from replaced"],
        &["begin", "alter table visits rename to visits_old", "create view visits as select wipe() as n", "select * from visits"],
        &["create temp view ledger as select wipe() as id", "select * from ledger"],
        &["begin", "create rule also as on insert to visits do also delete from ledger", "insert into visits values (1)"],
    ];
    for steps in attacks {
        let ci = stack.connect("ci").await?;
        let mut found = String::new();
        for step in *steps {
            found = code(&ci, step).await;
        }
        ensure!(found == "42501", "{steps:?}: the last was not refused, {found:?}");
        let _ = ci.batch_execute("rollback").await;
        ensure!(entries(stack).await? == before, "{steps:?}: the ledger was emptied");
    }
    // A migration as tools write them goes through.
    let ci = stack.connect("ci").await?;
    for step in [
        "begin",
        "create table fresh (id serial primary key, note text not null default 'x', made timestamptz default now())",
        "create index on fresh (note)",
        "insert into fresh (note) values ('a'), ('b')",
        "alter table ledger add column extra integer default 0",
        "update ledger set extra = 1 where id = 1",
        "commit",
        "insert into fresh (note) values ('c')",
        "create table other (id integer); insert into other values (1); select * from other",
    ] {
        let found = code(&ci, step).await;
        ensure!(found.is_empty(), "{step}: {found}");
    }
    ensure!(value(&ci, "select count(*) from fresh").await? == "3", "rows are missing");
    Ok(())
}

/// A parameter declared to be of a domain runs the domain's check when it is bound.
async fn declared_types(stack: &Stack) -> Result<()> {
    let before = entries(stack).await?;
    let oid: u32 = stack.upstream.oracle().await?.query_one("select 'public.trap'::regtype::oid", &[]).await?.get(0);
    let ci = stack.connect("ci").await?;
    let trap = Type::new("trap".to_owned(), oid, Kind::Domain(Type::TEXT), "public".to_owned());
    let found = ci.prepare_typed("select $1", &[trap]).await.err().map(|error| sqlstate(&error)).unwrap_or_default();
    ensure!(found == "42501", "a parameter of a trapped type was let through: {found:?}");
    ensure!(entries(stack).await? == before, "the ledger was emptied");
    Ok(())
}

/// Sessions of a group with a service role of its own can do at the server what that role can.
/// Where names are looked up may change for the next login. The connection that reads the catalog may be older than that, and must not be believed.
async fn defaults(stack: &Stack) -> Result<()> {
    let oracle = stack.upstream.oracle().await?;
    oracle
        .batch_execute(
            "create table public.looked_up (n integer); create schema ahead; grant usage on schema ahead to countersign_svc; \
             create view ahead.looked_up as select public.wipe() as n; grant select on public.looked_up, ahead.looked_up to countersign_svc",
        )
        .await?;
    let ci = stack.connect("ci").await?;
    let load = async |n: u32| -> Result<()> {
        // A change and a look behind it: facts are loaded anew, over the connection of the last load where that is young.
        ci.batch_execute(&format!("create table public.passing_{n} (i integer)")).await?;
        ci.batch_execute(&format!("select count(*) from public.passing_{n}; drop table public.passing_{n}")).await?;
        Ok(())
    };
    for n in 0..3 {
        load(n).await?;
    }
    oracle.batch_execute("alter role countersign_svc set search_path = ahead, public").await?;
    // No facts were loaded since: the login itself says where it looks, and one that is older goes on looking where it did.
    let early = stack.connect("ci").await?;
    ensure!(code(&early, "select * from looked_up").await == "42501", "judged by a search path that is not the login's");
    ensure!(code(&early, "reset search_path; select * from looked_up").await == "42501", "RESET leads to another path than the login's");
    load(3).await?;
    ensure!(code(&ci, "select * from looked_up").await.is_empty(), "an older login is judged by a newer one's search path");
    let next = stack.connect("ci").await?;
    ensure!(value(&next, "show search_path").await? == "ahead, public", "the new default does not count at the server");
    let before = entries(stack).await?;
    let found = code(&next, "select * from looked_up").await;
    ensure!(found == "42501", "judged by yesterday's search path: {found:?}");
    ensure!(entries(stack).await? == before, "rows are gone");
    oracle.batch_execute("alter role countersign_svc reset search_path; drop schema ahead cascade; drop table public.looked_up").await?;
    load(4).await?;
    Ok(())
}

async fn roles(stack: &Stack) -> Result<()> {
    let mut config = stack.config.clone();
    let password = stack.dir().join("analyst.password");
    countersign_e2e::pki::write_secret(&password, "analyst")?;
    let mut role = toml::toml! { groups = ["analyst"]
    user = "analyst_svc" };
    role.insert(
        "password".to_owned(),
        toml::Value::Table(toml::Table::from_iter([("file".to_owned(), password.display().to_string().into())])),
    );
    config.set("upstream", "roles", toml::Value::Array(vec![toml::Value::Table(role)]));
    let (_proxy, gateway) = stack.another_proxy("roles", &config).await?;
    let (analyst, ci) = (stack.principal("analyst")?, stack.principal("ci")?);
    let analyst = gateway.connect(&analyst.user, &analyst.token).await?;
    ensure!(value(&analyst, "select current_user").await? == "analyst_svc", "not logged in as the group's role");
    ensure!(code(&analyst, "select * from visits").await.is_empty(), "the role's own grant does not count");
    ensure!(code(&analyst, "select * from ledger").await == "42501", "the role reads what it was not granted");
    let ci = gateway.connect(&ci.user, &ci.token).await?;
    ensure!(value(&ci, "select current_user").await? == "countersign_svc", "others log in as the common role");
    Ok(())
}
