//! How often values that are nobody's personal data are taken for it, over generated data of the kinds a bank's tables have.
//!
//! The table in `docs/masking.md` is what this test finds. `UPDATE_DOCS=1 cargo test -p countersign-masking --test false_alarms` writes it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use countersign_masking::detect::{Detectors, Kind};

const VALUES: u64 = 20_000;
const BEGIN: &str = "<!-- false alarms: begin -->\n";
const END: &str = "<!-- false alarms: end -->";

/// xorshift64*: the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(u64::try_from(words.len()).unwrap())).unwrap();
        words.get(index).copied().unwrap_or_default()
    }

    fn digits(&mut self, count: u32) -> String {
        (0..count).map(|_| char::from(b'0' + u8::try_from(self.below(10)).unwrap())).collect()
    }

    fn letters(&mut self, count: u32, from: &str) -> String {
        let all: Vec<char> = from.chars().collect();
        (0..count).filter_map(|_| all.get(usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap())).collect()
    }

    fn time(&mut self) -> String {
        format!(
            "20{:02}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00",
            self.below(30),
            self.below(12) + 1,
            self.below(28) + 1,
            self.below(24),
            self.below(60),
            self.below(60),
            self.below(1_000_000)
        )
    }

    fn uuid(&mut self) -> String {
        let hex = "0123456789abcdef";
        let parts = [8, 4, 4, 4, 12].map(|count| self.letters(count, hex));
        parts.join("-")
    }
}

const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const FIRST: &[&str] = &["Ada", "Bruno", "Carmen", "Dmitri", "Elena", "Farid", "Grace", "Hiro", "Ines", "Jonas", "Keiko", "Luis"];
const LAST: &[&str] = &["Abbott", "Becker", "Castillo", "Dahl", "Eriksen", "Fontaine", "Garcia", "Holt", "Ito", "Jansen", "Kaya"];
const STREETS: &[&str] = &["Main St", "Oak Avenue", "Rue de Rivoli", "Hauptstraße", "5th Ave", "Elm Court", "High Street"];
const WORDS: &[&str] =
    &["transfer", "rent", "refund", "invoice", "payroll", "fee", "order", "card payment", "standing order", "chargeback"];

type Make = fn(&mut Random) -> String;

const DATA: &[(&str, Make)] = &[
    ("names", |r| format!("{} {}", r.pick(FIRST), r.pick(LAST))),
    ("postal addresses", |r| format!("{} {}, {} {}", r.below(9999), r.pick(STREETS), r.digits(5), r.pick(LAST))),
    ("amounts", |r| format!("{}.{:02}", r.below(100_000_000), r.below(100))),
    ("timestamps", Random::time),
    ("UUIDs", Random::uuid),
    ("IP addresses and ports", |r| format!("{}.{}.{}.{}:{}", r.below(256), r.below(256), r.below(256), r.below(256), r.below(65536))),
    ("versions", |r| format!("{}.{}.{}-rc.{}", r.below(40), r.below(100), r.below(1000), r.below(20))),
    ("Git commits", |r| r.letters(40, "0123456789abcdef")),
    ("base64 tokens", |r| r.letters(64, BASE64)),
    ("URLs with ids", |r| {
        format!("https://shop.example/{}/{}?page={}", r.pick(WORDS).replace(' ', "-"), r.below(1_000_000_000), r.below(90))
    }),
    ("invoice numbers", |r| format!("INV-20{:02}-{}", r.below(30), r.digits(6))),
    ("payment texts", |r| format!("{} {} {}", r.pick(WORDS), r.pick(LAST), 1000 + r.below(9000))),
    ("log lines", |r| {
        format!(
            "{} INFO worker-{} took {} ms for request {} ({} rows)",
            r.time(),
            r.below(64),
            r.below(90_000),
            r.uuid(),
            r.below(1_000_000)
        )
    }),
    ("JSON events", |r| {
        format!(
            "{{\"id\": {}, \"at\": {}, \"kind\": \"{}\", \"amount\": {}.{:02}, \"trace\": \"{}\"}}",
            r.below(100_000_000),
            1_700_000_000_000 + r.below(90_000_000_000),
            r.pick(WORDS),
            r.below(100_000),
            r.below(100),
            r.uuid()
        )
    }),
    ("8-digit ids", |r| r.digits(8)),
    ("9-digit ids", |r| r.digits(9)),
    ("10-digit ids", |r| r.digits(10)),
    ("12-digit ids", |r| r.digits(12)),
    ("16-digit ids", |r| r.digits(16)),
    ("ids in groups of 4", |r| format!("{}-{}-{}-{}", r.digits(4), r.digits(4), r.digits(4), r.digits(4))),
    ("ids like 123-456-7890", |r| format!("{}-{}-{}", r.digits(3), r.digits(3), r.digits(4))),
    ("ids like AB12345678", |r| format!("{}{}", r.letters(2, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), r.digits(8))),
    ("ids like DE12 and 18 digits", |r| format!("DE{}", r.digits(20))),
];

fn table() -> String {
    let detectors = Detectors::standard();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut out = String::from("| of 20,000 | ");
    for kind in Kind::BUILT_IN {
        let _ = write!(out, "{} | ", kind.name());
    }
    out.push_str("\n|---|");
    out.push_str(&"---:|".repeat(Kind::BUILT_IN.len()));
    out.push('\n');
    for (name, make) in DATA {
        let mut hits: BTreeMap<Kind, u64> = BTreeMap::new();
        for _ in 0..VALUES {
            for found in detectors.scan(make(&mut random).as_bytes()) {
                *hits.entry(found.kind).or_default() += 1;
            }
        }
        let _ = write!(out, "| {name} |");
        for kind in Kind::BUILT_IN {
            match hits.get(&kind) {
                Some(count) => {
                    let _ = write!(out, " {count} |");
                }
                None => out.push_str(" |"),
            }
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_documentation_lists_what_is_found() {
    let path = format!("{}/../../docs/masking.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    let found = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{found}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(listed, found, "run this test with UPDATE_DOCS=1");
}
