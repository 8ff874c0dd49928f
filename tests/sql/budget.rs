//! What statements may read, where only reading shows how much that is.

use datafusion_kafka::ErrorKind;
use datafusion_kafka::config::ConnectionConfig;

use super::{error, rows, session_with, topic};
use crate::support::{Record, produce, shared};

/// Searches pass most records of a batch without a look at them, and pay for them all the same.
const STATEMENTS: [&str; 3] = [
    "SELECT sum(octet_length(value)) FROM \"{t}\"",
    "SELECT \"offset\" FROM \"{t}\" WHERE contains(value, 'needle')",
    "SELECT \"offset\" FROM \"{t}\" WHERE contains(value, 'needle') LIMIT 1",
];

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_larger_than_they_seemed_spend_the_budget_through_either_client() {
    // Small at both ends, where a scan looks before it reads, with a needle in the last large one.
    let topic = tokio::task::block_in_place(|| {
        let topic = topic(1);
        let large = "x".repeat(10_000);
        let needle = format!("{large}needle");
        let small = vec!["small"; 100];
        let large = [vec![large.as_str(); 399], vec![&needle]].concat();
        // Each in record batches of their own.
        for values in [&small, &large, &small] {
            let records = values.iter().map(|value| Record::new(0).value(*value));
            let records: Vec<Record> = records.collect();
            let settings = [("batch.size", "200000")];
            produce::produce_with(shared().bootstrap(), &topic, &records, &settings);
        }
        topic
    });
    for client in ["wire", "librdkafka"] {
        for isolation in ["read_committed", "read_uncommitted"] {
            let session = |bytes| {
                let mut config = ConnectionConfig::new(shared().bootstrap());
                for (key, value) in [
                    ("kafka.client", client),
                    ("isolation.level", isolation),
                    ("max.scan.bytes", bytes),
                ] {
                    config.set(key, value).expect("the setting is valid");
                }
                session_with(config)
            };
            for sql in STATEMENTS {
                let what = format!("{client} {isolation} {sql}");
                let sql = sql.replace("{t}", &topic);
                let stopped = error(&session("3M"), &sql).await;
                assert_eq!(stopped.kind(), ErrorKind::Budget, "{what}: {stopped}");
                let said = stopped.to_string();
                assert!(said.contains("stopped after"), "{what}: {said}");
                let found = rows(&session("10M"), &sql).await;
                assert_eq!(found.len(), 1, "{what}: {found:?}");
            }
        }
    }
}
