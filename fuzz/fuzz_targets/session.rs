//! The session machine under any mixture of both sides' messages, approvals, acknowledgements and ends; `script` has the invariants.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../proxy/session/tests/support/mod.rs"]
mod support;

fuzz_target!(|data: &[u8]| {
    // Judging recurses over the statement, as on the gateway's own threads.
    let data = data.to_vec();
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(move || support::script::play(&data));
    if let Ok(thread) = thread
        && thread.join().is_err()
    {
        std::process::abort();
    }
});
