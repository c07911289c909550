//! Servers that mean no good: what they learn of the credential, and how long they keep a login.

#![expect(clippy::unwrap_used, reason = "tests")]

use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinHandle};

use super::*;
use crate::config::{Secret, Upstream, UpstreamTls};

const PASSWORD: &str = "correct horse";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn asks(method: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&method.to_be_bytes()[..], rest].concat())
}

fn status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

fn settings(port: u16) -> Upstream {
    Upstream {
        host: "127.0.0.1".to_owned(),
        port,
        user: "svc".to_owned(),
        credential: Credential::Password(Secret::Literal(SecretValue::new(PASSWORD.to_owned()))),
        client_certificate: None,
        database: None,
        tls: UpstreamTls::Disable,
        connect_timeout: Duration::from_secs(60),
        catalog_refresh: Duration::from_secs(60),
        estimate_timeout: Duration::from_secs(2),
        roles: Vec::new(),
    }
}

/// A server that reads one message of its client's before each of its own, whatever they are. It gives what its clients said.
async fn server(says: Vec<Vec<u8>>) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        drop(listener);
        let mut heard = Vec::new();
        for said in says {
            let mut chunk = [0; 4096];
            let read = io.read(&mut chunk).await.unwrap_or(0);
            heard.extend_from_slice(chunk.get(..read).unwrap());
            if read == 0 || io.write_all(&said).await.is_err() {
                break;
            }
        }
        // A client that refuses to go on closes; one that waits for more is waited for.
        let _ = io.read_to_end(&mut heard).await;
        heard
    });
    (port, task)
}

/// The nonce of the client's, with a server's behind it: what a server that knows no password can say.
async fn scram_server(rest: &'static str, last: Vec<u8>) -> (u16, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        drop(listener);
        let (mut heard, mut chunk) = (Vec::new(), [0; 4096]);
        let _ = io.read(&mut chunk).await.unwrap();
        io.write_all(&asks(10, b"SCRAM-SHA-256\0\0")).await.unwrap();
        let read = io.read(&mut chunk).await.unwrap();
        heard.extend_from_slice(chunk.get(..read).unwrap());
        let said = String::from_utf8_lossy(&heard).into_owned();
        let nonce = said.split("r=").nth(1).unwrap().to_owned();
        let first = if rest.starts_with("r=") { rest.to_owned() } else { format!("r={nonce}server{rest}") };
        io.write_all(&asks(11, first.as_bytes())).await.unwrap();
        let read = io.read(&mut chunk).await.unwrap_or(0);
        heard.extend_from_slice(chunk.get(..read).unwrap());
        let _ = io.write_all(&last).await;
        let _ = io.read_to_end(&mut heard).await;
        heard
    });
    (port, task)
}

