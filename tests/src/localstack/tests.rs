#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::{primitives::Blob, types::MessageType, types::SigningAlgorithmSpec};
use aws_sdk_s3::{error::ProvideErrorMetadata as _, types::ObjectLockMode};
use axum::{Router, extract::State, routing::post};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier as _};
use p256::pkcs8::DecodePublicKey as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::*;

/// A function that tells `SLACK_API_URL` which requests its stream brought, and answers HTTP requests with what they brought.
const BOOTSTRAP: &str = r#"#!/bin/sh
for python in "@VENV@" /usr/local/bin/python3 /usr/bin/python3; do [ -x "$python" ] && break; done
exec "$python" -c '
import base64, json, os, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
def post(url, body):
    urllib.request.urlopen(urllib.request.Request(url, data=body.encode(), method="POST")).read()
while True:
    answer = urllib.request.urlopen(api + "next")
    event = json.load(answer)
    for record in event.get("Records", []):
        post(os.environ["SLACK_API_URL"], record["eventName"] + " " + record["dynamodb"]["Keys"]["request_id"]["S"])
    result = {"batchItemFailures": []}
    if "requestContext" in event:
        body = event.get("body", "")
        body = base64.b64decode(body).decode() if event.get("isBase64Encoded") else body
        result = {"statusCode": 202, "body": event["rawPath"] + " " + body}
    post(api + answer.headers["Lambda-Runtime-Aws-Request-Id"] + "/response", json.dumps(result))
'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_stacks_hold_what_the_design_needs_of_them() {
    let (heard, mut hears) = mpsc::unbounded_channel::<String>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slack = format!("http://{}/api", listener.local_addr().unwrap());
    let hear = |State(heard): State<mpsc::UnboundedSender<String>>, body: String| async move { heard.send(body).unwrap() };
    let router = Router::new().route("/api", post(hear)).with_state(heard);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let prefix = format!("t{}", std::process::id());
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("bootstrap");
    let venv = root().canonicalize().unwrap().join("target/localstack/venv/bin/python");
    std::fs::File::create(&program).unwrap().write_all(BOOTSTRAP.replace("@VENV@", venv.to_str().unwrap()).as_bytes()).unwrap();
    let (localstack, stack) = tokio::task::spawn_blocking(move || {
        let localstack = LocalStack::start().unwrap();
        let zip = zip_program(&program, &folder.path().join("bootstrap.zip")).unwrap();
        let deployment = Deployment { prefix: &prefix, lambda_zip: Some(&zip), slack_url: &slack, ..Deployment::default() };
        let stack = localstack.deploy(&deployment).unwrap();
        (localstack, stack)
    })
    .await
    .unwrap();
    let config = localstack.sdk_config().await;

    // Recordings: what is written stays, under COMPLIANCE, and a name is used once.
    let s3 = aws_sdk_s3::Client::new(&config);
    let put = || s3.put_object().bucket(&stack.bucket).key("sessions/x/0.rec");
    let written = put().body(b"one".to_vec().into()).send().await.unwrap();
    let head = s3.head_object().bucket(&stack.bucket).key("sessions/x/0.rec").send().await.unwrap();
    assert_eq!(head.object_lock_mode(), Some(&ObjectLockMode::Compliance));
    let version = written.version_id().unwrap();
    let deleted = s3.delete_object().bucket(&stack.bucket).key("sessions/x/0.rec").version_id(version).send().await;
    assert_eq!(deleted.unwrap_err().code(), Some("AccessDenied"));
    let again = put().if_none_match("*").body(b"two".to_vec().into()).send().await;
    assert_eq!(again.unwrap_err().code(), Some("PreconditionFailed"));

    // Keys: ES256, verifiable with the public key alone.
    let kms = aws_sdk_kms::Client::new(&config);
    let digest = Sha256::digest(b"decision");
    for key in [&stack.decision_key, &stack.recording_key] {
        let signed = kms.sign().key_id(key).message(Blob::new(digest.to_vec())).message_type(MessageType::Digest);
        let signed = signed.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send().await.unwrap();
        let public = kms.get_public_key().key_id(key).send().await.unwrap();
        let public = VerifyingKey::from_public_key_der(public.public_key().unwrap().as_ref()).unwrap();
        public.verify_prehash(&digest, &Signature::from_der(signed.signature().unwrap().as_ref()).unwrap()).unwrap();
    }

    // The stream brings each new request to the function, which reaches Slack's stand-in on loopback.
    let table = aws_sdk_dynamodb::Client::new(&config);
    let place = || table.put_item().table_name(&stack.table).item("request_id", AttributeValue::S("r1".to_owned()));
    place().condition_expression("attribute_not_exists(request_id)").send().await.unwrap();
    let twice = place().condition_expression("attribute_not_exists(request_id)").send().await;
    assert_eq!(twice.unwrap_err().code(), Some("ConditionalCheckFailedException"));
    let told = tokio::time::timeout(Duration::from_secs(60), hears.recv()).await.unwrap();
    assert_eq!(told.as_deref(), Some("INSERT r1"));

    // The Function URL brings Slack's requests to the same function.
    let url = format!("{}slack/interactions", stack.function_url.as_deref().unwrap());
    let answer = localstack.client(&stack).unwrap().post(url).body("payload=1").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    assert_eq!(answer.text().await.unwrap(), "/slack/interactions payload=1");
}

#[test]
fn a_private_instance_ends_with_its_owner() {
    let localstack = LocalStack::start_private("ends").unwrap();
    let process = PathBuf::from(format!("/proc/{}/cmdline", localstack.pid));
    let ready = localstack.private.clone().unwrap();
    assert!(std::fs::read_to_string(&process).unwrap().contains("serve.py"));
    assert!(ready.is_file());
    drop(localstack);
    assert!(!std::fs::read_to_string(&process).unwrap_or_default().contains("serve.py"));
    assert!(!ready.exists());
}
