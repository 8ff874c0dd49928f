//! The state topic: what the jobs of a cluster have committed, and who writes for them.
//!
//! One partition, compacted. Keys are JSON objects in a fixed spelling, for a key is its bytes:
//!
//! ```text
//! {"job":"j","target":"t"}                                             {"version":1,"owner":"…","batch":7}
//! {"job":"j","target":"t","source":"s","topic":"orders","partition":0} {"version":1,"next":42,"topic_id":"…","batch":7}
//! ```
//!
//! A consumer group's offsets would not do: they expire, and they need the source topics to be on the
//! cluster of the target.

use std::collections::BTreeSet;

use arrow::array::Array;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::*;
use crate::client::librdkafka::writing::{code, create_topic};
use crate::client::{OffsetAt, OffsetQuery, RawColumns, ReadRequest};
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};

/// The version of the records that this crate writes and reads.
const VERSION: u32 = 1;
/// How the topic is created. Small segments are compacted soon: a record comes with every batch.
const SETTINGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("min.cleanable.dirty.ratio", "0.1"),
];
/// How often it is looked whether a transaction of another job has ended.
const OPEN_TICK: Duration = Duration::from_millis(50);

/// A record to be written.
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Key {
    job: String,
    target: String,
    /// `None` in the job's own record.
    #[serde(flatten)]
    partition: Option<SourcePartition>,
}

#[derive(Debug, Serialize, Deserialize)]
struct JobValue {
    version: u32,
    owner: String,
    /// The last committed batch.
    batch: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndValue {
    version: u32,
    #[serde(flatten)]
    position: Position,
    batch: u64,
}

/// What the state topic says of a target.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) committed: Option<Committed>,
    /// The session that last opened the target for the job.
    pub(super) owner: Option<String>,
    /// Other jobs of the target.
    pub(super) others: Vec<String>,
}

/// The job's own record.
pub(super) fn job_record(job: &str, target: &str, owner: &str, batch: Option<u64>) -> Record {
    let value = JobValue {
        version: VERSION,
        owner: owner.to_owned(),
        batch,
    };
    record(job, target, None, &value)
}

/// What is written with a batch: the ends that it moves, and the job's own record.
pub(super) fn records(target: &str, owner: &str, batch: &BatchRanges) -> Vec<Record> {
    let end = |range: &SourceRange| {
        let value = EndValue {
            version: VERSION,
            position: Position {
                next: range.end,
                topic_id: range.topic_id.clone(),
                leader_epoch: range.leader_epoch,
            },
            batch: batch.batch,
        };
        record(&batch.job, target, Some(range.partition.clone()), &value)
    };
    let own = job_record(&batch.job, target, owner, Some(batch.batch));
    batch.moved().map(end).chain([own]).collect()
}

fn record(
    job: &str,
    target: &str,
    partition: Option<SourcePartition>,
    value: &impl Serialize,
) -> Record {
    let key = Key {
        job: job.to_owned(),
        target: target.to_owned(),
        partition,
    };
    // Texts, numbers and nothing else: there is nothing that JSON could refuse.
    let json = |bytes: serde_json::Result<Vec<u8>>| bytes.unwrap_or_default();
    Record {
        key: json(serde_json::to_vec(&key)),
        value: json(serde_json::to_vec(value)),
    }
}

/// The state topic as seen by one sink.
pub(super) struct StateTopic<'a> {
    pub(super) name: &'a str,
    pub(super) target: &'a str,
    pub(super) config: &'a ConnectionConfig,
    pub(super) client: &'a dyn KafkaClient,
}

