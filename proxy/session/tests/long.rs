//! Messages too long to be kept, and messages that must not come now: what passes, what is read over, what ends the session.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, dead_code, reason = "tests")]

mod support;

use bytes::{BufMut, BytesMut};
use countersign_recording::Event;
use countersign_session::Effect;
use countersign_wire::{self as wire, ReadyStatus, be, fe};
use support::{Bench, ROW, frames};

const PIECE: usize = 64 * 1024;
const LONG: usize = 8 * 1024 * 1024;

/// A session whose server is played by hand, with a simple Query on its way.
struct Hand {
    bench: Bench,
    to_server: BytesMut,
    to_client: BytesMut,
    /// Most bytes that waited in the session at a time.
    peak: usize,
}

impl Hand {
    fn querying() -> Self {
        let mut bench = Bench::new(true);
        bench.settle();
        bench.received.clear();
        let mut hand = Self { bench, to_server: BytesMut::new(), to_client: BytesMut::new(), peak: 0 };
        hand.client(|out| wire::put_query(out, ROW.as_bytes()));
        hand.to_server.clear();
        hand
    }

    fn client(&mut self, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.bench.client_in);
        loop {
            let before = (self.bench.client_in.len(), self.bench.events.len());
            self.bench.session.client_bytes(&mut self.bench.client_in);
            if !self.collect() && before == (self.bench.client_in.len(), self.bench.events.len()) {
                return;
            }
        }
    }

    fn server(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.bench.session.server_bytes(&mut bytes);
        self.peak = self.peak.max(bytes.len());
        self.collect();
        // What the client sent before is looked at again.
        self.client(|_| {});
    }

    /// Whether something came out that lets the client's bytes go on.
    fn collect(&mut self) -> bool {
        let mut moved = false;
        while let Some(effect) = self.bench.session.effect() {
            match effect {
                Effect::Record(event) => self.bench.events.push(event),
                Effect::End(end) => self.bench.ended = Some(end),
                Effect::RefreshCatalog { .. } => {
                    self.bench.session.catalog_failed();
                    moved = true;
                }
                _ => {}
            }
        }
        self.bench.session.durable(u64::try_from(self.bench.events.len()).unwrap());
        while let Some(chunk) = self.bench.session.client_output() {
            self.to_client.extend_from_slice(&chunk);
        }
        while let Some(chunk) = self.bench.session.server_output() {
            self.to_server.extend_from_slice(&chunk);
        }
        moved
    }

    fn describe(&mut self) {
        self.server(|out| wire::frame(out, be::ROW_DESCRIPTION, |out| out.put_u16(0)));
        self.to_client.clear();
    }

    fn complete(&mut self) {
        self.server(|out| {
            wire::frame(out, be::COMMAND_COMPLETE, |out| out.extend_from_slice(b"SELECT 1\0"));
            wire::put_ready(out, ReadyStatus::Idle);
        });
    }

    /// The first error the client was told, if any.
    fn error(&self) -> Option<wire::ErrorFields> {
        frames(&self.to_client).into_iter().find(|(tag, _)| *tag == b'E').map(|(_, body)| wire::notice_fields(&body).unwrap())
    }

    fn recorded(&self) -> (Vec<u8>, Vec<u8>, u64) {
        let (mut down, mut up, mut rows) = (Vec::new(), Vec::new(), 0);
        for event in &self.bench.events {
            match event {
                Event::Rows { frames, count, .. } => {
                    down.extend_from_slice(frames);
                    rows += count;
                }
                Event::CopyIn { frames, .. } => up.extend_from_slice(frames),
                _ => {}
            }
        }
        (down, up, rows)
    }
}

/// A frame whose body is `body` bytes that are all different from frame to frame.
fn long(tag: u8, body: usize) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(u32::try_from(body + 4).unwrap().to_be_bytes());
    out.extend((0..body).map(|n| u8::try_from(n % 251).unwrap()));
    out
}

fn on_big_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn a_long_row_passes_in_pieces_and_is_recorded_whole() {
    on_big_stack(|| {
        for tag in [be::DATA_ROW, be::COPY_DATA] {
            let mut hand = Hand::querying();
            if tag == be::DATA_ROW {
                hand.describe();
            } else {
                hand.server(|out| wire::frame(out, be::COPY_OUT, |out| out.extend_from_slice(&[0, 0, 0])));
                hand.to_client.clear();
            }
            let before = hand.recorded().0.len();
            let row = long(tag, LONG);
            for piece in row.chunks(PIECE) {
                let shown = hand.to_client.len();
                hand.server(|out| out.extend_from_slice(piece));
                assert_eq!(hand.to_client.len(), shown + piece.len(), "nothing is kept back");
            }
            assert_eq!(hand.peak, 0);
            assert_eq!(hand.to_client, row);
            let (down, _, rows) = hand.recorded();
            assert_eq!((&down[before..], rows), (&row[..], 1));
            hand.to_client.clear();
            if tag == be::COPY_DATA {
                hand.server(|out| wire::put_empty(out, be::COPY_DONE));
            }
            hand.complete();
            assert_eq!(frames(&hand.to_client).last().unwrap().0, b'Z');
        }
    });
}

