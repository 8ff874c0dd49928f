//! Brokers that are down, refuse, or die during a scan.

use std::time::{Duration, Instant};

use datafusion_kafka::config::ConnectionConfig;
use datafusion_kafka::{Error, ErrorKind};
use futures::StreamExt;

use super::{error, rows, session_with};
use crate::support::produce::{self, Fill};
use crate::support::{KafkaOptions, KafkaServer, admin};

/// The promise to users: an error within 15 s.
const LIMIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_is_down_is_named_in_time() {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        free.local_addr().expect("an address").port()
    };
    let hosts = format!("127.0.0.1:{port}");
    let context = session_with(ConnectionConfig::new(&hosts));
    let begun = Instant::now();
    let found = error(&context, "SELECT * FROM orders").await;
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert_eq!(found.kind(), ErrorKind::Connection);
    let text = found.to_string();
    assert!(text.contains(&hosts) && text.contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn host_without_a_name_is_told() {
    let context = session_with(ConnectionConfig::new("no-such-host.invalid:9092"));
    let begun = Instant::now();
    let found = error(&context, "SELECT * FROM orders").await;
    assert!(
        begun.elapsed() < LIMIT + Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(found.kind(), ErrorKind::Connection);
    assert!(
        found.to_string().contains("no-such-host.invalid"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_never_answers_is_reported_in_time() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hosts = deaf.local_addr().expect("an address").to_string();
    let context = session_with(ConnectionConfig::new(&hosts));
    let begun = Instant::now();
    let found = error(&context, "SELECT * FROM orders").await;
    assert!(
        begun.elapsed() < LIMIT + Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(found.kind(), ErrorKind::Connection);
    assert!(found.to_string().contains(&hosts), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_killed_in_mid_scan_and_started_again_gives_the_exact_result() {
    let mut server = KafkaServer::start(KafkaOptions::default());
    admin::create_topic(server.bootstrap(), "big", 2, &[]);
    let fill = Fill {
        records: 400_000,
        partitions: 2,
        value_bytes: 200,
        settings: &[("enable.idempotence", "true")],
    };
    produce::fill(server.bootstrap(), "big", fill);
    let mut config = ConnectionConfig::new(server.bootstrap());
    // Makes sure that most of the range is still unread when the broker is killed.
    config.set("read.buffer.bytes", "1000000").expect("valid");
    let context = session_with(config);
    let frame = context
        .sql("SELECT partition, offset, value FROM big")
        .await
        .expect("planned");
    let mut stream = frame.execute_stream().await.expect("started");
    let mut seen = [0i64; 2];
    let mut killed = false;
    let mut total = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.expect("the scan goes on after the restart");
        let partitions =
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column(0));
        let offsets =
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(1));
        for row in 0..batch.num_rows() {
            let partition = usize::try_from(partitions.value(row)).expect("0 or 1");
            assert_eq!(offsets.value(row), seen[partition], "order without gaps");
            seen[partition] += 1;
        }
        total += batch.num_rows();
        if !killed && total > 20_000 {
            killed = true;
            server.kill();
            server.restart();
        }
    }
    assert!(killed);
    assert_eq!(seen, [200_000, 200_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_stays_away_fails_clearly_and_never_short() {
    let mut server = KafkaServer::start(KafkaOptions::default());
    admin::create_topic(server.bootstrap(), "big", 1, &[]);
    let fill = Fill {
        records: 200_000,
        partitions: 1,
        value_bytes: 200,
        settings: &[],
    };
    produce::fill(server.bootstrap(), "big", fill);
    let mut config = ConnectionConfig::new(server.bootstrap());
    config.set("read.buffer.bytes", "1000000").expect("valid");
    config.set("read.timeout.ms", "3000").expect("valid");
    let context = session_with(config);
    let frame = context
        .sql("SELECT offset, value FROM big")
        .await
        .expect("planned");
    let mut stream = frame.execute_stream().await.expect("started");
    stream.next().await.expect("a batch").expect("rows");
    server.kill();
    let begun = Instant::now();
    let failed = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the result ended short"),
        }
    };
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let found = Error::find(&failed).expect("an error of ours");
    assert_eq!(found.kind(), ErrorKind::Connection, "{found}");
    assert!(found.to_string().starts_with("big[0]@"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_stream_frees_its_session() {
    let topic = super::topic(1);
    let bootstrap = crate::support::shared().bootstrap();
    let fill = Fill {
        records: 300_000,
        partitions: 1,
        value_bytes: 100,
        settings: &[],
    };
    produce::fill(bootstrap, &topic, fill);
    let mut config = ConnectionConfig::new(bootstrap);
    config.set("client.sessions.max", "1").expect("valid");
    let context = session_with(config);
    let sql = format!("SELECT value FROM \"{topic}\"");
    let frame = context.sql(&sql).await.expect("planned");
    let mut stream = frame.execute_stream().await.expect("started");
    stream.next().await.expect("a batch").expect("rows");
    drop(stream);
    let begun = Instant::now();
    let sql = format!("SELECT count(*) FROM kafka('{topic}', '0:10')");
    assert_eq!(rows(&context, &sql).await, ["10"]);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}
