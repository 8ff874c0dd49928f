//! What a stream does about silence and reported errors: look at the log's bounds, start the
//! partition anew, or fail with coordinates.

use std::time::{Duration, Instant};

use super::Reader;
use crate::client::librdkafka::ffi::{self, code};
use crate::client::librdkafka::meta::denied;
use crate::client::librdkafka::session::Fetching;
use crate::client::{HELD_MOST, OffsetAt, OffsetQuery};
use crate::error::{Error, Result};

/// How long without progress before the log's bounds are looked up; doubled each time.
pub(super) const DOUBT: Duration = Duration::from_secs(1);
/// How long such a look-up may take.
const DOUBT_LOOKUP: Duration = Duration::from_secs(5);
/// How long without progress before another session is tried.
pub(super) const RENEW: Duration = Duration::from_secs(10);
/// How often a partition is restarted after a fault that the log's bounds do not explain.
const RESTARTS_MOST: u32 = 5;
/// The bundled librdkafka (2.12) misreads such records in answers of brokers from 2.7 on. Most of them
/// it passes over, and some become a record without key and value.
const OLD_FORMAT: &str = "from before Kafka 0.11, which this librdkafka misreads; \
                          'kafka.client' = 'wire' reads them";

impl Reader {
    pub(super) fn stalled(&self, silent: Duration) -> Error {
        let range = self.range();
        Error::Stalled {
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset: self.position,
            end: range.end(),
            waited_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            reason: self.last_reason.clone().unwrap_or_else(|| {
                format!("the broker sends nothing, or records in a message format {OLD_FORMAT}")
            }),
        }
    }

    pub(super) fn check_health(&mut self) -> Result<()> {
        let Some(health) = self.lease.lock().as_ref().map(Fetching::health) else {
            return Ok(());
        };
        if let Some((_, reason)) = health.refused {
            return Err(Error::Authentication {
                hosts: self.meta.hosts().to_owned(),
                reason,
            });
        }
        if health.last.is_some() {
            self.last_reason = health.last;
        }
        Ok(())
    }

    /// Whether a broker holds the stream back by a quota: a time since `started` that is no silence
    /// then. librdkafka waits it out by itself.
    ///
    /// # Errors
    /// When it goes on for [`HELD_MOST`] times `read.timeout.ms`, or will.
    pub(super) fn is_held(&mut self, started: Instant) -> Result<bool> {
        let held = self.lease.lock().as_ref().map(Fetching::take_held);
        let (told, left) = held.unwrap_or_default();
        self.throttle += told;
        if left.is_zero() {
            return Ok(false);
        }
        let passed = started.elapsed();
        self.held += passed;
        self.progress += passed;
        if self.held + left > self.timeout.saturating_mul(HELD_MOST) {
            self.last_reason = Some(format!(
                "the broker holds this client back (quota), now for {} ms; {HELD_MOST} times \
                 'read.timeout.ms' is waited at most, and the quotas of the brokers \
                 (consumer_byte_rate, request_percentage) set how much it may read",
                left.as_millis()
            ));
            return Err(self.stalled(self.held));
        }
        Ok(!told.is_zero())
    }

    /// Is the silence the log's end, or the broker's?
    pub(super) async fn look_up(&mut self) -> Result<()> {
        let within = DOUBT_LOOKUP.min(self.timeout);
        // First, because the bounds of another topic mean nothing.
        match self.verify_ids(Instant::now()).await {
            Ok(()) | Err(Error::Kafka { .. }) => {}
            Err(e) if e.may_pass() => {}
            Err(e) => return Err(e),
        }
        match self.bounds(within).await {
            Ok((start, end)) => self.check_bounds(start, end),
            Err(e @ Error::Connection { .. }) => {
                // Never reached anything, and cannot now: waiting on is no use. A client that was
                // connected before may see a restart.
                let waited = self.progress.elapsed() >= self.meta.timeout();
                if !self.received && (waited || !self.meta.connected()) {
                    return Err(e);
                }
                self.last_reason = Some(e.to_string());
                Ok(())
            }
            Err(e @ (Error::Kafka { .. } | Error::Unavailable { .. })) => {
                self.last_reason = Some(e.to_string());
                Ok(())
            }
            Err(e) => Err(e),
        }?;
        Ok(())
    }

    /// The log's start and its end by the isolation level.
    async fn bounds(&self, within: Duration) -> Result<(i64, i64)> {
        let query = |at| OffsetQuery {
            partition: self.partition(),
            at,
        };
        let queries = [query(OffsetAt::Earliest), query(OffsetAt::Latest)];
        let answers = self
            .meta
            .list_offsets(&queries, self.request.isolation, within)
            .await?;
        match (answers[0].offset, answers[1].offset) {
            (Some(start), Some(end)) => Ok((start, end)),
            _ => Err(Error::Kafka {
                operation: format!("listing offsets of {}", self.partition()),
                reason: "the broker named no offset".into(),
            }),
        }
    }

