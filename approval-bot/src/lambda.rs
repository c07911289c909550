//! One Lambda function for two kinds of event: records of the table's stream, and HTTP requests through the Function URL.
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>, <https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>

use axum::Router;
use axum::body::Body;
use axum::http::header;
use countersign_approval::RequestId;
use lambda_http::Service as _;
use lambda_http::request::LambdaRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bot::Bot;
use crate::cards::{self, CardError};
use crate::digest;
use crate::router::router;

/// The largest answer to an HTTP request.
const MAX_ANSWER: usize = 4 << 20;

/// Handles events.
#[derive(Debug, Clone)]
pub struct Handler {
    bot: Bot,
    router: Router,
}

/// Why an event was not handled; Lambda then delivers a stream batch again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Neither of the two kinds.
    #[error("event is neither a DynamoDB stream batch, nor a tick, nor a Function URL request")]
    Unknown,
    /// Cards are not in line yet.
    #[error("{failed} of {all} cards are not in line, first: {first}")]
    Cards {
        /// How many failed.
        failed: usize,
        /// Of how many.
        all: usize,
        /// The first failure.
        first: CardError,
    },
    /// The HTTP part could not be answered.
    #[error("request could not be answered: {0}")]
    Http(String),
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "eventSource", default)]
    source: String,
    #[serde(rename = "eventName", default)]
    name: String,
    dynamodb: Change,
}

#[derive(Deserialize)]
struct Change {
    #[serde(rename = "Keys")]
    keys: Keys,
}

#[derive(Deserialize)]
struct Keys {
    request_id: Text,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: String,
}

impl Handler {
    /// A handler for this bot.
    #[must_use]
    pub fn new(bot: Bot) -> Self {
        Self { router: router(bot.clone()), bot }
    }

    /// Handles one event.
    ///
    /// # Errors
    /// When it is neither kind, or must be delivered again.
    pub async fn handle(&self, event: Value) -> Result<Value, EventError> {
        if event.get("Records").is_some() {
            return self.stream(event).await;
        }
        // The clock of reminders and expiries, where no process lives on: an EventBridge rule each minute.
        if event.get("source").and_then(Value::as_str) == Some("aws.events") {
            return self.tick().await;
        }
        if event.pointer("/requestContext/http").is_some() {
            return self.http(event).await;
        }
        Err(EventError::Unknown)
    }

    /// Each record only names a request; what to show is read from the table, so order and repetition do not matter.
    async fn stream(&self, event: Value) -> Result<Value, EventError> {
        let ids = changed(event)?;
        let (all, mut failures) = (ids.len(), Vec::new());
        for id in ids {
            if let Err(error) = cards::sync(&self.bot, &id).await {
                tracing::warn!(request.id = %id, %error, "card is not in line, the batch will come again");
                failures.push(error);
            }
        }
        let failed = failures.len();
        match failures.into_iter().next() {
            None => Ok(json!({"batchItemFailures": []})),
            Some(first) => Err(EventError::Cards { failed, all, first }),
        }
    }

    /// Looks after requests that no stream record is about: reminders, escalation, expiry, cards that could not be posted.
    async fn tick(&self) -> Result<Value, EventError> {
        let ids = self.bot.store.unsettled().await.map_err(|error| EventError::Http(error.to_string()))?;
        let all = ids.len();
        for id in ids {
            if let Err(error) = cards::sync(&self.bot, &id).await {
                tracing::warn!(request.id = %id, %error, "card is not in line, the next tick tries again");
            }
        }
        digest::post_if_due(&self.bot, self.bot.clock.now()).await;
        Ok(json!({"looked_after": all}))
    }

    async fn http(&self, event: Value) -> Result<Value, EventError> {
        let fault = |error: &dyn std::fmt::Display| EventError::Http(error.to_string());
        let request: LambdaRequest = serde_json::from_value(event).map_err(|error| fault(&error))?;
        let (parts, body) = lambda_http::http::Request::<lambda_http::Body>::from(request).into_parts();
        let body = match body {
            lambda_http::Body::Text(text) => Body::from(text),
            lambda_http::Body::Binary(bytes) => Body::from(bytes),
            _ => Body::empty(),
        };
        let mut router = self.router.clone();
        let answer = match router.call(lambda_http::http::Request::from_parts(parts, body)).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, MAX_ANSWER).await.map_err(|error| fault(&error))?;
        let headers: serde_json::Map<String, Value> =
            parts.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), Value::from(value.to_str().ok()?)))).collect();
        // Function URLs want cookies in a field of their own; what stands in for them here and there knows headers alone. Told both ways, the
        // browser keeps the same cookie.
        let cookies: Vec<&str> = parts.headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
        Ok(json!({
            "statusCode": parts.status.as_u16(),
            "headers": headers,
            "cookies": cookies,
            "body": String::from_utf8_lossy(&body),
            "isBase64Encoded": false,
        }))
    }
}

/// Requests that changed, each once, in order.
fn changed(event: Value) -> Result<Vec<RequestId>, EventError> {
    let batch: Batch = serde_json::from_value(event).map_err(|_| EventError::Unknown)?;
    let mut ids: Vec<RequestId> = Vec::new();
    for record in batch.records {
        if record.source != "aws:dynamodb" {
            return Err(EventError::Unknown);
        }
        // Presses are items as well, under other keys.
        if let (true, Ok(id)) = (record.name != "REMOVE", RequestId::parse(&record.dynamodb.keys.request_id.text))
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}
