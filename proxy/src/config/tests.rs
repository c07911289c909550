#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use super::*;

/// A complete document, with a certificate, keys and a secret beside it.
fn document(dir: &Path) -> String {
    for name in ["tls.pem", "tls.key", "decision.pub.pem", "recording.key.pem", "ca.pem"] {
        std::fs::write(dir.join(name), "x").unwrap();
    }
    r#"environment = "demo"

[listen]
address = "127.0.0.1:6432"
tls_certificate = "tls.pem"
tls_key = "tls.key"

[admin]
address = "127.0.0.1:9432"

[identity]
issuer = "https://issuer.bank.example"
audience = "countersign"

[upstream]
host = "db.bank.example"
user = "countersign_svc"
password = { file = "service.password" }

[policy]
file = "policy.toml"

[approvals]
store = "directory"
path = "approvals"
keys = ["decision.pub.pem"]

[recording]
store = "directory"
path = "recordings"
signing_key = "recording.key.pem"
"#
    .to_owned()
}

fn parse(text: &str, dir: &Path) -> Result<Config, ConfigError> {
    Config::parse(text, dir)
}

#[test]
fn defaults_are_the_documented_ones() {
    let dir = tempfile::tempdir().unwrap();
    let config = parse(&document(dir.path()), dir.path()).unwrap();
    assert_eq!(config.environment, "demo");
    assert!(!config.listen.plaintext);
    assert_eq!(config.upstream.port, 5432);
    assert_eq!(config.upstream.tls, UpstreamTls::VerifyFull { ca: None });
    assert_eq!(config.upstream.address(), "db.bank.example:5432");
    assert_eq!(config.identity.algorithms, [Algorithm::RS256, Algorithm::ES256]);
    assert_eq!(config.identity.leeway.as_secs(), 30);
    assert_eq!(config.recording.durability, Durability::Strict);
    assert_eq!(config.recording.retry_window.as_secs(), 30);
    assert_eq!(config.policy.location, PolicyLocation::File(dir.path().join("policy.toml")));
    assert_eq!(config.limits.max_statement_bytes, 16 * 1024 * 1024);
    assert!(config.mask_key.is_none() && !config.uses_aws());
}

#[test]
fn s3_and_dynamodb_need_aws() {
    let dir = tempfile::tempdir().unwrap();
    let text = document(dir.path());
    let s3 =
        text.replace("store = \"directory\"\npath = \"recordings\"", "store = \"s3\"\nbucket = \"b\"\nprefix = \"p\"\nretention_days = 7");
    let config = parse(&s3, dir.path()).unwrap();
    assert!(config.uses_aws());
    let expected = RecordingStore::S3 {
        bucket: "b".to_owned(),
        prefix: "p/".to_owned(),
        retention_days: 7,
        retention_mode: RetentionMode::Compliance,
        encryption_key: None,
    };
    assert_eq!(config.recording.store, expected);
    let dynamo = text.replace("store = \"directory\"\npath = \"approvals\"", "store = \"dynamodb\"\ntable = \"t\"");
    assert!(parse(&dynamo, dir.path()).unwrap().uses_aws());
}

