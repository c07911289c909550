//! stub
use countersign_masking::MaskKey;
use crate::{Denial, JudgeRequest, Judgement, MaskOutcome, ResultColumn};
pub(crate) fn plan(_j: &Judgement, _c: &[ResultColumn], _r: &JudgeRequest<'_>, _k: &MaskKey) -> MaskOutcome {
    MaskOutcome::Refuse(Denial { code: "42501".to_owned(), message: "not planned".to_owned(), detail: None, hint: None })
}
