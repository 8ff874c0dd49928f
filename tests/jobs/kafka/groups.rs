//! Committing offsets to consumer groups, for tools that show lag.

use std::collections::BTreeMap;

use datafusion_kafka::client::{ClientPool, GroupCommits, commit_group_offsets};
use datafusion_kafka::range::TopicPartition;
use datafusion_kafka::{Error, ErrorKind};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_committed_to_a_group_are_read_back() {
    let topic = topic(2);
    let group = admin::unique_topic("lag");
    let partition = |number| TopicPartition::new(&*topic, number);
    let commits = GroupCommits::connect(&config(&[]), &group).unwrap();
    let next = BTreeMap::from([(partition(0), 5), (partition(1), 7)]);
    commits.commit(&next).await.unwrap();
    let moved = BTreeMap::from([(partition(1), 9)]);
    commits.commit(&moved).await.unwrap();
    let client = ClientPool::global().client(&config(&[])).unwrap();
    let found = client
        .group_offsets(&group, &[partition(0), partition(1)])
        .await
        .unwrap();
    assert_eq!(
        found,
        BTreeMap::from([(partition(0), 5), (partition(1), 9)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_committed_is_an_error() {
    let none = BTreeMap::new();
    let unnamed = commit_group_offsets(&config(&[]), "", &none)
        .await
        .unwrap_err();
    assert_eq!(unnamed.kind(), ErrorKind::Query, "{unnamed}");
    commit_group_offsets(&config(&[]), "some", &none)
        .await
        .unwrap();
    let missing = TopicPartition::new(admin::unique_topic("no-topic"), 0);
    let next = BTreeMap::from([(missing.clone(), 1)]);
    let refused = commit_group_offsets(&config(&[]), "some", &next)
        .await
        .unwrap_err();
    assert!(matches!(&refused, Error::Unavailable { .. }), "{refused}");
    assert!(refused.to_string().contains(&*missing.topic), "{refused}");
}
