//! Random message sequences, played through the session and directly: the client cannot tell the difference, and refused texts never
//! reach the server.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "tests")]

mod support;

use bytes::BytesMut;
use countersign_wire::{self as wire, Target, fe};
use proptest::prelude::*;
use support::{BROKEN, Bench, DEALLOCATE, DENIED, FAILS, PREPARE, ROW, Server, bind, frames};

#[derive(Debug, Clone)]
enum Message {
    Query(&'static str),
    Parse(&'static str, &'static str),
    Bind(&'static str, &'static str),
    Describe(bool, &'static str),
    Execute(&'static str),
    Close(bool, &'static str),
    Sync,
    Flush,
    /// Not a message: the client waits for all answers.
    Pause,
}

const TEXTS: [&str; 7] = [ROW, FAILS, BROKEN, "BEGIN", "COMMIT", "ROLLBACK", ""];
const NAMES: [&str; 3] = ["", "a", "b"];

fn message(texts: &'static [&'static str]) -> impl Strategy<Value = Message> {
    let text = prop::sample::select(texts);
    // What SQL does to names is meant for names the protocol uses, too.
    let query = prop_oneof![6 => text.clone(), 1 => Just(DEALLOCATE), 1 => Just(PREPARE)];
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        2 => query.prop_map(Message::Query),
        4 => (name(), text).prop_map(|(name, text)| Message::Parse(name, text)),
        4 => (name(), name()).prop_map(|(portal, statement)| Message::Bind(portal, statement)),
        2 => (any::<bool>(), name()).prop_map(|(portal, name)| Message::Describe(portal, name)),
        4 => name().prop_map(Message::Execute),
        1 => (any::<bool>(), name()).prop_map(|(portal, name)| Message::Close(portal, name)),
        3 => Just(Message::Sync),
        1 => Just(Message::Flush),
        3 => Just(Message::Pause),
    ]
}

fn write(message: &Message, out: &mut BytesMut) {
    let target = |portal: bool| if portal { Target::Portal } else { Target::Statement };
    match message {
        Message::Query(text) => wire::put_query(out, text.as_bytes()),
        Message::Parse(name, text) => wire::put_parse(out, name.as_bytes(), text.as_bytes(), &[]),
        Message::Bind(portal, statement) => bind(out, portal.as_bytes(), statement.as_bytes()),
        Message::Describe(portal, name) => wire::put_describe(out, target(*portal), name.as_bytes()),
        Message::Execute(portal) => wire::put_execute(out, portal.as_bytes(), 0),
        Message::Close(portal, name) => wire::put_close(out, target(*portal), name.as_bytes()),
        Message::Sync => wire::put_empty(out, fe::SYNC),
        Message::Flush => wire::put_empty(out, fe::FLUSH),
        Message::Pause => {}
    }
}

fn readable(bytes: &[u8]) -> Vec<String> {
    frames(bytes)
        .into_iter()
        .map(|(tag, body)| match tag {
            b'E' => format!("E {}", wire::notice_fields(&body).expect("error").code()),
            b'Z' | b'C' => format!("{} {}", char::from(tag), String::from_utf8_lossy(&body)),
            _ => char::from(tag).to_string(),
        })
        .collect()
}

/// `PROPTEST_CASES` asks for more (or fewer) than the usual.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

/// What fails is kept beside this file and tried first from then on.
fn config() -> ProptestConfig {
    let persistence = proptest::test_runner::FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases: cases(), failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

fn on_big_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(test).expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn allowed_traffic_is_as_without_the_gateway() {
    on_big_stack(|| {
        proptest!(config(), |(messages in prop::collection::vec(message(&TEXTS), 1..40))| {
            let mut direct = Server::default();
            let mut expected = BytesMut::new();
            let mut bench = Bench::new(true);
            bench.settle();
            bench.received.clear();
            let mut waiting = BytesMut::new();
            for message in messages.iter().chain([&Message::Sync, &Message::Pause]) {
                write(message, &mut waiting);
                if matches!(message, Message::Pause) {
                    let mut bytes = waiting.split();
                    bench.client_in.extend_from_slice(&bytes);
                    direct.take(&mut bytes, &mut expected);
                    bench.settle();
                }
            }
            // What does not parse is refused before the server sees it, under the code the server would give or the policy's.
            let same = |line: &str| line.replace("E 42501", "E 42601");
            let shown: Vec<String> = readable(&bench.received).iter().map(|line| same(line)).collect();
            prop_assert_eq!(shown, readable(&expected));
            prop_assert_eq!(bench.server.executed, direct.executed);
            prop_assert_eq!(bench.server.status, direct.status);
            prop_assert_eq!(bench.server.syncs, direct.syncs, "no Sync is added or dropped");
        });
    });
}

const WITH_REFUSED: [&str; 6] = [ROW, FAILS, DENIED, "BEGIN", "COMMIT", "ROLLBACK"];

#[test]
fn i1_i5_refused_texts_never_reach_the_server_and_the_state_is_as_after_an_error() {
    on_big_stack(|| {
        proptest!(config(), |(messages in prop::collection::vec(message(&WITH_REFUSED), 1..40))| {
            // To the model a denied text is a syntax error: the codes differ, everything else must be the same.
            let mut direct = Server::default();
            let mut expected = BytesMut::new();
            let mut bench = Bench::new(true);
            bench.settle();
            bench.received.clear();
            let mut waiting = BytesMut::new();
            for message in messages.iter().chain([&Message::Sync, &Message::Pause]) {
                write(message, &mut waiting);
                if matches!(message, Message::Pause) {
                    let mut bytes = waiting.split();
                    bench.client_in.extend_from_slice(&bytes);
                    direct.take(&mut bytes, &mut expected);
                    bench.settle();
                }
            }
            let shape = |bytes: &[u8]| readable(bytes).into_iter().map(|line| if line.starts_with('E') { "E".to_owned() } else { line }).collect::<Vec<_>>();
            prop_assert_eq!(shape(&bench.received), shape(&expected));
            prop_assert_eq!(bench.server.status, direct.status);
            prop_assert_eq!(bench.server.executed, direct.executed);
            prop_assert!(!bench.server.texts.iter().any(|text| text == DENIED.as_bytes()));
        });
    });
}

#[test]
fn whatever_happens_the_invariants_hold() {
    on_big_stack(|| {
        proptest!(config(), |(script in prop::collection::vec(any::<u8>(), 0..600))| {
            support::script::play(&script);
        });
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bench = Bench::new(true);
        bench.settle();
        bench.client_in.extend_from_slice(&bytes);
        bench.session.client_bytes(&mut bench.client_in);
    }

    #[test]
    fn arbitrary_server_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bench = Bench::new(true);
        bench.settle();
        let mut input = BytesMut::from(&bytes[..]);
        bench.session.server_bytes(&mut input);
    }
}
