//! The bot's side of the DynamoDB store. Names and access patterns: [`countersign_approval::item`].

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use countersign_approval::RequestId;
use countersign_approval::item::{CardState, Closed, MAX_QUESTIONS, PRESS_PREFIX, Status, attribute};

use super::{Appended, Store, StoreError, Stored, Vote};

type Item = HashMap<String, AttributeValue>;

/// Requests as items of one table.
#[derive(Debug, Clone)]
pub struct Dynamo {
    client: Client,
    table: String,
}

impl Dynamo {
    /// A store in this table.
    #[must_use]
    pub const fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    fn fault(&self, call: &str, why: &str) -> StoreError {
        StoreError { place: format!("table {}", self.table), why: format!("{call}: {why}") }
    }

    async fn ids(&self, scan: ScanFluentBuilder) -> Result<Vec<RequestId>, StoreError> {
        let mut pages = scan.into_paginator().items().send();
        let mut ids = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.fault("Scan", &countersign_aws_error::line(&error)))?;
            ids.extend(string(&item, attribute::ID).and_then(|id| RequestId::parse(id).ok()));
        }
        Ok(ids)
    }

    fn update(&self, id: &RequestId) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key(attribute::ID, text(id.as_str()))
    }

    /// Sends a conditional update: `Ok(Ok(()))` when done, `Ok(Err(item))` with the item that was in the way.
    async fn send(&self, update: UpdateItemFluentBuilder) -> Result<Result<(), Option<Item>>, StoreError> {
        let update = update.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(Ok(())),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => match error.into_err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => Ok(Err(failed.item().cloned())),
                other => Err(self.fault("UpdateItem", &countersign_aws_error::service(&other))),
            },
            Err(error) => Err(self.fault("UpdateItem", &countersign_aws_error::line(&error))),
        }
    }
}

#[async_trait]
impl Store for Dynamo {
    async fn check(&self) -> Result<(), StoreError> {
        // The bot's role may read and update items, not describe the table.
        let probe = self.client.get_item().table_name(&self.table).key(attribute::ID, text("probe")).send().await;
        probe.map(|_| ()).map_err(|error| self.fault("GetItem", &countersign_aws_error::line(&error)))
    }

    async fn get(&self, id: &RequestId) -> Result<Option<Stored>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(attribute::ID, text(id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| self.fault("GetItem", &countersign_aws_error::line(&error)))?;
        Ok(answer.item().and_then(stored))
    }

    async fn list(&self) -> Result<Vec<RequestId>, StoreError> {
        let scan = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("attribute_exists(#request)")
            .projection_expression("#id")
            .expression_attribute_names("#request", attribute::REQUEST)
            .expression_attribute_names("#id", attribute::ID);
        self.ids(scan).await
    }

    async fn unsettled(&self) -> Result<Vec<RequestId>, StoreError> {
        let scan = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("#status = :open")
            .projection_expression("#id")
            .expression_attribute_names("#status", attribute::STATUS)
            .expression_attribute_names("#id", attribute::ID)
            .expression_attribute_values(":open", text(Status::Open.as_str()));
        self.ids(scan).await
    }

