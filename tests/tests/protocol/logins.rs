//! Before the session: start-up packets, who gets in by which way, and who must not keep others out.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{Gateway, run};
use countersign_e2e::gateway::{Config, Proxy};
use countersign_e2e::scenario::{on_shared, recordings_sealed};
use countersign_e2e::stack::Stack;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::raw::{Raw, dial_from, message, query, startup};

const VERSION: u32 = 0x0003_0000;

async fn proxy_with(stack: &Stack, name: &str, change: impl FnOnce(&mut Config)) -> Result<(Proxy, Gateway)> {
    let mut config = stack.config.clone();
    change(&mut config);
    stack.another_proxy(name, &config).await
}

#[test]
fn the_greeting_is_the_servers() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        // The database is the one named as the user, where none is named.
        let mut raw = Raw::login_with(&stack.gateway, VERSION, &[("user", "bank")], token).await?;
        ensure!(raw.run("select current_database()").await? == ["bank"]);
        let order = raw.greeting.trim_matches('S');
        ensure!(raw.greeting.starts_with("RS") && order.ends_with("KZ"), "{}", raw.greeting);
        let oracle = stack.upstream.oracle().await?;
        // The server says who logged in to it and under which name; all else is as for any other client of it.
        let own = [("application_name", "countersign:dba"), ("session_authorization", "countersign_svc"), ("is_superuser", "off")];
        for (name, value) in &raw.parameters {
            let expected: String = match own.iter().find(|(known, _)| known == name) {
                Some((_, value)) => (*value).to_owned(),
                None => oracle.query_one(&format!("show {name}"), &[]).await?.try_get(0)?,
            };
            ensure!(*value == expected, "{name}: {value}, not {expected}");
        }
        for name in ["server_version", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings"] {
            ensure!(raw.parameters.iter().any(|(known, _)| known == name), "no {name}");
        }
        // What a client asks for at start-up holds for the session, in any order.
        let asked =
            [("options", "-c statement_timeout=17s --datestyle=German"), ("TimeZone", "Asia/Tokyo"), ("database", "bank"), ("user", "x")];
        let mut raw = Raw::login_with(&stack.gateway, VERSION, &asked, token).await?;
        ensure!(raw.run("show statement_timeout").await? == ["17s"]);
        ensure!(raw.parameters.contains(&("TimeZone".to_owned(), "Asia/Tokyo".to_owned())), "{:?}", raw.parameters);
        ensure!(raw.parameters.contains(&("DateStyle".to_owned(), "German, DMY".to_owned())), "{:?}", raw.parameters);
        // Another name of UTF8, which the server reports as it was given; older drivers say it.
        raw.run("set client_encoding to 'UNICODE'").await?;
        ensure!(raw.run("show client_encoding").await? == ["UNICODE"]);
        let replication = Raw::login_with(&stack.gateway, VERSION, &[("user", "x"), ("replication", "database")], token).await;
        ensure!(replication.err().is_some_and(|error| format!("{error:#}").contains("0A000")), "replication");
        Ok(())
    })
}

