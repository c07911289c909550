//! Cursors of SQL under the protocol's Execute: what they show is what FETCH shows, and nothing more.

use anyhow::{Result, ensure};
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
columns = ["public.people.ssn"]
mask = { kind = "full" }
"#;

const SETUP: &str = r"
    create table public.people (id integer primary key, ssn text not null);
    insert into public.people values (1, '987-65-4321'), (2, '987-65-4322'), (3, '987-65-4323');
    create function public.opens() returns refcursor language plpgsql as
        $f$ declare c refcursor := 'c'; begin open c for select id::text || ssn from public.people; return c; end $f$;
    grant select on public.people to public;
";

const SECRET: &str = "987-65-43";

fn execute(portal: &str, rows: u8) -> Vec<u8> {
    message(b'E', &[format!("{portal}\0").as_bytes(), &[0, 0, 0, rows]].concat())
}

/// Sends messages and a Sync; tags and first columns of what comes back.
async fn say(raw: &mut Raw, parts: &[Vec<u8>]) -> Result<(String, String)> {
    raw.send(&[parts.concat(), message(b'S', &[])].concat()).await?;
    let (mut tags, mut said) = (String::new(), String::new());
    loop {
        let (tag, body) = raw.next().await?;
        tags.push(char::from(tag));
        said.push_str(&String::from_utf8_lossy(&body));
        ensure!(!said.contains(SECRET), "{tags} {said}");
        if tag == b'Z' {
            return Ok((tags, said));
        }
    }
}

async fn run(raw: &mut Raw, sql: &str) -> Result<(String, Option<String>)> {
    raw.send(&query(sql)).await?;
    let (tags, error) = raw.answer().await?;
    Ok((tags, error.and_then(|error| error.get(&'C').cloned())))
}

#[test]
fn i4_an_execute_of_a_cursor_shows_what_fetch_shows() -> Result<()> {
    runtime()?.block_on(async {
        let dir = tempfile::tempdir()?;
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        let options = StackOptions { policy: Some(policy), setup: Some(SETUP.to_owned()), plaintext: true, ..StackOptions::default() };
        let stack = Stack::start(options, &|_| ()).await?;
        let mut raw = Raw::login(&stack.gateway, &stack.principal("ci")?.token.clone()).await?;

        // Columns are masked, expressions over them as well, by pieces and after FETCH.
        raw.run("begin").await?;
        raw.run("declare c cursor for select id, ssn, upper(ssn) from people order by id").await?;
        let (tags, said) = say(&mut raw, &[execute("c", 1)]).await?;
        ensure!(tags == "DsZ" && said.contains("***"), "{tags} {said}");
        ensure!(raw.run("fetch 1 from c").await?.iter().all(|row| row.starts_with('2') && !row.contains(SECRET)));
        let describe = message(b'D', b"Pc\0");
        let (tags, said) = say(&mut raw, &[describe.clone(), execute("c", 0), execute("c", 0)]).await?;
        ensure!(tags == "TDCCZ" && said.contains("SELECT 1") && said.contains("***"), "{tags} {said}");

        // The same name for something else, whatever made it.
        raw.run("close c").await?;
        raw.run("declare c cursor for select 'x'").await?;
        ensure!(say(&mut raw, &[execute("c", 0)]).await?.0 == "DCZ");
        raw.run("close c").await?;
        raw.run("select opens()").await?;
        say(&mut raw, &[describe.clone(), execute("c", 1)]).await?;
        raw.run("rollback").await?;
        raw.run("begin").await?;
        let parse = message(b'P', b"\0select id, ssn from people\0\0\0");
        let bind = message(b'B', b"c\0\0\0\0\0\0\0\0");
        let (tags, said) = say(&mut raw, &[parse, bind, execute("c", 1)]).await?;
        ensure!(tags == "12DsZ" && said.contains("***"), "{tags} {said}");
        // To SQL that portal is not known: FETCH is not believed to be of the cursor that had the name.
        ensure!(run(&mut raw, "fetch all from c").await? == ("EZ".to_owned(), Some("42501".to_owned())));
        raw.run("rollback").await?;

        // What only code opened, and what there is not.
        let mut raw = Raw::login(&stack.gateway, &stack.principal("ci")?.token.clone()).await?;
        raw.run("begin").await?;
        raw.run("select opens()").await?;
        let (tags, said) = say(&mut raw, &[execute("c", 1)]).await?;
        ensure!(tags == "EZ" && said.contains("34000") && said.contains("opened by code"), "{tags} {said}");
        raw.run("rollback").await?;
        let (tags, said) = say(&mut raw, &[execute("none", 0), execute("c", 0)]).await?;
        ensure!(tags == "EZ" && said.contains("C34000") && said.contains("portal \"none\" does not exist"), "{tags} {said}");
        ensure!(raw.run("select 1").await? == ["1"]);
        Ok(())
    })
}
