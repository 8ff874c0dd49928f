//! The client over librdkafka against the same brokers, for what real ones do rarely or no more.

use std::time::Instant;

use datafusion_kafka::client::librdkafka::LibrdkafkaClient;
use datafusion_kafka::client::{OffsetAt, OffsetQuery};
use datafusion_kafka::driver::{MicroBatch, Stop, Trigger};
use datafusion_kafka::session::KafkaSessionBuilder;
use datafusion_kafka::sink::MemorySink;
use datafusion_kafka::table::KafkaTable;
use kafka_protocol::messages::ApiKey;
use tokio::net::TcpListener;

use super::log::Batch;
use super::refusals::{damage, damage_value};
use super::script::Delivery;
use super::*;
use crate::conformance::Codec;
use crate::conformance::reading::ReadCommitted;

impl Setup {
    async fn librdkafka(release: Release, log: Log) -> Self {
        let cluster = FakeCluster::start(&[release]).await;
        cluster.create(TOPIC, vec![log]);
        let bootstrap = cluster.bootstrap();
        let client = librdkafka(&bootstrap, &[("check.crcs", "true")]);
        Self { cluster, client }
    }
}

fn librdkafka(bootstrap: &str, settings: &[(&str, &str)]) -> Arc<dyn KafkaClient> {
    let mut config = ConnectionConfig::new(bootstrap);
    let always = [("read.timeout.ms", "4000"), ("request.timeout.ms", "4000")];
    let others = always
        .iter()
        .filter(|(key, _)| settings.iter().all(|(k, _)| k != key));
    for (key, value) in others.chain(settings) {
        config.set(key, value).unwrap();
    }
    Arc::new(LibrdkafkaClient::connect(&config).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_records_are_asked_for_again() {
    let setup = Setup::librdkafka(Release::V3_1, plain_log()).await;
    setup.cluster.on_fetch().parts(damage);
    setup.reads_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_stay_damaged_are_an_error() {
    let setup = Setup::librdkafka(Release::V3_1, plain_log()).await;
    setup.cluster.on_fetch().always().parts(damage_value);
    let (_, error) = setup.fails().await;
    assert!(error.may_pass(), "{error}");
    let (text, range) = (error.to_string(), "orders[0]@20: MessageSet at offset 20 ");
    assert!(
        text.starts_with(range) && text.contains("failed CRC32C check"),
        "{text}"
    );
}

/// Records 10 to 30 in an old format and codec, as they come back.
fn in_old_format(magic: u8, codec: Codec) -> (Log, Vec<Record>) {
    let records = numbered(30).split_off(10);
    let log = Log::of(&[Batch::new(10, &records).in_format(magic).packed(codec)]);
    let back = |record: Record| Record {
        timestamp_ms: record.timestamp_ms.filter(|_| magic > 0),
        headers: vec![],
        ..record
    };
    (log, records.into_iter().map(back).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn formats_from_before_0_11_are_read() {
    for magic in [0, 1] {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy] {
            let (log, records) = in_old_format(magic, codec);
            let old = Setup::librdkafka(Release::V2_1, log.clone()).await;
            let wire = client(&old.cluster, &[]);
            let outcome = old.read(10, 30).await;
            assert_eq!(
                outcome.records(),
                records,
                "librdkafka, v{magic}, {codec:?}"
            );
            let outcome = run(wire, request(vec![of_partition(0, 10, 30)])).await;
            assert_eq!(outcome.records(), records, "wire, v{magic}, {codec:?}");
            let new = Setup::with(&[Release::V2_8], vec![log], &[]).await;
            let outcome = new.read(10, 30).await;
            assert_eq!(
                outcome.records(),
                records,
                "wire on 2.8, v{magic}, {codec:?}"
            );
        }
    }
}

/// The librdkafka that is built in takes lengths for variable ones in answers of brokers from 2.7 on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn formats_that_librdkafka_misreads_are_refused() {
    for codec in [Codec::None, Codec::Gzip] {
        let (log, _) = in_old_format(1, codec);
        let setup = Setup::librdkafka(Release::V2_8, log).await;
        let outcome = setup.read(10, 30).await;
        assert_eq!(outcome.rows.len(), 0, "{codec:?}");
        let text = outcome.failure().to_string();
        assert!(text.starts_with("orders[0]@10: "), "{codec:?}: {text}");
        assert!(
            text.contains(
                "records in a message format from before Kafka 0.11, which this librdkafka \
                 misreads; 'kafka.client' = 'wire' reads them"
            ),
            "{codec:?}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_does_not_keep_another_from_answering() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open = vec![];
        while let Ok((stream, _)) = silent.accept().await {
            open.push(stream);
        }
    });
    let cluster = FakeCluster::start(&[Release::V3_1]).await;
    cluster.create(TOPIC, vec![plain_log()]);
    // librdkafka chooses among the hosts by chance.
    for _ in 0..5 {
        let bootstrap = format!("127.0.0.1:{port},{}", cluster.bootstrap());
        let client = librdkafka(&bootstrap, &[]);
        let query = OffsetQuery {
            partition: TopicPartition::new(TOPIC, 0),
            at: OffsetAt::Latest,
        };
        let started = Instant::now();
        let answers = client.list_offsets(&[query], ReadCommitted).await.unwrap();
        assert_eq!(answers[0].offset, Some(END), "{:?}", started.elapsed());
    }
}

/// A paused process, a half-open network: the leader accepts connections, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_when_a_silent_leader_answers_again() {
    let setup = Setup::librdkafka(Release::V3_1, plain_log()).await;
    let client = librdkafka(
        &setup.cluster.bootstrap(),
        &[("request.timeout.ms", "1000"), ("read.timeout.ms", "1000")],
    );
    let table = KafkaTable::builder_with_client(client)
        .topic(TOPIC)
        .range("start")
        .build_lazy()
        .unwrap();
    let context = KafkaSessionBuilder::new().build().unwrap();
    context.register_table(TOPIC, Arc::new(table)).unwrap();
    let (sink, log) = (MemorySink::new("out"), tempfile::tempdir().unwrap());
    let mut job = MicroBatch::builder(context, "job")
        .checkpoint(log.path().to_str().unwrap())
        .sink("out", Arc::new(sink.clone()))
        .unwrap()
        .insert(format!("INSERT INTO out SELECT \"offset\" FROM {TOPIC}"))
        .trigger(Trigger::AvailableNow)
        .build()
        .await
        .unwrap();
    for api in [ApiKey::ListOffsets, ApiKey::Fetch] {
        setup.cluster.on(api).times(2).deliver(Delivery::Silence);
    }
    let summary = job.run(&Stop::new()).await.unwrap();
    assert_eq!((summary.batches, summary.rows), (1, 300));
    let commit = job.log().commit(0).await.unwrap().unwrap();
    assert!(commit.progress.retries > 0);
}