/// What is replaced, by what, and what the one line must say.
const FAULTS: &[(&str, &str, &[&str])] = &[
    ("environment = \"demo\"", "", &["missing field `environment`", "environment = …"]),
    ("environment = \"demo\"", "environment = \"de mo\"", &["line 1, column 15", "environment: "]),
    ("[admin]\naddress = \"127.0.0.1:9432\"", "", &["missing field `admin`", "[admin] section"]),
    ("tls_key", "tls_kye", &["line 6, column 1", "unknown field `tls_kye`", "did you mean `tls_key`?"]),
    ("audience", "zzzzzzzzzzz", &["unknown field `zzzzzzzzzzz`", "known here: issuer, audience"]),
    ("\"127.0.0.1:6432\"", "\"nowhere\"", &["line 4, column 11", "listen.address", "is not an address"]),
    ("\"127.0.0.1:9432\"", "\"127.0.0.1:6432\"", &["admin.address", "address of [listen] too"]),
    ("tls_certificate = \"tls.pem\"\ntls_key = \"tls.key\"", "", &["listen.tls_certificate", "TLS is required"]),
    ("tls_key = \"tls.key\"", "", &["listen.tls_key", "tls_certificate is given"]),
    (
        "tls_key = \"tls.key\"",
        "tls_key = \"no.key\"",
        &["line 6, column 11", "listen.tls_key", "cannot read", "relative to the configuration file"],
    ),
    ("address = \"127.0.0.1:6432\"", "address = \"0.0.0.0:6432\"\nplaintext = true", &["listen.plaintext", "loopback addresses only"]),
    ("https://issuer", "http://issuer", &["identity.issuer", "loopback", "https://"]),
    ("https://issuer.bank.example", "issuer", &["identity.issuer", "not a URL"]),
    ("https://issuer.bank.example", "https://issuer.bank.example/?x=1", &["no query"]),
    ("audience = \"countersign\"", "audience = []", &["identity.audience"]),
    (
        "audience = \"countersign\"",
        "audience = \"c\"\nalgorithms = [\"HS256\"]",
        &["line 14, column 15", "identity.algorithms", "\"HS256\" is not known here", "\"RS256\""],
    ),
    ("audience = \"countersign\"", "audience = \"c\"\nalgorithms = [\"none\"]", &["\"none\" is not known here"]),
    ("audience = \"countersign\"", "audience = \"c\"\nalgorithms = []", &["at least one algorithm"]),
    ("audience = \"countersign\"", "audience = \"c\"\ngroups_claim = \"a..b\"", &["not a claim path"]),
    ("audience = \"countersign\"", "audience = \"c\"\nleeway_seconds = 5000", &["5000 is out of range", "between 0 and 300"]),
    ("audience = \"countersign\"", "audience = \"c\"\nleeway_seconds = \"30\"", &["invalid type", "line 14"]),
    ("host = \"db.bank.example\"", "host = \"db.bank.example\"\ntls = \"disable\"", &["upstream.tls", "loopback only", "verify-full"]),
    ("host = \"db.bank.example\"", "host = \"db.bank.example\"\ntls = \"require\"", &["\"require\" is not known here"]),
    ("host = \"db.bank.example\"", "host = \"127.0.0.1\"\ntls = \"disable\"\nca = \"ca.pem\"", &["upstream.ca", "no use"]),
    ("host = \"db.bank.example\"", "host = \"db.bank.example\"\nport = 0", &["upstream.port", "between 1 and 65535"]),
    ("{ file = \"service.password\" }", "{ file = \"a\", env = \"B\" }", &["upstream.password", "exactly one"]),
    ("{ file = \"service.password\" }", "{ fil = \"a\" }", &["line 18", "{ file = \"path\" }"]),
    ("{ file = \"service.password\" }", "\"\"", &["upstream.password", "must not be empty"]),
    ("{ file = \"service.password\" }", "{ env = \"A\", key = \"k\" }", &["`key` belongs to `secret` only"]),
    ("file = \"policy.toml\"", "", &["policy: says no place"]),
    ("file = \"policy.toml\"", "file = \"policy.toml\"\ns3 = \"s3://b/k\"", &["cannot be in two places"]),
    ("file = \"policy.toml\"", "s3 = \"https://b/k\"", &["s3://bucket/key"]),
    ("keys = [\"decision.pub.pem\"]", "", &["approvals.keys", "no decision can be verified"]),
    ("path = \"approvals\"", "", &["approvals.path", "store = \"directory\" needs it"]),
    ("path = \"approvals\"", "path = \"approvals\"\ntable = \"t\"", &["approvals.table", "no use"]),
    ("signing_key = \"recording.key.pem\"", "", &["recording.signing_key", "must be signed"]),
    ("signing_key = \"recording.key.pem\"", "signing_key = \"recording.key.pem\"\nkms_key = \"k\"", &["two signing keys"]),
    ("path = \"recordings\"", "path = \"recordings\"\nretention_days = 7", &["recording.retention_days", "no use"]),
    (
        "store = \"directory\"\npath = \"recordings\"",
        "store = \"s3\"\nbucket = \"b\"",
        &["recording.retention_days", "store = \"s3\" needs it"],
    ),
    (
        "store = \"directory\"\npath = \"recordings\"",
        "store = \"s3\"\nbucket = \"b\"\nretention_days = 7\nretention_mode = \"NONE\"",
        &["\"NONE\" is not known here", "\"COMPLIANCE\""],
    ),
    ("signing_key", "durability = \"lax\"\nsigning_key", &["\"lax\" is not known here", "\"strict\""]),
    ("[recording]", "[limits]\nmax_statement_bytes = 1\n[recording]", &["limits.max_statement_bytes", "out of range"]),
    ("[recording]", "[runtime]\nthreads = 0\n[recording]", &["runtime.threads"]),
    ("[recording]", "[aws]\nendpoint = \"nonsense\"\n[recording]", &["aws.endpoint", "not a URL"]),
    ("[recording]", "[recordings]", &["unknown field `recordings`", "did you mean `recording`?"]),
    ("[policy]", "[policy", &["line 20"]),
];