    async fn append(&self, id: &RequestId, vote: &Vote<'_>) -> Result<Appended, StoreError> {
        let [person, account] = vote.voters;
        let mut set = "SET #decisions = list_append(#decisions, :token)".to_owned();
        let mut update = self
            .update(id)
            .condition_expression(
                "#status = :open AND #expires > :now AND NOT contains(#voters, :person) AND NOT contains(#voters, :account)",
            )
            .expression_attribute_names("#decisions", attribute::DECISIONS)
            .expression_attribute_names("#status", attribute::STATUS)
            .expression_attribute_names("#expires", attribute::EXPIRES_AT)
            .expression_attribute_names("#voters", attribute::VOTERS)
            .expression_attribute_values(":token", AttributeValue::L(vec![text(vote.token)]))
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":now", number(vote.now))
            .expression_attribute_values(":person", text(person))
            .expression_attribute_values(":account", text(account))
            .expression_attribute_values(":voters", AttributeValue::Ss(vec![person.clone(), account.clone()]));
        if let Some(closed) = &vote.close {
            set.push_str(", #status = :status, #by = :by, #at = :at, #why = :why");
            update = update
                .expression_attribute_names("#by", attribute::CLOSED_BY)
                .expression_attribute_names("#at", attribute::CLOSED_AT)
                .expression_attribute_names("#why", attribute::WHY)
                .expression_attribute_values(":status", text(closed.status.as_str()))
                .expression_attribute_values(":by", text(&closed.by))
                .expression_attribute_values(":at", number(closed.at))
                .expression_attribute_values(":why", text(&closed.why));
        }
        let Err(item) = self.send(update.update_expression(format!("{set} ADD #voters :voters"))).await? else {
            return Ok(Appended::Done);
        };
        let Some(item) = item else { return Ok(Appended::NotOpen) };
        // The SDK repeats a write whose answer was lost: finding this very token means that it got through.
        if strings(&item, attribute::DECISIONS).iter().any(|token| token == vote.token) {
            return Ok(Appended::Done);
        }
        let voted = item.get(attribute::VOTERS).and_then(|voters| voters.as_ss().ok());
        let voted = voted.is_some_and(|voted| voted.contains(person) || voted.contains(account));
        Ok(if voted { Appended::AlreadyVoted } else { Appended::NotOpen })
    }

    async fn close(&self, id: &RequestId, closed: &Closed) -> Result<bool, StoreError> {
        let update = self
            .update(id)
            .update_expression("SET #status = :status, #by = :by, #at = :at, #why = :why")
            .condition_expression("#status = :open")
            .expression_attribute_names("#status", attribute::STATUS)
            .expression_attribute_names("#by", attribute::CLOSED_BY)
            .expression_attribute_names("#at", attribute::CLOSED_AT)
            .expression_attribute_names("#why", attribute::WHY)
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":status", text(closed.status.as_str()))
            .expression_attribute_values(":by", text(&closed.by))
            .expression_attribute_values(":at", number(closed.at))
            .expression_attribute_values(":why", text(&closed.why));
        Ok(self.send(update).await?.is_ok())
    }

    async fn take_once(&self, key: &str, forget_at: u64) -> Result<bool, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(attribute::ID, text(&format!("{PRESS_PREFIX}{key}")))
            .item(attribute::TTL, number(forget_at))
            .condition_expression("attribute_not_exists(#id)")
            .expression_attribute_names("#id", attribute::ID);
        match put.send().await {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(false),
            Err(error) => Err(self.fault("PutItem", &countersign_aws_error::line(&error))),
        }
    }

    async fn ask(&self, id: &RequestId, question: &str) -> Result<bool, StoreError> {
        let update = self
            .update(id)
            .update_expression("SET #questions = list_append(if_not_exists(#questions, :none), :question)")
            .condition_expression("#status = :open AND (attribute_not_exists(#questions) OR size(#questions) < :most)")
            .expression_attribute_names("#questions", attribute::QUESTIONS)
            .expression_attribute_names("#status", attribute::STATUS)
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":question", AttributeValue::L(vec![text(question)]))
            .expression_attribute_values(":open", text(Status::Open.as_str()))
            .expression_attribute_values(":most", AttributeValue::N(MAX_QUESTIONS.to_string()));
        Ok(self.send(update).await?.is_ok())
    }

    async fn claim_card(&self, id: &RequestId, now: u64, until: u64) -> Result<bool, StoreError> {
        let update = self
            .update(id)
            .update_expression("SET #claim = :until")
            .condition_expression(
                "attribute_exists(#request) AND attribute_not_exists(#ts) AND (attribute_not_exists(#claim) OR #claim <= :now)",
            )
            .expression_attribute_names("#request", attribute::REQUEST)
            .expression_attribute_names("#ts", attribute::CARD_TS)
            .expression_attribute_names("#claim", attribute::CARD_CLAIM)
            .expression_attribute_values(":until", number(until))
            .expression_attribute_values(":now", number(now));
        Ok(self.send(update).await?.is_ok())
    }

    async fn save_card(&self, id: &RequestId, card: &CardState) -> Result<(), StoreError> {
        let (mut set, mut remove) = (Vec::new(), vec!["#claim".to_owned()]);
        let mut update = self
            .update(id)
            .condition_expression("attribute_exists(#request)")
            .expression_attribute_names("#request", attribute::REQUEST)
            .expression_attribute_names("#claim", attribute::CARD_CLAIM);
        let fields = [
            ("channel", attribute::CARD_CHANNEL, &card.channel),
            ("ts", attribute::CARD_TS, &card.ts),
            ("shown", attribute::CARD_SHOWN, &card.shown),
            ("error", attribute::CARD_ERROR, &card.error),
        ];
        for (short, name, value) in fields {
            update = update.expression_attribute_names(format!("#{short}"), name);
            match value {
                Some(value) => {
                    set.push(format!("#{short} = :{short}"));
                    update = update.expression_attribute_values(format!(":{short}"), text(value));
                }
                None => remove.push(format!("#{short}")),
            }
        }
        let set = if set.is_empty() { String::new() } else { format!("SET {} ", set.join(", ")) };
        // An item that is gone needs no card.
        let _gone = self.send(update.update_expression(format!("{set}REMOVE {}", remove.join(", ")))).await?;
        Ok(())
    }
}

fn stored(item: &Item) -> Option<Stored> {
    let own = |name: &str| string(item, name).map(ToOwned::to_owned);
    Some(Stored {
        request: own(attribute::REQUEST)?.into_bytes(),
        status: string(item, attribute::STATUS).and_then(Status::parse)?,
        why: own(attribute::WHY),
        outcome: own(attribute::OUTCOME),
        tokens: strings(item, attribute::DECISIONS),
        left_at: integer(item, attribute::LEFT_AT),
        used: integer(item, attribute::USED).and_then(|used| used.try_into().ok()),
        questions: strings(item, attribute::QUESTIONS),
        card: CardState {
            channel: own(attribute::CARD_CHANNEL),
            ts: own(attribute::CARD_TS),
            shown: own(attribute::CARD_SHOWN),
            error: own(attribute::CARD_ERROR),
        },
    })
}

fn integer(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn strings(item: &Item, name: &str) -> Vec<String> {
    match item.get(name) {
        Some(AttributeValue::L(list)) => list.iter().filter_map(|token| token.as_s().ok().cloned()).collect(),
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
