//! `policy explain`: what a statement is, which rules were tried, what is decided and how its results will be shown; as text for
//! people, as JSON for programs.

use std::fmt::Write as _;

use countersign_policy::{ForeseenColumn, GroupSource, Judgement, Principal, Verdict};
use serde::Serialize;

/// All of an explanation.
#[derive(Debug)]
pub(super) struct Explanation<'a> {
    pub(super) principal: &'a Principal,
    pub(super) database: &'a str,
    pub(super) judgement: &'a Judgement,
    /// For each statement, the columns of its result where they are known.
    pub(super) columns: Vec<Option<Vec<ForeseenColumn>>>,
}

impl Explanation<'_> {
    pub(super) fn json(&self) -> serde_json::Value {
        let judgement = self.judgement;
        serde_json::json!({
            "decision": verdict_name(&judgement.verdict),
            "terms": Terms::of(&judgement.verdict),
            "rule": judgement.rule,
            "policy": judgement.policy.to_hex(),
            "principal": { "subject": self.principal.subject, "groups": self.principal.groups },
            "database": self.database,
            "statements": judgement.statements,
            "touches_protected": judgement.touches_protected,
            "stale_catalog": judgement.stale_catalog,
            "rules_tried": judgement.trace.trials(),
            "mask_plan": self.columns,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let judgement = self.judgement;
        let groups: Vec<&str> = self.principal.groups.iter().map(String::as_str).collect();
        let groups = if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") };
        writeln!(out, "Decision   {}, by rule \"{}\"", verdict_name(&judgement.verdict).to_uppercase(), judgement.rule)?;
        match &judgement.verdict {
            Verdict::Allow => writeln!(out, "           the statement runs at once")?,
            Verdict::Deny(denial) => {
                writeln!(out, "           the client is told: {} (SQLSTATE {})", denial.message, denial.code)?;
                for more in denial.detail.iter().chain(&denial.hint) {
                    writeln!(out, "           {more}")?;
                }
            }
            Verdict::Hold(terms) => {
                let people = if terms.quorum == 1 { "person" } else { "people" };
                writeln!(
                    out,
                    "           waits for {} {people} of {}, at most {}",
                    terms.quorum,
                    terms.reviewers.join(" or "),
                    time(terms.expiry)
                )?;
                for source in &terms.sources {
                    writeln!(out, "           members of {source}, asked for when they decide")?;
                }
                writeln!(out, "           reason shown to reviewers: {}", terms.reason)?;
            }
        }
        let who = if self.principal.subject.is_empty() { "anyone" } else { self.principal.subject.as_str() };
        writeln!(out, "Asked by   {who} ({groups}) on database {}", self.database)?;
        writeln!(out, "Policy     sha256 {}", judgement.policy)?;
        for (index, facts) in judgement.statements.iter().enumerate() {
            writeln!(out, "\nStatement {} is of kind {}: it {}", index + 1, facts.kind.name(), facts.kind.in_words())?;
            for (label, relations) in [("reads", &facts.reads), ("writes", &facts.writes)] {
                let names: Vec<String> = relations.iter().map(ToString::to_string).collect();
                if !names.is_empty() {
                    writeln!(out, "  {label:<9}{}", names.join(", "))?;
                }
            }
            if !facts.functions.is_empty() {
                writeln!(out, "  calls    {}", facts.functions.join(", "))?;
            }
            if facts.missing_where {
                writeln!(out, "  note     UPDATE or DELETE without WHERE: every row")?;
            }
            for note in &facts.notes {
                writeln!(out, "  because  {note}")?;
            }
            let trials: Vec<_> = judgement.trace.trials().iter().filter(|trial| trial.statement == index).collect();
            if !trials.is_empty() {
                writeln!(out, "  rules, in order; the first that matches decides")?;
            }
            for trial in trials {
                writeln!(out, "    {} {}: {}", if trial.matched { "+" } else { "-" }, trial.rule, trial.why)?;
            }
            self.write_columns(index, out)?;
        }
        Ok(())
    }

    fn write_columns(&self, index: usize, out: &mut String) -> std::fmt::Result {
        match self.columns.get(index).map(Option::as_deref) {
            Some(Some(columns)) if !columns.is_empty() => {
                writeln!(out, "  result columns")?;
                for column in columns {
                    let name = if column.name.is_empty() { "(unnamed)" } else { column.name.as_str() };
                    let source = column.source.as_ref().map(|source| format!(", from {source}")).unwrap_or_default();
                    match &column.mask {
                        Some(mask) => writeln!(out, "    {name}: masked ({mask}){source}")?,
                        None => writeln!(out, "    {name}: in clear{source}")?,
                    }
                }
                Ok(())
            }
            Some(None) if self.judgement.touches_protected => {
                writeln!(out, "  result columns are known only to the server; what has no known origin is masked in full")
            }
            _ => Ok(()),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Terms<'a> {
    None,
    Deny(&'a countersign_policy::Denial),
    Hold { reason: &'a str, reviewers: &'a [String], sources: &'a [GroupSource], quorum: u32, expiry_seconds: u64 },
}

impl<'a> Terms<'a> {
    fn of(verdict: &'a Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::None,
            Verdict::Deny(denial) => Self::Deny(denial),
            Verdict::Hold(terms) => Self::Hold {
                reason: &terms.reason,
                reviewers: &terms.reviewers,
                sources: &terms.sources,
                quorum: terms.quorum,
                expiry_seconds: terms.expiry.as_secs(),
            },
        }
    }
}

/// `allow`, `deny` or `hold`.
pub(super) const fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny(_) => "deny",
        Verdict::Hold(_) => "hold",
    }
}

fn time(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} seconds"),
        (1, 0) => "1 minute".to_owned(),
        (minutes, 0) => format!("{minutes} minutes"),
        _ => format!("{seconds} seconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_said_in_the_unit_that_fits() {
        let table = [(30, "30 seconds"), (60, "1 minute"), (900, "15 minutes"), (90, "90 seconds")];
        for (seconds, said) in table {
            assert_eq!(time(std::time::Duration::from_secs(seconds)), said);
        }
    }
}
