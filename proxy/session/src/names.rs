//! The client's names for statements and portals.
//!
//! INVARIANT: the confirmed map changes only when the server said ParseComplete, BindComplete or CloseComplete. What is still on its
//! way lies in an overlay; when the server skips it, it vanishes.

use std::collections::HashMap;

use bytes::Bytes;

/// Names to ids of one kind of object.
#[derive(Debug, Default)]
pub(crate) struct Names {
    confirmed: HashMap<Bytes, u64>,
    overlay: HashMap<Bytes, Change>,
    tickets: u64,
}

/// A change on its way.
#[derive(Debug, Clone, Copy)]
struct Change {
    ticket: u64,
    id: Option<u64>,
    segment: u64,
}

/// Identifies one change on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Names {
    /// What the name will mean once all that is on its way succeeded.
    pub(crate) fn lookup(&self, name: &[u8]) -> Option<u64> {
        if !self.overlay.is_empty()
            && let Some(change) = self.overlay.get(name)
        {
            return change.id;
        }
        self.confirmed.get(name).copied()
    }

    /// Whether the answer of [`Names::lookup`] rests on something sent before the last Sync and not answered yet: that may fail alone,
    /// and what is sent now would still be read by the server.
    pub(crate) fn uncertain(&self, name: &[u8], segment: u64) -> bool {
        self.overlay.get(name).is_some_and(|change| change.segment != segment)
    }

    /// Announces that the name will mean `id` (or nothing).
    pub(crate) fn announce(&mut self, name: Bytes, id: Option<u64>, segment: u64) -> Ticket {
        self.tickets += 1;
        self.overlay.insert(name, Change { ticket: self.tickets, id, segment });
        Ticket(self.tickets)
    }

    /// The server did it. Returns the id the name meant before.
    pub(crate) fn confirm(&mut self, name: &Bytes, id: Option<u64>, ticket: Ticket) -> Option<u64> {
        self.discard(name, ticket);
        match id {
            Some(id) => self.confirmed.insert(name.clone(), id),
            None => self.confirmed.remove(name),
        }
    }

    /// The server will not do it.
    pub(crate) fn discard(&mut self, name: &Bytes, ticket: Ticket) {
        if self.overlay.get(name).is_some_and(|change| change.ticket == ticket.0) {
            self.overlay.remove(name);
        }
    }

    /// The server dropped the object by other means (DEALLOCATE, simple Query, end of transaction).
    pub(crate) fn forget(&mut self, name: &[u8]) -> Option<u64> {
        self.confirmed.remove(name)
    }

    /// No name means `id` any more.
    pub(crate) fn forget_id(&mut self, id: u64) {
        self.confirmed.retain(|_, known| *known != id);
        for change in self.overlay.values_mut() {
            change.id = change.id.filter(|known| *known != id);
        }
    }

    /// The server dropped all of them.
    pub(crate) fn forget_all(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.confirmed).into_values()
    }

    /// The server dropped all that have a name.
    pub(crate) fn forget_named(&mut self) -> impl Iterator<Item = u64> {
        let unnamed = self.confirmed.remove_entry(&b""[..]);
        std::mem::replace(&mut self.confirmed, unnamed.into_iter().collect()).into_values()
    }

    /// Whether the name means something, or something on its way is about it.
    pub(crate) fn mentions(&self, name: &[u8]) -> bool {
        self.overlay.contains_key(name) || self.confirmed.contains_key(name)
    }
}

/// The client's names that stand upstream as they are, with the number of objects that may have each.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    names: HashMap<Bytes, usize>,
}

impl Kept {
    /// Whether something new can go upstream under the client's name: nothing that is on its way or known there has it. `settled`: nothing is
    /// on its way at all, so the server itself says whether the name is free.
    ///
    /// INVARIANT: of what is on its way, at most one object has a given name. What the server runs under it is what was judged.
    pub(crate) fn may_keep(&self, name: &[u8], settled: bool) -> bool {
        is_plain(name) && (settled || !self.names.contains_key(name))
    }

    /// Something goes upstream under this name. Returns whether it is the first.
    pub(crate) fn add(&mut self, name: &Bytes) -> bool {
        let count = self.names.entry(name.clone()).or_default();
        *count += 1;
        *count == 1
    }

    /// Something of this name is gone, or never came to be. Returns whether it was the last.
    pub(crate) fn remove(&mut self, name: &[u8]) -> bool {
        let Some(count) = self.names.get_mut(name) else { return false };
        *count = count.saturating_sub(1);
        let last = *count == 0;
        if last {
            self.names.remove(name);
        }
        last
    }
}

/// Whether the server takes a name as it is, and it cannot be one of the gateway's own.
pub(crate) fn is_plain(name: &[u8]) -> bool {
    // The server cuts names at 63 bytes.
    !name.is_empty() && name.len() <= 63 && std::str::from_utf8(name).is_ok_and(|name| !countersign_policy::state::is_gateways(name))
}
