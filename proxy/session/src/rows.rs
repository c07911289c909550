//! Rows on their way to the client: masked, recorded, forwarded.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use countersign_masking::{MaskError, RowMasker};
use countersign_policy::{Denial, Judgement, MaskOutcome, MaskedColumn as Planned, Place, ResultColumn};
use countersign_recording::Event;
use countersign_recording::v1::event::MaskedColumn;
use countersign_wire::{RowDescription, be};

use crate::ends::Fatal;
use crate::errors;
use crate::session::Session;

/// Runs of frames at least this long are passed on and recorded without copying.
const SHARE_AT: usize = 8 * 1024;

/// How the rows of one result are treated.
#[derive(Debug)]
pub(crate) enum Plan {
    /// As they are.
    Pass,
    /// Through a masker.
    Mask(Box<MaskPlan>),
}

/// A masker with what the recording says of it.
#[derive(Debug)]
pub(crate) struct MaskPlan {
    masker: RowMasker,
    columns: Vec<Planned>,
    /// Reviewers granted clear text: masks are for the recording only.
    granted: bool,
}

/// Frames of the running statement that are not recorded yet.
#[derive(Debug, Default)]
pub(crate) struct RowBatch {
    statement: u64,
    frames: BytesMut,
    count: u64,
    masked: BytesMut,
    /// The plan of the result of a simple Query.
    pub(crate) simple: Option<Plan>,
    /// Statements of the running simple Query that completed: each does so once, whatever rules made of it.
    pub(crate) completed: usize,
    /// The next of them has described a result.
    pub(crate) described: bool,
    /// Settings may be others than the server reported last.
    pub(crate) unsettled: bool,
}

/// The run of whole frames with tag `tag` at the start of `input`: bytes and frames.
pub(crate) fn run_of(input: &[u8], tag: u8) -> (usize, u64) {
    let (mut bytes, mut count) = (0_usize, 0_u64);
    while let Some(rest) = input.get(bytes..)
        && let Some(([found, length @ ..], _)) = rest.split_first_chunk::<5>()
        && *found == tag
        && let Ok(length) = usize::try_from(u32::from_be_bytes(*length))
        && length >= 4
        && rest.len() > length
    {
        bytes += length + 1;
        count += 1;
    }
    (bytes, count)
}

impl Session {
    /// Plans the masks of a described result.
    pub(crate) fn plan(&self, judgement: &Judgement, columns: &[ResultColumn], place: Place) -> Result<Plan, Fatal> {
        match self.plan_masks(judgement, columns, place) {
            MaskOutcome::Pass => Ok(Plan::Pass),
            MaskOutcome::Mask { masker, columns, granted } => Ok(Plan::Mask(Box::new(MaskPlan { masker, columns, granted }))),
            MaskOutcome::Refuse(denial) => Err(refused(&denial)),
        }
    }

    /// Plans the masks of a portal's rows, unless they are planned as things stand. It may run in parts, with SET between them, or a new policy.
    pub(crate) fn plan_portal(&mut self, id: u64) -> Result<(), Fatal> {
        let Some(portal) = self.portals.get(&id) else { return Ok(()) };
        let judged = Arc::clone(&portal.judged);
        let style = self.style(&judged.judgement);
        if portal.plan.is_some() && portal.style == style {
            return Ok(());
        }
        let Some(columns) = portal.columns.clone() else { return Ok(()) };
        let plan = self.plan(&judged.judgement, &columns, Place { statement: None, style })?;
        self.drop_plan(id);
        if let Some(portal) = self.portals.get_mut(&id) {
            portal.plan = Some(plan);
            portal.style = style;
        }
        Ok(())
    }

    /// A portal's masks are no more, and what they did so far is recorded.
    pub(crate) fn drop_plan(&mut self, id: u64) {
        let Some((statement, plan)) = self.portals.get_mut(&id).map(|portal| (portal.statement, portal.plan.take())) else { return };
        if let Some(Plan::Mask(mask)) = plan {
            self.flush_rows();
            self.record_masked(statement, &mask);
        }
    }

    /// Forwards and records a frame (or a run of them) that is part of a result, as it is.
    pub(crate) fn result_frames(&mut self, statement: u64, frames: &[u8], count: u64) {
        self.discloses = true;
        self.batch_for(statement);
        self.rows.frames.extend_from_slice(frames);
        self.rows.count += count;
        self.to_client.copy(0, frames);
    }

    /// The same for a long run, shared instead of copied.
    pub(crate) fn result_run(&mut self, statement: u64, input: &mut BytesMut, length: usize, count: u64) {
        if length < SHARE_AT {
            let (run, _) = input.split_at(length.min(input.len()));
            self.result_frames(statement, run, count);
            bytes::Buf::advance(input, length.min(input.len()));
            return;
        }
        let run = input.split_to(length.min(input.len())).freeze();
        self.share(statement, run, count);
    }

    fn share(&mut self, statement: u64, run: Bytes, count: u64) {
        self.discloses = true;
        self.flush_rows();
        self.to_client.push(0, run.clone());
        self.record(Event::Rows { statement, frames: run, count });
    }

