//! Decisions on the bot's own pages: a browser with a session, the page as it is shown, its form once or twice.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http;
use countersign_approval::RequestId;
use countersign_approval::v1::StepUp;
use countersign_bot::decide::SignIn;
use countersign_bot::{router, web};
use lambda_http::Service as _;

use super::{Simulation, stand_in};

/// Where reviewers sign in for the pages. Nobody is there: that they did, the model says itself.
pub(super) const PROVIDER: &str = "http://127.0.0.1:1";
/// Who signs in for the pages: whoever is in Slack as well, and whoever may decide nowhere.
pub(super) const AT_THE_PAGE: [&str; 4] = ["dana", "erin", "olaf", "nobody"];

/// The stand-in's policy with dana's link at [`PROVIDER`].
pub(super) fn policy() -> String {
    let link = "\"https://issuer.example|dana-sso\"";
    stand_in::POLICY.replace(link, &format!("{link}, \"{PROVIDER}|dana-sso\""))
}

impl Simulation {
    /// What the bot answers a browser, unless it dies over it.
    async fn browse(&self, bot: usize, request: http::request::Builder, body: String) -> Option<String> {
        let mut router = router::router(self.bots[bot].clone());
        let answer = async {
            let answer = router.call(request.body(Body::from(body)).unwrap()).await.unwrap();
            axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap()
        };
        let bytes = tokio::time::timeout(Duration::from_millis(150), answer).await.ok()?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    pub(super) async fn page(&mut self, bot: usize, id: &RequestId, who: usize, approve: bool, again: bool) {
        let person = AT_THE_PAGE[who];
        let subject = if person == "dana" { "dana-sso" } else { person };
        let step_up = StepUp { issuer: PROVIDER.to_owned(), subject: subject.to_owned(), at: self.bots[bot].clock.now() };
        let sign_in = SignIn { step_up, email: Some(format!("{person}@bank.example")), groups: BTreeSet::new() };
        let cookie = web::cookie_of(&self.bots[bot], sign_in);
        let address = format!("/requests/{id}");
        let get = http::Request::get(&address).header("cookie", &cookie);
        let Some(page) = self.browse(bot, get, String::new()).await else { return };
        let field = |name: &str| Some(page.split_once(&format!("name={name} value=\""))?.1.split('"').next()?.to_owned());
        let (Some(reference), Some(token)) = (field("reference"), field("token")) else { return };
        if approve {
            let fingerprint = reference.rsplit('.').next().unwrap().to_owned();
            self.truth.lock().unwrap().approvals.insert((person.to_owned(), fingerprint));
        }
        let what = if approve { "approve" } else { "deny&reason=not+today" };
        for _ in 0..if again { 2 } else { 1 } {
            let post = http::Request::post(&address).header("cookie", &cookie).header("content-type", "application/x-www-form-urlencoded");
            let answer = self.browse(bot, post, format!("reference={reference}&token={token}&what={what}")).await.unwrap_or_default();
            if answer.contains(&format!("you denied request {id}")) {
                let mut truth = self.truth.lock().unwrap();
                let before = truth.executions.iter().filter(|ran| ran.request.id == *id).count();
                truth.denied.push((id.clone(), before));
            }
        }
    }
}
