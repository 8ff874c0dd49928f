//! Kafka topics as DataFusion tables.
//!
//! A [`KafkaTable`] is a set of topics and a range. Planning a scan of it takes a [`Snapshot`]
//! (once for a statement, see [`KafkaTable::snapshot`]), cuts the snapshot's ranges by the
//! predicates, splits what is left into execution partitions and hands these to a
//! [`KafkaScanExec`].

mod builder;
mod catalog;
mod cut;
mod delivery;
mod factory;
mod follow;
mod formats;
mod functions;
mod letters;
mod limits;
mod lookup;
mod missing;
mod options;
mod pruning;
#[cfg(feature = "jobs")]
mod recorded;
mod redecode;
mod resolve;
mod sample;
mod schemas;
mod snapshots;
mod targets;
mod topics;
// Only the Kafka sink encodes.
#[cfg_attr(not(feature = "librdkafka"), allow(dead_code))]
mod writing;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::client::{KafkaClient, epochs};
use crate::config::ConnectionConfig;
use crate::decode::RecordDecoder;
use crate::error::{Error, External as _, Result};
use crate::range::{OffsetRange, OnDataLoss, Snapshot, SplitOptions, TopicPartition, split};
use crate::scan::{KafkaScanExec, Pruned, ScanRange, ScanSource};
#[cfg(feature = "jobs")]
use crate::sink::KafkaSink;
use resolve::{Selection, SharedBounds};

use builder::Connection;

pub use builder::{DEFAULT_BATCH_BYTES, KafkaTableBuilder};
pub use catalog::{KafkaCatalog, KafkaSchema};
pub use delivery::{
    DEFAULT_STATE_TOPIC, DEFAULT_TRANSACTIONAL_ID_PREFIX, Delivery, KafkaSinkOptions,
};
pub use factory::KafkaTableFactory;
#[cfg(feature = "jobs")]
pub(crate) use follow::{LogView, PartitionView};
pub use functions::{KafkaFunction, KafkaOffsetsFunction, KafkaTopicsFunction};
pub use letters::DeadLetters;
pub use limits::Limits;
pub(crate) use missing::NameNearestTopics;
pub use options::TableOptions;
#[cfg(feature = "jobs")]
pub(crate) use recorded::{RecordedFormats, columns_of, columns_text};
pub(crate) use resolve::now_ms;
pub(crate) use schemas::payload_decoder;
pub(crate) use snapshots::SessionSnapshots;
pub use targets::announce_inserts;
pub use topics::TopicSource;
pub(crate) use writing::WriteFormats;
#[cfg(all(feature = "jobs", feature = "librdkafka"))]
pub(crate) use writing::{Encoders, Naming};

/// Topics and a range as a table; see the module's documentation.
#[derive(Debug, Clone)]
pub struct KafkaTable {
    selection: Selection,
    reading: Reading,
    pinned: Option<Arc<Snapshot>>,
    limits: Limits,
    /// What a job calls the table.
    source_name: Option<Arc<str>>,
    /// Whether no Kafka partition is split.
    in_order: bool,
    /// Why queries cannot read the table although jobs can.
    jobs_only: Option<Error>,
    /// The option for which jobs cannot read the table although queries can.
    queries_only: Option<&'static str>,
    definition: Option<String>,
    /// How records become rows, in words; `None` where they are bytes.
    decoding: Option<String>,
    /// Where the records go that do not decode.
    letters: Option<DeadLetters>,
    /// Whether whoever reads the table sees to them.
    letters_minded: bool,
    /// How the table is written, where it was not made of a client alone.
    writing: Option<(ConnectionConfig, KafkaSinkOptions)>,
    write_formats: WriteFormats,
    /// Why the table can only be written.
    unreadable: Option<Error>,
}

/// How the ranges are read, once they are known.
#[derive(Debug, Clone)]
struct Reading {
    decoder: RecordDecoder,
    min_partitions: Option<usize>,
    max_records_per_partition: Option<u64>,
    batch_bytes: usize,
}

impl KafkaTable {
    /// A table of the cluster that `config` names; clients are shared by all tables with equal
    /// settings.
    pub fn builder(config: &ConnectionConfig) -> KafkaTableBuilder {
        KafkaTableBuilder::new(Connection::Config(config.clone()))
    }

