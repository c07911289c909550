//! The bot's own pages: a reviewer without Slack, and what does not pass for one.

use countersign_approval::v1::RequestParameter;
use countersign_approval::{GrantError, Request, UnverifiedDecision};
use countersign_bot::card::action::{APPROVE, APPROVE_RUNS};
use countersign_bot::{cards, clock, lambda};
use serde_json::{Value, json};

use super::stand_in::{self, button};
use super::{Bank, Browser, Page, pairs};

/// The forms of a page: what each would send, without what people write.
fn forms(page: &Page) -> Vec<Vec<(String, String)>> {
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}="))?.1;
        Some(match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?.to_owned(),
            None => rest.split([' ', '>']).next()?.to_owned(),
        })
    };
    let fields = |form: &str| {
        let tags = form.split('<').filter(|tag| tag.starts_with("input "));
        tags.map(|tag| (attribute(tag, "name").unwrap(), attribute(tag, "value").unwrap())).collect()
    };
    page.text.split("<form ").skip(1).map(|form| fields(form.split("</form>").next().unwrap())).collect()
}

/// The form that decides, as the page gives it.
pub(super) fn form(page: &Page) -> Vec<(String, String)> {
    forms(page).into_iter().find(|form| form.iter().any(|(name, _)| name == "token")).unwrap()
}

pub(super) fn with(form: &[(String, String)], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let kept = form.iter().filter(|(name, _)| !more.iter().any(|(changed, _)| changed == name)).cloned();
    kept.chain(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).collect()
}

impl Bank {
    pub(super) fn page(&self, request: &Request) -> String {
        format!("{}/requests/{}", self.url, request.id)
    }

    fn plain(&self, statement: &str, quorum: u32) -> Request {
        let mut plain = stand_in::request(statement, quorum);
        plain.policy = self.request().policy;
        self.world.lay(&plain);
        plain
    }

    /// A browser in which somebody signed in for the pages.
    pub(super) async fn at_the_page(&self, login: &str) -> Browser {
        let mut browser = Browser::new();
        let page = browser.post(&format!("{}/requests/sign-in", self.url), &[]).await;
        assert_eq!(page.status, 303, "{}", page.text);
        let back = self.sign_in(&mut browser, pairs(&page.location), login).await;
        let page = browser.get(&back.location).await;
        assert_eq!((page.status, page.location.as_str()), (303, "/requests"), "{}", page.text);
        browser
    }

    async fn tokens(&self, request: &Request) -> usize {
        self.world.bot.store.get(&request.id).await.unwrap().unwrap().tokens.len()
    }
}

/// Slack says nothing at all from here on.
pub(super) fn slack_is_down(bank: &Bank) {
    bank.world.told.lock().unwrap().refuse_with = Some("internal_error");
}

