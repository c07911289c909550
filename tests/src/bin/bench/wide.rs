//! Masked streaming: a million rows of ten columns, two masked by column, the detectors on the rest.

use std::time::Instant;

use anyhow::Result;
use countersign_e2e::cluster::Server;
use futures_util::TryStreamExt as _;

/// What is read.
const SQL: &str = "select id, name, ssn, email, city, balance, opened, note, doc, code from public.wide";

/// Fills the table. One row in a thousand has something for the detectors in its note.
pub(super) async fn fill(server: &Server) -> Result<()> {
    let oracle = server.oracle().await?;
    oracle
        .batch_execute(
            "create table public.wide as select n as id, 'Person ' || n as name, \
               lpad((101 + n % 560)::text, 3, '0') || '-' || lpad((10 + n % 89)::text, 2, '0') || '-' || (1000 + n % 8999) as ssn, \
               'person.' || n || '@mail.example' as email, (array['Portland', 'Duluth', 'Santa Fe', 'Boise'])[1 + n % 4] as city, \
               (n % 1900000 / 100.0)::numeric(12, 2) as balance, timestamptz '2020-01-01' + make_interval(mins => n) as opened, \
               'order ' || n || ' sent to the depot in aisle ' || n % 40 || case when n % 1000 = 0 then ', card 4111 1111 1111 1111' else '' end as note, \
               jsonb_build_object('kind', 'transfer', 'n', n, 'tags', array['a', 'b']) as doc, md5(n::text) as code \
             from generate_series(1, 1000000) n; \
             grant select on public.wide to public",
        )
        .await?;
    oracle.batch_execute("vacuum analyze public.wide").await?;
    Ok(())
}

/// Reads all of it; rows a second.
pub(super) async fn read(client: &tokio_postgres::Client) -> Result<f64> {
    let start = Instant::now();
    let mut rows = std::pin::pin!(client.query_raw(SQL, std::iter::empty::<i32>()).await?);
    let mut count = 0_u32;
    while rows.try_next().await?.is_some() {
        count = count.saturating_add(1);
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Resident memory of a process, in MiB.
pub(super) fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}
