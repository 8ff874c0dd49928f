//! Collects what a table is made of.

use std::sync::Arc;

use arrow::datatypes::Fields;

use super::delivery::Writing;
#[cfg(feature = "jobs")]
use super::index::Indexed;
use super::letters::Letters;
use super::pruning::Keys;
use super::reading::{Readers, Reading, Splitting};
use super::resolve::Selection;
use super::{
    DeadLetters, JobSource, KafkaSinkOptions, KafkaTable, Limits, TopicSource, masked, redecode,
    sample,
};
use crate::client::{ClientPool, KafkaClient};
use crate::config::{ConnectionConfig, ScanBudget};
use crate::decode::{BadRowLimit, Column, Format, OnBadRow, RegistryConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::Formats;
use crate::range::{IsolationLevel, KeyPartitioner, OnDataLoss, RangeSpec, Snapshot};

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
    partitioner: Option<KeyPartitioner>,
    on_data_loss: OnDataLoss,
    past_end_is_end: bool,
    formats: Formats,
    min_partitions: Option<usize>,
    max_records_per_partition: Option<u64>,
    batch_bytes: usize,
    budget: Option<ScanBudget>,
    limits: Limits,
    readers: Readers,
    sink: KafkaSinkOptions,
    letters: Option<DeadLetters>,
    redecode: Redecode,
    #[cfg(feature = "jobs")]
    index: Option<String>,
}

/// Whether the table reads the records of dead letters again, and nothing else.
#[derive(Debug, Clone)]
enum Redecode {
    No,
    /// Those that lie in this place when the table is built.
    From(DeadLetters),
    /// Those at these offsets, where the place was read.
    Found(Snapshot),
}

