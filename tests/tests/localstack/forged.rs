//! What an attacker with the approvals table in hand can write, and that none of it opens a hold, nor keeps a true approval from opening it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_approval::Request;
use countersign_approval::item::attribute;
use countersign_e2e::pki;
use countersign_e2e::scenario::{count, forge, hold, wait_for_card_text, wait_for_count};
use countersign_e2e::slack::Card;
use countersign_e2e::stack::Stack;
use sha2::{Digest as _, Sha256};

use super::{deployed, on_localstack};

/// The table, as somebody sees it who may do everything with it.
struct Table {
    client: Client,
    name: String,
}

impl Table {
    async fn open(stack: &Stack) -> Result<Self> {
        let (instance, deployed) = deployed(stack)?;
        Ok(Self { client: Client::new(&instance.sdk_config().await), name: deployed.table.clone() })
    }

    async fn item(&self, id: &str) -> Result<HashMap<String, AttributeValue>> {
        let key = AttributeValue::S(id.to_owned());
        let answer = self.client.get_item().table_name(&self.name).key(attribute::ID, key).consistent_read(true).send().await?;
        answer.item.with_context(|| format!("no item {id}"))
    }

    async fn request(&self, id: &str) -> Result<Request> {
        let item = self.item(id).await?;
        let text = item.get(attribute::REQUEST).and_then(|value| value.as_s().ok()).context("the item holds no request")?;
        Ok(serde_json::from_str(text)?)
    }

    async fn tokens(&self, id: &str) -> Result<Vec<String>> {
        let item = self.item(id).await?;
        let list = item.get(attribute::DECISIONS).and_then(|value| value.as_l().ok()).context("the item holds no decisions")?;
        Ok(list.iter().filter_map(|token| token.as_s().ok().cloned()).collect())
    }

    async fn update(&self, id: &str, expression: &str, name: &str, value: AttributeValue) -> Result<()> {
        let update = self.client.update_item().table_name(&self.name).key(attribute::ID, AttributeValue::S(id.to_owned()));
        let update = update.update_expression(expression).expression_attribute_names("#name", name);
        update.expression_attribute_values(":value", value).send().await?;
        Ok(())
    }

    async fn set(&self, id: &str, name: &str, text: &str) -> Result<()> {
        self.update(id, "SET #name = :value", name, AttributeValue::S(text.to_owned())).await
    }

    /// The item as it was.
    async fn put(&self, item: HashMap<String, AttributeValue>) -> Result<()> {
        self.client.put_item().table_name(&self.name).set_item(Some(item)).send().await?;
        Ok(())
    }

    /// Appends a token, as the bot would.
    async fn plant(&self, id: &str, token: &str) -> Result<()> {
        let list = AttributeValue::L(vec![AttributeValue::S(token.to_owned())]);
        self.update(id, "SET #name = list_append(#name, :value)", attribute::DECISIONS, list).await
    }

    /// Replaces the request by another, with or without the index of its digest.
    async fn replace(&self, id: &str, request: &Request, with_digest: bool) -> Result<()> {
        self.set(id, attribute::REQUEST, &String::from_utf8(request.to_bytes()?)?).await?;
        if with_digest { self.set(id, attribute::DIGEST, &request.digest.to_hex()).await } else { Ok(()) }
    }
}

/// Id of the key KMS signs decisions with.
fn our_key_id(stack: &Stack) -> Result<String> {
    let pem = std::fs::read_to_string(&stack.decision_key.public)?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(hex::encode(Sha256::digest(STANDARD.decode(body)?)).get(..16).context("no key id")?.to_owned())
}

