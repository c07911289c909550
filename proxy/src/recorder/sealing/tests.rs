#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use countersign_recording::{Limits, Sealed};
use uuid::Uuid;

use super::*;

fn session() -> SessionId {
    SessionId(Uuid::from_bytes([1; 16]))
}

struct Keys {
    private: Vec<OaepPrivateDecryptingKey>,
    sealer: Arc<Sealer>,
}

fn keys(extent: Extent, count: usize) -> Keys {
    let mut private = Vec::new();
    let mut public = Vec::new();
    for _ in 0..count {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        let spki = key.public_key().as_der().unwrap();
        public.push((opening_key_id(spki.as_ref()), OaepPublicEncryptingKey::new(key.public_key()).unwrap()));
        private.push(OaepPrivateDecryptingKey::new(key).unwrap());
    }
    Keys { private, sealer: Arc::new(Sealer { extent, keys: public }) }
}

fn open(keys: &[OaepPrivateDecryptingKey], sealed: &Sealed) -> Option<Event> {
    let shares: Vec<[u8; 32]> = keys
        .iter()
        .zip(&sealed.shares)
        .map(|(key, share)| {
            let mut out = vec![0; key.min_output_size()];
            key.decrypt(&OAEP_SHA256_MGF1SHA256, &share.wrapped, &mut out, None).unwrap().try_into().unwrap()
        })
        .collect();
    DataKey::of_shares(&shares).open(session(), sealed, &Limits::default()).ok()
}

fn sealed(keys: &Keys, mut events: Vec<Event>) -> Vec<Event> {
    let mut numbered: Vec<(i64, Event)> = events.drain(..).map(|event| (0, event)).collect();
    SessionSealer::new(Arc::clone(&keys.sealer), session(), None).seal(&mut numbered).unwrap();
    numbered.into_iter().map(|(_, event)| event).collect()
}

fn statement(text: &'static str, value: &'static [u8]) -> Event {
    let parameter = countersign_recording::v1::event::Parameter { type_oid: 25, format: 0, value: Some(Bytes::from_static(value)) };
    Event::Statement {
        statement: 1,
        extended: true,
        text: Bytes::from_static(text.as_bytes()),
        parameters: vec![parameter],
        digest: [7; 32],
    }
}

fn decision(verdict: Verdict) -> Event {
    Event::Decision { statement: 1, verdict, rule: "r".into(), policy: [0; 32], facts: "[]".into() }
}

#[test]
fn what_is_sealed_opens_with_all_keys_only_and_digests_stay_where_they_prove_something() {
    let keys = keys(Extent::Detected, 2);
    let exact = statement("select $1 /* 123-45-6789 */", b"4111111111111111");
    for (verdict, digest) in [(Verdict::Allow, [0; 32]), (Verdict::Hold, [7; 32])] {
        let events = sealed(&keys, vec![exact.clone(), decision(verdict)]);
        let Event::Sealed(sealed) = &events[0] else { panic!("not sealed") };
        assert!(matches!(&*sealed.shown, Event::Statement { text, digest: shown, parameters, .. }
            if &text[..] == b"select $1 /*[sealed]*/" && *shown == digest && parameters[0].value.as_deref() == Some(b"[sealed]")));
        assert_eq!(open(&keys.private, sealed), Some(exact.clone()));
        assert_eq!(open(&keys.private[..1], sealed), None);
        assert_eq!(events[1], decision(verdict));
    }
}

#[test]
fn everything_a_client_says_is_looked_at_and_the_rest_stays_as_it_is() {
    let plain = vec![statement("select $1", b"north"), decision(Verdict::Allow)];
    assert_eq!(sealed(&keys(Extent::Detected, 1), plain.clone()), plain);
    let mut notice = b"N\0\0\0\x20SNOTICE\0Mit is 123-45-6789\0\0".to_vec();
    notice[4] = u8::try_from(notice.len() - 1).unwrap();
    let said = vec![
        Event::CopyIn { statement: 1, frames: Bytes::from_static(b"d\0\0\0\x0f123-45-6789") },
        Event::Error { statement: 1, code: "22P02".into(), message: "invalid: \"123-45-6789\"".into(), from_server: true },
        Event::Notice { frame: Bytes::from(notice) },
        Event::Parameter { name: "application_name".into(), value: "123-45-6789".into() },
        Event::Anomaly { statement: 1, what: "123-45-6789".into() },
    ];
    for extent in [Extent::Detected, Extent::All] {
        let keys = keys(extent, 1);
        for (event, exact) in sealed(&keys, said.clone()).iter().zip(&said) {
            let Event::Sealed(sealed) = event else { panic!("not sealed: {event:?}") };
            assert!(!format!("{:?}", sealed.shown).contains("45-67"), "{:?}", sealed.shown);
            assert_eq!(open(&keys.private, sealed).as_ref(), Some(exact));
        }
    }
}