#[test]
fn every_fault_is_one_line_with_its_place_and_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let text = document(dir.path());
    for (old, new, expected) in FAULTS {
        assert!(text.contains(old), "{old:?} is not in the document");
        let error = match parse(&text.replacen(old, new, 1), dir.path()) {
            Ok(_) => panic!("{new:?} in place of {old:?} was taken"),
            Err(error) => error.in_file(Path::new("proxy.toml")).to_string(),
        };
        assert!(!error.contains('\n'), "{error}");
        assert!(error.starts_with("proxy.toml line "), "{error}");
        for part in *expected {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/proxy.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/proxy.toml: cannot read"), "{error}");
}

#[test]
fn secrets_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let text = document(dir.path()).replace("{ file = \"service.password\" }", "\"hunter2\"");
    let config = parse(&text, dir.path()).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[tokio::test]
async fn secrets_are_read_when_used() {
    let dir = tempfile::tempdir().unwrap();
    let config = parse(&document(dir.path()), dir.path()).unwrap();
    let Credential::Password(secret) = &config.upstream.credential else { panic!("no password") };
    let missing = secret.read(&config.aws).await.unwrap_err().to_string();
    assert!(missing.contains("service.password"), "{missing}");
    std::fs::write(dir.path().join("service.password"), "hunter2\n").unwrap();
    assert_eq!(secret.read(&config.aws).await.unwrap().expose(), "hunter2");
    std::fs::write(dir.path().join("service.password"), "\n").unwrap();
    assert!(matches!(secret.read(&config.aws).await, Err(SecretError::Empty(_))));
    let unset = Secret::Env("COUNTERSIGN_TEST_UNSET".to_owned()).read(&config.aws).await.unwrap_err().to_string();
    assert!(unset.contains("COUNTERSIGN_TEST_UNSET"), "{unset}");
}

#[test]
fn methods_load_balancers_and_credentials_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let text = document(dir.path());
    let with = |section: &str, lines: &str| text.replace(&format!("[{section}]\n"), &format!("[{section}]\n{lines}\n"));
    let oauth = parse(&with("identity", "methods = [\"oauthbearer\"]"), dir.path()).unwrap().identity;
    assert!(oauth.methods.oauth_bearer_for("anybody"));
    assert_eq!(oauth.discovery_url(), "https://issuer.bank.example/.well-known/openid-configuration");
    let both = with("identity", "methods = [\"password\", \"oauthbearer\"]\noauth_users = [\"people\", \"person-*\"]");
    let methods = parse(&both, dir.path()).unwrap().identity.methods;
    let asked = ["people", "person-7", "person", "ci", ""].map(|user| methods.oauth_bearer_for(user));
    assert_eq!(asked, [true, true, false, false, false]);
    assert_eq!(parse(&text, dir.path()).unwrap().identity.methods, Methods::Password);
    let proxies = parse(&with("listen", "proxy_protocol_from = [\"10.0.0.0/8\"]"), dir.path()).unwrap().listen.proxies;
    assert!(proxies.iter().any(|network| network.contains([10, 1, 2, 3].into())));
    let without = text.replace("password = { file = \"service.password\" }\n", "");
    let upstream = |lines: &str| without.replace("[upstream]\n", &format!("[upstream]\n{lines}\n"));
    let iam = parse(&upstream("rds_iam = true"), dir.path()).unwrap();
    assert!(matches!(iam.upstream.credential, Credential::RdsIam));
    let certified = parse(&upstream("client_certificate = \"tls.pem\"\nclient_key = \"tls.key\""), dir.path()).unwrap();
    assert!(matches!(certified.upstream.credential, Credential::None) && certified.upstream.client_certificate.is_some());
    for (text, key) in [
        (with("identity", "methods = []"), "identity.methods"),
        (with("identity", "methods = [\"password\", \"password\"]"), "identity.methods"),
        (with("identity", "methods = [\"scram\"]"), "identity.methods"),
        (with("identity", "methods = [\"password\", \"oauthbearer\"]"), "identity.oauth_users"),
        (with("identity", "oauth_users = [\"x\"]"), "identity.oauth_users"),
        (with("listen", "proxy_protocol_from = []"), "listen.proxy_protocol_from"),
        (with("listen", "proxy_protocol_from = [\"lb.bank.example\"]"), "listen.proxy_protocol_from"),
        (with("upstream", "rds_iam = true"), "upstream.rds_iam"),
        (upstream(""), "upstream.password"),
        (upstream("rds_iam = false"), "upstream.password"),
        (upstream("client_certificate = \"tls.pem\""), "upstream.client_key"),
        (
            upstream("host = \"127.0.0.1\"\ntls = \"disable\"\nrds_iam = true").replace("host = \"db.bank.example\"\n", ""),
            "upstream.rds_iam",
        ),
    ] {
        let error = parse(&text, dir.path()).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}
