//! Reviewers by a group of the identity provider: only a verified token shows who is in it, so each of their decisions takes a sign-in.

use std::collections::BTreeMap;

use countersign_approval::v2::{ReviewerSource, Source};
use countersign_approval::{Decision, GrantError, Request, UnverifiedDecision};
use countersign_bot::card::action::{APPROVE, REASON};
use countersign_bot::cards;
use serde_json::{Value, json};

use super::stand_in::{self, button};
use super::web::{form, with};
use super::{Bank, Browser, pairs};

const USERGROUP: &str = "S0DBA";

/// A bank whose `dba` are, beside the people listed, whoever is in a user group of Slack's or in the provider's `db-admins`.
async fn bank(issuer: Option<&str>) -> Bank {
    let bank = Bank::open().await;
    let issuer = issuer.unwrap_or_else(|| bank.issuer.url()).to_owned();
    let path = bank.world.folder.path().join("policy.toml");
    let policy = std::fs::read_to_string(&path).unwrap();
    let group = format!(
        "[[reviewer_groups]]\nname = \"dba\"\nslack_usergroup = \"T0BANK/{USERGROUP}\"\n\
         identity_provider_group = {{ issuer = \"{issuer}\", group = \"db-admins\" }}\n"
    );
    std::fs::write(path, format!("{policy}\n{group}")).unwrap();
    let mut told = bank.world.told.lock().unwrap();
    told.users.insert("U0LEE", json!({"profile": {"email": "lee@bank.example"}}));
    told.users.insert("U0MIA", json!({"profile": {"email": "mia@bank.example"}}));
    told.usergroups.insert(USERGROUP, Ok(vec![]));
    drop(told);
    bank
}

impl Bank {
    fn held(&self, issuer: &str, needed: u32) -> Request {
        let mut held = stand_in::request("drop table accounts", needed);
        held.policy = self.request().policy;
        held.version = 2;
        let source = |by: Source| ReviewerSource { group: "dba".to_owned(), by, machine_issuers: Vec::new() };
        held.sources = vec![
            source(Source::SlackUsergroup { team: "T0BANK".to_owned(), id: USERGROUP.to_owned() }),
            source(Source::IdentityProviderGroup { issuer: issuer.to_owned(), group: "db-admins".to_owned() }),
        ];
        self.world.lay(&held);
        held
    }

