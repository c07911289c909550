//! Settings of the start-up packet: each passes where the SET it stands for would run at once, and is recorded as that.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_policy::{Catalog, Denial, JudgeRequest, Policy, Principal, SessionState};
use countersign_recording::Event;
use countersign_recording::v1::event::{SessionStart, Verdict};
use countersign_session::{Effect, Limits, Opening, Session, Setup};

fn principal(group: &str) -> Principal {
    Principal {
        issuer: "https://issuer.example".into(),
        subject: "ci".into(),
        email: None,
        groups: [group.to_owned()].into(),
        claims: BTreeMap::new(),
    }
}

fn open(group: &str, name: &str, value: &str) -> Result<Opening, Denial> {
    let request = JudgeRequest {
        policy: &Policy::parse(support::POLICY).unwrap(),
        principal: &principal(group),
        database: "bank",
        catalog: &Catalog::default(),
        state: &SessionState::default(),
        parameter_types: &[],
        now: 1,
    };
    Opening::judge(name, value, &request)
}

fn on_big_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn i1_a_setting_passes_where_the_set_would_run() {
    on_big_stack(|| {
        for (name, value) in [
            ("search_path", "app,public"),
            ("Search_Path", r#""$user", "it's; DROP TABLE x""#),
            ("search_path", ""),
            ("work_mem", "64MB"),
            ("row_security", "off"),
            ("default_transaction_read_only", "on"),
        ] {
            let opening = open("reader", name, value).unwrap();
            assert_eq!((opening.name(), opening.value()), (name.to_ascii_lowercase().as_str(), value));
        }
        for (name, value, code, word) in [
            // Matters of administration, and what leaves read-only transactions, which counts as a write and is held.
            ("role", "postgres", "42501", "no rule"),
            ("session_authorization", "postgres", "42501", "no rule"),
            ("session_replication_role", "replica", "42501", "no rule"),
            ("app.tenant", "7", "42501", "no rule"),
            ("default_transaction_read_only", "off", "42501", "needs an approval"),
            // No SET: refused whoever asks.
            ("local_preload_libraries", "x", "42501", "not allowed"),
            ("Session_Preload_Libraries", "x", "42501", "not allowed"),
            ("a b", "x", "42501", "not allowed"),
            ("work_mem TO '1'; DROP TABLE x; --", "x", "42501", "not allowed"),
            ("", "", "42501", "not allowed"),
            ("search_path", "a b", "22023", "invalid value for parameter"),
            ("search_path", "a,", "22023", "invalid value for parameter"),
        ] {
            let denial = open("reader", name, value).unwrap_err();
            assert!(denial.code == code && denial.message.contains(word), "{name}: {denial:?}");
        }
        // Whom the policy lets do anything may ask for anything that there is a SET of.
        for (name, value) in [("role", "postgres"), ("app.tenant", "it's 7"), ("default_transaction_read_only", "off")] {
            open("copier", name, value).unwrap();
        }
        open("copier", "local_preload_libraries", "x").unwrap_err();
    });
}

#[test]
fn i3_the_client_is_let_in_once_its_settings_are_recorded() {
    on_big_stack(|| {
        let opening = vec![open("reader", "search_path", r#"app, "$user""#).unwrap(), open("reader", "work_mem", "64MB").unwrap()];
        let mut session = Session::new(Setup {
            search_path: Some(r#"app, "$user""#.to_owned()),
            opening,
            start: SessionStart::default(),
            principal: Arc::new(principal("reader")),
            database: "bank".into(),
            policy: Arc::new(Policy::parse(support::POLICY).unwrap()),
            catalog: Arc::new(Catalog::default()),
            catalog_generation: 1,
            mask_key: countersign_masking::MaskKey::new([7; 32]),
            strict: true,
            limits: Limits::default(),
            holding: countersign_session::Holding::default(),
            parameters: vec![("client_encoding".into(), "UTF8".into()), ("standard_conforming_strings".into(), "on".into())],
            cancel_key: (1, vec![1, 2, 3, 4]),
            now_us: 1_000_000,
        });
        let mut said = Vec::new();
        let mut events = 0;
        while let Some(effect) = session.effect() {
            let Effect::Record(event) = effect else { panic!("{effect:?}") };
            events += 1;
            match event {
                Event::SessionStart(_) => said.push("start".to_owned()),
                Event::Statement { statement, text, .. } => said.push(format!("{statement} {}", String::from_utf8_lossy(&text))),
                Event::Decision { statement, verdict, rule, .. } => {
                    assert_eq!(verdict, Verdict::Allow);
                    said.push(format!("{statement} {rule}"));
                }
                Event::Completion { statement, tag, .. } => said.push(format!("{statement} {tag}")),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            said,
            ["start", "1 SET search_path TO 'app', '$user'", "1 harmless", "1 SET", "2 SET work_mem TO '64MB'", "2 harmless", "2 SET"]
        );
        session.durable(events - 1);
        assert!(session.client_output().is_none());
        session.durable(events);
        assert_eq!(session.client_output().unwrap()[0], b'R');
    });
}
