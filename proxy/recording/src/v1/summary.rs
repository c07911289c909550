//! What a session was about, in a few numbers: the index part of a manifest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::event::{Event, Verdict};

/// How many table names a summary carries at most.
const MAX_TABLES: usize = 1000;

/// Counts and names, derived from the events alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Issuer of the token.
    pub issuer: String,
    /// Subject.
    pub subject: String,
    /// E-mail.
    pub email: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Database.
    pub database: String,
    /// Upstream role.
    pub upstream_user: String,
    /// `application_name` of the client.
    pub application: String,
    /// Client address.
    pub client_addr: String,
    /// Statements.
    pub statements: u64,
    /// Decisions that allowed.
    pub allowed: u64,
    /// Decisions that denied.
    pub denied: u64,
    /// Decisions that held.
    pub held: u64,
    /// Holds that were granted.
    pub granted: u64,
    /// Errors the client got.
    pub errors: u64,
    /// Rows the client got.
    pub rows: u64,
    /// Values masked.
    pub masked: u64,
    /// Cancel requests.
    pub cancels: u64,
    /// Anomalies.
    pub anomalies: u64,
    /// Events lost, as gap events say.
    pub lost: u64,
    /// `schema.table` read or written, sorted; at most 1000.
    pub tables: BTreeSet<String>,
    /// Whether there were more tables than listed.
    pub more_tables: bool,
}

impl Summary {
    /// Takes an event into account.
    pub fn observe(&mut self, event: &Event) {
        self.count(event);
        if let Event::Decision { facts, .. } = event.shown() {
            self.tables_of(facts);
        }
    }

    /// The same of an event whose facts, if it is a decision, were taken into account before: they are not read again.
    pub fn observe_again(&mut self, event: &Event) {
        self.count(event);
    }

    fn count(&mut self, event: &Event) {
        match event.shown() {
            Event::SessionStart(start) => {
                self.issuer.clone_from(&start.issuer);
                self.subject.clone_from(&start.subject);
                self.email.clone_from(&start.email);
                self.groups.clone_from(&start.groups);
                self.database.clone_from(&start.database);
                self.upstream_user.clone_from(&start.upstream_user);
                self.application.clone_from(&start.application);
                self.client_addr.clone_from(&start.client_addr);
            }
            Event::Statement { .. } => add(&mut self.statements, 1),
            Event::Decision { verdict, .. } => match verdict {
                Verdict::Allow => add(&mut self.allowed, 1),
                Verdict::Deny => add(&mut self.denied, 1),
                Verdict::Hold => add(&mut self.held, 1),
            },
            Event::Approval { outcome, .. } if outcome == "granted" => add(&mut self.granted, 1),
            Event::Error { .. } => add(&mut self.errors, 1),
            Event::Rows { count, .. } => add(&mut self.rows, *count),
            Event::Masked { columns, .. } => columns.iter().for_each(|column| add(&mut self.masked, column.values)),
            Event::Cancel { .. } => add(&mut self.cancels, 1),
            Event::Anomaly { .. } => add(&mut self.anomalies, 1),
            Event::Gap { events, .. } => add(&mut self.lost, *events),
            _ => {}
        }
    }

    /// Facts are JSON of the policy engine's own making; of that only `reads` and `writes` matter here, and what is not understood is left out.
    fn tables_of(&mut self, facts: &str) {
        #[derive(Deserialize)]
        struct Facts {
            #[serde(default)]
            reads: Vec<Relation>,
            #[serde(default)]
            writes: Vec<Relation>,
        }
        #[derive(Deserialize)]
        struct Relation {
            #[serde(default)]
            schema: String,
            name: String,
        }
        for statement in serde_json::from_str::<Vec<Facts>>(facts).unwrap_or_default() {
            for Relation { schema, name } in statement.reads.into_iter().chain(statement.writes) {
                let table = if schema.is_empty() { name } else { format!("{schema}.{name}") };
                if self.tables.len() < MAX_TABLES {
                    self.tables.insert(table);
                } else if !self.tables.contains(&table) {
                    self.more_tables = true;
                }
            }
        }
    }
}

fn add(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}
