//! Sessions against a model of the server: what comes out, in which order, and what is left behind.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "tests")]

mod support;

use countersign_recording::Event;
use countersign_wire::{self as wire, ReadyStatus, Target, fe};
use support::{BROKEN, Bench, DENIED, FAILS, HELD, ROW, bind, frames};

fn started(strict: bool) -> Bench {
    let mut bench = Bench::new(strict);
    bench.settle();
    assert_eq!(bench.tags(), "RSSKZ");
    bench
}

fn codes(bench: &mut Bench) -> Vec<String> {
    frames(&bench.received.split())
        .into_iter()
        .filter(|(tag, _)| *tag == b'E')
        .map(|(_, body)| wire::notice_fields(&body).unwrap().code().to_owned())
        .collect()
}

fn extended(out: &mut bytes::BytesMut, sql: &str) {
    wire::put_parse(out, b"", sql.as_bytes(), &[]);
    bind(out, b"", b"");
    wire::put_execute(out, b"", 0);
}

fn on_big_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn an_allowed_query_passes_and_is_recorded() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| wire::put_query(out, ROW.as_bytes()));
        assert_eq!(bench.tags(), "TDCZ");
        let names: Vec<&str> = bench
            .events
            .iter()
            .map(|event| match event {
                Event::SessionStart(_) => "start",
                Event::Statement { .. } => "statement",
                Event::Decision { .. } => "decision",
                Event::Rows { .. } => "rows",
                Event::Completion { .. } => "completion",
                _ => "other",
            })
            .collect();
        assert_eq!(names, ["start", "statement", "decision", "rows", "completion"]);
    });
}

#[test]
fn i5_a_refused_query_is_an_error_and_the_session_goes_on() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| wire::put_query(out, DENIED.as_bytes()));
        let all = frames(&bench.received.split());
        let tags: Vec<u8> = all.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(tags, b"EZ");
        assert_eq!(wire::notice_fields(&all[0].1).unwrap().code(), "42501");
        assert_eq!(all[1].1, b"I");
        assert!(!bench.server.texts.iter().any(|text| text == DENIED.as_bytes()), "I1: no byte of it went upstream");
        bench.send(|out| wire::put_query(out, ROW.as_bytes()));
        assert_eq!(bench.tags(), "TDCZ");
    });
}

#[test]
fn i5_a_refusal_fails_the_open_transaction_as_an_error_would() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| wire::put_query(out, b"BEGIN"));
        bench.send(|out| wire::put_query(out, DENIED.as_bytes()));
        assert_eq!(bench.server.status, ReadyStatus::Failed);
        bench.tags();
        bench.send(|out| wire::put_query(out, b"ROLLBACK"));
        assert_eq!(bench.tags(), "CZ");
        assert_eq!(bench.server.status, ReadyStatus::Idle);
    });
}

#[test]
fn i5_a_refusal_in_a_pipeline_skips_to_sync_and_adds_none() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| {
            extended(out, ROW);
            extended(out, DENIED);
            extended(out, ROW);
            wire::put_empty(out, fe::SYNC);
            extended(out, ROW);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(bench.tags(), "12DCEZ12DCZ");
        assert_eq!((bench.server.executed, bench.server.syncs), (2, 2));
        assert!(!bench.server.texts.iter().any(|text| text == DENIED.as_bytes()));
    });
}

