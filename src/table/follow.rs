//! What jobs and exports ask of a table: how its rows are made, where it starts, and how far its log has
//! come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reading::{Readers, Splitting};
use super::resolve;
use super::{KafkaTable, TopicSource};
use crate::client::{ClusterDescription, GroupCommits, TopicSelection};
use crate::decode::RecordDecoder;
use crate::error::{Error, Result};
use crate::formats::Formats;
use crate::range::{LogBounds, OnDataLoss, Snapshot, SnapshotTopic, TopicPartition};

/// The table's part of a cluster as it is now.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogView {
    pub(crate) cluster_id: Option<String>,
    /// By name.
    pub(crate) topics: Vec<SnapshotTopic>,
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionView>,
}

/// A partition as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartitionView {
    pub(crate) log: LogBounds,
    pub(crate) leader: Option<i32>,
    /// The epoch of the leader that told the bounds.
    pub(crate) leader_epoch: Option<i32>,
}

impl LogView {
    pub(crate) fn topic_id(&self, topic: &str) -> Option<&str> {
        let found = self.topics.binary_search_by(|t| (*t.topic).cmp(topic));
        self.topics[found.ok()?].topic_id.as_deref()
    }
}

impl KafkaTable {
    /// How the table's columns are made.
    pub(crate) fn decoder(&self) -> &RecordDecoder {
        &self.reading.decoder
    }

    /// How records become rows, as text: equal texts mean equal rows. `None` where payloads stay bytes.
    pub(crate) fn decoding(&self) -> Option<&str> {
        self.reading.decoding.as_deref()
    }

    /// The formats that a job writes the table in.
    pub(crate) fn formats(&self) -> &Formats {
        &self.writing.formats
    }

    /// Topics and range, as they can be written.
    pub(crate) fn source(&self) -> String {
        format!(
            "{} {}",
            self.reading.selection.topics, self.reading.selection.range
        )
    }

    /// The ranges that the table is pinned to.
    pub(crate) fn pinned(&self) -> Option<&Snapshot> {
        self.reading.pinned.as_deref()
    }

    /// The same table, which passes over offsets that are gone.
    pub(crate) fn skipping_loss(&self) -> Self {
        let mut table = self.clone();
        table.reading.selection.on_data_loss = OnDataLoss::Skip;
        table
    }

    /// Refuses what a job cannot have: an end.
    pub(crate) fn check_followable(&self, name: &str) -> Result<()> {
        let range = &self.reading.selection.range;
        let end = match &self.reading.readers {
            Readers::Nobody(reason) => return Err(reason.clone()),
            // Also where it says `latest`: so does Spark's stream.
            Readers::Queries(option) => Some(format!("'{option}'")),
            Readers::All | Readers::Jobs(_) => {
                let ends = self.pinned().is_some() || !range.ends_at_log_end();
                ends.then(|| format!("range '{range}'"))
            }
        };
        if let Some(end) = end {
            return Err(Error::invalid(format!(
                "source '{name}': a job reads on and on, so its range must not end ({end}): \
                 leave the end and the ending options out; 'kafka-sql query' reads ranges with an end"
            )));
        }
        Ok(())
    }

    /// The table under the name that a job gives it.
    pub(crate) fn named(&self, name: &str) -> Self {
        let mut table = self.clone();
        table.job.name = Some(name.into());
        table
    }

    /// Whether partitions and topics that are created later belong to the table.
    pub(crate) fn takes_new_partitions(&self) -> bool {
        self.reading.selection.range.covers_all_partitions()
            && !matches!(self.topics(), TopicSource::Assigned(_))
    }

    /// The table with each Kafka partition read by one stream, in order, if that is needed.
    pub(crate) fn in_order(mut self, is_needed: bool) -> Self {
        if is_needed {
            self.reading.splitting = Splitting::InOrder;
        }
        self
    }

    /// What commits the table's offsets to a group, for lag tools.
    ///
    /// # Errors
    /// When the table has a client of its own, or the group no name.
    pub(crate) fn group_commits(&self, group: &str) -> Result<GroupCommits> {
        let Some(config) = self.connection() else {
            return Err(Error::invalid(format!(
                "the table of {} was made of a client: its offsets cannot be committed to a group",
                self.topics()
            )));
        };
        GroupCommits::connect(config, group)
    }

