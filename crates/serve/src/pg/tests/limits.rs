//! Budgets, cancelling, places, deadlines.

use futures::{StreamExt, pin_mut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const ENDLESS: &str = "SELECT value, repeat('x', 100) FROM generate_series(1, 1000000000000)";

#[tokio::test]
async fn each_user_has_a_budget() {
    let served = serve("", "max_scan_records = 50").await;
    let ada = served.ada().await;
    let (code, message) = ada.failure("SELECT count(*) FROM orders").await;
    assert_eq!(code, "53400");
    assert!(
        message.contains("'max.scan.records' allows 50"),
        "{message}"
    );
    assert_eq!(ada.value("SELECT count(*) FROM few").await, "3");
    let bob = served.connect("bob").await.unwrap();
    assert_eq!(bob.value("SELECT count(*) FROM orders").await, "190");
}

#[tokio::test]
async fn a_result_that_a_budget_cuts_ends_with_an_error() {
    let served = serve("", "max_scan_time = \"1s\"").await;
    let ada = served.ada().await;
    // Rows of the other partition come, and then none.
    served.cluster.stall("orders", 0);
    let sql = "SELECT offset FROM orders";
    let rows = ada.simple_query_raw(sql).await.unwrap();
    pin_mut!(rows);
    let mut found = 0;
    let error = loop {
        match rows.next().await {
            Some(Ok(SimpleQueryMessage::Row(_))) => found += 1,
            Some(Ok(SimpleQueryMessage::CommandComplete(_))) | None => {
                panic!("it has ended after {found} rows")
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
        }
    };
    assert!(found <= 100, "{found}");
    let (code, message) = failure(&error);
    assert_eq!(code, "53400");
    assert!(message.contains("are not the whole result"), "{message}");
}

#[tokio::test]
async fn a_cancel_request_ends_the_statement_and_not_the_connection() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    let cancel = ada.cancel_token();
    served.cluster.stall("orders", 0);
    let (answer, ()) = tokio::join!(ada.failure("SELECT count(*) FROM orders"), async {
        // As soon as it reads.
        until("it reads", async || served.cluster.stats().fetches > 0).await;
        cancel.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(
        answer,
        (
            "57014".into(),
            "canceling statement due to user request".into()
        )
    );
    served.cluster.resume("orders", 0);
    assert_eq!(ada.value("SELECT count(*) FROM orders").await, "190");

    // While rows are sent, in both protocols.
    let rows = ada.simple_query_raw(ENDLESS).await.unwrap();
    pin_mut!(rows);
    let mut seen = 0;
    let error = loop {
        match rows.next().await.expect("it has no end") {
            Ok(_) => seen += 1,
            Err(error) => break error,
        }
        if seen == 1000 {
            cancel.cancel_query(NoTls).await.unwrap();
        }
    };
    assert_eq!(failure(&error).0, "57014");
    let rows = ada
        .query_raw(ENDLESS, std::iter::empty::<i32>())
        .await
        .unwrap();
    pin_mut!(rows);
    rows.next().await.unwrap().unwrap();
    cancel.cancel_query(NoTls).await.unwrap();
    let error = loop {
        if let Err(error) = rows.next().await.expect("it has no end") {
            break error;
        }
    };
    assert_eq!(failure(&error).0, "57014");
    assert_eq!(ada.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn statements_have_timeouts() {
    let served = serve("", "").await;
    let ada = served.ada().await;
    served.cluster.stall("orders", 0);
    ada.rows("SET statement_timeout = '50ms'").await.unwrap();
    assert_eq!(
        ada.failure("SELECT count(*) FROM orders").await,
        (
            "57014".into(),
            "canceling statement due to statement timeout".into()
        )
    );
    ada.rows("RESET statement_timeout").await.unwrap();
    assert_eq!(ada.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn statements_wait_for_their_turn() {
    let served = serve("max_statements = 1\nmax_queued = 1", "").await;
    let (first, second, third) = (served.ada().await, served.ada().await, served.ada().await);
    served.cluster.stall("orders", 0);
    let slow = first.value("SELECT count(*) FROM orders");
    let waiting = second.value("SELECT 2");
    let refused = async {
        until("one runs", async || served.cluster.stats().fetches > 0).await;
        // One runs, one waits, as soon as it has come.
        until("one waits", async || {
            third.failure("SELECT 3").await.0 == "53000"
        })
        .await;
        served.cluster.resume("orders", 0);
    };
    let (slow, waiting, ()) = tokio::join!(slow, waiting, refused);
    assert_eq!((slow.as_str(), waiting.as_str()), ("190", "2"));
    assert_eq!(third.value("SELECT 3").await, "3");
}

#[tokio::test]
async fn the_wait_has_an_end() {
    let served = serve("max_statements = 1\nqueue_timeout = \"50ms\"", "").await;
    let (first, second) = (served.ada().await, served.ada().await);
    served.cluster.stall("orders", 0);
    let slow = tokio::spawn(async move { first.rows("SELECT count(*) FROM orders").await.is_ok() });
    until("one runs", async || served.cluster.stats().fetches > 0).await;
    let (code, message) = second.failure("SELECT 2").await;
    assert_eq!(code, "53000");
    assert!(
        message.starts_with("waited 0 s for the end of one of the 1 statements"),
        "{message}"
    );
    served.cluster.resume("orders", 0);
    assert!(slow.await.unwrap());
}

#[tokio::test]
async fn a_client_that_goes_ends_its_statement() {
    let served = serve("max_statements = 1", "").await;
    let (first, second) = (served.ada().await, served.ada().await);
    served.cluster.stall("orders", 0);
    let slow = tokio::spawn(async move { first.rows("SELECT count(*) FROM orders").await.is_ok() });
    until("one runs", async || served.cluster.stats().fetches > 0).await;
    // The client and its connection are dropped, in mid-statement.
    slow.abort();
    assert_eq!(second.value("SELECT 2").await, "2");
    // It did not fail by itself before.
    assert_eq!(served.metric("statements_total{result=\"ended\"}"), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_ends_its_statement() {
    let served = serve("max_statements = 1\nstalled_timeout = \"200ms\"", "").await;
    let (client, connection) = served.config("ada").connect(NoTls).await.unwrap();
    // The connection is read until the statement runs, and then no more.
    let (stop, stopped) = oneshot::channel::<()>();
    let reading = tokio::spawn(async move {
        tokio::pin!(connection);
        tokio::select! {
            _ = &mut connection => None,
            _ = stopped => Some(()),
        }?;
        // It stays open.
        tokio::time::sleep(PATIENCE).await;
        Some(())
    });
    let rows = client.simple_query_raw(ENDLESS).await.unwrap();
    pin_mut!(rows);
    rows.next().await.unwrap().unwrap();
    let second = served.ada().await;
    stop.send(()).unwrap();
    assert_eq!(second.value("SELECT 2").await, "2");
    reading.abort();
}

#[tokio::test]
async fn connections_are_counted() {
    let served = serve("max_connections = 2", "").await;
    let (first, _second) = (served.ada().await, served.ada().await);
    let refused = served.connect("ada").await.err().unwrap();
    assert_eq!(
        failure(&refused),
        (
            "53300".into(),
            "there are 2 connections already: try again later".into()
        )
    );
    drop(first);
    until("a place is free", async || {
        served.connect("ada").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn who_does_not_log_in_is_disconnected() {
    let served = serve("login_timeout = \"100ms\"\nmax_connections = 3", "").await;
    let connect = async || TcpStream::connect(served.port.address()).await.unwrap();
    let mut silent = connect().await;
    let mut asks_for_tls = connect().await;
    asks_for_tls
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    let mut half = connect().await;
    half.write_all(&[0, 0, 0, 50, 0, 3, 0, 0, b'u'])
        .await
        .unwrap();
    for tcp in [&mut silent, &mut asks_for_tls, &mut half] {
        let mut said = vec![];
        let read = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut said)).await;
        let _ = read.expect("it is disconnected");
        assert!(matches!(&said[..], b"" | b"N"), "{said:?}");
    }
    served.ada().await;
}

#[tokio::test]
async fn strangers_keep_out_no_user() {
    let served = serve("max_connections = 20", "").await;
    let address = served.port.address();
    // They come again as soon as they are disconnected.
    let strangers = (0..50).map(|_| {
        tokio::spawn(async move {
            loop {
                let mut tcp = TcpStream::connect(address).await.unwrap();
                let _ = tcp.read_to_end(&mut vec![]).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        })
    });
    let strangers: Vec<_> = strangers.collect();
    until("they have come", async || {
        served.metric("logins_total{result=\"refused\"}") >= 30
    })
    .await;
    // Each logs in the first time.
    let mut users = vec![];
    while users.len() < 20 {
        users.push(served.ada().await);
    }
    let refused = served.connect("ada").await.err().unwrap();
    assert_eq!(failure(&refused).0, "53300");
    assert!(users.iter().all(|user| !user.is_closed()));
    for stranger in strangers {
        stranger.abort();
    }
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection() {
    let served = serve("", "").await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0, 0, 0, 4],
        &[0xff; 64],
        &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5],
        &[0, 0, 0, 8, 0, 9, 0, 0],
    ] {
        let mut tcp = TcpStream::connect(served.port.address()).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut said = vec![];
        let read = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut said)).await;
        let _ = read.unwrap_or_else(|_| panic!("{bytes:?}"));
    }
    served.ada().await;
}

#[tokio::test]
async fn idle_connections_are_told_and_closed() {
    let served = serve("idle_timeout = \"100ms\"", "").await;
    let (client, connection) = served.config("ada").connect(NoTls).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, connection).await.unwrap();
    assert_eq!(
        failure(&ended.unwrap_err()),
        (
            "57P05".into(),
            "terminating connection due to idle-session timeout".into()
        )
    );
    drop(client);
}

#[tokio::test]
async fn an_open_cursor_does_not_keep_its_place_for_ever() {
    let served = serve("max_statements = 1\nstalled_timeout = \"100ms\"", "").await;
    let ada = served.ada().await;
    ada.rows("BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders; FETCH 1 FROM c")
        .await
        .unwrap();
    let bob = served.connect("bob").await.unwrap();
    assert_eq!(bob.value("SELECT 2").await, "2");
    until("it is disconnected", async || ada.is_closed()).await;

    // One that has been read to its end has none.
    let served = serve("max_statements = 1", "").await;
    let (ada, bob) = (served.ada().await, served.connect("bob").await.unwrap());
    ada.rows("BEGIN; DECLARE c CURSOR FOR SELECT * FROM few; FETCH ALL FROM c")
        .await
        .unwrap();
    assert_eq!(bob.value("SELECT 2").await, "2");
    assert_eq!(ada.rows("FETCH ALL FROM c").await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_end_of_the_service_is_told() {
    let served = serve("", "").await;
    let (_idle, idle) = served.config("ada").connect(NoTls).await.unwrap();
    let busy = served.ada().await;
    served.cluster.stall("orders", 0);
    let statement =
        tokio::spawn(async move { busy.failure("SELECT count(*) FROM orders").await.0 });
    until("one runs", async || served.cluster.stats().fetches > 0).await;
    served.end().await;
    assert_eq!(failure(&idle.await.unwrap_err()).0, "57P01");
    assert_eq!(statement.await.unwrap(), "57P01");
}