#[test]
fn names_do_not_move_when_a_pipeline_failed() {
    on_big_stack(|| {
        let mut bench = started(false);
        // The client gives a name to one statement, then to another inside a pipeline the server skips.
        bench.send(|out| {
            wire::put_parse(out, b"s", FAILS.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        bench.send(|out| {
            wire::put_parse(out, b"x", BROKEN.as_bytes(), &[]);
            wire::put_close(out, Target::Statement, b"s");
            wire::put_parse(out, b"s", ROW.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        bench.received.clear();
        bench.send(|out| {
            bind(out, b"", b"s");
            wire::put_execute(out, b"", 0);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(codes(&mut bench), ["22012"], "s is still the first statement");
        let last = bench.events.iter().rev().find_map(|event| match event {
            Event::Statement { text, .. } => Some(text.clone()),
            _ => None,
        });
        assert_eq!(last.unwrap(), FAILS.as_bytes(), "and the recording says so");
    });
}

#[test]
fn i3_strict_shows_nothing_before_it_is_durable() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.durable = Some(1);
        bench.send(|out| wire::put_query(out, ROW.as_bytes()));
        assert_eq!(bench.tags(), "", "rows wait");
        assert_eq!(bench.server.executed, 1, "a plain read need not wait");
        bench.durable = None;
        bench.settle();
        assert_eq!(bench.tags(), "TDCZ");
    });
}

#[test]
fn i3_strict_writes_wait_for_their_record() {
    on_big_stack(|| {
        let mut bench = Bench::of("writer", true);
        bench.settle();
        let greeted = u64::try_from(bench.events.len()).unwrap();
        bench.durable = Some(greeted);
        bench.send(|out| wire::put_query(out, HELD.as_bytes()));
        assert_eq!(bench.server.executed, 0, "an autocommit write does not reach the server");
        bench.durable = None;
        bench.settle();
        assert_eq!(bench.server.executed, 1);
    });
}

#[test]
fn i3_a_write_in_a_block_waits_at_its_commit() {
    on_big_stack(|| {
        let mut bench = Bench::of("writer", true);
        bench.send(|out| wire::put_query(out, b"BEGIN"));
        let begun = u64::try_from(bench.events.len()).unwrap();
        bench.durable = Some(begun);
        bench.send(|out| wire::put_query(out, HELD.as_bytes()));
        assert_eq!(bench.server.executed, 1, "it can still be taken back");
        bench.received.clear();
        bench.send(|out| wire::put_query(out, b"COMMIT"));
        assert_eq!(bench.server.status, ReadyStatus::InTransaction, "COMMIT waits for the record");
        bench.durable = None;
        bench.settle();
        assert_eq!(bench.server.status, ReadyStatus::Idle);
    });
}

#[test]
fn i3_a_pipelined_write_behind_a_commit_waits() {
    on_big_stack(|| {
        let mut bench = Bench::of("writer", true);
        bench.send(|out| wire::put_query(out, b"BEGIN"));
        bench.durable = Some(u64::try_from(bench.events.len()).unwrap());
        bench.send(|out| {
            extended(out, "COMMIT");
            wire::put_empty(out, fe::SYNC);
            extended(out, HELD);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!((bench.server.status, bench.server.executed), (ReadyStatus::InTransaction, 0));
        bench.durable = None;
        bench.settle();
        assert_eq!((bench.server.status, bench.server.executed), (ReadyStatus::Idle, 1));
    });
}

#[test]
fn i2_a_held_statement_stays_until_the_hold_ends() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| {
            extended(out, HELD);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(bench.tags(), "1", "Parse is answered, Bind waits");
        assert_eq!(bench.holds.len(), 1);
        assert_eq!(bench.server.executed, 0);
        bench.session.hold_placed("r-1", "{}".into(), "soon", false);
        bench.settle();
        assert_eq!(bench.tags(), "N");
        bench.session.hold_denied("dana", "not today", vec![]);
        bench.settle();
        let all = frames(&bench.received.split());
        let fields = wire::notice_fields(&all[0].1).unwrap();
        assert_eq!((fields.code(), fields.get(b'D')), ("42501", "not today"));
        assert_eq!(all.len(), 2, "error and ReadyForQuery");
        assert_eq!(bench.server.executed, 0);
        bench.send(|out| wire::put_query(out, ROW.as_bytes()));
        assert_eq!(bench.tags(), "TDCZ");
    });
}

#[test]
fn cancelling_a_hold_is_57014() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| wire::put_query(out, HELD.as_bytes()));
        bench.session.hold_placed("r-1", "{}".into(), "soon", false);
        assert!(bench.session.cancel());
        bench.settle();
        assert_eq!(codes(&mut bench), ["57014"]);
        assert_eq!(bench.cancelled, ["r-1"]);
        assert_eq!(bench.server.executed, 0);
    });
}

#[test]
fn a_client_that_leaves_leaves_its_request_open() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| wire::put_query(out, HELD.as_bytes()));
        bench.session.hold_placed("r-1", "{}".into(), "soon", false);
        bench.session.client_gone();
        bench.settle();
        assert!(bench.cancelled.is_empty());
        assert_eq!((bench.left.as_slice(), bench.server.executed), (["r-1".to_owned()].as_slice(), 0));
        assert!(matches!(bench.events.last(), Some(Event::SessionEnd { reason }) if reason == "client gone"));
        assert!(bench.server.terminated);
    });
}

