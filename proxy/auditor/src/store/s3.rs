//! Recordings in a bucket.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use countersign_aws_error as aws_error;

use super::{Alteration, Retention, StoreError};

/// A bucket of recordings.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
}

impl S3Store {
    /// A store by the SDK's own environment. With an endpoint of its own (`AWS_ENDPOINT_URL`), buckets are addressed by path.
    pub async fn new(bucket: String, prefix: String) -> Self {
        let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
        let own_endpoint = config.endpoint_url().is_some()
            || ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"].iter().any(|name| std::env::var_os(name).is_some());
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(own_endpoint).build();
        Self { client: Client::from_conf(config), bucket, prefix }
    }

    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{}{prefix}", self.prefix)).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("list", prefix, error))?;
            keys.extend(page.contents().iter().filter_map(|object| self.below(object.key()?)));
        }
        keys.sort();
        Ok(keys)
    }

    pub(super) async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        let object = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .send()
            .await
            .map_err(|error| self.error("read", key, error))?;
        let body = object.body.collect().await.map_err(|error| StoreError { action: self.action("read", key), why: error.to_string() })?;
        Ok(body.into_bytes())
    }

    pub(super) async fn find(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.client.get_object().bucket(&self.bucket).key(self.full(key)).send().await {
            Ok(object) => {
                let body = object.body.collect().await;
                Ok(Some(body.map_err(|error| StoreError { action: self.action("read", key), why: error.to_string() })?.into_bytes()))
            }
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            Err(error) => Err(self.error("read", key, error)),
        }
    }

    pub(super) async fn retention(&self, key: &str) -> Result<Retention, StoreError> {
        let answer = self.client.get_object_retention().bucket(&self.bucket).key(self.full(key)).send().await;
        let retention = match answer {
            Ok(answer) => answer.retention,
            Err(error) if matches!(error.code(), Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError")) => None,
            // What S3 answers where the bucket has no Object Lock at all.
            Err(error)
                if error.code() == Some("InvalidRequest") && error.message().is_some_and(|message| message.contains("Object Lock")) =>
            {
                None
            }
            Err(error) => return Err(self.error("ask for the retention of", key, error)),
        };
        Ok(match retention {
            Some(retention) => match (retention.mode, retention.retain_until_date) {
                (Some(mode), Some(until)) => Retention::Until { mode: mode.as_str().to_owned(), until: until.secs() },
                _ => Retention::None,
            },
            None => Retention::None,
        })
    }

    /// Keys after `after`, or the folders right below the prefix.
    pub(super) async fn listed(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Vec<String>, StoreError> {
        let listing = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.full(prefix));
        let listing = listing.set_start_after(after.map(|after| self.full(after)));
        let mut pages = listing.set_delimiter(folders.then(|| "/".to_owned())).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("list", prefix, error))?;
            if folders {
                found.extend(page.common_prefixes().iter().filter_map(|prefix| self.below(prefix.prefix()?)));
            } else {
                found.extend(page.contents().iter().filter_map(|object| self.below(object.key()?)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Writes an object that must not be there yet, kept as long as `like` is.
    pub(super) async fn put_new(&self, key: &str, object: Bytes, like: Option<(String, i64)>) -> Result<bool, StoreError> {
        let (mode, until) = like.unzip();
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(STANDARD.encode(Sha256::digest(&object)))
            .set_object_lock_mode(mode.map(|mode| ObjectLockMode::from(mode.as_str())))
            .set_object_lock_retain_until_date(until.map(DateTime::from_secs))
            .content_type(if key.ends_with(".json") { "application/json" } else { "application/zstd" })
            .body(ByteStream::from(object))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("PreconditionFailed") => Ok(false),
            Err(error) => Err(self.error("write", key, error)),
        }
    }

    /// Sets or lifts the legal hold of every version of an object; gives how many.
    pub(super) async fn hold(&self, key: &str, on: bool) -> Result<u64, StoreError> {
        let status = if on { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let mut count = 0_u64;
        for version in self.versions(key).await? {
            let change = self.client.put_object_legal_hold().bucket(&self.bucket).key(self.full(key)).version_id(version);
            change.legal_hold(hold.clone()).send().await.map_err(|error| self.error("set the legal hold of", key, error))?;
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    /// Tries to delete a version and to shorten its retention, which the store must refuse. Nothing is tried on what is not locked.
    pub(super) async fn try_to_break(&self, key: &str) -> Result<Vec<Attempt>, StoreError> {
        let Some(version) = self.versions(key).await?.pop() else { return Ok(Vec::new()) };
        if !matches!(self.retention(key).await?, Retention::Until { .. }) {
            let answer = "not tried: nothing keeps this object".to_owned();
            return Ok(vec![Attempt { what: format!("delete version {version} of {key}"), refused: false, answer }]);
        }
        let delete = self.client.delete_object().bucket(&self.bucket).key(self.full(key)).version_id(&version).send().await;
        let soon = DateTime::from(std::time::SystemTime::now() + std::time::Duration::from_secs(60));
        let shorter = ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Compliance).retain_until_date(soon).build();
        let change = self.client.put_object_retention().bucket(&self.bucket).key(self.full(key)).version_id(&version);
        let shorten = change.retention(shorter).send().await;
        let said = |what: String, answer: Option<String>| Attempt {
            what,
            refused: answer.is_some(),
            answer: answer.unwrap_or_else(|| "the store did it".to_owned()),
        };
        Ok(vec![
            said(format!("delete version {version} of {key}"), delete.err().map(|error| aws_error::line(&error))),
            said(format!("shorten the retention of version {version} of {key}"), shorten.err().map(|error| aws_error::line(&error))),
        ])
    }

    async fn versions(&self, key: &str) -> Result<Vec<String>, StoreError> {
        let answer = self.client.list_object_versions().bucket(&self.bucket).prefix(self.full(key)).send().await;
        let answer = answer.map_err(|error| self.error("list the versions of", key, error))?;
        let own = |version: &&aws_sdk_s3::types::ObjectVersion| version.key() == Some(self.full(key).as_str());
        Ok(answer.versions().iter().filter(own).filter_map(|version| version.version_id().map(str::to_owned)).collect())
    }

    pub(super) async fn alterations(&self, prefix: &str) -> Result<Vec<Alteration>, StoreError> {
        let mut alterations = Vec::new();
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let page = self
                .client
                .list_object_versions()
                .bucket(&self.bucket)
                .prefix(self.full(prefix))
                .set_key_marker(key_marker.take())
                .set_version_id_marker(version_marker.take())
                .send()
                .await
                .map_err(|error| self.error("list the versions of", prefix, error))?;
            for key in page.versions().iter().filter_map(|version| self.below(version.key()?)) {
                let count = versions.entry(key).or_default();
                *count = count.saturating_add(1);
            }
            for marker in page.delete_markers() {
                let Some(key) = marker.key().and_then(|key| self.below(key)) else { continue };
                let when =
                    marker.last_modified().map(|time| crate::text::timestamp(time.secs().saturating_mul(1_000_000))).unwrap_or_default();
                alterations.push(Alteration {
                    key,
                    what: format!("somebody deleted it (delete marker of {when}); its bytes are still in the bucket as an older version"),
                });
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            key_marker = page.next_key_marker().map(str::to_owned);
            version_marker = page.next_version_id_marker().map(str::to_owned);
        }
        for (key, count) in versions.into_iter().filter(|(_, count)| *count > 1) {
            alterations.push(Alteration { key, what: format!("written {count} times; every version is still in the bucket") });
        }
        Ok(alterations)
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn below(&self, key: &str) -> Option<String> {
        key.strip_prefix(&self.prefix).map(str::to_owned)
    }

    fn action(&self, action: &str, key: &str) -> String {
        format!("{action} s3://{}/{}", self.bucket, self.full(key))
    }

    fn error<E, R>(&self, action: &str, key: &str, error: SdkError<E, R>) -> StoreError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        StoreError { action: self.action(action, key), why: aws_error::line(&error) }
    }
}

/// What a store did with an attempt to break its own rule.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What was tried, for people.
    pub what: String,
    /// Whether the store refused.
    pub refused: bool,
    /// Its words.
    pub answer: String,
}
