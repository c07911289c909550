//! Recordings in a bucket.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use bytes::Bytes;

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

    fn error<E: std::error::Error + 'static>(&self, action: &str, key: &str, error: E) -> StoreError {
        StoreError { action: self.action(action, key), why: DisplayErrorContext(error).to_string() }
    }
}
