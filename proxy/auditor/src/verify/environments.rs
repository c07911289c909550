//! Whose recordings lie in the store. One recording key may sign for several deployments: what one of them recorded is genuine and still does not
//! belong among the recordings of another.

use std::collections::BTreeMap;

use super::{Failure, VerifyReport};

/// Sessions and tasks by environment.
#[derive(Debug, Default)]
pub(super) struct Environments(BTreeMap<String, Vec<String>>);

impl Environments {
    /// Adds one, where it says of which it is.
    pub(super) fn add(&mut self, environment: Option<&str>, what: impl FnOnce() -> String) {
        if let Some(environment) = environment {
            self.0.entry(environment.to_owned()).or_default().push(what());
        }
    }

    /// All that is not of the one expected does not belong here. With none expected there must be no more than one.
    pub(super) fn check(self, expected: Option<&str>, report: &mut VerifyReport) {
        match expected {
            Some(expected) => {
                for (environment, strangers) in self.0.into_iter().filter(|(environment, _)| environment != expected) {
                    report.store_findings.extend(strangers.into_iter().map(|stranger| Failure {
                        object: None,
                        event: None,
                        problem: format!("{stranger} is of environment {environment}, not of {expected}"),
                    }));
                }
            }
            None if self.0.len() > 1 => {
                let found: Vec<String> = self
                    .0
                    .iter()
                    .map(|(name, all)| format!("{name} ({}, {} in all)", all.first().map_or("", String::as_str), all.len()))
                    .collect();
                report.store_unchecked.push(format!(
                    "recordings of several environments are here: {}; say by --environment which one belongs here",
                    found.join(", ")
                ));
            }
            None => {}
        }
    }
}
