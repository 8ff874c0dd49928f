//! Collects what a table is made of.

use std::sync::Arc;

use super::resolve::Selection;
use super::{KafkaTable, Reading, TopicSource};
use crate::client::{ClientPool, KafkaClient};
use crate::config::ConnectionConfig;
use crate::decode::{Column, Format, RecordDecoder};
use crate::driver::Limits;
use crate::error::{Error, Result};
use crate::range::{IsolationLevel, OnDataLoss, RangeSpec};
use crate::sink::KafkaSinkOptions;

/// Key and value bytes after which a batch is closed, unless the table says otherwise.
pub const DEFAULT_BATCH_BYTES: usize = 8 << 20;

#[derive(Debug, Clone)]
pub(super) enum Connection {
    Config(ConnectionConfig),
    Client(Arc<dyn KafkaClient>),
}

/// Collects what a [`KafkaTable`] is made of.
#[derive(Debug, Clone)]
#[must_use]
pub struct KafkaTableBuilder {
    connection: Connection,
    pool: Option<ClientPool>,
    topics: Result<Option<TopicSource>>,
    range: Result<RangeSpec>,
    isolation: Option<IsolationLevel>,
    on_data_loss: OnDataLoss,
    key_format: Format,
    value_format: Format,
    columns: Vec<Column>,
    min_partitions: Option<usize>,
    max_records_per_partition: Option<u64>,
    batch_bytes: usize,
    limits: Limits,
    jobs_only: Option<Error>,
    sink: KafkaSinkOptions,
}

impl KafkaTableBuilder {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            pool: None,
            topics: Ok(None),
            range: Ok(RangeSpec::default()),
            isolation: None,
            on_data_loss: OnDataLoss::Fail,
            key_format: Format::Raw,
            value_format: Format::Raw,
            columns: Column::ALL.to_vec(),
            min_partitions: None,
            max_records_per_partition: None,
            batch_bytes: DEFAULT_BATCH_BYTES,
            limits: Limits::default(),
            jobs_only: None,
            sink: KafkaSinkOptions::default(),
        }
    }

    /// One topic, all its partitions. The name is taken as it is.
    pub fn topic(self, name: impl Into<Arc<str>>) -> Self {
        self.source(TopicSource::Named(vec![name.into()]))
    }

    /// A LOCATION: a topic, a comma list of topics, or `/pattern/`.
    pub fn location(mut self, location: &str) -> Self {
        self.topics = TopicSource::parse(location).map(Some);
        self
    }

    /// Topics, a pattern or single partitions.
    pub fn source(mut self, topics: TopicSource) -> Self {
        self.topics = Ok(Some(topics));
        self
    }

    /// A range in the grammar of [`RangeSpec`]; everything there is unless set.
    pub fn range(mut self, range: &str) -> Self {
        self.range = range.parse().map_err(Error::from);
        self
    }

    /// A range as a value.
    pub fn range_spec(mut self, range: RangeSpec) -> Self {
        self.range = Ok(range);
        self
    }

    /// Which records of transactions are seen; the connection's `isolation.level` unless set.
    pub fn isolation(mut self, isolation: IsolationLevel) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// What to do about offsets that are gone; an error unless set.
    pub fn on_data_loss(mut self, on_data_loss: OnDataLoss) -> Self {
        self.on_data_loss = on_data_loss;
        self
    }

    /// How keys become a column.
    pub fn key_format(mut self, format: Format) -> Self {
        self.key_format = format;
        self
    }

    /// How values become a column.
    pub fn value_format(mut self, format: Format) -> Self {
        self.value_format = format;
        self
    }

    /// The table's columns; all of [`Column::ALL`] unless set.
    pub fn columns(mut self, columns: Vec<Column>) -> Self {
        self.columns = columns;
        self
    }

    /// Spark's `minPartitions`: at least so many execution partitions.
    pub fn min_partitions(mut self, partitions: usize) -> Self {
        self.min_partitions = Some(partitions);
        self
    }

    /// Spark's `maxRecordsPerPartition`: no execution partition has more offsets.
    pub fn max_records_per_partition(mut self, offsets: u64) -> Self {
        self.max_records_per_partition = Some(offsets);
        self
    }

    /// Key and value bytes after which a batch is closed.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes.max(1);
        self
    }

    /// What limits the batches of a job that reads the table; a query reads the whole range.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Why queries cannot read the range although jobs can.
    pub(super) fn jobs_only(mut self, refusal: Option<Error>) -> Self {
        self.jobs_only = refusal;
        self
    }

    /// How a job writes into the table.
    pub fn sink_options(mut self, options: KafkaSinkOptions) -> Self {
        self.sink = options;
        self
    }

    /// The pool to take the client from; the process-wide one unless set.
    pub fn pool(mut self, pool: ClientPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Builds the table and checks that its topics are there.
    ///
    /// # Errors
    /// As [`build_lazy`](Self::build_lazy), and when a topic or partition is not there or the
    /// cluster does not answer.
    pub async fn build(self) -> Result<KafkaTable> {
        let table = self.build_lazy()?;
        let selection = &table.selection;
        selection.topics.describe(selection.client.as_ref()).await?;
        Ok(table)
    }

    /// Builds the table without asking the cluster; what is not there shows in the first query.
    ///
    /// # Errors
    /// When no topic is named, the range is not well-formed or a setting is refused.
    pub fn build_lazy(self) -> Result<KafkaTable> {
        let topics = self.topics?.ok_or_else(|| {
            Error::invalid("a Kafka table needs topics: a name, a list, /pattern/ or partitions")
        })?;
        let (client, default_isolation) = match &self.connection {
            Connection::Config(config) => {
                let pool = self.pool.unwrap_or_else(ClientPool::global);
                (pool.client(&config.for_reading())?, config.isolation())
            }
            Connection::Client(client) => (Arc::clone(client), IsolationLevel::default()),
        };
        let writing = match self.connection {
            Connection::Config(config) => Some((config, self.sink)),
            Connection::Client(_) => None,
        };
        Ok(KafkaTable {
            selection: Selection {
                client,
                topics,
                range: self.range?,
                isolation: self.isolation.unwrap_or(default_isolation),
                on_data_loss: self.on_data_loss,
            },
            reading: Reading {
                decoder: RecordDecoder::new(self.key_format, self.value_format, self.columns),
                min_partitions: self.min_partitions,
                max_records_per_partition: self.max_records_per_partition,
                batch_bytes: self.batch_bytes,
            },
            pinned: None,
            limits: self.limits,
            source_name: None,
            in_order: false,
            jobs_only: self.jobs_only,
            definition: None,
            writing,
        })
    }
}
