//! A topic on the shared cluster, and what reads it: scans, jobs and exports.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::execution::context::SessionContext;
use datafusion_kafka::client::{ClientPool, OnDataLoss};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::driver::{Limits, MicroBatch, Retries, Stop, Trigger};
use datafusion_kafka::export::{Export, ExportProgress};
use datafusion_kafka::range::Snapshot;
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::table::KafkaTable;
use datafusion_kafka::{Error, Result};
use futures::StreamExt;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::gate::{Gate, Gated};
use super::tried::{Row, outcome};
use crate::support::{KafkaCluster, Record, admin, produce};

pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a job tries again.
const RETRY_FOR: Duration = Duration::from_secs(60);
/// Longer than a client may wait, twice, and than an election on a busy machine.
pub const LIMIT: Duration =
    Duration::from_secs(2 * (REQUEST_TIMEOUT.as_secs() + READ_TIMEOUT.as_secs()) + 120);
/// The size of a value. A client that stands still has at most a hundred of them in its buffers: librdkafka fetches
/// and queues 128 KiB each, and the wire client asks for 128 KiB at a time.
const VALUE_BYTES: usize = 4000;
/// What takes a record in a batch: its first letter tells when it was written.
pub const COLUMNS: &str = "partition, offset, substr(CAST(value AS VARCHAR), 1, 1) AS mark";

/// What came of a reader: its rows in the order in which they came, and its error.
pub type Read = (Vec<Row>, Option<Error>);

/// A topic on a cluster, read with some settings.
#[derive(Debug, Clone)]
pub struct Bed {
    pub bootstrap: String,
    pub topic: String,
    settings: Vec<(&'static str, String)>,
    losses: OnDataLoss,
}

impl Bed {
    /// A new topic whose partitions have these replicas, the leader first.
    pub fn new(cluster: &KafkaCluster, replicas: &[&[i32]], settings: &[(&str, &str)]) -> Self {
        let topic = admin::unique_topic("faults");
        let bootstrap = cluster.bootstrap();
        admin::create_replicated_topic(&bootstrap, &topic, replicas, settings);
        Self::of(bootstrap, topic)
    }

    pub fn of(bootstrap: String, topic: String) -> Self {
        Self {
            bootstrap,
            topic,
            settings: vec![],
            losses: OnDataLoss::Fail,
        }
    }

    /// Lets the readers pass over what is gone.
    pub fn skipping(&self) -> Self {
        Self {
            losses: OnDataLoss::Skip,
            ..self.clone()
        }
    }

    /// Sets a connection setting of the readers.
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((key, value.into()));
        self
    }

    /// Adds so many records to a partition, marked with a letter.
    pub fn produce(&self, partition: i32, count: usize, mark: char) {
        let value = mark.to_string().repeat(VALUE_BYTES);
        let record = |n: usize| {
            Record::new(partition)
                .key(format!("k{}", n % 10))
                .value(value.as_str())
        };
        let records: Vec<Record> = (0..count).map(record).collect();
        // A Fetch brings at least one whole record batch.
        let small = [("batch.size", "20000")];
        produce::produce_with(&self.bootstrap, &self.topic, &records, &small);
    }

    pub fn config(&self, client: &str) -> ConnectionConfig {
        let mut config = ConnectionConfig::new(&self.bootstrap);
        let ms = |time: Duration| time.as_millis().to_string();
        let set = [
            ("kafka.client", client.to_owned()),
            ("request.timeout.ms", ms(REQUEST_TIMEOUT)),
            ("read.timeout.ms", ms(READ_TIMEOUT)),
            ("fetch.message.max.bytes", "65536".to_owned()),
        ];
        let own = |key: &str| self.settings.iter().any(|(known, _)| *known == key);
        for (key, value) in set
            .iter()
            .filter(|(key, _)| !own(key))
            .chain(&self.settings)
        {
            config.set(key, value).expect("the setting is known");
        }
        config
    }

    /// The topic as a table, read by a client of its own that stops at the gate. Without a range it is all of it.
    pub async fn table(&self, client: &str, gate: &Arc<Gate>, range: &str) -> Result<KafkaTable> {
        let client = ClientPool::new().client(&self.config(client))?;
        let gated = Gated {
            client,
            gate: Arc::clone(gate),
        };
        let mut table = KafkaTable::builder_with_client(Arc::new(gated))
            .topic(&self.topic)
            .on_data_loss(self.losses);
        if !range.is_empty() {
            table = table.range(range);
        }
        table.build().await
    }

