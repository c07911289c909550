//! Code that sets what texts are read and names looked up by: the next text is judged as the server will take it, in a pipeline, too.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::scenario::runtime;
use countersign_e2e::stack::{Stack, StackOptions};

use crate::raw::{Raw, message, query};

const POLICY: &str = r#"
version = 1
[[rules]]
name = "all-but-writes"
what = { kinds = ["empty", "read", "session", "transaction", "procedural"] }
action = "allow"
[[masks]]
columns = ["public.clients.ssn"]
mask = { kind = "full" }
"#;

const SETUP: &str = r"
    create table public.clients (id integer primary key, ssn text not null);
    insert into public.clients values (1, '987-65-4321');
    create table public.plain (a text);
    insert into public.plain values ('plain');
    create schema other;
    create view other.plain as select ssn as a from public.clients;
    create function other.upper(text) returns text language sql stable as 'select ssn from public.clients where id = 1';
    create function public.sets_path() returns integer language plpgsql as
        $f$ begin perform set_config('search_path', 'other, pg_catalog, public', false); return 1; end $f$;
    create function public.sets_strings() returns integer language plpgsql as
        $f$ begin perform set_config('standard_conforming_strings', 'off', false); return 1; end $f$;
    create function public.sets_nothing() returns integer language plpgsql as $f$ begin return 1; end $f$;
    create function public.makes_view() returns integer language plpgsql as
        $f$ begin create temporary view plain as select ssn as a from public.clients; return 1; end $f$;
    create function public.makes_type() returns integer language plpgsql as
        $f$ begin create domain pg_temp.money as integer check (public.adds(value)); return 1; end $f$;
    create table public.log (n integer);
    create function public.adds(integer) returns boolean language plpgsql as
        $f$ begin insert into public.log values ($1); return true; end $f$;
    create function public.on_log() returns trigger language plpgsql as
        $f$ begin perform set_config('search_path', 'other, pg_catalog, public', false); return new; end $f$;
    create table public.late (n integer);
    create constraint trigger late after insert on public.late deferrable initially deferred for each row execute function public.on_log();
    create function public.prepares(name text) returns integer language plpgsql as
        $f$ begin execute format('deallocate %I', name); execute format('prepare %I as select upper(ssn) from public.clients', name); return 1; end $f$;
    create function public.opens(name text) returns integer language plpgsql as
        $f$ declare c refcursor := name; begin close c; open c for select upper(ssn) from public.clients; return 1; end $f$;
    insert into public.plain values ('other');
    grant usage on schema other to public;
    grant select, insert, delete on all tables in schema public, other to public;
";

const SECRET: &str = "987-65-4321";

/// Parse, Bind, Execute of a text, without names and values.
fn run(sql: &str) -> Vec<u8> {
    let parse = message(b'P', format!("\0{sql}\0\0\0").as_bytes());
    let bind = message(b'B', &[0; 8]);
    let execute = message(b'E', &[0; 5]);
    [parse, bind, execute].concat()
}

/// Sends messages and a Sync; everything that comes back, as text, and the tags.
async fn pipeline(raw: &mut Raw, parts: &[Vec<u8>]) -> Result<(String, String)> {
    raw.send(&[parts.concat(), message(b'S', &[])].concat()).await?;
    collect(raw).await
}

async fn collect(raw: &mut Raw) -> Result<(String, String)> {
    let (mut tags, mut said) = (String::new(), String::new());
    loop {
        let Ok((tag, body)) = raw.next().await else { return Ok((tags, said)) };
        tags.push(char::from(tag));
        said.push_str(&String::from_utf8_lossy(&body));
        if tag == b'Z' {
            return Ok((tags, said));
        }
    }
}