#[tokio::test]
async fn a_reviewer_decides_without_slack() {
    let bank = Bank::open().await;
    slack_is_down(&bank);
    let approved = bank.plain("delete from accounts where id = $1", 1);
    assert!(cards::sync(&bank.world.bot, &approved.id).await.is_err(), "Slack is down");
    // Who has not signed in sees nothing, not even whether there is such a request.
    let mut browser = Browser::new();
    let nothing = browser.get(&bank.page(&approved)).await;
    let unknown = browser.get(&format!("{}/requests/00000000-0000-4000-8000-000000000000", bank.url)).await;
    assert_eq!(nothing.text.replace(approved.id.as_str(), ""), unknown.text.replace("00000000-0000-4000-8000-000000000000", ""));
    assert!(!nothing.text.contains("accounts"), "{}", nothing.text);

    // The way a link leads: sign in, and back to the request.
    let begin = forms(&nothing).remove(0);
    let page = browser.post(&format!("{}/requests/sign-in", bank.url), &begin).await;
    let back = bank.sign_in(&mut browser, pairs(&page.location), "dana").await;
    let page = browser.get(&back.location).await;
    assert_eq!((page.status, page.location), (303, format!("/requests/{}", approved.id)));
    let page = browser.get(&bank.page(&approved)).await;
    for part in [
        "delete from accounts where id = $1",
        "$1 int4 = 42",
        "repo:bank/ledger",
        "https://issuer.example",
        "bank/ledger",
        "writes from CI",
        "0 of 1 approval",
        "Signed in as dana",
        approved.id.as_str(),
        &approved.digest.to_hex(),
    ] {
        assert!(page.text.contains(part), "{part} is not on the page:\n{}", page.text);
    }
    let list = browser.get(&format!("{}/requests", bank.url)).await;
    assert!(list.text.contains(approved.id.as_str()) && !list.text.contains("delete from"), "{}", list.text);

    let filled = with(&form(&page), &[("what", "approve")]);
    let done = browser.post(&bank.page(&approved), &filled).await;
    assert!(done.status == 200 && done.text.contains("you approved"), "{}", done.text);
    assert_eq!(bank.approvals(&approved).await.unwrap(), 1);
    let stored = bank.world.bot.store.get(&approved.id).await.unwrap().unwrap();
    let decision = UnverifiedDecision::new(&stored.tokens[0]).verify(bank.world.bot.signer.public()).unwrap();
    assert_eq!((decision.reviewer.person.as_str(), decision.reviewer.slack.as_str()), ("dana", "T0BANK/U0DANA"));
    assert_eq!(decision.step_up.map(|step_up| step_up.subject).as_deref(), Some("dana"));
    assert_eq!(decision.shown, approved.fingerprint());

    // A denial, with a reason and not without.
    let denied = bank.plain("drop table accounts", 1);
    let page = browser.get(&bank.page(&denied)).await;
    let filled = with(&form(&page), &[("what", "deny"), ("reason", " ")]);
    assert!(browser.post(&bank.page(&denied), &filled).await.text.contains("in a few words"));
    assert_eq!(bank.tokens(&denied).await, 0);
    let filled = with(&filled, &[("reason", "not today <b>")]);
    assert!(browser.post(&bank.page(&denied), &filled).await.text.contains("you denied"));
    assert!(matches!(bank.approvals(&denied).await, Err(GrantError::Denied { reason, .. }) if reason == "not today <b>"));
    let page = browser.get(&bank.page(&denied)).await;
    assert!(
        page.text.contains("is denied already") && page.text.contains("not today &lt;b&gt;") && forms(&page).len() == 1,
        "{}",
        page.text
    );
    // Signed out, it is over.
    browser.post(&format!("{}/requests/sign-out", bank.url), &[]).await;
    assert!(!browser.get(&bank.page(&denied)).await.text.contains("drop table"));
}

