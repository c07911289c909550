//! A denial that nobody can take back: it uses up the names that a grant would need.
//!
//! Whoever can write to the table can take a denial out of it and set the request back to open. So a denial also takes the marks of every
//! run of its request ([`countersign_approval::item::mark_name`]) in the place of the recordings, where each name can be taken once. What
//! approvals may be left in the table then open nothing.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use countersign_approval::break_glass::{Review, review_name};
use countersign_approval::item::mark_name;
use countersign_approval::{Request, RequestId};
use futures_util::future::join_all;
use serde_json::json;

/// Where the proxy keeps recordings.
#[derive(Debug, Clone)]
pub enum Marks {
    /// Not known to this bot: denials lie in the table alone.
    Nowhere,
    /// A folder.
    Directory(PathBuf),
    /// A bucket.
    S3 {
        /// Client.
        client: aws_sdk_s3::Client,
        /// Bucket.
        bucket: String,
        /// Prefix, empty or with a slash at its end.
        prefix: String,
    },
}

impl Marks {
    /// Takes all marks of a request that was denied. Those that are taken already are a run's, which nobody can take back either.
    ///
    /// # Errors
    /// When one of them could not be taken, in one line for operators.
    pub async fn deny(&self, request: &Request, person: &str, now: u64) -> Result<(), String> {
        let puts = (1..=request.runs.clamp(1, 100)).map(|run| {
            let mark = json!({
                "version": 1,
                "request": request.id.as_str(),
                "run": run,
                "digest": request.digest.to_hex(),
                "denied_by": person,
                "denied_at": now,
            });
            self.take(mark_name(&request.id, run), mark.to_string())
        });
        join_all(puts).await.into_iter().collect()
    }

    /// Keeps the review of a statement that ran at once. The first one stands.
    ///
    /// # Errors
    /// When it could not be kept, in one line for operators.
    pub async fn review(&self, id: &RequestId, review: &Review) -> Result<(), String> {
        if matches!(self, Self::Nowhere) {
            return Err("COUNTERSIGN_RECORDINGS is not set, so there is no place for reviews".to_owned());
        }
        let text = serde_json::to_string(review).map_err(|error| error.to_string())?;
        self.take(review_name(id), text).await
    }

    async fn take(&self, name: String, mark: String) -> Result<(), String> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Directory(root) => {
                let path = root.join(name);
                let shown = path.display().to_string();
                match tokio::task::spawn_blocking(move || create(&path, mark.as_bytes())).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("{shown}: {error}")),
                    Err(error) => Err(error.to_string()),
                }
            }
            Self::S3 { client, bucket, prefix } => {
                let put = client
                    .put_object()
                    .bucket(bucket)
                    .key(format!("{prefix}{name}"))
                    .if_none_match("*")
                    .checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Sha256)
                    .content_type("application/json")
                    .body(ByteStream::from(mark.into_bytes()));
                match put.send().await {
                    Ok(_) => Ok(()),
                    Err(error) if error.code() == Some("PreconditionFailed") => Ok(()),
                    Err(error) => Err(format!("s3://{bucket}/{prefix}{name}: {}", countersign_aws_error::line(&error))),
                }
            }
        }
    }
}

/// Creates a file durably, unless the name is taken.
fn create(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    match std::fs::File::create_new(path) {
        Ok(mut file) => {
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::File::open(folder)?.sync_all()
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
