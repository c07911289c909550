//! Execute of cursors that SQL declared.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "tests")]

mod support;

use std::sync::Arc;

use countersign_policy::Policy;
use countersign_recording::Event;
use countersign_wire::{self as wire, Target, fe};
use support::{Bench, DECLARE, POLICY, ROW, frames};

const NOW_HELD: &str = "[[rules]]\nname = \"now-held\"\nwhat = { kinds = [\"read\"] }\naction = \"hold\"\n\
    hold = { reviewers = [\"dba-oncall\"], quorum = 1, expiry = \"15m\", reason = \"test\" }\n";

fn policy(first: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(&POLICY.replacen("[[rules]]", &format!("{first}\n[[rules]]"), 1)).unwrap())
}

/// A session in a transaction with a cursor, judged from here on by a policy with this rule before all others.
fn declared(first: &str) -> Bench {
    let mut bench = Bench::new(true);
    bench.send(|out| wire::put_query(out, b"BEGIN"));
    bench.send(|out| wire::put_query(out, DECLARE.as_bytes()));
    bench.session.set_policy(policy(first));
    bench.received.clear();
    bench
}

fn execute(bench: &mut Bench, name: &[u8], rows: i32) {
    bench.send(|out| {
        wire::put_execute(out, name, rows);
        wire::put_empty(out, fe::SYNC);
    });
}

fn errors(bench: &mut Bench) -> Vec<String> {
    let all = frames(&bench.received.split()).into_iter().filter(|(tag, _)| *tag == b'E');
    all.map(|(_, body)| wire::notice_fields(&body).unwrap().code().to_owned()).collect()
}

fn texts(bench: &Bench) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Statement { text, .. } => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    bench.events.iter().filter_map(text).collect()
}

fn on_big_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn each_execute_is_recorded_as_a_fetch() {
    on_big_stack(|| {
        let mut bench = declared("");
        execute(&mut bench, b"c", 7);
        assert_eq!(bench.tags(), "DCZ");
        execute(&mut bench, b"c", 0);
        assert_eq!(bench.tags(), "CZ");
        assert_eq!(texts(&bench)[2..], ["FETCH FORWARD 7 FROM \"c\"", "FETCH ALL FROM \"c\""]);
        let rows: u64 = bench.events.iter().map(|event| if let Event::Rows { count, .. } = event { *count } else { 0 }).sum();
        assert_eq!(rows, 1);
    });
}

#[test]
fn what_the_policy_refuses_by_now_does_not_run() {
    on_big_stack(|| {
        let mut bench = declared("[[rules]]\nname = \"no-more\"\nwhat = { kinds = [\"read\"] }\naction = \"deny\"\n");
        execute(&mut bench, b"c", 0);
        assert_eq!((errors(&mut bench), bench.server.executed), (vec!["42501".to_owned()], 0));
        assert_eq!(texts(&bench).last().unwrap(), "FETCH ALL FROM \"c\"");
    });
}

#[test]
fn i2_a_held_execute_waits_for_its_reviewers() {
    on_big_stack(|| {
        let mut bench = declared(NOW_HELD);
        execute(&mut bench, b"c", 2);
        assert_eq!((bench.tags().as_str(), bench.server.executed), ("", 0));
        let [hold] = bench.holds.as_slice() else { panic!("{:?}", bench.holds) };
        assert_eq!(hold.text, "FETCH FORWARD 2 FROM \"c\"");
        assert!(hold.facts[0].executes[0].contains("SELECT 1"), "reviewers see what it runs: {:?}", hold.facts);
        bench.session.hold_placed("r-1", "{}".into(), "soon", false);
        bench.settle();
        assert_eq!(bench.tags(), "N");
        bench.session.hold_denied("dana", "not today", vec![]);
        bench.settle();
        assert_eq!((errors(&mut bench), bench.server.executed), (vec!["42501".to_owned()], 0));

        let mut bench = declared(NOW_HELD);
        execute(&mut bench, b"c", 2);
        bench.session.hold_placed("r-2", "{}".into(), "soon", false);
        assert!(bench.session.cancel());
        bench.settle();
        assert_eq!((errors(&mut bench), bench.server.executed), (vec!["57014".to_owned()], 0));
        assert_eq!(bench.cancelled, ["r-2"]);
    });
}

#[test]
fn a_name_that_means_something_else_by_now_is_not_believed() {
    on_big_stack(|| {
        // Bound by the protocol under a name that was a cursor's: SQL cannot have said what it is, nor does the protocol's own Execute ask.
        let mut bench = declared("");
        bench.send(|out| {
            wire::put_close(out, Target::Portal, b"c");
            wire::put_parse(out, b"", ROW.as_bytes(), &[]);
            support::bind(out, b"c", b"");
            wire::put_execute(out, b"c", 0);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(bench.tags(), "312DCZ");
        assert_eq!(texts(&bench).last().unwrap(), ROW);

        // No cursor, no known one: no question to reviewers, no words about the policy.
        let mut bench = declared(NOW_HELD);
        for name in [&b"nobody"[..], b"_cp1", b"_cs_ask", &[b'c'; 64], b"\xff", b"C"] {
            execute(&mut bench, name, 0);
            assert_eq!(errors(&mut bench), ["34000"], "{name:?}");
            bench.session.set_policy(policy(""));
            bench.send(|out| wire::put_query(out, b"ROLLBACK"));
            bench.session.set_policy(policy(NOW_HELD));
        }
        assert!(bench.holds.is_empty());
        assert_eq!(bench.server.executed, 0);
    });
}

#[test]
fn an_execute_behind_a_failure_is_read_over() {
    on_big_stack(|| {
        let mut bench = declared("");
        bench.send(|out| {
            wire::put_parse(out, b"", b"SELECT FROM WHERE", &[]);
            wire::put_execute(out, b"c", 0);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!((bench.tags().as_str(), bench.server.executed), ("EZ", 0));
        bench.send(|out| wire::put_query(out, b"ROLLBACK"));
        assert_eq!(bench.tags(), "CZ");
        bench.send(|out| wire::put_query(out, ROW.as_bytes()));
        assert_eq!(bench.tags(), "TDCZ");
    });
}
