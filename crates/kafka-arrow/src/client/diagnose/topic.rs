//! What this client may do with topics and a group, and what their records tell.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;

use super::finding::{Check, Finding, Outcome};
use super::{Questions, count, is_denied, listed, within};
use crate::client::{
    ClusterDescription, KafkaClient, OffsetAt, OffsetQuery, ReadRequest, TimestampType,
    TopicDescription, TopicSelection, TopicSettings,
};
use crate::error::{Error, Result, nearest_names};
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};
use crate::raw::RawColumns;

/// The most partitions whose last record is read.
const READ_MOST: usize = 16;
/// Timestamps this far ahead of the clock are not worth a word.
const AHEAD_MS: i64 = 2000;
/// What both clients unpack.
const CODECS: [&str; 7] = [
    "producer",
    "uncompressed",
    "none",
    "gzip",
    "snappy",
    "lz4",
    "zstd",
];

/// What a topic's checks share.
struct Asking<'a> {
    client: &'a dyn KafkaClient,
    cluster: &'a ClusterDescription,
    limit: Duration,
    user: Option<&'a str>,
}

/// Reports on each of the topics, and on the group.
pub(super) async fn findings(
    client: &dyn KafkaClient,
    cluster: &ClusterDescription,
    questions: &Questions,
    user: Option<&str>,
    tell: &mut (impl FnMut(Finding) + Send),
) {
    let asking = Asking {
        client,
        cluster,
        limit: questions.step_limit,
        user,
    };
    let mut told = |finding: Finding| tell(finding.by(client.name()));
    for topic in &questions.topics {
        asking.topic(topic, &mut told).await;
    }
    if questions.topics.is_empty() {
        for check in OF_TOPICS {
            told(Finding::skipped(check, "", "no topic was named"));
        }
    }
    match &questions.group {
        Some(group) => told(asking.group(group, &questions.topics).await),
        None => told(Finding::skipped(Check::Group, "", "no group was named")),
    }
}

const OF_TOPICS: [Check; 6] = [
    Check::Topic,
    Check::Offsets,
    Check::Settings,
    Check::Codec,
    Check::Read,
    Check::Clock,
];

