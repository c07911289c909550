//! What operators and clients get wrong: each gives the client a true SQLSTATE and the operator one clear line, and no session runs
//! half-guarded.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use countersign_e2e::client::sqlstate;
use countersign_e2e::gateway::{Config, json_lines};
use countersign_e2e::oidc::{Claims, Fault};
use countersign_e2e::scenario::on_shared;
use countersign_e2e::stack::{Stack, claims};
use serde_json::Value;

/// The SQLSTATE a connection attempt ends with.
async fn refused(stack: &Stack, user: &str, password: &str) -> Result<String> {
    match stack.gateway.connect(user, password).await {
        Ok(_) => bail!("the gateway let it in"),
        Err(error) => Ok(sqlstate(&error)),
    }
}

/// How many refusals the log has, and the newest. They are the client's fault, so no level above INFO is asked for.
fn refusals(stack: &Stack) -> (usize, String) {
    let log = stack.proxy.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("connection refused: ")).collect();
    (lines.len(), lines.last().map(ToString::to_string).unwrap_or_default())
}

#[test]
fn tokens() -> Result<()> {
    on_shared(|stack| async move {
        let issuer = &stack.issuer;
        let good = claims("ci", &["ci"]);
        let expired = Claims { lifetime_seconds: -600, ..good.clone() };
        let audience = Claims { audience: "somebody-else".to_owned(), ..good.clone() };
        let mut foreign = good.clone();
        foreign.more.insert("iss".to_owned(), "http://127.0.0.1:1".into());
        let mut early = good.clone();
        early.more.insert("nbf".to_owned(), 4_102_444_800_i64.into());
        let sound = issuer.mint(&good)?;
        let (body, _) = sound.rsplit_once('.').context("no token")?;
        let cases = [
            ("not a token", "correct horse battery staple".to_owned(), "28P01"),
            ("expired", issuer.mint(&expired)?, "28P01"),
            ("unknown key", issuer.mint_with_unknown_key(&good)?, "28P01"),
            ("forged under a known key's id", issuer.mint_forged(&good)?, "28P01"),
            ("wrong audience", issuer.mint(&audience)?, "28P01"),
            ("wrong issuer", issuer.mint(&foreign)?, "28P01"),
            ("not valid yet", issuer.mint(&early)?, "28P01"),
            ("signature cut off", format!("{body}."), "28P01"),
            ("cut short", sound.get(..sound.len() / 2).unwrap_or_default().to_owned(), "28P01"),
        ];
        for (name, password, code) in cases {
            let (before, _) = refusals(stack);
            let found = refused(stack, "ci", &password).await.with_context(|| name.to_owned())?;
            ensure!(found == code, "{name}: {found}, not {code}");
            let (after, line) = refusals(stack);
            ensure!(after == before + 1, "{name}: {} lines for the operator, not one; the last: {line}", after - before);
            ensure!(password.len() < 20 || !stack.proxy.log().contains(&password), "{name}: the token is in the log");
        }
        // Somebody the policy knows nothing about gets in nowhere: every statement is denied by default.
        let stranger = stack.connect("stranger").await;
        if let Ok(session) = stranger {
            let error = session.batch_execute("insert into ledger values (9001, 'x')").await.err().context("it ran")?;
            ensure!(sqlstate(&error) == "42501", "{error:?}");
        }
        Ok(())
    })
}

#[test]
fn keys_are_rotated_and_the_issuer_may_fail() -> Result<()> {
    on_shared(|stack| async move {
        let claims = claims("ci", &["ci"]);
        let old = stack.issuer.mint(&claims)?;
        stack.gateway.connect("ci", &old).await.context("the token is good")?;
        stack.issuer.rotate()?;
        let outcome = rotated(stack, &claims).await;
        stack.issuer.set_fault(Fault::None);
        outcome
    })
}

/// New keys are found at once; with the issuer down, known keys still do, and unknown ones are refused.
async fn rotated(stack: &Stack, claims: &Claims) -> Result<()> {
    let new = stack.issuer.mint(claims)?;
    let end = Instant::now() + Duration::from_secs(20);
    while stack.gateway.connect("ci", &new).await.is_err() {
        ensure!(Instant::now() < end, "the new key is never taken up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for fault in [Fault::Status(500), Fault::Garbage, Fault::NoKeys] {
        stack.issuer.set_fault(fault);
        stack.gateway.connect("ci", &new).await.with_context(|| format!("{fault:?}: a known key must do"))?;
        let code = refused(stack, "ci", &stack.issuer.mint_with_unknown_key(claims)?).await?;
        ensure!(code.starts_with("28") || code.starts_with("08") || code.starts_with("57"), "{fault:?}: {code}");
    }
    Ok(())
}

#[test]
fn start_up_refusals() -> Result<()> {
    on_shared(|stack| async move {
        let token = stack.issuer.mint(&claims("ci", &["ci"]))?;
        // Another database than exists.
        let error = stack
            .gateway
            .connect_with(|config| {
                config.user("ci").password(&token).dbname("no_such_database");
            })
            .await
            .err()
            .context("it got in")?;
        ensure!(matches!(sqlstate(&error).as_str(), "3D000" | "28000" | "42501"), "{error:?}");
        // Settings that change what statements mean.
        let error = stack
            .gateway
            .connect_with(|config| {
                config.user("ci").password(&token).options("-c session_replication_role=replica");
            })
            .await
            .err()
            .context("it got in")?;
        ensure!(matches!(sqlstate(&error).as_str(), "42501" | "28000"), "{error:?}");
        Ok(())
    })
}

/// What a proxy with a bent configuration does.
enum Expected<'a> {
    /// Ends at once; its output has a line with all of these texts.
    Ends(&'a [&'a str]),
    /// Refuses clients with one of these codes; a log line has this text.
    Refuses(&'a [&'a str], &'a str),
}

