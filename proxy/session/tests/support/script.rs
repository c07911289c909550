//! Any bytes as a script of what happens to a session, with the invariants that hold whatever happens. The fuzz target and a property
//! test play it.

use bytes::BytesMut;
use countersign_session::Effect;
use countersign_wire::{self as wire, ReadyStatus, Target, be, fe};

use super::{BROKEN, Bench, COPY, DECLARE, DENIED, FAILS, HELD, ROW};

const TEXTS: [&str; 9] = [ROW, FAILS, BROKEN, DENIED, HELD, COPY, "BEGIN", "COMMIT", DECLARE];
const NAMES: [&str; 4] = ["", "a", "b", "c"];

/// Reads a script's bytes; past the end all are zero.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }
}

/// Plays a script.
pub(crate) fn play(data: &[u8]) {
    let mut script = Script(data);
    let mut bench = Bench::new(script.byte() % 2 == 0);
    let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
    let mut from_server = BytesMut::new();
    while !script.0.is_empty() {
        act(&mut script, &mut bench, &mut from_server);
        bench.session.client_bytes(&mut bench.client_in);
        bench.session.server_bytes(&mut from_server);
        while let Some(effect) = bench.session.effect() {
            match effect {
                Effect::Record(event) => {
                    assert!(bench.ended.is_none(), "nothing is recorded behind the end");
                    bench.events.push(event);
                }
                Effect::PlaceHold(hold) => bench.holds.push(*hold),
                Effect::Consume { .. } => panic!("I2: a grant is consumed though nobody gave any"),
                Effect::End(end) => assert!(bench.ended.replace(end).is_none(), "it ends once"),
                _ => {}
            }
        }
        if script.byte() % 4 > 0 {
            bench.session.durable(u64::try_from(bench.events.len()).expect("few"));
        }
        while let Some(chunk) = bench.session.server_output() {
            to_server.extend_from_slice(&chunk);
        }
        while let Some(chunk) = bench.session.client_output() {
            to_client.extend_from_slice(&chunk);
        }
        upstream_is_permitted(&to_server);
    }
}

/// One thing that happens.
fn act(script: &mut Script<'_>, bench: &mut Bench, from_server: &mut BytesMut) {
    let out = &mut bench.client_in;
    match script.byte() % 32 {
        0 => out.extend_from_slice(&script.bytes()),
        1 => from_server.extend_from_slice(&script.bytes()),
        2..=4 => wire::put_query(out, script.of(&TEXTS).as_bytes()),
        5..=6 => wire::put_parse(out, script.of(&NAMES).as_bytes(), script.of(&TEXTS).as_bytes(), &[]),
        7..=8 => super::bind(out, script.of(&NAMES).as_bytes(), script.of(&NAMES).as_bytes()),
        9 => wire::put_describe(out, script.of(&[Target::Portal, Target::Statement]), script.of(&NAMES).as_bytes()),
        10..=11 => wire::put_execute(out, script.of(&NAMES).as_bytes(), i32::from(script.byte())),
        12 => wire::put_close(out, script.of(&[Target::Portal, Target::Statement]), script.of(&NAMES).as_bytes()),
        13 => wire::put_empty(out, script.of(&[fe::SYNC, fe::FLUSH, fe::COPY_DONE, fe::SYNC])),
        14 => {
            let (tag, body) = (script.of(&[fe::COPY_DATA, fe::COPY_FAIL, fe::FUNCTION_CALL]), script.bytes());
            wire::frame(out, tag, |out| out.extend_from_slice(&body));
        }
        15 => {
            let tags = [
                be::PARSE_COMPLETE,
                be::BIND_COMPLETE,
                be::CLOSE_COMPLETE,
                be::NO_DATA,
                be::EMPTY_QUERY,
                be::PORTAL_SUSPENDED,
                be::COPY_DONE,
            ];
            wire::put_empty(from_server, script.of(&tags));
        }
        16..=17 => wire::put_ready(from_server, script.of(&[ReadyStatus::Idle, ReadyStatus::InTransaction, ReadyStatus::Failed])),
        18 => wire::frame(from_server, be::COMMAND_COMPLETE, |out| out.extend_from_slice(b"SELECT 1\0")),
        19 => wire::put_error(from_server, &super::error(script.of(&["42601", "57014", "57P01"]), "said the server")),
        20 => wire::frame(from_server, be::ROW_DESCRIPTION, |out| out.extend_from_slice(&[0, 0])),
        21 => wire::frame(from_server, be::DATA_ROW, |out| out.extend_from_slice(&[0, 0])),
        22 => wire::frame(from_server, script.of(&[be::COPY_IN, be::COPY_OUT]), |out| out.extend_from_slice(&[0, 0, 0])),
        23 => {
            let (tag, body) = (script.byte(), script.bytes());
            wire::frame(from_server, tag, |out| out.extend_from_slice(&body));
        }
        24 => {
            // The beginning of something long.
            out.extend_from_slice(&[script.of(&[fe::QUERY, fe::COPY_DATA, fe::BIND, fe::FUNCTION_CALL]), 0, script.byte(), 0, 0]);
        }
        25 => bench.session.hold_placed("r-1", String::new(), "soon", false),
        26 => bench.session.hold_denied("dana", "no", Vec::new()),
        27 => bench.session.hold_expired(),
        28 => drop(bench.session.cancel()),
        29 => bench.session.catalog_failed(),
        30 => bench.session.consumed(Ok(true)),
        _ => match script.byte() % 8 {
            0 => bench.session.client_gone(),
            1 => bench.session.server_gone(),
            2 => bench.session.shut_down("drain", "57P01", "terminating"),
            3 => bench.session.recorder_failed("no store"),
            _ => {}
        },
    }
}

/// I1 and I2: what went upstream is whole messages the gateway writes, and of texts that are not allowed there is none.
fn upstream_is_permitted(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(header)) = wire::peek_frame(rest, usize::MAX) {
        assert!(wire::client_body_limit(header.tag).is_some(), "{:?} upstream", char::from(header.tag));
        let Some((frame, after)) = rest.split_at_checked(header.total) else {
            assert_eq!(header.tag, fe::COPY_DATA, "only data is under way in pieces");
            return;
        };
        let body = &frame[wire::HEADER_LEN..];
        let text = match header.tag {
            fe::QUERY => wire::query_text(body).expect("the gateway writes whole queries"),
            fe::PARSE => wire::parse(body).expect("the gateway writes whole statements").sql,
            _ => b"",
        };
        assert_ne!(text, DENIED.as_bytes(), "I1");
        assert!(header.tag != fe::QUERY || text != HELD.as_bytes(), "I2");
        rest = after;
    }
}
