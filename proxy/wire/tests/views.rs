//! The views of messages over any bytes: none panics, whole messages are read as they were written, and cut ones are refused.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use bytes::BytesMut;
use countersign_wire as wire;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1..=255_u8, 0..20)
}

/// What fails is kept beside this file and tried first from then on.
fn config() -> ProptestConfig {
    let persistence = proptest::test_runner::FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

/// The body of the one frame in `out`.
fn body(out: &BytesMut) -> &[u8] {
    let header = wire::peek_frame(out, usize::MAX).unwrap().unwrap();
    assert_eq!(header.total, out.len());
    &out[wire::HEADER_LEN..]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_view_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), limit in any::<usize>()) {
        if let Ok(Some(header)) = wire::peek_frame(&bytes, limit) {
            prop_assert!(header.body() <= limit && header.total == header.body() + wire::HEADER_LEN);
        }
        if let Ok(bind) = wire::bind(&bytes) {
            prop_assert!(bind.parameters.iter().all(|(_, value)| value.is_none_or(|value| value.len() <= bytes.len())));
        }
        drop((wire::parse(&bytes), wire::describe(&bytes), wire::execute(&bytes), wire::close(&bytes), wire::query_text(&bytes)));
        drop((wire::RowDescription::read(&bytes), wire::notice_fields(&bytes), wire::parameter_status(&bytes), wire::command_tag(&bytes)));
    }

    #[test]
    fn what_is_written_is_read_and_every_cut_is_noticed(name in name(), sql in name(), types in prop::collection::vec(any::<u32>(), 0..5)) {
        let mut out = BytesMut::new();
        wire::put_parse(&mut out, &name, &sql, &types);
        let view = wire::parse(body(&out)).unwrap();
        prop_assert_eq!((view.name, view.sql, &view.types), (&name[..], &sql[..], &types));
        for end in 0..body(&out).len() {
            prop_assert!(wire::parse(&body(&out)[..end]).is_err());
        }
    }

    #[test]
    fn values_are_read_as_written(values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..30)), 0..6)) {
        let mut tail = vec![0, 0];
        tail.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in &values {
            match value {
                None => tail.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    tail.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    tail.extend(value);
                }
            }
        }
        tail.extend([0, 0]);
        let mut out = BytesMut::new();
        wire::put_bind(&mut out, b"p", b"s", &tail);
        let view = wire::bind(body(&out)).unwrap();
        let read: Vec<Option<Vec<u8>>> = view.parameters.iter().map(|(_, value)| value.map(<[u8]>::to_vec)).collect();
        prop_assert_eq!(read, values);
        prop_assert_eq!(view.tail, &tail[..]);
        for end in 0..body(&out).len() {
            prop_assert!(wire::bind(&body(&out)[..end]).is_err());
        }
    }
}

#[test]
fn lengths_are_bounded_by_the_tag() {
    use wire::fe;
    for tag in 0..=255_u8 {
        let limit = wire::client_body_limit(tag);
        let expected = match tag {
            fe::QUERY | fe::PARSE | fe::BIND | fe::FUNCTION_CALL | fe::COPY_DATA => Some(wire::LARGE_BODY),
            fe::CLOSE | fe::DESCRIBE | fe::EXECUTE | fe::FLUSH | fe::SYNC | fe::TERMINATE | fe::COPY_DONE | fe::COPY_FAIL => {
                Some(wire::SMALL_BODY)
            }
            _ => None,
        };
        assert_eq!(limit, expected, "{tag}");
    }
}