#[test]
fn start_up_settings_are_judged_as_the_sets_they_stand_for() -> Result<()> {
    on_shared(|stack| async move {
        let token = &stack.principal("dba")?.token;
        let user = ("user", "x");
        let login = |more: Vec<(&'static str, &'static str)>| async move {
            let pairs = [vec![user, ("database", "bank")], more].concat();
            Raw::login_with(&stack.gateway, VERSION, &pairs, token).await
        };
        // As drivers do it: by itself, in `options`, or both, where the one by itself counts.
        for pairs in [
            vec![("search_path", "information_schema, public")],
            vec![("options", r"-c search_path=information_schema,\ public")],
            vec![("search_path", "information_schema, public"), ("options", "--search-path=pg_temp")],
        ] {
            let mut raw = login(pairs).await?;
            ensure!(raw.run("show search_path").await? == ["information_schema, public"]);
            // Judged by that path: what no rule names elsewhere is the schema's own, and masks find their columns.
            raw.run("select 1 from tables limit 1").await?;
            let masked = raw.run("select ssn from customers order by id limit 1").await?;
            ensure!(masked == raw.run("select ssn from public.customers order by id limit 1").await?, "{masked:?}");
            raw.run("set search_path to pg_catalog").await?;
            raw.send(&query("select 1 from tables limit 1")).await?;
            ensure!(raw.answer().await?.1.is_some(), "the path of the start-up packet still counts");
            raw.run("reset search_path").await?;
            ensure!(raw.run("show search_path").await? == ["information_schema, public"]);
            raw.run("select 1 from tables limit 1").await?;
        }
        ensure!(login(vec![]).await?.run("select 1 from tables limit 1").await.is_err());
        ensure!(login(vec![("work_mem", "77MB")]).await?.run("show work_mem").await? == ["77MB"]);
        ensure!(login(vec![("options", "-c app.tenant=7")]).await?.run("show app.tenant").await? == ["7"]);
        // Refused with the words the SET is refused with, by the policy or by the server.
        let refused = |more| async move { login(more).await.err().map(|error| format!("{error:#}")).context("it got in") };
        let ci = &stack.principal("ci")?.token;
        let as_ci = |more: Vec<(&'static str, &'static str)>| async move {
            Raw::login_with(&stack.gateway, VERSION, &[vec![user, ("database", "bank")], more].concat(), ci).await
        };
        for (name, value) in [("role", "countersign_svc"), ("session_replication_role", "replica"), ("app.tenant", "7")] {
            let mut raw = as_ci(vec![]).await?;
            raw.send(&query(&format!("set {name} to '{value}'"))).await?;
            let error = raw.answer().await?.1.with_context(|| format!("{name} can be set"))?;
            let text = as_ci(vec![(name, value)]).await.err().map(|error| format!("{error:#}")).context("it got in")?;
            let word = error.get(&'M').context("an error without a text")?;
            ensure!(text.contains(&format!("M{word}\0")) && text.contains("C42501\0"), "{name}: {text}, not {word}");
            ensure!(word.contains("migration job"), "{word}");
        }
        for (name, value) in [("role", "postgres"), ("session_replication_role", "replica")] {
            let mut raw = login(vec![]).await?;
            raw.send(&query(&format!("set {name} to '{value}'"))).await?;
            let (_, error) = raw.answer().await?;
            let error = error.with_context(|| format!("{name} can be set"))?;
            let text = refused(vec![(name, value)]).await?;
            for letter in ['C', 'M'] {
                let word = error.get(&letter).context("an error without a text")?;
                ensure!(text.contains(&format!("{letter}{word}\0")), "{name}: {text}, not {word}");
            }
        }
        for (name, value, code, words) in [
            ("local_preload_libraries", "x", "42501", "not allowed by the gateway"),
            ("search_path", "a b", "22023", r#"invalid value for parameter "search_path": "a b""#),
            ("work_mem", "none", "22023", r#"invalid value for parameter "work_mem": "none""#),
            ("TimeZone", "Nowhere/Else", "22023", r#"invalid value for parameter "TimeZone": "Nowhere/Else""#),
        ] {
            let text = refused(vec![(name, value)]).await?;
            ensure!(text.contains(&format!("C{code}\0")) && text.contains(words), "{name}: {text}");
        }
        Ok(())
    })
}

#[test]
fn slow_and_endless_start_ups_end() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, gateway) = proxy_with(stack, "slow", |config| {
            config.set("limits", "startup_seconds", 1);
        })
        .await?;
        let packet = startup(VERSION, &[("user", "x")]);
        // Nothing, a part of a packet, a packet and no token.
        for (sent, answered) in [(&[][..], false), (packet.get(..9).unwrap_or_default(), false), (packet.as_slice(), true)] {
            let mut io = dial_from(&gateway, 1).await?;
            io.write_all(sent).await?;
            let mut said = Vec::new();
            tokio::time::timeout(Duration::from_secs(30), io.read_to_end(&mut said)).await.context("it is kept for ever")??;
            ensure!(said.is_empty() != answered, "{said:?}");
            ensure!(!answered || String::from_utf8_lossy(&said).contains("28000"), "{}", String::from_utf8_lossy(&said));
        }
        // Byte by byte, for longer than there is time.
        let mut io = dial_from(&gateway, 1).await?;
        let mut endless = 9_000_u32.to_be_bytes().to_vec();
        endless.extend(VERSION.to_be_bytes());
        endless.extend(std::iter::repeat_n(b'x', 8_000));
        let mut sent = 0;
        for byte in endless {
            if io.write_all(&[byte]).await.is_err() {
                break;
            }
            sent += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(sent < 4_000, "{sent} bytes were taken");
        drop(proxy);
        Ok(())
    })
}

