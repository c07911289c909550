//! How far a session's events are durable, when journal and segments store them in pieces and not in order.

/// Stored pieces and the point up to which there is no hole.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    durable: u64,
    beyond: Vec<(u64, u64)>,
}

impl Coverage {
    /// Events below this are all stored.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Events `first..end` are stored.
    pub(super) fn add(&mut self, first: u64, end: u64) {
        if end > self.durable {
            self.beyond.push((first, end));
        }
        // There are never more pieces than puts under way.
        while let Some(at) = self.beyond.iter().position(|(first, _)| *first <= self.durable) {
            let (_, end) = self.beyond.swap_remove(at);
            self.durable = self.durable.max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_hole_before_it_is_durable() {
        let mut coverage = Coverage::default();
        for (first, end, durable) in [(0, 2, 2), (4, 6, 2), (6, 9, 2), (1, 3, 3), (3, 5, 9), (0, 4, 9), (9, 9, 9), (9, 10, 10)] {
            coverage.add(first, end);
            assert_eq!(coverage.durable(), durable, "after {first}..{end}");
        }
        assert!(coverage.beyond.is_empty());
    }
}