#[test]
fn i3_a_piece_of_a_long_row_waits_for_its_record() {
    on_big_stack(|| {
        let mut hand = Hand::querying();
        hand.describe();
        let row = long(be::DATA_ROW, LONG);
        let mut bytes = BytesMut::from(&row[..PIECE]);
        hand.bench.session.server_bytes(&mut bytes);
        assert!(bytes.is_empty());
        assert!(hand.bench.session.client_output().is_none(), "its event is not durable yet");
        hand.collect();
        assert_eq!(hand.to_client.len(), PIECE);
    });
}

#[test]
fn long_copy_data_passes_up_in_pieces_and_is_recorded_whole() {
    on_big_stack(|| {
        let mut hand = Hand::querying();
        hand.server(|out| wire::frame(out, be::COPY_IN, |out| out.extend_from_slice(&[0, 0, 0])));
        let data = long(fe::COPY_DATA, LONG);
        for piece in data.chunks(PIECE) {
            let sent = hand.to_server.len();
            hand.client(|out| out.extend_from_slice(piece));
            assert_eq!((hand.to_server.len(), hand.bench.client_in.len()), (sent + piece.len(), 0), "nothing is kept back");
        }
        hand.client(|out| wire::put_empty(out, fe::COPY_DONE));
        assert_eq!(&hand.to_server[..data.len()], &data[..]);
        assert_eq!(frames(&hand.to_server).last().unwrap().0, fe::COPY_DONE);
        assert_eq!(hand.recorded().1, data);
        hand.complete();
        assert!(hand.error().is_none() && hand.bench.ended.is_none());
    });
}

#[test]
fn a_copy_that_fails_within_a_long_message_leaves_the_session_in_step() {
    on_big_stack(|| {
        let mut hand = Hand::querying();
        hand.server(|out| wire::frame(out, be::COPY_IN, |out| out.extend_from_slice(&[0, 0, 0])));
        let data = long(fe::COPY_DATA, LONG);
        hand.client(|out| out.extend_from_slice(&data[..LONG / 2]));
        hand.server(|out| {
            wire::put_error(out, &support::error("22P02", "invalid input"));
            wire::put_ready(out, ReadyStatus::Idle);
        });
        // The rest belongs to the frame the server is still reading; what follows is no data.
        hand.client(|out| {
            out.extend_from_slice(&data[LONG / 2..]);
            out.extend_from_slice(&long(fe::COPY_DATA, 10));
            out.extend_from_slice(&long(fe::COPY_DATA, LONG));
            wire::put_empty(out, fe::COPY_DONE);
            wire::put_query(out, ROW.as_bytes());
        });
        let sent = frames(&hand.to_server);
        assert_eq!(sent.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [fe::COPY_DATA, fe::QUERY]);
        assert_eq!(sent[0].1.len(), LONG);
        assert!(hand.bench.ended.is_none());
    });
}

#[test]
fn copy_data_sent_ahead_of_the_answer_is_not_lost() {
    on_big_stack(|| {
        let mut bench = Bench::of("copier", true);
        bench.settle();
        let mut hand = Hand { bench, to_server: BytesMut::new(), to_client: BytesMut::new(), peak: 0 };
        hand.client(|out| {
            wire::put_query(out, support::COPY.as_bytes());
            out.extend_from_slice(&long(fe::COPY_DATA, 10));
            wire::put_empty(out, fe::COPY_DONE);
        });
        let upstream = |hand: &Hand| frames(&hand.to_server).into_iter().map(|(tag, _)| char::from(tag)).collect::<String>();
        assert_eq!(upstream(&hand), "QH", "{:?}", hand.error());
        hand.server(|out| wire::frame(out, be::COPY_IN, |out| out.extend_from_slice(&[0, 0, 0])));
        assert_eq!(upstream(&hand), "QHdc");
    });
}

#[test]
fn no_last_words_within_a_frame() {
    on_big_stack(|| {
        let mut hand = Hand::querying();
        hand.describe();
        let row = long(be::DATA_ROW, LONG);
        hand.server(|out| out.extend_from_slice(&row[..PIECE]));
        hand.bench.session.shut_down("drain", "57P01", "terminating connection");
        hand.collect();
        assert_eq!(hand.to_client, &row[..PIECE], "the client would take them for the row's");
        assert_eq!(frames(&hand.to_server).last().unwrap().0, fe::TERMINATE);

        let mut hand = Hand::querying();
        hand.describe();
        hand.server(|out| out.extend_from_slice(&row[..PIECE]));
        hand.bench.session.recorder_failed("no");
        hand.collect();
        assert_eq!(hand.to_client, &row[..PIECE]);

        let mut hand = Hand::querying();
        hand.server(|out| wire::frame(out, be::COPY_IN, |out| out.extend_from_slice(&[0, 0, 0])));
        let data = long(fe::COPY_DATA, LONG);
        hand.client(|out| out.extend_from_slice(&data[..PIECE]));
        hand.bench.session.client_gone();
        hand.collect();
        assert_eq!(hand.to_server, &data[..PIECE], "the server would take them for data");
        assert!(matches!(hand.bench.events.last(), Some(Event::SessionEnd { .. })));
    });
}