    /// A session that has the topic as `orders`.
    pub async fn session(
        &self,
        client: &str,
        gate: &Arc<Gate>,
        range: &str,
    ) -> Result<SessionContext> {
        let config = self.config(client);
        let session = KafkaSessionBuilder::new().connection(config).build()?;
        let table = self.table(client, gate, range).await?;
        session
            .register_table("orders", Arc::new(table))
            .expect("there is none");
        Ok(session)
    }

    /// Reads the range in a query.
    pub async fn scan(&self, client: &str, gate: &Arc<Gate>, range: &str) -> Read {
        match self.session(client, gate, range).await {
            Ok(session) => scanned(&session).await,
            Err(error) => (vec![], Some(error)),
        }
    }

    /// The range as it is now.
    pub async fn snapshot(&self, client: &str, range: &str) -> Result<Snapshot> {
        let table = self.table(client, &Gate::at(i64::MAX), range).await?;
        table.snapshot().await
    }

    /// Reads a snapshot.
    pub async fn pinned(&self, client: &str, snapshot: Snapshot) -> Read {
        let pinned = async {
            let table = self.table(client, &Gate::at(i64::MAX), "").await?;
            let session = KafkaSessionBuilder::new().build()?;
            let table = Arc::new(table.at(snapshot)?);
            session
                .register_table("orders", table)
                .expect("there is none");
            Ok(session)
        };
        match pinned.await {
            Ok(session) => scanned(&session).await,
            Err(error) => (vec![], Some(error)),
        }
    }

    /// Exports the topic, and reads the files.
    pub async fn export(&self, client: &str, gate: &Arc<Gate>) -> Read {
        let folder = tempfile::tempdir().expect("a folder");
        let exported = async {
            let table = self.table(client, gate, "").await?;
            let target = folder.path().join("out").display().to_string();
            let export = Export::builder("orders", table, &target);
            let export = export.max_file_offsets(300).build()?;
            export.run(&Arc::new(ExportProgress::default())).await?;
            exported_rows(&folder.path().join("out")).await
        };
        match exported.await {
            Ok(rows) => (rows, None),
            Err(error) => (vec![], Some(error)),
        }
    }

    /// A reader that a fault meets; see [`Reader`].
    pub fn reader<F>(
        &self,
        column: String,
        gate: &Arc<Gate>,
        read: impl FnOnce(Self, Arc<Gate>) -> F,
    ) -> Reader
    where
        F: Future<Output = Read> + Send + 'static,
    {
        let read = read(self.clone(), Arc::clone(gate));
        Reader {
            column,
            gate: Arc::clone(gate),
            task: tokio::spawn(read),
        }
    }

    pub fn outcome(&self, read: &Read, expected: &[Row]) -> String {
        outcome(&self.topic, &read.0, expected, read.1.as_ref())
    }
}

/// A reader in its task.
pub struct Reader {
    pub column: String,
    pub gate: Arc<Gate>,
    task: JoinHandle<Read>,
}

