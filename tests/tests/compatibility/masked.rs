//! Drivers read a table of every type, all of it masked, in text and binary, without an error of theirs, and see none of it.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::cluster::find_program;
use countersign_e2e::leaks::Canaries;
use countersign_e2e::scenario::runtime;
use countersign_e2e::stack::{Stack, StackOptions};

use super::programs;

const POLICY: &str = r#"
version = 1

[[reviewers]]
person = "dana"
email = "dana@bank.example"
slack = "T0BANK/U0DANA"
groups = ["privacy"]

[[rules]]
name = "everybody"
what = { kinds = ["empty", "transaction", "read", "session", "copy-out", "utility"] }
action = "allow"

[[masks]]
columns = ["public.shapes.t_hash", "public.shapes.u_hash"]
mask = { kind = "hash" }

[[masks]]
columns = ["public.shapes.t_last4"]
mask = { kind = "last4" }

[[masks]]
columns = ["public.shapes.t_token", "public.shapes.u_token"]
mask = { kind = "token" }

[[masks]]
columns = ["public.shapes.d_year", "public.shapes.tz_hour"]
mask = { kind = "truncate", unit = "year" }

[[masks]]
columns = ["public.shapes.n_round"]
mask = { kind = "round", to = 1000 }

[[masks]]
columns = ["public.shapes.c_*"]
mask = { kind = "full" }

[[detect]]
kinds = ["all"]
"#;

const SETUP: &str = r#"
create type mood as enum ('314159265-sad', 'glad');
create type pair as (a int, b text);
create domain word as text;
create table shapes (
    id int primary key, t_hash text, u_hash uuid, t_last4 varchar(40), t_token char(20), u_token uuid, d_year date, tz_hour timestamptz, n_round numeric(12, 2),
    c_bool bool, c_i2 int2, c_i4 int4, c_i8 int8, c_num numeric, c_f4 float4, c_f8 float8, c_money money, c_text text, c_name name, c_char "char",
    c_bytea bytea, c_date date, c_time time, c_timetz timetz, c_ts timestamp, c_tstz timestamptz, c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb,
    c_xml xml, c_inet inet, c_cidr cidr, c_mac macaddr, c_bit bit(3), c_varbit varbit, c_point point, c_box box, c_range int4range, c_multi int8multirange,
    c_tsv tsvector, c_oid oid, c_enum mood, c_pair pair, c_word word, c_ta text[], c_ia int4[], c_na numeric[], c_ja jsonb[], c_ea mood[],
    note text, doc jsonb
);
insert into shapes select n, 'Zephyr7Quokka', md5('x')::uuid, '314-15-9265', 'Marimba4Walrus', md5('y')::uuid, '1961-11-23', '1961-11-23 12:34:56+00', 481516.23,
    true, 31415, 314159265, 8675309867530, 481516.2342, 48.15, 481516.2342, 481516.23, 'Zephyr7Quokka', 'Zephyr7Quokka', 'x',
    'Zephyr7Quokka', '1961-11-23', '12:34:56', '12:34:56+01', '1961-11-23 12:34:56', '1961-11-23 12:34:56+00', '3 days', md5('z')::uuid, '{"a": "Zephyr7Quokka"}', '{"a": "Zephyr7Quokka"}',
    '<a>Zephyr7Quokka</a>', '10.31.41.59', '10.31.0.0/16', '08:00:2b:01:02:03', '101', '1011', '(31,41)', '(1,2),(3,4)', '[31,41)', '{[8675309867530,8675309867539)}',
    'Zephyr7Quokka', 314159265, '314159265-sad', '(314159265,Zephyr7Quokka)', 'Zephyr7Quokka', '{Zephyr7Quokka,b}', '{314159265}', '{481516.2342}', array['"Zephyr7Quokka"'::jsonb], '{314159265-sad}',
    'card 4111 1111 1111 1111', '{"card": 4111111111111111, "iban": "DE89370400440532013000"}'
from generate_series(1, 2) n;
insert into shapes (id) values (3);
grant select on shapes to public;
"#;

const CANARIES: &[&str] = &[
    "314-15-9265",
    "Zephyr7Quokka",
    "Marimba4Walrus",
    "1961-11-23",
    "8675309867530",
    "481516.23",
    "4111111111111111",
    "DE89370400440532013000",
];

#[test]
fn masked_results_are_results_for_every_driver() -> Result<()> {
    if std::env::var_os("COUNTERSIGN_COMPAT").is_none() {
        eprintln!("masked results in the drivers are left out: COUNTERSIGN_COMPAT=1 plays them");
        return Ok(());
    }
    runtime()?.block_on(async {
        let folder = tempfile::tempdir()?;
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        let options = StackOptions { policy: Some(policy), setup: Some(SETUP.to_owned()), ..StackOptions::default() };
        let stack = Stack::start(options, &|_| ()).await?;
        let canaries = Canaries::new(CANARIES);
        let drivers = |name: &str| format!("{}/drivers/{name}", env!("CARGO_MANIFEST_DIR"));
        let asked = |what: &str| programs::ensure(&[what]);
        let programs = [
            ("psycopg and asyncpg", asked("python").map(|python| (vec![python, drivers("masked.py")], None))),
            (
                "node-postgres",
                find_program("node").and_then(|node| Ok((vec![node.display().to_string(), drivers("masked.mjs")], Some(asked("node")?)))),
            ),
            (
                "JDBC",
                asked("jdbc")
                    .map(|classes| (["java", "-XX:TieredStopAtLevel=1", "-cp", &classes, "Masked"].map(ToOwned::to_owned).to_vec(), None)),
            ),
        ];
        let ci = stack.principal("ci")?;
        for (name, program) in programs {
            let (command, dir) = match program {
                Ok(program) => program,
                Err(missing) => {
                    eprintln!("left out: {name}: {missing}");
                    continue;
                }
            };
            let (program, arguments) = command.split_first().context("no program")?;
            let mut run = tokio::process::Command::new(program);
            run.args(arguments).env("PGPORT", stack.gateway.port.to_string()).env("PGDATABASE", &stack.gateway.database);
            run.env("PGUSER", &ci.user).env("PGPASSWORD", &ci.token).env("PGSSLROOTCERT", &stack.gateway.ca).env("LC_ALL", "C.UTF-8");
            run.current_dir(dir.as_deref().unwrap_or(".")).stdin(Stdio::null()).kill_on_drop(true);
            let output = tokio::time::timeout(std::time::Duration::from_secs(120), run.output()).await.context("it does not end")??;
            let said = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&said);
            ensure!(output.status.success(), "{name}: {text}");
            ensure!(text.contains("3 rows") && text.contains("***"), "{name}: {text}");
            let found = canaries.in_bytes(&said);
            ensure!(found.is_empty(), "{name}: {found:?} in {text}");
        }
        // tokio-postgres asks for binary always.
        let session = stack.connect("ci").await?;
        let rows = session.query("select * from shapes order by id", &[]).await?;
        ensure!(rows.len() == 3, "{} rows", rows.len());
        let row = rows.first().context("no row")?;
        ensure!(
            row.try_get::<_, String>("c_text")? == "****" && row.try_get::<_, i64>("c_i8")? == 0 && !row.try_get::<_, bool>("c_bool")?,
            "{row:?}"
        );
        ensure!(row.try_get::<_, Vec<String>>("c_ta")?.len() <= 1 && row.try_get::<_, Vec<u8>>("c_bytea")?.len() <= 8, "{row:?}");
        ensure!(rows.get(2).context("no row")?.try_get::<_, Option<String>>("c_text")?.is_none(), "a NULL is no NULL any more");
        Ok(())
    })
}