impl KafkaTableBuilder {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            pool: None,
            topics: Ok(None),
            range: Ok(RangeSpec::default()),
            isolation: None,
            partitioner: None,
            on_data_loss: OnDataLoss::Fail,
            past_end_is_end: false,
            formats: Formats::default(),
            min_partitions: None,
            max_records_per_partition: None,
            batch_bytes: DEFAULT_BATCH_BYTES,
            budget: None,
            limits: Limits::default(),
            readers: Readers::default(),
            sink: KafkaSinkOptions::default(),
            letters: None,
            redecode: Redecode::No,
            #[cfg(feature = "jobs")]
            index: None,
        }
    }

    /// One topic, all its partitions. The name is taken as it is.
    ///
    /// ```
    /// use datafusion_kafka::config::ConnectionConfig;
    /// use datafusion_kafka::table::KafkaTable;
    ///
    /// let (config, topic) = (ConnectionConfig::new("broker:9092"), String::from("orders"));
    /// let table = KafkaTable::builder(&config).topic(&topic).build_lazy()?;
    /// assert_eq!(table.topics().to_string(), topic);
    /// # Ok::<(), datafusion_kafka::Error>(())
    /// ```
    pub fn topic(self, name: impl AsRef<str>) -> Self {
        self.source(TopicSource::Named(vec![name.as_ref().into()]))
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

    /// How the producers of the topics choose partitions by keys: the setting `key.partitioner` unless set. A
    /// condition like `key = 'x'` then reads one partition.
    pub fn key_partitioner(mut self, partitioner: KeyPartitioner) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// What to do about offsets that are gone; an error unless set.
    pub fn on_data_loss(mut self, on_data_loss: OnDataLoss) -> Self {
        self.on_data_loss = on_data_loss;
        self
    }

    /// How keys become columns.
    pub fn key_format(mut self, format: Format) -> Self {
        self.formats.key.format = format;
        self
    }

    /// How values become columns.
    pub fn value_format(mut self, format: Format) -> Self {
        self.formats.value.format = format;
        self
    }

    /// The fields of keys and values as columns, those of keys with the `key.prefix` before their
    /// names. Unless they are set, those of JSON are learned from a sample of 1,000 records.
    pub fn fields(mut self, fields: impl Into<Fields>) -> Self {
        self.formats.declared = Some(fields.into());
        self
    }

    /// Which of Kafka's own columns the table has; all of [`Column::ALL`] unless set.
    pub fn columns(mut self, columns: Vec<Column>) -> Self {
        self.formats.columns = columns;
        self
    }

    /// What the names of Kafka's own columns begin with; nothing unless set.
    pub fn metadata_prefix(mut self, prefix: &str) -> Self {
        self.formats.metadata_prefix = prefix.to_owned();
        self
    }

    /// What the columns of the key's fields begin with; `key_` unless set.
    pub fn key_prefix(mut self, prefix: &str) -> Self {
        self.formats.key_prefix = prefix.to_owned();
        self
    }

    /// What becomes of records that do not decode; an error unless set.
    pub fn on_bad_row(mut self, on_bad_row: OnBadRow) -> Self {
        self.formats.bad_rows.on = on_bad_row;
        self
    }

    /// How many records that do not decode a statement puts up with; any number unless set.
    pub fn bad_row_limit(mut self, limit: BadRowLimit) -> Self {
        self.formats.bad_rows.limit = Some(limit);
        self
    }

    /// Where records go that do not decode, with [`OnBadRow::Dlq`].
    pub fn dead_letters(mut self, place: DeadLetters) -> Self {
        self.letters = Some(place);
        self
    }

    /// Reads no range but the records of the table's topics that lie in a place of dead letters, at
    /// their offsets in the topics, as they are when the table is [built](Self::build).
    pub fn redecode(mut self, place: DeadLetters) -> Self {
        self.redecode = Redecode::From(place);
        self
    }

    /// The folder or URL of an index of the topics, which says where a value is not: conditions on what it is of
    /// then read only the other offsets, and those that it does not cover yet. A job makes it, see
    /// [`MicroBatchBuilder::insert`](crate::driver::MicroBatchBuilder::insert).
    #[cfg(feature = "jobs")]
    pub fn index(mut self, location: impl Into<String>) -> Self {
        self.index = Some(location.into());
        self
    }

    pub(super) fn formats(mut self, formats: Formats) -> Self {
        self.formats = formats;
        self
    }

    /// Spark's `minPartitions`: the least number of execution partitions.
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

    /// The most that the scans of the table may read in a statement, in addition to what the session allows: the
    /// settings `max.scan.…` unless set. A statement that would read more, or does, is [`Error::Budget`].
    pub fn scan_budget(mut self, budget: ScanBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// What limits the batches of a job that reads the table; a query reads the whole range.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Who may read the range.
    pub(super) fn readers(mut self, readers: Readers) -> Self {
        self.readers = readers;
        self
    }

    /// Whether an offset that was written out and lies beyond the end of the log means that end.
    pub(super) fn past_end_is_end(mut self, past_end_is_end: bool) -> Self {
        self.past_end_is_end = past_end_is_end;
        self
    }

    /// How a job writes into the table.
    pub fn sink_options(mut self, options: KafkaSinkOptions) -> Self {
        self.sink = options;
        self
    }

    /// A client of your own to read with, whatever cluster the settings name.
    pub fn client(mut self, client: Arc<dyn KafkaClient>) -> Self {
        self.connection = Connection::Client(client);
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
    /// As [`build_lazy`](Self::build_lazy), and when a topic or partition is not there, the
    /// cluster does not answer, or columns cannot be learned from a sample.
    pub async fn build(self) -> Result<KafkaTable> {
        let table = self.learn_fields().await?.build_lazy()?;
        let selection = &table.reading.selection;
        selection.topics.describe(selection.client.as_ref()).await?;
        Ok(table)
    }

    /// Builds a table that a job writes: where there is nothing yet to learn its columns from, it can
    /// only be written.
    ///
    /// # Errors
    /// As [`build`](Self::build), apart from those of its columns.
    pub(super) async fn build_target(self) -> Result<KafkaTable> {
        let reason = match self.clone().build().await {
            Err(error @ (Error::UnknownTopic { .. } | Error::UnknownPartition { .. })) => {
                return Err(error);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Query | ErrorKind::BadRow) => error,
            done => return done,
        };
        log::debug!("a table that a job writes cannot be read: {reason}");
        #[cfg(feature = "jobs")]
        let formats = self.clone().with_registry()?.formats;
        let mut table = self.formats(Formats::default()).build().await?;
        table.reading.readers = Readers::Nobody(reason);
        #[cfg(feature = "jobs")]
        {
            table.writing.formats = formats;
        }
        Ok(table)
    }

    /// Whether columns are to be learned from records, which only [`build`](Self::build) does.
    pub(super) fn lacks_fields(&self) -> bool {
        let learned = self.formats.lacks_fields().iter().any(Option::is_some);
        learned || self.formats.lacks_schemas() || matches!(self.redecode, Redecode::From(_))
    }

    /// Takes the connection's registry, unless options name one.
    fn with_registry(mut self) -> Result<Self> {
        if let (None, Connection::Config(config)) = (&self.formats.registry, &self.connection) {
            self.formats.registry = RegistryConfig::from_options(config.registry())?;
        }
        Ok(self)
    }

    pub(super) async fn learn_fields(self) -> Result<Self> {
        let mut this = self.with_registry()?;
        this.learn().await?;
        Ok(this)
    }

    async fn learn(&mut self) -> Result<()> {
        let topic = match &self.topics {
            Ok(Some(TopicSource::Named(names))) => match &names[..] {
                [topic] => Some(Arc::clone(topic)),
                _ => None,
            },
            _ => None,
        };
        if let Redecode::From(place) = &self.redecode {
            if self
                .range
                .as_ref()
                .is_ok_and(|r| *r != RangeSpec::default())
            {
                return Err(Error::invalid(
                    "'redecode' reads the offsets of dead letters, and a range is given too: leave one \
                     of them out",
                ));
            }
            let snapshot = redecode::snapshot(&self.selection()?, place).await?;
            self.redecode = Redecode::Found(snapshot);
        }
        self.formats.find_schemas(topic.as_deref()).await?;
        let lacks = self.formats.lacks_fields();
        if lacks.iter().any(Option::is_some) {
            let sampled = sample::fields(&self.selection()?, lacks).await?;
            self.formats.key.fields = sampled.key.or(self.formats.key.fields.take());
            self.formats.value.fields = sampled.value.or(self.formats.value.fields.take());
        }
        Ok(())
    }

    /// Builds the table without asking the cluster; what is not there shows in the first query.
    ///
    /// # Errors
    /// When no topic is named, the range is not well-formed, a setting is refused, or the columns
    /// are neither declared nor known.
    pub fn build_lazy(self) -> Result<KafkaTable> {
        self.with_registry()?.table()
    }

    fn table(self) -> Result<KafkaTable> {
        let selection = self.selection()?;
        let masks = masked::masks(&selection);
        masked::check(&self.formats, masks.as_ref())?;
        let letters = Letters::new(self.formats.bad_rows.on, self.letters)?;
        let pinned = match self.redecode {
            Redecode::No => None,
            Redecode::Found(snapshot) => Some(snapshot),
            Redecode::From(_) => {
                return Err(Error::invalid(
                    "a table with 'redecode' must ask the cluster for its ranges: build it with build()",
                ));
            }
        };
        let decoder = self.formats.decoder()?;
        #[cfg(feature = "jobs")]
        let index = self
            .index
            .map(|location| Indexed::new(location, &selection, &self.formats));
        let partitioner = match &self.connection {
            Connection::Config(config) => self.partitioner.or(config.key_partitioner()),
            Connection::Client(_) => self.partitioner,
        };
        let partitioner = partitioner.filter(|_| !masked::hides_keys(masks.as_ref()));
        let budget = self.budget.unwrap_or_else(|| match &self.connection {
            Connection::Config(config) => config.scan_budget(),
            Connection::Client(_) => ScanBudget::default(),
        });
        let table = KafkaTable {
            reading: Reading {
                selection,
                pinned: None,
                readers: self.readers,
                #[cfg(feature = "jobs")]
                decoding: masked::described(self.formats.description(&decoder), masks.as_ref()),
                #[cfg(feature = "jobs")]
                index: index.transpose()?,
                keys: partitioner.map(|by| Keys::new(by, self.formats.key.format)),
                decoder,
                splitting: Splitting::Within {
                    min_partitions: self.min_partitions,
                    max_records_per_partition: self.max_records_per_partition,
                },
                batch_bytes: self.batch_bytes,
                budget: (!budget.is_unlimited()).then(|| Arc::new(budget)),
            },
            writing: Writing {
                connection: match self.connection {
                    Connection::Config(config) => Some(config),
                    Connection::Client(_) => None,
                },
                options: self.sink,
                #[cfg(feature = "jobs")]
                formats: self.formats,
            },
            job: JobSource {
                limits: self.limits,
                name: None,
            },
            letters,
            definition: None,
        };
        match pinned {
            Some(snapshot) => table.at(snapshot),
            None => Ok(table),
        }
    }

    /// The pool that clients are taken from.
    pub(super) fn own_pool(&self) -> ClientPool {
        self.pool.clone().unwrap_or_else(ClientPool::global)
    }

    fn selection(&self) -> Result<Selection> {
        let topics = self.topics.clone()?.ok_or_else(|| {
            Error::invalid("a Kafka table needs topics: a name, a list, /pattern/ or partitions")
        })?;
        let (client, default_isolation) = match &self.connection {
            Connection::Config(config) => (
                self.own_pool().client(&config.for_reading())?,
                config.isolation(),
            ),
            Connection::Client(client) => (Arc::clone(client), IsolationLevel::default()),
        };
        Ok(Selection {
            client,
            topics,
            range: self.range.clone()?,
            isolation: self.isolation.unwrap_or(default_isolation),
            on_data_loss: self.on_data_loss,
            past_end_is_end: self.past_end_is_end,
        })
    }
}