impl StateTopic<'_> {
    /// Creates the topic if it is missing, and refuses one that would lose records.
    pub(super) async fn ensure(&self) -> Result<()> {
        let name: Arc<str> = self.name.into();
        if known_topic(self.client, &name).await?.is_none() {
            self.create().await?;
            let deadline = Instant::now() + self.config.request_timeout();
            while !self.has_leader(&name).await? {
                if Instant::now() > deadline {
                    return Err(self.failed("creating it", "it has no leader".to_owned(), true));
                }
                tokio::time::sleep(OPEN_TICK).await;
            }
        }
        let settings = self
            .client
            .topic_settings(std::slice::from_ref(&name))
            .await?;
        match settings.first() {
            Some(Some(settings)) if settings.cleanup_policy != "compact" => {
                Err(Error::invalid(format!(
                    "topic '{}' has cleanup.policy={}, under which it would forget what jobs have \
                     committed: set cleanup.policy=compact, or name another 'state.topic'",
                    self.name, settings.cleanup_policy
                )))
            }
            _ => Ok(()),
        }
    }

    async fn has_leader(&self, name: &Arc<str>) -> Result<bool> {
        let names = [Arc::clone(name)];
        let cluster = self.client.describe(TopicSelection::Named(&names)).await?;
        let topic = cluster.topics.first();
        Ok(topic.is_some_and(|t| t.partitions.first().is_some_and(|p| p.leader.is_some())))
    }

    async fn create(&self) -> Result<()> {
        let created = create_topic(self.config, self.name, &SETTINGS).await?;
        created.map_err(|(c, reason)| {
            let settings: String = SETTINGS
                .iter()
                .map(|(name, value)| format!(" --config {name}={value}"))
                .collect();
            self.failed(
                "creating it",
                format!(
                    "{reason}; it holds what jobs have committed: have it made by 'kafka-topics.sh \
                     --create --topic {} --partitions 1{settings}', or name another 'state.topic'",
                    self.name
                ),
                code::is_retriable(c),
            )
        })
    }

    /// Reads all that was committed before the call.
    ///
    /// A transaction of another job that is open holds back what committed readers see behind its
    /// first record, also records of this job. So they are read up to where the log ended when this
    /// was called, and until then it is waited.
    pub(super) async fn read(&self, job: &str) -> Result<State> {
        let partition = TopicPartition::new(self.name, 0);
        let at = |at| OffsetQuery {
            partition: partition.clone(),
            at,
        };
        let offset = async |at, isolation| {
            let answer = self.client.list_offsets(&[at], isolation).await?;
            Ok::<i64, Error>(answer.first().and_then(|a| a.offset).unwrap_or(0))
        };
        let committed = IsolationLevel::ReadCommitted;
        let end = offset(at(OffsetAt::Latest), IsolationLevel::ReadUncommitted).await?;
        let deadline = Instant::now() + self.config.read_timeout();
        while offset(at(OffsetAt::Latest), committed).await? < end {
            if Instant::now() > deadline {
                return Err(self.failed(
                    "reading it",
                    "a transaction of another job that writes there stays open: it ends when that \
                     job is started again, or at its transaction.timeout.ms"
                        .to_owned(),
                    true,
                ));
            }
            tokio::time::sleep(OPEN_TICK).await;
        }
        let start = offset(at(OffsetAt::Earliest), committed).await?;
        let mut batches = self.client.read(ReadRequest {
            columns: RawColumns {
                key: true,
                value: true,
                ..RawColumns::default()
            },
            isolation: committed,
            ..ReadRequest::new(vec![OffsetRange::try_new(
                self.name,
                0,
                start,
                end.max(start),
            )?])
        });
        let mut found = Found::default();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let (Some(keys), Some(values)) = (&batch.keys, &batch.values) else {
                continue;
            };
            for (i, offset) in batch.offsets.values().iter().enumerate() {
                let value = (!values.is_null(i)).then(|| values.value(i));
                let key = keys.value(i);
                found.take(job, self.target, key, value).map_err(|reason| {
                    Error::corrupt(
                        format!("{}[0]@{offset}", self.name),
                        format!("{reason}; name another 'state.topic', or repair the record"),
                    )
                })?;
            }
        }
        Ok(found.state())
    }

    fn failed(&self, operation: &str, reason: String, transient: bool) -> Error {
        Error::Sink {
            target: format!("state topic '{}'", self.name),
            operation: operation.to_owned(),
            reason,
            transient,
            source: None,
        }
    }
}

/// The last record of each key, as far as it concerns a job.
#[derive(Default)]
struct Found {
    owner: Option<String>,
    batch: Option<u64>,
    ends: Ends,
    others: BTreeSet<String>,
}

