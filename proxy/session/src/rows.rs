//! Rows on their way to the client: masked, recorded, forwarded.

use bytes::{Bytes, BytesMut};
use countersign_masking::RowMasker;
use countersign_policy::{Judgement, MaskOutcome, ResultColumn};
use countersign_recording::Event;
use countersign_recording::v1::event::MaskedColumn;
use countersign_wire::{RowDescription, be};

use crate::errors;
use crate::session::{Fatal, Session};

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
    columns: Vec<(String, String, String)>,
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
    pub(crate) fn plan(&self, judgement: &Judgement, columns: &[ResultColumn]) -> Result<Plan, Fatal> {
        match self.plan_masks(judgement, columns) {
            MaskOutcome::Pass => Ok(Plan::Pass),
            MaskOutcome::Mask { masker, columns } => Ok(Plan::Mask(Box::new(MaskPlan { masker, columns }))),
            MaskOutcome::Refuse(denial) => {
                let mut error = errors::denied(&denial);
                for (letter, text) in &mut error.0 {
                    if matches!(letter, b'S' | b'V') {
                        "FATAL".clone_into(text);
                    }
                }
                Err(Fatal::new("a result could not be masked safely", error))
            }
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

    /// Masks a run of DataRow frames.
    pub(crate) fn masked_run(&mut self, statement: u64, run: &[u8], count: u64, plan: &mut MaskPlan) -> Result<(), Fatal> {
        let mut masked = std::mem::take(&mut self.rows.masked);
        let mut rest = run;
        for _ in 0..count {
            let Ok(Some(header)) = countersign_wire::peek_frame(rest, usize::MAX) else { break };
            let Some((frame, after)) = rest.split_at_checked(header.total) else { break };
            let body = frame.get(countersign_wire::HEADER_LEN..).unwrap_or_default();
            plan.masker.mask(body, &mut masked).map_err(|error| {
                Fatal::new(
                    format!("a row could not be masked: {error}"),
                    errors::fatal("XX000", "a row could not be masked, so the session ends before it is shown"),
                )
            })?;
            rest = after;
        }
        if masked.len() < SHARE_AT {
            self.result_frames(statement, &masked, count);
            masked.clear();
        } else {
            let chunk = masked.split().freeze();
            self.share(statement, chunk, count);
        }
        self.rows.masked = masked;
        Ok(())
    }

    /// Records what the masks did when a result ends.
    pub(crate) fn record_masked(&mut self, statement: u64, plan: &MaskPlan) {
        let mut counts = plan.masker.columns().iter().zip(plan.masker.counts()).filter(|(mask, _)| mask.is_some()).map(|(_, count)| *count);
        let columns = plan
            .columns
            .iter()
            .map(|(column, source, mask)| MaskedColumn {
                column: column.clone(),
                source: source.clone(),
                mask: mask.clone(),
                values: counts.next().unwrap_or(0),
            })
            .collect();
        self.record(Event::Masked { statement, columns });
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
