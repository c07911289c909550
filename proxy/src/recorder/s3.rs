//! A bucket with Object Lock as the store.
//!
//! Every put carries `If-None-Match: *`, the SHA-256 of the object, and its retention: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::operation::get_object_lock_configuration::GetObjectLockConfigurationOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockEnabled, ObjectLockMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::StartError;
use super::store::{PutError, Store};
use crate::config::RetentionMode;

/// Objects in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    retention: Duration,
    mode: ObjectLockMode,
}

impl S3Store {
    /// Opens it.
    ///
    /// # Errors
    /// When the bucket is not there, does not answer, or has no Object Lock.
    pub async fn open(aws: &SdkConfig, bucket: &str, prefix: &str, retention_days: u32, mode: RetentionMode) -> Result<Self, StartError> {
        // Another endpoint than Amazon's has no names like bucket.host.
        let config = aws_sdk_s3::config::Builder::from(aws).force_path_style(aws.endpoint_url().is_some()).build();
        let client = Client::from_conf(config);
        match client.get_object_lock_configuration().bucket(bucket).send().await {
            Ok(output) if locked(&output) => {}
            Ok(_) => return Err(StartError::NoObjectLock { bucket: bucket.to_owned() }),
            Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => {
                return Err(StartError::NoObjectLock { bucket: bucket.to_owned() });
            }
            Err(error) if error.code() == Some("NoSuchBucket") => {
                return Err(StartError::Store(format!("bucket {bucket} does not exist in this account and region")));
            }
            Err(error) if error.code() == Some("AccessDenied") => {
                return Err(StartError::Store(format!(
                    "bucket {bucket}: access denied; the task's role needs s3:GetBucketObjectLockConfiguration, s3:PutObject, s3:PutObjectRetention and s3:GetObject"
                )));
            }
            Err(error) => return Err(StartError::Store(format!("bucket {bucket}: {}", DisplayErrorContext(&error)))),
        }
        let mode = match mode {
            RetentionMode::Compliance => ObjectLockMode::Compliance,
            RetentionMode::Governance => ObjectLockMode::Governance,
        };
        let retention = Duration::from_secs(u64::from(retention_days) * 86_400);
        Ok(Self { client, bucket: bucket.to_owned(), prefix: prefix.to_owned(), retention, mode })
    }

    async fn is_ours(&self, key: &str, object: &Bytes) -> Result<(), PutError> {
        let unavailable = |error: String| PutError::Unavailable(format!("comparing {key} with what is there: {error}"));
        let found = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .map_err(|error| unavailable(DisplayErrorContext(&error).to_string()))?;
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
            .object_lock_mode(self.mode.clone())
            .object_lock_retain_until_date(DateTime::from(SystemTime::now() + self.retention))
            .content_type(if key.ends_with(".json") { "application/json" } else { "application/zstd" })
            .body(ByteStream::from(object.clone()))
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
            Err(error) => Err(PutError::Unavailable(format!("s3 put {key}: {}", DisplayErrorContext(&error)))),
        }
    }

    fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }
}
