//! What a diagnosis finds out about releases, and that brokers that lie cannot flood or break it.

use std::time::Duration;

use datafusion_kafka::client::ClientPool;
use datafusion_kafka::client::diagnose::{Check, Finding, Outcome, Questions, diagnose};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::StrBytes;

use super::broker::{FakeCluster, Release};
use super::{TOPIC, config, plain_log};
use crate::support::documented::documented;

documented!("doctor.md", "Releases", ["releases", "failed", "warning"], [
    kafka_1_0,
    kafka_2_8,
    kafka_4_0,
    two_releases,
    a_leader_that_is_gone,
    an_advertised_name_that_does_not_resolve,
    names_of_a_megabyte,
    ten_thousand_brokers,
], slow []);

async fn findings(cluster: &FakeCluster, topics: &[&str]) -> Vec<Finding> {
    let mut questions = Questions::default();
    questions.topics = topics.iter().map(|t| (*t).into()).collect();
    questions.step_limit = Duration::from_secs(20);
    let mut found = Vec::new();
    let config = config(cluster, &[]);
    diagnose(&config, &ClientPool::new(), &questions, |finding| {
        found.push(finding);
    })
    .await;
    for finding in &found {
        let texts = finding.notes.iter().chain(&finding.advice);
        let longest = texts
            .chain([&finding.text, &finding.subject])
            .map(String::len);
        assert!(
            longest.max() < Some(2500),
            "{:?} of {} bytes",
            finding.check,
            finding.text.len()
        );
        assert!(finding.notes.len() <= 32);
    }
    found
}

fn cell(column: &str, found: &[Finding]) -> String {
    let with = |outcome: Outcome| {
        let mut names: Vec<&str> = Vec::new();
        for finding in found.iter().filter(|f| f.outcome == outcome) {
            if !names.contains(&finding.check.name()) {
                names.push(finding.check.name());
            }
        }
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    };
    match column {
        "failed" => with(Outcome::Failed),
        "warning" => with(Outcome::Warning),
        "releases" => {
            let releases = found.iter().find(|f| f.check == Check::Releases);
            let text = &releases.expect("the releases are compared").text;
            text.trim_start_matches("all speak like ").to_owned()
        }
        other => panic!("no column {other}"),
    }
}

async fn of_releases(column: &str, releases: &[Release]) -> String {
    let cluster = FakeCluster::start(releases).await;
    cluster.create(TOPIC, vec![plain_log(), plain_log()]);
    cell(column, &findings(&cluster, &[TOPIC]).await)
}

async fn kafka_1_0(column: &str) -> String {
    of_releases(column, &[Release::V1_0]).await
}

async fn kafka_2_8(column: &str) -> String {
    of_releases(column, &[Release::V2_8]).await
}

async fn kafka_4_0(column: &str) -> String {
    of_releases(column, &[Release::V4_1]).await
}

async fn two_releases(column: &str) -> String {
    of_releases(column, &[Release::V2_8, Release::V4_1]).await
}

async fn a_leader_that_is_gone(column: &str) -> String {
    let cluster = FakeCluster::start(&[Release::V4_1]).await;
    cluster.create(TOPIC, vec![plain_log()]);
    cluster.state().partition(TOPIC, 0).leader = -1;
    cell(column, &findings(&cluster, &[TOPIC]).await)
}

/// Findings about a cluster that also names these brokers, from id 9 on.
async fn with_brokers(
    hosts: impl Iterator<Item = String> + Clone + Send + Sync + 'static,
) -> Vec<Finding> {
    let cluster = FakeCluster::start(&[Release::V4_1]).await;
    cluster.create(TOPIC, vec![plain_log()]);
    cluster
        .on(ApiKey::Metadata)
        .always()
        .metadata(move |answer| {
            let named = (9..).zip(hosts.clone()).map(|(id, host)| {
                MetadataResponseBroker::default()
                    .with_node_id(BrokerId(id))
                    .with_host(StrBytes::from_string(host))
                    .with_port(1)
            });
            answer.brokers.extend(named);
        });
    findings(&cluster, &[]).await
}

async fn an_advertised_name_that_does_not_resolve(column: &str) -> String {
    let found = with_brokers(std::iter::once("no-such-host.invalid".to_owned())).await;
    let broker = found.iter().find(|f| f.outcome == Outcome::Failed);
    let broker = broker.expect("a broker is not there");
    assert_eq!(broker.subject, "9");
    let advice = broker.advice.as_deref().unwrap_or_default();
    assert!(advice.contains("advertised.listeners"), "{advice}");
    cell(column, &found)
}

async fn names_of_a_megabyte(column: &str) -> String {
    let name = format!("\u{1b}[2J{}", "x".repeat(1 << 20));
    cell(column, &with_brokers(std::iter::once(name)).await)
}

async fn ten_thousand_brokers(column: &str) -> String {
    let found = with_brokers((0..10_000).map(|_| "127.0.0.1".to_owned())).await;
    assert!(found.len() < 350, "{} findings", found.len());
    let rest = found
        .iter()
        .any(|f| f.text == "9701 more brokers are not tried");
    assert!(rest, "the rest is not named");
    cell(column, &found)
}
