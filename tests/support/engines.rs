//! What the tests of all engines that execute plans on other machines share: a cluster in memory, and queries.

use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use datafusion_kafka::client::ClientPool;
use datafusion_kafka::client::memory::{MemoryCluster, Record};

pub const BROKERS: &str = "memory:9092";

/// Declares typed tables; the topics are there by their names too.
pub const TYPED: [&str; 2] = [
    "CREATE EXTERNAL TABLE o (id BIGINT, customer BIGINT, amount DOUBLE) STORED AS KAFKA LOCATION 'orders' \
     OPTIONS ('value.format' 'json')",
    "CREATE EXTERNAL TABLE c STORED AS KAFKA LOCATION 'customers' OPTIONS ('value.format' 'json')",
];

/// Rows go from worker to worker for this one.
pub const SHUFFLED: &str =
    "SELECT partition, count(*) FROM orders GROUP BY partition ORDER BY partition";

pub const QUERIES: [&str; 30] = [
    SHUFFLED,
    "SELECT key, partition, max(\"offset\") FROM orders GROUP BY key, partition ORDER BY partition, key",
    "SELECT id, sum(n) OVER (PARTITION BY customer ORDER BY id) AS s FROM (SELECT id, customer, row_number() OVER (PARTITION BY amount ORDER BY id) AS n FROM o)",
    "SELECT count(*) FROM orders",
    "SELECT * FROM orders",
    "SELECT partition, count(*), min(\"offset\"), max(\"offset\"), sum(octet_length(value)) FROM orders GROUP BY partition",
    "SELECT count(*) FROM empty",
    "SELECT count(*) FROM kafka('orders', '0=10:20,1=:5')",
    "SELECT count(*), min(timestamp) FROM kafka('orders', '@2023-11-14T22:20:00Z:@2023-11-14T22:25:00Z')",
    "SELECT * FROM orders WHERE \"offset\" BETWEEN 10 AND 20",
    "SELECT * FROM orders WHERE partition = 2 AND key = 'k8'",
    "SELECT * FROM orders WHERE timestamp > '2023-11-14T22:30:00Z'",
    "SELECT partition, \"offset\" FROM orders ORDER BY \"offset\" DESC, partition LIMIT 10",
    "SELECT \"offset\" FROM kafka('orders', '1=:') ORDER BY \"offset\" DESC LIMIT 7",
    "SELECT partition, \"offset\" FROM orders ORDER BY partition, \"offset\" LIMIT 20",
    "SELECT count(*) FROM (SELECT * FROM orders LIMIT 33)",
    "SELECT customer, count(*), sum(amount), avg(amount) FROM o GROUP BY customer ORDER BY customer",
    "SELECT c.name, sum(o.amount) FROM o JOIN c ON o.customer = c.id GROUP BY c.name ORDER BY c.name",
    "SELECT c.name, o.id FROM c LEFT JOIN o ON o.customer = c.id AND o.id < 20",
    "SELECT count(*) FROM o a JOIN o b ON a.id = b.id",
    "SELECT count(*) FROM o WHERE customer IN (SELECT id FROM c WHERE name < 'c5')",
    "SELECT count(*) FROM o WHERE NOT EXISTS (SELECT 1 FROM c WHERE c.id = o.customer + 10)",
    "SELECT id, row_number() OVER (PARTITION BY customer ORDER BY id) AS n FROM o WHERE id < 100",
    "SELECT max(running) FROM (SELECT sum(amount) OVER (ORDER BY id) AS running FROM o)",
    "SELECT partition FROM orders UNION SELECT partition FROM customers",
    "SELECT count(*) FROM (SELECT key FROM orders UNION ALL SELECT key FROM customers)",
    "SELECT (SELECT count(*) FROM customers) AS c, count(*) FROM orders",
    "WITH big AS (SELECT customer, sum(amount) s FROM o GROUP BY customer) SELECT * FROM big WHERE s > (SELECT avg(s) FROM big)",
    "SELECT kafka_text(key), json_get_int(kafka_text(value), 'id') FROM orders WHERE partition = 4",
    "SELECT approx_distinct(key), count(DISTINCT key) FROM orders",
];

/// A cluster of three brokers.
pub fn brokers() -> MemoryCluster {
    // A second one of the same is the same cluster.
    MemoryCluster::builder()
        .racks(["a", "b", "c"])
        .seed(7)
        .build()
}

/// Topics `orders` of six partitions, `customers` of two and `empty` of three.
pub fn cluster() -> MemoryCluster {
    let cluster = brokers();
    cluster.create_topic("orders", 6).unwrap();
    cluster.create_topic("customers", 2).unwrap();
    cluster.create_topic("empty", 3).unwrap();
    let mut transaction = cluster.begin();
    transaction
        .append("orders", 3, Record::new("aborted"))
        .unwrap();
    transaction.abort().unwrap();
    for n in 0..1200_i64 {
        // Partitions of very different sizes; 3 has nothing that is read.
        let partition = if n % 3 == 0 { 0 } else { (n % 6) as i32 };
        let value = format!(
            r#"{{"id": {n}, "customer": {}, "amount": {}}}"#,
            n % 17,
            n % 101
        );
        let record = Record::new(value)
            .with_key(format!("k{}", n % 40))
            .with_timestamp_ms(1_700_000_000_000 + n * 1000);
        cluster.append("orders", partition, record).unwrap();
    }
    for n in 0..17 {
        let value = format!(r#"{{"id": {n}, "name": "c{n}"}}"#);
        let record = Record::new(value).with_key(format!("{n}"));
        cluster.append("customers", n % 2, record).unwrap();
    }
    cluster
}

/// Clients of the cluster.
pub fn pool(cluster: &MemoryCluster) -> ClientPool {
    let cluster = cluster.clone();
    ClientPool::with_factory(move |_| Ok(Arc::new(cluster.client())))
}

/// The rows of a statement, sorted unless the statement sorts them.
pub async fn rows(session: &SessionContext, sql: &str) -> datafusion_kafka::Result<Vec<String>> {
    let failed =
        |error: datafusion::error::DataFusionError| match datafusion_kafka::Error::find(&error) {
            Some(found) => found.clone(),
            None => panic!("{sql}: {error}"),
        };
    let frame = datafusion_kafka::statement::sql(session, sql)
        .await
        .unwrap();
    let batches = frame.collect().await.map_err(failed)?;
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    let end = sql.rsplit(')').next().unwrap_or_default();
    if !end.contains("ORDER BY") {
        rows.sort();
    }
    Ok(rows)
}
