//! Topics, offsets and SQL's views of tables. Querying them changes nothing in the cluster.

use datafusion_kafka::{Error, ErrorKind};

use super::{error, filled, rows, session, session_with, topic};
use crate::support::{KafkaOptions, KafkaServer, admin, shared};
use datafusion_kafka::config::ConnectionConfig;

#[tokio::test(flavor = "multi_thread")]
async fn unknown_topic_names_the_nearest_and_is_not_created() {
    let topic = topic(1);
    let typo = format!("{topic}x");
    for sql in [
        format!("SELECT * FROM \"{typo}\""),
        format!("SELECT * FROM kafka('{typo}')"),
        format!("CREATE EXTERNAL TABLE x STORED AS KAFKA LOCATION '{typo}'"),
        format!("SELECT * FROM kafka_offsets('{typo}')"),
    ] {
        let found = error(&session(), &sql).await;
        assert!(
            matches!(&found, Error::UnknownTopic { nearest, .. } if nearest.contains(&topic)),
            "{sql}: {found}"
        );
        assert_eq!(found.kind(), ErrorKind::DataUnavailable);
    }
    let context = session();
    rows(&context, "DROP TABLE IF EXISTS recent").await;
    rows(&context, "DROP VIEW IF EXISTS recent").await;
    assert_eq!(
        rows(&context, "WITH recent AS (SELECT 1) SELECT * FROM recent").await,
        ["1"]
    );
    rows(
        &context,
        &format!("CREATE VIEW recent AS SELECT offset FROM \"{topic}\""),
    )
    .await;
    assert_eq!(rows(&context, "SELECT count(*) FROM recent").await, ["0"]);
    let found = error(
        &session(),
        &format!("SELECT * FROM kafka('{topic}', '7=0:1')"),
    )
    .await;
    assert!(
        matches!(&found, Error::UnknownPartition { partition: 7, .. }),
        "{found}"
    );
    assert!(!admin::list_topics(shared().bootstrap()).contains(&typo));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_offsets_are_tables() {
    let topic = filled(2, 7);
    let context = session();
    let sql = format!(
        "SELECT partitions, replication_factor, internal, topic_id IS NOT NULL \
         FROM kafka_topics() WHERE topic = '{topic}'"
    );
    assert_eq!(rows(&context, &sql).await, ["2 1 false true"]);
    let sql = format!("SELECT * FROM kafka_offsets('{topic}', '0=2:5')");
    assert_eq!(
        rows(&context, &sql).await,
        [format!("{topic} 0 2 5 0 7 7 1 [1] [1]")]
    );
    let names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'topics'";
    assert!(rows(&context, names).await.contains(&topic));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_leaves_a_fresh_cluster_as_it_was() {
    let server = KafkaServer::start(KafkaOptions::default());
    admin::create_topic(server.bootstrap(), "only", 2, &[]);
    crate::support::produce::produce(
        server.bootstrap(),
        "only",
        &[crate::support::Record::new(0).value("x")],
    );
    let context = session_with(ConnectionConfig::new(server.bootstrap()));
    assert_eq!(rows(&context, "SELECT count(*) FROM only").await, ["1"]);
    rows(&context, "SELECT * FROM kafka_offsets('only')").await;
    rows(&context, "SELECT * FROM kafka_topics()").await;
    rows(
        &context,
        "SELECT offset FROM only WHERE timestamp > '2020-01-01T00:00:00Z'",
    )
    .await;
    error(&context, "SELECT * FROM nothing").await;
    let topics: Vec<String> = admin::list_topics(server.bootstrap()).into_iter().collect();
    assert_eq!(topics, ["only"]);
    assert_eq!(admin::list_groups(server.bootstrap()).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn group_offsets_start_a_range() {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};

    let topic = filled(2, 10);
    let group = format!("group-{topic}");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", shared().bootstrap())
        .set("group.id", &group)
        .create()
        .expect("a consumer");
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topic, 0, Offset::Offset(6))
        .expect("an offset");
    consumer
        .commit(&offsets, CommitMode::Sync)
        .expect("committed");
    let sql = format!(
        "SELECT partition, min(offset), count(*) FROM kafka('{topic}', 'group:{group}') \
         GROUP BY partition ORDER BY partition"
    );
    assert_eq!(rows(&session(), &sql).await, ["0 6 4", "1 0 10"]);
    let sql = format!("SELECT * FROM kafka('{topic}', 'group:no-such-group')");
    let found = error(&session(), &sql).await.to_string();
    assert!(found.contains("no-such-group"), "{found}");
}
