//! Checks whether a log still is the one that was read, by leader epochs (KIP-101, KIP-320).
//!
//! Each partition has a leader, the broker that appends its records. Every new leader starts a new *epoch*.
//! Within one epoch a log only grows. If two replicas hold a record of the same epoch at the same offset,
//! they agree up to that offset. So a position is identified by the epoch of the record before it: the log is
//! still the same if it has that epoch and the epoch reaches up to the position.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{EpochEnd, EpochQuery, KafkaClient, OffsetAt, OffsetQuery, TopicSelection};
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, Snapshot, TopicPartition};

/// A position, and the leader epoch of the record before it.
#[derive(Debug, Clone)]
pub struct Mark {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset after its last record.
    pub offset: i64,
    /// The epoch of that record.
    pub epoch: i32,
    /// The epoch of the leader that shall answer; `None` for any leader.
    pub leader_epoch: Option<i32>,
}

/// How a position compares with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// The log is unchanged up to the position.
    Same,
    /// The log was cut at this offset. The record before it has this epoch.
    Cut(i64, i32),
    /// The log was cut before the position, at an unknown offset: its replacement reaches further, in epochs
    /// of its own.
    Gone,
    /// The brokers cannot tell.
    Untold,
}

/// Compares positions with the logs, using one request for each leader. Where this is in doubt, logs may be called cut
/// that are not: those of compacted topics.
pub async fn ask(client: &dyn KafkaClient, marks: &[Mark]) -> Result<Vec<Stands>> {
    let query = |mark: &Mark| EpochQuery {
        partition: mark.partition.clone(),
        leader_epoch: mark.leader_epoch,
        epoch: mark.epoch,
    };
    let queries: Vec<EpochQuery> = marks.iter().map(query).collect();
    if queries.is_empty() {
        return Ok(vec![]);
    }
    let answers = client.epoch_ends(&queries).await?;
    let answers = marks.iter().zip(answers);
    Ok(answers.map(|(mark, answer)| mark.against(answer)).collect())
}

/// The same, but a log is only called cut where it is.
pub async fn compare(client: &dyn KafkaClient, marks: &[Mark]) -> Result<Vec<Stands>> {
    let mut stands = ask(client, marks).await?;
    // Replicas of a compacted topic may know different epochs: a rebuilt replica does not know epochs whose
    // records were all removed.
    let is_cut = |stands: &Stands| matches!(stands, Stands::Cut(..) | Stands::Gone);
    let cut = marks
        .iter()
        .zip(&stands)
        .filter(|(_, stands)| is_cut(stands));
    let topics: BTreeSet<Arc<str>> = cut
        .map(|(mark, _)| Arc::clone(&mark.partition.topic))
        .collect();
    if topics.is_empty() {
        return Ok(stands);
    }
    let topics: Vec<Arc<str>> = topics.into_iter().collect();
    let settings = client.topic_settings(&topics).await?;
    let compacted: Vec<&Arc<str>> = (topics.iter().zip(settings))
        .filter(|(_, settings)| {
            let policy = settings.as_ref().map(|s| s.cleanup_policy.as_str());
            policy.is_some_and(|policy| policy.contains("compact"))
        })
        .map(|(topic, _)| topic)
        .collect();
    for (mark, stands) in marks.iter().zip(&mut stands) {
        if is_cut(stands) && compacted.contains(&&mark.partition.topic) {
            *stands = Stands::Untold;
        }
    }
    Ok(stands)
}

impl Mark {
    fn against(&self, answer: Option<EpochEnd>) -> Stands {
        match answer {
            None => Stands::Untold,
            Some(found) if found.end < self.offset => Stands::Cut(found.end, found.epoch),
            Some(found) if found.epoch < self.epoch => Stands::Gone,
            Some(_) => Stands::Same,
        }
    }
}

/// An offset for which the epoch of the record before it is unknown.
#[derive(Debug, Clone)]
pub struct Sought {
    /// The partition.
    pub partition: TopicPartition,
    /// Above the log start, and not beyond the end.
    pub offset: i64,
    /// The leader's current epoch, which is the highest possible.
    pub leader_epoch: i32,
    /// An epoch that is known to end before the offset, or -1.
    pub above: i32,
}

