#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::io::{DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::{Listen, TlsFiles};

fn startup(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        body.extend(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    packet(&body)
}

fn packet(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    out.extend(body);
    out
}

const SSL: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// Greets a client that sends `bytes` and then closes its writing end.
async fn greet_bytes(bytes: &[u8], transport: &Transport) -> (Greeting<DuplexStream>, DuplexStream) {
    let (mut near, far) = duplex(64 * 1024);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    (greet(far, transport).await, near)
}

fn refused(greeting: Greeting<DuplexStream>) -> ClientError {
    match greeting {
        Greeting::Refused { error, .. } => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn greeted(greeting: Greeting<DuplexStream>) -> Greeted<DuplexStream> {
    match greeting {
        Greeting::Session(greeted) => *greeted,
        other => panic!("no session: {other:?}"),
    }
}

struct Pki {
    dir: tempfile::TempDir,
    transport: Transport,
    roots: RootCertStore,
}

fn listen(tls: Option<TlsFiles>, plaintext: bool) -> Listen {
    let tls_reload = std::time::Duration::from_millis(10);
    Listen { address: "127.0.0.1:0".parse().unwrap(), tls, plaintext, tls_reload, proxies: Vec::new() }
}

fn certificate() -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    (rcgen::CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap().self_signed(&key).unwrap(), key)
}

fn trusting(certificate: &rcgen::Certificate) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    roots
}

fn pki(plaintext: bool) -> Pki {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate();
    let files = TlsFiles { certificate: dir.path().join("tls.pem"), key: dir.path().join("tls.key") };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let roots = trusting(&certificate);
    let transport = Transport::new(&listen(Some(files), plaintext)).unwrap();
    Pki { dir, transport, roots }
}

fn connector(roots: &RootCertStore, alpn: &[&[u8]]) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("gateway.example").unwrap()
}

#[tokio::test]
async fn parameters_come_in_any_order() {
    for pairs in [
        &[("user", "ci"), ("database", "bank"), ("application_name", "psql"), ("client_encoding", "'utf-8'"), ("DateStyle", "ISO")][..],
        &[("DateStyle", "ISO"), ("client_encoding", "UTF8"), ("application_name", "psql"), ("database", "bank"), ("user", "ci")],
        &[("options", "-c DateStyle=ISO --application-name=psql"), ("replication", "false"), ("database", "bank"), ("user", "ci")],
    ] {
        let (greeting, _near) = greet_bytes(&startup(0x0003_0000, pairs), &Transport::plaintext()).await;
        let parameters = greeted(greeting).parameters;
        let expected = StartupParameters {
            user: "ci".to_owned(),
            database: Some("bank".to_owned()),
            application: "psql".to_owned(),
            settings: vec![("datestyle".to_owned(), "ISO".to_owned())],
            ..StartupParameters::default()
        };
        assert_eq!(parameters, expected);
    }
}

