//! The positions of a job against the logs: what joined, what is gone, where a log was cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::intent::{Lost, LostBecause};
use super::source::Positions;
use crate::client::KafkaClient;
use crate::client::epochs::{self, Stands};
use crate::error::{Error, Result};
use crate::range::{
    LogBounds, OffsetRange, OnDataLoss, SnapshotRange, SnapshotTopic, TopicPartition,
};
use crate::sink::Position;
use crate::table::{LogView, PartitionView};

/// A partition of a source, compared with the log.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) partition: TopicPartition,
    pub(super) start: i64,
    pub(super) joins: bool,
    /// The recorded end, where it is not the start: offsets begin to be counted anew.
    pub(super) restarts_from: Option<i64>,
    pub(super) log: LogBounds,
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: Option<i32>,
    /// The leader epoch of the record before the start.
    pub(super) epoch: Option<i32>,
}

impl Part {
    pub(super) fn until(&self, end: i64) -> Result<SnapshotRange> {
        let mut end = end.min(self.log.end).max(self.start);
        // With the end that is recorded already, the batch would look committed.
        if self.restarts_from == Some(end) && end > self.start {
            end -= 1;
        }
        let TopicPartition { topic, partition } = &self.partition;
        Ok(SnapshotRange {
            range: OffsetRange::try_new(Arc::clone(topic), *partition, self.start, end)?,
            from_ms: None,
            to_ms: None,
            log_start: self.log.start,
            log_end: self.log.end.max(self.start),
            leader: self.leader,
            leader_epoch: self.epoch.filter(|_| end == self.start),
        })
    }
}

/// Positions compared with the log.
#[derive(Debug)]
pub(super) struct Reconciled {
    pub(super) parts: Vec<Part>,
    pub(super) lost: Vec<Lost>,
    pub(super) topics: Vec<SnapshotTopic>,
}

/// Compares the positions of a job with the log: what joined, and what is gone.
///
/// The cases are Spark's D1 to D3 and D9, the last of which Spark cannot see.
pub(super) fn reconcile(
    source: &str,
    positions: &Positions,
    view: &LogView,
    stands: &BTreeMap<TopicPartition, Stands>,
    takes_new: bool,
    on_data_loss: OnDataLoss,
) -> Result<Reconciled> {
    let allowed = on_data_loss == OnDataLoss::Skip;
    let mut parts = vec![];
    let mut lost = vec![];
    let mut topics = view.topics.clone();
    for (partition, position) in positions {
        let loses = |to: i64, reason: LostBecause| Lost {
            partition: partition.clone(),
            from: position.next,
            to,
            reason,
        };
        let Some(found) = view.partitions.get(partition) else {
            if !allowed {
                return Err(vanished(source, partition, position.next));
            }
            lost.push(loses(position.next, LostBecause::Vanished));
            // It stays where it is: should it come back, the sinks still know the position.
            parts.push(Part {
                partition: partition.clone(),
                start: position.next,
                joins: false,
                restarts_from: None,
                log: LogBounds {
                    start: position.next,
                    end: position.next,
                },
                leader: None,
                leader_epoch: None,
                epoch: position.leader_epoch,
            });
            if !topics.iter().any(|t| t.topic == partition.topic) {
                topics.push(SnapshotTopic {
                    topic: Arc::clone(&partition.topic),
                    topic_id: position.topic_id.clone(),
                    log_append_time: false,
                });
            }
            continue;
        };
        let id = view.topic_id(&partition.topic);
        let mut start = position.next;
        let mut epoch = position.leader_epoch;
        let mut restarts_from = None;
        let stands = stands.get(partition).copied().unwrap_or(Stands::Same);
        if is_recreated(position, id) || starts_anew(position, found) {
            if !allowed {
                return Err(shrunk(source, partition, position, id, found.log));
            }
            lost.push(loses(found.log.start, LostBecause::Recreated));
            (start, epoch, restarts_from) = (found.log.start, None, Some(position.next));
        } else if let Some(error) = cut(source, partition, position, stands) {
            let Stands::Cut(at, of) = stands else {
                return Err(error);
            };
            if !allowed || !is_exact(position, of) {
                return Err(error);
            }
            start = at.max(found.log.start);
            lost.push(loses(start, LostBecause::Truncated));
            epoch = (start == at).then_some(of);
            restarts_from = Some(position.next);
        } else if found.log.end < position.next {
            if !allowed {
                return Err(shrunk(source, partition, position, id, found.log));
            }
            lost.push(loses(found.log.start, LostBecause::Recreated));
            (start, epoch, restarts_from) = (found.log.start, None, Some(position.next));
        } else if found.log.start > position.next {
            if !allowed {
                return Err(Error::BelowLogStart {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    asked: position.next,
                    available: found.log.start,
                    lost: found.log.start.saturating_sub(position.next),
                });
            }
            lost.push(loses(found.log.start, LostBecause::Expired));
        }
        parts.push(Part {
            partition: partition.clone(),
            start,
            joins: false,
            restarts_from,
            log: found.log,
            leader: found.leader,
            leader_epoch: found.leader_epoch,
            epoch,
        });
    }
    for (partition, found) in &view.partitions {
        if positions.contains_key(partition) || !takes_new {
            continue;
        }
        let mut start = found.log.start;
        // A partition that joins is read from its beginning (Spark's rule S2). What is gone of
        // that before the job saw it is a loss (D2).
        if found.log.start > 0 {
            if !allowed {
                return Err(Error::BelowLogStart {
                    topic: partition.topic.to_string(),
                    partition: partition.partition,
                    asked: 0,
                    available: found.log.start,
                    lost: found.log.start,
                });
            }
            lost.push(Lost {
                partition: partition.clone(),
                from: 0,
                to: found.log.start,
                reason: LostBecause::Expired,
            });
            start = 0;
        }
        parts.push(Part {
            partition: partition.clone(),
            start,
            joins: true,
            restarts_from: None,
            log: found.log,
            leader: found.leader,
            leader_epoch: found.leader_epoch,
            epoch: None,
        });
    }
    parts.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(Reconciled {
        parts,
        lost,
        topics,
    })
}

