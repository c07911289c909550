//! `[aws]`: region and endpoint; everything else is the SDK's own environment.

use aws_config::{BehaviorVersion, Region, SdkConfig};

use super::{ConfigError, check::Place, raw};

/// What differs from the SDK's own environment.
#[derive(Debug, Clone, Default)]
pub struct Aws {
    /// Region.
    pub region: Option<String>,
    /// Endpoint of every service, for LocalStack.
    pub endpoint: Option<String>,
}

impl Aws {
    pub(super) fn from_raw(raw: Option<&raw::Aws>, place: &Place<'_>) -> Result<Self, ConfigError> {
        let Some(raw) = raw else { return Ok(Self::default()) };
        let endpoint = raw.endpoint.as_ref().map(|value| place.text("aws.endpoint", value)).transpose()?;
        if let (Some(text), Some(value)) = (&endpoint, &raw.endpoint)
            && reqwest::Url::parse(text).is_err()
        {
            return Err(place.fault("aws.endpoint", value.span(), "is not a URL").hint("as in \"http://127.0.0.1:4566\""));
        }
        Ok(Self { region: raw.region.as_ref().map(|value| place.name("aws.region", value)).transpose()?, endpoint })
    }

    /// The SDK's configuration. Asks the environment for credentials when they are first needed.
    pub async fn sdk_config(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint.clone());
        }
        loader.load().await
    }
}