impl Asking<'_> {
    async fn topic(&self, topic: &Arc<str>, tell: &mut (impl FnMut(Finding) + Send)) {
        let described = match self.describe(topic).await {
            Ok(described) => described,
            Err(finding) => {
                tell(*finding);
                for check in OF_TOPICS.into_iter().skip(1) {
                    tell(Finding::skipped(
                        check,
                        &**topic,
                        "the topic was not described",
                    ));
                }
                return;
            }
        };
        let partitions = described.partitions.len();
        tell(
            Finding::new(
                Check::Topic,
                &**topic,
                Outcome::Ok,
                format!(
                    "DESCRIBE is allowed; it has {}",
                    count(partitions, "partition")
                ),
            )
            .fact("partitions", partitions),
        );
        let ends = match self.ends(&described).await {
            Ok((finding, ends)) => {
                tell(finding);
                Some(ends)
            }
            Err(error) => {
                tell(self.refused(Check::Offsets, topic, "Describe", &error));
                None
            }
        };
        let settings = self.settings(topic, tell).await;
        match ends {
            Some(ends) => self.read(topic, ends, settings.as_ref(), tell).await,
            None => {
                for check in [Check::Read, Check::Clock] {
                    tell(Finding::skipped(check, &**topic, "the offsets are unknown"));
                }
            }
        }
    }

    async fn describe(&self, topic: &Arc<str>) -> Result<TopicDescription, Box<Finding>> {
        let named = std::slice::from_ref(topic);
        let asked = self.client.describe(TopicSelection::Named(named));
        let described = within(self.limit, "describing the topic", asked).await;
        let described = described
            .map_err(|error| Box::new(self.refused(Check::Topic, topic, "Describe", &error)))?;
        let found = described.topics.into_iter().find(|t| t.name == *topic);
        found.ok_or_else(|| {
            let all = self.cluster.topics.iter().map(|t| &*t.name);
            let error = Error::UnknownTopic {
                topic: topic.to_string(),
                nearest: nearest_names(topic, all),
            };
            Box::new(Finding::of_error(Check::Topic, &**topic, &error))
        })
    }

    /// The offsets of each partition that has a leader: the log start and the end.
    async fn ends(&self, topic: &TopicDescription) -> Result<(Finding, Vec<OffsetRange>)> {
        let led = topic.partitions.iter().filter(|p| p.leader.is_some());
        let led: Vec<TopicPartition> = led
            .map(|p| TopicPartition::new(Arc::clone(&topic.name), p.partition))
            .collect();
        let mut bounds = Vec::new();
        for at in [OffsetAt::Earliest, OffsetAt::Latest] {
            let query = |partition: &TopicPartition| OffsetQuery {
                partition: partition.clone(),
                at,
            };
            let queries: Vec<OffsetQuery> = led.iter().map(query).collect();
            let asked = self
                .client
                .list_offsets(&queries, IsolationLevel::ReadCommitted);
            bounds.push(within(self.limit, "listing offsets", asked).await?);
        }
        let pairs = bounds[0].iter().zip(&bounds[1]).zip(led);
        let ranges = pairs.filter_map(|((start, end), partition)| {
            let (start, end) = (start.offset?, end.offset?);
            OffsetRange::try_new(partition.topic, partition.partition, start, end).ok()
        });
        let ranges: Vec<OffsetRange> = ranges.collect();
        let offsets: u64 = ranges.iter().map(|r| r.end().abs_diff(r.start())).sum();
        let offline = topic.partitions.len() - bounds[0].len();
        let text = format!(
            "{offsets} offsets in {}",
            count(bounds[0].len(), "partition")
        );
        let finding = match offline {
            0 => Finding::new(Check::Offsets, &*topic.name, Outcome::Ok, text),
            _ => {
                let text = format!("{text}; {offline} more have no leader");
                Finding::new(Check::Offsets, &*topic.name, Outcome::Failed, text)
                    .advise("see 'leaders'; until then, name the partitions that are there")
            }
        };
        Ok((finding.fact("offsets", offsets), ranges))
    }

    async fn settings(
        &self,
        topic: &Arc<str>,
        tell: &mut (impl FnMut(Finding) + Send),
    ) -> Option<TopicSettings> {
        let asked = self.client.topic_settings(std::slice::from_ref(topic));
        let told = within(self.limit, "asking for settings", asked).await;
        match told.map(|all| all.into_iter().next().flatten()) {
            Ok(Some(settings)) => {
                let kind = match settings.log_append_time {
                    true => "LogAppendTime",
                    false => "CreateTime",
                };
                let text = format!(
                    "DESCRIBE_CONFIGS is allowed: timestamps are {kind}, 'cleanup.policy' = '{}'",
                    settings.cleanup_policy
                );
                tell(Finding::new(Check::Settings, &**topic, Outcome::Ok, text));
                tell(codec(topic, &settings.compression_type));
                return Some(settings);
            }
            Ok(None) => tell(
                Finding::new(
                    Check::Settings,
                    &**topic,
                    Outcome::Warning,
                    "the settings are not told; reading works without",
                )
                .note(
                    "without them, a window of time is read to the end of the topic, as with CreateTime, and \
                     compaction is known only by its holes",
                )
                .advise(self.grant("DescribeConfigs", topic)),
            ),
            Err(error) => tell(self.refused(Check::Settings, topic, "DescribeConfigs", &error)),
        }
        tell(Finding::skipped(
            Check::Codec,
            &**topic,
            "the settings are unknown",
        ));
        None
    }

    /// Reads the last record of some partitions.
    async fn read(
        &self,
        topic: &Arc<str>,
        ends: Vec<OffsetRange>,
        settings: Option<&TopicSettings>,
        tell: &mut (impl FnMut(Finding) + Send),
    ) {
        let filled = ends.into_iter().filter(|range| range.start() < range.end());
        let last = filled.filter_map(|range| {
            let (start, end) = (range.end() - 1, range.end());
            OffsetRange::try_new(Arc::clone(topic), range.partition(), start, end).ok()
        });
        let last: Vec<OffsetRange> = last.take(READ_MOST).collect();
        if last.is_empty() {
            let why = "no partition with a leader has a record, and only reading shows whether READ is allowed";
            tell(Finding::skipped(Check::Read, &**topic, why));
            tell(Finding::skipped(
                Check::Clock,
                &**topic,
                "there is no record",
            ));
            return;
        }
        let partitions = last.len();
        let reading = within(self.limit, "reading records", self.newest(last)).await;
        let (records, newest) = match reading {
            Ok(read) => read,
            Err(error) => {
                let finding = self.refused(Check::Read, topic, "Read", &error);
                tell(match is_denied(&error) {
                    true => finding.note("offsets can be listed, and no record can be read"),
                    false => finding,
                });
                tell(Finding::skipped(
                    Check::Clock,
                    &**topic,
                    "no record was read",
                ));
                return;
            }
        };
        let (of_records, of_partitions) =
            (count(records, "record"), count(partitions, "partition"));
        let text = format!("READ is allowed: {of_records} from the ends of {of_partitions}");
        tell(Finding::new(Check::Read, &**topic, Outcome::Ok, text).fact("records", records));
        tell(clock(topic, newest, settings));
    }

    /// How many records the ranges have, and the newest timestamp with who set it.
    async fn newest(
        &self,
        ranges: Vec<OffsetRange>,
    ) -> Result<(usize, Option<(i64, TimestampType)>)> {
        let request = ReadRequest {
            columns: RawColumns {
                timestamp: true,
                timestamp_type: true,
                // Without a value, record batches might not be unpacked.
                value: true,
                key: false,
                headers: false,
                leader_epoch: false,
            },
            ..ReadRequest::new(ranges)
        };
        let mut stream = self.client.read(request);
        let (mut records, mut newest) = (0, None);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            records += batch.offsets.len();
            let times = batch.timestamps.iter().flatten().flatten();
            let kinds = batch.timestamp_types.iter().flatten();
            let latest = times.zip(kinds.copied()).max_by_key(|(ms, _)| *ms);
            newest = newest.max_by_ms(latest);
        }
        Ok((records, newest))
    }

    async fn group(&self, group: &str, topics: &[Arc<str>]) -> Finding {
        let asked = match topics.first() {
            Some(topic) => Some(Arc::clone(topic)),
            None => self.cluster.topics.first().map(|t| Arc::clone(&t.name)),
        };
        let Some(topic) = asked else {
            return Finding::skipped(Check::Group, group, "there is no topic to ask for");
        };
        let partitions = [TopicPartition::new(topic, 0)];
        let asked = self.client.group_offsets(group, &partitions);
        match within(self.limit, "asking for offsets", asked).await {
            Ok(_) => {
                let text = format!("DESCRIBE is allowed: ranges may name 'group:{group}'");
                Finding::new(Check::Group, group, Outcome::Ok, text)
            }
            Err(error) => {
                let finding = Finding::of_error(Check::Group, group, &error);
                match is_denied(&error) {
                    true => finding
                        .note("without this right, ranges cannot name the group; all else works")
                        .advise(self.acl("Describe", "group", group)),
                    false => finding,
                }
            }
        }
    }

    /// The finding about a request that failed; where rights are missing, it says which ones to grant.
    fn refused(&self, check: Check, topic: &str, operation: &str, error: &Error) -> Finding {
        let finding = Finding::of_error(check, topic, error);
        match is_denied(error) {
            true => finding.advise(self.grant(operation, topic)),
            false => finding,
        }
    }

    fn grant(&self, operation: &str, topic: &str) -> String {
        self.acl(operation, "topic", topic)
    }

    /// The command that grants a right.
    fn acl(&self, operation: &str, kind: &str, name: &str) -> String {
        let user = self.user.unwrap_or("NAME");
        format!(
            "an administrator can grant it: kafka-acls --bootstrap-server … --add --allow-principal 'User:{user}' \
             --operation {operation} --{kind} '{name}'"
        )
    }
}