    /// A table over a client of your own, for example a
    /// [`MemoryCluster`](crate::client::memory::MemoryCluster)'s.
    pub fn builder_with_client(client: Arc<dyn KafkaClient>) -> KafkaTableBuilder {
        KafkaTableBuilder::new(Connection::Client(client))
    }

    /// What writes a job's rows into the table's topic.
    ///
    /// # Errors
    /// When the table has several topics, single partitions, or a client of its own.
    #[cfg(feature = "jobs")]
    pub fn sink(&self) -> Result<KafkaSink> {
        let Some((config, options)) = &self.writing else {
            return Err(Error::invalid(format!(
                "the table of {} was made of a client and cannot be written: make it of settings",
                self.selection.topics
            )));
        };
        let TopicSource::Named(names) = &self.selection.topics else {
            return Err(self.not_one_topic());
        };
        let [topic] = &names[..] else {
            return Err(self.not_one_topic());
        };
        let client = Arc::clone(&self.selection.client);
        let sink = KafkaSink::with_client(config, client, Arc::clone(topic), options.clone())?;
        Ok(sink.with_write_formats(self.write_formats.clone()))
    }

    #[cfg(feature = "jobs")]
    fn not_one_topic(&self) -> Error {
        Error::invalid(format!(
            "rows are written to a table of one topic, this one has {}; a column 'topic' can name \
             others for single rows",
            self.selection.topics
        ))
    }

    /// This table with its ranges fixed: every scan reads exactly those of `snapshot`.
    ///
    /// Where the snapshot has leader epochs, each scan asks first whether the logs still have them: one
    /// that was cut and has grown again is [`Error::Truncated`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when the snapshot has partitions that are not the
    /// table's, or was taken under another isolation level, under which the same offsets hold
    /// other records.
    pub fn at(&self, snapshot: Snapshot) -> Result<Self> {
        let mut filters: BTreeMap<TopicPartition, (Option<i64>, Option<i64>)> = BTreeMap::new();
        for range in snapshot.ranges() {
            let partition = range.range.topic_partition();
            if !self.selection.topics.covers(&partition) {
                return Err(Error::invalid(format!(
                    "the snapshot has {}, which does not belong to the table of {}",
                    range.range, self.selection.topics
                )));
            }
            let filter = (range.from_ms, range.to_ms);
            if *filters.entry(partition).or_insert(filter) != filter {
                return Err(Error::invalid(format!(
                    "{}: all ranges of a partition must select the same timestamps",
                    range.range
                )));
            }
        }
        if snapshot.isolation_level() != self.selection.isolation {
            return Err(Error::invalid(format!(
                "the snapshot was taken under {}, the table reads under {}: set isolation.level to match",
                snapshot.isolation_level(),
                self.selection.isolation
            )));
        }
        Ok(Self {
            pinned: Some(Arc::new(snapshot)),
            ..self.clone()
        })
    }

