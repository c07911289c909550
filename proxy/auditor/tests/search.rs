//! `search`: what is found, where, and what is not.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "other tests use the rest")]
mod support;

use countersign_audit::list::Filter;
use countersign_audit::search::{Pattern, Place, search};
use support::{archive, events, id, objects, recording_key, write};

/// Kinds and texts of the hits, and how many sessions were searched.
async fn found(text: &str, expression: bool, place: Place, filter: Filter) -> (Vec<(String, String)>, u64) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &objects(id(1), &events(id(1), "Ticket 4711"), &recording_key()));
    let mut hits = Vec::new();
    let (archive, pattern) = (archive(folder.path()).await, Pattern::new(text, expression).unwrap());
    let sessions = search(&archive, &filter, &pattern, place, |hit| {
        assert_eq!((hit.session, hit.principal), (id(1).to_string(), "repo:bank/app".to_owned()));
        hits.push((hit.kind, hit.text));
        Ok(())
    });
    let sessions = sessions.await.unwrap();
    (hits, sessions)
}

#[tokio::test]
async fn text_is_found_where_it_was_said_or_shown() {
    let everything = ["statement", "rows", "error"];
    for (text, expression, place, expected) in [
        // Whatever its case; as a regular expression it counts.
        ("TICKET 4711", false, Place::All, &everything[..]),
        ("Ticket \\d+", true, Place::All, &everything[..]),
        ("TICKET \\d+", true, Place::All, &[]),
        // What is no regular expression is no pattern.
        ("Ticket \\d+", false, Place::All, &[]),
        ("4711", false, Place::Statements, &["statement"]),
        ("4711", false, Place::Results, &["rows"]),
        ("4711", false, Place::Messages, &["error"]),
        ("******6789", false, Place::Results, &["rows"]),
        ("mallory", false, Place::Results, &[]),
        ("nowhere", false, Place::All, &[]),
    ] {
        let (hits, sessions) = found(text, expression, place, Filter::default()).await;
        assert_eq!((hits.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), sessions), (expected.to_vec(), 1), "{text} {place:?}");
    }
    assert!(Pattern::new("(", true).is_err());
}

#[tokio::test]
async fn only_sessions_that_the_filter_leaves_are_searched() {
    for (filter, sessions) in [
        (Filter { principal: Some("REPO:bank".into()), ..Filter::default() }, 1),
        (Filter { principal: Some("dana".into()), ..Filter::default() }, 0),
        (Filter { database: Some("other".into()), ..Filter::default() }, 0),
        (Filter { since_us: Some(support::START_US + 1), ..Filter::default() }, 0),
        (Filter { until_us: Some(support::START_US), ..Filter::default() }, 0),
    ] {
        let (hits, searched) = found("4711", false, Place::All, filter.clone()).await;
        assert_eq!((searched, hits.is_empty()), (sessions, sessions == 0), "{filter:?}");
    }
}