#[tokio::test]
async fn what_is_judged_later_is_kept_apart_and_overrides_as_at_the_server() {
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let table: &[(Pairs<'_>, Pairs<'_>, Pairs<'_>)] = &[
        (
            &[("search_path", "a"), ("options", "-c search_path=b -c role=x --geqo=off")],
            &[("geqo", "off")],
            &[("role", "x"), ("search_path", "a")],
        ),
        (&[("options", "-csearch_path=a"), ("options", "-csearch-path=b")], &[], &[("search_path", "b")]),
        (
            &[("default_transaction_read_only", "off"), ("options", "-c default_transaction_read_only=on")],
            &[],
            &[("default_transaction_read_only", "off")],
        ),
        (
            &[("options", "-c default_transaction_read_only=off"), ("default_transaction_read_only", "on")],
            &[("default_transaction_read_only", "on")],
            &[],
        ),
    ];
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    for (pairs, settings, judged) in table {
        let pairs = [&[("user", "ci")][..], pairs].concat();
        let (greeting, _near) = greet_bytes(&startup(0x0003_0000, &pairs), &Transport::plaintext()).await;
        let parameters = greeted(greeting).parameters;
        assert_eq!((parameters.settings, parameters.judged), (owned(settings), owned(judged)), "{pairs:?}");
    }
}

#[tokio::test]
async fn the_gateways_own_settings_do_not_go_to_the_server() {
    for pairs in [
        &[("user", "agent"), ("countersign.on_hold", "return"), ("countersign.notices", "off")][..],
        &[("user", "agent"), ("options", "-c countersign.on_hold=return --countersign.notices=false")],
    ] {
        let (greeting, _near) = greet_bytes(&startup(0x0003_0000, pairs), &Transport::plaintext()).await;
        let parameters = greeted(greeting).parameters;
        assert!(parameters.holding.returns && !parameters.holding.notices && parameters.settings.is_empty(), "{parameters:?}");
    }
}

#[tokio::test]
async fn refused_packets_name_their_sqlstate() {
    let user = ("user", "ci");
    let table: &[(Vec<u8>, &str, &str)] = &[
        (vec![0, 0, 0, 7], "08P01", "length"),
        (vec![0, 0, 0, 0], "08P01", "length"),
        ((MAX_STARTUP_BYTES + 1).to_be_bytes().to_vec(), "08P01", "length"),
        (vec![0xff; 8], "08P01", "length"),
        (startup(0x0002_0000, &[user]), "0A000", "protocol 2.0"),
        (startup(0x0004_0000, &[user]), "0A000", "protocol 4.0"),
        (packet(&[0, 3, 0, 0]), "08P01", "expected terminator"),
        (packet(&[0, 3, 0, 0, b'u']), "08P01", "expected terminator"),
        (packet(b"\0\x03\0\0user\0"), "08P01", "expected terminator"),
        (packet(b"\0\x03\0\0user\0ci\0\0x"), "08P01", "expected terminator"),
        (packet(b"\0\x03\0\0user\0\xff\0\0"), "08P01", "UTF-8"),
        (packet(&[0x04, 0xd2, 0x16, 0x2f, 1]), "08P01", "after the end"),
        (startup(0x0003_0000, &[("database", "bank")]), "28000", "user"),
        (startup(0x0003_0000, &[user, ("replication", "database")]), "0A000", "replication"),
        (startup(0x0003_0000, &[user, ("replication", "true")]), "0A000", "replication"),
        (startup(0x0003_0000, &[user, ("client_encoding", "LATIN1")]), "22023", "client_encoding"),
        (startup(0x0003_0000, &[user, ("countersign.on_hold", "run")]), "22023", "countersign.on_hold"),
        (startup(0x0003_0000, &[user, ("countersign.resume", "on")]), "42501", "countersign.resume"),
        (startup(0x0003_0000, &[user, ("standard_conforming_strings", "off")]), "42501", "standard_conforming_strings"),
        (startup(0x0003_0000, &[user, ("options", "-c client-encoding=LATIN1")]), "22023", "client_encoding"),
        (startup(0x0003_0000, &[user, ("options", "-B 100")]), "22023", "-B"),
        (startup(0x0003_0000, &[("user", "ci\n{\"level\":\"ERROR\"}")]), "22023", "control characters"),
        (startup(0x0003_0000, &[user, ("database", "bank\u{1b}[2J")]), "22023", "control characters"),
    ];
    for (bytes, code, word) in table {
        let (greeting, _near) = greet_bytes(bytes, &Transport::plaintext()).await;
        let error = refused(greeting);
        assert_eq!(error.code, *code, "{error} for {bytes:?}");
        assert!(error.message.contains(word), "{word:?} is not in {error}");
    }
}

#[tokio::test]
async fn cut_packets_are_answered_by_nothing() {
    let whole = startup(0x0003_0000, &[("user", "ci"), ("database", "bank")]);
    for end in 0..whole.len() {
        let (greeting, _near) = greet_bytes(whole.get(..end).unwrap(), &Transport::plaintext()).await;
        assert!(matches!(greeting, Greeting::Gone { .. }), "{end}: {greeting:?}");
    }
}

#[tokio::test]
async fn packets_may_be_as_long_as_the_server_takes_them() {
    let fixed = startup(0x0003_0000, &[("user", "ci"), ("application_name", "")]).len();
    let longest = usize::try_from(MAX_STARTUP_BYTES).unwrap();
    for (length, taken) in [(longest, true), (longest + 1, false)] {
        let bytes = startup(0x0003_0000, &[("user", "ci"), ("application_name", &"x".repeat(length - fixed))]);
        let (greeting, _near) = greet_bytes(&bytes, &Transport::plaintext()).await;
        assert_eq!(matches!(greeting, Greeting::Session(_)), taken, "{length}: {greeting:?}");
    }
}

#[tokio::test]
async fn cancel_requests_that_are_none_are_answered_by_nothing() {
    for body in [&[0x04, 0xd2, 0x16, 0x2e][..], &[0x04, 0xd2, 0x16, 0x2e, 0, 0], &[0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1]] {
        let (greeting, _near) = greet_bytes(&packet(body), &Transport::plaintext()).await;
        assert!(matches!(greeting, Greeting::Gone { .. }), "{greeting:?}");
    }
    let long = [&[0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1][..], &[7; 257]].concat();
    let (greeting, _near) = greet_bytes(&packet(&long), &Transport::plaintext()).await;
    assert!(matches!(greeting, Greeting::Gone { .. }), "{greeting:?}");
}

#[tokio::test]
async fn cancel_requests_carry_keys_of_both_lengths() {
    for secret in [&[1_u8, 2, 3, 4][..], &[7; 32]] {
        let mut body = vec![0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 42];
        body.extend(secret);
        // By plain text even where sessions must be encrypted: the key is all a cancel request needs.
        for transport in [Transport::plaintext(), pki(false).transport] {
            let (greeting, _near) = greet_bytes(&packet(&body), &transport).await;
            assert!(matches!(&greeting, Greeting::Cancel { process_id: 42, secret: found } if found == secret), "{greeting:?}");
        }
    }
}

#[tokio::test]
async fn plaintext_is_refused_where_it_is_not_configured() {
    let pki = pki(false);
    let mut bytes = GSS.to_vec();
    bytes.extend(startup(0x0003_0000, &[("user", "ci")]));
    let (greeting, mut near) = greet_bytes(&bytes, &pki.transport).await;
    let error = refused(greeting);
    assert_eq!(error.code, "28000");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("sslmode=require")));
    let mut answer = [0; 1];
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"N");
}

