//! The search of whole record batches for what every wanted record contains.

use super::RangeDecoder;
use crate::client::Needle;
use crate::client::needle::{Search, Traces};

/// A search reports how far it has come after this many records.
const DUE_OFFSETS: u64 = 1 << 16;

impl RangeDecoder {
    /// The same, which leaves out records without the needle.
    pub(crate) fn searching(self, needle: Option<&Needle>) -> Self {
        let search = needle.map(Search::new);
        Self { search, ..self }
    }

    /// Whether the caller of a search has waited long enough for what it has found, or for how far it has come.
    pub(crate) fn is_due(&self) -> bool {
        let passed = self.place.passed.filtered >= DUE_OFFSETS;
        self.search.is_some() && (passed || self.columns.rows() > 0)
    }

    /// Searches the records of a batch; `None` if it is not searched, and all of it is walked.
    pub(super) fn look_for_needle(&mut self, records: &[u8]) -> Option<Traces> {
        let search = self.search.as_mut()?;
        search.is_worth_it().then(|| search.first(records))
    }
}
