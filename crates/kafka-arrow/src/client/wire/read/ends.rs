//! Where a log and a range disagree: offsets that are gone, a range that reaches beyond the log, and answers
//! without records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::{MAX_WAIT, Part};
use super::verdict::{self, Ended};
use super::{Reader, State};
use crate::client::wire::ask::Deadline;
use crate::client::wire::code;
use crate::client::wire::decode::PartitionEnd;
use crate::client::{OffsetAt, OffsetQuery};
use crate::error::{Error, Result};

/// How long a log may seem to end within the range before the client believes it.
const DOUBT: Duration = Duration::from_secs(1);
/// After this many empty answers in succession the rest of the range counts as empty.
const EMPTIES_BELIEVED: u32 = 3;
/// How long a look-up of a log's bounds may take.
pub(super) const LOOK_UP: Duration = Duration::from_secs(5);

impl Reader {
    /// The broker says that its log does not hold the position.
    pub(super) async fn out_of_range(&mut self, had_epoch: bool) -> Result<()> {
        let topic = Arc::clone(self.range().topic());
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        // First, because the bounds of another topic mean nothing.
        self.cluster.refresh(&topic, &deadline).await?;
        self.compare_id()?;
        let position = self.decoder.position();
        let (start, end) = self.bounds(self.cluster.settings.request_timeout).await?;
        self.check_bounds(start, end)?;
        if self.decoder.position() != position || had_epoch {
            return Ok(());
        }
        // The log has the offset, and yet it was refused: a moment's disagreement of brokers.
        self.attempts(&code::text(code::OFFSET_OUT_OF_RANGE), true)
            .await
    }

    /// The log's start and its end by the isolation level.
    async fn bounds(&self, within: Duration) -> Result<(i64, i64)> {
        let partition = self.partition();
        let query = |at| OffsetQuery {
            partition: partition.clone(),
            at,
        };
        let queries = [query(OffsetAt::Earliest), query(OffsetAt::Latest)];
        let isolation = self.request.isolation;
        let answers = self
            .cluster
            .list_offsets(&queries, isolation, within)
            .await?;
        match answers.as_slice() {
            [start, end] => match (start.offset, end.offset) {
                (Some(start), Some(end)) => Ok((start, end)),
                _ => Err(self.read_error("the broker named no bounds of the log".into())),
            },
            _ => Err(self.read_error("the broker named no bounds of the log".into())),
        }
    }

    /// # Errors
    /// When offsets of the range are gone and may not be skipped, or its end is beyond the log.
    fn check_bounds(&mut self, log_start: i64, log_end: i64) -> Result<()> {
        let (position, range) = (self.decoder.position(), self.range());
        let lost = self.request.lost_offsets(range, position, log_start)?;
        if lost > 0 {
            log::warn!(
                "{}[{}]@{position}: {lost} offsets are gone and are skipped",
                range.topic(),
                range.partition()
            );
            self.report.lost += lost;
            self.decoder.skip_to(position + lost);
            self.moved();
        }
        self.request.check_log_end(self.range(), log_end)
    }

    /// A partition's part of the answer has ended.
    pub(super) async fn part_end(&mut self, part: Part, end: PartitionEnd) -> Result<()> {
        let State::Arriving(fetch) = &self.state else {
            return Ok(());
        };
        // One that waits in vain for records in remote storage answers late.
        let prompt = fetch.took < MAX_WAIT / 2;
        let position = self.decoder.position();
        match verdict::end(&part, end, position, self.range().end(), fetch.throttled) {
            Ended::Nothing => Ok(()),
            Ended::Records { mean_bytes } => {
                self.cluster.learn_mean(&part.partition.topic, mean_bytes);
                Ok(())
            }
            Ended::Cut { epoch, agreed } => {
                log::debug!("{}: leader epoch {epoch} ends at {agreed}", part.partition);
                let range = self.range();
                Err(Error::Truncated {
                    topic: range.topic().to_string(),
                    partition: range.partition(),
                    offset: position,
                    cut: agreed.min(position - 1).max(0),
                    message: Error::READ_AGAIN.to_owned(),
                })
            }
            Ended::Strange => {
                self.abandon();
                self.attempts("the broker sends other records than asked for", true)
                    .await
            }
            Ended::Replica(replica) => {
                self.abandon();
                if self.cluster.node(replica).is_none() {
                    let reason =
                        format!("the leader names broker {replica} instead, which is not known");
                    return self.try_again(reason, true).await;
                }
                self.replicas
                    .insert(self.partition(), (replica, Instant::now()));
                Ok(())
            }
            Ended::TooLarge => self.ask_for_more(),
            Ended::ReplicaLags => {
                self.abandon();
                self.failures.empties += 1;
                self.replicas.remove(&self.partition());
                self.try_again("the replica has no records yet".into(), false)
                    .await
            }
            Ended::Silence => {
                self.abandon();
                self.silence(prompt).await
            }
            Ended::LogEnds(log_end) => {
                self.abandon();
                self.failures.empties += 1;
                if self.progress.silent() >= DOUBT {
                    let (start, log_end) = self.bounds(LOOK_UP).await?;
                    self.check_bounds(start, log_end)?;
                }
                let reason = format!("the leader's log ends at {log_end} now");
                self.try_again(reason, self.failures.retries.failed() > 3)
                    .await
            }
        }
    }

