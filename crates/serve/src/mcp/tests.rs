//! The tools, asked by the protocol's own client.

use std::sync::Arc;

use datafusion_kafka::client::memory::{MemoryCluster, Record};
use datafusion_kafka::client::{ClientPool, KafkaClient};
use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::policy::Policy;
use datafusion_kafka::receipt::{Receipt, Verdict};
use datafusion_kafka::session::KafkaSessionBuilder;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};

use super::*;

struct Bed {
    client: RunningService<RoleClient, ()>,
    cluster: MemoryCluster,
}

impl Bed {
    /// A client of a server over `orders`, 3 partitions with 100 records each, with these settings of the connection.
    async fn new(settings: &[(&str, &str)]) -> Self {
        let cluster = MemoryCluster::builder().fetch_records(10).build();
        cluster.create_topic("orders", 3).unwrap();
        for partition in 0..3 {
            let records = (0..100).map(|n| {
                let value = format!(r#"{{"n":{n},"card":"visa-{partition}-{n}","item":"tea"}}"#);
                Record::new(value)
                    .with_key(format!("k{n}"))
                    .with_header("h", Some(b"x"))
            });
            cluster.append_all("orders", partition, records).unwrap();
        }
        let mut config = ConnectionConfig::new("memory:1");
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        let read = cluster.clone();
        let pool = ClientPool::with_factory(move |_| Ok(Arc::new(read.client())));
        let open = move || {
            KafkaSessionBuilder::new()
                .connection(config.clone())
                .pool(pool.clone())
                .policy(Policy::restricted())
                .build()
        };
        let (here, there) = tokio::io::duplex(1 << 16);
        let limits = Limits {
            rows: 50,
            bytes: 64 << 10,
        };
        tokio::spawn(McpServer::new(open, limits).serve(there));
        let client = ().serve(here).await.unwrap();
        Self { client, cluster }
    }

    async fn result(&self, tool: &str, arguments: Value) -> CallToolResult {
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        self.client.call_tool(call).await.unwrap()
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let result = self.result(tool, arguments).await;
        let answer = result.structured_content.clone().unwrap();
        assert_eq!(
            result.is_error,
            Some(answer.get("error").is_some()),
            "{answer}"
        );
        answer
    }
}

#[tokio::test]
async fn tools_are_listed_and_only_read() {
    let bed = Bed::new(&[]).await;
    let tools = bed.client.list_all_tools().await.unwrap();
    let mut names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "describe_topic",
            "list_topics",
            "query",
            "read_records",
            "search"
        ]
    );
    for tool in &tools {
        assert_eq!(
            tool.annotations.as_ref().unwrap().read_only_hint,
            Some(true)
        );
    }
    let info = bed.client.peer_info().unwrap();
    assert!(info.instructions.as_ref().unwrap().contains("complete"));
}

