//! Token endpoints that fail, and logins that end in mid-read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use datafusion::prelude::SessionConfig;
use datafusion_kafka::Error;
use datafusion_kafka::session::KafkaSessionBuilder;
use futures::StreamExt;

use super::identity::Answer;
use super::{Bed, Settings, config, outcome, read, settings};
use crate::support::documented::documented;
use crate::support::produce::{Fill, fill};
use crate::support::{KafkaServer, Listener, Login, PASSWORD, admin};

documented!(
    "security.md",
    "Token endpoints",
    ["wire", "librdkafka"],
    [
        a_token_without_expires_in,
        late_by_a_second,
        status_500_twice,
        status_500_always,
        status_401,
        nobody_listens,
        not_json,
        a_redirect,
        a_token_that_has_expired,
        a_token_for_another_audience,
        a_foreign_authority,
        tokens_that_end_in_mid_read,
        logins_of_plain_that_end_in_mid_read,
    ],
    slow[never_answers]
);

/// Reads with tokens of an endpoint that answers so. What happens is told in few words; secrets are in no message.
async fn tried(client: &str, answers: &[Answer], lifetime_s: u64, more: &[(&str, &str)]) -> String {
    let bed = Bed::shared();
    let endpoint = bed.identity.endpoint(answers, lifetime_s);
    let all = with(bed, client, &endpoint.url, more);
    let found = read(config(&all).expect("known settings"), &bed.topic).await;
    if let Err(error) = &found {
        let text = format!("{error} {error:?}");
        assert!(!bed.identity.is_leaked_in(&text), "{text}");
        assert!(!text.contains(OTHER_SECRET), "{text}");
        assert!(
            text.contains("127.0.0.1"),
            "names neither broker nor endpoint: {text}"
        );
    }
    outcome(
        found,
        &[
            ("it answers 401", "client refused"),
            ("it answers 500", "no token: 500"),
            ("redirects are not followed", "no token: redirect"),
            ("the answer has no 'access_token'", "no token: not one"),
            ("Connection refused", "no token: nobody listens"),
            ("no answer within 3750 ms", "no token: no answer"),
            ("the token has expired already", "no token: expired"),
            (
                "'https.ca.location' names a file",
                "no token: unknown authority",
            ),
            ("invalid_token", "token refused"),
        ],
    )
}

fn with(bed: &Bed, client: &str, url: &str, more: &[(&str, &str)]) -> Settings {
    let mut all = bed.credentials(url);
    all.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
    all.push(("kafka.client".to_owned(), client.to_owned()));
    all.extend(settings(more.iter().copied()));
    all
}

async fn a_token_without_expires_in(client: &str) -> String {
    tried(client, &[Answer::WithoutLifetime], 3600, &[]).await
}

async fn late_by_a_second(client: &str) -> String {
    tried(client, &[Answer::Late(1000)], 3600, &[]).await
}

async fn status_500_twice(client: &str) -> String {
    let answers = [Answer::Status(500), Answer::Status(500), Answer::Token];
    tried(client, &answers, 3600, &[]).await
}

async fn status_500_always(client: &str) -> String {
    let more = [("request.timeout.ms", "5000")];
    tried(client, &[Answer::Status(500)], 3600, &more).await
}

async fn status_401(client: &str) -> String {
    let more = [("sasl.oauthbearer.client.secret", OTHER_SECRET)];
    tried(client, &[], 3600, &more).await
}

async fn nobody_listens(client: &str) -> String {
    let url = format!("http://127.0.0.1:{}/token", closed_port());
    let more = [
        ("sasl.oauthbearer.token.endpoint.url", url.as_str()),
        ("request.timeout.ms", "5000"),
    ];
    tried(client, &[], 3600, &more).await
}

async fn not_json(client: &str) -> String {
    tried(client, &[Answer::NotJson], 3600, &[]).await
}

async fn a_redirect(client: &str) -> String {
    tried(client, &[Answer::Redirect], 3600, &[]).await
}

async fn a_token_that_has_expired(client: &str) -> String {
    let more = [("request.timeout.ms", "5000")];
    tried(client, &[Answer::Expired], 3600, &more).await
}

async fn a_token_for_another_audience(client: &str) -> String {
    tried(client, &[Answer::OtherAudience], 3600, &[]).await
}

async fn a_foreign_authority(client: &str) -> String {
    let bed = Bed::shared();
    let foreign = bed.path("foreign.pem");
    let url = format!("{}/token/0", bed.behind_tls);
    let more = [
        ("sasl.oauthbearer.token.endpoint.url", url.as_str()),
        ("https.ca.location", &foreign),
    ];
    tried(client, &[], 3600, &more).await
}

async fn never_answers(client: &str) -> String {
    tried(client, &[Answer::Late(60_000)], 3600, &[]).await
}