/// A client that does not wait: the answer is an error with the id, in both protocols, and the session goes on.
#[test]
fn a_held_statement_can_be_returned_at_once() {
    on_big_stack(|| {
        for simple in [true, false] {
            let mut bench = started(true);
            bench.send(|out| {
                if simple {
                    wire::put_query(out, HELD.as_bytes());
                } else {
                    extended(out, HELD);
                    wire::put_empty(out, fe::SYNC);
                }
            });
            bench.session.hold_placed("r-1", "{}".into(), "soon", true);
            assert!(!bench.session.hold_returns(), "by default a client waits");
            bench.session.hold_pending("soon");
            bench.settle();
            let frames = frames(&bench.received.split());
            let error = frames.iter().find(|(tag, _)| *tag == b'E').unwrap();
            let fields = wire::notice_fields(&error.1).unwrap();
            assert_eq!(fields.code(), "55000");
            assert!(fields.get(b'M').contains("r-1") && fields.get(b'H').contains("again"), "{fields:?}");
            assert_eq!((bench.left.as_slice(), bench.server.executed), (["r-1".to_owned()].as_slice(), 0));
            assert!(!bench.session.is_held());
            // What comes too late changes nothing.
            bench.session.hold_denied("dana", "no", vec![]);
            bench.session.consumed(Ok(true));
            bench.send(|out| wire::put_query(out, ROW.as_bytes()));
            assert_eq!(bench.tags(), "TDCZ");
        }
    });
}

#[test]
fn a_hold_behind_an_error_is_not_placed() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| {
            extended(out, FAILS);
            extended(out, HELD);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(bench.tags(), "12EZ");
        assert!(bench.holds.is_empty(), "nobody reviews what the server skips");
    });
}

#[test]
fn nonsense_ends_the_session_with_08p01() {
    on_big_stack(|| {
        for bytes in
            [&b"Q\0\0\0\x02"[..], b"!\0\0\0\x04", b"Q\x7f\xff\xff\xff", b"P\0\0\0\x05a", b"B\0\0\0\x09\0\0\x7f\xff\0", b"S\0\0\0\x05x"]
        {
            let mut bench = started(true);
            bench.send(|out| out.extend_from_slice(bytes));
            assert_eq!(codes(&mut bench), ["08P01"], "{bytes:?}");
            assert!(bench.ended.is_some());
        }
    });
}

