//! Pushed-down predicates yield the same rows as filtering after reading, at lower cost.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::table::KafkaTable;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{batches, filled, plan, rows, table, with_table};
use crate::support::{Record, produce, shared};

#[tokio::test(flavor = "multi_thread")]
async fn disjoint_predicates_read_exactly_their_offsets() {
    let topic = filled(2, 20);
    let context = with_table(table(&topic)).await;
    let sql = "SELECT count(*) FROM t \
               WHERE (partition = 0 AND offset >= 10) OR (partition = 1 AND offset < 5)";
    assert_eq!(rows(&context, sql).await, ["15"]);
    let shown = plan(&context, sql).await;
    assert!(shown.contains("offsets=15"), "{shown}");
    assert!(shown.contains(&format!("{topic}[0] 10..20")), "{shown}");
    assert!(shown.contains(&format!("{topic}[1] 0..5")), "{shown}");
    assert!(shown.contains("leaders={1: "), "{shown}");
    let analyzed = rows(&context, &format!("EXPLAIN ANALYZE {sql}"))
        .await
        .join("\n");
    for metric in [
        "records=15",
        "bytes_read=",
        "fetch_wait=",
        "throttle_time=",
        "decode_time=",
        "skipped_offsets=0",
    ] {
        assert!(analyzed.contains(metric), "{metric} in {analyzed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_records_come_without_a_scan() {
    let topic = filled(1, 5000);
    let context = with_table(table(&topic)).await;
    let sql = "SELECT offset FROM t ORDER BY offset DESC LIMIT 3";
    assert_eq!(rows(&context, sql).await, ["4999", "4998", "4997"]);
    let analyzed = rows(&context, &format!("EXPLAIN ANALYZE {sql}"))
        .await
        .join("\n");
    let records = analyzed.split("records=").nth(1).and_then(|r| {
        r.split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse::<u64>()
            .ok()
    });
    assert!(records.is_some_and(|r| r < 500), "{analyzed}");
}

fn filters() -> impl Strategy<Value = String> {
    let literal = |column: &str, n: i64| match column {
        "timestamp" => format!("to_timestamp_millis({})", n * 1000),
        "value" => format!("'value {n}'"),
        _ => n.to_string(),
    };
    let column = || prop::sample::select(vec!["partition", "offset", "timestamp", "value"]);
    let op = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        4 => (column(), op, -1..42i64).prop_map(move |(c, o, n)| format!("{c} {o} {}", literal(c, n))),
        1 => (column(), -1..42i64, 0..20i64).prop_map(move |(c, n, width)| format!(
            "{c} BETWEEN {} AND {}", literal(c, n), literal(c, n + width)
        )),
        1 => (column(), prop::collection::vec(-1..42i64, 1..4)).prop_map(move |(c, list)| {
            let list: Vec<String> = list.iter().map(|n| literal(c, *n)).collect();
            format!("{c} NOT IN ({})", list.join(", "))
        }),
        1 => Just("offset < NULL".to_owned()),
        3 => (0..42i64).prop_map(|n| format!("value LIKE '%lue {n}%'")),
        1 => (0..42i64).prop_map(|n| format!("strpos(kafka_text(value), 'value {n}') > 0")),
        1 => Just("octet_length(value) = 7".to_owned()),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("(NOT {a})")),
        ]
    })
}

#[test]
fn random_predicates_equal_filtering_after_reading() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let topic = filled(3, 40);
    let late = Record::new(1).value("value 3").timestamp_ms(2_500);
    produce::produce(shared().bootstrap(), &topic, &[late]);
    let context = runtime.block_on(async {
        let context = with_table(table(&topic)).await;
        let all = batches(&context, "SELECT * FROM t")
            .await
            .expect("all rows");
        let plain = MemTable::try_new(all[0].schema(), vec![all]).expect("one schema");
        context
            .register_table("plain", Arc::new(plain))
            .expect("the name is free");
        for client in ["wire", "librdkafka"] {
            let mut config = ConnectionConfig::new(shared().bootstrap());
            config.set("kafka.client", client).expect("a client");
            let table = KafkaTable::builder(&config).topic(&topic).build().await;
            context
                .register_table(client, Arc::new(table.expect("the topic is there")))
                .expect("the name is free");
        }
        context
    });
    let config = ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&filters(), |filter| {
        let sql = |table: &str| {
            format!(
                "SELECT partition, offset FROM {table} WHERE {filter} ORDER BY partition, offset"
            )
        };
        let filtered = runtime.block_on(rows(&context, &sql("plain")));
        for client in ["wire", "librdkafka"] {
            let pushed = runtime.block_on(rows(&context, &sql(client)));
            prop_assert_eq!(&pushed, &filtered, "{}: {}", client, filter);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}