/// The leader epochs of the records before some offsets; `None` where the brokers cannot tell.
///
/// Most records are from the leader's current epoch or the one before, which takes at most one request.
pub async fn before(client: &dyn KafkaClient, sought: &[Sought]) -> Result<Vec<Option<i32>>> {
    // Every epoch up to `low` ends before the offset; `high` does not.
    struct Search {
        low: i32,
        high: i32,
        untold: bool,
    }
    let search = |sought: &Sought| Search {
        low: sought.above.min(sought.leader_epoch.saturating_sub(1)),
        high: sought.leader_epoch,
        untold: false,
    };
    let mut searches: Vec<Search> = sought.iter().map(search).collect();
    let mut first = true;
    loop {
        let open: Vec<usize> = (0..searches.len())
            .filter(|i| {
                !searches[*i].untold && searches[*i].high.saturating_sub(searches[*i].low) > 1
            })
            .collect();
        if open.is_empty() {
            break;
        }
        let probe = |search: &Search| match first {
            true => search.high - 1,
            false => i32::midpoint(search.low, search.high),
        };
        let queries: Vec<EpochQuery> = open
            .iter()
            .map(|i| EpochQuery {
                partition: sought[*i].partition.clone(),
                leader_epoch: Some(sought[*i].leader_epoch),
                epoch: probe(&searches[*i]),
            })
            .collect();
        let answers = client.epoch_ends(&queries).await?;
        for ((i, query), answer) in open.into_iter().zip(&queries).zip(answers) {
            let search = &mut searches[i];
            match answer {
                Some(found) if found.end < sought[i].offset => search.low = query.epoch,
                Some(found) if found.epoch > search.low && found.epoch <= query.epoch => {
                    search.high = found.epoch;
                }
                _ => search.untold = true,
            }
        }
        first = false;
    }
    let found = searches.iter().map(|s| (!s.untold).then_some(s.high));
    Ok(found.collect())
}

/// The leader epochs of the records before some offsets, each given with the start of its log. The leaders'
/// epochs need not be known.
pub async fn look_up(
    client: &dyn KafkaClient,
    offsets: &[(TopicPartition, i64, i64)],
) -> Result<Vec<Option<i32>>> {
    let behind_start = |(_, offset, log_start): &&(TopicPartition, i64, i64)| offset > log_start;
    let ends: Vec<OffsetQuery> = offsets
        .iter()
        .filter(behind_start)
        .map(|(partition, _, _)| OffsetQuery {
            partition: partition.clone(),
            at: OffsetAt::Latest,
        })
        .collect();
    if ends.is_empty() {
        return Ok(vec![None; offsets.len()]);
    }
    let answers = client
        .list_offsets(&ends, IsolationLevel::ReadUncommitted)
        .await?;
    let leaders: BTreeMap<&TopicPartition, i32> = ends
        .iter()
        .zip(answers)
        .filter_map(|(query, answer)| Some((&query.partition, answer.leader_epoch?)))
        .collect();
    let mut sought = vec![];
    let mut places = vec![];
    for (place, (partition, offset, _)) in offsets.iter().enumerate() {
        if let Some(leader_epoch) = leaders.get(partition)
            && behind_start(&&offsets[place])
        {
            places.push(place);
            sought.push(Sought {
                partition: partition.clone(),
                offset: *offset,
                leader_epoch: *leader_epoch,
                above: -1,
            });
        }
    }
    let mut epochs = vec![None; offsets.len()];
    for (place, epoch) in places.into_iter().zip(before(client, &sought).await?) {
        epochs[place] = epoch;
    }
    Ok(epochs)
}

/// Adds the leader epochs at the ends of a snapshot's ranges, where the brokers can tell.
pub async fn note_ends(client: &dyn KafkaClient, snapshot: &mut Snapshot) -> Result<()> {
    let offsets: Vec<_> = snapshot
        .ranges()
        .iter()
        // An empty range reads nothing.
        .map(|r| {
            (
                r.range.topic_partition(),
                r.range.end(),
                r.log_start.max(r.range.start()),
            )
        })
        .collect();
    let epochs = look_up(client, &offsets).await?;
    snapshot.note_leader_epochs(epochs);
    Ok(())
}

/// An error for each range of a snapshot whose log was cut before its end. The errors end with `next`.
pub async fn cut_ranges(
    client: &dyn KafkaClient,
    snapshot: &Snapshot,
    next: &str,
) -> Result<Vec<Error>> {
    let marks: Vec<Mark> = snapshot
        .ranges()
        .iter()
        .filter(|range| !range.range.is_empty())
        .filter_map(|range| {
            Some(Mark {
                partition: range.range.topic_partition(),
                offset: range.range.end(),
                epoch: range.leader_epoch?,
                leader_epoch: None,
            })
        })
        .collect();
    let stands = compare(client, &marks).await?;
    let errors = marks.iter().zip(stands);
    let errors: Vec<Error> = errors
        .filter_map(|(mark, stands)| {
            refusal(&mark.partition, mark.offset, mark.epoch, stands, next)
        })
        .collect();
    if !errors.is_empty() {
        refuse_recreated(client, snapshot).await?;
    }
    Ok(errors)
}

/// Another topic of the same name has epochs of its own, of which nothing follows.
async fn refuse_recreated(client: &dyn KafkaClient, snapshot: &Snapshot) -> Result<()> {
    let topics = snapshot.topics().iter();
    let names: Vec<Arc<str>> = topics.map(|t| Arc::clone(&t.topic)).collect();
    for topic in client.describe(TopicSelection::Named(&names)).await?.topics {
        if let (Some(expected), Some(found)) = (snapshot.topic_id(&topic.name), topic.id)
            && expected != found
        {
            return Err(Error::TopicRecreated {
                topic: topic.name.to_string(),
                expected: expected.to_owned(),
                found,
            });
        }
    }
    Ok(())
}

