//! Kafka as a target: a transaction for each batch, with the rows and the job's recorded ends.
//!
//! ```text
//! open    init_transactions ──> read the state topic ──> write the owner's record
//! stage   begin, produce rows            (partitions side by side, into one transaction)
//! commit  compare ends, produce the state records, flush, commit
//! ```
//!
//! - The recorded ends lie in a compacted topic of the same cluster (`state`), written in the
//!   transaction of the rows: a reader that sees committed records sees both or neither.
//! - The transactional id is made from the job's name and the topic. Opening the sink fences every
//!   earlier producer of the job and ends its transaction, so that the ends read afterwards are the
//!   last ones, and stay so until this sink commits or is fenced itself.
//! - Nothing is decided by time-outs. A commit of which nobody knows the outcome is settled by the
//!   next `open`.

mod columns;
mod rows;
mod session;
mod state;
mod trouble;

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{cast, ident};
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use self::columns::Layout;
use self::rows::Rows;
use self::session::{Sent, Session};
use self::state::StateTopic;
use self::trouble::Trouble;
use super::*;
use crate::client::{ClientPool, KafkaClient, TopicSelection};
use crate::config::ConnectionConfig;
use crate::decode::{Column, Format};
use crate::error::nearest_names;
use crate::formats::Formats;
use crate::range::IsolationLevel;
use crate::table::{KafkaTable, TableOptions};

/// How long a stage waits for room in the queue before it looks again.
const FULL_WAITS: Duration = Duration::from_millis(2);

/// Writes the batches of a job into a topic; see the module's documentation.
///
/// Columns are matched by name: `value` (text or bytes; NULL is a tombstone), and where the query
/// has them `key`, `topic`, `partition`, `headers` and `timestamp`. With
/// [formats](Self::with_formats) other columns are the fields of values and keys.
#[derive(Debug, Clone)]
pub struct KafkaSink {
    config: ConnectionConfig,
    client: Arc<dyn KafkaClient>,
    topic: Arc<str>,
    options: KafkaSinkOptions,
    formats: Formats,
}

impl KafkaSink {
    /// A sink into `topic` of the cluster that `config` names; no broker is asked for anything yet.
    ///
    /// # Errors
    /// When no topic or no brokers are named, or a setting is refused.
    pub fn new(
        config: &ConnectionConfig,
        topic: impl AsRef<str>,
        options: KafkaSinkOptions,
    ) -> Result<Self> {
        let client = ClientPool::global().client(&config.for_reading())?;
        Self::with_client(config, client, topic.as_ref().into(), options)
    }

    pub(super) fn with_client(
        config: &ConnectionConfig,
        client: Arc<dyn KafkaClient>,
        topic: Arc<str>,
        options: KafkaSinkOptions,
    ) -> Result<Self> {
        for (option, name) in [("state.topic", &*options.state_topic), ("topic", &*topic)] {
            if name.is_empty() {
                return Err(Error::invalid(format!("a Kafka sink needs a '{option}'")));
            }
        }
        if client
            .masks()
            .is_some_and(|masks| masks.concern(&options.state_topic))
        {
            return Err(Error::invalid(format!(
                "'state.topic' = '{}' is masked by the connection, and what jobs have committed must be read as it is: let \
                 'mask' name other topics, or name another 'state.topic'",
                options.state_topic
            )));
        }
        if *topic == *options.state_topic {
            return Err(Error::invalid(format!(
                "'{topic}' holds what jobs have committed and cannot take rows: write to another \
                 topic, or name another 'state.topic'"
            )));
        }
        Ok(Self {
            config: config.clone(),
            client,
            topic,
            options,
            formats: Formats::default(),
        })
    }

