//! Queries on bad networks: `docs/faults.md`.

use std::sync::Arc;
use std::time::Duration;

use super::proxied::{bed, outcome, session};
use crate::support::documented::documented;
use crate::support::proxy::{Proxy, Weather};

/// What queries here wait for at most.
const LIMITS: [(&str, &str); 2] = [("request.timeout.ms", "4000"), ("read.timeout.ms", "3000")];
/// The same where nothing is lost: a machine that is busy may be late itself.
const PATIENCE: [(&str, &str); 2] = [
    ("request.timeout.ms", "15000"),
    ("read.timeout.ms", "10000"),
];
/// Small pieces, so that much is still to come when the fault begins.
const PIECES: [(&str, &str); 2] = [
    ("fetch.message.max.bytes", "100000"),
    ("read.buffer.bytes", "100000"),
];

documented!(
    "faults.md",
    "Networks",
    [
        "wire, begins",
        "wire, goes on",
        "librdkafka, begins",
        "librdkafka, goes on"
    ],
    [
        latency_of_200_ms,
        record_batch_that_takes_longer_than_read_timeout,
        silent_for_a_second,
        each_connection_ends_after_150_kb,
        accepts_and_closes_for_good,
    ],
    slow [
        slow_link,
        silent_for_good,
        nothing_listens_for_eight_seconds,
        nothing_listens_any_more,
        half_open_connections,
    ]
);

/// What comes of a query that begins when the fault is there, or reads when it comes, as the column says.
async fn query(column: &str, settings: &[(&str, &str)], fault: impl FnOnce(&Arc<Proxy>)) -> String {
    let (client, when) = column.split_once(", ").expect("a client, and when");
    let (bed, way) = (bed(), bed().way());
    let settings = [&[("kafka.client", client)], settings].concat();
    let context = session(&way.address(), &settings);
    match when {
        "begins" => {
            fault(&way);
            outcome(&context, &bed.usual, || {}).await
        }
        _ => outcome(&context, &bed.usual, || fault(&way)).await,
    }
}

fn patience() -> Vec<(&'static str, &'static str)> {
    [PATIENCE, PIECES].concat()
}

fn limits() -> Vec<(&'static str, &'static str)> {
    [LIMITS, PIECES].concat()
}

const SECOND: Duration = Duration::from_secs(1);

async fn latency_of_200_ms(column: &str) -> String {
    let late = Weather::Late(Duration::from_millis(200));
    query(column, &patience(), |proxy| proxy.weather(late)).await
}

async fn slow_link(column: &str) -> String {
    // Two megabytes, in twice the time that a read may go without progress.
    query(column, &limits(), |proxy| {
        proxy.weather(Weather::Narrow(330_000))
    })
    .await
}

async fn record_batch_that_takes_longer_than_read_timeout(column: &str) -> String {
    let (client, _) = column.split_once(", ").expect("a client, and when");
    let way = bed().way();
    way.weather(Weather::Narrow(200_000));
    let settings = [&[("kafka.client", client)], &LIMITS[..]].concat();
    outcome(&session(&way.address(), &settings), &bed().large, || {}).await
}

async fn silent_for_a_second(column: &str) -> String {
    query(column, &patience(), |proxy| {
        proxy.weather_for(SECOND, Weather::Silent)
    })
    .await
}

async fn silent_for_good(column: &str) -> String {
    query(column, &limits(), |proxy| proxy.weather(Weather::Silent)).await
}

async fn each_connection_ends_after_150_kb(column: &str) -> String {
    query(column, &patience(), |proxy| proxy.lasts(150_000)).await
}

async fn accepts_and_closes_for_good(column: &str) -> String {
    query(column, &limits(), |proxy| proxy.weather(Weather::Closes)).await
}

async fn nothing_listens_for_eight_seconds(column: &str) -> String {
    let settings = [&PIECES[..], &[("request.timeout.ms", "4000")]].concat();
    query(column, &settings, |proxy| {
        proxy.weather_for(8 * SECOND, Weather::Refuses);
    })
    .await
}

async fn nothing_listens_any_more(column: &str) -> String {
    query(column, &limits(), |proxy| proxy.weather(Weather::Refuses)).await
}

/// The other side is gone without a word, as behind a firewall that has forgotten the connection. A
/// statement that begins then has the connections of the one before.
async fn half_open_connections(column: &str) -> String {
    let (client, when) = column.split_once(", ").expect("a client, and when");
    let settings = [&[("kafka.client", client)], &PIECES[..]].concat();
    let way = bed().way();
    let context = session(&way.address(), &settings);
    if when == "begins" {
        assert_eq!(outcome(&context, &bed().usual, || {}).await, "exact");
        way.strand();
        return outcome(&context, &bed().usual, || {}).await;
    }
    outcome(&context, &bed().usual, || way.strand()).await
}
