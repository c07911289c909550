//! `[policy]`: where the policy document is and how often it is looked at.

use std::{fmt, path::PathBuf, time::Duration};

use super::{ConfigError, check::Place, raw};

/// Where the policy document is.
#[derive(Debug, Clone)]
pub struct PolicySettings {
    /// Place.
    pub location: PolicyLocation,
    /// How often it is looked at for a new version.
    pub reload: Duration,
}

/// A place a policy document can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyLocation {
    /// A local file.
    File(PathBuf),
    /// An object in S3.
    S3 {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
    },
}

impl fmt::Display for PolicyLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

impl PolicySettings {
    pub(super) fn from_raw(section: &toml::Spanned<raw::Policy>, place: &Place<'_>) -> Result<Self, ConfigError> {
        let raw = section.get_ref();
        let location = match (&raw.file, &raw.s3) {
            (Some(file), None) => PolicyLocation::File(place.path("policy.file", file)?),
            (None, Some(url)) => {
                let parts = url.get_ref().strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
                match parts {
                    Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                        PolicyLocation::S3 { bucket: bucket.to_owned(), key: key.to_owned() }
                    }
                    _ => {
                        return Err(place.fault("policy.s3", url.span(), "is not an object's URL").hint("write it as \"s3://bucket/key\""));
                    }
                }
            }
            (Some(_), Some(url)) => {
                return Err(place.fault("policy.s3", url.span(), "the policy cannot be in two places").hint("keep one of file and s3"));
            }
            (None, None) => {
                return Err(place
                    .fault("policy", section.span(), "says no place")
                    .hint("give file = \"policy.toml\" or s3 = \"s3://bucket/key\""));
            }
        };
        Ok(Self { location, reload: place.seconds("policy.reload_seconds", raw.reload_seconds.as_ref(), 5, 1..=3600)? })
    }
}
