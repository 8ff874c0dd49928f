//! Kafka topics as DataFusion tables.
//!
//! A [`KafkaTable`] is a set of topics and a range. Planning a scan of it takes a [`Snapshot`]
//! (once for a statement, see [`KafkaTable::snapshot`]), cuts the snapshot's ranges by the
//! predicates, splits what is left into execution partitions and hands these to a
//! [`KafkaScanExec`].

mod budget;
mod builder;
mod catalog;
mod cut;
mod delivery;
mod factory;
#[cfg(feature = "jobs")]
mod follow;
mod functions;
#[cfg(feature = "jobs")]
mod index;
mod keys;
mod letters;
mod limits;
mod lookup;
mod masked;
mod missing;
mod options;
mod pruning;
mod reading;
#[cfg(feature = "jobs")]
mod recorded;
mod redecode;
mod resolve;
mod sample;
mod snapshots;
mod targets;
mod topics;

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
use crate::error::{Error, External as _, Result};
use crate::range::{OffsetRange, Snapshot, TopicPartition, split};
#[cfg(feature = "jobs")]
use crate::scan::Origin;
use crate::scan::{KafkaScanExec, KeyPlaces, NoOrder, Pruned, ScanRange, ScanSource};
use resolve::SharedBounds;

use builder::Connection;
use delivery::Writing;
use letters::Letters;
use reading::{Readers, Reading};

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
pub(crate) use resolve::now_ms;
pub(crate) use snapshots::SessionSnapshots;
pub use targets::announce_inserts;
pub use topics::TopicSource;

/// Topics and a range as a table; see the module's documentation.
#[derive(Debug, Clone)]
pub struct KafkaTable {
    reading: Reading,
    writing: Writing,
    job: JobSource,
    letters: Letters,
    definition: Option<String>,
}