#[tokio::test]
async fn one_person_is_one_vote_here_and_there() {
    let bank = Bank::open().await;
    let two = bank.plain("delete from accounts", 2);
    cards::sync(&bank.world.bot, &two.id).await.unwrap();
    let card = bank.world.calls("chat.postMessage").pop().unwrap();
    assert!(card.to_string().contains(&bank.page(&two)), "the card names the page: {card}");
    let mut dana = bank.at_the_page("dana").await;
    // The page was open before the press in Slack came.
    let page = dana.get(&bank.page(&two)).await;
    assert!(bank.world.press("U0DANA", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("you approved"));
    let again = dana.post(&bank.page(&two), &with(&form(&page), &[("what", "approve")])).await;
    assert!(again.status == 403 && again.text.contains("decided on this request already"), "{}", again.text);
    let page = dana.get(&bank.page(&two)).await;
    assert!(page.text.contains("you have decided") && page.text.contains("1 of 2"), "{}", page.text);
    assert!(matches!(bank.approvals(&two).await, Err(GrantError::Pending { found: 1, needed: 2, .. })));
    // The other way round, with somebody the roster knows by address in Slack.
    let mut erin = bank.at_the_page("erin").await;
    let page = erin.get(&bank.page(&two)).await;
    assert!(erin.post(&bank.page(&two), &with(&form(&page), &[("what", "approve")])).await.text.contains("you approved"));
    assert!(bank.world.press("U0ERIN", APPROVE, &button(&card, APPROVE).unwrap()).await.contains("already"));
    assert_eq!(bank.approvals(&two).await.unwrap(), 2);
    assert_eq!(bank.tokens(&two).await, 2);
    // Both at the very same moment.
    for _ in 0..5 {
        let race = bank.plain("delete from accounts where true", 2);
        cards::sync(&bank.world.bot, &race.id).await.unwrap();
        let card = bank.world.calls("chat.postMessage").pop().unwrap();
        let filled = with(&form(&dana.get(&bank.page(&race)).await), &[("what", "approve")]);
        let (address, reference) = (bank.page(&race), button(&card, APPROVE).unwrap());
        tokio::join!(dana.post(&address, &filled), bank.world.press("U0DANA", APPROVE, &reference));
        assert!(matches!(bank.approvals(&race).await, Err(GrantError::Pending { found: 1, .. })), "one person, one vote");
    }
}

#[tokio::test]
async fn who_may_not_decide_sees_nothing() {
    let bank = Bank::open().await;
    let request = bank.plain("delete from secrets", 1);
    // Outside of the roster: no session.
    for login in ["mallory", "robin", "Dana", "dana@bank.example"] {
        let mut browser = Browser::new();
        let page = browser.post(&format!("{}/requests/sign-in", bank.url), &[]).await;
        let back = bank.sign_in(&mut browser, pairs(&page.location), login).await;
        let page = browser.get(&back.location).await;
        assert!(page.status == 403 && page.text.contains("not in the roster"), "{login}: {}", page.text);
        assert!(!browser.cookies.contains_key("countersign"), "{login}");
    }
    // In another group of it.
    let mut olaf = bank.at_the_page("olaf").await;
    let page = olaf.get(&bank.page(&request)).await;
    assert!(page.status == 403 && page.text.contains("not in dba") && !page.text.contains("secrets"), "{}", page.text);
    assert!(!olaf.get(&format!("{}/requests", bank.url)).await.text.contains(request.id.as_str()));
    // Who asked, by the sign-in, by the address, whatever the roster says.
    let (mut by_subject, mut by_address) = (request.clone(), request.clone());
    (by_subject.requester.issuer, by_subject.requester.subject) = (bank.issuer.url().to_owned(), "dana".to_owned());
    by_address.requester.email = Some("Dana@bank.example".to_owned());
    let mut dana = bank.at_the_page("dana").await;
    let token = form(&dana.get(&bank.page(&request)).await);
    for mut own in [by_subject, by_address] {
        own.id = stand_in::request("x", 1).id;
        bank.world.lay(&own);
        let page = dana.get(&bank.page(&own)).await;
        assert!(page.status == 403 && page.text.contains("somebody else must decide"), "{}", page.text);
        // Nor with a form of their own making.
        let forged = with(&token, &[("what", "approve"), ("reference", &format!("v1.{}.{}", own.id, own.fingerprint()))]);
        assert_eq!(dana.post(&bank.page(&own), &forged).await.status, 403);
        assert_eq!(bank.tokens(&own).await, 0);
    }
}

#[tokio::test]
async fn a_form_is_of_one_session_one_request_and_one_time() {
    let bank = Bank::open().await;
    let (request, other) = (bank.plain("delete from accounts", 2), bank.plain("select 1", 2));
    let mut dana = bank.at_the_page("dana").await;
    let filled = with(&form(&dana.get(&bank.page(&request)).await), &[("what", "approve")]);
    let harmless = with(&form(&dana.get(&bank.page(&other)).await), &[("what", "approve")]);
    let token = |form: &[(String, String)]| form.iter().find(|(name, _)| name == "token").unwrap().1.clone();
    let cookie = dana.cookies.clone();

    // Another site's form in her browser: it has her cookie (which SameSite forbids) and even a form of its own session.
    let mut mallory = bank.at_the_page("olaf").await;
    let mut erin = bank.at_the_page("erin").await;
    let erins = form(&erin.get(&bank.page(&request)).await);
    let reference = &filled.iter().find(|(name, _)| name == "reference").unwrap().1;
    for (name, forged) in [
        ("no token", with(&filled, &[("token", "")])),
        ("somebody else's", with(&filled, &[("token", &token(&erins))])),
        ("the other request's", with(&filled, &[("token", &token(&harmless))])),
        ("of no session", with(&filled, &[("token", &format!("{}.{}", "0".repeat(32), "0".repeat(64)))])),
        ("cut", with(&filled, &[("token", &token(&filled)[1..])])),
        ("another text's", with(&filled, &[("reference", &reference.replace(['0', '1', '2', '3'], "f"))])),
        ("no reference", with(&filled, &[("reference", "")])),
    ] {
        let page = dana.post(&bank.page(&request), &forged).await;
        assert_eq!(page.status, 403, "{name}: {}", page.text);
    }
    // The other request's form, sent here; and this one's, sent there.
    assert!(dana.post(&bank.page(&request), &harmless).await.text.contains("another request"));
    assert!(dana.post(&bank.page(&other), &filled).await.text.contains("another request"));
    // Without the cookie, with another's, with two.
    for cookies in [Default::default(), mallory.cookies.clone(), erin.cookies.clone()] {
        dana.cookies = cookies;
        assert_eq!(dana.post(&bank.page(&request), &filled).await.status, 403);
    }
    dana.cookies = cookie.clone();
    let two = format!("countersign={}; countersign={}", cookie["countersign"], mallory.cookies["countersign"]);
    let send = |cookies: String, site: Option<&str>| {
        let post = reqwest::Client::new().post(bank.page(&request)).form(&filled).header("cookie", cookies);
        site.iter().fold(post, |post, site| post.header("sec-fetch-site", *site)).send()
    };
    assert_eq!(send(two, None).await.unwrap().status().as_u16(), 403);
    // With everything right, but from another site as the browser says.
    let own = format!("countersign={}", cookie["countersign"]);
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(send(own.clone(), Some(site)).await.unwrap().status().as_u16(), 403, "{site}");
    }
    assert_eq!((bank.tokens(&request).await, bank.tokens(&other).await), (0, 0));
    // A form of a page that is no decision of anybody's.
    let odd = mallory.post(&bank.page(&request), &with(&filled, &[("what", "approve-all")])).await;
    assert_eq!(odd.status, 422);

    // The right form, once. What it decided is not decided again by sending it again.
    assert_eq!(send(own.clone(), Some("same-origin")).await.unwrap().status().as_u16(), 200);
    for _ in 0..2 {
        let page = dana.post(&bank.page(&request), &filled).await;
        assert!(page.status == 403 && page.text.contains("used already"), "{}", page.text);
    }
    let denial = with(&filled, &[("what", "deny"), ("reason", "second thoughts")]);
    assert!(dana.post(&bank.page(&request), &denial).await.text.contains("used already"));
    assert_eq!(bank.tokens(&request).await, 1);
}