#[test]
fn the_unnamed_statement_dies_with_a_simple_query() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| {
            wire::put_parse(out, b"", ROW.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        bench.send(|out| wire::put_query(out, ROW.as_bytes()));
        bench.received.clear();
        bench.send(|out| {
            bind(out, b"", b"");
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(codes(&mut bench), ["26000"]);
    });
}

#[test]
fn a_name_of_the_gateways_own_that_sql_drops_means_nothing_any_more() {
    on_big_stack(|| {
        let mut bench = started(false);
        // Given twice in one pipeline, the name cannot be the client's at the server.
        bench.send(|out| {
            wire::put_parse(out, b"s", ROW.as_bytes(), &[]);
            wire::put_close(out, Target::Statement, b"s");
            wire::put_parse(out, b"s", ROW.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(bench.server.names, ["s", "_cs2"]);
        // Whoever looks into pg_prepared_statements knows the name; it could be given to a statement that was judged for nobody.
        bench.send(|out| wire::put_query(out, b"DEALLOCATE _cs2"));
        bench.received.clear();
        bench.send(|out| {
            bind(out, b"", b"s");
            wire::put_execute(out, b"", 0);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(codes(&mut bench), ["26000"]);
        assert_eq!(bench.server.executed, 0);
    });
}

#[test]
fn names_are_the_clients_at_the_server_wherever_they_are_free() {
    on_big_stack(|| {
        let mut bench = started(true);
        bench.send(|out| wire::put_query(out, b"BEGIN"));
        for _ in 0..2 {
            bench.send(|out| {
                wire::put_parse(out, b"s", ROW.as_bytes(), &[]);
                bind(out, b"p", b"s");
                wire::put_execute(out, b"p", 0);
                wire::put_empty(out, fe::SYNC);
            });
            bench.send(|out| {
                wire::put_close(out, Target::Portal, b"p");
                wire::put_close(out, Target::Statement, b"s");
                wire::put_empty(out, fe::SYNC);
            });
        }
        assert_eq!(bench.server.names, ["s", "p", "s", "p"]);
        // What could be one of the gateway's own is never the client's.
        bench.send(|out| {
            wire::put_parse(out, b"_cs1", ROW.as_bytes(), &[]);
            wire::put_parse(out, &[b'x'; 64], ROW.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        assert!(bench.server.names[4..].iter().all(|name| name.starts_with("_cs") && name != "_cs1"), "{:?}", bench.server.names);
    });
}

/// EXECUTE (or FETCH) runs what the protocol made under a name, whatever SQL claims the name to be.
#[test]
fn i1_sql_cannot_pass_off_what_the_protocol_named_as_harmless() {
    on_big_stack(|| {
        let forwarded = |bench: &Bench, text: &str| bench.server.texts.iter().any(|known| known == text.as_bytes());
        let mut bench = started(false);
        for text in ["BEGIN", "PREPARE t AS SELECT 1", "EXECUTE t", "DECLARE d CURSOR FOR SELECT 1", "FETCH d"] {
            bench.server.status = wire::ReadyStatus::Idle;
            bench.send(|out| wire::put_query(out, text.as_bytes()));
            assert!(forwarded(&bench, text), "{text}: known and harmless");
        }
        for (first, claim, use_of_it) in [
            (true, "PREPARE s AS SELECT 1", "EXECUTE s"),
            (false, "PREPARE s AS SELECT 1", "EXECUTE s"),
            (true, "DECLARE p CURSOR FOR SELECT 1", "FETCH p"),
            (false, "DECLARE p CURSOR FOR SELECT 1", "FETCH p"),
        ] {
            let mut bench = started(false);
            let claims = |bench: &mut Bench| bench.send(|out| wire::put_query(out, claim.as_bytes()));
            bench.send(|out| wire::put_query(out, b"BEGIN"));
            if first {
                claims(&mut bench);
                bench.server.status = wire::ReadyStatus::InTransaction;
            }
            bench.send(|out| {
                wire::put_parse(out, b"s", ROW.as_bytes(), &[]);
                bind(out, b"p", b"s");
                wire::put_empty(out, fe::SYNC);
            });
            assert_eq!(bench.server.names, ["s", "p"], "{claim}");
            if !first {
                claims(&mut bench);
            }
            bench.send(|out| wire::put_query(out, use_of_it.as_bytes()));
            assert!(!forwarded(&bench, use_of_it), "{claim}, {use_of_it}");
        }
    });
}

#[test]
fn i1_sql_cannot_pass_off_what_the_gateway_named_as_harmless() {
    on_big_stack(|| {
        let forwarded = |bench: &Bench, text: &str| bench.server.texts.iter().any(|known| known == text.as_bytes());
        let mut bench = started(false);
        bench.send(|out| {
            wire::put_parse(out, b"s", ROW.as_bytes(), &[]);
            wire::put_close(out, Target::Statement, b"s");
            // A write that would be held when it is bound.
            wire::put_parse(out, b"s", HELD.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        assert_eq!(bench.server.names, ["s", "_cs2"]);
        for text in ["PREPARE _cs2 AS SELECT 1", "EXECUTE _cs2", "DECLARE _cp1 CURSOR FOR SELECT 1", "FETCH _cp1"] {
            bench.send(|out| wire::put_query(out, text.as_bytes()));
        }
        assert!(!forwarded(&bench, "EXECUTE _cs2") && !forwarded(&bench, "FETCH _cp1"), "{:?}", bench.server.names);
    });
}

/// What the gateway no longer knows by its name may still be there, and SQL must not be believed about it.
#[test]
fn i1_a_statement_lost_from_sight_stays_unknown_to_sql() {
    on_big_stack(|| {
        let mut bench = started(false);
        bench.send(|out| {
            wire::put_parse(out, b"a", HELD.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        // Fails at the server as a whole, so `a` is still there.
        bench.send(|out| wire::put_query(out, b"DEALLOCATE a; SELECT 1"));
        bench.send(|out| {
            wire::put_parse(out, b"x", ROW.as_bytes(), &[]);
            wire::put_parse(out, b"a", ROW.as_bytes(), &[]);
            wire::put_empty(out, fe::SYNC);
        });
        bench.send(|out| wire::put_query(out, b"DEALLOCATE a"));
        bench.send(|out| wire::put_query(out, b"PREPARE a AS SELECT 1"));
        bench.send(|out| wire::put_query(out, b"EXECUTE a"));
        assert!(!bench.server.texts.iter().any(|text| text == b"EXECUTE a"), "{:?}", bench.server.names);
    });
}

/// What a pipeline replaces on its way does not count against what a session may keep, and what lies on the way is not looked through for every message.
#[test]
fn a_pipeline_without_sync_may_be_as_deep_as_it_likes() {
    on_big_stack(|| {
        let most = countersign_session::Limits::default().objects;
        let mut bench = started(false);
        bench.send(|out| {
            for _ in 0..most * 2 {
                wire::put_parse(out, b"", ROW.as_bytes(), &[]);
                bind(out, b"", b"");
                wire::put_execute(out, b"", 0);
            }
            wire::put_empty(out, fe::SYNC);
        });
        let told = bench.tags();
        assert_eq!((told.matches('C').count(), told.matches('E').count(), told.matches('Z').count()), (most * 2, 0, 1));
        // What it keeps does count.
        bench.send(|out| {
            for number in 0..=most {
                wire::put_parse(out, format!("s{number}").as_bytes(), ROW.as_bytes(), &[]);
            }
            wire::put_empty(out, fe::SYNC);
        });
        let told = bench.tags();
        assert_eq!((told.matches('1').count(), told.matches('E').count(), told.matches('Z').count()), (most - 1, 1, 1));
    });
}