#[test]
fn a_flood_of_silent_connections_keeps_nobody_out() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, gateway) = proxy_with(stack, "flood", |config| {
            config.set("limits", "max_logins", 16).set("limits", "max_sessions_per_source", 3).set("limits", "startup_seconds", 120);
        })
        .await?;
        let token = &stack.principal("dba")?.token;
        let early = dial_from(&gateway, 1).await?;
        let mut flood = Vec::new();
        for _ in 0..200 {
            flood.push(dial_from(&gateway, 66).await?);
        }
        // Most of the flood was pushed out by itself, and nobody of another address.
        let mut closed = 0;
        for io in flood.iter_mut().take(150) {
            let mut byte = [0];
            closed += usize::from(tokio::time::timeout(Duration::from_secs(20), io.read(&mut byte)).await.is_ok());
        }
        ensure!(closed == 150, "{closed} of the flood's oldest were closed");
        let pairs = [("user", "x"), ("database", "bank")];
        let mut sessions = vec![Raw::login_on(early, VERSION, &pairs, token).await.context("one that came before the flood")?];
        for _ in 0..2 {
            sessions.push(Raw::login_with(&gateway, VERSION, &pairs, token).await.context("one that comes amid the flood")?);
        }
        // Sessions have a bound of their own.
        let fourth = Raw::login_with(&gateway, VERSION, &pairs, token).await.err().context("a fourth session from one address")?;
        ensure!(format!("{fourth:#}").contains("53300"), "{fourth:#}");
        let other = dial_from(&gateway, 2).await?;
        Raw::login_on(other, VERSION, &pairs, token).await.context("another address")?;
        sessions.truncate(2);
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while Raw::login_with(&gateway, VERSION, &pairs, token).await.is_err() {
            ensure!(std::time::Instant::now() < end, "its place is not given back");
        }
        drop((flood, sessions, proxy));
        Ok(())
    })
}

fn proxy_header(client: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(client) = client else { return Vec::new() };
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    out.extend(client.ip().octets());
    out.extend([127, 0, 0, 1]);
    out.extend(client.port().to_be_bytes());
    out.extend(6432_u16.to_be_bytes());
    out
}

