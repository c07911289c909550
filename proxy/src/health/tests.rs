#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;

use super::*;
use crate::shutdown;

fn verifier() -> Verifier {
    let settings = crate::config::Identity {
        issuer: "http://127.0.0.1:1".to_owned(),
        audiences: vec!["countersign".to_owned()],
        algorithms: vec![crate::config::Algorithm::ES256],
        groups_claim: vec!["groups".to_owned()],
        email_claim: vec!["email".to_owned()],
        subject_claim: vec!["sub".to_owned()],
        kept_claims: Vec::new(),
        leeway: Duration::from_secs(30),
        max_session: None,
        jwks_refresh: Duration::from_secs(300),
        jwks_min_interval: Duration::from_secs(10),
        ca: None,
        methods: crate::config::Methods::Password,
        oauth_scope: "openid".to_owned(),
    };
    Verifier::new(&settings, tokio::runtime::Handle::current()).unwrap()
}

#[tokio::test]
async fn readiness_says_what_is_missing_and_health_only_that_it_lives() {
    let (shutdown, drain) = shutdown::channel();
    let readiness = Readiness::default();
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let admin = Admin { metrics, readiness: readiness.clone(), identity: verifier(), drain };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, admin));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |path: &'static str| {
        let (client, base) = (client.clone(), base.clone());
        async move {
            let answer = client.get(format!("{base}{path}")).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    assert_eq!(ask("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(ask("/metrics").await.0, 200);
    assert!(readiness.bad("upstream", "down"));
    assert!(!readiness.bad("upstream", "down"), "the same fault is no news");
    shutdown.begin(Duration::from_secs(60));
    let (status, body) = ask("/readyz").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 503);
    assert_eq!(body.get("ready"), Some(&Value::Bool(false)));
    let missing: Vec<&str> = body.get("not_ready").and_then(Value::as_object).unwrap().keys().map(String::as_str).collect();
    assert_eq!(missing, ["draining", "identity", "upstream"]);
    readiness.good("upstream");
    assert!(!ask("/readyz").await.1.contains("upstream"));
    assert_eq!(ask("/healthz").await.0, 200);
}
