//! Rows become records, with every part in the right place.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use datafusion_kafka::Error;
use datafusion_kafka::driver::{MicroBatch, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::{Guarantee, Held, KafkaSink, KafkaSinkOptions, Sink};
use datafusion_kafka::table::KafkaTable;
use futures::TryStreamExt;

use super::*;
use crate::conformance::batch;
use crate::support::{Record, produce};

/// A session over the shared broker.
pub(crate) fn session() -> SessionContext {
    let builder = KafkaSessionBuilder::new().connection(config(&[]));
    builder.build().expect("the settings are valid")
}

/// `[("a", 1), ("a", NULL)]`, an empty list, NULL, as a column of headers.
fn headers() -> ArrayRef {
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "a"]));
    let values: ArrayRef = Arc::new(BinaryArray::from(vec![Some(b"\x01".as_slice()), None]));
    let items = StructArray::from(vec![
        (Arc::new(Field::new("key", DataType::Utf8, false)), names),
        (
            Arc::new(Field::new("value", DataType::Binary, true)),
            values,
        ),
    ]);
    let item = Arc::new(Field::new("item", items.data_type().clone(), false));
    let offsets = OffsetBuffer::from_lengths([2, 0, 0]);
    let present = NullBuffer::from(vec![true, true, false]);
    Arc::new(ListArray::new(
        item,
        offsets,
        Arc::new(items),
        Some(present),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_a_record_arrives() {
    let topic = topic(3);
    let sink = sink(&topic, &own_state());
    let times = vec![Some(1_500_000_000_123_000), None, Some(1_000)];
    let rows = rows(vec![
        (
            "key",
            Arc::new(StringArray::from(vec![Some("k"), None, Some("")])),
        ),
        (
            "value",
            Arc::new(BinaryArray::from(vec![
                None,
                Some(b"\xff".as_slice()),
                Some(b""),
            ])),
        ),
        ("partition", Arc::new(Int32Array::from(vec![2, 2, 2]))),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(times)),
        ),
        ("headers", headers()),
    ]);
    let sink = open(&sink, &rows).await;
    deliver(&sink, &batch(0, &[(0, None, 3)]), &rows)
        .await
        .unwrap();
    assert!(committed(&topic, 0).is_empty() && committed(&topic, 1).is_empty());
    let found = committed(&topic, 2);
    let keys: Vec<Option<&[u8]>> = found.iter().map(|r| r.key.as_deref()).collect();
    assert_eq!(keys, [Some(b"k".as_slice()), None, Some(b"")]);
    let values: Vec<Option<&[u8]>> = found.iter().map(|r| r.value.as_deref()).collect();
    assert_eq!(values, [None, Some(b"\xff".as_slice()), Some(b"")]);
    assert_eq!(found[0].timestamp_ms, Some(1_500_000_000_123));
    assert!(
        found[1].timestamp_ms > Some(1_600_000_000_000),
        "NULL is now"
    );
    assert_eq!(found[2].timestamp_ms, Some(1));
    let expected = [("a".to_owned(), Some(vec![1])), ("a".to_owned(), None)];
    assert_eq!(found[0].headers, expected);
    assert!(found[1].headers.is_empty() && found[2].headers.is_empty());
}