/// Whether the topic is another one by its id.
pub(super) fn is_recreated(position: &Position, id: Option<&str>) -> bool {
    matches!((&position.topic_id, id), (Some(known), Some(found)) if known != found)
}

/// Whether leader epochs begin to be counted anew, as only those of another topic do; what
/// [`refuse_stale`] has let pass.
fn starts_anew(position: &Position, found: &PartitionView) -> bool {
    matches!((position.leader_epoch, found.leader_epoch), (Some(known), Some(leader)) if leader < known)
}

/// Refuses leaders that answer as of an epoch before that of a position, and are not those of a topic
/// that was created anew: they have not noticed yet that they were replaced.
///
/// A topic's id tells one from the other. Without one (before Kafka 2.8) both look the same by all that
/// the leader itself answers, so that every broker is asked which leader it knows.
///
/// # Errors
/// That of a connection, which passes.
pub(super) async fn refuse_stale(
    client: &dyn KafkaClient,
    source: &str,
    positions: &Positions,
    view: &LogView,
) -> Result<()> {
    let stale = |partition: &TopicPartition, position: &Position| Error::Connection {
        hosts: format!("the leader of {partition}"),
        reason: format!(
            "it answers as of an older leader epoch than {}, of which source '{source}' has read records: \
             it has not noticed yet that it was replaced",
            position.leader_epoch.unwrap_or(-1)
        ),
    };
    let mut in_doubt = vec![];
    for (partition, position) in positions {
        let Some(found) = view.partitions.get(partition) else {
            continue;
        };
        let id = view.topic_id(&partition.topic);
        if !starts_anew(position, found) || is_recreated(position, id) {
            continue;
        }
        if position.topic_id.is_some() && id.is_some() {
            return Err(stale(partition, position));
        }
        in_doubt.push(partition.clone());
    }
    if in_doubt.is_empty() {
        return Ok(());
    }
    let newest = client.newest_epochs(&in_doubt).await?;
    for (partition, newest) in in_doubt.iter().zip(newest) {
        let position = &positions[partition];
        if newest.is_some() && newest >= position.leader_epoch {
            return Err(stale(partition, position));
        }
    }
    Ok(())
}

/// Whether a cut behind records of that epoch is where the two logs part. Of an older epoch than the
/// position's, the log may have more than what was read: then they part before.
fn is_exact(position: &Position, of: i32) -> bool {
    position.leader_epoch == Some(of)
}

/// The error of a position that the log does not go on from.
fn cut(
    source: &str,
    partition: &TopicPartition,
    position: &Position,
    stands: Stands,
) -> Option<Error> {
    if stands == Stands::Same {
        return None;
    }
    let next = format!(
        "source '{source}' had come to this offset; go on from the cut with 'on.data.loss' = 'skip' \
         (failOnDataLoss = false), which takes over anew what stands there now, or start a new job"
    );
    let next = match stands {
        Stands::Cut(_, of) if is_exact(position, of) => &next,
        _ => "start a new job",
    };
    let epoch = position.leader_epoch.unwrap_or(-1);
    epochs::refusal(partition, position.next, epoch, stands, next)
}

fn vanished(source: &str, partition: &TopicPartition, next: i64) -> Error {
    Error::DataLoss {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: next,
        message: format!(
            "the partition is gone, the job '{source}' reads had come to this offset; \
             go on without it with 'on.data.loss' = 'skip' (failOnDataLoss = false)"
        ),
    }
}

fn shrunk(
    source: &str,
    partition: &TopicPartition,
    position: &Position,
    id: Option<&str>,
    log: LogBounds,
) -> Error {
    let what = match (&position.topic_id, id) {
        (Some(known), Some(found)) if known != found => {
            format!("the topic was recreated: its id was {known} and is {found}")
        }
        _ => format!(
            "the log ends at {}, before the job's position: the topic was recreated or lost records",
            log.end
        ),
    };
    Error::DataLoss {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset: position.next,
        message: format!(
            "{what} (source '{source}'); the log now has {} to {}: \
             read those and go on with 'on.data.loss' = 'skip' (failOnDataLoss = false), or start a new job",
            log.start, log.end
        ),
    }
}