    /// Masks a run of DataRow frames. A run in which nothing is to be masked is shared like any other.
    pub(crate) fn masked_run(
        &mut self,
        statement: u64,
        input: &mut BytesMut,
        length: usize,
        count: u64,
        plan: &mut MaskPlan,
    ) -> Result<(), Fatal> {
        let run = input.get(..length).unwrap_or_default();
        if !plan.granted {
            let mut clear = true;
            for body in bodies(run) {
                if !plan.masker.passes(body).map_err(|error| unmaskable(&error))? {
                    clear = false;
                    break;
                }
            }
            if clear {
                self.result_run(statement, input, length, count);
                return Ok(());
            }
        }
        let mut masked = std::mem::take(&mut self.rows.masked);
        let run = input.split_to(length.min(input.len())).freeze();
        for body in bodies(&run) {
            plan.masker.mask(body, &mut masked).map_err(|error| unmaskable(&error))?;
        }
        let frames = if masked.len() < SHARE_AT { Bytes::copy_from_slice(&masked) } else { masked.split().freeze() };
        masked.clear();
        self.rows.masked = masked;
        let shown = if plan.granted { run } else { frames.clone() };
        self.shown(statement, shown, frames, count);
        Ok(())
    }

    /// Forwards what the client is shown and records what is recorded of it.
    pub(crate) fn shown(&mut self, statement: u64, shown: Bytes, recorded: Bytes, count: u64) {
        self.discloses = true;
        if recorded.len() < SHARE_AT {
            self.batch_for(statement);
            self.rows.frames.extend_from_slice(&recorded);
            self.rows.count += count;
            self.to_client.copy(0, &shown);
            return;
        }
        self.flush_rows();
        self.to_client.push(0, shown);
        self.record(Event::Rows { statement, frames: recorded, count });
    }

    /// Records what the masks did when a result ends.
    pub(crate) fn record_masked(&mut self, statement: u64, plan: &MaskPlan) {
        self.record_treated(statement, &plan.columns, plan.masker.counts(), plan.granted);
    }

    /// The same of any plan: columns, how many of each one's values were changed, whether reviewers granted clear text.
    pub(crate) fn record_treated(&mut self, statement: u64, columns: &[Planned], counts: &[u64], granted: bool) {
        let columns: Vec<MaskedColumn> = columns
            .iter()
            .map(|planned| {
                let mask = if granted { format!("{} (the client was granted clear text)", planned.mask) } else { planned.mask.clone() };
                let values = counts.get(planned.index).copied().unwrap_or(0);
                MaskedColumn { column: planned.column.clone(), source: planned.source.clone(), mask, values }
            })
            .filter(|column| column.values > 0 || !column.mask.starts_with("detect"))
            .collect();
        if !columns.is_empty() {
            self.record(Event::Masked { statement, columns });
        }
    }

    fn batch_for(&mut self, statement: u64) {
        if self.rows.statement != statement {
            self.flush_rows();
            self.rows.statement = statement;
        }
    }

    /// Records what was gathered.
    pub(crate) fn flush_rows(&mut self) {
        if !self.rows.frames.is_empty() {
            let frames = self.rows.frames.split().freeze();
            let event = Event::Rows { statement: self.rows.statement, frames, count: self.rows.count };
            self.rows.count = 0;
            self.record(event);
        }
    }
}

/// The bodies of a run of whole frames.
pub(crate) fn bodies(run: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let Ok(Some(header)) = countersign_wire::peek_frame(rest, usize::MAX) else { return None };
        let (frame, after) = rest.split_at_checked(header.total)?;
        rest = after;
        frame.get(countersign_wire::HEADER_LEN..)
    })
}

/// Rows that cannot be masked are not shown, and a session that would have to is over.
pub(crate) fn unmaskable(error: &MaskError) -> Fatal {
    Fatal::new(
        format!("a row could not be masked: {error}"),
        errors::fatal("XX000", "a row could not be masked, so the session ends before it is shown"),
    )
}

/// A result whose rows are already on their way and cannot be masked.
pub(crate) fn refused(denial: &Denial) -> Fatal {
    let mut error = errors::denied(denial);
    for (letter, text) in &mut error.0 {
        if matches!(letter, b'S' | b'V') {
            "FATAL".clone_into(text);
        }
    }
    Fatal::new("a result could not be masked safely", error)
}

/// Result columns of a RowDescription; `formats` are those bound, by the protocol's rule.
pub(crate) fn columns(description: &RowDescription, formats: Option<&[i16]>) -> Vec<ResultColumn> {
    description
        .fields
        .iter()
        .enumerate()
        .map(|(index, field)| ResultColumn {
            name: String::from_utf8_lossy(&field.name).into_owned(),
            table_oid: field.table_oid,
            attribute: field.attribute,
            type_oid: field.type_oid,
            format: match formats {
                None => field.format,
                Some([]) => 0,
                Some([one]) => *one,
                Some(many) => many.get(index).copied().unwrap_or(0),
            },
        })
        .collect()
}

/// Tag of the frames that carry rows.
pub(crate) const ROW: u8 = be::DATA_ROW;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_another_tag_or_a_cut_frame() {
        let row = [b'D', 0, 0, 0, 6, 0, 0];
        let mut input = [row, row].concat();
        assert_eq!(run_of(&input, ROW), (14, 2));
        input.extend_from_slice(&row[..6]);
        assert_eq!(run_of(&input, ROW), (14, 2));
        assert_eq!(run_of(b"C\0\0\0\x04", ROW), (0, 0));
        assert_eq!(run_of(b"D\0\0\0\x03", ROW), (0, 0));
    }
}