#[test]
fn forged_and_copied_decisions_open_nothing() -> Result<()> {
    on_localstack(|stack| async move {
        let table = Table::open(stack).await?;
        let first = hold(stack, "ci", "delete from ledger where id = 211").await?;
        let first_request = first.request.clone();
        ensure!(first.press(stack, "approve", "U0DANA", None).await.ok, "the press was not taken");
        ensure!(first.ended().await?.1? == 1, "one row");
        let genuine = table.tokens(&first_request).await?;
        ensure!(!genuine.is_empty(), "the approved request carries no decision");

        let pending = hold(stack, "ci", "delete from ledger where id = 210").await?;
        let claims = forge::approval(&table.request(&pending.request).await?, "lee", "T0BANK/U0LEE")?;
        let stranger = pki::signing_key(&stack.dir().join("attacker"), "decision")?;
        let ours = our_key_id(stack)?;
        for token in [
            forge::sign(&claims, &stranger.pem, &ours)?,
            forge::sign(&claims, &stranger.pem, &stranger.id)?,
            forge::unsigned(&claims, &ours)?,
            "not a token".to_owned(),
        ]
        .iter()
        .chain(&genuine)
        {
            table.plant(&pending.request, token).await?;
        }
        pending.must_wait().await?;
        ensure!(count(stack, "select count(*) from ledger where id = 210").await? == 1, "a forged decision opened the hold");
        stack.proxy.wait_for_log("decision in the store does not count", Duration::from_secs(5)).await?;
        // Somebody who has not voted yet, and whom the tokens above name.
        ensure!(pending.press(stack, "approve", "U0LEE", None).await.ok, "the press was not taken");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}

#[test]
fn a_consumed_grant_set_back_to_open_opens_nothing() -> Result<()> {
    on_localstack(|stack| async move {
        let table = Table::open(stack).await?;
        let sql = "delete from ledger where id = 213";
        let first = hold(stack, "ci", sql).await?;
        let first_request = first.request.clone();
        ensure!(first.press(stack, "approve", "U0DANA", None).await.ok, "the press was not taken");
        // The session lives on, so whoever would run it again could.
        let (_session, result) = first.ended().await?;
        ensure!(result? == 1, "one row");
        let genuine = table.tokens(&first_request).await?;
        stack.upstream.oracle().await?.batch_execute("insert into ledger values (213, 'back again')").await?;
        let over = |card: &Card| card.request.as_ref() == Some(&first_request) && card.buttons.is_empty();
        stack.slack.wait_for_card(Duration::from_secs(30), over).await?;

        let pending = hold(stack, "ci", sql).await?;
        ensure!(pending.request != first_request, "a consumed request must not be used again");
        // Not before the new card is there: the old one can be decided on again from here on.
        table.set(&first_request, attribute::STATUS, "open").await?;
        for token in &genuine {
            table.plant(&pending.request, token).await?;
        }
        pending.must_wait().await?;
        ensure!(pending.press(stack, "deny", "U0LEE", Some("replayed")).await.ok, "the press was not taken");
        ensure!(pending.ended().await?.1.is_err(), "it ran on a replayed grant");
        wait_for_count(stack, "select count(*) from ledger where id = 213", 1).await
    })
}

#[test]
fn an_approval_of_another_text_opens_nothing() -> Result<()> {
    on_localstack(|stack| async move {
        let table = Table::open(stack).await?;
        let pending = hold(stack, "ci", "delete from ledger where id = 212").await?;
        let id = pending.request.as_str();
        let held = table.request(id).await?;
        let mut benign = held.clone();
        benign.statement = "select 'only looking at 212'".to_owned();

        // The digest of the held text beside another text: the bot signs nothing.
        table.replace(id, &benign, false).await?;
        let _ = pending.press(stack, "approve", "U0DANA", None).await;
        pending.must_wait().await?;
        ensure!(table.tokens(id).await?.is_empty(), "the bot signed a request whose digest does not fit");

        // Text and digest that fit each other: a reviewer approves what they see, which is not what is held.
        benign.digest = benign.compute_digest()?;
        table.replace(id, &benign, true).await?;
        wait_for_card_text(stack, id, "only looking at 212").await?;
        let outcome = pending.press(stack, "approve", "U0LEE", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        pending.must_wait().await?;
        ensure!(table.tokens(id).await?.len() == 1, "the altered request was not approved, so nothing was shown");
        ensure!(count(stack, "select count(*) from ledger where id = 212").await? == 1, "an approval of another text opened the hold");

        table.replace(id, &held, true).await?;
        wait_for_card_text(stack, id, "delete from ledger where id = 212").await?;
        let outcome = pending.press(stack, "approve", "U0DANA", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}

/// Each attribute of an item in turn is replaced by something of another type and by another text, and taken away, while one of two people has
/// approved: it never runs by that, and once the item is what it was, the second approval opens it, once.
#[test]
fn whatever_is_written_over_an_attribute_opens_nothing() -> Result<()> {
    on_localstack(|stack| async move {
        let table = Table::open(stack).await?;
        let pending = hold(stack, "ci", "delete from vault where id = 7").await?;
        let id = pending.request.as_str();
        let outcome = pending.press(stack, "approve", "U0DANA", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        let voted = |card: &Card| card.request.as_deref() == Some(id) && card.plain.contains("1 of 2 approvals");
        stack.slack.wait_for_card(Duration::from_secs(60), voted).await?;
        let genuine = table.item(id).await?;
        let one = table.tokens(id).await?;
        let twice = AttributeValue::L(one.iter().chain(&one).map(|token| AttributeValue::S(token.clone())).collect());
        let alone = AttributeValue::S(one.concat());
        let mut benign = table.request(id).await?;
        benign.quorum = 1;
        let weaker = AttributeValue::S(String::from_utf8(benign.to_bytes()?)?);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: &str| AttributeValue::N(number.to_owned());
        let cases = [
            (attribute::REQUEST, vec![weaker, text("{}"), number("1")]),
            (attribute::STATUS, vec![text("approved"), text("granted"), number("1")]),
            (attribute::DIGEST, vec![text(&"0".repeat(64)), AttributeValue::L(Vec::new())]),
            (attribute::EXPIRES_AT, vec![number("9999999999"), text("never")]),
            (attribute::DECISIONS, vec![twice, alone, AttributeValue::L(Vec::new()), number("2")]),
            (attribute::VOTERS, vec![AttributeValue::Ss(vec!["person:nobody".to_owned()]), text("person:dana")]),
            (attribute::WHY, vec![text("approved by everybody"), number("1")]),
            (attribute::OUTCOME, vec![text("done")]),
            (attribute::CLOSED_BY, vec![text("me")]),
            (attribute::CARD_TS, vec![text("1.1"), number("1")]),
            (attribute::CARD_CHANNEL, vec![text("C0NOWHERE")]),
            (attribute::CARD_SHOWN, vec![text("00")]),
            (attribute::CARD_CLAIM, vec![number("9999999999"), text("x")]),
            (attribute::CARD_ERROR, vec![text("\u{1b}[2Jall is well")]),
            (attribute::LEFT_AT, vec![number("1"), text("x")]),
            (attribute::USED, vec![number("0"), text("-1")]),
            (attribute::QUESTIONS, vec![text("who?"), AttributeValue::L(vec![number("1")])]),
            (attribute::TTL, vec![number("9999999999")]),
        ];
        for (name, values) in cases {
            for (value, first) in values.into_iter().zip(std::iter::once(true).chain(std::iter::repeat(false))) {
                table.update(id, "SET #name = :value", name, value).await?;
                if first {
                    // Whoever approved already tries again on what stands there now.
                    let _ = pending.press(stack, "approve", "U0DANA", None).await;
                }
            }
            ensure!(pending.is_held(), "{name}: the hold opened");
            table.put(genuine.clone()).await?;
        }
        pending.must_wait().await?;
        ensure!(count(stack, "select count(*) from vault where id = 7").await? == 1, "it ran with one approval of two");
        table.put(genuine).await?;
        let outcome = pending.press(stack, "approve", "U0LEE", None).await;
        ensure!(outcome.ok, "{outcome:?}");
        ensure!(pending.ended().await?.1? == 1, "one row");
        Ok(())
    })
}
