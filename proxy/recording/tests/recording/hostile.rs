//! Nothing that is read makes a reader panic or grow without bounds, and nothing but what was written reads as an event.
use crate::common::{Encoded, events, keys, sealed, session};
use bytes::Bytes;
use countersign_recording::v1::object::{FormatError, Journal, Segment};
use countersign_recording::{Event, Limits, Object, RawEvent, verify_store};
use proptest::prelude::*;

const SMALL: Limits = Limits { decompressed: 1 << 20 };

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let bomb = zstd::encode_all(&vec![0_u8; 64 << 20][..], 19).unwrap();
    assert!(bomb.len() < 64 << 10);
    assert_eq!(Segment::read(&bomb, &SMALL).unwrap_err(), FormatError::TooLarge(SMALL.decompressed));
}

#[test]
fn a_window_larger_than_every_reader_has_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &vec![1_u8; 1 << 16]).unwrap();
    assert!(matches!(Journal::read(&encoder.finish().unwrap(), &SMALL), Err(FormatError::Zstd(_))));
}

#[test]
fn deep_and_wide_items_are_refused() {
    let deep = [vec![0x85, 0, 0, 0x58, 32], vec![0; 32], vec![0x66], b"notice".to_vec(), vec![0x81; 10_000], vec![0]].concat();
    let wide =
        [vec![0x85, 0, 0, 0x58, 32], vec![0; 32], vec![0x66], b"notice".to_vec(), vec![0x9a, 0, 0x20, 0, 0], vec![0; 0x20_0000]].concat();
    for bytes in [deep, wide] {
        for raw in RawEvent::sequence(&Bytes::from(bytes)).unwrap() {
            raw.event().unwrap_err();
        }
    }
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _read = (Segment::read(&bytes, &SMALL), Journal::read(&bytes, &SMALL));
        let _read = (Segment::read(&compressed(&bytes), &SMALL), Journal::read(&compressed(&bytes), &SMALL));
        if let Ok(events) = RawEvent::sequence(&Bytes::from(bytes)) {
            for event in events {
                let _event = event.event();
            }
        }
    }

    #[test]
    fn damaged_plain_content_never_panics(at in 0_usize..3000, byte: u8, cut in 0_usize..3000) {
        let store = sealed();
        for end in ["0.rec", "1.rec"] {
            for object in store.objects.iter().filter(|object| object.key.ends_with(end)) {
                let mut plain = zstd::decode_all(&object.bytes[..]).unwrap();
                let length = plain.len();
                plain[at % length] = byte;
                plain.truncate(cut.max(1) % (length + 1));
                let objects = [Object { key: object.key.clone(), bytes: Bytes::from(compressed(&plain)) }, store.objects[0].clone()];
                let _reports = verify_store(&objects, &keys(), &SMALL);
            }
        }
    }

    /// One event has one encoding: what decodes encodes to the same bytes, whatever was changed.
    #[test]
    fn what_reads_as_an_event_is_its_only_encoding(which in 0_usize..19, at in 0_usize..2000, byte: u8) {
        let encoded = Encoded::of(session(1), &events(session(1)));
        let mut bytes = encoded.events[which].clone();
        let length = bytes.len();
        bytes[at % length] = byte;
        if let Ok(raws) = RawEvent::sequence(&Bytes::from(bytes.clone())) && let [raw] = &raws[..] && let Ok(event) = raw.event() {
            let mut chain = countersign_recording::Chain::resume(session(1), raw.number, raw.previous);
            let mut again = Vec::new();
            chain.append(raw.time_us, &event, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn every_event_reads_back(statement: u64, text in proptest::collection::vec(any::<u8>(), 0..300), number: u64, time: i64, name in ".{0,40}") {
        let originals = [
            Event::CopyIn { statement, frames: Bytes::from(text.clone()) },
            Event::Error { statement, code: name.clone(), message: name.clone(), from_server: statement % 2 == 0 },
            Event::Gap { events: statement, reason: name },
        ];
        for original in originals {
            let mut bytes = Vec::new();
            countersign_recording::Chain::resume(session(3), number, countersign_recording::Hash::ZERO).append(time, &original, &mut bytes);
            let raws = RawEvent::sequence(&Bytes::from(bytes)).unwrap();
            prop_assert_eq!((raws[0].number, raws[0].time_us), (number, time));
            prop_assert_eq!(raws[0].event().unwrap(), original);
        }
    }
}