#[tokio::test]
async fn what_was_altered_after_it_was_shown_is_not_decided() {
    let bank = Bank::open().await;
    let request = bank.plain("delete from accounts where id = 1", 1);
    let mut dana = bank.at_the_page("dana").await;
    let filled = with(&form(&dana.get(&bank.page(&request)).await), &[("what", "approve")]);
    let mut swapped = request.clone();
    swapped.statement = "delete from accounts".to_owned();
    swapped.digest = swapped.compute_digest().unwrap();
    bank.world.lay(&swapped);
    let page = dana.post(&bank.page(&request), &filled).await;
    assert!(page.status == 403 && page.text.contains("altered"), "{}", page.text);
    assert_eq!(bank.tokens(&request).await, 0);
    // A text and digest that do not belong together are not even shown.
    let mut torn = swapped.clone();
    torn.statement = "select 1".to_owned();
    bank.world.lay(&torn);
    let page = dana.get(&bank.page(&request)).await;
    assert!(page.status == 403 && page.text.contains("cannot be read"), "{}", page.text);
}

#[tokio::test]
async fn nothing_in_a_request_is_markup_and_nothing_is_cut() {
    let bank = Bank::open().await;
    let evil =
        "select '</pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\u{202e}\u{5d0}' -- \"><form action=//evil.example>";
    let mut request = stand_in::request(evil, 1);
    request.policy = bank.request().policy;
    request.parameters = vec![RequestParameter::new(25, 1, Some("<b>\u{430}dmin</b>".as_bytes()))];
    request.requester.subject = "<i>ci</i>".to_owned();
    request.requester.claims.insert("<u>".to_owned(), "\"onmouseover=alert(1) x=\"".to_owned());
    request.facts.push(("<s>".to_owned(), "</dd><script>".to_owned()));
    request.digest = request.compute_digest().unwrap();
    bank.world.lay(&request);
    let mut dana = bank.at_the_page("dana").await;
    let page = dana.get(&bank.page(&request)).await;
    let list = dana.get(&format!("{}/requests", bank.url)).await;
    for markup in ["<script", "<img", "<b>", "<i>", "<u>", "<s>", "//evil.example>", "onmouseover=alert(1) x=\"", "\u{202e}"] {
        assert!(!page.text.contains(markup) && !list.text.contains(markup), "{markup} stands there: {}", page.text);
    }
    for shown in ["&lt;script&gt;alert(1)", "⟨U+202E⟩", "right to left", "U+0430", "&lt;i&gt;ci&lt;/i&gt;", "&amp;amp;"] {
        assert!(page.text.contains(shown), "{shown} is missing: {}", page.text);
    }
    // Far more than a card holds: whole, and only here approvable.
    let long = format!("select 1 -- {} the end", "x".repeat(200_000));
    let request = bank.plain(&long, 1);
    cards::sync(&bank.world.bot, &request.id).await.unwrap();
    let card = bank.world.calls("chat.postMessage").pop().unwrap();
    assert!(button(&card, APPROVE).is_none() && card.to_string().contains("on the bot's own page, where it can be approved"));
    let page = dana.get(&bank.page(&request)).await;
    assert!(page.text.contains(&long), "it is not whole");
    let done = dana.post(&bank.page(&request), &with(&form(&page), &[("what", "approve")])).await;
    assert!(done.text.contains("you approved"), "{}", done.text);
    assert_eq!(bank.approvals(&request).await.unwrap(), 1);

    // What the browser is told to allow: no script, no other place, no keeping.
    let own = format!("countersign={}", dana.cookies["countersign"]);
    let answer = reqwest::Client::new().get(bank.page(&request)).header("cookie", own).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe") && !policy.contains("script"),
        "{policy}"
    );
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
    assert!(policy.contains(&format!("form-action 'self' {}", bank.issuer.url())), "{policy}");
    let others = [header("cache-control"), header("x-content-type-options"), header("referrer-policy"), header("x-frame-options")];
    assert_eq!(others, ["no-store", "nosniff", "no-referrer", "DENY"]);
}