    /// Whether both tables read the same records of the same cluster, from the same start.
    pub(crate) fn is_same_source(&self, other: &Self) -> bool {
        let key = |table: &Self| {
            let selection = &table.reading.selection;
            format!(
                "{} {} {} {:?} {} {:?} {:?} {}",
                selection.topics,
                selection.range,
                selection.isolation,
                selection.on_data_loss,
                selection.past_end_is_end,
                table.decoding(),
                table.letter_place(),
                table.decoder().schema(),
            )
        };
        Arc::ptr_eq(self.client(), other.client()) && key(self) == key(other)
    }

    pub(crate) fn on_data_loss(&self) -> OnDataLoss {
        self.reading.selection.on_data_loss
    }

    pub(crate) fn isolation(&self) -> crate::range::IsolationLevel {
        self.reading.selection.isolation
    }

    /// Looks at the topics and their log bounds.
    ///
    /// # Errors
    /// When a named topic is not there and data loss is not allowed, or the cluster does not answer.
    pub(crate) async fn view(&self) -> Result<LogView> {
        let selection = &self.reading.selection;
        let cluster = match selection.topics.describe(selection.client.as_ref()).await {
            Err(Error::UnknownTopic { .. } | Error::UnknownPartition { .. })
                if selection.on_data_loss == OnDataLoss::Skip =>
            {
                self.describe_what_is_there().await?
            }
            described => described?,
        };
        let partitions: Vec<(TopicPartition, Option<i32>)> = cluster
            .topics
            .iter()
            .flat_map(|topic| {
                let number = |p: i32| TopicPartition::new(Arc::clone(&topic.name), p);
                topic
                    .partitions
                    .iter()
                    .map(move |p| (number(p.partition), p.leader))
            })
            .collect();
        let names: Vec<TopicPartition> = partitions.iter().map(|(p, _)| p.clone()).collect();
        let bounds = if names.is_empty() {
            BTreeMap::new()
        } else {
            let client = selection.client.as_ref();
            resolve::log_bounds_of_leaders(client, &names, selection.isolation).await?
        };
        let view = |(partition, leader): (TopicPartition, Option<i32>)| {
            let (log, leader_epoch) = *bounds.get(&partition)?;
            let view = PartitionView {
                log,
                leader,
                leader_epoch,
            };
            Some((partition, view))
        };
        let topics = cluster.topics.iter().map(|topic| SnapshotTopic {
            topic: Arc::clone(&topic.name),
            topic_id: topic.id.clone(),
            log_append_time: false,
        });
        let mut topics: Vec<SnapshotTopic> = topics.collect();
        topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(LogView {
            cluster_id: cluster.cluster_id,
            topics,
            partitions: partitions.into_iter().filter_map(view).collect(),
        })
    }

    /// The table's topics without those that are gone.
    async fn describe_what_is_there(&self) -> Result<ClusterDescription> {
        let client = self.reading.selection.client.as_ref();
        let mut cluster = client.describe(TopicSelection::All).await?;
        let covers = |topic: &Arc<str>, partition: i32| {
            let partition = TopicPartition::new(Arc::clone(topic), partition);
            self.reading.selection.topics.covers(&partition)
        };
        for topic in &mut cluster.topics {
            let name = Arc::clone(&topic.name);
            topic.partitions.retain(|p| covers(&name, p.partition));
        }
        cluster.topics.retain(|topic| !topic.partitions.is_empty());
        Ok(cluster)
    }

    /// The first offset at or after a time (ms), for each partition; `None` where every record is
    /// older.
    pub(crate) async fn offsets_at(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        ms: i64,
    ) -> Result<BTreeMap<TopicPartition, Option<i64>>> {
        let wanted: Vec<(TopicPartition, i64)> =
            partitions.iter().map(|p| (p.clone(), ms)).collect();
        let selection = &self.reading.selection;
        let found =
            resolve::timestamps(selection.client.as_ref(), &wanted, selection.isolation).await?;
        Ok(found
            .into_iter()
            .map(|((partition, _), offset)| (partition, offset))
            .collect())
    }
}