async fn login(port: u16) -> UpstreamError {
    let request = LoginRequest { database: "bank".to_owned(), ..LoginRequest::default() };
    let dialer = Dialer::new(&settings(port), &Aws::default()).unwrap();
    dialer.login(&request).await.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn a_server_learns_no_password_by_asking_otherwise() {
    let md5 = asks(5, b"salt");
    for (says, expected) in [
        (vec![asks(3, b"")], "cleartext password without TLS"),
        (vec![md5.clone(), asks(3, b"")], "more than one authentication request"),
        (vec![md5.clone(), md5], "more than one authentication request"),
        (vec![asks(10, b"SCRAM-SHA-1\0PLAIN\0\0")], "SCRAM-SHA-1, PLAIN only"),
        (vec![asks(10, b"SCRAM-SHA-256-PLUS\0\0")], "SCRAM-SHA-256-PLUS only"),
        (vec![asks(10, b"\0")], "offers"),
        (vec![asks(10, b"SCRAM-SHA-256")], "SASL mechanism"),
        (vec![asks(7, b"")], "method 7"),
        (vec![asks(u32::MAX, b"")], "method -1"),
        (vec![message(b'R', b"")], "authentication method"),
        (vec![message(b'Z', b"I")], "during authentication"),
        (vec![message(b'D', b"\0\0")], "during authentication"),
    ] {
        let (port, task) = server(says).await;
        let error = login(port).await.to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        let heard = String::from_utf8_lossy(&task.await.unwrap()).into_owned();
        assert!(heard.contains("svc") && !heard.contains(PASSWORD), "{heard:?}");
    }
}

#[tokio::test]
async fn a_server_without_the_password_is_found_out_within_scram() {
    let salt = ",s=c2FsdA==";
    let over = asks(0, b"");
    for (rest, last, expected) in [
        // It says that all is well instead of proving that it knows the password, or proves something else.
        (",s=c2FsdA==,i=4096", over.clone(), "unexpected message within SCRAM"),
        (",s=c2FsdA==,i=4096", asks(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "SCRAM: "),
        (",s=c2FsdA==,i=4096", asks(12, b"e=other-error"), "SCRAM: "),
        (",s=c2FsdA==,i=4096", asks(3, b""), "unexpected message within SCRAM"),
        // Another's nonce, no salt, no rounds, more rounds than there is time.
        ("r=another,s=c2FsdA==,i=4096", over.clone(), "SCRAM: "),
        (",i=4096", over.clone(), "SCRAM: "),
        (",s=c2FsdA==,i=", over.clone(), "SCRAM: "),
        (",s=c2FsdA==,i=4294967295", over.clone(), "more than 1000000 iterations"),
        (",s=c2FsdA==,i=99999999999999999999", over.clone(), "more than 1000000 iterations"),
    ] {
        assert!(rest.starts_with(salt) || rest.starts_with("r=") || rest.starts_with(",i"), "{rest}");
        let (port, task) = scram_server(rest, last).await;
        let error = login(port).await.to_string();
        assert!(error.contains(expected), "{rest}: {expected:?} is not in {error}");
        assert!(!String::from_utf8_lossy(&task.await.unwrap()).contains(PASSWORD), "{rest}");
    }
}

#[tokio::test]
async fn absurd_messages_end_a_login() {
    let many: Vec<u8> = (0..2000).flat_map(|number| status(&format!("p{number}"), "x")).collect();
    let long: Vec<u8> = (0..20).flat_map(|number| status(&format!("p{number}"), &"x".repeat(100_000))).collect();
    let key = message(b'K', &[&[0, 0, 0, 1][..], &[7; 257]].concat());
    let ready = message(b'Z', b"I");
    for (said, expected) in [
        (vec![b'R', 0x7f, 0xff, 0xff, 0xff], "exceeds the limit"),
        (vec![b'R', 0, 0, 0, 3], "length"),
        (vec![b'R', 0xff, 0xff, 0xff, 0xff], "exceeds the limit"),
        ([asks(0, b""), many].concat(), "too many parameters"),
        ([asks(0, b""), long].concat(), "too many parameters"),
        ([asks(0, b""), key].concat(), "too long"),
        ([asks(0, b""), message(b'K', b"\0")].concat(), "process id"),
        ([asks(0, b""), message(b'S', b"no end")].concat(), "parameter"),
        ([asks(0, b""), message(b'T', b"\0\0")].concat(), "during login"),
        ([asks(0, b""), ready.clone()].concat(), "client_encoding"),
        ([asks(0, b""), status("client_encoding", "SQL_ASCII"), ready.clone()].concat(), "client_encoding"),
        (
            [asks(0, b""), status("client_encoding", "UTF8"), status("standard_conforming_strings", "off"), ready].concat(),
            "standard_conforming",
        ),
    ] {
        let (port, task) = server(vec![said.clone()]).await;
        let error = login(port).await.to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        drop(task.await.unwrap());
    }
}

#[tokio::test]
async fn a_server_that_never_answers_or_always_warns_is_given_up() {
    let (port, task) = server(Vec::new()).await;
    let mut impatient = settings(port);
    impatient.connect_timeout = Duration::from_millis(200);
    let failed = Dialer::new(&impatient, &Aws::default()).unwrap().login(&LoginRequest::default()).await;
    assert!(matches!(failed, Err(UpstreamError::Timeout { .. })), "{failed:?}");
    drop(task.await.unwrap());

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    impatient.port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        let notice = message(b'N', b"SNOTICE\0C00000\0Mwait\0\0");
        while io.write_all(&notice).await.is_ok() {}
    });
    let failed = Dialer::new(&impatient, &Aws::default()).unwrap().login(&LoginRequest::default()).await;
    assert!(matches!(failed, Err(UpstreamError::Timeout { .. })), "{failed:?}");
    task.await.unwrap();
}