#[tokio::test]
async fn the_top_tier_takes_a_sign_in_for_the_decision_itself() {
    let bank = Bank::open().await;
    let request = bank.request();
    bank.world.lay(&request);
    for (login, fits) in [("erin", false), ("dana", true)] {
        let mut browser = bank.at_the_page("dana").await;
        let page = browser.get(&bank.page(&request)).await;
        let page = browser.post(&bank.page(&request), &with(&form(&page), &[("what", "approve")])).await;
        assert_eq!(page.status, 303, "{}", page.text);
        bank.nobody_approved(&request).await;
        let form = bank.at_the_provider(&mut browser, &format!("{}{}", bank.url, page.location)).await;
        let back = bank.sign_in(&mut browser, form, login).await;
        let page = browser.get(&back.location).await;
        assert_eq!(page.status, if fits { 200 } else { 403 }, "{}", page.text);
        if !fits {
            assert!(page.text.contains("not who opened the page"), "{}", page.text);
            bank.nobody_approved(&request).await;
        }
    }
    assert_eq!(bank.approvals(&request).await.unwrap(), 1);
}

#[tokio::test]
async fn several_runs_are_approved_as_such() {
    let bank = Bank::open().await;
    let mut request = stand_in::request("refresh materialized view totals", 1);
    (request.policy, request.runs) = (bank.request().policy, 3);
    bank.world.lay(&request);
    let mut dana = bank.at_the_page("dana").await;
    let page = dana.get(&bank.page(&request)).await;
    assert!(page.text.contains("Approve one run") && page.text.contains("Approve 3 runs"), "{}", page.text);
    dana.post(&bank.page(&request), &with(&form(&page), &[("what", "approve-runs")])).await;
    let stored = bank.world.bot.store.get(&request.id).await.unwrap().unwrap();
    let decision = UnverifiedDecision::new(&stored.tokens[0]).verify(bank.world.bot.signer.public()).unwrap();
    assert_eq!(decision.runs, 3);
    cards::sync(&bank.world.bot, &request.id).await.unwrap();
    let card = bank.world.calls("chat.postMessage").pop().unwrap();
    assert!(bank.world.press("U0ERIN", APPROVE_RUNS, &button(&card, APPROVE_RUNS).unwrap()).await.contains("all the approvals it needs"));
}