/// Java's way is the default, the others are librdkafka's; a table that is told of it finds each key in one partition.
#[tokio::test(flavor = "multi_thread")]
async fn keys_choose_partitions() {
    let keys: Vec<String> = (0..40).map(|n| format!("customer {n}")).collect();
    for (written, read) in [
        (None, "murmur2"),
        (Some("consistent_random"), "consistent_random"),
        (Some("fnv1a_random"), "fnv1a"),
    ] {
        let topic = topic(4);
        let settings = written.map(|written| ("partitioner", written));
        let config = config(settings.as_slice());
        let rows = rows(vec![
            ("key", Arc::new(StringArray::from(keys.clone()))),
            ("value", Arc::new(StringArray::from(keys.clone()))),
            (
                "partition",
                Arc::new(Int64Array::from(vec![None; keys.len()])),
            ),
        ]);
        let sink = open(&sink_with(&config, &topic, &own_state()), &rows).await;
        deliver(&sink, &batch(0, &[(0, None, 40)]), &rows)
            .await
            .unwrap();
        let session = session();
        let sql = format!(
            "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS ('key.partitioner' '{read}')"
        );
        session.sql(&sql).await.unwrap();
        for key in &keys {
            let sql = format!("SELECT partition FROM t WHERE key = '{key}'");
            let frame = session.sql(&sql).await.unwrap();
            let plan = frame.clone().create_physical_plan().await.unwrap();
            let plan = displayable(plan.as_ref()).indent(false).to_string();
            assert!(plan.contains("pruned_by_key"), "{read}: {plan}");
            assert_eq!(frame.count().await.unwrap(), 1, "{read} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_to_the_topics_that_they_name() {
    let (one, other) = (topic(1), topic(1));
    let sink = sink(&one, &own_state());
    let rows = rows(vec![
        (
            "topic",
            Arc::new(StringArray::from(vec![&*one, &*other, &*one])),
        ),
        ("value", Arc::new(StringArray::from(vec!["1", "2", "3"]))),
    ]);
    let sink = open(&sink, &rows).await;
    let first = batch(0, &[(0, None, 3)]);
    let staged = stage(&sink, &first, &rows).await.unwrap();
    assert!(seen(&one).is_empty() && seen(&other).is_empty());
    sink.commit(&first, staged).await.unwrap();
    settled(shared().bootstrap(), &one).await;
    settled(shared().bootstrap(), &other).await;
    assert_eq!(
        (seen(&one), seen(&other)),
        (vec!["1".into(), "3".into()], vec!["2".into()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_waited_for() {
    let topic = topic(1);
    let config = config(&[
        ("kafka.queue.buffering.max.messages", "50"),
        ("kafka.linger.ms", "1"),
    ]);
    let sink = sink_with(&config, &topic, &own_state());
    let numbers: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let rows = rows(vec![(
        "value",
        Arc::new(StringArray::from(numbers.clone())),
    )]);
    let sink = open(&sink, &rows).await;
    deliver(&sink, &batch(0, &[(0, None, 5000)]), &rows)
        .await
        .unwrap();
    assert_eq!(seen(&topic), numbers);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_is_seen_at_once_and_recorded_afterwards() {
    let topic = topic(1);
    let options = at_least_once();
    let sink = sink(&topic, &options);
    assert_eq!(sink.guarantee(), Guarantee::AtLeastOnce);
    let rows = values(&["a", "b"]);
    let sink = open(&sink, &rows).await;
    assert_eq!(sink.committed, None);
    let first = batch(0, &[(0, None, 2)]);
    let staged = stage(&sink, &first, &rows).await.unwrap();
    sink.commit(&first, staged.clone()).await.unwrap();
    sink.commit(&first, staged).await.unwrap();
    assert_eq!(seen(&topic), ["a", "b"]);
    let other = super::sink(&topic, &options);
    let found = open(&other, &rows).await.committed.unwrap();
    assert_eq!((found.batch, found.ends), (0, first.ends()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_sql_is_a_target_and_can_be_read() {
    let topic = topic(1);
    let context = session();
    let create = format!(
        "CREATE EXTERNAL TABLE t STORED AS KAFKA LOCATION '{topic}' OPTIONS (
           'delivery' 'at-least-once', 'shared' 'true', 'state.topic' '{topic}-state',
           'transactional.id.prefix' 'mine-', 'kafka.acks' 'all', 'kafka.compression.type' 'lz4',
           'kafka.linger.ms' '1', 'kafka.transaction.timeout.ms' '30000')"
    );
    context.sql(&create).await.unwrap().collect().await.unwrap();
    let provider = context.table_provider("t").await.unwrap();
    let table = provider.downcast_ref::<KafkaTable>().unwrap();
    let sink = KafkaSink::of_table(table).unwrap();
    assert_eq!(sink.guarantee(), Guarantee::AtLeastOnce);
    let target = format!("kafka://{}/{topic}", shared().bootstrap());
    assert_eq!(sink.target(), target);
    let rows = values(&["a"]);
    let sink = open(&sink, &rows).await;
    deliver(&sink, &batch(0, &[(0, None, 1)]), &rows)
        .await
        .unwrap();
    let count = context
        .sql("SELECT * FROM t")
        .await
        .unwrap()
        .count()
        .await
        .unwrap();
    assert_eq!(count, 1);
    assert!(admin::list_topics(shared().bootstrap()).contains(&format!("{topic}-state")));

    let several = KafkaTable::builder(&config(&[])).location(&format!("{topic},other"));
    let refused = KafkaSink::of_table(&several.build_lazy().unwrap()).unwrap_err();
    assert!(matches!(&refused, Error::Invalid { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_carries_a_topic_into_another_once() {
    let (from, to) = (topic(2), topic(1));
    let folder = tempfile::tempdir().unwrap();
    let context = session();
    let create = format!(
        "CREATE EXTERNAL TABLE out STORED AS KAFKA LOCATION '{to}' \
         OPTIONS ('state.topic' '{to}-state')"
    );
    context.sql(&create).await.unwrap().collect().await.unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE incoming STORED AS KAFKA LOCATION '{from}' \
         OPTIONS ('starting.offsets' 'earliest')"
    );
    context.sql(&create).await.unwrap().collect().await.unwrap();
    let insert = "INSERT INTO out SELECT key, value FROM incoming";
    let mut expected = Vec::new();
    for run in 0..3 {
        for partition in 0..2 {
            let value = format!("run {run} of {partition}");
            let record = Record::new(partition).value(value.clone());
            produce::produce(shared().bootstrap(), &from, &[record]);
            expected.push(value);
        }
        // The second run has lost its log, but the sink knows.
        if run == 1 {
            std::fs::remove_dir_all(folder.path()).unwrap();
        }
        let mut job = MicroBatch::builder(context.clone(), "copy")
            .checkpoint(folder.path().to_str().unwrap())
            .insert(insert)
            .trigger(Trigger::Once)
            .build()
            .await
            .unwrap();
        job.run(&Stop::new()).await.unwrap();
        settled(shared().bootstrap(), &to).await;
        let mut found = seen(&to);
        found.sort();
        assert_eq!(found, expected, "run {run}");
    }
}

#[test]
fn the_default_state_topic_takes_no_rows() {
    let options = KafkaSinkOptions::default();
    let refused = KafkaSink::new(&config(&[]), "_kafka_sql_jobs", options).unwrap_err();
    assert!(
        refused.to_string().contains("cannot take rows"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_holds_is_given_back_in_the_jobs_columns() {
    let topic = topic(2);
    let sink = sink(&topic, &own_state());
    let keys = Arc::new(StringArray::from(vec![Some("k"), None]));
    let values = Arc::new(BinaryArray::from(vec![None, Some(b"\xff".as_slice())]));
    let rows = rows(vec![("value", values), ("key", keys)]);
    let first = batch(0, &[(0, None, 2)]);
    let sink = open(&sink, &rows).await;
    deliver(&sink, &first, &rows).await.unwrap();
    let Held::Among(held) = sink.sink.held(&first, &rows.schema()).await.unwrap() else {
        panic!("keys and values can be read back");
    };
    let held: Vec<RecordBatch> = held.try_collect().await.unwrap();
    let types = |batch: &RecordBatch| {
        let fields = batch.schema().fields().clone();
        let name = |f: &Arc<Field>| (f.name().clone(), f.data_type().clone());
        fields.iter().map(name).collect::<Vec<_>>()
    };
    assert!(held.iter().all(|batch| types(batch) == types(&rows)));
    assert_eq!(held.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);

    let placed = super::rows(vec![
        ("value", Arc::new(StringArray::from(vec!["a"]))),
        ("partition", Arc::new(Int32Array::from(vec![None]))),
    ]);
    let sink = open(&sink.sink, &placed).await;
    assert!(matches!(
        sink.sink.held(&first, &placed.schema()).await.unwrap(),
        Held::Unknown
    ));
}
