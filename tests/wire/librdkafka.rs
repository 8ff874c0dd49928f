//! Where one of the clients meets silent hosts, formats from before Kafka 0.11, and damaged records.

use std::time::Instant;

use datafusion_kafka::client::librdkafka::LibrdkafkaClient;
use datafusion_kafka::client::{OffsetAt, OffsetQuery};
use datafusion_kafka::driver::Stop;
use kafka_protocol::messages::ApiKey;
use tokio::net::TcpListener;

use super::broker::State;
use super::log::Batch;
use super::script::Delivery;
use super::*;
use crate::conformance::Codec;
use crate::conformance::reading::ReadCommitted;

/// Records 10 to 30 in an old format and codec, and the records to expect.
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
            for release in [Release::V2_1, Release::V2_8, Release::V3_1] {
                let (log, records) = in_old_format(magic, codec);
                let setup = Setup::with(&[release], vec![log], &[]).await;
                let outcome = setup.read(10, 30).await;
                assert_eq!(
                    outcome.records(),
                    records,
                    "{release:?}, v{magic}, {codec:?}"
                );
            }
        }
    }
}

/// The same setup, read over librdkafka.
fn over_librdkafka(setup: Setup) -> Setup {
    let config = config(&setup.cluster, &[("kafka.client", "librdkafka")]);
    let client = Arc::new(LibrdkafkaClient::connect(&config).unwrap());
    Setup { client, ..setup }
}

/// Format 0 has no timestamps: they become NULL and not 1970.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn formats_from_before_0_11_are_read_over_librdkafka_where_it_can() {
    for magic in [0, 1] {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy] {
            let (log, records) = in_old_format(magic, codec);
            let setup = Setup::with(&[Release::V2_1], vec![log], &[]).await;
            let outcome = over_librdkafka(setup).read(10, 30).await;
            assert_eq!(outcome.records(), records, "v{magic}, {codec:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_librdkafka_misreads_old_formats_the_error_names_the_client_that_does_not() {
    for (release, codec) in [
        (Release::V2_8, Codec::None),
        (Release::V2_8, Codec::Gzip),
        (Release::V3_1, Codec::None),
    ] {
        let (log, _) = in_old_format(1, codec);
        let setup = Setup::with(&[release], vec![log], &[]).await;
        let setup = over_librdkafka(setup);
        let error = setup.read(10, 30).await.failure();
        assert!(!setup.cluster.fetches().is_empty(), "nothing was asked for");
        let text = error.to_string();
        assert!(text.starts_with("orders[0]@10: "), "{codec:?}: {text}");
        assert!(
            text.contains("from before Kafka 0.11") && text.contains("'kafka.client' = 'wire'"),
            "{codec:?}: {text}"
        );
    }
}

/// Flips a bit within the records 30 to 40, or flips it back.
fn damage(state: &mut State) {
    let batch = &mut state.partition(TOPIC, 0).log.batches[3];
    let mut bytes = batch.bytes.to_vec();
    bytes[70] ^= 1;
    batch.bytes = bytes.into();
}

/// Both clients verify checksums by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_that_fails_once_is_read_again_and_one_that_fails_always_is_an_error() {
    for librdkafka in [false, true] {
        let setup = async || {
            let setup = Setup::with(&[Release::V3_1], vec![plain_log()], &[]).await;
            match librdkafka {
                false => setup,
                true => over_librdkafka(setup),
            }
        };
        let once = setup().await;
        once.cluster.on_fetch().times(2).change(damage);
        once.reads_all().await;
        let always = setup().await;
        damage(&mut always.cluster.state());
        let (_, error) = always.fails().await;
        let Error::Corrupted {
            offset, partition, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((*partition, *offset), (0, 30), "{error}");
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
    // librdkafka chooses among the hosts at random.
    for _ in 0..5 {
        let bootstrap = format!("127.0.0.1:{port},{}", cluster.bootstrap());
        let mut config = ConnectionConfig::new(&bootstrap);
        config.set("request.timeout.ms", "4000").unwrap();
        let client = LibrdkafkaClient::connect(&config).unwrap();
        let query = OffsetQuery {
            partition: TopicPartition::new(TOPIC, 0),
            at: OffsetAt::Latest,
        };
        let started = Instant::now();
        let answers = client.list_offsets(&[query], ReadCommitted).await.unwrap();
        assert_eq!(answers[0].offset, Some(END), "{:?}", started.elapsed());
    }
}

/// A paused process or a half-open network: the leader accepts connections, but does nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_when_a_silent_leader_answers_again() {
    let patience = [("request.timeout.ms", "1000"), ("read.timeout.ms", "1000")];
    let setup = Setup::with(&[Release::V4_1], vec![plain_log()], &patience).await;
    let (sink, log) = (MemorySink::new("out"), tempfile::tempdir().unwrap());
    let mut job = setup.job(&sink, &log).await;
    for api in [ApiKey::ListOffsets, ApiKey::Fetch] {
        setup.cluster.on(api).times(2).deliver(Delivery::Silence);
    }
    let summary = job.run(&Stop::new()).await.unwrap();
    assert_eq!((summary.batches, summary.rows), (1, 300));
    let commit = job.log().commit(0).await.unwrap().unwrap();
    assert!(commit.progress.retries > 0);
}