#[tokio::test]
async fn encryption_is_asked_for_once() {
    let (greeting, _near) = greet_bytes(&[SSL, SSL].concat(), &Transport::plaintext()).await;
    assert_eq!(refused(greeting).code, "08P01");
    let mut both = [GSS, SSL].concat();
    both.extend(startup(0x0003_0000, &[("user", "ci")]));
    let (greeting, mut near) = greet_bytes(&both, &Transport::plaintext()).await;
    greeted(greeting);
    let mut answer = [0; 2];
    near.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"NN");
}

#[tokio::test]
async fn bytes_before_the_handshake_are_fatal() {
    let mut bytes = SSL.to_vec();
    bytes.extend(startup(0x0003_0000, &[("user", "postgres")]));
    let (greeting, _near) = greet_bytes(&bytes, &pki(true).transport).await;
    let error = refused(greeting);
    assert_eq!(error.code, "08P01");
    assert!(error.message.contains("unencrypted data"), "{error}");
}

#[tokio::test]
async fn tls_by_request_and_direct_lead_to_the_same_session() {
    let pki = pki(false);
    for direct in [false, true] {
        let (mut near, far) = duplex(64 * 1024);
        let alpn: &[&[u8]] = if direct { &[b"postgresql"] } else { &[] };
        let connector = connector(&pki.roots, alpn);
        let client = async move {
            if !direct {
                near.write_all(&SSL).await.unwrap();
                assert_eq!(near.read_u8().await.unwrap(), b'S');
            }
            let mut tls = connector.connect(name(), near).await.unwrap();
            tls.write_all(&startup(0x0003_0000, &[("user", "ci")])).await.unwrap();
            tls.flush().await.unwrap();
            tls
        };
        let (greeting, _tls) = tokio::join!(greet(far, &pki.transport), client);
        let greeted = greeted(greeting);
        assert!(matches!(greeted.io, ClientIo::Tls(_)));
        assert_eq!(greeted.parameters.user, "ci");
    }
}

