//! What the bucket holds: every object under COMPLIANCE retention, with its checksum, and out of reach of whoever may write to it.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumMode, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode, ServerSideEncryption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_e2e::audit::Audit;
use countersign_e2e::localstack::LocalStack;
use countersign_e2e::stack::Stack;
use sha2::{Digest as _, Sha256};

use super::{deployed, on_localstack};

async fn s3(instance: &LocalStack) -> Client {
    let config = instance.sdk_config().await;
    Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build())
}

/// An object of the bucket.
struct Stored {
    key: String,
    version: String,
    bytes: Vec<u8>,
}

async fn stored(client: &Client, bucket: &str, prefix: &str) -> Result<Vec<Stored>> {
    let mut all = Vec::new();
    for version in client.list_object_versions().bucket(bucket).prefix(prefix).send().await?.versions() {
        let (key, version) = (version.key().context("no key")?.to_owned(), version.version_id().context("no version")?.to_owned());
        let bytes = client.get_object().bucket(bucket).key(&key).version_id(&version).send().await?.body.collect().await?.to_vec();
        all.push(Stored { key, version, bytes });
    }
    Ok(all)
}

async fn is_locked(client: &Client, bucket: &str, object: &Stored) -> Result<()> {
    let (key, version) = (object.key.as_str(), object.version.as_str());
    let head = client.head_object().bucket(bucket).key(key).version_id(version).checksum_mode(ChecksumMode::Enabled).send().await?;
    ensure!(head.object_lock_mode() == Some(&ObjectLockMode::Compliance), "{key}: {:?}", head.object_lock_mode());
    let until = head.object_lock_retain_until_date().with_context(|| format!("{key}: kept until nothing"))?;
    let now = SystemTime::now();
    let wanted = DateTime::from(now + Duration::from_secs(86_400 - 600)).secs();
    ensure!(until.secs() >= wanted, "{key}: kept until {until}");
    let checksum = STANDARD.encode(Sha256::digest(&object.bytes));
    ensure!(head.checksum_sha256() == Some(checksum.as_str()), "{key}: checksum {:?}", head.checksum_sha256());
    ensure!(head.server_side_encryption() == Some(&ServerSideEncryption::AwsKms), "{key}: {:?}", head.server_side_encryption());

    let error = client.delete_object().bucket(bucket).key(key).version_id(version).bypass_governance_retention(true).send().await.err();
    let error = error.with_context(|| format!("{key}: a version could be deleted"))?;
    ensure!(error.code() == Some("AccessDenied"), "{key}: {error:?}");
    let shorter = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .retain_until_date(DateTime::from(now + Duration::from_secs(60)))
        .build();
    let change = client.put_object_retention().bucket(bucket).key(key).version_id(version).retention(shorter);
    let error = change.bypass_governance_retention(true).send().await.err();
    let error = error.with_context(|| format!("{key}: its retention could be shortened"))?;
    ensure!(error.code() == Some("AccessDenied"), "{key}: {error:?}");
    Ok(())
}