    /// What ID tokens say of whoever signs in from now on.
    fn tokens_say(&self, changes: &[(&str, Value)]) {
        self.issuer.set_id_token_changes(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
    }

    async fn decisions(&self, request: &Request) -> Vec<Decision> {
        let stored = self.world.bot.store.get(&request.id).await.unwrap().unwrap();
        stored.tokens.iter().map(|token| UnverifiedDecision::new(token).verify(self.world.bot.signer.public()).unwrap()).collect()
    }

    async fn card(&self, request: &Request) -> String {
        cards::sync(&self.world.bot, &request.id).await.unwrap();
        button(&self.world.calls("chat.postMessage").pop().unwrap(), APPROVE).unwrap()
    }

    /// The link a presser is answered with.
    async fn link(&self, user: &str, reference: &str) -> String {
        let answer = self.world.press(user, APPROVE, reference).await.replace("&amp;", "&");
        assert!(answer.contains("nothing is decided yet"), "{answer}");
        answer.rsplit_once(' ').unwrap().1.to_owned()
    }

    /// From a link to what the callback says.
    async fn through(&self, link: &str, login: &str) -> (u16, String) {
        let mut browser = Browser::new();
        let form = self.at_the_provider(&mut browser, link).await;
        let back = self.sign_in(&mut browser, form, login).await;
        let page = browser.get(&back.location).await;
        (page.status, page.text)
    }
}

fn groups(of: &[&str]) -> Vec<(&'static str, Value)> {
    vec![("groups", json!(of))]
}

#[tokio::test]
async fn a_member_decides_on_the_page_and_after_a_press() {
    let bank = bank(None).await;
    let issuer = bank.issuer.url().to_owned();
    bank.tokens_say(&groups(&["staff", "db-admins"]));
    // On the page, with Slack down.
    let request = bank.held(&issuer, 1);
    super::web::slack_is_down(&bank);
    let mut lee = bank.at_the_page("lee").await;
    assert!(lee.get(&format!("{}/requests", bank.url)).await.text.contains(request.id.as_str()));
    let page = lee.get(&bank.page(&request)).await;
    assert!(page.text.contains(&format!("group db-admins of {issuer}")), "{}", page.text);
    // A question decides nothing.
    let asked = lee.post(&bank.page(&request), &with(&form(&page), &[("what", "ask"), ("question", "why <now>?")])).await;
    assert!(asked.status == 200 && asked.text.contains("put before the waiting client"), "{}", asked.text);
    let stored = bank.world.bot.store.get(&request.id).await.unwrap().unwrap();
    assert_eq!(stored.questions, ["lee@bank.example: why <now>?"]);
    assert!(stored.tokens.is_empty());
    let page = lee.get(&bank.page(&request)).await;
    assert!(page.text.contains("? lee@bank.example: why &lt;now&gt;?"), "{}", page.text);
    let empty = lee.post(&bank.page(&request), &with(&form(&page), &[("what", "ask"), ("question", " ")])).await;
    assert!(empty.status == 403 && empty.text.contains("in a few words"), "{}", empty.text);
    let done = lee.post(&bank.page(&request), &with(&form(&page), &[("what", "approve")])).await;
    assert!(done.text.contains("you approved"), "{}", done.text);
    assert_eq!(bank.approvals(&request).await.unwrap(), 1);
    let decision = bank.decisions(&request).await.remove(0);
    assert_eq!((decision.reviewer.person.as_str(), decision.reviewer.slack), ("lee@bank.example", format!("oidc/{issuer}|lee")));
    let by = Source::IdentityProviderGroup { issuer: issuer.clone(), group: "db-admins".to_owned() };
    assert_eq!(decision.snapshot.unwrap().memberships.remove(0).by, by);
    // By a press, which is answered with a link to sign in.
    bank.world.told.lock().unwrap().refuse_with = None;
    let request = bank.held(&issuer, 1);
    let reference = bank.card(&request).await;
    let link = bank.link("U0LEE", &reference).await;
    let (status, text) = bank.through(&link, "lee").await;
    assert!(status == 200 && text.contains("you approved"), "{text}");
    let decision = bank.decisions(&request).await.remove(0);
    assert_eq!((decision.reviewer.person.as_str(), decision.reviewer.slack.as_str()), ("lee@bank.example", "T0BANK/U0LEE"));
    assert_eq!(decision.step_up.unwrap().subject, "lee");
    assert_eq!(decision.snapshot.unwrap().memberships.remove(0).by, by);
    assert_eq!(bank.approvals(&request).await.unwrap(), 1);
    // A denial is for the page, and the presser is told so.
    let request = bank.held(&issuer, 1);
    let reference = bank.card(&request).await;
    let mut denial = bank.world.payload("U0LEE", REASON, &reference);
    denial["type"] = json!("view_submission");
    denial["view"] =
        json!({"callback_id": REASON, "private_metadata": reference, "state": {"values": {REASON: {REASON: {"value": "no no"}}}}});
    bank.world.send(&denial).await;
    assert!(bank.world.last_answer().contains(&format!("sign in at {}", bank.page(&request))), "{}", bank.world.last_answer());
    assert!(bank.decisions(&request).await.is_empty());
    let page = lee.get(&bank.page(&request)).await;
    lee.post(&bank.page(&request), &with(&form(&page), &[("what", "deny"), ("reason", "not today")])).await;
    assert!(matches!(bank.approvals(&request).await, Err(GrantError::Denied { by, .. }) if by == "lee@bank.example"));
}

#[tokio::test]
async fn a_token_that_does_not_show_it_is_nothing() {
    let bank = bank(None).await;
    let issuer = bank.issuer.url().to_owned();
    let cases: [(&str, Vec<(&str, Value)>); 9] = [
        ("no group", groups(&[])),
        ("another", groups(&["db-admin", "DB-ADMINS", " db-admins", "db-admins "])),
        ("no claim", vec![("groups", Value::Null)]),
        ("a list with something else in it", vec![("groups", json!(["db-admins", 1]))]),
        ("an object", vec![("groups", json!({"db-admins": true}))]),
        ("within another claim", vec![("groups", json!([])), ("roles", json!(["db-admins"]))]),
        ("an address nobody vouches for", vec![("groups", json!(["db-admins"])), ("email_verified", json!(false))]),
        ("somebody else's address", vec![("groups", json!(["db-admins"])), ("email", json!("mia@bank.example"))]),
        ("the requester's address", vec![("groups", json!(["db-admins"])), ("email", json!("Robin@bank.example"))]),
    ];
    for (name, changes) in cases {
        bank.tokens_say(&changes);
        let request = bank.held(&issuer, 1);
        let reference = bank.card(&request).await;
        let link = bank.link("U0LEE", &reference).await;
        let (status, text) = bank.through(&link, "lee").await;
        assert_eq!(status, 403, "{name}: {text}");
        assert!(bank.decisions(&request).await.is_empty(), "{name}");
    }
    // Who asked, by the subject at the provider, though the address is another.
    bank.tokens_say(&groups(&["db-admins"]));
    let mut own = bank.held(&issuer, 1);
    (own.requester.issuer, own.requester.subject) = (issuer.clone(), "lee".to_owned());
    own.id = stand_in::request("x", 1).id;
    bank.world.lay(&own);
    let reference = bank.card(&own).await;
    let link = bank.link("U0LEE", &reference).await;
    let (status, text) = bank.through(&link, "lee").await;
    assert!(status == 403 && text.contains("you asked for this yourself"), "{text}");
    // Out of the group, the next sign-in opens no page.
    bank.tokens_say(&groups(&["staff"]));
    let mut browser = Browser::new();
    let page = browser.post(&format!("{}/requests/sign-in", bank.url), &[]).await;
    let back = bank.sign_in(&mut browser, pairs(&page.location), "lee").await;
    assert!(browser.get(&back.location).await.text.contains("not in the roster"));
}

/// The policy names the same group at another issuer: tokens of the bot's own provider show nothing then.
#[tokio::test]
async fn a_group_of_another_issuer_is_another_group() {
    let elsewhere = "https://other.example";
    let bank = bank(Some(elsewhere)).await;
    bank.tokens_say(&groups(&["db-admins"]));
    let request = bank.held(elsewhere, 1);
    let reference = bank.card(&request).await;
    let link = bank.link("U0LEE", &reference).await;
    let (status, text) = bank.through(&link, "lee").await;
    assert!(status == 403 && text.contains("not in the roster"), "{text}");
    // Nor does a token that says it is from there.
    bank.issuer.set_id_token_changes(BTreeMap::from([("groups".to_owned(), json!(["db-admins"])), ("iss".to_owned(), json!(elsewhere))]));
    let link = bank.link("U0LEE", &reference).await;
    assert_eq!(bank.through(&link, "lee").await.0, 403);
    assert!(bank.decisions(&request).await.is_empty());
}

#[tokio::test]
async fn one_human_counts_once_whichever_way_they_come() {
    let bank = bank(None).await;
    let issuer = bank.issuer.url().to_owned();
    bank.world.told.lock().unwrap().usergroups.insert(USERGROUP, Ok(vec!["U0LEE"]));
    bank.tokens_say(&groups(&["db-admins"]));
    let mut lee = bank.at_the_page("lee").await;
    // By the user group of Slack first, then by the provider's.
    let request = bank.held(&issuer, 2);
    let reference = bank.card(&request).await;
    let page = lee.get(&bank.page(&request)).await;
    assert!(bank.world.press("U0LEE", APPROVE, &reference).await.contains("you approved"));
    let again = lee.post(&bank.page(&request), &with(&form(&page), &[("what", "approve")])).await;
    assert!(again.text.contains("decided on this request already"), "{}", again.text);
    // The other way round, and both at the very same moment.
    let request = bank.held(&issuer, 2);
    let reference = bank.card(&request).await;
    let page = lee.get(&bank.page(&request)).await;
    assert!(lee.post(&bank.page(&request), &with(&form(&page), &[("what", "approve")])).await.text.contains("you approved"));
    assert!(bank.world.press("U0LEE", APPROVE, &reference).await.contains("decided on this request already"));
    for _ in 0..5 {
        let race = bank.held(&issuer, 2);
        let reference = bank.card(&race).await;
        let filled = with(&form(&lee.get(&bank.page(&race)).await), &[("what", "approve")]);
        let address = bank.page(&race);
        tokio::join!(lee.post(&address, &filled), bank.world.press("U0LEE", APPROVE, &reference));
        assert!(matches!(bank.approvals(&race).await, Err(GrantError::Pending { found: 1, .. })), "one human, one vote");
    }
    // Dana is listed, and is in the provider's group under another subject with the same address: the roster knows one dana.
    let request = bank.held(&issuer, 2);
    let reference = bank.card(&request).await;
    assert!(bank.world.press("U0DANA", APPROVE, &reference).await.contains("you approved"));
    bank.tokens_say(&[("groups", json!(["db-admins"])), ("email", json!("dana@bank.example"))]);
    let mut second = bank.at_the_page("dana-privileged").await;
    let page = second.get(&bank.page(&request)).await;
    assert!(page.text.contains("is not dana") || page.text.contains("decided on this request already"), "{}", page.text);
    assert!(matches!(bank.approvals(&request).await, Err(GrantError::Pending { found: 1, .. })));
    // Two people are two.
    bank.tokens_say(&groups(&["db-admins"]));
    let mut mia = bank.at_the_page("mia").await;
    let page = mia.get(&bank.page(&request)).await;
    assert!(mia.post(&bank.page(&request), &with(&form(&page), &[("what", "approve")])).await.text.contains("you approved"));
    assert_eq!(bank.approvals(&request).await.unwrap(), 2);
}

#[tokio::test]
async fn where_slack_does_not_say_a_sign_in_does() {
    let bank = bank(None).await;
    let issuer = bank.issuer.url().to_owned();
    bank.tokens_say(&groups(&["db-admins"]));
    bank.world.told.lock().unwrap().usergroups.insert(USERGROUP, Err("internal_error"));
    let request = bank.held(&issuer, 1);
    let reference = bank.card(&request).await;
    let link = bank.link("U0LEE", &reference).await;
    let (status, text) = bank.through(&link, "lee").await;
    assert!(status == 200 && text.contains("you approved"), "{text}");
    // The top tier: a member by Slack's user group signs in besides, as the same person.
    bank.world.told.lock().unwrap().usergroups.insert(USERGROUP, Ok(vec!["U0LEE"]));
    bank.tokens_say(&groups(&[]));
    let mut top = bank.held(&issuer, 1);
    top.step_up = true;
    top.id = stand_in::request("x", 1).id;
    bank.world.lay(&top);
    let reference = bank.card(&top).await;
    let link = bank.link("U0LEE", &reference).await;
    let (status, text) = bank.through(&link, "mia").await;
    assert!(status == 403 && text.contains("is not lee@bank.example"), "{text}");
    let link = bank.link("U0LEE", &reference).await;
    let (status, text) = bank.through(&link, "lee").await;
    assert!(status == 200 && text.contains("you approved"), "{text}");
    assert_eq!(bank.approvals(&top).await.unwrap(), 1);
}
