//! Looks up offsets of partitions, and offsets that groups have committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Deadline, Meta, backoff, denied, is_missing, odd_answer};
use crate::client::librdkafka::ffi::{self, AdminRequest, code};
use crate::client::{OffsetAnswer, OffsetAt, OffsetQuery};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, TopicPartition};

/// How old an answer about leaders may be.
const LEADERS_RECENT: Duration = Duration::from_secs(1);
/// librdkafka merges answers in quadratic time; for this many partitions it takes about a millisecond.
const OFFSETS_AT_ONCE: usize = 500;

impl Meta {
    pub(crate) async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: IsolationLevel,
        within: Duration,
    ) -> Result<Vec<OffsetAnswer>> {
        let deadline = Deadline::after(within);
        let mut answers: Vec<Option<OffsetAnswer>> = vec![None; queries.len()];
        let mut open: Vec<usize> = (0..queries.len()).collect();
        let mut backoff = backoff();
        while !open.is_empty() {
            // If a leader is down, there must be time left to ask its successor.
            let attempt = deadline.part(3);
            // Leaders may have moved without this handle noticing.
            let now = Instant::now();
            let since = match backoff.failed() {
                0 => now.checked_sub(LEADERS_RECENT).unwrap_or(now),
                _ => now,
            };
            let waves = waves(queries, &open);
            let asked = waves
                .iter()
                .map(|w| self.list_wave(queries, w, isolation, since, &attempt));
            let mut reason = None;
            let mut missing = None;
            for (wave, outcome) in waves.iter().zip(join_all(asked).await) {
                let offsets = match outcome {
                    Ok(offsets) => offsets,
                    // Brokers may have answered, but no leader has.
                    Err(Error::Connection { reason: why, .. })
                        if attempt.passed() && (self.connected() || !deadline.passed()) =>
                    {
                        reason = Some(why);
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                for (&query, (offset, err, epoch)) in wave.iter().zip(offsets) {
                    let partition = &queries[query].partition;
                    match err {
                        // -1: no record has such a timestamp.
                        code::OK if offset >= -1 => {
                            answers[query] = Some(OffsetAnswer {
                                offset: (offset >= 0).then_some(offset),
                                leader_epoch: (epoch >= 0).then_some(epoch),
                            });
                        }
                        // librdkafka leaves the offset unset when the request to a leader failed.
                        code::OK => reason = Some("a leader did not answer".into()),
                        code::TOPIC_AUTHORIZATION_FAILED => {
                            let topic = format!("topic {}", partition.topic);
                            return Err(denied(topic, "DESCRIBE", err));
                        }
                        c if is_missing(c) => {
                            missing = Some(query);
                            reason = Some(ffi::error_text(c));
                        }
                        c if code::is_retriable(c) => reason = Some(ffi::error_text(c)),
                        c => {
                            let operation = format!("listing offsets of {partition}");
                            return Err(self.failed(&operation, c, &ffi::error_text(c)));
                        }
                    }
                }
            }
            open.retain(|q| answers[*q].is_none());
            if open.is_empty() {
                break;
            }
            if let Some(query) = missing.filter(|_| backoff.failed() > 0) {
                self.expect_partition(&queries[query].partition).await?;
            }
            if deadline.passed() {
                let partition = &queries[open[0]].partition;
                let reason = reason.unwrap_or_default();
                let error = Error::Unavailable {
                    operation: format!("listing offsets of {partition}"),
                    reason: format!("{reason}; gave up after {} ms", within.as_millis()),
                };
                return Err(self.gave_up(partition, within, error).await);
            }
            backoff.wait(deadline.left()).await;
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Sends one admin request, without duplicate partitions, to the leaders as of `since` or later. Returns
    /// offset, code and leader epoch for each query.
    async fn list_wave(
        &self,
        queries: &[OffsetQuery],
        wave: &[usize],
        isolation: IsolationLevel,
        since: Instant,
        deadline: &Deadline,
    ) -> Result<Vec<(i64, i32, i32)>> {
        let operation = "listing offsets";
        let wave = || wave.iter().map(|q| &queries[*q]);
        let topics: BTreeSet<Arc<str>> = wave().map(|q| Arc::clone(&q.partition.topic)).collect();
        let topics: Vec<Arc<str>> = topics.into_iter().collect();
        self.know(&topics, since, deadline).await?;
        let asked: Vec<std::result::Result<(&str, i32, i64), i32>> = wave()
            .map(|query| {
                let at = match query.at {
                    OffsetAt::Latest => -1,
                    OffsetAt::Earliest => -2,
                    // Kafka's protocol gives negative timestamps special meanings; no record is that old.
                    OffsetAt::Timestamp(ms) => ms.max(0),
                };
                let partition = &query.partition;
                match self.without_leader(partition) {
                    Some(c) => Err(c),
                    None => Ok((&*partition.topic, partition.partition, at)),
                }
            })
            .collect();
        let all_failed = |c: i32| {
            let codes = asked.iter().map(|a| a.err().unwrap_or(c));
            Ok(codes.map(|c| (-1, c, -1)).collect())
        };
        let partitions: Vec<_> = asked.iter().filter_map(|asked| asked.ok()).collect();
        if partitions.is_empty() {
            return all_failed(code::OK);
        }
        let request = AdminRequest::ListOffsets(&partitions, isolation);
        let event = match self.ask_raw(request, None, deadline).await? {
            Ok(event) => event,
            // "No leaders found": they are gone since they were described.
            Err((c, _)) if c == code::NO_LEADERS || is_missing(c) => {
                return all_failed(code::UNKNOWN_TOPIC_OR_PART);
            }
            Err((c, _)) if code::is_retriable(c) => return all_failed(c),
            Err((c, reason)) => return Err(self.failed(operation, c, &reason)),
        };
        let offsets = event.offsets().ok_or_else(|| odd_answer(operation))?;
        let by_partition: HashMap<(&str, i32), (i64, i32, i32)> = offsets
            .iter()
            .map(|o| {
                let answer = (o.offset, o.code, o.leader_epoch);
                ((o.topic.as_str(), o.partition), answer)
            })
            .collect();
        // A query that the answer lacks counts as one whose leader did not answer.
        let lacking = (i64::MIN, code::OK, -1);
        let answer = |asked: &std::result::Result<(&str, i32, i64), i32>| match asked {
            Ok((t, p, _)) => by_partition.get(&(*t, *p)).copied().unwrap_or(lacking),
            Err(c) => (-1, *c, -1),
        };
        Ok(asked.iter().map(answer).collect())
    }

    pub(crate) async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let unique: BTreeSet<&TopicPartition> = partitions.iter().collect();
        if unique.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list: Vec<(&str, i32, i64)> =
            unique.iter().map(|p| (&*p.topic, p.partition, 0)).collect();
        let operation = "listing the group's offsets";
        let deadline = Deadline::after(self.timeout);
        let event = self
            .ask_raw(AdminRequest::GroupOffsets(group, &list), None, &deadline)
            .await?
            .map_err(|(c, reason)| match c {
                code::GROUP_AUTHORIZATION_FAILED => denied(format!("group {group}"), "DESCRIBE", c),
                _ => self.failed(operation, c, &reason),
            })?;
        let offsets = event.group_offsets().ok_or_else(|| odd_answer(operation))?;
        let failed = |c: i32, reason: &str| match c {
            code::GROUP_AUTHORIZATION_FAILED => denied(format!("group {group}"), "DESCRIBE", c),
            code::TOPIC_AUTHORIZATION_FAILED => {
                denied(format!("topics of group {group}"), "DESCRIBE", c)
            }
            _ => self.failed(
                &format!("listing the offsets of group '{group}'"),
                c,
                reason,
            ),
        };
        let mut found = BTreeMap::new();
        for o in offsets.map_err(|(c, reason)| failed(c, &reason))? {
            if o.code != code::OK && !is_missing(o.code) {
                return Err(failed(o.code, &ffi::error_text(o.code)));
            }
            if o.code == code::OK && o.offset >= 0 {
                found.insert(TopicPartition::new(o.topic, o.partition), o.offset);
            }
        }
        Ok(found)
    }

    /// Commits offsets to a group that has no members.
    pub(crate) async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let operation = format!("committing offsets to group '{group}'");
        let list: Vec<(&str, i32, i64)> = offsets
            .iter()
            .map(|(partition, next)| (&*partition.topic, partition.partition, *next))
            .collect();
        let failed = |c: i32, reason: &str| match c {
            code::GROUP_AUTHORIZATION_FAILED => denied(format!("group {group}"), "READ", c),
            code::TOPIC_AUTHORIZATION_FAILED => {
                denied(format!("topics of group {group}"), "READ", c)
            }
            code::GROUP_IN_USE => Error::Kafka {
                operation: operation.clone(),
                reason:
                    "the group has members, which commit offsets themselves: name a separate group"
                        .to_owned(),
            },
            _ => self.failed(&operation, c, reason),
        };
        let deadline = Deadline::after(self.timeout);
        let request = AdminRequest::CommitGroupOffsets(group, &list);
        let event = self.ask_raw(request, None, &deadline).await?;
        let event = event.map_err(|(c, reason)| failed(c, &reason))?;
        let answer = event.committed_group_offsets();
        let answer = answer.ok_or_else(|| odd_answer(&operation))?;
        for partition in answer.map_err(|(c, reason)| failed(c, &reason))? {
            if partition.code != code::OK {
                let reason = ffi::error_text(partition.code);
                let at = format!("{}[{}]", partition.topic, partition.partition);
                return Err(failed(partition.code, &format!("{at}: {reason}")));
            }
        }
        Ok(())
    }
}

/// Groups open queries into requests of limited size, none of which has a partition twice.
fn waves(queries: &[OffsetQuery], open: &[usize]) -> Vec<Vec<usize>> {
    let mut times: HashMap<&TopicPartition, usize> = HashMap::new();
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for &query in open {
        let layer = times.entry(&queries[query].partition).or_default();
        if layers.len() == *layer {
            layers.push(Vec::new());
        }
        layers[*layer].push(query);
        *layer += 1;
    }
    layers
        .iter()
        .flat_map(|l| l.chunks(OFFSETS_AT_ONCE).map(<[usize]>::to_vec))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_hold_no_partition_twice() {
        let query = |p, at| OffsetQuery {
            partition: TopicPartition::new("t", p),
            at,
        };
        let queries = [
            query(0, OffsetAt::Earliest),
            query(0, OffsetAt::Latest),
            query(1, OffsetAt::Latest),
            query(0, OffsetAt::Timestamp(5)),
        ];
        assert_eq!(
            waves(&queries, &[0, 1, 2, 3]),
            [vec![0, 2], vec![1], vec![3]]
        );
        assert_eq!(waves(&queries, &[3]), [vec![3]]);
    }

    #[test]
    fn waves_are_bounded() {
        let queries: Vec<_> = (0..1201)
            .map(|p| OffsetQuery {
                partition: TopicPartition::new("t", p),
                at: OffsetAt::Latest,
            })
            .collect();
        let open: Vec<usize> = (0..1201).collect();
        let sizes: Vec<_> = waves(&queries, &open).iter().map(Vec::len).collect();
        assert_eq!(sizes, [500, 500, 201]);
    }
}