/// A session through a gateway that records to `bucket` below `prefix`, sealed.
async fn record(stack: &Stack, bucket: &str, prefix: &str, encryption_key: &str, audit: &Audit) -> Result<()> {
    let mut config = stack.config.clone();
    config.set("recording", "bucket", bucket).set("recording", "prefix", prefix).set("recording", "encryption_key", encryption_key);
    let (_proxy, gateway) = stack.another_proxy("locked", &config).await?;
    let dba = stack.principal("dba")?;
    gateway.connect(&dba.user, &dba.token).await?.simple_query("select id, md5(id::text) from transactions limit 50").await?;
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let sessions = audit.sessions().await?;
        if sessions.iter().any(|session| session.get("state").and_then(serde_json::Value::as_str) == Some("sealed")) {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < end, "the session was not sealed: {sessions:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A bucket with Object Lock, and a key to encrypt with.
async fn locked_bucket(instance: &LocalStack, client: &Client) -> Result<(String, String)> {
    let bucket = format!("locked-{}", uuid::Uuid::new_v4());
    let mut create = client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true);
    if instance.region != "us-east-1" {
        let place = aws_sdk_s3::types::BucketLocationConstraint::from(instance.region.as_str());
        create =
            create.create_bucket_configuration(aws_sdk_s3::types::CreateBucketConfiguration::builder().location_constraint(place).build());
    }
    create.send().await?;
    let kms = aws_sdk_kms::Client::new(&instance.sdk_config().await);
    Ok((bucket, kms.create_key().send().await?.key_metadata.context("no key was made")?.key_id))
}

/// What the store itself refuses: to write over, to write what does not fit its checksum; and what it keeps under legal hold.
#[test]
fn the_stores_own_rules_hold_and_so_does_a_legal_hold() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, deployed) = deployed(stack)?;
        let client = s3(instance).await;
        let (bucket, key) = locked_bucket(instance, &client).await?;
        let audit = stack.audit().at(&format!("s3://{bucket}/own"));
        record(stack, &bucket, "own", &key, &audit).await?;
        let objects = stored(&client, &bucket, "own/sessions/").await?;
        let object = objects.first().context("nothing is stored")?;

        let over = client.put_object().bucket(&bucket).key(&object.key).if_none_match("*").body(ByteStream::from_static(b"x")).send().await;
        let error = over.err().context("an object was written over")?;
        ensure!(error.code() == Some("PreconditionFailed"), "{error:?}");
        let wrong = STANDARD.encode(Sha256::digest(b"something else"));
        let put = client.put_object().bucket(&bucket).key("own/sessions/x").checksum_sha256(wrong).body(ByteStream::from_static(b"x"));
        ensure!(put.send().await.is_err(), "what does not fit its checksum was taken");

        let sessions = audit.sessions().await?;
        let id = sessions.first().and_then(|session| session.get("session")).and_then(serde_json::Value::as_str).context("no session")?;
        let status = async || -> Result<Option<String>> {
            let answer = client.get_object_legal_hold().bucket(&bucket).key(&object.key).send().await?;
            Ok(answer.legal_hold().and_then(|hold| hold.status()).map(|status| status.as_str().to_owned()))
        };
        for (arguments, wanted) in [(&[id][..], "ON"), (&[id, "--off"][..], "OFF")] {
            let held = audit.run("hold", arguments).await?;
            ensure!(held.status == 0, "{}", held.stderr);
            ensure!(status().await?.as_deref() == Some(wanted), "after {arguments:?}: {:?}", status().await?);
        }

        let package = stack.dir().join("evidence-s3");
        let folder = package.display().to_string();
        let order =
            ["--since", "2020-01-01", "--until", "2100-01-01", "--out", &folder, "--try-deletion", "--kms-key", &deployed.recording_key];
        let made = audit.run("evidence", &order).await?;
        ensure!(made.status == 0, "{}", made.stderr);
        let tried: serde_json::Value = serde_json::from_slice(&std::fs::read(package.join("deletion-test.json"))?)?;
        ensure!(tried.get("refused") == Some(&serde_json::Value::Bool(true)), "{tried}");
        ensure!(std::fs::read_to_string(package.join("retention.csv"))?.contains("COMPLIANCE"), "no retention");

        // What the tool says of a store that refuses is one line.
        let nowhere = stack.audit().at("s3://no-such-bucket-anywhere/x").run("list", &[]).await?;
        ensure!(
            nowhere.status == 2 && nowhere.stderr.lines().count() == 1 && nowhere.stderr.contains("NoSuchBucket"),
            "{}",
            nowhere.stderr
        );
        ensure!(nowhere.stderr.len() < 300, "that is no clear line: {}", nowhere.stderr);
        Ok(())
    })
}

#[test]
fn recordings_cannot_be_removed_and_replacing_them_shows() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, _) = deployed(stack)?;
        let client = s3(instance).await;
        let (bucket, key) = locked_bucket(instance, &client).await?;

        let audit = stack.audit().at(&format!("s3://{bucket}/team/a"));
        record(stack, &bucket, "team/a", &key, &audit).await?;
        let verified = audit.verify(None).await?;
        ensure!(verified.status == 0, "{}\n{}", verified.stdout, verified.stderr);

        let objects = stored(&client, &bucket, "").await?;
        for kind in [".rec", ".json"] {
            ensure!(objects.iter().any(|object| object.key.ends_with(kind)), "no {kind} among {:?}", keys(&objects));
        }
        for object in &objects {
            ensure!(object.key.starts_with("team/a/"), "{} is not below the prefix", object.key);
            is_locked(&client, &bucket, object).await?;
        }

        // A newer version over a segment: the older one stays, and verification says which object it is.
        let segment = |object: &&Stored| object.key.contains("/sessions/") && object.key.ends_with(".rec");
        let segment = objects.iter().find(segment).with_context(|| format!("no segment among {:?}", keys(&objects)))?;
        let mut other = segment.bytes.clone();
        *other.last_mut().context("an empty segment")? ^= 1;
        client.put_object().bucket(&bucket).key(&segment.key).body(ByteStream::from(other)).send().await?;
        let kept = stored(&client, &bucket, &segment.key).await?;
        ensure!(kept.iter().any(|object| object.version == segment.version && object.bytes == segment.bytes), "the version is gone");
        let after = audit.verify(None).await?;
        let said = format!("{}\n{}", after.stdout, after.stderr);
        let name = segment.key.strip_prefix("team/a/").unwrap_or_default();
        ensure!(after.status == 1 && said.contains(name), "status {}, wanted one that names {name}:\n{said}", after.status);
        Ok(())
    })
}

fn keys(objects: &[Stored]) -> Vec<&str> {
    objects.iter().map(|object| object.key.as_str()).collect()
}
