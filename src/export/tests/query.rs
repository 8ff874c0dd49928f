use super::*;
use crate::client::memory::MemoryCluster;

async fn plan(sql: &str, partition_by: Option<&str>) -> Result<Query> {
    let cluster = MemoryCluster::new();
    cluster.create_topic("orders", 1)?;
    let client = Arc::new(cluster.client());
    let table = KafkaTable::builder_with_client(client).topic("orders");
    let table = table.build_lazy()?;
    let snapshot = Snapshot::default();
    let sql = Some(sql).filter(|sql| !sql.is_empty());
    Query::plan(
        "orders",
        &table,
        sql,
        partition_by,
        &snapshot,
        None,
        &Policy::default(),
    )
    .await
}

async fn names(sql: &str) -> Vec<String> {
    let query = plan(sql, None)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let fields = query.columns.schema.fields().iter();
    fields.map(|f| f.name().clone()).collect()
}

#[tokio::test]
async fn row_by_row_queries_are_taken() {
    assert_eq!(names("").await.len(), 9);
    assert_eq!(
        names(
            "SELECT partition, offset + 1 AS next, kafka_text(value) v FROM orders WHERE offset > 3"
        )
        .await,
        ["partition", "next", "v"]
    );
    names("WITH o AS (SELECT * FROM orders) SELECT o.offset FROM o WHERE key IS NULL").await;
    names("SELECT offset FROM (SELECT offset, value FROM orders) x WHERE length(value) > 1").await;
    names("SELECT offset, now() AS exported_at FROM orders").await;
    let unnested = plan("SELECT offset, unnest(headers) h FROM orders", None).await;
    assert!(unnested.unwrap().repeats);
}

#[tokio::test]
async fn queries_over_the_whole_are_refused_with_the_reason() {
    for (sql, reason) in [
        ("SELECT count(*) FROM orders", "aggregate"),
        (
            "SELECT key, max(offset) m FROM orders GROUP BY key",
            "aggregate",
        ),
        ("SELECT DISTINCT key FROM orders", "DISTINCT"),
        ("SELECT offset FROM orders ORDER BY offset", "ORDER BY"),
        ("SELECT offset FROM orders LIMIT 10", "LIMIT"),
        (
            "SELECT row_number() OVER (ORDER BY offset) n FROM orders",
            "window",
        ),
        (
            "SELECT a.offset FROM orders a JOIN orders b ON a.offset = b.offset",
            "join",
        ),
        (
            "SELECT offset FROM orders UNION ALL SELECT offset FROM orders",
            "UNION",
        ),
        (
            "SELECT offset FROM orders WHERE offset = (SELECT max(offset) FROM orders)",
            "subquery",
        ),
        (
            "SELECT offset FROM orders WHERE key IN (SELECT key FROM orders)",
            "subquery",
        ),
        (
            "SELECT offset, random() r FROM orders",
            "another value each time",
        ),
        ("SELECT 1 AS one", "must read the topic"),
        (
            "SELECT table_name FROM information_schema.tables",
            "the topic alone",
        ),
        ("CREATE VIEW v AS SELECT * FROM orders", "row by row"),
        ("SELECT offset, offset FROM orders", "offset"),
        ("SELECT NULL AS x FROM orders", "no type"),
        ("SELECT * FROM nosuch", "nosuch"),
        ("SELEC", "SELEC"),
    ] {
        let error = plan(sql, None).await.expect_err(sql).to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
}

#[tokio::test]
async fn offset_and_timestamp_are_followed_through_the_query() {
    let of = |query: Query| (query.columns.offset, query.columns.timestamp);
    assert_eq!(of(plan("", None).await.unwrap()), (Some(2), Some(3)));
    let sql = "SELECT v, o AS id FROM (SELECT offset AS o, value AS v FROM orders) x WHERE o > 1";
    assert_eq!(of(plan(sql, None).await.unwrap()), (Some(1), None));
    let sql = "SELECT offset + 0 AS offset, timestamp t FROM orders";
    assert_eq!(of(plan(sql, None).await.unwrap()), (None, Some(1)));
}

#[tokio::test]
async fn hive_folders_have_a_name() {
    let name = async |by: &str| {
        let planned = plan("", Some(by)).await;
        planned
            .map(|query| query.columns.folders.unwrap_or_default())
            .map_err(|e| e.to_string())
    };
    assert_eq!(name("date_trunc('day', timestamp)").await.unwrap(), "day");
    assert_eq!(name("d=date_trunc('day', timestamp)").await.unwrap(), "d");
    assert_eq!(name("timestamp_type").await.unwrap(), "timestamp_type");
    assert!(
        name("length(value)")
            .await
            .unwrap_err()
            .contains("give the folders a name")
    );
    assert!(
        name("key=length(value)")
            .await
            .unwrap_err()
            .contains("column 'key'")
    );
    assert!(name("n=count(*)").await.unwrap_err().contains("aggregate"));
    assert!(
        name("n=random()")
            .await
            .unwrap_err()
            .contains("another value")
    );
    assert!(
        name("n=headers")
            .await
            .unwrap_err()
            .contains("cannot name a folder")
    );
    assert!(name("n=nosuch").await.unwrap_err().contains("nosuch"));
}
