//! Where a stream stands in its ranges, and whether the client's batches bring it on as they must.

use crate::client::RawBatch;
use crate::error::{Error, Result};
use crate::range::OffsetRange;

/// The offsets that a batch has brought the position forward by: `from..to` of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) range: usize,
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Step {
    pub(super) fn offsets(&self) -> u64 {
        u64::try_from(self.to - self.from).unwrap_or(0)
    }
}

/// The position of a stream over several ranges, which checks what the client promises of batches.
#[derive(Debug)]
pub(super) struct Position {
    ranges: Vec<OffsetRange>,
    /// The range that is read.
    at: usize,
    next: i64,
    /// The place of the first range in the books.
    first: usize,
}

impl Position {
    pub(super) fn new<R: AsRef<OffsetRange>>(ranges: &[R]) -> Self {
        let ranges: Vec<OffsetRange> = ranges.iter().map(|r| r.as_ref().clone()).collect();
        let mut position = Self {
            at: 0,
            next: ranges.first().map_or(0, |r| r.start()),
            ranges,
            first: 0,
        };
        position.skip_ended();
        position
    }

    /// The position in a piece of the range at `place` in the books.
    pub(super) fn of_piece(piece: &OffsetRange, place: usize) -> Self {
        Self {
            first: place,
            ..Self::new(std::slice::from_ref(piece))
        }
    }

    fn skip_ended(&mut self) {
        while let Some(range) = self.ranges.get(self.at)
            && self.next >= range.end()
        {
            self.at += 1;
            self.next = self.ranges.get(self.at).map_or(0, |r| r.start());
        }
    }

    /// Moves on to the position of `raw`.
    ///
    /// # Errors
    /// [`Error::Unaccounted`] when the batch does not lie at the position, or its rows and the
    /// offsets that it reports as passed are not what lies in between.
    pub(super) fn advance(&mut self, raw: &RawBatch) -> Result<Step> {
        let fault = |message: String| Error::Unaccounted {
            topic: raw.partition.topic.to_string(),
            partition: raw.partition.partition,
            start: self.next,
            end: raw.next_offset,
            message,
        };
        let here = self.ranges.get(self.at).filter(|range| {
            *range.topic() == raw.partition.topic && range.partition() == raw.partition.partition
        });
        let Some(range) = here else {
            return Err(fault(match self.ranges.get(self.at) {
                Some(range) => format!("a batch came before {range} was read to its end"),
                None => "a batch came after the end of the last range".to_owned(),
            }));
        };
        if !(self.next..=range.end()).contains(&raw.next_offset) {
            return Err(fault(format!(
                "the batch lies outside of the range {range}"
            )));
        }
        let offsets = raw.offsets.values();
        let within = |offset: &i64| (self.next..raw.next_offset).contains(offset);
        if !offsets.first().is_none_or(within) || !offsets.last().is_none_or(within) {
            return Err(fault(
                "a row lies outside of the batch's offsets".to_owned(),
            ));
        }
        // Without a way out of the loop, so that it can be vectorized.
        let pairs = offsets.windows(2);
        if !pairs.fold(true, |ascending, pair| ascending & (pair[0] < pair[1])) {
            return Err(fault(
                "the batch's rows are not in the order of their offsets".to_owned(),
            ));
        }
        let step = Step {
            range: self.first + self.at,
            from: self.next,
            to: raw.next_offset,
        };
        let rows = offsets.len() as u64;
        let lost = u64::try_from(raw.lost_offsets).unwrap_or(0);
        let passed = raw.passed.total();
        if rows + lost + passed != step.offsets() {
            return Err(fault(format!(
                "these are {} offsets, the batch accounts for {} ({rows} rows, {passed} passed, {lost} lost)",
                step.offsets(),
                rows + lost + passed,
            )));
        }
        self.next = raw.next_offset;
        self.skip_ended();
        Ok(step)
    }

