//! The store in one DynamoDB table. Names and access patterns: [`countersign_approval::item`].
//!
//! Every change is one conditional write on one item. The SDK repeats a write whose answer was lost; a write that finds its own mark in
//! the way counts as done.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeyType, KeysAndAttributes, ReturnValuesOnConditionCheckFailure};
use countersign_approval::item::{AGAIN_PREFIX, Closed, MAX_QUESTIONS, Status, attribute};
use countersign_approval::{Request, RequestId, StatementDigest};

use super::store::{Listed, Snapshot, Store, StoreError};
use countersign_aws_error as aws_error;

/// Keys in one BatchGetItem, by the service's limit.
const BATCH: usize = 100;
/// How often a batch asks again for keys the service left out.
const MAX_ROUNDS: u32 = 5;
/// How long one call may take, retries included.
const TIMEOUT: Duration = Duration::from_secs(15);

type Item = HashMap<String, AttributeValue>;

#[derive(Debug)]
pub(super) struct Dynamo {
    client: Client,
    table: String,
}

impl Dynamo {
    pub(super) const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    fn unavailable(&self, call: &str, why: &str) -> StoreError {
        StoreError::Unavailable(format!("{call} on table {}: {why}", self.table))
    }

    fn update(&self, id: &RequestId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key(attribute::ID, text(id.as_str()))
            .expression_attribute_names("#status", attribute::STATUS)
    }

