//! stub
use crate::decision::Trace;
use crate::{Denial, JudgeRequest, Judgement, Verdict};
pub(crate) fn text(_sql: &str, request: &JudgeRequest<'_>) -> Judgement {
    Judgement {
        verdict: Verdict::Deny(Denial { code: "42501".to_owned(), message: "not judged".to_owned(), detail: None, hint: None }),
        rule: "default".to_owned(),
        policy: request.policy.digest(),
        statements: Vec::new(),
        touches_protected: true,
        needs_durable_record: true,
        stale_catalog: false,
        valid_until: None,
        trace: Trace::default(),
    }
}
