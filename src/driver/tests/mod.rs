//! Jobs over a cluster and a sink in memory.

mod batches;
mod epochs;
mod fixed;
mod hostile;
mod index;
mod lag;
mod letters;
mod log;
mod loss;
mod recovery;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::execution::context::SessionContext;
use tempfile::TempDir;

use super::{BatchProgress, Limits, MicroBatch, MicroBatchBuilder, Stop, Trigger};
use crate::client::memory::{MemoryCluster, Record};
use crate::range::OnDataLoss;
use crate::session::KafkaSessionBuilder;
use crate::sink::MemorySink;
use crate::table::{KafkaTable, KafkaTableBuilder};

/// A cluster with the topic `orders`, a sink and a place for the log.
struct World {
    cluster: MemoryCluster,
    sink: MemorySink,
    folder: TempDir,
    limits: Limits,
    on_data_loss: OnDataLoss,
    range: String,
}

const INSERT: &str =
    "INSERT INTO out SELECT partition, \"offset\", CAST(value AS VARCHAR) AS value FROM orders";

impl World {
    fn new(partitions: i32) -> Self {
        let cluster = MemoryCluster::new();
        cluster.create_topic("orders", partitions).unwrap();
        Self {
            cluster,
            sink: MemorySink::new("out"),
            folder: tempfile::tempdir().unwrap(),
            limits: Limits::default(),
            on_data_loss: OnDataLoss::Fail,
            range: "start".to_owned(),
        }
    }

    fn produce(&self, partition: i32, records: i64) {
        for number in 0..records {
            let record = Record::new(format!("p{partition}-{number}"));
            self.cluster.append("orders", partition, record).unwrap();
        }
    }

    fn table(&self, topic: &str) -> KafkaTableBuilder {
        KafkaTable::builder_with_client(Arc::new(self.cluster.client()))
            .topic(topic)
            .range(&self.range)
            .limits(self.limits.clone())
            .on_data_loss(self.on_data_loss)
    }

    fn checkpoint(&self) -> &Path {
        self.folder.path()
    }

    fn context(&self) -> SessionContext {
        let context = KafkaSessionBuilder::new().build().unwrap();
        let table = self.table("orders").build_lazy().unwrap();
        context.register_table("orders", Arc::new(table)).unwrap();
        context
    }

    fn builder(&self, name: &str) -> MicroBatchBuilder {
        MicroBatch::builder(self.context(), name)
            .checkpoint(self.checkpoint().to_str().unwrap())
            .sink("out", Arc::new(self.sink.clone()))
            .unwrap()
            .trigger(Trigger::AvailableNow)
    }

    /// A job as a fresh process would start it.
    async fn job(&self) -> MicroBatch {
        self.builder("job").insert(INSERT).build().await.unwrap()
    }

    /// A process that runs until everything is done.
    async fn run(&self) -> crate::Result<super::RunSummary> {
        self.job().await.run(&Stop::new()).await
    }

    /// What the sink holds, as sorted (partition, offset).
    fn held(&self) -> Vec<(i32, i64)> {
        let mut held: Vec<(i32, i64)> = self.sink.rows().iter().flat_map(offsets).collect();
        held.sort_unstable();
        held
    }

    /// Each record of `orders` once, up to these ends.
    fn assert_exactly(&self, ends: &[i64]) {
        let all: Vec<(i32, i64)> = (0..)
            .zip(ends)
            .flat_map(|(partition, end)| (0..*end).map(move |offset| (partition, offset)))
            .collect();
        assert_eq!(self.held(), all);
    }
}

fn offsets(rows: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = rows["partition"].as_primitive::<arrow::datatypes::Int32Type>();
    let offsets = rows["offset"].as_primitive::<Int64Type>();
    let partitions = partitions.values().iter().copied();
    partitions.zip(offsets.values().iter().copied()).collect()
}

/// The ranges that a batch took of `orders`, as (partition, start, end).
fn taken(progress: &BatchProgress) -> Vec<(i32, i64, i64)> {
    let ranges = progress.sources.iter().flat_map(|s| &s.ranges);
    ranges
        .map(|r| (r.partition(), r.start(), r.end()))
        .collect()
}
