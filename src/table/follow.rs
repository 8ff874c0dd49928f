//! What a micro-batch driver asks of a table: where it starts, and how far its log has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::resolve;
use super::{KafkaTable, Limits, TopicSource};
use crate::client::{ClusterDescription, GroupCommits, TopicSelection};
use crate::error::{Error, Result};
use crate::range::{LogBounds, OnDataLoss, SnapshotTopic, TopicPartition};

/// The table's part of a cluster as it is now.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogView {
    pub(crate) cluster_id: Option<String>,
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
        let found = self.topics.iter().find(|t| &*t.topic == topic)?;
        found.topic_id.as_deref()
    }
}

impl KafkaTable {
    /// Refuses what a job cannot have: an end.
    pub(crate) fn check_followable(&self, name: &str) -> Result<()> {
        if let Some(reason) = &self.unreadable {
            return Err(reason.clone());
        }
        let range = &self.selection.range;
        let end = match self.queries_only {
            // Also where it says `latest`: so does Spark's stream.
            Some(option) => Some(format!("'{option}'")),
            None if self.pinned.is_some() || !range.ends_at_log_end() => {
                Some(format!("range '{range}'"))
            }
            None => None,
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
        Self {
            source_name: Some(name.into()),
            ..self.clone()
        }
    }

    /// Whether partitions and topics that are created later belong to the table.
    pub(crate) fn takes_new_partitions(&self) -> bool {
        self.selection.range.covers_all_partitions()
            && !matches!(self.selection.topics, TopicSource::Assigned(_))
    }

    /// The topics as they were written.
    pub(crate) fn topics(&self) -> String {
        self.selection.topics.to_string()
    }

    /// The table with each Kafka partition read by one stream, in order.
    pub(crate) fn in_order(mut self, in_order: bool) -> Self {
        self.in_order = in_order;
        self
    }

    /// What commits the table's offsets to a group, for lag tools.
    ///
    /// # Errors
    /// When the table has a client of its own, or the group no name.
    pub(crate) fn group_commits(&self, group: &str) -> Result<GroupCommits> {
        let Some((config, _)) = &self.writing else {
            return Err(Error::invalid(format!(
                "the table of {} was made of a client: its offsets cannot be committed to a group",
                self.selection.topics
            )));
        };
        GroupCommits::connect(config, group)
    }

    /// Whether both tables read the same records of the same cluster, from the same start.
    pub(crate) fn is_same_source(&self, other: &Self) -> bool {
        let key = |table: &Self| {
            let selection = &table.selection;
            format!(
                "{} {} {} {:?} {} {:?} {:?} {}",
                selection.topics,
                selection.range,
                selection.isolation,
                selection.on_data_loss,
                selection.past_end_is_end,
                table.decoding,
                table.letters,
                table.decoder().schema(),
            )
        };
        Arc::ptr_eq(&self.selection.client, &other.selection.client) && key(self) == key(other)
    }

    pub(crate) fn on_data_loss(&self) -> OnDataLoss {
        self.selection.on_data_loss
    }

    pub(crate) fn isolation(&self) -> crate::range::IsolationLevel {
        self.selection.isolation
    }

    /// What limits the table's batches.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Looks at the topics and their log bounds.
    ///
    /// # Errors
    /// When a named topic is not there and data loss is not allowed, or the cluster does not answer.
    pub(crate) async fn view(&self) -> Result<LogView> {
        let selection = &self.selection;
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
        Ok(LogView {
            cluster_id: cluster.cluster_id,
            topics: cluster
                .topics
                .iter()
                .map(|topic| SnapshotTopic {
                    topic: Arc::clone(&topic.name),
                    topic_id: topic.id.clone(),
                    log_append_time: false,
                })
                .collect(),
            partitions: partitions.into_iter().filter_map(view).collect(),
        })
    }

    /// The table's topics without those that are gone.
    async fn describe_what_is_there(&self) -> Result<ClusterDescription> {
        let client = self.selection.client.as_ref();
        let mut cluster = client.describe(TopicSelection::All).await?;
        let covers = |topic: &Arc<str>, partition: i32| {
            let partition = TopicPartition::new(Arc::clone(topic), partition);
            self.selection.topics.covers(&partition)
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
        let selection = &self.selection;
        let found =
            resolve::timestamps(selection.client.as_ref(), &wanted, selection.isolation).await?;
        Ok(found
            .into_iter()
            .map(|((partition, _), offset)| (partition, offset))
            .collect())
    }
}
