//! A cluster's description of itself, and that asking for it creates nothing.

use std::sync::Arc;

use datafusion_kafka::client::{ClusterDescription, OffsetAt, OffsetQuery, TopicSelection};
use datafusion_kafka::range::TopicPartition;

use super::reading::{ReadCommitted, read};
use super::{Codec, Fixture, Need, TopicSpec, can, numbered, topic, unique};

async fn all(fixture: &dyn Fixture) -> ClusterDescription {
    let client = fixture.client();
    client.describe(TopicSelection::All).await.unwrap()
}

async fn named(fixture: &dyn Fixture, names: &[&str]) -> ClusterDescription {
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    let client = fixture.client();
    let described = client.describe(TopicSelection::Named(&names)).await;
    described.unwrap()
}

fn names(description: &ClusterDescription) -> Vec<&str> {
    description
        .topics
        .iter()
        .map(|topic| &*topic.name)
        .collect()
}

pub async fn all_topics(fixture: &dyn Fixture) {
    let one = topic(fixture, "all-b", 3).await;
    let other = topic(fixture, "all-a", 1).await;
    let description = all(fixture).await;
    assert!(description.cluster_id.is_some());
    let found = names(&description);
    assert!(
        found.contains(&&*one) && found.contains(&&*other),
        "{found:?}"
    );
    assert!(found.is_sorted(), "topics come by name: {found:?}");
}

pub async fn named_topics(fixture: &dyn Fixture) {
    let wanted = topic(fixture, "wanted", 4).await;
    topic(fixture, "unwanted", 1).await;
    let description = named(fixture, &[&wanted]).await;
    assert_eq!(names(&description), [&wanted]);
    let described = &description.topics[0];
    assert!(!described.internal);
    let numbers: Vec<i32> = described.partitions.iter().map(|p| p.partition).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

pub async fn missing_topic_is_absent_and_stays_so(fixture: &dyn Fixture) {
    let there = topic(fixture, "there", 1).await;
    let missing = unique("not-there");
    for _ in 0..2 {
        let description = named(fixture, &[&missing, &there]).await;
        assert_eq!(names(&description), [&there]);
    }
    assert!(!names(&all(fixture).await).contains(&&*missing));
}

pub async fn reading_and_listing_create_nothing(fixture: &dyn Fixture) {
    let missing = TopicPartition::new(unique("not-created"), 0);
    let latest = OffsetQuery {
        partition: missing.clone(),
        at: OffsetAt::Latest,
    };
    let client = fixture.client();
    assert!(client.list_offsets(&[latest], ReadCommitted).await.is_err());
    assert!(read(fixture, &missing, 0, 1).await.error.is_some());
    if can(fixture, Need::TopicSettings) {
        let settings = client.topic_settings(&[Arc::clone(&missing.topic)]).await;
        assert_eq!(settings.unwrap(), [None]);
    }
    assert!(!names(&all(fixture).await).contains(&&*missing.topic));
}

pub async fn legal_names(fixture: &dyn Fixture) {
    for stem in [
        "with.dots.in",
        "with-dashes",
        "With_UNDERSCORES",
        "UPPER",
        "0digit",
    ] {
        let name = topic(fixture, stem, 1).await;
        let partition = TopicPartition::new(&*name, 0);
        fixture.produce(&partition, &numbered(2), Codec::None).await;
        assert_eq!(names(&named(fixture, &[&name]).await), [&name]);
        assert_eq!(read(fixture, &partition, 0, 2).await.records(), numbered(2));
    }
}

pub async fn topic_ids_differ(fixture: &dyn Fixture) {
    let one = topic(fixture, "id", 1).await;
    let other = topic(fixture, "id", 1).await;
    let description = named(fixture, &[&one, &other]).await;
    assert_eq!(description.topics.len(), 2);
    let ids: Vec<_> = description.topics.iter().map(|topic| &topic.id).collect();
    // Either the server has ids or it has none.
    assert!(ids[0] != ids[1] || ids == [&None, &None], "{ids:?}");
}

pub async fn leaders_are_brokers(fixture: &dyn Fixture) {
    let name = topic(fixture, "leaders", 6).await;
    let description = named(fixture, &[&name]).await;
    let brokers: Vec<i32> = description.brokers.iter().map(|broker| broker.id).collect();
    assert!(!brokers.is_empty());
    for partition in &description.topics[0].partitions {
        let leader = partition.leader.unwrap();
        assert!(brokers.contains(&leader));
        assert!(partition.replicas.contains(&leader));
        assert!(partition.isr.contains(&leader));
    }
}

pub async fn settings_of_topics(fixture: &dyn Fixture) {
    let needs = [Need::LogAppendTime, Need::Compaction, Need::TopicSettings];
    if !needs.into_iter().all(|need| can(fixture, need)) {
        return;
    }
    let plain = topic(fixture, "plain-settings", 1).await;
    let special = TopicSpec {
        name: unique("special-settings"),
        partitions: 1,
        log_append_time: true,
        compacted: true,
    };
    fixture.create_topic(&special).await;
    let names: Vec<Arc<str>> = [&*special.name, &*unique("missing"), &*plain]
        .map(Arc::from)
        .into();
    let settings = fixture.client().topic_settings(&names).await.unwrap();
    let [Some(special), None, Some(plain)] = &settings[..] else {
        panic!("expected settings of the first and last topic, found {settings:?}");
    };
    assert!(special.log_append_time && !plain.log_append_time);
    assert_eq!(
        (&*special.cleanup_policy, &*plain.cleanup_policy),
        ("compact", "delete")
    );
}
