//! A marker in every part of every record, masked: whatever is done with the topic, the marker is nowhere in what comes
//! of it. Each crossing of a format, a choice for bad records and a verb runs unmasked as well, so that a verb that would
//! show nothing in any case is noticed.

mod bed;
mod guesses;
#[path = "../../../tests/support/marker.rs"]
mod marker;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};

use self::bed::Bed;
use self::marker::{MARKER, leaks};
use super::world::{json, text};
use crate::client::memory::{MemoryCluster, Record};
use crate::config::ConnectionConfig;
use crate::export::ExportFormat;
use crate::range::KeyPartitioner;
use crate::session::KafkaSessionBuilder;
use crate::statement;
use crate::stub::{Reply, Stub};

const SALT: &str = "a salt of the tests";

/// Each hides the marker in keys, values and headers.
const MASKS: [&str; 5] = [
    "t.card, t.csv[2], t.key.$.card, t.headers",
    "t.$..card=hash, t.key=hash, t.headers[h]=last4",
    "t.value, t.key=last4, t.headers=hash",
    "*.$..card=last4, *.key, *.headers",
    "t.$.card=hash, t.$.list.card, t.$.after.card=last3, t.key.$..card, t.headers[h]=hash",
];

/// How values are read: the options, and a column to ask for by name.
const FORMATS: [(&str, &str, &str); 9] = [
    ("raw", "", "value"),
    (
        "text",
        "'value.format' 'text', 'key.format' 'text'",
        "value",
    ),
    ("json", "'value.format' 'json'", "card"),
    (
        "json of keys",
        "'value.format' 'json', 'key.format' 'json', 'key.prefix' 'key_'",
        "card",
    ),
    ("debezium-json", "'value.format' 'debezium-json'", "after"),
    ("csv", "'value.format' 'csv'", "card"),
    (
        "avro",
        "'value.format' 'avro', 'value.schema.file' '{folder}/card.avsc'",
        "card",
    ),
    (
        "protobuf",
        "'value.format' 'protobuf', 'value.schema.file' '{folder}/card.proto', 'value.schema.message' 'Card'",
        "card",
    ),
    ("uuid", "'value.format' 'uuid'", "value"),
];

const POLICIES: [&str; 4] = ["fail", "null", "skip", "dlq"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Rows,
    Functions,
    Aggregates,
    LastFirst,
    Join,
    Explain,
    Receipt,
    Elsewhere,
    TableFunction,
    OtherOptions,
    Schema,
    Copy,
    Export(ExportFormat),
    Job,
    JobParquet,
    JobSqlite,
    Index,
}

const VERBS: [Verb; 19] = [
    Verb::Rows,
    Verb::Functions,
    Verb::Aggregates,
    Verb::LastFirst,
    Verb::Join,
    Verb::Explain,
    Verb::Receipt,
    Verb::Elsewhere,
    Verb::TableFunction,
    Verb::OtherOptions,
    Verb::Schema,
    Verb::Copy,
    Verb::Export(ExportFormat::Parquet),
    Verb::Export(ExportFormat::Csv),
    Verb::Export(ExportFormat::Ndjson),
    Verb::Job,
    Verb::JobParquet,
    Verb::JobSqlite,
    Verb::Index,
];

