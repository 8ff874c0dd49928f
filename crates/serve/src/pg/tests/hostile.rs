//! Clients that mean harm, or take more than their share.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A startup message of `ada`.
const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0ada\0\0";

/// What the port says to these bytes before it closes the connection.
async fn said_to(served: &Served, bytes: &[&[u8]]) -> String {
    let mut tcp = TcpStream::connect(served.port.address()).await.unwrap();
    for bytes in bytes {
        // It may be closed already.
        let _ = tcp.write_all(bytes).await;
    }
    let mut said = vec![];
    let read = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut said)).await;
    let _ = read.expect("it is disconnected");
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn before_the_login_there_is_only_the_login() {
    let served = serve("", "").await;
    let query = b"Q\0\0\0\x0dSELECT 1\0";
    let said = said_to(&served, &[STARTUP, query]).await;
    assert!(said.contains("log in first"), "{said}");
    let long = [&b"Q\0\x10\0\0"[..], &vec![b'x'; 1 << 20]].concat();
    let said = said_to(&served, &[STARTUP, &long]).await;
    assert!(said.contains("a message has more than 16 KiB"), "{said}");
    // A Parse message that ends before the number of its parameters.
    said_to(&served, &[STARTUP, b"P\0\0\0\x06\0\0"]).await;
    assert_eq!(served.ada().await.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn bound_statements_are_bounded() {
    let served = serve("", "").await;
    let mut ada = served.ada().await;
    let transaction = ada.client.transaction().await.unwrap();
    let statement = transaction.prepare("SELECT $1::text").await.unwrap();
    let text = "x".repeat(1 << 20);
    let mut bound = vec![];
    let error = loop {
        match transaction.bind(&statement, &[&text]).await {
            Ok(portal) => bound.push(portal),
            Err(error) => break error,
        }
    };
    let (code, message) = failure(&error);
    assert_eq!((code.as_str(), bound.len()), ("53000", 31));
    assert!(
        message.contains("32 MiB of statements and parameters"),
        "{message}"
    );
    transaction.rollback().await.unwrap();
    drop(bound);

    let transaction = ada.client.transaction().await.unwrap();
    let mut bound = vec![];
    let error = loop {
        match transaction.bind(&statement, &[&"x"]).await {
            Ok(portal) => bound.push(portal),
            Err(error) => break error,
        }
    };
    assert_eq!((failure(&error).0.as_str(), bound.len()), ("53000", 100));
}

#[tokio::test]
async fn cursors_of_a_connection_take_half_of_the_places() {
    let served = serve("max_statements = 4", "").await;
    let (ada, bob) = (served.ada().await, served.connect("bob").await.unwrap());
    ada.rows("BEGIN; DECLARE a CURSOR FOR SELECT * FROM orders; DECLARE b CURSOR FOR SELECT * FROM orders")
        .await
        .unwrap();
    let (code, message) = ada
        .failure("DECLARE c CURSOR FOR SELECT * FROM orders")
        .await;
    assert_eq!(code, "53000");
    assert!(message.contains("may have 2 open cursors"), "{message}");
    assert_eq!(bob.value("SELECT 2").await, "2");
}

#[tokio::test]
async fn a_cursor_that_is_not_read_is_closed_whatever_else_the_client_does() {
    let served = serve("max_statements = 2\nstalled_timeout = \"300ms\"", "").await;
    let ada = served.ada().await;
    ada.rows("BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders")
        .await
        .unwrap();
    until("it is closed", async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        ada.value("SHOW timezone").await;
        served.port.shared.places.available_permits() == 2
    })
    .await;
    assert_eq!(ada.failure("FETCH 1 FROM c").await.0, "34000");
}

#[tokio::test]
async fn a_budget_of_time_holds_for_all_work() {
    let served = serve("", "max_scan_time = \"100ms\"").await;
    let ada = served.ada().await;
    let endless = "SELECT count(*) FROM generate_series(1, 1000000000000)";
    let (code, message) = ada.failure(endless).await;
    assert_eq!(code, "53400");
    assert!(
        message.contains("longer than max_scan_time = 100ms"),
        "{message}"
    );
}

#[tokio::test]
async fn tables_over_files_are_refused_as_the_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("t.csv");
    std::fs::write(&csv, "a\n1\n").unwrap();
    let catalog = format!(
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'",
        csv.display()
    );
    let error = try_serve(&catalog, "", "").await.err().unwrap();
    assert!(
        error
            .message
            .contains("the table t: sessions of clients cannot read it"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_cluster_that_is_down_is_asked_for_its_topics_once() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let asked = || served.cluster.stats().describes;
    let before = asked();
    let down = datafusion_kafka::Error::invalid("down");
    served.cluster.fail_next(Call::Describe, down);
    for _ in 0..3 {
        let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
        let tables = ada.rows(sql).await.unwrap();
        assert!(tables.contains(&"few".to_owned()), "{tables:?}");
        assert!(!tables.contains(&"orders".to_owned()), "{tables:?}");
        assert_eq!(asked(), before + 1);
    }
}
