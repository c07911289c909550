//! The demo as people and outsiders' suites use it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use countersign_e2e::client::{Gateway, run};
use countersign_e2e::process::{Process, Scratch, Signal};
use countersign_e2e::scenario::runtime;
use serde_json::Value;

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

#[test]
fn auto_shows_everything_and_leaves_nothing_running() -> Result<()> {
    runtime()?.block_on(async {
        let mut command = tokio::process::Command::new(DEMO);
        command.arg("--auto");
        let output = run(command, "demo --auto").await?;
        ensure!(output.status == 0, "{}\n{}", output.stdout, output.stderr);
        for piece in ["psql", "42501", "DELETE", "Dana pressed Approve", "countersign-audit verify", "Summary"] {
            ensure!(output.stdout.contains(piece), "`{piece}` is missing from\n{}", output.stdout);
        }
        Ok(())
    })
}

async fn wait_for_file(file: &Path, demo: &mut Process) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs(120);
    while !file.exists() {
        demo.must_run()?;
        ensure!(Instant::now() < end, "no ready file:\n{}", demo.output());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Written whole or not at all: what is there must parse.
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

#[test]
fn the_ready_file_is_enough_for_outsiders() -> Result<()> {
    runtime()?.block_on(async {
        let dir = Scratch::new("demo-test")?;
        let file = dir.path().join("ready.json");
        let mut command = std::process::Command::new(DEMO);
        command.args(["--keep", "--no-script", "--principal", "eve=dba,night-shift", "--ready"]).arg(&file);
        let mut demo = Process::spawn("demo", command, &dir.path().join("demo.log"), Signal::Term)?;
        let ready = wait_for_file(&file, &mut demo).await?;
        let text =
            |pointer: &str| ready.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned).with_context(|| format!("no {pointer}"));
        let port = |pointer: &str| {
            ready
                .pointer(pointer)
                .and_then(Value::as_u64)
                .and_then(|port| u16::try_from(port).ok())
                .with_context(|| format!("no {pointer}"))
        };

        let gateway = Gateway {
            host: text("/gateway/host")?,
            port: port("/gateway/port")?,
            ca: text("/gateway/ca")?.into(),
            database: text("/gateway/database")?,
        };
        for name in ["ci", "analyst", "dba", "eve"] {
            let (user, token) = (text(&format!("/principals/{name}/user"))?, text(&format!("/principals/{name}/token"))?);
            let session = gateway.connect(&user, &token).await.with_context(|| name.to_owned())?;
            ensure!(session.query_one("select count(*) from customers", &[]).await?.try_get::<_, i64>(0)? == 240, "{name}");
        }
        ensure!(ready.pointer("/principals/eve/groups") == Some(&serde_json::json!(["dba", "night-shift"])), "{ready}");
        ensure!(reqwest::get(text("/gateway/metrics")?).await?.status().is_success(), "no metrics");
        ensure!(reqwest::get(text("/slack/page")?).await?.text().await?.contains("approvals"), "no page");
        ensure!(reqwest::get(text("/slack/cards")?).await?.json::<Value>().await?.is_array(), "no cards");
        let press = reqwest::Client::new()
            .post(text("/slack/press/url")?)
            .json(ready.pointer("/slack/press/body").context("no body")?)
            .send()
            .await?;
        ensure!(press.status().as_u16() == 422, "there is nothing to press yet: {}", press.status());
        for pointer in ["/recordings", "/keys", "/policy", "/programs/proxy", "/programs/bot", "/programs/audit"] {
            ensure!(Path::new(&text(pointer)?).exists(), "{pointer} does not exist");
        }
        ensure!(port("/upstream/port")? > 0 && text("/upstream/host")? == "127.0.0.1" && text("/upstream/database")? == "bank", "{ready}");

        demo.signal(Signal::Term);
        let status = demo.wait(Duration::from_secs(40))?;
        ensure!(status.success(), "SIGTERM must end it cleanly: {status}\n{}", demo.output());
        ensure!(!file.exists(), "the ready file must go");
        ensure!(gateway.connect("ci", &text("/principals/ci/token")?).await.is_err(), "the gateway still answers");
        ensure!(std::net::TcpStream::connect(("127.0.0.1", port("/upstream/port")?)).is_err(), "the server still answers");
        ensure!(!Path::new(&text("/policy")?).exists(), "files were left behind");
        Ok(())
    })
}
