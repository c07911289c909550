//! Whatever strangers send before they have shown a token: no panic, no endless wait, and nobody gets further without a name. What the fuzz
//! target `startup` does, with stable Rust; sequences that fail are kept in `proxy/proptest-regressions`.

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, duplex};

use super::*;
use crate::config::Listen;

/// A packet as a client would send it, or nearly so.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        prop::sample::select(vec![
            "user",
            "database",
            "options",
            "replication",
            "application_name",
            "client_encoding",
            "_pq_.x",
            "ada",
            "true",
            "UTF8",
            "-c a=b",
            ""
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let version =
        prop::sample::select(vec![0x0003_0000_u32, 0x0003_0002, 0x0003_ffff, 0x0002_0000, 0x04d2_162f, 0x04d2_1630, 0x04d2_162e, 0]);
    let packet = |body: Vec<u8>, lie: i32| {
        let length = i32::try_from(body.len()).unwrap().saturating_add(4).saturating_add(lie);
        [length.to_be_bytes().to_vec(), body].concat()
    };
    let lie = || prop_oneof![8 => Just(0), 1 => any::<i32>(), 1 => -5..5_i32];
    prop_oneof![
        6 => (version, prop::collection::vec(text, 0..8), lie()).prop_map(move |(version, texts, lie)| {
            let mut body = version.to_be_bytes().to_vec();
            for text in texts {
                body.extend(text);
                body.push(0);
            }
            body.push(0);
            packet(body, lie)
        }),
        2 => (prop::collection::vec(any::<u8>(), 0..60), lie()).prop_map(move |(body, lie)| [b"p".to_vec(), packet(body, lie)].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #[test]
    fn strangers_get_nowhere_without_a_name(pieces in prop::collection::vec(piece(), 0..5), oauth in any::<bool>()) {
        let listen = Listen {
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            plaintext: true,
            tls_reload: std::time::Duration::from_secs(1),
            proxies: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let transport = Transport::new(&listen).unwrap();
        let ended = runtime.block_on(tokio::time::timeout(std::time::Duration::from_secs(60), async {
            let (mut near, far) = duplex(1 << 20);
            near.write_all(&pieces.concat()).await.unwrap();
            near.shutdown().await.unwrap();
            let Greeting::Session(mut greeted) = greet(far, &transport).await else { return true };
            let user = greeted.parameters.user.clone();
            if oauth {
                drop(greeted.ask_for_bearer().await);
            } else {
                drop(greeted.ask_for_token().await);
            }
            !user.is_empty() && !user.chars().any(char::is_control)
        }));
        prop_assert!(ended.unwrap_or(false));
    }
}