#[test]
fn a_statement_beyond_the_cap_is_refused_and_read_over() {
    on_big_stack(|| {
        let cap = countersign_session::Limits::default().client_message;
        for tag in [fe::QUERY, fe::PARSE, fe::BIND] {
            let mut bench = Bench::new(true);
            bench.settle();
            bench.received.clear();
            let head = &long(tag, 0)[..1];
            bench.send(|out| {
                out.extend_from_slice(head);
                out.put_u32(u32::try_from(cap + 5).unwrap());
            });
            let piece = vec![b'x'; PIECE];
            for _ in 0..cap / PIECE {
                bench.send(|out| out.extend_from_slice(&piece));
                assert!(bench.client_in.is_empty(), "it is not kept");
                // A client that sends without blocking reads what comes meanwhile, and may then wait for an answer that it has.
                assert!(bench.received.is_empty(), "no server answers what it has not read");
            }
            bench.send(|out| {
                out.extend_from_slice(b"x");
                if tag != fe::QUERY {
                    wire::put_empty(out, fe::SYNC);
                }
            });
            let told = frames(&bench.received.split());
            assert_eq!(told.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), b"EZ");
            let fields = wire::notice_fields(&told[0].1).unwrap();
            assert_eq!((fields.code(), fields.get(b'S')), ("54000", "ERROR"));
            assert!(fields.get(b'H').contains("limits.max_statement_bytes") && fields.get(b'D').contains(&cap.to_string()), "{fields:?}");
            bench.send(|out| wire::put_query(out, ROW.as_bytes()));
            assert_eq!(bench.tags(), "TDCZ", "the session goes on");
        }
    });
}

#[test]
fn lengths_the_server_would_not_take_end_the_session() {
    on_big_stack(|| {
        let header = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
        for (tag, length) in [
            (fe::QUERY, 0x3fff_ffff),
            (fe::BIND, 0x4000_0000),
            (fe::COPY_DATA, 0x3fff_ffff),
            (fe::QUERY, 0x8000_0000),
            (fe::QUERY, u32::MAX),
            (fe::QUERY, 3),
            (fe::SYNC, 0),
            (fe::DESCRIBE, 10_001),
            (fe::EXECUTE, 10_001),
            (fe::CLOSE, 0x3fff_fffe),
            (fe::TERMINATE, 10_001),
        ] {
            let mut bench = Bench::new(true);
            bench.settle();
            bench.received.clear();
            bench.send(|out| out.extend_from_slice(&header(tag, length)));
            let told = frames(&bench.received.split());
            assert_eq!(told.len(), 1, "{tag} {length}");
            assert_eq!(wire::notice_fields(&told[0].1).unwrap().code(), "08P01", "{tag} {length}");
            assert!(bench.ended.is_some());
        }
        for length in [0x3fff_ffff_u32, u32::MAX, 3] {
            let mut hand = Hand::querying();
            hand.describe();
            hand.server(|out| out.extend_from_slice(&header(be::DATA_ROW, length)));
            assert_eq!(hand.error().unwrap().code(), "08P01", "{length}");
        }
    });
}

#[test]
fn unknown_tags_end_the_session_before_their_body_comes() {
    on_big_stack(|| {
        for tag in [0_u8, b'!', b'p', b'R', b'Z', 0xff] {
            let mut bench = Bench::new(true);
            bench.settle();
            bench.received.clear();
            bench.send(|out| out.put_u8(tag));
            let told = frames(&bench.received.split());
            let fields = wire::notice_fields(&told[0].1).unwrap();
            assert_eq!((fields.code(), fields.get(b'S')), ("08P01", "FATAL"), "{tag}");
            assert!(bench.ended.is_some());
        }
    });
}

#[test]
fn a_statement_within_a_copy_ends_the_session() {
    on_big_stack(|| {
        for tag in [fe::QUERY, fe::PARSE, fe::BIND, fe::EXECUTE, fe::FUNCTION_CALL] {
            for body in [6, LONG] {
                if body == LONG && tag == fe::EXECUTE {
                    continue;
                }
                let mut hand = Hand::querying();
                hand.server(|out| wire::frame(out, be::COPY_IN, |out| out.extend_from_slice(&[0, 0, 0])));
                hand.to_client.clear();
                hand.client(|out| out.extend_from_slice(&long(tag, body)));
                assert_eq!(hand.error().unwrap().code(), "08P01", "{tag} {body}");
                assert!(!frames(&hand.to_server).iter().any(|(sent, _)| *sent == tag), "I1: no byte of it goes upstream");
            }
        }
    });
}