    /// # Errors
    /// When offsets of the range are gone and may not be skipped, or its end is beyond the log.
    fn check_bounds(&mut self, log_start: i64, log_end: i64) -> Result<()> {
        let position = self.position;
        let lost = self
            .request
            .lost_offsets(self.range(), position, log_start)?;
        if lost > 0 {
            log::warn!(
                "{}@{position}: {lost} offsets are gone and are skipped",
                self.partition()
            );
            self.lost += lost;
            self.position += lost;
            self.restart();
            self.moved();
        }
        self.request.check_log_end(self.range(), log_end)
    }

    /// Stops the range, so that the next step starts it at the position.
    fn restart(&self) {
        if let Some(fetching) = self.lease.lock().as_mut() {
            fetching.stop(self.at);
        }
    }

    pub(super) async fn fault(&mut self, c: i32, reason: String) -> Result<()> {
        let partition = self.partition();
        match c {
            code::AUTHENTICATION | code::SSL | code::SASL_AUTHENTICATION_FAILED => {
                return Err(Error::Authentication {
                    hosts: self.meta.hosts().to_owned(),
                    reason,
                });
            }
            code::TOPIC_AUTHORIZATION_FAILED => {
                return Err(denied(format!("topic {}", partition.topic), "READ", c));
            }
            code::AUTO_OFFSET_RESET | code::OFFSET_OUT_OF_RANGE => {
                self.verify_ids(Instant::now()).await?;
                if reason.contains(&ffi::error_text(code::LOG_TRUNCATION)) {
                    let (range, offset) = (self.range(), self.position);
                    return Err(Error::Truncated {
                        topic: range.topic().to_string(),
                        partition: range.partition(),
                        offset,
                        cut: truncated_at(&reason)
                            .unwrap_or(offset)
                            .min(offset - 1)
                            .max(0),
                        message: Error::READ_AGAIN.to_owned(),
                    });
                }
                let position = self.position;
                let (start, end) = self.bounds(self.meta.timeout()).await?;
                self.check_bounds(start, end)?;
                if self.position != position {
                    return Ok(());
                }
            }
            code::UNKNOWN_TOPIC_LOCAL
            | code::UNKNOWN_PARTITION_LOCAL
            | code::UNKNOWN_TOPIC_OR_PART
            | code::UNKNOWN_TOPIC_ID => {
                self.verify_ids(Instant::now()).await?;
                self.meta.expect_partition(&partition).await?;
            }
            // Such as a failed read from remote storage.
            code::UNKNOWN => {}
            // Damaged, perhaps on their way: they are asked for once more.
            code::BAD_MSG | code::BAD_COMPRESSION | code::INVALID_MSG => {
                if std::mem::replace(&mut self.damaged, true) {
                    return Err(Error::Corrupted {
                        topic: partition.topic.to_string(),
                        partition: partition.partition,
                        offset: self.position,
                        reason,
                    });
                }
            }
            code::NOT_IMPLEMENTED => {
                let reason = format!("records in a message format {OLD_FORMAT}");
                return Err(self.read_error(reason, false));
            }
            // librdkafka goes on by itself.
            c if code::is_retriable(c) => {
                self.last_reason = Some(reason);
                return Ok(());
            }
            _ => return Err(self.read_error(reason, false)),
        }
        // The log has the offset, and yet it was refused: a moment's disagreement of brokers.
        if self.restarts.failed() == RESTARTS_MOST {
            return Err(self.read_error(reason, true));
        }
        self.restarts.wait(self.timeout).await;
        self.restart();
        self.last_reason = Some(reason);
        Ok(())
    }

    pub(super) fn read_error(&self, reason: String, transient: bool) -> Error {
        let range = self.range();
        Error::Read {
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset: self.position,
            reason,
            transient,
        }
    }
}

/// Where the leader's log ends, by librdkafka's words about a log that was cut.
fn truncated_at(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("broker end offset is ")?;
    let end = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    end.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::truncated_at;

    #[test]
    fn the_end_of_a_cut_log_is_read_off_librdkafkas_words() {
        let text = "Partition log truncation detected at offset 60 (leader epoch 2): broker end offset \
                    is 30 (offset leader epoch 2). Reset to INVALID.";
        assert_eq!(truncated_at(text), Some(30));
        assert_eq!(truncated_at("broker end offset is -1 (offset"), None);
        assert_eq!(truncated_at("Local: No offset stored"), None);
    }
}
