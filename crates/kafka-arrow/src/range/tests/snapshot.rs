use proptest::prelude::*;

use super::*;

const JSON: &str = concat!(
    r#"{"version":1,"cluster_id":"abc","isolation_level":"read_committed","created_ms":5,"#,
    r#""topics":[{"topic":"orders","topic_id":"Vx","log_append_time":false}],"#,
    r#""ranges":[{"topic":"orders","partition":0,"start":10,"end":20,"from_ms":7,"#,
    r#""log_start":0,"log_end":30,"leader":2,"leader_epoch":4}]}"#
);

#[test]
fn changed_snapshots_are_refused_or_what_they_promise() {
    for changed in crate::spoil::spoiled(JSON) {
        if let Ok(snapshot) = changed.parse::<Snapshot>() {
            snapshot.check().unwrap();
            assert!(snapshot.len() >= 0);
            let ranges: Vec<OffsetRange> = snapshot.offset_ranges().cloned().collect();
            let parts = crate::range::split(&ranges, &crate::range::SplitOptions::default());
            let lengths = parts.iter().flatten().map(OffsetRange::len);
            assert_eq!(lengths.fold(0, i64::saturating_add), snapshot.len());
        }
    }
}

#[test]
fn json_is_pinned() {
    let snapshot: Snapshot = JSON.parse().unwrap();
    assert_eq!(snapshot.to_json(), JSON);
    assert_eq!(snapshot.len(), 10);
    assert_eq!(snapshot.topic_id("orders"), Some("Vx"));
    assert_eq!(snapshot.topic_id("other"), None);
    assert_eq!(
        snapshot.offset_ranges().next().unwrap().to_string(),
        "orders[0] 10..20"
    );
}

#[test]
fn unknown_fields_are_ignored_and_optional_ones_may_lack() {
    let snapshot: Snapshot = r#"{"version":1,"isolation_level":"read_uncommitted","new":[1],
        "created_ms":5,"topics":[{"topic":"a"}],
        "ranges":[{"topic":"a","partition":1,"start":0,"end":0,"log_start":0,"log_end":0}]}"#
        .parse()
        .unwrap();
    assert_eq!(snapshot.ranges[0].leader, None);
    assert_eq!(snapshot.ranges[0].leader_epoch, None);
    assert!(snapshot.is_empty());
}

#[test]
fn refused_with_the_reason() {
    for (from, to, message) in [
        (
            "\"version\":1",
            "\"version\":2",
            "snapshot: version 2 is unknown, this program reads version 1; \
             read it with the version that wrote it",
        ),
        (
            "\"version\":1,",
            "",
            "snapshot: expected a JSON object with \"version\": 1",
        ),
        (
            "\"start\":10",
            "\"start\":21",
            "snapshot: range orders[0] 21..20: the start lies after the end",
        ),
        (
            "\"start\":10",
            "\"start\":-1",
            "snapshot: range orders[0] -1..20: offsets are numbered from 0",
        ),
        (
            "\"topic\":\"orders\",\"topic_id\"",
            "\"topic\":\"other\",\"topic_id\"",
            "snapshot: range orders[0] 10..20 belongs to no topic listed in 'topics'",
        ),
        (
            "\"ranges\":[",
            "\"ranges\":[{\"topic\":\"orders\",\"partition\":0,\"start\":0,\"end\":11,\
             \"log_start\":0,\"log_end\":30},",
            "snapshot: ranges orders[0] 0..11 and orders[0] 10..20 overlap",
        ),
        ("\"end\":20,", "", "snapshot: missing field `end`"),
    ] {
        let error = JSON.replacen(from, to, 1).parse::<Snapshot>().unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    assert!("".parse::<Snapshot>().is_err());
    assert!("[]".parse::<Snapshot>().is_err());
}

#[test]
fn with_other_ranges_it_is_checked_again() {
    let snapshot: Snapshot = JSON.parse().unwrap();
    let range = &snapshot.ranges()[0];
    let none = snapshot.with_ranges(vec![]).unwrap();
    assert_eq!((none.topics(), none.created_ms()), (&[][..], 5));
    let twice = snapshot.with_ranges(vec![range.clone(), range.clone()]);
    assert_eq!(
        twice.unwrap_err().to_string(),
        "snapshot: ranges orders[0] 10..20 and orders[0] 10..20 overlap"
    );
}

#[test]
fn lengths_do_not_overflow() {
    let mut snapshot: Snapshot = JSON.parse().unwrap();
    snapshot.ranges.push(snapshot.ranges[0].clone());
    for (partition, range) in (0..).zip(&mut snapshot.ranges) {
        range.range.partition = partition;
        range.range.end = i64::MAX;
    }
    assert_eq!(snapshot.len(), i64::MAX);
    assert_eq!(snapshot.check().map_err(|e| e.to_string()), Ok(()));
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let topics = proptest::collection::btree_map(
        "[a-z\"\\\\.é-]{1,8}",
        (any::<Option<String>>(), any::<bool>()),
        1..4,
    );
    let range = (
        any::<prop::sample::Index>(),
        (0..i64::MAX, 0..i64::MAX),
        any::<(Option<i64>, Option<i64>, i64, i64, Option<i32>, Option<i32>)>(),
    );
    (
        any::<Option<String>>(),
        any::<bool>(),
        any::<i64>(),
        topics,
        proptest::collection::vec(range, 0..10),
    )
        .prop_map(|(cluster_id, committed, created_ms, topics, ranges)| {
            let topics: Vec<SnapshotTopic> = topics
                .into_iter()
                .map(|(topic, (topic_id, log_append_time))| SnapshotTopic {
                    topic: topic.into(),
                    topic_id,
                    log_append_time,
                })
                .collect();
            let ranges = (0..)
                .zip(ranges)
                .map(|(partition, (topic, (a, b), rest))| SnapshotRange {
                    range: OffsetRange {
                        topic: Arc::clone(&topic.get(&topics).topic),
                        partition,
                        start: a.min(b),
                        end: a.max(b),
                    },
                    from_ms: rest.0,
                    to_ms: rest.1,
                    log_start: rest.2,
                    log_end: rest.3,
                    leader: rest.4,
                    leader_epoch: rest.5,
                })
                .collect();
            Snapshot {
                cluster_id,
                isolation_level: if committed {
                    IsolationLevel::ReadCommitted
                } else {
                    IsolationLevel::ReadUncommitted
                },
                created_ms,
                topics,
                ranges,
                leader_epochs: BTreeMap::new(),
            }
        })
}

proptest! {
    #[test]
    fn json_round_trip(snapshot in snapshots()) {
        prop_assert_eq!(&snapshot.to_json().parse::<Snapshot>().unwrap(), &snapshot);
        // Nested in another document, as in a job's log.
        let nested = serde_json::json!({ "snapshot": snapshot });
        let back: Snapshot = serde_json::from_value(nested["snapshot"].clone()).unwrap();
        prop_assert_eq!(back, snapshot);
    }

    #[test]
    fn no_text_panics(text in ".*", at in 0..JSON.len(), with in ".{0,3}") {
        let _ = text.parse::<Snapshot>();
        let mut mutated = JSON.to_owned();
        mutated.replace_range(at..=at, &with);
        let _ = mutated.parse::<Snapshot>();
    }
}