#[test]
fn a_load_balancer_says_for_whom_it_connects() -> Result<()> {
    on_shared(|stack| async move {
        let (proxy, gateway) = proxy_with(stack, "balancer", |config| {
            config.set("listen", "proxy_protocol_from", vec!["127.0.0.9/32"]);
        })
        .await?;
        let token = &stack.principal("dba")?.token;
        let pairs = [("user", "x"), ("database", "bank")];
        let header = proxy_header("203.0.113.77:40123".parse()?);
        let with_header = async |last: u8| -> Result<TcpStream> {
            let mut io = dial_from(&gateway, last).await?;
            io.write_all(&header).await?;
            Ok(io)
        };
        let mut raw = Raw::login_on(with_header(9).await?, VERSION, &pairs, token).await?;
        ensure!(raw.run("select 1").await? == ["1"]);
        raw.send(&message(b'X', b"")).await?;
        ensure!(raw.last_words().await?.is_none());
        recordings_sealed(stack).await?;
        let sessions = stack.audit().sessions().await?;
        ensure!(sessions.iter().any(|session| session.to_string().contains("203.0.113.77:40123")), "{sessions:?}");
        // Nobody else may say so, and the balancer must.
        let forged = Raw::login_on(with_header(1).await?, VERSION, &pairs, token).await;
        ensure!(forged.is_err(), "a forged header was taken");
        Raw::login_with(&gateway, VERSION, &pairs, token).await.context("a client that comes by itself")?;
        let silent = Raw::login_on(dial_from(&gateway, 9).await?, VERSION, &pairs, token).await;
        ensure!(silent.is_err(), "the balancer came without a header");
        drop(proxy);
        Ok(())
    })
}

/// What `python/oauth.py` saw.
async fn libpq(python: &str, gateway: &Gateway, user: &str, issuer: &str, token: &str) -> Result<Value> {
    let mut driver = tokio::process::Command::new(python);
    let conninfo = format!("{} oauth_issuer={issuer} oauth_client_id=countersign require_auth=oauth", gateway.conninfo(user));
    driver.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/oauth.py")).arg(conninfo).arg(token);
    // The issuer of the tests speaks http.
    driver.env("PGOAUTHDEBUG", "UNSAFE").env_remove("PGPASSWORD");
    let output = run(driver, "oauth.py").await?;
    ensure!(output.status == 0, "oauth.py: {}\n{}", output.stdout, output.stderr);
    Ok(serde_json::from_str(output.stdout.lines().last().unwrap_or_default())?)
}

#[test]
fn libpq_18_logs_in_by_oauthbearer() -> Result<()> {
    on_shared(|stack| async move {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = run(tokio::process::Command::new(root.join("python/ensure-libpq18")), "ensure-libpq18").await?;
        ensure!(output.status == 0, "libpq 18 cannot be put in place: {}", output.stderr);
        let python = output.stdout.lines().last().context("no Python")?;
        let (proxy, gateway) = proxy_with(stack, "oauth", |config| {
            config.set("identity", "methods", vec!["password", "oauthbearer"]).set("identity", "oauth_users", vec!["person-*"]);
        })
        .await?;
        let (issuer, token) = (stack.issuer.url(), &stack.principal("analyst")?.token);
        let seen = libpq(python, &gateway, "person-ana", issuer, token).await?;
        ensure!(seen.get("one").and_then(Value::as_i64) == Some(1), "{seen}");
        let asked = format!("{issuer}/.well-known/openid-configuration");
        let first = seen.pointer("/asked/0").and_then(Value::as_array).context("the hook was not asked")?;
        ensure!(first.first().and_then(Value::as_str) == Some(&asked) && first.get(1).and_then(Value::as_str) == Some("openid"), "{seen}");
        // Not a good token: refused, and told so.
        let foreign = stack.issuer.mint_with_unknown_key(&countersign_e2e::stack::claims("analyst", &["analyst"]))?;
        for bad in [foreign.as_str(), "nonsense"] {
            let seen = libpq(python, &gateway, "person-ana", issuer, bad).await?;
            ensure!(seen.get("one").is_none() && seen.get("error").is_some(), "{seen}");
        }
        ensure!(!proxy.log().contains(&foreign), "the token is in the log");
        // Everybody else shows the token as the password, as before.
        let mut raw = Raw::login_with(&gateway, VERSION, &[("user", "ci"), ("database", "bank")], token).await?;
        ensure!(raw.run("select 1").await? == ["1"]);
        drop((raw, proxy));
        Ok(())
    })
}