impl Found {
    fn take(
        &mut self,
        job: &str,
        target: &str,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), String> {
        let key: Key = json("key", key)?;
        if key.target != target {
            return Ok(());
        }
        if key.job != job {
            // A tombstone of the job's own record sets the target free.
            match (key.partition, value) {
                (None, None) => self.others.remove(&key.job),
                (None, Some(_)) => self.others.insert(key.job),
                (Some(_), _) => false,
            };
            return Ok(());
        }
        match (key.partition, value) {
            (None, None) => {
                *self = Self {
                    others: std::mem::take(&mut self.others),
                    ..Self::default()
                }
            }
            (None, Some(value)) => {
                check_version(value)?;
                let value: JobValue = json("value", value)?;
                self.owner = Some(value.owner);
                self.batch = value.batch;
            }
            (Some(partition), None) => {
                self.ends.remove(&partition);
            }
            (Some(partition), Some(value)) => {
                check_version(value)?;
                let value: EndValue = json("value", value)?;
                self.ends.insert(partition, value.position);
            }
        }
        Ok(())
    }

    fn state(self) -> State {
        let ends = self.ends;
        State {
            committed: self.batch.map(|batch| Committed { batch, ends }),
            owner: self.owner,
            others: self.others.into_iter().collect(),
        }
    }
}

/// Before the rest, which another version may spell otherwise.
fn check_version(value: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    match json::<Versioned>("value", value)?.version {
        VERSION => Ok(()),
        other => Err(format!(
            "the record has version {other}, this program knows version {VERSION}"
        )),
    }
}

fn json<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("the {what} is not a sink's: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> BatchRanges {
        BatchRanges {
            job: "j".to_owned(),
            batch: 7,
            attempt: "a".to_owned(),
            ranges: [(0, Some(5), 42), (1, Some(3), 3)]
                .map(|(partition, previous, end)| SourceRange {
                    partition: SourcePartition {
                        source: "s".into(),
                        topic: "orders".into(),
                        partition,
                    },
                    previous,
                    start: previous.unwrap_or(0),
                    end,
                    topic_id: Some("id".to_owned()),
                    leader_epoch: Some(6),
                })
                .into(),
        }
    }

    #[test]
    fn records_are_those_of_the_moved_partitions_and_the_jobs() {
        let texts: Vec<(String, String)> = records("t", "me", &batch())
            .into_iter()
            .map(|r| (r.key, r.value))
            .map(|(k, v)| (String::from_utf8(k).unwrap(), String::from_utf8(v).unwrap()))
            .collect();
        let expected = [
            (
                r#"{"job":"j","target":"t","source":"s","topic":"orders","partition":0}"#,
                r#"{"version":1,"next":42,"topic_id":"id","leader_epoch":6,"batch":7}"#,
            ),
            (
                r#"{"job":"j","target":"t"}"#,
                r#"{"version":1,"owner":"me","batch":7}"#,
            ),
        ];
        let found: Vec<(&str, &str)> = texts.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut found = Found::default();
        for record in records("t", "me", &batch()) {
            found
                .take("j", "t", &record.key, Some(&record.value))
                .unwrap();
        }
        let other = job_record("k", "t", "you", None);
        found
            .take("j", "t", &other.key, Some(&other.value))
            .unwrap();
        let elsewhere = job_record("l", "u", "you", None);
        found
            .take("j", "t", &elsewhere.key, Some(&elsewhere.value))
            .unwrap();
        let state = found.state();
        let committed = state.committed.unwrap();
        assert_eq!(committed.batch, 7);
        assert_eq!(committed.ends.len(), 1);
        assert_eq!(committed.ends.values().next().unwrap().next, 42);
        assert_eq!(state.owner.as_deref(), Some("me"));
        assert_eq!(state.others, ["k"]);
    }

    #[test]
    fn a_later_version_is_refused() {
        let record = job_record("j", "t", "me", None);
        let value = br#"{"version":2}"#;
        let refused = Found::default().take("j", "t", &record.key, Some(value));
        assert_eq!(
            refused.unwrap_err(),
            "the record has version 2, this program knows version 1"
        );
        assert!(Found::default().take("j", "t", b"x", None).is_err());
    }
}