/// A port at which nobody listens.
fn closed_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    free.local_addr().expect("it is bound").port()
}

/// Reads so slowly that logins of two seconds end several times; `meanwhile` runs when rows have come.
async fn long_read(all: &Settings, topic: &str, pause_ms: u64, meanwhile: impl FnOnce()) -> String {
    let session = KafkaSessionBuilder::new()
        .connection(config(all).expect("known settings"))
        .config(
            SessionConfig::new()
                .with_target_partitions(1)
                .with_batch_size(1000),
        )
        .build()
        .expect("the settings are valid");
    let read = session.sql(&format!("SELECT value FROM \"{topic}\"")).await;
    let mut stream = read
        .expect("planned")
        .execute_stream()
        .await
        .expect("begun");
    let (mut rows, begun) = (0, Instant::now());
    let mut meanwhile = Some(meanwhile);
    let is_wire = all.iter().any(|(_, value)| value == "wire");
    let port = Bed::shared().server.bootstrap_of(Listener::SaslPlaintext);
    let port = port
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    let port = port.expect("host:port");
    let mut at_first = BTreeSet::new();
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => rows += batch.num_rows(),
            Err(e) => return Error::find(&e).expect("an error of ours").to_string(),
        }
        if let Some(meanwhile) = meanwhile.take() {
            meanwhile();
            at_first = connections_to(port);
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    if is_wire {
        // No login needed another connection; other tests have theirs.
        let last = connections_to(port);
        assert!(
            last.intersection(&at_first).next().is_some(),
            "{at_first:?} {last:?}"
        );
    }
    match rows {
        MANY => "reads".to_owned(),
        rows => format!("{rows} rows"),
    }
}

/// The local ports of connections to this port of a broker.
fn connections_to(port: u16) -> BTreeSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its connections");
    let port_of = |address: &str| {
        let (_, port) = address.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let connections = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        let established = state == "01";
        (established && port_of(remote) == Some(port)).then(|| port_of(local))?
    });
    connections.collect()
}

const OTHER_SECRET: &str = "secret-of-another";
const MANY: usize = 120_000;

fn topic_of_many(server: &KafkaServer) -> String {
    tokio::task::block_in_place(|| {
        let topic = admin::unique_topic("many");
        admin::create_topic(server.bootstrap(), &topic, 1, &[]);
        let fill_with = Fill {
            records: MANY,
            partitions: 1,
            // More than clients read ahead, so that they still fetch when logins end.
            value_bytes: 1000,
            settings: &[],
        };
        fill(server.bootstrap(), &topic, fill_with);
        topic
    })
}

async fn tokens_that_end_in_mid_read(client: &str) -> String {
    let bed = Bed::shared();
    let topic = topic_of_many(&bed.server);
    let endpoint = bed.identity.endpoint(&[], 8);
    let all = with(bed, client, &endpoint.url, &[]);
    // The token is renewed after 6.4 s, and the read takes 9 s. The endpoint fails for a moment, once.
    let fails = || endpoint.answer(&[Answer::Status(503), Answer::Token]);
    let found = long_read(&all, &topic, 75, fails).await;
    assert!(endpoint.given() > 1, "{} tokens", endpoint.given());
    found
}

async fn logins_of_plain_that_end_in_mid_read(client: &str) -> String {
    let bed = Bed::shared();
    let topic = topic_of_many(&bed.server);
    let login = Login::Plain("admin", PASSWORD);
    let mut all = bed.server.client_settings(Listener::SaslPlaintext, login);
    all.push(("kafka.client".to_owned(), client.to_owned()));
    long_read(&all, &topic, 50, || {}).await
}

/// Sinks write through librdkafka.
#[tokio::test(flavor = "multi_thread")]
async fn producers_log_in_with_tokens_of_an_endpoint() {
    use datafusion_kafka::client::librdkafka::writing::{Outgoing, Topic, Writing, producer};
    let bed = Bed::shared();
    let endpoint = bed.identity.endpoint(&[], 3600);
    let config = config(&bed.credentials(&endpoint.url)).expect("known settings");
    tokio::task::block_in_place(|| {
        let topic = admin::unique_topic("produced");
        admin::create_topic(bed.server.bootstrap(), &topic, 1, &[]);
        let producer = producer(&config, Writing::Plain).expect("a producer");
        let target = Topic::new(producer.handle(), &topic).expect("a topic");
        let message = Outgoing {
            topic: &target,
            partition: None,
            key: None,
            value: Some(b"x"),
            timestamp_ms: None,
            headers: None,
            tag: 0,
        };
        producer.send(message).expect("queued");
        assert!(producer.flush(60_000), "not delivered in time");
        assert_eq!(producer.serve(), None);
    });
    assert_eq!(endpoint.given(), 1);
}