    /// Asks for twice as much of a partition from now on.
    ///
    /// # Errors
    /// When that is more than is allowed.
    fn ask_for_more(&mut self) -> Result<()> {
        let most = self.cluster.settings.answer_bytes_most;
        if self.partition_bytes >= most {
            return Err(self.read_error(format!(
                "a record batch is larger than {most} bytes; \
                 'receive.message.max.bytes' sets how much is allowed"
            )));
        }
        self.partition_bytes = self.partition_bytes.saturating_mul(2).min(most);
        Ok(())
    }

    /// A leader sends at least one batch if there is any: the log holds nothing more before the range's
    /// end, because it was compacted away. But one that waits in vain for records in remote storage
    /// (KIP-405) sends none after the time that the request allows. So only answers that come at once
    /// (`prompt`) are believed, and only several of them.
    async fn silence(&mut self, prompt: bool) -> Result<()> {
        self.failures.empties = if prompt { self.failures.empties + 1 } else { 0 };
        if self.failures.empties >= EMPTIES_BELIEVED && self.progress.silent() >= DOUBT {
            return self.believe_gap().await;
        }
        let reason = "the broker sends no records, although the log goes on";
        self.try_again(reason.into(), false).await
    }

    /// The broker sends nothing of what is left of the range, although its log goes on: it was
    /// compacted away, unless what else the broker says speaks against it.
    async fn believe_gap(&mut self) -> Result<()> {
        let partition = self.partition();
        let position = self.decoder.position();
        let query = |at| OffsetQuery {
            partition: partition.clone(),
            at,
        };
        let queries = [OffsetAt::Earliest, OffsetAt::Latest, OffsetAt::Timestamp(0)].map(query);
        let isolation = self.request.isolation;
        let answers = self
            .cluster
            .list_offsets(&queries, isolation, LOOK_UP)
            .await?;
        let offset = |n: usize| answers.get(n).and_then(|a| a.offset);
        if let (Some(start), Some(end)) = (offset(0), offset(1)) {
            self.check_bounds(start, end)?;
        }
        if self.decoder.position() != position {
            return Ok(());
        }
        let end = self.range().end();
        if let Some(found) = offset(2).filter(|o| (position..end).contains(o)) {
            return Err(self.read_error(format!(
                "the broker sends no records up to {end}, and names {found} as a record's offset: \
                 it is at fault, or what stands between"
            )));
        }
        let topics = [Arc::clone(&partition.topic)];
        let settings = self.cluster.topic_settings(&topics).await?;
        if let Some(Some(settings)) = settings.first()
            && !settings.cleanup_policy.contains("compact")
            // A log that was compacted before its policy was changed stays as it is.
            && !self.decoder.has_gaps()
        {
            return Err(self.read_error(format!(
                "the broker sends no records up to {end}, although its log goes on and the topic is \
                 not compacted ('cleanup.policy' is '{}'): it is at fault, or what stands between; if the \
                 topic was compacted before, end the range at {position}",
                settings.cleanup_policy
            )));
        }
        self.decoder.pass_gap();
        Ok(())
    }
}