#[tokio::test]
async fn topics_are_listed_and_described() {
    let bed = Bed::new(&[("mask", "orders.card")]).await;
    let all = bed.call("list_topics", json!({})).await;
    assert_eq!(all["topics"][0]["topic"], "orders");
    assert_eq!(all["complete"], true);
    let none = bed.call("list_topics", json!({"pattern": "^x"})).await;
    assert_eq!(none["topics"], json!([]));

    let topic = bed.call("describe_topic", json!({"topic": "orders"})).await;
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(topic["masked"], json!(["orders.card"]));
    let names = |field: &str| {
        let columns = topic[field].as_array().unwrap();
        columns
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(names("columns").contains(&"value".to_owned()));
    assert!(names("json_columns").contains(&"item".to_owned()));
    let unknown = bed.call("describe_topic", json!({"topic": "nosuch"})).await;
    assert!(unknown["error"].as_str().unwrap().contains("nosuch"));
}

#[tokio::test]
async fn a_query_says_what_it_read_and_its_receipt_holds() {
    let bed = Bed::new(&[]).await;
    let sql = "SELECT count(*) AS n FROM orders WHERE partition = 1";
    let answer = bed.call("query", json!({"sql": sql})).await;
    assert_eq!(answer["rows"], json!([{"n": 100}]));
    assert_eq!(answer["complete"], true);
    assert_eq!(
        answer["read"],
        json!([{"topic": "orders", "partition": 1, "start": 0, "end": 100}])
    );
    assert_eq!(answer["offsets"], json!({"delivered": 100}));
    let receipt: Receipt = answer["receipt"].to_string().parse().unwrap();
    let client: Arc<dyn KafkaClient> = Arc::new(bed.cluster.client());
    assert_eq!(
        receipt.rerun(&client).await.unwrap().verdict(),
        Verdict::Identical
    );

    let same = bed
        .call(
            "query",
            json!({"sql": "SELECT 1 AS a, 2 AS b, a.key, b.key FROM orders a, orders b LIMIT 1"}),
        )
        .await;
    assert!(same["rows"][0]["key_2"].is_string(), "{same}");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_not_complete() {
    let bed = Bed::new(&[]).await;
    let answer = bed
        .call(
            "query",
            json!({"sql": "SELECT value FROM orders", "max_rows": 7}),
        )
        .await;
    assert_eq!(answer["rows"].as_array().unwrap().len(), 7);
    assert_eq!(
        (&answer["complete"], &answer["stopped_by"]),
        (&json!(false), &json!("max_rows"))
    );
    assert_eq!(answer["budget"]["max_rows"], 7);
    // No call gets more than the server allows.
    let answer = bed
        .call(
            "query",
            json!({"sql": "SELECT value FROM orders", "max_rows": 1000}),
        )
        .await;
    assert_eq!(answer["rows"].as_array().unwrap().len(), 50);
    assert_eq!(answer["complete"], false);
    // Exactly as many as there are is all.
    let answer = bed
        .call("query", json!({"sql": "SELECT value FROM orders LIMIT 50"}))
        .await;
    assert_eq!(answer["complete"], true);
    let answer = bed
        .call(
            "query",
            json!({"sql": "SELECT repeat(kafka_text(value), 100) FROM orders"}),
        )
        .await;
    assert_eq!(answer["stopped_by"], "max_bytes");
}

#[tokio::test]
async fn a_budget_refuses_before_it_reads() {
    let bed = Bed::new(&[("max.scan.records", "250")]).await;
    let answer = bed
        .call("query", json!({"sql": "SELECT count(*) FROM orders"}))
        .await;
    assert_eq!(answer["complete"], false);
    assert!(
        answer["error"].as_str().unwrap().contains("250"),
        "{answer}"
    );
    assert_eq!(answer["budget"]["max.scan.records"], "250");
    assert_eq!(answer["read"], json!([]));
    let answer = bed
        .call(
            "query",
            json!({"sql": "SELECT count(*) AS n FROM kafka('orders', '-50')"}),
        )
        .await;
    assert_eq!(answer["rows"], json!([{"n": 150}]));
}

#[tokio::test]
async fn a_search_without_a_hit_is_complete() {
    let bed = Bed::new(&[]).await;
    let found = bed
        .call(
            "search",
            json!({"topic": "orders", "contains": "visa-2-42"}),
        )
        .await;
    assert_eq!(found["rows"][0]["offset"], 42);
    assert_eq!(found["complete"], true);
    let found = bed
        .call(
            "search",
            json!({"topic": "orders", "key": "k7", "headers": {"h": "x"}, "range": "0=0:50"}),
        )
        .await;
    assert_eq!(found["rows"].as_array().unwrap().len(), 1);
    let none = bed
        .call(
            "search",
            json!({"topic": "orders", "regex": "master-[0-9]+"}),
        )
        .await;
    assert_eq!(
        (&none["rows"], &none["complete"]),
        (&json!([]), &json!(true))
    );
    assert_eq!(none["read"].as_array().unwrap().len(), 3);
    let wrong = CallToolRequestParams::new("search")
        .with_arguments(json!({"topic": "orders"}).as_object().cloned().unwrap());
    assert!(
        bed.client
            .call_tool(wrong)
            .await
            .unwrap_err()
            .to_string()
            .contains("nothing to look for")
    );
}

#[tokio::test]
async fn records_are_read_by_their_coordinates() {
    let bed = Bed::new(&[]).await;
    let read = bed
        .call(
            "read_records",
            json!({"topic": "orders", "partition": 2, "offset": 5, "count": 2}),
        )
        .await;
    let offsets: Vec<&Value> = read["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["offset"])
        .collect();
    assert_eq!(offsets, [5, 6]);
    assert_eq!(read["rows"][0]["key"], "k5");
    let gone = bed
        .call(
            "read_records",
            json!({"topic": "orders", "partition": 2, "offset": 500}),
        )
        .await;
    assert!(
        gone["error"].as_str().unwrap().contains("orders[2]"),
        "{gone}"
    );
    assert_eq!(gone["complete"], false);
}

#[tokio::test]
async fn what_changes_something_is_refused() {
    let bed = Bed::new(&[]).await;
    let reads = "only statements that read run here";
    for (sql, why) in [
        (
            "CREATE EXTERNAL TABLE x STORED AS KAFKA LOCATION 'orders'",
            reads,
        ),
        ("CREATE VIEW v AS SELECT 1", reads),
        ("DROP TABLE orders", reads),
        ("SET kafka.max.scan.records = 'none'", reads),
        ("COPY (SELECT 1) TO '/tmp/never.csv'", reads),
        ("INSERT INTO orders SELECT * FROM orders", reads),
        (
            "EXPLAIN ANALYZE INSERT INTO orders SELECT * FROM orders",
            reads,
        ),
        ("PREPARE p AS SELECT 1", reads),
        ("SELECT 1; SELECT 2", "single SQL statement"),
        (
            "SELECT * FROM kafka('orders', 'start', 'kafka.bootstrap.servers=elsewhere:9092')",
            "restricted session",
        ),
        (
            "SELECT * FROM kafka('orders', 'start', 'value.format=avro', 'value.schema.file=/etc/passwd')",
            "restricted session",
        ),
        ("SELECT * FROM '/etc/passwd'", "passwd"),
    ] {
        let answer = bed.call("query", json!({"sql": sql})).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{sql}: {answer}");
        assert_eq!(answer["complete"], false);
    }
}

#[tokio::test]
async fn what_is_masked_stays_masked() {
    let bed = Bed::new(&[
        ("mask", "orders.card, orders.key=hash, orders.headers"),
        ("mask.salt", "0123456789abcdef"),
    ])
    .await;
    let query = |sql: &str| ("query", json!({"sql": sql}));
    let read = json!({"topic": "orders", "partition": 0, "offset": 3});
    let search = json!({"topic": "orders", "regex": "t[a-z]+"});
    for ((tool, arguments), expected) in [
        (query("SELECT * FROM orders LIMIT 5"), "tea"),
        (
            query("SELECT * FROM kafka('orders', '-2', 'value.format=json')"),
            "tea",
        ),
        (
            query("SELECT kafka_text(value)->>'item', kafka_text(value)->>'card' FROM orders"),
            "tea",
        ),
        (
            query("SELECT card FROM kafka('orders', '-2', 'value.format=json', 'mask=')"),
            "error",
        ),
        (query("EXPLAIN ANALYZE SELECT value FROM orders"), "Kafka"),
        (("read_records", read), "tea"),
        (("describe_topic", json!({"topic": "orders"})), "card"),
        (("search", search), "tea"),
    ] {
        let result = bed.result(tool, arguments.clone()).await;
        let shown = serde_json::to_string(&result).unwrap();
        assert!(shown.contains(expected), "{arguments}: {shown}");
        let failed = expected == "error";
        assert_eq!(result.is_error, Some(failed), "{arguments}: {shown}");
        let keys = (0..50).map(|n| format!(r#""k{n}""#));
        let hidden = ["visa", r#""value":"x""#, "0123456789abcdef"].map(str::to_owned);
        for hidden in keys.chain(hidden) {
            assert!(!shown.contains(&hidden), "{arguments}: {hidden}: {shown}");
        }
    }
    let found = bed
        .call("search", json!({"topic": "orders", "contains": "visa"}))
        .await;
    assert_eq!(found["rows"], json!([]));
    assert_eq!(
        found["masked"],
        json!(["orders.card, orders.key=hash, orders.headers"])
    );
}