/// Somebody is made to sign in as somebody else: an answer for another browser opens nothing here.
#[tokio::test]
async fn nobody_is_signed_in_by_another() {
    let bank = Bank::open().await;
    let mut mallory = Browser::new();
    let page = mallory.post(&format!("{}/requests/sign-in", bank.url), &[]).await;
    let back = bank.sign_in(&mut mallory, pairs(&page.location), "mallory").await;
    let mut dana = Browser::new();
    assert_eq!(dana.get(&back.location).await.status, 403);
    assert!(dana.cookies.is_empty(), "{:?}", dana.cookies);
    // A ticket for the pages completes no decision, and a place to go back to is a request's and nothing else.
    let page = dana.post(&format!("{}/requests/sign-in", bank.url), &[("back".to_owned(), "//evil.example/".to_owned())]).await;
    let sealed = dana.cookies["countersign_step_up"].split_once('~').unwrap().0.to_owned();
    assert_eq!(dana.get(&format!("{}/step-up?ticket={sealed}", bank.url)).await.status, 404);
    assert_eq!(dana.post(&format!("{}/step-up", bank.url), &[("ticket".to_owned(), sealed.clone())]).await.status, 404);
    let back = bank.sign_in(&mut dana, pairs(&page.location), "dana").await;
    assert_eq!(dana.get(&back.location).await.location, "/requests");
    // Nor is the ticket a session.
    dana.cookies.insert("countersign".to_owned(), sealed);
    assert!(dana.get(&format!("{}/requests", bank.url)).await.text.contains("Sign in"));
}

/// The same pages behind a Function URL, whose events carry cookies in a field of their own.
#[tokio::test]
async fn the_pages_work_behind_a_function_url() {
    let bank = Bank::open().await;
    let request = bank.plain("delete from accounts", 1);
    let handler = lambda::Handler::new(bank.world.bot.clone());
    let call = async |method: &str, path: &str, cookies: &[String], body: &str| -> Value {
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "cookies": cookies,
            "headers": {"content-type": "application/x-www-form-urlencoded", "host": "bot.example", "sec-fetch-site": "same-origin"},
            "requestContext": {"accountId": "anonymous", "apiId": "a", "domainName": "d", "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "Firefox"}, "requestId": "r", "stage": "$default", "time": "x", "timeEpoch": 1},
            "body": body, "isBase64Encoded": false,
        });
        handler.handle(event).await.unwrap()
    };
    let path = format!("/requests/{}", request.id);
    let answer = call("GET", &path, &[], "").await;
    assert!(answer["statusCode"] == 200 && !answer["body"].as_str().unwrap().contains("accounts"), "{answer}");
    let dana = bank.at_the_page("dana").await;
    let cookies = ["theme=dark".to_owned(), format!("countersign={}", dana.cookies["countersign"])];
    let answer = call("GET", &path, &cookies, "").await;
    let page = Page { status: 200, location: String::new(), text: answer["body"].as_str().unwrap().to_owned() };
    let filled = with(&form(&page), &[("what", "approve")]);
    let body: Vec<String> = filled.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let answer = call("POST", &path, &cookies, &body.join("&")).await;
    assert!(answer["body"].as_str().unwrap().contains("you approved"), "{answer}");
    assert_eq!(bank.approvals(&request).await.unwrap(), 1);
    // Signing in there sets its cookie, where Function URLs look for it and where their look-alikes do.
    let answer = call("POST", "/requests/sign-in", &[], "").await;
    assert!(answer["statusCode"] == 303 && answer["cookies"] == json!([answer["headers"]["set-cookie"]]), "{answer}");
    assert!(answer["cookies"][0].as_str().unwrap().starts_with("countersign_step_up="), "{answer}");
    assert!(clock::now() < request.expires_at);
}