#[test]
fn what_code_sets_counts_for_the_next_text() -> Result<()> {
    runtime()?.block_on(async {
        let dir = tempfile::tempdir()?;
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        let options = StackOptions { policy: Some(policy), setup: Some(SETUP.to_owned()), plaintext: true, ..StackOptions::default() };
        let stack = Stack::start(options, &|_| ()).await?;
        let token = stack.principal("ci")?.token.clone();
        let login = || Raw::login(&stack.gateway, &token);

        // One after the other, in a transaction that is taken back, and in the middle of a text.
        let mut raw = login().await?;
        ensure!(raw.run("select upper('x')").await? == ["X"]);
        raw.run("select sets_path()").await?;
        for sql in ["select upper('x')", "select a from plain", "select a from plain where a like '987%'"] {
            raw.send(&query(sql)).await?;
            let (tags, said) = collect(&mut raw).await?;
            ensure!(!said.contains(SECRET), "{sql}: {tags} {said}");
            ensure!(!sql.contains("like") || tags == "EZ", "{sql}: {tags} {said}");
        }
        ensure!(raw.run("select a from public.plain").await? == ["plain", "other"], "what names its schema goes on");
        raw.run("set search_path = public").await?;
        ensure!(raw.run("select a from plain").await? == ["plain", "other"], "the session knows its path again");

        let mut raw = login().await?;
        for sql in ["begin", "select sets_path()"] {
            raw.run(sql).await?;
        }
        raw.send(&query("select upper('x')")).await?;
        let (_, said) = collect(&mut raw).await?;
        ensure!(!said.contains(SECRET), "within the transaction: {said}");
        raw.run("rollback").await?;
        ensure!(raw.run("select upper('x')").await? == ["X"], "what was set was taken back");
        ensure!(raw.run("select a from plain").await? == ["plain", "other"]);

        let mut raw = login().await?;
        raw.send(&query("select sets_path(); select upper('x')")).await?;
        let (_, said) = collect(&mut raw).await?;
        ensure!(!said.contains(SECRET), "in one text: {said}");

        // The very text that ran the code, again.
        let both = "select sets_path(), upper('x')";
        let mut raw = login().await?;
        raw.send(&[query(both), query(both)].concat()).await?;
        for _ in 0..2 {
            let (tags, said) = collect(&mut raw).await?;
            ensure!(!said.contains(SECRET), "the same text again: {tags} {said}");
        }
        let named = message(b'P', format!("s\0{both}\0\0\0").as_bytes());
        let once = [message(b'B', b"\0s\0\0\0\0\0\0\0"), message(b'E', &[0; 5])].concat();
        let mut raw = login().await?;
        let (tags, said) = pipeline(&mut raw, &[named, once.clone(), once]).await?;
        ensure!(!said.contains(SECRET), "the same statement again: {tags} {said}");

        // Without a Sync in between.
        for (first, then) in [
            ("select sets_path()", "select upper('x')"),
            ("select sets_path()", "select a from plain"),
            ("do $$ begin perform sets_path(); end $$", "select upper('x')"),
            ("select makes_view()", "select upper(a::text) from plain"),
        ] {
            let mut raw = login().await?;
            let (tags, said) = pipeline(&mut raw, &[run(first), run(then)]).await.context("a pipeline")?;
            ensure!(!said.contains(SECRET) && tags.ends_with('Z'), "{first}; {then}: {tags} {said}");
        }
        // A type of the client's choice runs what its check calls.
        let mut raw = login().await?;
        let (tags, said) = pipeline(&mut raw, &[run("select makes_type()"), run("select '5'::money")]).await?;
        ensure!(tags == "12DCEZ" && raw.run("select n from public.log").await?.is_empty(), "{tags} {said}");
        let mut raw = login().await?;
        for sql in ["begin", "select makes_type()"] {
            raw.run(sql).await?;
        }
        raw.send(&query("select '5'::money")).await?;
        ensure!(collect(&mut raw).await?.0 == "EZ");
        let mut raw = login().await?;
        let (tags, said) =
            pipeline(&mut raw, &[run("select sets_strings()"), run(r"select '\' as a, ' , upper(ssn) from public.clients --'")])
                .await
                .context("strings")?;
        ensure!(!said.contains(SECRET) && said.contains("standard_conforming_strings was changed"), "{tags} {said}");

        // Drivers send the same statement many times without waiting, and mix it with others; nothing of the gateway's own shows.
        let mut raw = login().await?;
        let same = run("select sets_nothing()");
        let (tags, said) = pipeline(&mut raw, &[same.clone(), same.clone(), same.clone()]).await?;
        ensure!(tags == "12DC12DC12DCZ", "{tags} {said}");
        let (tags, said) = pipeline(&mut raw, &[same.clone(), run("select 2"), same, run("select 3")]).await?;
        ensure!(tags == "12DC12DC12DC12DCZ", "{tags} {said}");
        ensure!(raw.run("select 1 + 1").await? == ["2"]);
        raw.send(&query("select sets_nothing(); select 1/0")).await?;
        ensure!(collect(&mut raw).await?.0.ends_with("EZ"));
        ensure!(raw.run("select 1 + 1").await? == ["2"], "after a failure the session goes on");
        Ok(())
    })
}

