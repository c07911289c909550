//! Every view of a message, over any bytes: none panics, and what a view of a frame says fits into the frame.
#![no_main]

use countersign_wire as wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for limit in [0, 100, wire::LARGE_BODY, usize::MAX] {
        if let Ok(Some(header)) = wire::peek_frame(data, limit) {
            assert!(header.body() <= limit && header.total == header.body() + wire::HEADER_LEN);
        }
    }
    let body = data.get(1..).unwrap_or_default();
    match data.first().copied().unwrap_or_default() % 12 {
        0 => drop(wire::parse(body)),
        1 => {
            if let Ok(bind) = wire::bind(body) {
                assert!(bind.parameters.iter().all(|(_, value)| value.is_none_or(|value| value.len() <= body.len())));
                assert!(bind.tail.len() <= body.len());
            }
        }
        2 => drop(wire::describe(body)),
        3 => drop(wire::execute(body)),
        4 => drop(wire::close(body)),
        5 => drop(wire::query_text(body)),
        6 => drop(wire::RowDescription::read(body)),
        7 => drop(wire::notice_fields(body)),
        8 => drop(wire::parameter_status(body)),
        9 => drop(wire::command_tag(body)),
        10 => drop(wire::ready_status(body)),
        _ => drop(wire::client_body_limit(body.first().copied().unwrap_or_default())),
    }
});