/// Whether a client that trusts these roots gets through the handshake.
async fn handshake(transport: &Transport, roots: &RootCertStore) -> bool {
    let (near, far) = duplex(64 * 1024);
    let connector = connector(roots, &[b"postgresql"]);
    let client = async move { connector.connect(name(), near).await.is_ok() };
    let (_, connected) = tokio::join!(greet(far, transport), client);
    connected
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let pki = pki(false);
    let reloading = tokio::spawn(pki.transport.clone().keep_fresh(std::time::Duration::from_millis(10)));
    assert!(handshake(&pki.transport, &pki.roots).await);
    let (renewed, key) = certificate();
    let roots = trusting(&renewed);
    // The certificate without its key is a pair that does not fit.
    std::fs::write(pki.dir.path().join("tls.pem"), renewed.pem()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(handshake(&pki.transport, &pki.roots).await, "the old pair stays in use");
    std::fs::write(pki.dir.path().join("tls.key"), key.serialize_pem()).unwrap();
    while !handshake(&pki.transport, &roots).await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(!handshake(&pki.transport, &pki.roots).await, "the old one is gone");
    std::fs::remove_file(pki.dir.path().join("tls.key")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(handshake(&pki.transport, &roots).await);
    reloading.abort();
}

/// A first SASL message with this text.
fn bearer(message: &[u8]) -> Vec<u8> {
    let body = [b"OAUTHBEARER\0", &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
    [&b"p"[..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), &body].concat()
}

#[tokio::test]
async fn oauthbearer_asks_and_tells_where_tokens_are_had() {
    let greet_oauth = async |sent: &[u8]| {
        let (mut near, far) = duplex(256 * 1024);
        near.write_all(&startup(0x0003_0002, &[("user", "person")])).await.unwrap();
        near.write_all(sent).await.unwrap();
        near.shutdown().await.unwrap();
        let mut greeted = greeted(greet(far, &Transport::plaintext()).await);
        let first = greeted.ask_for_bearer().await;
        let discovery = Discovery::new("https://issuer.example/.well-known/openid-configuration".to_owned(), "openid".to_owned());
        let told = greeted.tell_discovery(&discovery).await;
        drop(greeted);
        let mut said = Vec::new();
        near.read_to_end(&mut said).await.unwrap();
        (first, told, said)
    };
    let (first, told, said) = greet_oauth(&[bearer(b"n,,\x01auth=\x01\x01"), b"p\0\0\0\x05\x01".to_vec()].concat()).await;
    assert!(matches!(first, Ok(Some(Bearer::Discovery))) && told.is_ok());
    let expected =
        br#"{"status":"invalid_token","openid-configuration":"https://issuer.example/.well-known/openid-configuration","scope":"openid"}"#;
    let ask = b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0";
    assert!(said.starts_with(ask) && said.ends_with(expected), "{}", String::from_utf8_lossy(&said));
    let (first, told, _) = greet_oauth(&[bearer(b"n,,\x01auth=Bearer a.b.c\x01\x01"), b"p\0\0\0\x05x".to_vec()].concat()).await;
    assert!(matches!(first, Ok(Some(Bearer::Token(_)))));
    assert_eq!(told.unwrap_err().code, "08P01");
    let plus = b"p\0\0\0\x1aSCRAM-SHA-256\0\0\0\0\x04n,,n".to_vec();
    for bad in [password(b"a.b.c"), plus, b"Q\0\0\0\x05\0".to_vec(), b"p\0\0\0\x04".to_vec(), b"p\x7f\xff\xff\xff".to_vec()] {
        assert_eq!(greet_oauth(&bad).await.0.unwrap_err().code, "08P01", "{bad:?}");
    }
    assert!(matches!(greet_oauth(&[]).await.0, Ok(None)));
}

#[tokio::test]
async fn direct_tls_must_name_the_protocol() {
    let pki = pki(true);
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let (near, far) = duplex(64 * 1024);
        let connector = connector(&pki.roots, alpn);
        let (greeting, _) = tokio::join!(greet(far, &pki.transport), async move { connector.connect(name(), near).await.is_ok() });
        assert!(matches!(greeting, Greeting::Gone { .. }), "{greeting:?}");
    }
}

/// Sends a start-up packet, then a password; returns what the server said before it and what it took.
async fn login(version: u32, pairs: &[(&str, &str)], password: &[u8]) -> (Vec<u8>, u16, Result<Option<UnverifiedToken>, ClientError>) {
    let (mut near, far) = duplex(256 * 1024);
    near.write_all(&startup(version, pairs)).await.unwrap();
    near.write_all(password).await.unwrap();
    near.shutdown().await.unwrap();
    let mut greeted = greeted(greet(far, &Transport::plaintext()).await);
    let token = greeted.ask_for_token().await;
    let minor = greeted.minor;
    drop(greeted);
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    (said, minor, token)
}

const ASK: &[u8] = b"R\0\0\0\x08\0\0\0\x03";

fn password(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'p'];
    out.extend(u32::try_from(text.len() + 5).unwrap().to_be_bytes());
    out.extend(text);
    out.push(0);
    out
}

#[tokio::test]
async fn versions_are_negotiated_as_the_server_does() {
    let user = ("user", "ci");
    let (said, minor, _) = login(0x0003_0000, &[user], &[]).await;
    assert_eq!((said.as_slice(), minor), (ASK, 0));
    let (said, minor, _) = login(0x0003_0002, &[user], &[]).await;
    assert_eq!((said.as_slice(), minor), (ASK, 2));
    let (said, minor, _) = login(0x0003_270f, &[user], &[]).await;
    assert_eq!((said, minor), ([b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0", ASK].concat(), 2));
    let (said, minor, _) = login(0x0003_0000, &[user, ("_pq_.shine", "1")], &[]).await;
    assert_eq!((said, minor), ([&b"v\0\0\0\x17\0\x03\0\0\0\0\0\x01_pq_.shine\0"[..], ASK].concat(), 0));
}

#[tokio::test]
async fn passwords_are_bounded_and_zero_terminated() {
    let user = &[("user", "ci")];
    let (_, _, token) = login(0x0003_0000, user, &password(b"a.b.c")).await;
    assert!(token.unwrap().is_some());
    let (_, _, token) = login(0x0003_0000, user, &[]).await;
    assert!(token.unwrap().is_none());
    let (_, _, token) = login(0x0003_0000, user, &password(&vec![b'x'; 64 * 1024])).await;
    assert!(token.unwrap().is_some());
    for bad in [
        &b"Q\0\0\0\x05\0"[..],
        b"p\0\0\0\x03",
        b"p\0\0\0\x04",
        b"p\x7f\xff\xff\xff",
        b"p\xff\xff\xff\xff",
        b"p\0\0\0\x06ab",
        b"p\0\0\0\x07a\0\0",
    ] {
        let (_, _, token) = login(0x0003_0000, user, bad).await;
        assert_eq!(token.unwrap_err().code, "08P01", "{bad:?}");
    }
}

#[tokio::test]
async fn refusals_are_fatal_errors_on_the_wire() {
    let (mut near, far) = duplex(1024);
    refuse(ClientIo::Plain(far), &ClientError::new("28000", "no").hint("try")).await;
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"E\0\0\0\x23SFATAL\0VFATAL\0C28000\0Mno\0Htry\0\0");
}