impl Verb {
    /// Whether what comes of it has contents of records where nothing is masked.
    fn shows(self) -> bool {
        // Bloom filters and checksums are none, and a plan has none.
        !matches!(
            self,
            Self::Explain | Self::Receipt | Self::Schema | Self::Index
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_masked_shows_nowhere() {
    let mut wrong = vec![];
    let mut shown: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut turn = 0;
    for (place, (format, _, _)) in FORMATS.iter().enumerate() {
        for verb in VERBS {
            // Each crossing with two of the choices for bad records and two of the masks each.
            for _ in 0..2 {
                turn += 1;
                let policy = POLICIES[turn % 4];
                for masks in [Some(MASKS[turn % 5]), Some(MASKS[(turn + 2) % 5]), None] {
                    let mut bed = Bed::new(masks, place, policy);
                    bed.verb(verb).await;
                    match (masks, leaks(&bed.seen)) {
                        (Some(masks), true) => {
                            let seen = String::from_utf8_lossy(&bed.seen);
                            let line = seen.lines().find(|line| leaks(line.as_bytes()));
                            wrong.push(format!(
                                "{format} {verb:?} {}, {masks}: {line:?}",
                                bed.policy
                            ));
                        }
                        (None, true) => {
                            shown.entry(format!("{verb:?}")).or_default().insert(format);
                        }
                        (_, false) => {}
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} leaks:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // Without masks, the marker is found: the test looks where it would be.
    for verb in VERBS.into_iter().filter(|verb| verb.shows()) {
        let formats = shown.get(&format!("{verb:?}"));
        assert!(
            formats.is_some_and(|formats| formats.len() >= 5),
            "{verb:?}: {formats:?}"
        );
    }
}

/// A condition sees what is shown, whether the scan applies it or the node above.
#[tokio::test]
async fn conditions_see_masked_values() {
    for masks in MASKS {
        for push_down in [true, false] {
            let mut bed = Bed::new(Some(masks), 2, "null");
            let context = bed.table().await;
            bed.run(&context, &format!("SET kafka.push_down = {push_down}"))
                .await;
            // One has no column `card`, and masks of columns that the other decodes are refused with it.
            let mut refused = 0;
            for condition in [
                format!("kafka_text(value) LIKE '%{MARKER}%'"),
                format!("key = '{MARKER}'"),
                format!("card = '{MARKER}'"),
                format!("strpos(kafka_text(value), '{MARKER}') > 0"),
                format!("has_header(headers, 'h', '{MARKER}')"),
                format!("kafka_text(value)->>'card' = '{MARKER}'"),
            ] {
                for table in ["x", "t"] {
                    let sql = format!("SELECT \"offset\" FROM {table} WHERE {condition}");
                    let Ok(frame) = statement::sql(&context, &sql).await else {
                        refused += 1;
                        continue;
                    };
                    let rows = frame.collect().await.map_err(text);
                    let rows =
                        rows.map(|rows| rows.iter().map(|batch| batch.num_rows()).sum::<usize>());
                    assert_eq!(rows, Ok(0), "{masks}: {sql}");
                }
            }
            assert!([1, 7].contains(&refused), "{masks}: {refused} were refused");
        }
    }
    // What a mask leaves can be asked for.
    let bed = Bed::new(Some("t.card=last4"), 2, "skip");
    let context = bed.session();
    statement::sql(&context, &bed.create()).await.unwrap();
    let end = &MARKER[MARKER.len() - 4..];
    let sql = format!(
        "SELECT \"offset\" FROM x WHERE card = '****{end}' AND kafka_text(value) LIKE '%****{end}%'"
    );
    let rows = statement::sql(&context, &sql)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}

/// What is known of keys as they are written does not choose what is read.
#[tokio::test]
async fn masked_keys_choose_no_partitions() {
    for (masks, pruned) in [
        (None, true),
        (Some("t.card"), true),
        (Some("t.key=hash"), false),
    ] {
        let cluster = MemoryCluster::builder().build();
        cluster.create_topic("t", 4).unwrap();
        for key in (0..20).map(|n| format!("k{n}")) {
            let place = KeyPartitioner::Murmur2.partition(key.as_bytes(), 4);
            let record = Record::new("{}").with_key(key);
            cluster.append_all("t", place.unwrap(), [record]).unwrap();
        }
        let mut bed = Bed::new(masks, 0, "fail");
        bed.cluster = cluster;
        let mut config = ConnectionConfig::new("memory:1");
        config.set("key.partitioner", "murmur2").unwrap();
        config.merge(&bed.config().base_for(&ConnectionConfig::new("memory:2")));
        let context = KafkaSessionBuilder::new()
            .connection(config)
            .pool(bed.pool())
            .build()
            .unwrap();
        bed.run(&context, "EXPLAIN SELECT * FROM t WHERE key = 'x'")
            .await;
        let seen = String::from_utf8_lossy(&bed.seen);
        assert_eq!(seen.contains("pruned_by_key"), pruned, "{masks:?}: {seen}");
    }
}

#[test]
fn nothing_of_the_salt_is_shown() {
    let config = Bed::new(Some(MASKS[1]), 0, "fail").config();
    for shown in [
        format!("{config:?}"),
        config.to_string(),
        format!("{:?}", config.public()),
    ] {
        assert!(!shown.contains(SALT), "{shown}");
    }
}

/// In Avro of the connection's registry, by the writer's names: a statement has no say in them.
#[tokio::test]
async fn fields_of_avro_are_hidden_by_the_connections_registry() {
    let registry = async |name: &str| {
        let schema = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"id","type":"long"}},
                {{"name":"{name}","type":["null","string"]}},{{"name":"list","type":{{"type":"array","items":"string"}}}}]}}"#
        );
        let answer = serde_json::json!({"id": 9, "schemaType": "AVRO", "schema": schema});
        Stub::new(move |_, _| Reply::new(200, answer.to_string())).await
    };
    let (own, theirs) = (registry("card").await, registry("x").await);
    // A frame, a long, the second branch with a text of 16 bytes, and an array of one such text.
    let text = [&[32], MARKER.as_bytes()].concat();
    let payload = [&[0, 0, 0, 0, 9, 2, 2], &text[..], &[2], &text[..], &[0]].concat();
    let bed = |masks| {
        let bed = Bed::new(masks, 0, "fail");
        bed.cluster.create_topic("a", 1).unwrap();
        let record = Record::new(payload.clone());
        bed.cluster.append_all("a", 0, [record]).unwrap();
        bed
    };
    let avro = "'value.format' 'avro', 'metadata.columns' 'value'";
    for (masks, shown) in [
        ("a.card, a.list", "{\"card\":null,\"id\":1,\"list\":[]"),
        (
            "a.$.card=last4, a.$.list",
            "{\"card\":\"****93kT\",\"id\":1,\"list\":[]",
        ),
    ] {
        for (masks, leaking) in [(Some(masks), false), (None, true)] {
            let mut bed = bed(masks);
            let mut config = bed.config();
            config.set("schema.registry.url", &own.url).unwrap();
            let context = KafkaSessionBuilder::new()
                .connection(config)
                .pool(bed.pool());
            let context = context.build().unwrap();
            let create =
                format!("CREATE EXTERNAL TABLE a2 STORED AS KAFKA LOCATION 'a' OPTIONS ({avro})");
            assert!(
                bed.run(&context, &create).await,
                "{}",
                String::from_utf8_lossy(&bed.seen)
            );
            bed.run(&context, "SELECT id, card, list FROM a2").await;
            bed.run(&context, "SELECT value FROM a").await;
            assert_eq!(
                leaks(&bed.seen),
                leaking,
                "{}",
                String::from_utf8_lossy(&bed.seen)
            );
            if !leaking {
                let rows = statement::sql(&context, "SELECT card, id, list FROM a2")
                    .await
                    .unwrap();
                let rows = rows.collect().await.unwrap();
                let found = serde_json::to_string(&json(&rows).unwrap()[0]).unwrap();
                assert!(found.starts_with(shown), "{found}");
            }
            let url = &theirs.url;
            let create = format!(
                "CREATE EXTERNAL TABLE a3 STORED AS KAFKA LOCATION 'a' OPTIONS ({avro}, 'schema.registry.url' '{url}')"
            );
            assert_eq!(bed.run(&context, &create).await, leaking);
            let create = format!(
                "CREATE EXTERNAL TABLE a4 STORED AS KAFKA LOCATION 'a' OPTIONS ({avro}, 'schema.registry.url' '{url}', \
                 'kafka.bootstrap.servers' 'memory:2')"
            );
            assert_eq!(bed.run(&context, &create).await, leaking);
            if !leaking {
                let context =
                    format!("SELECT * FROM kafka('a', 'start', 'schema.registry.url={url}')");
                let session = bed.session();
                bed.run(&session, &context).await;
                assert!(!leaks(&bed.seen), "{}", String::from_utf8_lossy(&bed.seen));
            }
        }
    }
}
