//! Judging texts, with a cache of exact texts and of those that differ only in literals no judgement looks at.

use std::sync::Arc;

use countersign_masking::{MaskKey, TextStyle};
use countersign_policy::catalog::FIRST_USER_OID;
use countersign_policy::facts::{SessionAction, StatementKind};
use countersign_policy::judge::{JudgeRequest, judge, plan_copy, plan_masks};
use countersign_policy::{
    CopyOutcome, Denial, Judgement, MaskOutcome, Place, PolicyDigest, ResultColumn, StatementFacts, TextCache, Verdict,
};
use countersign_recording::Event;
use countersign_recording::v1::event;

use crate::opening::Opening;
use crate::session::Session;

/// What a judgement depends on besides the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    epoch: u64,
    policy: PolicyDigest,
    catalog: u64,
}

impl Stamp {
    /// Whether every name means the same under both, whatever the policies say of it.
    pub(crate) fn means_as(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.catalog == other.catalog
    }

    /// Whether both are of one policy.
    pub(crate) fn is_of_policy(&self, other: &Self) -> bool {
        self.policy == other.policy
    }
}

/// Judgements of texts under one stamp.
#[derive(Debug, Default)]
pub(crate) struct JudgementCache {
    stamp: Option<Stamp>,
    texts: TextCache<Arc<Judged>>,
}

/// A judgement and what is derived from it once.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) judgement: Arc<Judgement>,
    pub(crate) stamp: Stamp,
    pub(crate) facts: String,
}

impl Session {
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { epoch: self.state.epoch(), policy: self.policy.digest(), catalog: self.catalog_generation }
    }

    /// Whether an earlier judgement still counts.
    pub(crate) fn still_valid(&self, judged: &Judged) -> bool {
        judged.stamp == self.stamp() && judged.judgement.valid_until.is_none_or(|until| self.now_us / 1_000_000 < until)
    }

    /// Judges a text, or finds the judgement made of it under the same circumstances.
    ///
    /// `types` are those the client declared for parameters. Types of users make a difference, those of the server do not.
    pub(crate) fn judge(&mut self, text: &[u8], types: &[u32]) -> Arc<Judged> {
        let stamp = self.stamp();
        if types.iter().any(|oid| *oid >= FIRST_USER_OID) {
            let judgement = match std::str::from_utf8(text) {
                Ok(sql) => judge(sql, &JudgeRequest { parameter_types: types, ..self.judge_request() }),
                Err(error) => not_utf8(&error, self.policy.digest()),
            };
            return Self::judged(judgement, stamp);
        }
        if self.cache.stamp != Some(stamp) {
            self.cache.texts.clear();
            self.cache.stamp = Some(stamp);
        }
        let sql = match std::str::from_utf8(text) {
            Ok(sql) => sql,
            Err(error) => return Self::judged(not_utf8(&error, self.policy.digest()), stamp),
        };
        if let Some(judged) = self.cache.texts.find(text).map(Arc::clone)
            && self.still_valid(&judged)
        {
            return judged;
        }
        let judged = Self::judged(judge(sql, &self.judge_request()), stamp);
        if !judged.judgement.stale_catalog {
            self.cache.texts.keep(text, judged.judgement.is_shared(), &judged);
        }
        judged
    }

    fn judged(judgement: Judgement, stamp: Stamp) -> Arc<Judged> {
        let facts = serde_json::to_string(&judgement.statements).unwrap_or_default();
        Arc::new(Judged { judgement: Arc::new(judgement), stamp, facts })
    }

    pub(crate) fn judge_request(&self) -> JudgeRequest<'_> {
        JudgeRequest {
            parameter_types: &[],
            policy: &self.policy,
            principal: &self.principal,
            database: &self.database,
            catalog: &self.catalog,
            state: &self.state,
            now: self.now_us / 1_000_000,
        }
    }

    pub(crate) fn plan_masks(&self, judgement: &Judgement, columns: &[ResultColumn], place: Place) -> MaskOutcome {
        let key: &MaskKey = &self.mask_key;
        plan_masks(judgement, columns, place, &self.judge_request(), key)
    }

    /// How texts in the results of a statement are written, as far as that is known. Changes are reported with ReadyForQuery, and only then.
    pub(crate) fn style(&self, judgement: &Judgement) -> TextStyle {
        self.state.style().unsettled(self.rows.unsettled || !judgement.keeps_settings())
    }

    pub(crate) fn plan_copy(&self, judgement: &Judgement, nth: usize, binary: bool, columns: usize) -> CopyOutcome {
        plan_copy(judgement, nth, binary, columns, self.style(judgement), &self.judge_request(), &self.mask_key)
    }

    /// Records the settings that the session opened with, each as the statement it stands for.
    pub(crate) fn record_opening(&mut self, opening: Vec<Opening>) {
        for setting in opening {
            let (text, judgement) = setting.into_judged();
            let judged = Self::judged(judgement, self.stamp());
            let statement = self.record_statement(&text, false, &[], &judged);
            self.record(Event::Completion { statement, tag: "SET".to_owned(), duration_us: 0 });
        }
    }

    /// Records the decision on a statement.
    pub(crate) fn record_decision(&mut self, statement: u64, judged: &Judged) {
        let verdict = match judged.judgement.verdict {
            Verdict::Allow => event::Verdict::Allow,
            Verdict::Deny(_) => event::Verdict::Deny,
            Verdict::Hold(_) => event::Verdict::Hold,
        };
        self.record(Event::Decision {
            statement,
            verdict,
            rule: judged.judgement.rule.clone(),
            policy: judged.judgement.policy.0,
            facts: judged.facts.clone(),
        });
    }
}

fn not_utf8(error: &std::str::Utf8Error, policy: PolicyDigest) -> Judgement {
    Judgement {
        verdict: Verdict::Deny(Denial {
            code: "22021".to_owned(),
            message: format!("the statement is not valid UTF-8 from byte {} on", error.valid_up_to()),
            detail: None,
            hint: Some("set client_encoding to UTF8".to_owned()),
        }),
        rule: "default".to_owned(),
        policy,
        statements: vec![StatementFacts {
            kind: StatementKind::Unknown,
            reads: Vec::new(),
            writes: Vec::new(),
            functions: Vec::new(),
            missing_where: false,
            limit: None,
            notes: vec!["not valid UTF-8".to_owned()],
            executes: Vec::new(),
            action: SessionAction::None,
        }],
        touches_protected: false,
        needs_durable_record: true,
        stale_catalog: false,
        valid_until: None,
        trace: countersign_policy::decision::Trace::default(),
    }
}
