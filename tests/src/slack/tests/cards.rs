//! The bot's real cards of requests of every size, held against what the look-alike, and Slack, would refuse.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use countersign_approval::item::{CardState, Status};
use countersign_approval::v1::{RequestParameter, Requester};
use countersign_approval::{Request, RequestId, StatementDigest, VerifyingKeys};
use countersign_bot::card::{self, View};
use countersign_bot::store::Stored;
use countersign_bot::visible;
use serde_json::Value;

use super::super::blocks::{Surface, plain, problems};

fn request(statement: String) -> Result<Request> {
    let mut request = Request {
        version: 1,
        id: RequestId::from_bytes([7; 16]),
        environment: "demo".to_owned(),
        created_at: 1_800_000_000,
        expires_at: 1_800_000_900,
        statement,
        parameters: Vec::new(),
        digest: StatementDigest::compute(b"", [].into_iter()),
        requester: Requester {
            issuer: "https://issuer.example".to_owned(),
            subject: "ci".to_owned(),
            email: None,
            groups: Vec::new(),
            claims: BTreeMap::new(),
        },
        database: "bank".to_owned(),
        policy: "ab".repeat(32),
        rule: "ci-writes".to_owned(),
        reason: "a CI job wants to change data".to_owned(),
        reviewers: vec!["dba-oncall".to_owned()],
        quorum: 1,
        runs: 1,
        step_up: false,
        facts: Vec::new(),
        session: "s".to_owned(),
        sources: Vec::new(),
    };
    request.digest = request.compute_digest()?;
    Ok(request)
}

/// The card's blocks, and whether it can be approved.
fn made(request: &Request) -> Result<(Vec<Value>, bool)> {
    let (keys, fingerprint) = (VerifyingKeys::default(), request.fingerprint());
    let stored = Stored {
        request: request.to_bytes()?,
        status: Status::Open,
        why: None,
        outcome: None,
        tokens: Vec::new(),
        card: CardState::default(),
        left_at: None,
        used: None,
        questions: Vec::new(),
    };
    let card = card::card(&View::of(request, &fingerprint, &stored, &keys));
    let blocks = card.message.blocks.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    Ok((blocks, card.approvable))
}

/// All texts of a block, one after the other as they stand, without anything between.
fn joined(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => match map.get("text") {
            Some(Value::String(text)) => out.push_str(text),
            _ => map.values().for_each(|value| joined(value, out)),
        },
        Value::Array(list) => list.iter().for_each(|value| joined(value, out)),
        _ => {}
    }
}

/// Puts a text into a request at one place.
type Put = fn(&mut Request, String);

#[test]
fn slack_takes_cards_of_every_size_and_what_can_be_approved_is_shown_whole() -> Result<()> {
    let fillers = ["x", "😀", "é\n", "<!channel> ", "\u{202e}", " ", "\u{10fffd}x"];
    let sizes = [1, 199, 201, 2_799, 2_801, 2_899, 2_900, 2_901, 2_999, 3_001, 5_799, 5_801, 8_500, 9_001, 20_000];
    let places: [(&str, Put); 7] = [
        ("statement", |request, text| request.statement = text),
        ("value", |request, text| request.parameters = vec![RequestParameter::new(25, 0, Some(text.as_bytes()))]),
        ("claim", |request, text| drop(request.requester.claims.insert(text.clone(), text))),
        ("subject and reason", |request, text| (request.requester.subject, request.reason) = (text.clone(), text)),
        ("groups and reviewers", |request, text| (request.requester.groups, request.reviewers) = (vec![text.clone()], vec![text])),
        ("fact", |request, text| request.facts = vec![("runs".to_owned(), text)]),
        ("many facts", |request, text| request.facts = text.chars().map(|char| ("note".to_owned(), char.to_string())).collect()),
    ];
    let mut approvable = 0;
    for (place, put) in places {
        for filler in fillers {
            for size in sizes {
                let text = filler.repeat(size / visible::units(filler) + 1);
                let mut request = request("delete from ledger".to_owned())?;
                put(&mut request, text);
                request.digest = request.compute_digest()?;
                let (blocks, can) = made(&request)?;
                let found = problems(&blocks, Surface::Message);
                ensure!(found.is_empty(), "{place}, {size} of {filler:?}: {found:?}");
                let label = |block: &Value| plain(block).contains("Approve");
                let buttons = blocks.iter().filter(|block| block.get("type").and_then(Value::as_str) == Some("actions"));
                ensure!(buttons.clone().any(label) == can, "{place}, {size} of {filler:?}: the button does not fit the card");
                if !can {
                    continue;
                }
                approvable += 1;
                let mut all = String::new();
                blocks.iter().for_each(|block| joined(block, &mut all));
                let shown = visible::text(&request.statement).text;
                ensure!(all.contains(&shown), "{place}, {size} of {filler:?}: the statement is not shown whole");
                for (_, value) in &request.facts {
                    ensure!(all.contains(&visible::line(value)), "{place}, {size} of {filler:?}: a fact is not shown whole");
                }
            }
        }
    }
    ensure!(approvable > 150, "hardly a card can be approved: {approvable}");
    Ok(())
}