    /// The ranges as they are now: what a statement that begins now would read, with the leader epochs
    /// at their ends where the brokers tell.
    ///
    /// A statement resolves its snapshot once, however often it names the table, and a
    /// `DataFrame` counts as one statement however often it is executed. To read the same ranges
    /// in several statements, pin them with [`at`](Self::at).
    ///
    /// # Errors
    /// When a topic or partition is not there, offsets of the range are gone or not yet written,
    /// or the cluster does not answer.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        match &self.pinned {
            Some(snapshot) => Ok(snapshot.as_ref().clone()),
            None => {
                let mut snapshot = self.resolved().await?;
                epochs::note_ends(self.client().as_ref(), &mut snapshot).await?;
                Ok(snapshot)
            }
        }
    }

    /// The ranges as they are now, without what only a later reader needs.
    pub(crate) async fn resolved(&self) -> Result<Snapshot> {
        let bounds = SharedBounds::default();
        self.selection.resolve(now_ms(), &bounds).await
    }

    /// The client that the table reads with.
    pub fn client(&self) -> &Arc<dyn KafkaClient> {
        &self.selection.client
    }

    /// How the table's columns are made.
    pub(crate) fn decoder(&self) -> &RecordDecoder {
        &self.reading.decoder
    }

    /// How records become rows, in words that are the same where that is the same; `None` where they are
    /// bytes.
    pub(crate) fn decoding(&self) -> Option<&str> {
        self.decoding.as_deref()
    }

    /// Topics and range, as they can be written.
    pub(crate) fn source(&self) -> String {
        format!("{} {}", self.selection.topics, self.selection.range)
    }

    /// The ranges that the table is pinned to.
    pub(crate) fn pinned(&self) -> Option<&Snapshot> {
        self.pinned.as_deref()
    }

    /// The same table, which passes over offsets that are gone.
    pub(crate) fn skipping_loss(&self) -> Self {
        let mut table = self.clone();
        table.selection.on_data_loss = OnDataLoss::Skip;
        table
    }

    fn with_definition(mut self, definition: String) -> Self {
        self.definition = Some(definition);
        self
    }

    async fn statement_snapshot(&self, state: &dyn Session) -> Result<Arc<Snapshot>> {
        match &self.pinned {
            Some(snapshot) => Ok(Arc::clone(snapshot)),
            None => snapshots::for_statement(&self.selection, state).await,
        }
    }

    async fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<KafkaScanExec> {
        if let Some(reason) = &self.unreadable {
            return Err(reason.clone().external());
        }
        if let (None, Some(refusal)) = (&self.pinned, &self.jobs_only) {
            return Err(refusal.clone().external());
        }
        self.check_letters_minded().external()?;
        let snapshot = self.statement_snapshot(state).await.external()?;
        if self.pinned.is_some() {
            let next = "the ranges are pinned to a log that is gone: take them anew";
            epochs::refuse_cut(self.client().as_ref(), &snapshot, next)
                .await
                .external()?;
        }
        let mut decoder = self.reading.decoder.clone();
        if decoder.keeps_bad() {
            decoder = decoder.with_topic_ids(snapshot.topic_ids());
        }
        let (kept, pruned) = self.prune(&snapshot, filters, state).await?;

        let options = SplitOptions {
            target_partitions: state.config().target_partitions(),
            min_partitions: self.reading.min_partitions,
            max_records_per_partition: self.reading.max_records_per_partition,
            ..SplitOptions::default()
        };
        let options = if self.in_order {
            SplitOptions {
                target_partitions: options.target_partitions,
                split_above: i64::MAX,
                ..SplitOptions::default()
            }
        } else {
            options
        };
        let partitions = split(&kept, &options);

        let source = ScanSource {
            name: self.source_name.clone(),
            client: Arc::clone(&self.selection.client),
            decoder: decoder.clone(),
            isolation: self.selection.isolation,
            on_data_loss: self.selection.on_data_loss,
            batch_bytes: self.reading.batch_bytes,
            pruned,
            snapshot: Arc::clone(&snapshot),
        };
        let projection = match projection {
            Some(indices) => indices.to_vec(),
            None => (0..decoder.columns().len()).collect(),
        };
        KafkaScanExec::try_new(Arc::new(source), partitions, projection, limit)
    }

    /// The pieces of the snapshot's ranges that may hold matching records, and the others.
    async fn prune(
        &self,
        snapshot: &Snapshot,
        filters: &[Expr],
        state: &dyn Session,
    ) -> datafusion::error::Result<(Vec<ScanRange>, Vec<Pruned>)> {
        let ranges = ScanRange::of_snapshot(snapshot);
        if filters.is_empty() {
            return Ok((ranges, vec![]));
        }
        let partitions: Vec<TopicPartition> = snapshot
            .offset_ranges()
            .map(OffsetRange::topic_partition)
            .collect();
        let kept = pruning::keep(filters, &partitions, &self.reading.decoder, state)?;
        let cuts = lookup::timestamp_cuts(&self.selection, snapshot, &kept)
            .await
            .external()?;
        Ok(cut::cut(ranges, &kept, &cuts))
    }
}

#[async_trait]
impl TableProvider for KafkaTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.reading.decoder.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The CREATE EXTERNAL TABLE statement, rebuilt without secrets.
    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.map(Vec::as_slice);
        Ok(Arc::new(
            self.plan(state, projection, filters, limit).await?,
        ))
    }

    async fn scan_with_args<'a>(
        &self,
        state: &dyn Session,
        args: ScanArgs<'a>,
    ) -> datafusion::error::Result<ScanResult> {
        let filters = args.filters().unwrap_or(&[]);
        let plan = self
            .plan(state, args.projection(), filters, args.limit())
            .await?;
        Ok(ScanResult::new(Arc::new(plan)))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        let decoder = &self.reading.decoder;
        Ok(filters
            .iter()
            .map(|f| pruning::classify(f, decoder))
            .collect())
    }
}