/// What a job needs of a table that it reads.
#[derive(Debug, Clone)]
struct JobSource {
    /// What limits its batches.
    limits: Limits,
    /// What it calls the table; `None` outside of jobs.
    name: Option<Arc<str>>,
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
            if !self.reading.selection.topics.covers(&partition) {
                return Err(Error::invalid(format!(
                    "the snapshot has {}, which does not belong to the table of {}",
                    range.range, self.reading.selection.topics
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
        if snapshot.isolation_level() != self.reading.selection.isolation {
            return Err(Error::invalid(format!(
                "the snapshot was taken under {}, the table reads under {}: set isolation.level to match",
                snapshot.isolation_level(),
                self.reading.selection.isolation
            )));
        }
        let mut table = self.clone();
        table.reading.pinned = Some(Arc::new(snapshot));
        Ok(table)
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
        match &self.reading.pinned {
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
        self.reading.selection.resolve(now_ms(), &bounds).await
    }

    /// The client that the table reads with.
    pub fn client(&self) -> &Arc<dyn KafkaClient> {
        &self.reading.selection.client
    }

    /// The settings of the table's cluster; `None` where the table was made of a client.
    pub fn connection(&self) -> Option<&ConnectionConfig> {
        self.writing.connection.as_ref()
    }

    /// How a job writes into the table.
    pub fn sink_options(&self) -> &KafkaSinkOptions {
        &self.writing.options
    }

    /// Where the table's dead letters go, if it sets any aside.
    pub fn letter_place(&self) -> Option<&DeadLetters> {
        self.letters.place()
    }

    /// What limits the batches of a job that reads the table.
    pub fn limits(&self) -> &Limits {
        &self.job.limits
    }

    /// Whether the table limits what a statement reads of it.
    #[cfg(feature = "jobs")]
    pub(crate) fn has_budget(&self) -> bool {
        self.reading.budget.is_some()
    }

    /// The topics of the table.
    pub fn topics(&self) -> &TopicSource {
        &self.reading.selection.topics
    }

    /// The table as if its client were that of these settings.
    #[cfg(test)]
    pub(crate) fn with_connection(mut self, connection: ConnectionConfig) -> Self {
        self.writing.connection = Some(connection);
        self
    }

    fn with_definition(mut self, definition: String) -> Self {
        self.definition = Some(definition);
        self
    }

    /// Refuses to read what is not for queries, or what would lose the table's dead letters.
    fn check_readable(&self) -> Result<()> {
        match &self.reading.readers {
            Readers::Nobody(reason) => return Err(reason.clone()),
            Readers::Jobs(refusal) if self.reading.pinned.is_none() => return Err(refusal.clone()),
            Readers::All | Readers::Jobs(_) | Readers::Queries(_) => {}
        }
        self.letters.check_claimed(self.topics())
    }

    async fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<KafkaScanExec> {
        self.check_readable().external()?;
        let mut source = self.reading.source();
        source.name = self.job.name.clone();
        source.ordered = state.config().get_extension::<NoOrder>().is_none();
        #[cfg(feature = "jobs")]
        {
            let connection = self.writing.connection.clone();
            source.origin = connection.map(|connection| Origin {
                connection,
                formats: self.writing.formats.clone(),
            });
        }
        let reading = &self.reading;
        reading
            .plan(source, state, projection, filters, limit)
            .await
    }
}

impl Reading {
    async fn statement_snapshot(&self, state: &dyn Session) -> Result<Arc<Snapshot>> {
        match &self.pinned {
            Some(snapshot) => Ok(Arc::clone(snapshot)),
            None => snapshots::for_statement(&self.selection, state).await,
        }
    }

    /// What a scan has before its ranges are known.
    fn source(&self) -> ScanSource {
        ScanSource {
            name: None,
            client: Arc::clone(&self.selection.client),
            decoder: self.decoder.clone(),
            isolation: self.selection.isolation,
            on_data_loss: self.selection.on_data_loss,
            batch_bytes: self.batch_bytes,
            pruned: vec![],
            index: None,
            snapshot: Arc::default(),
            #[cfg(feature = "jobs")]
            origin: None,
            checksums: false,
            may_cut: self.splitting.may_cut(),
            ordered: true,
            key_places: None,
        }
    }

    async fn plan(
        &self,
        mut source: ScanSource,
        state: &dyn Session,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<KafkaScanExec> {
        let snapshot = self.statement_snapshot(state).await.external()?;
        if self.pinned.is_some() {
            let next = "the ranges are pinned to a log that is gone: take a new snapshot";
            epochs::refuse_cut(self.selection.client.as_ref(), &snapshot, next)
                .await
                .external()?;
        }
        if source.decoder.keeps_bad() {
            source.decoder = source.decoder.with_topic_ids(snapshot.topic_ids());
        }
        let (kept, pruned) = self.prune(&snapshot, filters, state).await?;
        #[cfg(feature = "jobs")]
        let mut pruned = pruned;
        #[cfg(feature = "jobs")]
        let (kept, index) = self
            .cut_by_index(kept, filters, &snapshot, state, &mut pruned)
            .await?;
        #[cfg(feature = "jobs")]
        {
            source.index = index;
        }
        (source.pruned, source.snapshot) = (pruned, Arc::clone(&snapshot));
        source.key_places = self.keys.map(|keys| {
            let places = keys::Places::new(&self.selection, &snapshot, keys, state);
            Arc::new(places) as Arc<dyn KeyPlaces>
        });

        let options = self.splitting.options(state.config().target_partitions());
        let partitions = split(&kept, &options);

        let projection = match projection {
            Some(indices) => indices.to_vec(),
            None => (0..source.decoder.columns().len()).collect(),
        };
        let scan = KafkaScanExec::try_new(Arc::new(source), partitions, projection, limit)?;
        let counted = budget::counted(
            scan,
            &self.selection,
            &snapshot,
            self.budget.as_ref(),
            state,
        );
        counted.await.external()
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
        let homes = match self.keys {
            Some(keys) if pruning::name_keys(filters, &self.decoder) => {
                let homes = keys::homes(
                    &self.selection,
                    snapshot,
                    keys,
                    &SessionSnapshots::of(state),
                )
                .await;
                Some(homes.external()?)
            }
            _ => None,
        };
        let kept = pruning::keep(filters, &partitions, &self.decoder, homes.as_ref(), state)?;
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
        let classify = |filter: &&Expr| {
            let pushed = pruning::classify(filter, decoder, self.reading.keys);
            #[cfg(feature = "jobs")]
            if self.reading.index.is_some()
                && pushed == TableProviderFilterPushDown::Unsupported
                && pruning::may_be_indexed(filter, decoder)
            {
                return TableProviderFilterPushDown::Inexact;
            }
            pushed
        };
        Ok(filters.iter().map(classify).collect())
    }
}
