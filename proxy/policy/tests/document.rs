//! The policy document: presets parse, faults are named with their place and a hint.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

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
    let group = |rest: &str| format!("version = 1\n[[reviewer_groups]]\nname = \"risk\"\n{rest}\n");
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
        (group("slack_usergroup = \"S0DBA\""), 4, 19, "not a Slack user group"),
        (group("slack_usergroup = \"T0BANK/U0DANA\""), 4, 19, "not a Slack user group"),
        (group("slack_usergroup = \"T0BANK/S0> <!here\""), 4, 19, "not a Slack user group"),
        (group(""), 3, 8, "nothing says who is in `risk`"),
        (group("machine_issuers = [\"https://ci.example\"]"), 3, 8, "nothing says who is in `risk`"),
        (group("machine_issuers = [\"ci.example\"]"), 4, 20, "an issuer is a URL"),
        (group("identity_provider_group = { issuer = \"login.bank.example\", group = \"risk\" }"), 4, 38, "an issuer is a URL"),
        (
            group("identity_provider_group = { issuer = \"https://login.bank.example\", group = \" risk\" }"),
            4,
            76,
            "a group of an identity provider needs its name",
        ),
        (group("identity_provider_group = { issuer = \"https://login.bank.example\" }"), 4, 27, "missing field `group`"),
        (group("slack_usergroups = [\"T0BANK/S0DBA\"]"), 4, 1, "unknown field `slack_usergroups`"),
        (
            format!(
                "{}[[reviewer_groups]]\nname = \"risk\"\nslack_usergroup = \"T0BANK/S0TWO\"\n",
                group("slack_usergroup = \"T0BANK/S0DBA\"")
            ),
            6,
            8,
            "two groups of reviewers are named `risk`",
        ),
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

/// A group that Slack or an identity provider knows stands in rules like one of listed people, and everything that comes of a rule says so.
#[test]
fn groups_of_others_are_in_the_terms_of_holds() {
    let text = r#"
        version = 1
        [[reviewers]]
        person = "dana"
        groups = ["dba"]
        [[reviewer_groups]]
        name = "risk"
        slack_usergroup = "T0BANK/S0RISK"
        identity_provider_group = { issuer = "https://login.bank.example", group = "risk-officers" }
        machine_issuers = ["https://ci.example"]
        [[reviewer_groups]]
        name = "dba"
        slack_usergroup = "T0BANK/S0DBA"
        [[rules]]
        name = "writes"
        action = "hold"
        hold = { reviewers = ["risk"], quorum = 2, expiry = "15m", break_glass = { groups = ["incident"], reviewers = ["dba"] } }
    "#;
    let policy = Policy::parse(text).unwrap();
    let said = |groups: &[&str]| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        policy.roster().sources_of(&groups).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let risk = ["risk by Slack user group T0BANK/S0RISK", "risk by group risk-officers of https://login.bank.example"];
    assert_eq!(said(&["risk"]), risk);
    assert_eq!(said(&["dba"]), ["dba by Slack user group T0BANK/S0DBA"]);
    assert!(said(&["chiefs"]).is_empty());
    let countersign_policy::rule::Action::Hold(hold) = &policy.rules()[0].action else { panic!("it holds") };
    assert_eq!(hold.sources.iter().map(ToString::to_string).collect::<Vec<_>>(), risk);
    assert!(hold.sources.iter().all(|source| source.machine_issuers.contains("https://ci.example")));
    let terms = &hold.break_glass.as_ref().unwrap().terms;
    assert_eq!(terms.sources.iter().map(ToString::to_string).collect::<Vec<_>>(), ["dba by Slack user group T0BANK/S0DBA"]);
    // Nobody can say now how many members there are; of listed people one can.
    assert!(Policy::parse(&text.replace(r#"reviewers = ["risk"], quorum = 2"#, r#"reviewers = ["risk"], quorum = 9"#)).is_ok());
    assert!(Policy::parse(&text.replace("T0BANK/S0DBA", "T0BANK/s0dba")).is_err());
    let schema = serde_json::to_string(&countersign_policy::document::json_schema()).unwrap();
    assert!(schema.contains("reviewer_groups") && schema.contains("slack_usergroup") && schema.contains("identity_provider_group"));
}

#[test]
fn the_digest_is_of_the_bytes() {
    let (a, b) = (Policy::parse("version = 1").unwrap(), Policy::parse("version = 1\n").unwrap());
    assert_ne!(a.digest(), b.digest());
    assert_eq!(a.digest().to_hex().len(), 64);
}
