//! RDS IAM authentication: a presigned request for `rds-db:connect` serves as the password, for 15 minutes.
//!
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::{Credentials, provider::ProvideCredentials};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};

use crate::config::{Aws, SecretError, SecretValue, Upstream};

/// The longest the service takes.
const LIFETIME: Duration = Duration::from_secs(900);

/// Makes a token with the credentials the SDK finds. Nothing is sent anywhere but for those.
pub(super) async fn token(settings: &Upstream, aws: &Aws) -> Result<SecretValue, SecretError> {
    let config = aws.sdk_config().await;
    let fault = |error: &str| SecretError::RdsIam(error.to_owned());
    let region = config.region().ok_or_else(|| fault("no region (give aws.region or AWS_REGION)"))?.to_string();
    let provider = config.credentials_provider().ok_or_else(|| fault("no AWS credentials"))?;
    let credentials = provider.provide_credentials().await.map_err(|error| fault(&format!("no AWS credentials: {error}")))?;
    presigned(settings, credentials, &region, SystemTime::now()).map(SecretValue::new).map_err(|error| fault(&error))
}

fn presigned(settings: &Upstream, credentials: Credentials, region: &str, time: SystemTime) -> Result<String, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let mut url = reqwest::Url::parse(&format!("https://{}/", settings.address())).map_err(|error| text(&error))?;
    url.query_pairs_mut().append_pair("Action", "connect").append_pair("DBUser", &settings.user);
    let mut signing = SigningSettings::default();
    signing.signature_location = SignatureLocation::QueryParams;
    signing.expires_in = Some(LIFETIME);
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder().identity(&identity).region(region).name("rds-db").time(time).settings(signing).build();
    let parameters = parameters.map_err(|error| text(&error))?.into();
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[])).map_err(|error| text(&error))?;
    let (instructions, _) = sign(request, &parameters).map_err(|error| text(&error))?.into_parts();
    for (name, value) in instructions.params() {
        url.query_pairs_mut().append_pair(name, value);
    }
    url.as_str().strip_prefix("https://").map(str::to_owned).ok_or_else(|| "the signed request is no URL".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{collections::BTreeMap, time::UNIX_EPOCH};

    use super::*;
    use crate::config::{Credential, UpstreamTls};

    fn settings(host: &str, port: u16, user: &str) -> Upstream {
        Upstream {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            credential: Credential::RdsIam,
            client_certificate: None,
            database: None,
            tls: UpstreamTls::VerifyFull { ca: None },
            connect_timeout: Duration::from_secs(10),
            catalog_refresh: Duration::from_secs(60),
            estimate_timeout: Duration::from_secs(2),
            roles: Vec::new(),
        }
    }

    fn parts(token: &str) -> (String, BTreeMap<String, String>) {
        let url = reqwest::Url::parse(&format!("https://{token}")).unwrap();
        let host = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
        (host, url.query_pairs().into_owned().collect())
    }

    /// The vector of botocore's own tests for `generate_db_auth_token`.
    #[test]
    fn the_token_is_the_one_other_sdks_make() {
        let settings = settings("prod-instance.us-east-1.rds.amazonaws.com", 3306, "someusername");
        let credentials = Credentials::new("akid", "skid", None, None, "test");
        let time = UNIX_EPOCH + Duration::from_secs(1_478_540_373);
        let token = presigned(&settings, credentials, "us-east-1", time).unwrap();
        let (host, query) = parts(&token);
        assert_eq!(host, "prod-instance.us-east-1.rds.amazonaws.com:3306");
        let expected = [
            ("Action", "connect"),
            ("DBUser", "someusername"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", "akid/20161107/us-east-1/rds-db/aws4_request"),
            ("X-Amz-Date", "20161107T173933Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-Signature", "d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61"),
            ("X-Amz-SignedHeaders", "host"),
        ];
        let expected: BTreeMap<String, String> = expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(query, expected);
        assert!(!token.contains("skid"));
    }

    #[test]
    fn temporary_credentials_and_odd_names_are_escaped() {
        let settings = settings("db.example", 5432, "svc user&DBUser=postgres");
        let credentials = Credentials::new("akid", "skid", Some("a+b/c=".to_owned()), None, "test");
        let (_, query) = parts(&presigned(&settings, credentials, "eu-central-1", UNIX_EPOCH).unwrap());
        assert_eq!(query.get("DBUser").unwrap(), "svc user&DBUser=postgres");
        assert_eq!(query.get("X-Amz-Security-Token").unwrap(), "a+b/c=");
    }
}