/// Code replaces what the client prepared, declared or bound by something else of the same name.
#[test]
fn what_code_puts_in_the_place_of_others_is_not_believed() -> Result<()> {
    runtime()?.block_on(async {
        let dir = tempfile::tempdir()?;
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        let options = StackOptions { policy: Some(policy), setup: Some(SETUP.to_owned()), plaintext: true, ..StackOptions::default() };
        let stack = Stack::start(options, &|_| ()).await?;
        let token = stack.principal("ci")?.token.clone();
        let login = || Raw::login(&stack.gateway, &token);
        const READS: &str = "select upper(a) from public.plain";

        // By SQL, one after the other; what no code touched goes on.
        for (code, known) in [("select prepares('q')", false), ("select opens('c')", false), ("select sets_nothing()", true)] {
            let mut raw = login().await?;
            for sql in ["begin", &format!("prepare q as {READS}"), &format!("declare c cursor for {READS}")] {
                raw.run(sql).await?;
            }
            ensure!(raw.run("fetch 1 from c").await? == ["PLAIN"] && raw.run("execute q").await? == ["PLAIN", "OTHER"]);
            raw.run(code).await?;
            for (sql, shown) in [("execute q", "PLAIN"), ("fetch 1 from c", "OTHER")] {
                raw.send(&query(&format!("savepoint s; {sql}"))).await?;
                let (tags, said) = collect(&mut raw).await?;
                ensure!(!said.contains(SECRET), "{code}: {sql}: {tags} {said}");
                ensure!(!known || said.contains(shown), "{code}: {sql}: {tags} {said}");
                if tags.contains('E') {
                    raw.send(&query("rollback to s")).await?;
                    collect(&mut raw).await?;
                }
            }
        }
        // Within one text, and where the transaction failed: what is prepared stays.
        let mut raw = login().await?;
        raw.send(&query(&format!("prepare q as {READS}; select prepares('q'); execute q"))).await?;
        let (tags, said) = collect(&mut raw).await?;
        ensure!(!said.contains(SECRET) && tags.contains('E'), "in one text: {tags} {said}");
        let mut raw = login().await?;
        for sql in [&format!("prepare q as {READS}"), "begin", "select prepares('q')"] {
            raw.run(sql).await?;
        }
        raw.send(&query("select 1/0")).await?;
        collect(&mut raw).await?;
        let (tags, said) = pipeline(&mut raw, &[run("rollback"), run("execute q")]).await?;
        ensure!(!said.contains(SECRET) && tags.contains('E'), "behind a failure: {tags} {said}");

        // By the protocol.
        let parse = message(b'P', format!("s\0{READS}\0\0\0").as_bytes());
        let bound = [message(b'B', b"\0s\0\0\0\0\0\0\0"), message(b'E', &[0; 5])].concat();
        let mut raw = login().await?;
        pipeline(&mut raw, std::slice::from_ref(&parse)).await?;
        raw.run("select prepares('s')").await?;
        let (tags, said) = pipeline(&mut raw, std::slice::from_ref(&bound)).await?;
        ensure!(!said.contains(SECRET) && said.contains("replaced a prepared statement"), "a statement: {tags} {said}");
        let mut raw = login().await?;
        let (tags, said) = pipeline(&mut raw, &[parse.clone(), run("select prepares('s')"), bound.clone()]).await?;
        ensure!(!said.contains(SECRET), "a statement in a pipeline: {tags} {said}");
        let mut raw = login().await?;
        let (tags, said) = pipeline(&mut raw, &[parse, run("select sets_nothing()"), bound]).await?;
        ensure!(said.contains("OTHER") && tags == "112DC2DDCZ", "a statement that is what it was: {tags} {said}");

        let portal =
            [message(b'P', format!("\0{READS}\0\0\0").as_bytes()), message(b'B', b"p\0\0\0\0\0\0\0\0"), message(b'E', b"p\0\0\0\0\x01")];
        let again = message(b'E', b"p\0\0\0\0\x01");
        for (code, known) in [("select opens('p')", false), ("select sets_nothing()", true)] {
            let mut raw = login().await?;
            raw.run("begin").await?;
            pipeline(&mut raw, &portal).await?;
            raw.run(code).await?;
            let (tags, said) = pipeline(&mut raw, std::slice::from_ref(&again)).await?;
            ensure!(!said.contains(SECRET) && said.contains("OTHER") == known, "a portal, {code}: {tags} {said}");
            let mut raw = login().await?;
            raw.run("begin").await?;
            let (tags, said) = pipeline(&mut raw, &[portal.concat(), run(code), again.clone()]).await?;
            ensure!(!said.contains(SECRET) && said.contains("OTHER") == known, "a portal in a pipeline, {code}: {tags} {said}");
        }

        // What was deferred sets the path when the transaction ends, or before.
        for ends in ["set constraints all immediate", "commit and chain", "commit"] {
            let mut raw = login().await?;
            for sql in ["begin", "insert into public.late values (1)", ends] {
                raw.run(sql).await?;
            }
            raw.send(&query("select upper('x')")).await?;
            let (tags, said) = collect(&mut raw).await?;
            ensure!(!said.contains(SECRET), "{ends}: {tags} {said}");
            let mut raw = login().await?;
            for sql in ["begin", "insert into public.late values (1)"] {
                raw.run(sql).await?;
            }
            raw.send(&query(&format!("{ends}; select upper('x')"))).await?;
            let (tags, said) = collect(&mut raw).await?;
            ensure!(!said.contains(SECRET), "{ends} in one text: {tags} {said}");
        }
        Ok(())
    })
}
