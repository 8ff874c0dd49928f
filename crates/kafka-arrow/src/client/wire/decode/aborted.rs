//! Which transactions were aborted, as a partition's part of an answer tells.

use std::collections::HashSet;

use super::batch::BatchHead;

/// Aborted transactions of a partition's part of an answer.
#[derive(Default)]
pub(super) struct Aborted {
    /// First offset and producer id, the last first.
    to_come: Vec<(i64, i64)>,
    producers: HashSet<i64>,
}

impl Aborted {
    /// Those of producer ids from first offsets on.
    pub(super) fn new(transactions: &[(i64, i64)]) -> Self {
        let mut to_come: Vec<_> = transactions
            .iter()
            .map(|&(id, first)| (first, id))
            .collect();
        to_come.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            to_come,
            producers: HashSet::new(),
        }
    }

    /// Takes note of the transactions that have begun before the batch's end.
    pub(super) fn reach(&mut self, head: &BatchHead) {
        while let Some(&(first, producer)) = self.to_come.last() {
            if first >= head.end() {
                break;
            }
            self.producers.insert(producer);
            self.to_come.pop();
        }
    }

    /// Takes note of the end of a producer's transaction.
    pub(super) fn end(&mut self, producer: i64) {
        self.producers.remove(&producer);
    }

    /// Whether the batch belongs to one of them.
    pub(super) fn holds(&self, head: &BatchHead) -> bool {
        head.is_transactional() && self.producers.contains(&head.producer_id)
    }
}