    /// The formats of keys and values, by the options that `CREATE EXTERNAL TABLE` has for them, for
    /// example `value.format`, `value.schema.file` and `schema.registry.url`; bytes unless set.
    ///
    /// # Errors
    /// When an option is not known, its value does not fit, or it is not about formats.
    pub fn with_formats<'a>(
        self,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        let mut formats = TableOptions::default();
        for (name, value) in options {
            formats.set(name, value)?;
        }
        let formats = formats.write_formats(&self.config)?;
        Ok(self.with_write_formats(formats))
    }

    pub(super) fn with_write_formats(self, formats: Formats) -> Self {
        Self { formats, ..self }
    }

    /// # Errors
    /// [`Error::UnknownTopic`] when the topic is not there.
    pub(super) async fn check_topic(&self) -> Result<()> {
        let known = known_topic(self.client.as_ref(), &self.topic).await?;
        if known.is_some() {
            return Ok(());
        }
        let all = self.client.describe(TopicSelection::All).await;
        let names: Vec<Arc<str>> = all
            .map(|cluster| cluster.topics.into_iter().map(|t| t.name).collect())
            .unwrap_or_default();
        Err(Error::UnknownTopic {
            topic: self.topic.to_string(),
            nearest: nearest_names(&self.topic, names.iter().map(|n| &**n)),
        })
    }

    fn state(&self) -> StateTopic<'_> {
        StateTopic {
            name: &self.options.state_topic,
            target: &self.topic,
            config: &self.config,
            client: self.client.as_ref(),
        }
    }

    fn trouble(&self) -> Trouble {
        Trouble::new(self.target())
    }

    /// Turns a producer's refusal into what it means: whether another sink has taken over the
    /// transactional id is told by the owner's record, not by the code. The broker fences a
    /// producer, too, whose transaction took too long.
    async fn settled(&self, session: &Session, error: session::Refused) -> Error {
        if !error.fenced {
            return *error.error;
        }
        session.give_up();
        let state = self.state().read(&session.job).await;
        if state.is_ok_and(|state| state.owner.as_deref() == Some(&*session.owner)) {
            return self.trouble().sink(
                &error.operation,
                "the broker has ended the transaction because it took too long: raise \
                 'kafka.transaction.timeout.ms' (and the brokers' transaction.max.timeout.ms), or \
                 limit the batches",
                true,
            );
        }
        Error::Conflict {
            target: self.target(),
            message: format!(
                "{}: another driver of job '{}' has taken over the topic, and this one can commit \
                 nothing any more; nothing of the batch is visible",
                error.operation, session.job
            ),
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn target(&self) -> String {
        format!("kafka://{}/{}", self.config.bootstrap_servers(), self.topic)
    }

    fn identity(&self) -> String {
        format!("kafka topic {}", self.topic)
    }

    fn needs_order(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        match self.options.delivery {
            Delivery::ExactlyOnce => Guarantee::ExactlyOnce,
            Delivery::AtLeastOnce => Guarantee::AtLeastOnce,
        }
    }

    async fn open(&self, job: &SinkJob) -> Result<Opened> {
        let layout = Layout::of(&job.schema, &self.target(), &self.formats.naming())?;
        self.check_topic().await?;
        let encoders =
            self.formats
                .encoders(&self.topic, layout.key_fields(), layout.value_fields());
        let encoders = encoders
            .await
            .map_err(|error| error.within(self.target()))?;
        let layout = layout.encoded(encoders);
        self.state().ensure().await?;
        let session = Session::start(
            &self.config,
            &self.options,
            &self.topic,
            job,
            layout,
            self.trouble(),
        )
        .await?;
        // After the fencing: what is recorded now stays so.
        let state = self.state().read(&job.name).await?;
        if !state.others.is_empty() && !self.options.shared {
            return Err(belongs_to_another(&self.target(), &job.name, &state.others));
        }
        session.record(state.committed.clone());
        if let Err(refused) = session.own().await {
            return Err(self.settled(&session, refused).await);
        }
        Ok(Opened {
            sink: Arc::new(OpenKafkaSink {
                sink: self.clone(),
                session,
            }),
            committed: state.committed,
        })
    }

    /// All committed records of the topic, where rows are keys and values and nothing else: of the
    /// other columns a record does not hold what a row had. NULL becomes the partitioner's choice,
    /// or the current time.
    async fn held(&self, _batch: &BatchRanges, schema: &SchemaRef) -> Result<Held> {
        let naming = self.formats.naming();
        let as_written = |format| matches!(format, Format::Raw | Format::Text);
        if !as_written(naming.key) || !as_written(naming.value) {
            return Ok(Held::Unknown);
        }
        let columns: Option<Vec<Column>> = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                "key" => Some(Column::Key),
                "value" => Some(Column::Value),
                _ => None,
            })
            .collect();
        let Some(columns) = columns else {
            return Ok(Held::Unknown);
        };
        let table = KafkaTable::builder_with_client(Arc::clone(&self.client))
            .topic(Arc::clone(&self.topic))
            .isolation(IsolationLevel::ReadCommitted)
            .columns(columns)
            .build()
            .await?;
        let typed = schema.fields().iter().map(|field| {
            let name = field.name();
            cast(ident(name), field.data_type().clone()).alias(name)
        });
        let rows = async {
            let table = SessionContext::new().read_table(Arc::new(table))?;
            table.select(typed)?.execute_stream().await
        };
        Ok(Held::Among(rows.await.map_err(|e| query(&e))?))
    }
}

