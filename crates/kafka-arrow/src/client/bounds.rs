//! What the bounds of a log mean for a range of it, by the rules of a request.

use super::ReadRequest;
use crate::error::{Error, Result};
use crate::range::{OffsetRange, OnDataLoss, TopicPartition};

impl ReadRequest {
    /// How many offsets of the range, from `position` on, lie before the log start and are to be skipped.
    ///
    /// # Errors
    /// [`Error::BelowLogStart`] when there are any and they may not be skipped.
    pub(super) fn lost_offsets(
        &self,
        range: &OffsetRange,
        position: i64,
        log_start: i64,
    ) -> Result<i64> {
        let lost = log_start.min(range.end()) - position;
        if lost <= 0 {
            return Ok(0);
        }
        match self.on_data_loss {
            OnDataLoss::Fail => Err(Error::BelowLogStart {
                topic: range.topic().to_string(),
                partition: range.partition(),
                asked: position,
                available: log_start,
                lost,
            }),
            OnDataLoss::Skip => Ok(lost),
        }
    }

    /// The newest leader epoch that a record of a partition's ranges can have.
    pub(super) fn newest_epoch(&self, partition: &TopicPartition) -> i32 {
        self.newest_epochs
            .get(partition)
            .copied()
            .unwrap_or(i32::MAX)
    }

    /// The error about a range whose log was cut before its end: a record at `cut` is of a later epoch.
    pub(super) fn cut_within(range: &OffsetRange, cut: i64) -> Error {
        Error::Truncated {
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset: range.end(),
            cut,
            message: Error::READ_AGAIN.to_owned(),
        }
    }

    /// Checks that the range does not reach beyond the log.
    ///
    /// # Errors
    /// [`Error::PastLogEnd`] when it does.
    pub(super) fn check_log_end(&self, range: &OffsetRange, log_end: i64) -> Result<()> {
        if range.end() <= log_end {
            return Ok(());
        }
        Err(Error::PastLogEnd {
            topic: range.topic().to_string(),
            partition: range.partition(),
            asked: range.end(),
            available: log_end,
            isolation: self.isolation.as_str(),
        })
    }
}