/// Refuses a snapshot if one of its logs was cut before the end of its range.
pub async fn refuse_cut(client: &dyn KafkaClient, snapshot: &Snapshot, next: &str) -> Result<()> {
    let cut = cut_ranges(client, snapshot, next).await?;
    cut.into_iter().next().map_or(Ok(()), Err)
}

/// Refuses a snapshot as [`refuse_cut`] does, and if one of its topics was deleted and created again.
pub async fn refuse_another_log(
    client: &dyn KafkaClient,
    snapshot: &Snapshot,
    next: &str,
) -> Result<()> {
    refuse_recreated(client, snapshot).await?;
    refuse_cut(client, snapshot, next).await
}

/// The error about a position that the log no longer has.
pub fn refusal(
    partition: &TopicPartition,
    offset: i64,
    epoch: i32,
    stands: Stands,
    next: &str,
) -> Option<Error> {
    let topic = partition.topic.to_string();
    let partition = partition.partition;
    match stands {
        Stands::Same | Stands::Untold => None,
        Stands::Cut(cut, _) => Some(Error::Truncated {
            topic,
            partition,
            offset,
            cut,
            message: next.to_owned(),
        }),
        Stands::Gone => Some(Error::DataLoss {
            topic,
            partition,
            offset,
            message: format!(
                "the record before this offset was of leader epoch {epoch}, which the log no longer has: it \
                 was cut somewhere before, by the loss of several leaders, and holds other \
                 records now; {next}"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::memory::{MemoryCluster, Record};

    #[test]
    fn a_position_stands_if_its_epoch_reaches_it() {
        let mark = Mark {
            partition: TopicPartition::new("t", 0),
            offset: 60,
            epoch: 2,
            leader_epoch: None,
        };
        let against = |epoch, end| mark.against(Some(EpochEnd { epoch, end }));
        assert_eq!(against(2, 60), Stands::Same);
        assert_eq!(against(2, 75), Stands::Same);
        assert_eq!(against(2, 59), Stands::Cut(59, 2));
        assert_eq!(against(1, 30), Stands::Cut(30, 1));
        // The log is longer now, with records that the leader of epoch 2 never had.
        assert_eq!(against(1, 75), Stands::Gone);
        assert_eq!(mark.against(None), Stands::Untold);
        let refused = refusal(&mark.partition, 60, 2, Stands::Gone, "start a new job").unwrap();
        assert_eq!(refused.kind(), crate::ErrorKind::DataUnavailable);
        assert!(
            refused
                .to_string()
                .starts_with("t[0]@60: the record before"),
            "{refused}"
        );
    }

    /// A rebuilt replica does not know epochs that compaction has left without records.
    #[tokio::test]
    async fn a_compacted_topic_is_not_called_cut() {
        use crate::client::memory::TopicOptions;
        let cluster = MemoryCluster::new();
        for (topic, policy) in [("kept", "delete"), ("compacted", "compact,delete")] {
            let options = TopicOptions::default().cleanup_policy(policy);
            cluster.create_topic_with(topic, 1, options).unwrap();
            let records = (0..60).map(|_| Record::new("x"));
            cluster.append_all(topic, 0, records).unwrap();
            cluster.elect_at(topic, 0, 30).unwrap();
        }
        let mark = |topic: &str| Mark {
            partition: TopicPartition::new(topic, 0),
            offset: 60,
            epoch: 0,
            leader_epoch: None,
        };
        let marks = ["kept", "compacted"].map(mark);
        let stands = compare(&cluster.client(), &marks).await.unwrap();
        assert_eq!(stands, [Stands::Cut(30, 0), Stands::Untold]);
    }

    #[tokio::test]
    async fn the_epoch_of_any_record_is_found() {
        let cluster = MemoryCluster::new();
        cluster.create_topic("t", 1).unwrap();
        let mut expected = vec![];
        for (epoch, records) in (0..).zip([3, 0, 1, 0, 0, 7, 2, 0, 1, 0]) {
            let some = (0..records).map(|_| Record::new("x"));
            cluster.append_all("t", 0, some).unwrap();
            expected.extend(std::iter::repeat_n(Some(epoch), records));
            cluster.elect_at("t", 0, i64::MAX).unwrap();
        }
        cluster
            .compact("t", 0, |offset, _| offset % 2 == 0)
            .unwrap();
        let client = cluster.client();
        let find = async |log_start: i64| {
            let ends = log_start + 1..=i64::try_from(expected.len()).unwrap();
            let offsets: Vec<_> = ends
                .map(|end| (TopicPartition::new("t", 0), end, log_start))
                .collect();
            look_up(&client, &offsets).await.unwrap()
        };
        assert_eq!(find(0).await, expected);
        cluster.truncate_before("t", 0, 5).unwrap();
        assert_eq!(find(5).await, expected[5..]);
        let none = [(TopicPartition::new("t", 0), 5, 5)];
        assert_eq!(look_up(&client, &none).await.unwrap(), [None]);
    }
}
