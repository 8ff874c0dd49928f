//! What is refused: whatever writes, reaches elsewhere, or changes how the cluster is reached.

use super::*;

#[tokio::test]
async fn nothing_writes_or_reaches_elsewhere() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let target = served.folder.path().join("out.csv");
    let target = target.display();
    for (sql, code) in [
        ("INSERT INTO orders (value) VALUES ('x')".to_owned(), "25006"),
        ("INSERT INTO few SELECT * FROM few".to_owned(), "25006"),
        ("UPDATE orders SET value = NULL".to_owned(), "25006"),
        ("DELETE FROM orders".to_owned(), "25006"),
        ("CREATE TABLE t AS SELECT 1".to_owned(), "25006"),
        ("SELECT 1 AS a INTO t".to_owned(), "42000"),
        ("CREATE VIEW v AS SELECT 1".to_owned(), "25006"),
        ("DROP VIEW cheap".to_owned(), "25006"),
        ("DROP TABLE few".to_owned(), "25006"),
        (format!("COPY orders TO '{target}'"), "42501"),
        (format!("COPY (SELECT 1) TO '{target}' STORED AS CSV"), "42601"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(), "42601"),
        (
            "SELECT * FROM kafka('orders', 'start', 'kafka.bootstrap.servers=evil:9092')".to_owned(),
            "22023",
        ),
        (
            "SELECT * FROM kafka('typed', 'start', 'value.format=avro', 'value.schema.file=/etc/passwd')".to_owned(),
            "22023",
        ),
        ("SET kafka.max.scan.records = 'none'".to_owned(), "42501"),
        ("SET datafusion.catalog.location = '/'".to_owned(), "42501"),
        ("SET ROLE admin".to_owned(), "42501"),
        ("EXPLAIN ANALYZE INSERT INTO few SELECT * FROM few".to_owned(), "25006"),
        ("SELECT 1; DROP TABLE few".to_owned(), "25006"),
    ] {
        let (found, message) = ada.failure(&sql).await;
        assert_eq!(found, code, "{sql}: {message}");
        // Statements that are prepared are refused as well, then or when they run.
        let refused = match ada.prepare(&sql).await {
            Err(error) => error,
            Ok(prepared) => match ada.query(&prepared, &[]).await {
                Err(error) => error,
                Ok(_) => panic!("{sql}: it has worked"),
            },
        };
        let (found, message) = failure(&refused);
        let several = sql.contains("; ");
        assert!(found == code || several, "{sql}: {found} {message}");
    }
    assert!(!served.folder.path().join("out.csv").exists());
    assert_eq!(ada.value("SELECT count(*) FROM orders").await, "190");
    assert_eq!(ada.value("SELECT count(*) FROM few").await, "3");
}
