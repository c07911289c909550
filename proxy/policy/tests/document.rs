//! The policy document: presets parse, faults are named with their place and a hint.
#![expect(clippy::unwrap_used, reason = "tests")]

use countersign_policy::Policy;

#[test]
fn presets_are_valid() {
    for text in [
        include_str!("../presets/read-only-analyst.toml"),
        include_str!("../presets/ci-migrations.toml"),
        include_str!("../presets/ffiec-baseline.toml"),
    ] {
        Policy::parse(text).unwrap();
    }
}

#[test]
fn faults_have_a_place_and_words() {
    let roster = "[[reviewers]]\nperson = \"dana\"\ngroups = [\"dba\"]\n";
    let rule = |rest: &str| format!("version = 1\n{roster}[[rules]]\nname = \"r\"\n{rest}");
    let hold = |terms: &str| rule(&format!("action = \"hold\"\nhold = {{ {terms} }}\n"));
    let cases = [
        ("version = 2".to_owned(), 1, 11, "unknown document version"),
        ("version = 1\nextra = 1".to_owned(), 2, 1, "unknown field `extra`"),
        (rule("action = \"hold\"\n"), 7, 10, "a hold needs its terms"),
        (
            rule("action = \"allow\"\nhold = { reviewers = [\"dba\"], expiry = \"1m\" }\n"),
            8,
            8,
            "terms of a hold in a rule that does not hold",
        ),
        (rule("action = \"allow\"\nwhat = { kinds = [\"reed\"] }\n"), 8, 19, "unknown variant `reed`"),
        (rule("action = \"allow\"\nwhat = { relations = [\"accounts\"] }\n"), 8, 23, "`accounts` is not `schema.name`"),
        (rule("action = \"allow\"\nwho = {}\n"), 8, 7, "these conditions on the principal are empty"),
        (rule("action = \"deny\"\n[[rules]]\nname = \"r\"\naction = \"deny\"\n"), 9, 8, "two rules are named `r`"),
        (hold("reviewers = [\"ops\"], expiry = \"1m\""), 8, 23, "no reviewer is in the group `ops`"),
        (hold("reviewers = [\"dba\"], quorum = 2, expiry = \"1m\""), 8, 40, "a quorum of 2 can never be met"),
        (hold("reviewers = [\"dba\"], quorum = 0, expiry = \"1m\""), 8, 40, "a quorum of 0 approves itself"),
        (hold("reviewers = [\"dba\"], expiry = \"soon\""), 8, 40, "`soon` is not an expiry"),
        (hold("reviewers = [\"dba\"], expiry = \"1m\", runs = 0"), 8, 53, "0 runs cannot be approved at once"),
        (hold("reviewers = [\"dba\"], expiry = \"1m\", runs = 101"), 8, 53, "101 runs cannot be approved at once"),
        (hold("reviewers = [\"dba\"], expiry = \"1m\", remind = \"1m\""), 8, 55, "`1m` is not a time within the expiry"),
        (
            hold("reviewers = [\"dba\"], expiry = \"1m\", mention = \"S1> <!here\""),
            8,
            56,
            "`S1> <!here` is not the id of a Slack user group",
        ),
        (hold("reviewers = [\"dba\"], expiry = \"1m\", channel = \"general\""), 8, 56, "`general` is not the id of a Slack channel"),
        (hold("reviewers = [\"dba\"], expiry = \"1m\", on_hold = \"run\""), 8, 56, "unknown variant `run`"),
        (format!("version = 1\n{roster}{roster}"), 6, 10, "two reviewers are named `dana`"),
        (
            "version = 1\n[[masks]]\ncolumns = [\"ssn\"]\nmask = { kind = \"full\" }".to_owned(),
            3,
            12,
            "`ssn` is not `schema.relation.column`",
        ),
        (
            "version = 1\n[[masks]]\ncolumns = [\"a.b.c\"]\nmask = { kind = \"round\" }".to_owned(),
            4,
            8,
            "these settings do not fit the mask",
        ),
    ];
    for (text, line, column, message) in cases {
        let error = Policy::parse(&text).unwrap_err();
        assert!(error.message.starts_with(message), "{error} instead of {message}");
        assert_eq!((error.line, error.column), (line, column), "{error}");
    }
}

#[test]
fn the_digest_is_of_the_bytes() {
    let (a, b) = (Policy::parse("version = 1").unwrap(), Policy::parse("version = 1\n").unwrap());
    assert_ne!(a.digest(), b.digest());
    assert_eq!(a.digest().to_hex().len(), 64);
}