/// A [`KafkaSink`] that a job has opened: its producer.
#[derive(Debug)]
struct OpenKafkaSink {
    sink: KafkaSink,
    session: Arc<Session>,
}

impl OpenKafkaSink {
    /// The session, unless it was given up: after a commit that failed only the next `open` knows what
    /// is recorded.
    fn usable(&self) -> Result<&Arc<Session>> {
        match self.session.usable() {
            true => Ok(&self.session),
            false => Err(self.sink.trouble().sink(
                "writing",
                "the producer was given up after a failure: the sink must be opened again",
                true,
            )),
        }
    }
}

#[async_trait]
impl OpenSink for OpenKafkaSink {
    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let session = self.usable()?;
        if let Err(refused) = session.begin(&batch.attempt).await {
            return Err(self.sink.settled(session, refused).await);
        }
        let mut staged = Staged {
            partition,
            detail: serde_json::Value::String(session.owner.clone()),
            ..Staged::default()
        };
        while let Some(columns) = rows.next().await {
            let columns = columns.map_err(|e| query(&e))?;
            let rows = Rows::of(&session.layout, &columns, partition, staged.rows)
                .map_err(|e| self.sink.trouble().row(e))?;
            session
                .meet_topics(
                    &rows,
                    self.sink.client.as_ref(),
                    &self.sink.options.state_topic,
                )
                .await?;
            let mut next = 0;
            while next < columns.num_rows() {
                match session.send(&batch.attempt, &rows, next) {
                    Ok(Sent::All { bytes }) => {
                        staged.bytes += bytes;
                        next = columns.num_rows();
                    }
                    Ok(Sent::UpTo { row, bytes }) => {
                        staged.bytes += bytes;
                        next = row;
                        tokio::time::sleep(FULL_WAITS).await;
                    }
                    Err(refused) => return Err(self.sink.settled(session, refused).await),
                }
            }
            staged.rows += columns.num_rows() as u64;
            // Sending does not wait, so that nobody else's turn would come.
            tokio::task::yield_now().await;
        }
        Ok(staged)
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        let session = self.usable()?;
        let recorded = session.recorded();
        let standing = batch.against(&self.sink.target(), recorded.as_ref().map(|c| &c.ends));
        match standing {
            Ok(Standing::Next) => {}
            Ok(Standing::Committed) => return self.abort(batch).await,
            Err(conflict) => {
                // What matters is the conflict; an open transaction ends with the next open.
                let _ = self.abort(batch).await;
                return Err(conflict);
            }
        }
        let ours = |staged: &Staged| staged.detail.as_str() == Some(&session.owner);
        let rows = staged.iter().any(|staged| staged.rows > 0);
        if !staged.iter().all(|staged| staged.rows == 0 || ours(staged))
            || (rows && !session.has_begun(&batch.attempt))
        {
            return Err(self.sink.trouble().sink(
                &format!("committing batch {}", batch.batch),
                "the rows that were staged are gone with their transaction: stage them again",
                true,
            ));
        }
        let Err(refused) = session.commit(batch).await else {
            return Ok(());
        };
        let error = self.sink.settled(session, refused).await;
        session.give_up();
        Err(error)
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        let Ok(session) = self.usable() else {
            // The transaction of a session that failed ends with the next open.
            return Ok(());
        };
        match session.abort(&batch.attempt).await {
            Ok(()) => Ok(()),
            Err(refused) => {
                session.give_up();
                Err(self.sink.settled(session, refused).await)
            }
        }
    }
}

/// The number of a topic's partitions, if there is such a topic.
async fn known_topic(client: &dyn KafkaClient, topic: &Arc<str>) -> Result<Option<usize>> {
    let names = [Arc::clone(topic)];
    let cluster = client.describe(TopicSelection::Named(&names)).await?;
    Ok(cluster.topics.first().map(|topic| topic.partitions.len()))
}

fn query(error: &datafusion::error::DataFusionError) -> Error {
    match Error::find(error) {
        Some(found) => found.clone(),
        None => Error::query(error.strip_backtrace()),
    }
}