/// The later of two timestamps.
trait MaxByMs {
    fn max_by_ms(self, other: Self) -> Self;
}

impl MaxByMs for Option<(i64, TimestampType)> {
    fn max_by_ms(self, other: Self) -> Self {
        self.into_iter().chain(other).max_by_key(|(ms, _)| *ms)
    }
}

fn codec(topic: &str, compression: &str) -> Finding {
    let can = format!("this build reads {}", listed(CODECS[3..].iter()));
    let finding = match compression {
        "producer" => Finding::new(
            Check::Codec,
            topic,
            Outcome::Ok,
            format!("producers choose the compression; {can}"),
        ),
        known if CODECS.contains(&known) => Finding::new(
            Check::Codec,
            topic,
            Outcome::Ok,
            format!("'compression.type' = '{known}' can be read"),
        ),
        other => Finding::new(
            Check::Codec,
            topic,
            Outcome::Failed,
            format!("'compression.type' = '{other}' cannot be read; {can}"),
        )
        .advise("have the topic written with one of these"),
    };
    finding.fact("compression_type", compression)
}

/// What the newest timestamp says of this machine's clock. Kafka has no request for a broker's time: a clock that
/// is ahead of it cannot be told from records that are old.
fn clock(
    topic: &str,
    newest: Option<(i64, TimestampType)>,
    settings: Option<&TopicSettings>,
) -> Finding {
    let Some((newest_ms, kind)) = newest.filter(|(ms, _)| *ms >= 0) else {
        return Finding::skipped(Check::Clock, topic, "no record has a timestamp");
    };
    let ahead_ms = newest_ms - Timestamp::now().as_millisecond();
    let by_broker = kind == TimestampType::LogAppendTime
        || settings.is_some_and(|settings| settings.log_append_time);
    let whose = match by_broker {
        true => "the broker's clock",
        false => "a producer's clock",
    };
    let shown = |ms: i64| match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{ms} ms"),
    };
    let finding = if ahead_ms > AHEAD_MS {
        let text = format!(
            "the newest record is of {}, by {whose}, which is {} s ahead of this machine's",
            shown(newest_ms),
            ahead_ms / 1000
        );
        let advice = match by_broker {
            true => "set both clocks (NTP): ranges such as '@-1h' mean this machine's time",
            false => "set the clocks (NTP), or look at what the producer writes as a timestamp",
        };
        Finding::new(Check::Clock, topic, Outcome::Warning, text).advise(advice)
    } else {
        let text = format!(
            "the newest record is of {}, by {whose}, which is not ahead of this machine's",
            shown(newest_ms)
        );
        Finding::new(Check::Clock, topic, Outcome::Ok, text)
    };
    finding
        .note("brokers do not tell their time: only a timestamp of the future shows that clocks differ")
        .fact("newest_ms", newest_ms)
        .fact("ahead_ms", ahead_ms)
        .fact("by_broker", by_broker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_timestamps_of_the_future_tell_of_a_clock() {
        let now = Timestamp::now().as_millisecond();
        let at = |ms, kind| clock("t", Some((ms, kind)), None);
        let past = at(now - 1_000_000, TimestampType::LogAppendTime);
        assert_eq!(past.outcome, Outcome::Ok, "{past:?}");
        let future = at(now + 60_000, TimestampType::LogAppendTime);
        assert_eq!(future.outcome, Outcome::Warning);
        assert!(
            future.text.contains("the broker's clock"),
            "{}",
            future.text
        );
        let written = at(now + 60_000, TimestampType::CreateTime);
        assert!(
            written.text.contains("a producer's clock"),
            "{}",
            written.text
        );
        assert_eq!(at(-1, TimestampType::CreateTime).outcome, Outcome::Skipped);
        assert_eq!(
            at(i64::MAX, TimestampType::CreateTime).outcome,
            Outcome::Warning
        );
    }

    #[test]
    fn codecs_of_the_future_are_named() {
        assert_eq!(codec("t", "zstd").outcome, Outcome::Ok);
        assert_eq!(codec("t", "gzip").outcome, Outcome::Ok);
        let other = codec("t", "brotli");
        assert_eq!(other.outcome, Outcome::Failed);
        assert!(
            other.text.contains("gzip, snappy, lz4, zstd"),
            "{}",
            other.text
        );
    }
}
