//! Kafka as a sink keeps the promises of every sink.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_kafka::sink::{
    BatchRanges, Committed, Guarantee, KafkaSink, KafkaSinkOptions, Sink, SinkJob, Staged,
};
use datafusion_kafka::table::KafkaTable;
use datafusion_kafka::{Error, Result};
use futures::StreamExt;

use super::{config, sink};
use crate::conformance::{Fixture, Row, batch, deliver, job};
use crate::support::{admin, shared};

/// Keys are the ids of the suite, values its names.
#[derive(Debug)]
struct Named(KafkaSink);

fn record_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]))
}

fn as_record(rows: &RecordBatch) -> RecordBatch {
    let key: ArrayRef = cast(rows.column(0), &DataType::Utf8).expect("numbers are text");
    let columns = vec![key, Arc::clone(rows.column(1))];
    RecordBatch::try_new(record_schema(), columns).expect("the columns fit")
}

#[async_trait]
impl Sink for Named {
    fn target(&self) -> String {
        self.0.target()
    }

    fn guarantee(&self) -> Guarantee {
        self.0.guarantee()
    }

    async fn open(&self, job: &SinkJob) -> Result<Option<Committed>> {
        let job = SinkJob {
            name: job.name.clone(),
            schema: record_schema(),
        };
        self.0.open(&job).await
    }

    async fn stage(
        &self,
        batch: &BatchRanges,
        partition: usize,
        rows: SendableRecordBatchStream,
    ) -> Result<Staged> {
        let rows = rows.map(|rows| rows.map(|rows| as_record(&rows)));
        let rows = RecordBatchStreamAdapter::new(record_schema(), rows);
        self.0.stage(batch, partition, Box::pin(rows)).await
    }

    async fn commit(&self, batch: &BatchRanges, staged: Vec<Staged>) -> Result<()> {
        self.0.commit(batch, staged).await?;
        super::settled_of(&self.0.target()).await;
        Ok(())
    }

    async fn abort(&self, batch: &BatchRanges) -> Result<()> {
        self.0.abort(batch).await
    }
}

/// What this crate's reader of committed records sees.
async fn read(topic: &str) -> Vec<Row> {
    let table = KafkaTable::builder(&config(&[])).topic(topic).build().await;
    let table = match table {
        Err(Error::UnknownTopic { .. }) => return Vec::new(),
        table => table.expect("the topic can be read"),
    };
    let context = crate::kafka::records::session();
    let frame = context.read_table(Arc::new(table)).expect("a table");
    let batches = frame.collect().await.expect("the topic can be read");
    let mut rows = Vec::new();
    for batch in batches {
        let text = |name: &str| {
            let array = cast(&batch[name], &DataType::Utf8View).expect("text");
            array.as_string_view().clone()
        };
        let (keys, values) = (text("key"), text("value"));
        rows.extend((0..batch.num_rows()).map(|row| {
            let name = (!values.is_null(row)).then(|| values.value(row).to_owned());
            (keys.value(row).parse().expect("a number"), name)
        }));
    }
    rows
}

fn fixture() -> Fixture {
    let prefix = admin::unique_topic("conforms");
    let (writes, reads) = (prefix.clone(), prefix);
    Fixture::new(
        move |target, shared_target| {
            let topic = format!("{writes}-{target}");
            async move {
                tokio::task::block_in_place(|| {
                    if !admin::list_topics(shared().bootstrap()).contains(&topic) {
                        admin::create_topic(shared().bootstrap(), &topic, 2, &[]);
                    }
                });
                let options = KafkaSinkOptions {
                    shared: shared_target,
                    ..KafkaSinkOptions::default()
                };
                Arc::new(Named(sink(&topic, &options))) as Arc<dyn Sink>
            }
        },
        move |target| {
            let topic = format!("{reads}-{target}");
            async move { read(&topic).await }
        },
    )
}

// All cases except the race of two drivers: the driver that opens fences the other, which is a permanent
// conflict and not, as in a database, a reason to try again.
sink_conformance!(fixture(), fencing);

#[tokio::test(flavor = "multi_thread")]
async fn of_two_drivers_that_race_one_delivers_and_rows_come_once() {
    for round in 0..5 {
        let topic = super::topic(1);
        let options = KafkaSinkOptions::default();
        let drivers = [sink(&topic, &options), sink(&topic, &options)];
        let drivers = drivers.map(|sink| Arc::new(Named(sink)) as Arc<dyn Sink>);
        let run = async |sink: &Arc<dyn Sink>| {
            sink.open(&job("job")).await?;
            deliver(sink, &batch(0, &[(0, None, 3)]), &[&[1, 2], &[3]]).await
        };
        let (one, other) = tokio::join!(run(&drivers[0]), run(&drivers[1]));
        let mut won = 0;
        for outcome in [one, other] {
            match outcome {
                Ok(()) => won += 1,
                Err(
                    Error::Conflict { .. }
                    | Error::Sink {
                        transient: true, ..
                    },
                ) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        let mut ids: Vec<i64> = read(&topic).await.into_iter().map(|row| row.0).collect();
        ids.sort_unstable();
        if won > 0 {
            assert_eq!(ids, [1, 2, 3], "round {round}");
        } else {
            assert!(
                ids.is_empty(),
                "round {round}: nobody says so, but {ids:?} are there"
            );
        }
    }
}
