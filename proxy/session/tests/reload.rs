//! A portal that is open while the policy is loaded anew.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "tests; the model is shared")]

mod support;

use std::sync::Arc;

use bytes::BytesMut;
use countersign_policy::Policy;
use countersign_wire::{self as wire, ReadyStatus, be, fe};
use support::{Bench, POLICY, bind, frames};

const MASKS: &str = "\n[[masks]]\ncolumns = [\"public.people.*\"]\nmask = { kind = \"full\" }\n";

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(text).expect("a policy"))
}

/// Hands the client's and the server's frames over, and gives what the client is shown.
fn step(bench: &mut Bench, client: impl FnOnce(&mut BytesMut), server: impl FnOnce(&mut BytesMut)) -> Vec<(u8, Vec<u8>)> {
    let (mut from_client, mut from_server) = (BytesMut::new(), BytesMut::new());
    client(&mut from_client);
    server(&mut from_server);
    bench.session.client_bytes(&mut from_client);
    assert!(from_client.is_empty(), "the client's frames wait");
    while bench.session.server_output().is_some() {}
    bench.session.server_bytes(&mut from_server);
    let mut shown = BytesMut::new();
    while bench.session.effect().is_some() {}
    while let Some(chunk) = bench.session.client_output() {
        shown.extend_from_slice(&chunk);
    }
    frames(&shown)
}

fn execute(out: &mut BytesMut) {
    wire::put_execute(out, b"p", 1);
    wire::put_empty(out, fe::SYNC);
}

/// A row of one `int4`, and that there are more.
fn row(out: &mut BytesMut) {
    wire::frame(out, be::DATA_ROW, |out| out.extend_from_slice(&[0, 1, 0, 0, 0, 1, b'7']));
    wire::put_empty(out, be::PORTAL_SUSPENDED);
    wire::put_ready(out, ReadyStatus::InTransaction);
}

/// The values that are shown.
fn values(shown: &[(u8, Vec<u8>)]) -> Vec<u8> {
    shown.iter().filter(|(tag, _)| *tag == be::DATA_ROW).filter_map(|(_, body)| body.last().copied()).collect()
}

/// A session in a transaction whose portal has shown one row of a column that a mask may be about.
fn open() -> Bench {
    let mut bench = Bench::new(false);
    step(
        &mut bench,
        |out| wire::put_query(out, b"BEGIN"),
        |out| {
            wire::frame(out, be::COMMAND_COMPLETE, |out| out.extend_from_slice(b"BEGIN\0"));
            wire::put_ready(out, ReadyStatus::InTransaction);
        },
    );
    let shown = step(
        &mut bench,
        |out| {
            wire::put_parse(out, b"", b"SELECT 7", &[]);
            bind(out, b"p", b"");
            execute(out);
        },
        |out| {
            wire::put_empty(out, be::PARSE_COMPLETE);
            wire::put_empty(out, be::BIND_COMPLETE);
            wire::frame(out, be::ROW_DESCRIPTION, |out| {
                out.extend_from_slice(&[0, 1, b'x', 0]);
                // A relation and a column of it that the facts at hand do not know.
                out.extend_from_slice(&[0, 0, 0x4e, 0x20, 0, 1]);
                out.extend_from_slice(&[0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0]);
            });
            row(out);
        },
    );
    assert_eq!(values(&shown), b"7", "no mask is about it yet");
    bench
}

#[test]
fn rows_behind_a_reload_are_masked_as_the_new_policy_says() {
    let mut bench = open();
    bench.session.set_policy(policy(&format!("{POLICY}{MASKS}")));
    assert_eq!(values(&step(&mut bench, execute, row)), b"0");
    bench.session.set_policy(policy(POLICY));
    assert_eq!(values(&step(&mut bench, execute, row)), b"7");
}

#[test]
fn rows_that_were_asked_for_before_it_come_as_they_were_asked_for() {
    let mut bench = open();
    let none = step(&mut bench, execute, |_| {});
    assert!(none.is_empty());
    bench.session.set_policy(policy(&format!("{POLICY}{MASKS}")));
    assert_eq!(values(&step(&mut bench, |_| {}, row)), b"7");
    assert_eq!(values(&step(&mut bench, execute, row)), b"0");
}

/// What the server bound may be another table than the one that the text names now.
#[test]
fn a_portal_whose_names_mean_something_else_by_now_ends() {
    for moved in [true, false] {
        let mut bench = open();
        if moved {
            step(
                &mut bench,
                |out| wire::put_query(out, b"SET search_path = other"),
                |out| {
                    wire::frame(out, be::COMMAND_COMPLETE, |out| out.extend_from_slice(b"SET\0"));
                    wire::put_ready(out, ReadyStatus::InTransaction);
                },
            );
            assert_eq!(values(&step(&mut bench, execute, row)), b"7", "without a new policy it goes on");
        }
        let text = if moved { format!("{POLICY}{MASKS}") } else { POLICY.replace("\"read\", ", "") };
        bench.session.set_policy(policy(&text));
        let shown = step(&mut bench, execute, |out| {
            wire::put_error(out, &support::error("26000", "poison"));
            wire::put_ready(out, ReadyStatus::Failed);
        });
        assert!(values(&shown).is_empty());
        let error = shown.iter().find(|(tag, _)| *tag == be::ERROR).unwrap_or_else(|| panic!("no error: {shown:?}"));
        assert!(String::from_utf8_lossy(&error.1).contains("42501"), "{error:?}");
    }
}
