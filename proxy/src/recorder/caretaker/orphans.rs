//! Sealing what a dead task left open.

use std::collections::BTreeMap;

use bytes::Bytes;
use countersign_recording::v1::manifest::Payload as _;
use countersign_recording::v1::names::day;
use countersign_recording::v1::seal::SealError;
use countersign_recording::{Hash, Head, IndexRow, Journals, Manifest, Object, ObjectName, SessionId, TaskId, seal_orphan};

use super::{Caretaker, FEW};
use crate::recorder::store::PutError;

impl Caretaker {
    /// Seals every session of a dead task that nobody has sealed, and takes over into the index what no digest of it names.
    pub(super) async fn bury(&mut self, task: TaskId, now_us: i64) -> Result<(), PutError> {
        let newest = self.peers.get(&task).and_then(|peer| peer.newest.clone());
        let open: BTreeMap<SessionId, i64> =
            newest.iter().flat_map(|digest| &digest.open).map(|open| (open.session, open.started_us)).collect();
        // Whatever was sealed before the last digest is in it; before the first object that open sessions need, nothing is of use.
        let first = newest
            .as_ref()
            .map_or(0, |digest| digest.open.iter().map(|open| open.journal).chain([digest.journal.objects]).min().unwrap_or(0));
        let statement = ObjectName::Task { task }.to_string();
        let mut objects = Vec::new();
        if let Some(bytes) = self.parts.store.get(&statement).await? {
            objects.push(Object { key: statement, bytes });
        }
        let after = first.checked_sub(1).map(|number| ObjectName::Journal { task, number }.to_string());
        let mut head = newest.as_ref().map(|digest| digest.journal);
        for key in self.parts.store.list(&format!("journal/{task}/"), after.as_deref()).await? {
            let Some(ObjectName::Journal { number, .. }) = ObjectName::parse(&key) else { continue };
            let Some(bytes) = self.parts.store.get(&key).await? else { continue };
            head = Some(Head { objects: number.saturating_add(1), sha256: Hash::of(&bytes) });
            objects.push(Object { key, bytes });
        }
        let journals = Journals::read_from(&objects, &self.keys, &self.limits, first, |_| true);
        drop(objects);
        if journals.tasks().get(&task).is_none_or(|known| known.statement.is_none()) {
            tracing::warn!(task.id = %task, "a silent task's statement is missing or under another key: its sessions are left to `countersign-audit seal`");
            if let Some(peer) = self.peers.get_mut(&task) {
                peer.silent = None;
            }
            return Ok(());
        }
        for finding in journals.findings() {
            tracing::error!(task.id = %task, %finding, "the journal of a dead task is not as it was written");
        }
        let ended = journals.tasks().get(&task).is_some_and(|known| known.ended);
        let mut left = 0_u64;
        for session in journals.sessions().into_iter().chain(open.keys().copied()).collect::<std::collections::BTreeSet<_>>() {
            let started = open.get(&session).copied().or_else(|| {
                let first = journals.session(session)?.events.get(&0)?;
                first.event.as_ref().map(|event| event.time_us)
            });
            // One whose start is in neither was sealed before.
            let Some(started_us) = started else { continue };
            left = left.saturating_add(u64::from(self.seal(session, started_us, &journals, now_us).await?));
        }
        let Some(peer) = self.peers.get_mut(&task) else { return Ok(()) };
        peer.journal = head.filter(|head| head.objects > 0);
        peer.ended = ended;
        peer.dead = !ended;
        tracing::warn!(task.id = %task, sessions = left, "a task that had fallen silent is taken to be dead; its open sessions are sealed");
        Ok(())
    }

    /// Seals one session, unless somebody has; true when it was done here.
    async fn seal(&mut self, session: SessionId, started_us: i64, journals: &Journals, now_us: i64) -> Result<bool, PutError> {
        let mut objects = Vec::new();
        for key in self.parts.store.list(&format!("sessions/{}/{session}/", day(started_us)), None).await? {
            let Some(bytes) = self.parts.store.get(&key).await? else { continue };
            if matches!(ObjectName::parse(&key), Some(ObjectName::Manifest { .. })) {
                if let Ok((manifest, _)) = Manifest::verified(&bytes, &self.keys) {
                    self.rows.push(IndexRow::of(&manifest, Hash::of(&bytes)));
                }
                return Ok(false);
            }
            objects.push(Object { key, bytes });
        }
        let seal = match seal_orphan(session, &objects, journals, &self.keys, &self.limits, now_us, &self.build) {
            Ok(seal) => seal,
            Err(error @ (SealError::Sealed(_) | SealError::Damaged { .. } | SealError::Format(_))) => {
                tracing::error!(session.id = %session, %error, "a session of a dead task cannot be sealed");
                return Ok(false);
            }
        };
        if let Some((name, segment)) = seal.segment
            && !self.stored(&name, Bytes::from(segment)).await?
        {
            return Ok(false);
        }
        let unstored = || PutError::Unavailable(format!("{} could not be signed", seal.manifest_name));
        let object = self.signed(&seal.manifest, FEW).await.ok_or_else(unstored)?;
        let row = IndexRow::of(&seal.manifest, Hash::of(&object));
        if !self.stored(&seal.manifest_name, object).await? {
            return Ok(false);
        }
        metrics::counter!(crate::metrics::ORPHANS_SEALED).increment(1);
        tracing::info!(session.id = %session, events = seal.manifest.events, "a session of a dead task is sealed");
        self.rows.push(row);
        Ok(true)
    }

    /// False when another task was faster.
    async fn stored(&self, name: &ObjectName, object: Bytes) -> Result<bool, PutError> {
        self.persist(&name.to_string(), object, FEW).await.ok_or_else(|| PutError::Unavailable(format!("{name} could not be stored")))
    }
}
