//! Masked values in the forms that a session asks for: styles of dates and intervals, and results of texts of several statements.

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::leaks::Canaries;
use countersign_e2e::stack::Stack;
use tokio_postgres::SimpleQueryMessage;

use crate::leak_cases::CANARIES;
use crate::{Client, Way, found};

const STYLES: &[&str] = &[
    "ISO, MDY",
    "ISO, DMY",
    "ISO, YMD",
    "SQL, MDY",
    "SQL, DMY",
    "SQL, YMD",
    "German, MDY",
    "German, DMY",
    "Postgres, MDY",
    "Postgres, DMY",
    "Postgres, YMD",
];

/// What is truncated is what the server itself makes of it in that style; what is hidden whole is read by the server as the type's nothing.
pub(crate) async fn styles(stack: &Stack) -> Result<()> {
    let oracle = stack.upstream.oracle().await?;
    let mut masked = Client::new(stack, "ci", stack.gateway.port).await?;
    let clear = "date_trunc('year', y_date)::date, date_trunc('month', m_date)::date, date_trunc('month', m_ts), date_trunc('hour', h_ts), \
         date_trunc('month', m_tz), date_trunc('hour', h_tz), date '1970-02-03', date '2000-01-01', timestamp '2000-01-01'";
    let shown = "y_date, m_date, m_ts, h_ts, m_tz, h_tz, c_date, f_date, f_ts";
    for (index, style) in STYLES.iter().enumerate() {
        let intervals = ["postgres", "postgres_verbose", "sql_standard", "iso_8601"];
        let interval = intervals.get(index % 4).context("four")?;
        // None with summer time: what is cut keeps the offset that it had. Abbreviations are numbers or letters.
        let zone = ["Europe/Istanbul", "America/Phoenix", "UTC", "Asia/Kolkata"].get(index % 4).context("four")?;
        let set = format!("set datestyle = '{style}'; set intervalstyle = '{interval}'; set timezone = '{zone}'");
        oracle.batch_execute(&set).await?;
        masked.play(&set, Way::Simple).await?;
        let expected = texts(&oracle.simple_query(&format!("select {clear} from hr.times where id <= 3 order by id")).await?);
        let query = format!("select {shown} from hr.times where id <= 3 order by id");
        for (script, way) in [(query.clone(), Way::Simple), (query.clone(), Way::Text), (format!("copy ({query}) to stdout"), Way::Simple)]
        {
            let received = masked.play(&script, way).await?;
            // A line of COPY ends with what is kept as one more value.
            let row = |row: &Vec<Vec<u8>>| row.iter().map(|value| lossy(value)).filter(|value| !value.is_empty()).collect();
            let rows: Vec<Vec<String>> = received.rows.iter().map(row).collect();
            ensure!(rows == expected, "{style} in {zone}, {way}: {script}: {rows:?}, not {expected:?}");
        }
        // Years before the common era and the infinities are hidden whole, as nothing of the type in that style; a NULL stays one.
        let received = masked.play("select f_tz, f_interval, f_money, f_dates, f_range, m_ts, m_tz, y_date, f_date from hr.times where id in (4, 5) order by id", Way::Simple).await?;
        for row in &received.rows {
            let [tz, interval, money, dates, range, ts, zoned, year, date] = row.as_slice() else {
                anyhow::bail!("{style}: {:?}", received.messages)
            };
            let cast = format!(
                "select '{}'::timestamptz = '2000-01-01 00:00+00', '{}'::interval = '0', '{}'::money = '0', '{}'::date[] = '{{}}', '{}'::tsrange = 'empty', \
                 '{}'::timestamp = timestamp '2000-01-01', '{}'::timestamptz = '2000-01-01 00:00+00', '{}'::date = date '2000-01-01', '{}'::date = date '2000-01-01'",
                lossy(tz),
                lossy(interval),
                lossy(money),
                lossy(dates),
                lossy(range),
                lossy(ts),
                lossy(zoned),
                lossy(year),
                lossy(date)
            );
            // What the server itself writes in these it does not read.
            if style.ends_with("YMD") && !style.starts_with("ISO") {
                ensure!(lossy(date) == lossy(year) && lossy(ts).contains("2000") && lossy(date).contains("2000"), "{style}: {row:?}");
                continue;
            }
            let read = texts(&oracle.simple_query(&cast).await.with_context(|| format!("{style}: {cast}"))?);
            ensure!(read == [["t"; 9]], "{style}, {interval:?}: {cast}: {read:?}");
        }
        let nulls = masked.play("select y_date, m_tz, f_interval, f_money from hr.times where id = 6", Way::Simple).await?;
        ensure!(nulls.data_rows == 1 && nulls.rows.iter().all(Vec::is_empty), "{style}: a NULL is shown as {:?}", nulls.rows);
    }
    Ok(())
}

