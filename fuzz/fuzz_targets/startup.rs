//! Whatever a stranger sends before it has shown a token: no panic, and never more bytes read than a start-up packet may have before it is judged.
#![no_main]

use countersign_proxy::config::Listen;
use countersign_proxy::startup::{Greeting, Transport, greet};
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncWriteExt as _;

fuzz_target!(|data: &[u8]| {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let listen = Listen {
        address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        plaintext: true,
        tls_reload: std::time::Duration::from_secs(1),
        proxies: Vec::new(),
    };
    let transport = {
        let _inside = runtime.enter();
        Transport::new(&listen)
    };
    let Ok(transport) = transport else { return };
    runtime.block_on(async {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let (oauth, data) = data.split_first().map_or((false, data), |(first, rest)| (first % 2 == 0, rest));
        if near.write_all(data.get(..data.len().min(1 << 20)).unwrap_or_default()).await.is_err() {
            return;
        }
        drop(near.shutdown().await);
        if let Greeting::Session(mut greeted) = greet(far, &transport).await {
            assert!(!greeted.parameters.user.is_empty() && !greeted.parameters.user.chars().any(char::is_control));
            if oauth {
                drop(greeted.ask_for_bearer().await);
            } else {
                drop(greeted.ask_for_token().await);
            }
        }
    });
});