    /// Sends a conditional update: `Ok(Ok(()))` when done, `Ok(Err(item))` with the item that was in the way.
    async fn send(&self, update: UpdateItemFluentBuilder) -> Result<Result<(), Option<Item>>, StoreError> {
        let update = update.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match within(update.send()).await? {
            Ok(_) => Ok(Ok(())),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => match error.into_err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => Ok(Err(failed.item().cloned())),
                other => Err(self.unavailable("UpdateItem", &aws_error::service(&other))),
            },
            Err(error) => Err(self.unavailable("UpdateItem", &aws_error::line(&error))),
        }
    }

    async fn read_batch(&self, ids: &[RequestId], found: &mut HashMap<RequestId, Snapshot>) -> Result<(), StoreError> {
        let mut keys = KeysAndAttributes::builder().consistent_read(true);
        for id in ids {
            keys = keys.keys(HashMap::from([(attribute::ID.to_owned(), text(id.as_str()))]));
        }
        let names = [attribute::ID, attribute::STATUS, attribute::DECISIONS, attribute::WHY, attribute::CARD_ERROR, attribute::QUESTIONS];
        for (place, name) in ["#a", "#b", "#c", "#d", "#e", "#f"].into_iter().zip(names) {
            keys = keys.expression_attribute_names(place, name);
        }
        let keys = keys
            .projection_expression("#a, #b, #c, #d, #e, #f")
            .build()
            .map_err(|error| self.unavailable("BatchGetItem", &error.to_string()))?;
        let mut ask = Some(HashMap::from([(self.table.clone(), keys)]));
        let mut round = 0;
        while let Some(request) = ask.take().filter(|request| !request.is_empty()) {
            if round == MAX_ROUNDS {
                return Err(StoreError::Unavailable(format!("table {} is throttled", self.table)));
            }
            if round > 0 {
                tokio::time::sleep(Duration::from_millis(50 << round)).await;
            }
            round += 1;
            let answer = within(self.client.batch_get_item().set_request_items(Some(request)).send())
                .await?
                .map_err(|error| self.unavailable("BatchGetItem", &aws_error::line(&error)))?;
            for item in answer.responses().into_iter().flat_map(HashMap::values).flatten() {
                if let Some(id) = string(item, attribute::ID).and_then(|id| RequestId::parse(id).ok()) {
                    found.insert(id, snapshot(item));
                }
            }
            ask = answer.unprocessed_keys;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Dynamo {
    async fn check(&self) -> Result<(), StoreError> {
        let unusable = |why: String| StoreError::Unusable(format!("table {}: {why}", self.table));
        let answer = within(self.client.describe_table().table_name(&self.table).send()).await?;
        let answer = answer.map_err(|error| match &error {
            SdkError::ServiceError(refused) if refused.err().is_resource_not_found_exception() => {
                unusable("does not exist in this account and region; deploy the data stack or correct table".to_owned())
            }
            _ => unusable(format!("DescribeTable failed: {}", aws_error::line(&error))),
        })?;
        let schema = answer.table().map(aws_sdk_dynamodb::types::TableDescription::key_schema).unwrap_or_default();
        match schema {
            [key] if key.attribute_name() == attribute::ID && *key.key_type() == KeyType::Hash => Ok(()),
            _ => Err(unusable(format!("must have {} as its only key", attribute::ID))),
        }
    }

    async fn place(&self, request: &Request, bytes: &[u8]) -> Result<(), StoreError> {
        let json = String::from_utf8_lossy(bytes).into_owned();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(attribute::ID, text(request.id.as_str()))
            .item(attribute::REQUEST, text(&json))
            .item(attribute::STATUS, text(Status::Open.as_str()))
            .item(attribute::DIGEST, text(&request.digest.to_hex()))
            .item(attribute::EXPIRES_AT, number(request.expires_at))
            .item(attribute::DECISIONS, AttributeValue::L(Vec::new()))
            .condition_expression("attribute_not_exists(#id)")
            .expression_attribute_names("#id", attribute::ID)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match within(put.send()).await? {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) => match error.into_err() {
                PutItemError::ConditionalCheckFailedException(failed) => {
                    let same = failed.item().and_then(|item| string(item, attribute::REQUEST)) == Some(json.as_str());
                    if same { Ok(()) } else { Err(StoreError::IdTaken) }
                }
                other => Err(self.unavailable("PutItem", &aws_error::service(&other))),
            },
            Err(error) => Err(self.unavailable("PutItem", &aws_error::line(&error))),
        }
    }

    async fn read(&self, ids: &[RequestId]) -> Result<HashMap<RequestId, Snapshot>, StoreError> {
        let mut found = HashMap::new();
        for batch in ids.chunks(BATCH) {
            self.read_batch(batch, &mut found).await?;
        }
        Ok(found)
    }

    async fn fetch(&self, id: &RequestId) -> Result<Option<(Vec<u8>, Snapshot)>, StoreError> {
        let get = self.client.get_item().table_name(&self.table).key(attribute::ID, text(id.as_str())).consistent_read(true);
        let answer = within(get.send()).await?.map_err(|error| self.unavailable("GetItem", &aws_error::line(&error)))?;
        Ok(answer.item().and_then(|item| Some((string(item, attribute::REQUEST)?.as_bytes().to_vec(), snapshot(item)))))
    }

    async fn open(&self, now: u64) -> Result<Vec<Listed>, StoreError> {
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("#status = :open AND #expires > :now")
            .expression_attribute_names("#status", attribute::STATUS)
            .expression_attribute_names("#expires", attribute::EXPIRES_AT)
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":now", number(now))
            .into_paginator()
            .items()
            .send();
        let mut open = Vec::new();
        while let Some(item) = within(pages.next()).await? {
            let item = item.map_err(|error| self.unavailable("Scan", &aws_error::line(&error)))?;
            open.extend(string(&item, attribute::REQUEST).map(|request| Listed {
                request: request.as_bytes().to_vec(),
                attended: !item.contains_key(attribute::LEFT_AT),
                tokens: strings(&item, attribute::DECISIONS),
            }));
        }
        Ok(open)
    }

    async fn pointer(&self, key: &str) -> Result<Option<RequestId>, StoreError> {
        let id = text(&format!("{AGAIN_PREFIX}{key}"));
        let get = self.client.get_item().table_name(&self.table).key(attribute::ID, id).consistent_read(true);
        let answer = within(get.send()).await?.map_err(|error| self.unavailable("GetItem", &aws_error::line(&error)))?;
        Ok(answer.item().and_then(|item| string(item, attribute::POINTS_TO)).and_then(|id| RequestId::parse(id).ok()))
    }

    async fn point(&self, key: &str, from: Option<&RequestId>, to: &RequestId, forget_at: u64) -> Result<bool, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(attribute::ID, text(&format!("{AGAIN_PREFIX}{key}")))
            .item(attribute::POINTS_TO, text(to.as_str()))
            .item(attribute::TTL, number(forget_at))
            .expression_attribute_names("#to", attribute::POINTS_TO)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match from {
            // What is no id counts as no pointer, or rubbish would stand in the way for ever.
            None => {
                put.condition_expression("attribute_not_exists(#to) OR size(#to) <> :uuid").expression_attribute_values(":uuid", number(36))
            }
            Some(from) => put.condition_expression("#to = :from").expression_attribute_values(":from", text(from.as_str())),
        };
        match within(put.send()).await? {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(error)) => match error.into_err() {
                // Ids are unique to the attempt: finding ours means that an earlier try of this very call got through.
                PutItemError::ConditionalCheckFailedException(failed) => {
                    Ok(failed.item().and_then(|item| string(item, attribute::POINTS_TO)) == Some(to.as_str()))
                }
                other => Err(self.unavailable("PutItem", &aws_error::service(&other))),
            },
            Err(error) => Err(self.unavailable("PutItem", &aws_error::line(&error))),
        }
    }

    async fn attend(&self, id: &RequestId, left_at: Option<u64>) -> Result<(), StoreError> {
        let update = self
            .update(id)
            .condition_expression("#status = :open")
            .expression_attribute_names("#left", attribute::LEFT_AT)
            .expression_attribute_values(":open", text(Status::Open.as_str()));
        let update = match left_at {
            Some(at) => update.update_expression("SET #left = :left").expression_attribute_values(":left", number(at)),
            None => update.update_expression("REMOVE #left"),
        };
        // A request that is closed meanwhile needs no note.
        self.send(update).await.map(|_| ())
    }

    async fn note_run(&self, id: &RequestId, digest: &StatementDigest, run: u32, now: u64) -> Result<bool, StoreError> {
        let update = self
            .update(id)
            .update_expression("SET #used = :run")
            .condition_expression("#status = :open AND #digest = :digest AND #expires > :now")
            .expression_attribute_names("#used", attribute::USED)
            .expression_attribute_names("#digest", attribute::DIGEST)
            .expression_attribute_names("#expires", attribute::EXPIRES_AT)
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":run", number(u64::from(run)))
            .expression_attribute_values(":digest", text(&digest.to_hex()))
            .expression_attribute_values(":now", number(now));
        Ok(self.send(update).await?.is_ok())
    }

    async fn close(&self, id: &RequestId, digest: Option<&StatementDigest>, closed: &Closed) -> Result<bool, StoreError> {
        let mut update = self
            .update(id)
            .update_expression("SET #status = :status, #by = :by, #at = :at, #why = :why")
            .expression_attribute_names("#by", attribute::CLOSED_BY)
            .expression_attribute_names("#at", attribute::CLOSED_AT)
            .expression_attribute_names("#why", attribute::WHY)
            .expression_attribute_values(":status", text(closed.status.as_str()))
            .expression_attribute_values(":by", text(&closed.by))
            .expression_attribute_values(":at", number(closed.at))
            .expression_attribute_values(":why", text(&closed.why))
            .expression_attribute_values(":open", text(Status::Open.as_str()));
        update = match digest {
            None => update.condition_expression("#status = :open"),
            Some(digest) => update
                .condition_expression("#status = :open AND #digest = :digest AND #expires > :now")
                .expression_attribute_names("#digest", attribute::DIGEST)
                .expression_attribute_names("#expires", attribute::EXPIRES_AT)
                .expression_attribute_values(":digest", text(&digest.to_hex()))
                .expression_attribute_values(":now", number(closed.at)),
        };
        Ok(match self.send(update).await? {
            Ok(()) => true,
            // The mark is unique to this call: finding it means that an earlier try of this very call got through.
            Err(item) => item.is_some_and(|item| string(&item, attribute::CLOSED_BY) == Some(closed.by.as_str())),
        })
    }

    async fn finish(&self, id: &RequestId, outcome: &str, _at: u64, forget_at: u64) -> Result<bool, StoreError> {
        let noted = |status: &str| {
            self.update(id)
                .expression_attribute_names("#outcome", attribute::OUTCOME)
                .expression_attribute_names("#ttl", attribute::TTL)
                .expression_attribute_values(":outcome", text(outcome))
                .expression_attribute_values(":ttl", number(forget_at))
                .expression_attribute_values(":was", text(status))
        };
        let consumed = noted(Status::Consumed.as_str())
            .condition_expression("#status = :was")
            .update_expression("SET #status = :finished, #outcome = :outcome, #ttl = :ttl")
            .expression_attribute_values(":finished", text(Status::Finished.as_str()));
        let Err(item) = self.send(consumed).await? else { return Ok(true) };
        // What was never consumed keeps its status and may be forgotten as well.
        let status = item.as_ref().and_then(|item| string(item, attribute::STATUS)).and_then(Status::parse);
        let Some(status @ (Status::Denied | Status::Cancelled | Status::Expired)) = status else { return Ok(false) };
        let closed = noted(status.as_str())
            .condition_expression("#status = :was AND attribute_not_exists(#outcome)")
            .update_expression("SET #outcome = :outcome, #ttl = :ttl");
        Ok(self.send(closed).await?.is_ok())
    }
}

/// Bounds a call in time: a hold must not hang on a connection that never answers.
async fn within<T>(call: impl Future<Output = T>) -> Result<T, StoreError> {
    tokio::time::timeout(TIMEOUT, call)
        .await
        .map_err(|_| StoreError::Unavailable(format!("no answer from DynamoDB within {} s", TIMEOUT.as_secs())))
}

fn snapshot(item: &Item) -> Snapshot {
    let mut questions = strings(item, attribute::QUESTIONS);
    questions.truncate(MAX_QUESTIONS);
    Snapshot {
        tokens: strings(item, attribute::DECISIONS),
        questions,
        status: string(item, attribute::STATUS).and_then(Status::parse),
        why: string(item, attribute::WHY).map(ToOwned::to_owned),
        card_error: string(item, attribute::CARD_ERROR).map(ToOwned::to_owned),
    }
}

fn strings(item: &Item, name: &str) -> Vec<String> {
    match item.get(name) {
        Some(AttributeValue::L(list)) => list.iter().filter_map(|text| text.as_s().ok().cloned()).collect(),
        _ => Vec::new(),
    }
}

fn string<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}