impl Reader {
    /// Waits until it stands at its gate.
    ///
    /// # Panics
    /// When it ends before.
    pub async fn stands(&mut self) {
        tokio::select! {
            () = self.gate.reached() => {}
            read = &mut self.task => {
                let (rows, error) = read.expect("the reader does not panic");
                panic!("{}: ended before the fault, with {} rows: {error:?}", self.column, rows.len());
            }
        }
        assert!(!self.task.is_finished(), "{}", self.column);
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// What came of it.
    ///
    /// # Panics
    /// When it is not done by `limit`.
    pub async fn done(self, limit: Duration) -> Read {
        let read = tokio::time::timeout(limit, self.task).await;
        let read = read.unwrap_or_else(|_| panic!("{}: not done after {limit:?}", self.column));
        read.expect("the reader does not panic")
    }
}

/// A job from the topic into memory, which can run any number of times.
pub struct Job {
    bed: Bed,
    client: &'static str,
    sink: MemorySink,
    folder: TempDir,
}

impl Job {
    pub fn new(bed: &Bed, client: &'static str) -> Self {
        Self {
            bed: bed.clone(),
            client,
            sink: MemorySink::new("out"),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    async fn build(&self, gate: &Arc<Gate>, batch_offsets: u64) -> Result<MicroBatch> {
        let session = self.bed.session(self.client, gate, "").await?;
        let job = MicroBatch::builder(session, "job").sink("out", Arc::new(self.sink.clone()))?;
        let insert = format!("INSERT INTO out SELECT {COLUMNS} FROM orders");
        start(
            job.insert(insert),
            self.folder.path(),
            batch_offsets,
            RETRY_FOR,
        )
        .await
    }

    /// One batch of about so many offsets.
    pub async fn step(&self, batch_offsets: u64) {
        let job = self.build(&Gate::at(i64::MAX), batch_offsets).await;
        job.unwrap()
            .step()
            .await
            .unwrap()
            .expect("there are records");
    }

    /// Fixes a batch of about so many offsets, which the sink does not take.
    pub async fn fix(&self, batch_offsets: u64) {
        self.sink.fail("stage", 1, false);
        let job = self.build(&Gate::at(i64::MAX), batch_offsets).await;
        job.unwrap().step().await.expect_err("the sink refuses it");
    }

    /// All that is there, in batches of about so many offsets.
    pub async fn run(&self, gate: &Arc<Gate>, batch_offsets: u64) -> Read {
        let error = match self.build(gate, batch_offsets).await {
            Ok(mut job) => job.run(&Stop::new()).await.err(),
            Err(error) => Some(error),
        };
        (rows(&self.sink.rows()), error)
    }
}

/// Builds a job that delivers what is there.
pub async fn start(
    job: datafusion_kafka::driver::MicroBatchBuilder,
    folder: &Path,
    batch_offsets: u64,
    retry_for: Duration,
) -> Result<MicroBatch> {
    let mut limits = Limits::default();
    limits.max_offsets = Some(batch_offsets);
    let retries = Retries {
        give_up_after: retry_for,
        ..Retries::default()
    };
    let job = job.checkpoint(folder.join("checkpoint").display().to_string());
    let job = job
        .trigger(Trigger::AvailableNow)
        .limits(limits)
        .retries(retries);
    job.build().await
}

async fn scanned(session: &SessionContext) -> Read {
    let mut found = vec![];
    let read = async {
        // Which would deal out the batches of a partition, and lose their order.
        session
            .sql("SET datafusion.optimizer.enable_round_robin_repartition = false")
            .await?;
        let frame = session
            .sql(&format!("SELECT {COLUMNS} FROM orders"))
            .await?;
        let mut stream = frame.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            found.extend(rows(&[batch?]));
        }
        Ok::<(), datafusion::error::DataFusionError>(())
    };
    let error = read.await.err();
    let error = error.map(|error| {
        Error::find(&error)
            .cloned()
            .unwrap_or_else(|| panic!("{error}"))
    });
    (found, error)
}

async fn exported_rows(folder: &Path) -> Result<Vec<Row>> {
    let session = KafkaSessionBuilder::new().build()?;
    let statements = [
        "SET datafusion.execution.listing_table_factory_infer_partitions = false".to_owned(),
        format!(
            "CREATE EXTERNAL TABLE e STORED AS PARQUET LOCATION '{}/'",
            folder.display()
        ),
    ];
    for statement in statements {
        session.sql(&statement).await.expect("the files are there");
    }
    let sql = format!("SELECT {COLUMNS} FROM e ORDER BY partition, offset");
    let found = session
        .sql(&sql)
        .await
        .expect("the files have these columns");
    Ok(rows(&found.collect().await.expect("the files can be read")))
}

/// The rows of batches with the columns [`COLUMNS`].
pub fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let batch = |batch: &RecordBatch| {
        let column = |name: &str, to: DataType| {
            let column = batch.column_by_name(name).expect("the column is there");
            arrow::compute::cast(column, &to).expect("it can be read so")
        };
        let partitions = column("partition", DataType::Int32);
        let offsets = column("offset", DataType::Int64);
        let marks = column("mark", DataType::Utf8);
        let row = |n: usize| {
            let partition = partitions.as_primitive::<Int32Type>().value(n);
            let offset = offsets.as_primitive::<Int64Type>().value(n);
            let mark = marks.as_string::<i32>().value(n).chars().next();
            // A record without a value.
            (partition, offset, mark.unwrap_or(' '))
        };
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    };
    batches.iter().flat_map(batch).collect()
}

/// The rows `start..end` of a partition.
pub fn marked(partition: i32, start: i64, end: i64, mark: char) -> Vec<Row> {
    (start..end)
        .map(|offset| (partition, offset, mark))
        .collect()
}
