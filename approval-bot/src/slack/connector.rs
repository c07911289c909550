//! The HTTP side of the Slack client, on reqwest: any base URL, `Retry-After` honoured.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::de::Deserialize;
use serde::ser::Serialize;
use slack_morphism::errors::{
    SlackClientApiError, SlackClientError, SlackClientHttpError, SlackClientHttpProtocolError, SlackClientProtocolError,
    SlackClientSystemError, SlackRateLimitError,
};
use slack_morphism::multipart_form::FileMultipartData;
use slack_morphism::{
    ClientResult, SlackClientApiCallContext, SlackClientHttpConnector, SlackClientId, SlackClientSecret, SlackEnvelopeMessage,
};

/// How often a rate-limited call is repeated.
const MAX_RETRIES: u32 = 3;
/// The longest `Retry-After` that is waited for.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Sends calls to one base URL.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    http: reqwest::Client,
    base: String,
}

impl Connector {
    pub(super) const fn new(http: reqwest::Client, base: String) -> Self {
        Self { http, base }
    }

    /// Sends, and sends again after `Retry-After` where Slack asks for that.
    async fn send<A>(&self, request: RequestBuilder, context: &SlackClientApiCallContext<'_>) -> ClientResult<A>
    where
        A: for<'de> Deserialize<'de>,
    {
        let request = match context.token {
            Some(token) => request.bearer_auth(&token.token_value.0),
            None => request,
        };
        let mut tries = 0;
        loop {
            let attempt = request.try_clone().ok_or_else(|| system("request body cannot be repeated"))?;
            let answer = attempt.send().await.map_err(protocol)?;
            let status = answer.status();
            if status == StatusCode::TOO_MANY_REQUESTS {
                let wait = answer
                    .headers()
                    .get(reqwest::header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .map_or(Duration::from_secs(1), Duration::from_secs);
                if tries >= MAX_RETRIES || wait > MAX_WAIT {
                    return Err(SlackClientError::RateLimitError(SlackRateLimitError::new().with_retry_after(wait)));
                }
                tries += 1;
                tracing::info!(slack.retry_after_s = wait.as_secs(), "Slack asks to wait");
                tokio::time::sleep(wait).await;
                continue;
            }
            if !status.is_success() {
                return Err(SlackClientError::HttpError(SlackClientHttpError::new(status)));
            }
            let body = answer.bytes().await.map_err(protocol)?;
            return decode(&body);
        }
    }
}

/// Slack says `ok: false` with status 200.
fn decode<A: for<'de> Deserialize<'de>>(body: &[u8]) -> ClientResult<A> {
    if body.len() > MAX_ANSWER {
        return Err(system("answer is too long"));
    }
    let json = |error| SlackClientError::ProtocolError(SlackClientProtocolError::new(error));
    let envelope: SlackEnvelopeMessage = serde_json::from_slice(body).map_err(json)?;
    if !envelope.ok {
        let code = envelope.error.unwrap_or_else(|| "unknown_error".to_owned());
        return Err(SlackClientError::ApiError(SlackClientApiError::new(code)));
    }
    serde_json::from_slice(body).map_err(json)
}

fn protocol(error: reqwest::Error) -> SlackClientError {
    // The whole chain: "error sending request" alone helps nobody. Without the URL, which may carry a secret.
    let error = error.without_url();
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    SlackClientError::HttpProtocolError(SlackClientHttpProtocolError::new().with_cause(why.into()))
}

fn system(message: &str) -> SlackClientError {
    SlackClientError::SystemError(SlackClientSystemError::new().with_message(message.to_owned()))
}

/// For what the bot never does.
fn unused<'a, A: Send + 'a>() -> BoxFuture<'a, ClientResult<A>> {
    std::future::ready(Err(system("this kind of call is not used"))).boxed()
}

impl SlackClientHttpConnector for Connector {
    fn create_method_uri_path(&self, method: &str) -> ClientResult<Url> {
        Ok(format!("{}/{method}", self.base).parse()?)
    }

    fn http_get_uri<'a, RS>(&'a self, uri: Url, context: SlackClientApiCallContext<'a>) -> BoxFuture<'a, ClientResult<RS>>
    where
        RS: for<'de> Deserialize<'de> + Send + 'a,
    {
        async move { self.send(self.http.get(uri), &context).await }.boxed()
    }

    fn http_post_uri<'a, RQ, RS>(
        &'a self,
        uri: Url,
        body: &'a RQ,
        context: SlackClientApiCallContext<'a>,
    ) -> BoxFuture<'a, ClientResult<RS>>
    where
        RQ: Serialize + Send + Sync,
        RS: for<'de> Deserialize<'de> + Send + 'a,
    {
        async move {
            let json = serde_json::to_vec(body).map_err(|error| SlackClientError::ProtocolError(SlackClientProtocolError::new(error)))?;
            let request = self.http.post(uri).header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8").body(json);
            self.send(request, &context).await
        }
        .boxed()
    }

    fn http_get_with_client_secret<'a, RS>(
        &'a self,
        _uri: Url,
        _id: &'a SlackClientId,
        _secret: &'a SlackClientSecret,
    ) -> BoxFuture<'a, ClientResult<RS>>
    where
        RS: for<'de> Deserialize<'de> + Send + 'a,
    {
        unused()
    }

    fn http_post_uri_multipart_form<'a, 'p, RS, PT, TS>(
        &'a self,
        _uri: Url,
        _file: Option<FileMultipartData<'p>>,
        _params: &'p PT,
        _context: SlackClientApiCallContext<'a>,
    ) -> BoxFuture<'a, ClientResult<RS>>
    where
        RS: for<'de> Deserialize<'de> + Send + 'a,
        PT: IntoIterator<Item = (&'p str, Option<TS>)> + Clone,
        TS: AsRef<str> + 'p + Send,
    {
        unused()
    }

    fn http_post_uri_binary<'a, 'p, RS>(
        &'a self,
        _uri: Url,
        _content_type: String,
        _data: &'a [u8],
        _context: SlackClientApiCallContext<'a>,
    ) -> BoxFuture<'a, ClientResult<RS>>
    where
        RS: for<'de> Deserialize<'de> + Send + 'a,
    {
        unused()
    }
}