/// Where the order of day and month changes before the client hears of it, the day is never shown in the month's place.
pub(crate) async fn unsettled_styles(stack: &Stack) -> Result<()> {
    let mut ci = Client::new(stack, "ci", stack.gateway.port).await?;
    let mut ops = Client::new(stack, "ops", stack.gateway.port).await?;
    for (before, after) in
        [("SQL, MDY", "SQL, DMY"), ("SQL, DMY", "SQL, MDY"), ("Postgres, MDY", "Postgres, DMY"), ("ISO, MDY", "SQL, DMY")]
    {
        for client in [&mut ci, &mut ops] {
            let dates = "select m_date from hr.times where id = 1";
            let many = "select m_date from hr.times, generate_series(1, 5) where id = 1";
            let set = format!("set datestyle = '{after}'");
            for script in [
                format!("{set}; {dates}"),
                format!("{set}; copy hr.times (m_date) to stdout"),
                format!("begin; {set}; {dates}; rollback; {dates}"),
                format!("select set_config('datestyle', '{after}', false), m_date from hr.times where id = 1"),
            ] {
                client.play(&format!("set datestyle = '{before}'"), Way::Simple).await?;
                let received = client.play(&script, Way::Simple).await?;
                ensure!(received.errors.is_empty(), "{script}: {:?}", received.messages);
                check(&received.rows, &format!("{before}: {script}"))?;
            }
            client.play(&format!("set datestyle = '{before}'"), Way::Simple).await?;
            check(&client.wire.together(Some(many), &[&set, dates]).await?.rows, &format!("{before}: a pipeline with {after}"))?;
            // What a transaction set is undone where nobody says so.
            client.play(&format!("set datestyle = '{before}'"), Way::Simple).await?;
            client.play(&format!("begin; {set}"), Way::Simple).await?;
            check(&client.wire.together(None, &["rollback", dates]).await?.rows, &format!("{before}: a pipeline behind {after}"))?;
        }
    }
    Ok(())
}

/// The fifth of November is shown as the first of it, or not at all.
fn check(rows: &[Vec<Vec<u8>>], how: &str) -> Result<()> {
    let values: Vec<String> = rows.iter().flatten().map(|value| lossy(value)).collect();
    let dates = values.iter().filter(|value| value.contains("2019") || value.contains("2000"));
    ensure!(dates.clone().count() > 0, "{how}: {values:?}");
    for date in dates {
        let parts: Vec<&str> = date.split(['-', '/']).collect();
        ensure!(parts.len() == 3 && !parts.contains(&"05") && parts.contains(&"01"), "{how}: {date}");
    }
    Ok(())
}

/// Each statement of a text has masks of its own, and a rule that gives another result gets nobody else's.
pub(crate) async fn texts_of_several(stack: &Stack) -> Result<()> {
    let canaries = Canaries::new(CANARIES);
    let derived = "select upper(ssn), upper(secret) from hr.people order by id";
    let clear = "select upper(name), upper('x' || name) from hr.people order by id";
    let mut client = Client::new(stack, "ci", stack.gateway.port).await?;
    let (hidden, named) = (["****", "****"].map(str::to_owned), ["PERSON 1", "XPERSON 1"].map(str::to_owned));
    for (text, expected) in [
        (format!("{clear}; {derived}"), [&named, &hidden]),
        (format!(";; {derived};;{clear};"), [&hidden, &named]),
        (format!("begin; set local work_mem = '1MB'; {derived}; show work_mem; select 1; {clear}; commit"), [&hidden, &named]),
        (format!("prepare p1 as {derived}; prepare p2 as {clear}; execute p2; execute p1; deallocate all"), [&named, &hidden]),
        (
            format!(
                "begin; declare c cursor for {derived}; declare d cursor for {clear}; fetch all from c; move 0 from c; fetch all from d; commit"
            ),
            [&hidden, &named],
        ),
        (format!("delete from hr.plain returning v, v; {clear}; {derived}"), [&named, &hidden]),
        (format!("{clear}; copy hr.plain to stdout; {derived}"), [&named, &hidden]),
    ] {
        let received = client.play(&text, Way::Simple).await?;
        ensure!(received.errors.is_empty(), "{text}: {:?}", received.messages);
        let firsts: Vec<Vec<String>> = received
            .rows
            .iter()
            .filter(|row| row.len() == 2)
            .step_by(4)
            .map(|row| row.iter().map(|value| lossy(value)).collect())
            .collect();
        ensure!(
            firsts == expected,
            "{text}: {:?}",
            received.rows.iter().map(|row| row.iter().map(|value| lossy(value)).collect()).collect::<Vec<Vec<_>>>()
        );
        let failures = found(&canaries, &received, &text);
        ensure!(failures.is_empty(), "{failures:?}");
    }
    // Rules that add a result or give one in place of another.
    let mut results = 0_usize;
    for who in ["ci", "ops"] {
        let mut client = Client::new(stack, who, stack.gateway.port).await?;
        for write in [
            "insert into hr.ruled values ('x')",
            "insert into hr.instead values ('x')",
            "with w as (insert into hr.ruled values ('x') returning v) select v, v from w",
        ] {
            for text in [
                format!("{write}; {clear}"),
                format!("{clear}; {write}; {clear}"),
                format!("{clear}; {write}"),
                format!("{write}; {write}; {derived}; {clear}"),
            ] {
                let received = client.play(&text, Way::Simple).await?;
                results = results.saturating_add(received.data_rows);
                let failures = found(&canaries, &received, &format!("{who}: {text}"));
                ensure!(failures.is_empty(), "{failures:?}");
            }
        }
    }
    ensure!(results > 0, "no rule was let run");
    Ok(())
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn texts(messages: &[SimpleQueryMessage]) -> Vec<Vec<String>> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).filter_map(|index| row.get(index).map(ToOwned::to_owned)).collect()),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}