    /// Checks, after the last batch, that the position has reached the end.
    ///
    /// # Errors
    /// [`Error::Unaccounted`] when offsets are left.
    pub(super) fn finish(&self) -> Result<()> {
        match self.ranges.get(self.at) {
            None => Ok(()),
            Some(range) => Err(Error::Unaccounted {
                topic: range.topic().to_string(),
                partition: range.partition(),
                start: self.next,
                end: range.end(),
                message: "the stream ended before it had read these offsets".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::client::PassedOffsets;
    use crate::range::TopicPartition;

    pub(in crate::scan) fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
        OffsetRange::try_new("t", partition, start, end).unwrap()
    }

    pub(in crate::scan) fn batch_to(
        partition: i32,
        next_offset: i64,
        rows: &[i64],
        passed: PassedOffsets,
    ) -> RawBatch {
        let offsets = Int64Array::from(rows.to_vec());
        let mut batch = RawBatch::new(TopicPartition::new("t", partition), next_offset, offsets);
        batch.passed = passed;
        batch
    }

    pub(in crate::scan) fn gap(gap: u64) -> PassedOffsets {
        PassedOffsets {
            gap,
            ..PassedOffsets::default()
        }
    }

    #[test]
    fn every_range_is_read_to_its_end_in_order() {
        let ranges = [
            range(0, 5, 10),
            range(0, 7, 7),
            range(0, 20, 22),
            range(1, 0, 3),
        ];
        let mut position = Position::new(&ranges);
        let step = |range, from, to| Step { range, from, to };
        let read = |position: &mut Position, raw| position.advance(&raw).unwrap();
        assert_eq!(
            read(&mut position, batch_to(0, 7, &[5, 6], gap(0))),
            step(0, 5, 7)
        );
        assert_eq!(
            read(&mut position, batch_to(0, 10, &[], gap(3))),
            step(0, 7, 10)
        );
        assert_eq!(
            read(&mut position, batch_to(0, 22, &[21], gap(1))),
            step(2, 20, 22)
        );
        assert!(position.finish().is_err());
        assert_eq!(
            read(&mut position, batch_to(1, 3, &[0, 1, 2], gap(0))),
            step(3, 0, 3)
        );
        position.finish().unwrap();
        assert!(position.advance(&batch_to(1, 4, &[3], gap(0))).is_err());
    }

    #[test]
    fn a_client_that_does_not_account_for_all_is_refused() {
        let faults = [
            // One offset too few, one too many.
            (
                batch_to(0, 10, &[5, 6], gap(2)),
                "these are 5 offsets, the batch accounts for 4 (2 rows, 2 passed, 0 lost)",
            ),
            (
                batch_to(0, 6, &[5], gap(1)),
                "these are 1 offsets, the batch accounts for 2 (1 rows, 1 passed, 0 lost)",
            ),
            (
                batch_to(0, 11, &[5], gap(5)),
                "the batch lies outside of the range t[0] 5..10",
            ),
            (
                batch_to(0, 4, &[], gap(0)),
                "the batch lies outside of the range t[0] 5..10",
            ),
            (
                batch_to(0, 7, &[4, 5], gap(0)),
                "a row lies outside of the batch's offsets",
            ),
            (
                batch_to(0, 8, &[5, 7, 7], gap(0)),
                "the batch's rows are not in the order of their offsets",
            ),
            (
                batch_to(1, 3, &[0, 1, 2], gap(0)),
                "a batch came before t[0] 5..10 was read to its end",
            ),
        ];
        for (raw, expected) in faults {
            let ranges = [range(0, 5, 10), range(1, 0, 3)];
            let error = Position::new(&ranges).advance(&raw).unwrap_err();
            let Error::Unaccounted { message, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(message, expected);
        }
        let unread = Position::new(&[range(0, 5, 10)]).finish().unwrap_err();
        assert_eq!(
            unread.to_string(),
            "t[0] 5..10: the stream ended before it had read these offsets; \
             the client that reads is at fault, please report this"
        );
    }
}
