//! A bucket with Object Lock as the store.
//!
//! Every put carries `If-None-Match: *`, the SHA-256 of the object, and its retention: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object_lock_configuration::GetObjectLockConfigurationOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockEnabled, ObjectLockMode, ServerSideEncryption};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::StartError;
use super::store::{PutError, Store};
use crate::config::{RecordingStore, RetentionMode};
use countersign_aws_error as aws_error;

/// How long a look at the bucket may take.
const LOOK: Duration = Duration::from_secs(15);

/// Objects in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    retention: Duration,
    mode: ObjectLockMode,
    encryption_key: Option<String>,
}

impl S3Store {
    /// Opens it.
    ///
    /// # Errors
    /// When the bucket is not there, does not answer, or has no Object Lock; or when it is no bucket that is configured.
    pub async fn open(aws: &SdkConfig, store: &RecordingStore) -> Result<Self, StartError> {
        let RecordingStore::S3 { bucket, prefix, retention_days, retention_mode, encryption_key } = store else {
            return Err(StartError::Store("recordings do not go to a bucket".to_owned()));
        };
        // Another endpoint than Amazon's has no names like bucket.host.
        let config = aws_sdk_s3::config::Builder::from(aws).force_path_style(aws.endpoint_url().is_some()).build();
        let store = Self {
            client: Client::from_conf(config),
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            retention: Duration::from_secs(u64::from(*retention_days) * 86_400),
            mode: match retention_mode {
                RetentionMode::Compliance => ObjectLockMode::Compliance,
                RetentionMode::Governance => ObjectLockMode::Governance,
            },
            encryption_key: encryption_key.clone(),
        };
        store.look().await?;
        Ok(store)
    }

    async fn look(&self) -> Result<(), StartError> {
        let bucket = &self.bucket;
        let unlocked = || StartError::NoObjectLock { bucket: bucket.clone() };
        let answer = tokio::time::timeout(LOOK, self.client.get_object_lock_configuration().bucket(bucket).send()).await;
        let answer = answer.map_err(|_| StartError::Store(format!("bucket {bucket}: no answer within {} s", LOOK.as_secs())))?;
        let error = match answer {
            Ok(output) if locked(&output) => return Ok(()),
            Ok(_) => return Err(unlocked()),
            Err(error) => error,
        };
        Err(match error.code() {
            Some("ObjectLockConfigurationNotFoundError") => unlocked(),
            Some("NoSuchBucket") => StartError::Store(format!(
                "bucket {bucket} does not exist in this account and region; deploy the data stack (infra/data.yaml) or correct recording.bucket"
            )),
            Some("AccessDenied") => StartError::Store(format!(
                "bucket {bucket}: access denied; the task's role needs s3:GetBucketObjectLockConfiguration, s3:PutObject, s3:PutObjectRetention and s3:GetObject"
            )),
            _ => StartError::Store(format!("bucket {bucket}: {}", aws_error::line(&error))),
        })
    }

    /// Keys below a prefix, or the folders right below it.
    async fn listed(&self, prefix: &str, after: Option<&str>, folders: bool) -> Result<Vec<String>, PutError> {
        let listing = self.client.list_objects_v2().bucket(&self.bucket).prefix(format!("{}{prefix}", self.prefix));
        let listing = listing.set_start_after(after.map(|after| format!("{}{after}", self.prefix)));
        let mut pages = listing.set_delimiter(folders.then(|| "/".to_owned())).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| PutError::Unavailable(format!("s3 list {}{prefix}: {}", self.prefix, aws_error::line(&error))))?;
            let keys: Vec<Option<&str>> = if folders {
                page.common_prefixes().iter().map(|prefix| prefix.prefix()).collect()
            } else {
                page.contents().iter().map(|object| object.key()).collect()
            };
            found.extend(keys.into_iter().flatten().filter_map(|key| key.strip_prefix(&self.prefix)).map(str::to_owned));
        }
        found.sort();
        Ok(found)
    }

    async fn is_ours(&self, key: &str, object: &Bytes) -> Result<(), PutError> {
        let unavailable = |error: String| PutError::Unavailable(format!("comparing {key} with what is there: {error}"));
        let found =
            self.client.get_object().bucket(&self.bucket).key(key).send().await.map_err(|error| unavailable(aws_error::line(&error)))?;
        let found = found.body.collect().await.map_err(|error| unavailable(error.to_string()))?.into_bytes();
        if found == *object { Ok(()) } else { Err(PutError::Conflict) }
    }
}

fn locked(output: &GetObjectLockConfigurationOutput) -> bool {
    output.object_lock_configuration().and_then(|configuration| configuration.object_lock_enabled()) == Some(&ObjectLockEnabled::Enabled)
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, key: &str, object: Bytes) -> Result<(), PutError> {
        let key = format!("{}{key}", self.prefix);
        let sent = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(STANDARD.encode(Sha256::digest(&object)))
            .set_server_side_encryption(self.encryption_key.as_ref().map(|_| ServerSideEncryption::AwsKms))
            .set_ssekms_key_id(self.encryption_key.clone())
            .set_bucket_key_enabled(self.encryption_key.as_ref().map(|_| true))
            .object_lock_mode(self.mode.clone())
            .object_lock_retain_until_date(DateTime::from(SystemTime::now() + self.retention))
            .content_type(if key.ends_with(".json") { "application/json" } else { "application/zstd" })
            .body(ByteStream::from(object.clone()))
            .customize()
            // Whoever puts tries again by itself, and must know at once why.
            .config_override(aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled()))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error)
                if error.code() == Some("PreconditionFailed")
                    || error.raw_response().is_some_and(|response| response.status().as_u16() == 412) =>
            {
                self.is_ours(&key, &object).await
            }
            Err(error) => {
                let line = format!("s3 put {key}: {}", aws_error::line(&error));
                Err(if error.as_service_error().is_some() { PutError::Unavailable(line) } else { PutError::Unreached(line) })
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, PutError> {
        let key = format!("{}{key}", self.prefix);
        let failed = |error: String| PutError::Unavailable(format!("s3 get {key}: {error}"));
        match self.client.get_object().bucket(&self.bucket).key(&key).send().await {
            Ok(found) => Ok(Some(found.body.collect().await.map_err(|error| failed(error.to_string()))?.into_bytes())),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
            Err(error) => Err(failed(aws_error::line(&error))),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError> {
        self.listed(prefix, after, false).await
    }

    async fn folders(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>, PutError> {
        // Behind everything in the folder `after`: a tilde sorts after every character of the format's names.
        let after = after.map(|after| format!("{prefix}{after}/~"));
        let found = self.listed(prefix, after.as_deref(), true).await?;
        Ok(found.iter().filter_map(|key| key.strip_prefix(prefix)?.strip_suffix('/')).map(str::to_owned).collect())
    }

    async fn check(&self) -> Result<(), PutError> {
        self.look().await.map_err(|error| PutError::Unavailable(error.to_string()))
    }

    fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }
}