async fn bent(stack: &Stack, name: &str, config: &Config, expected: Expected<'_>) -> Result<()> {
    let (mut proxy, gateway) = stack.launch_proxy(&format!("bent-{}", name.replace(' ', "-")), config)?;
    let token = stack.issuer.mint(&claims("ci", &["ci"]))?;
    match expected {
        Expected::Ends(texts) => {
            let status = proxy.process().wait(Duration::from_secs(60)).with_context(|| format!("{name}: it should not start"))?;
            let log = proxy.log();
            ensure!(!status.success(), "{name}: it ended as if all were well");
            let says = |line: &str| texts.iter().all(|text| line.to_lowercase().contains(&text.to_lowercase()));
            ensure!(log.lines().any(says), "{name}: no line says {texts:?}:\n{log}");
            ensure!(!log.contains("panicked"), "{name}: it panicked:\n{log}");
        }
        Expected::Refuses(codes, text) => {
            let end = Instant::now() + Duration::from_secs(60);
            let code = loop {
                proxy.process().must_run().with_context(|| name.to_owned())?;
                match gateway.connect("ci", &token).await {
                    Ok(_) => bail!("{name}: the gateway let it in"),
                    Err(error) if error.code().is_some() => break sqlstate(&error),
                    // Not listening yet.
                    Err(error) => ensure!(Instant::now() < end, "{name}: {error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            ensure!(codes.contains(&code.as_str()), "{name}: {code}, not one of {codes:?}");
            let complaint = |line: &Value| {
                let level = line.get("level").and_then(Value::as_str).unwrap_or_default().to_uppercase();
                matches!(level.as_str(), "WARN" | "ERROR") && line.to_string().to_lowercase().contains(text)
            };
            let log = proxy.log();
            ensure!(json_lines(&log).iter().any(complaint), "{name}: no complaint says `{text}`:\n{log}");
            ensure!(proxy.probe("readyz").await?.0 != 200, "{name}: it says it is ready");
        }
    }
    Ok(())
}

#[test]
fn configurations() -> Result<()> {
    on_shared(|stack| async move {
        let dir = stack.dir().join("bad");
        std::fs::create_dir_all(&dir)?;
        let file = |name: &str, text: &str| -> Result<String> {
            std::fs::write(dir.join(name), text)?;
            Ok(dir.join(name).display().to_string())
        };
        let nobody = countersign_e2e::process::free_port()?;
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = stack.config.clone();
            change(&mut config);
            config
        };

        let missing = dir.join("no-such-policy.toml").display().to_string();
        let config = with(&|config| {
            config.set("policy", "file", missing.as_str());
        });
        bent(stack, "no policy", &config, Expected::Ends(&["no-such-policy.toml"])).await?;

        let unreadable = file("broken-policy.toml", "version = 1\n\n[[rules]]\nname = \"x\"\nactoin = \"allow\"\n")?;
        let config = with(&|config| {
            config.set("policy", "file", unreadable.as_str());
        });
        bent(stack, "unreadable policy", &config, Expected::Ends(&["broken-policy.toml", "5", "actoin"])).await?;

        let plain_file = file("a-file", "")?;
        let config = with(&|config| {
            config.set("recording", "path", format!("{plain_file}/recordings"));
        });
        bent(stack, "recording store missing", &config, Expected::Ends(&["recording"])).await?;

        let config = with(&|config| {
            config.set("approvals", "path", format!("{plain_file}/approvals"));
        });
        bent(stack, "approval store missing", &config, Expected::Ends(&["approvals"])).await?;

        let config = with(&|config| {
            config.set("approvals", "keys", vec![dir.join("no-such-key.pem").display().to_string()]);
        });
        bent(stack, "decision key missing", &config, Expected::Ends(&["no-such-key.pem"])).await?;

        let config = with(&|config| {
            config.set("upstream", "pasword", "x");
        });
        bent(stack, "unknown key", &config, Expected::Ends(&["pasword"])).await?;

        let config = with(&|config| {
            config.set("listen", "address", "x").unset("listen", "tls_certificate").unset("listen", "tls_key").set(
                "listen",
                "plaintext",
                false,
            );
        });
        bent(stack, "no certificate", &config, Expected::Ends(&["tls_certificate"])).await?;

        let config = with(&|config| {
            config.set("upstream", "port", i64::from(nobody));
        });
        bent(stack, "upstream down", &config, Expected::Refuses(&["08001", "08006"], "refused")).await?;

        let wrong = file("wrong-password", "wrong")?;
        let secret = toml::Value::Table([("file".to_owned(), toml::Value::String(wrong))].into_iter().collect());
        let config = with(&|config| {
            config.set("upstream", "password", secret.clone());
        });
        bent(stack, "upstream password wrong", &config, Expected::Refuses(&["08001", "08004", "08006"], "password")).await?;

        let stranger = countersign_e2e::pki::Authority::new(&dir.join("pki"), "somebody else's")?;
        let config = with(&|config| {
            config.set("upstream", "ca", stranger.ca_file().display().to_string());
        });
        bent(stack, "upstream certificate of somebody else", &config, Expected::Refuses(&["08001", "08006"], "certificate")).await
    })
}
