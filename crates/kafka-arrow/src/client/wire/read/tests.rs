//! What a Fetch asks for, and what its answer means.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::plan::{Part, Source, Wanted, plan, request};
use super::verdict::{self, Begun, Ended, Refusal};
use crate::client::wire::cluster::Leader;
use crate::client::wire::code;
use crate::client::wire::decode::{PartitionEnd, PartitionHead, TopicRef};
use crate::range::{IsolationLevel, OffsetRange, TopicPartition};
use IsolationLevel::{ReadCommitted, ReadUncommitted};

const NODE: i32 = 1;
const ID: Uuid = Uuid::from_u128(7);
/// What a part takes beyond the mean size of its records and a quarter.
const MARGIN: usize = 64 << 10;

fn range(partition: i32, start: i64, end: i64) -> OffsetRange {
    OffsetRange::try_new("orders", partition, start, end).unwrap()
}

fn led_by(node: i32) -> Source {
    Source {
        leader: Leader { node, epoch: 5 },
        replica: None,
        id: Some(ID),
        mean_bytes: 100,
    }
}

fn wanted(ranges: &[OffsetRange]) -> Wanted<'_> {
    Wanted {
        ranges,
        position: ranges[0].start(),
        last_epoch: -1,
        rows: None,
        bytes: 1 << 20,
    }
}

fn planned(ranges: &[OffsetRange]) -> VecDeque<Part> {
    plan(&wanted(ranges), NODE, |_| Some(led_by(NODE)))
}

/// Partition, offset and bytes of each part.
fn asked(parts: &VecDeque<Part>) -> Vec<(i32, i64, usize)> {
    let asked = parts
        .iter()
        .map(|p| (p.partition.partition, p.offset, p.limit));
    asked.collect()
}

#[test]
fn a_long_range_is_asked_for_alone_from_its_position_on() {
    let ranges = [range(0, 0, 1_000_000), range(1, 0, 10)];
    let wanted = Wanted {
        position: 4_000,
        last_epoch: 4,
        ..wanted(&ranges)
    };
    let parts = plan(&wanted, NODE, |_| Some(led_by(NODE)));
    assert_eq!(asked(&parts), [(0, 4_000, 1 << 20)]);
    let part = &parts[0];
    assert!(part.first && !part.from_replica);
    assert_eq!((part.epoch, part.last_epoch, part.start), (5, 4, 4_000));
}

#[test]
fn short_ranges_come_in_one_fetch_as_far_as_they_fit() {
    let ranges: Vec<_> = (0..20).map(|p| range(p, 10, 110)).collect();
    let parts = planned(&ranges);
    let each = 100 * 100 * 5 / 4 + MARGIN;
    let fit = (1 << 20) / each;
    let expected: Vec<_> = (0..fit as i32).map(|p| (p, 10, each)).collect();
    assert_eq!(asked(&parts), expected);
    let first: Vec<bool> = parts.iter().map(|p| p.first).collect();
    assert_eq!(first.iter().filter(|first| **first).count(), 1);
    assert!(parts.iter().skip(1).all(|p| p.last_epoch == -1));
}

#[test]
fn the_order_of_the_ranges_is_kept_where_the_next_one_cannot_be_asked_for() {
    let ranges: Vec<_> = (0..4).map(|p| range(p, 0, 10)).collect();
    let without_2 = |other: Option<Source>| {
        let parts = plan(&wanted(&ranges), NODE, |p| match p.partition {
            2 => other,
            _ => Some(led_by(NODE)),
        });
        parts.len()
    };
    assert_eq!(without_2(Some(led_by(NODE))), 4);
    assert_eq!(without_2(None), 2, "its leader is not known");
    assert_eq!(without_2(Some(led_by(9))), 2, "another node leads it");
    let replica = Some(NODE);
    let from_here = Source {
        replica,
        ..led_by(9)
    };
    assert_eq!(without_2(Some(from_here)), 4, "this node is its replica");
}

#[test]
fn another_topic_is_not_read_before_its_id_is_known() {
    let mut ranges = vec![range(0, 0, 10), range(1, 0, 10)];
    ranges.push(OffsetRange::try_new("parcels", 0, 0, 10).unwrap());
    let known = |id: Option<Uuid>| {
        let parts = plan(&wanted(&ranges), NODE, |_| {
            Some(Source { id, ..led_by(NODE) })
        });
        parts.len()
    };
    assert_eq!((known(Some(ID)), known(None)), (3, 2));
}

#[test]
fn close_ranges_of_a_partition_are_one_part() {
    let ranges = [
        range(0, 0, 10),
        range(0, 20, 30),
        range(0, 40, 50),
        range(1, 0, 10),
    ];
    let parts = planned(&ranges);
    let bytes = |offsets: usize| offsets * 100 * 5 / 4 + MARGIN;
    assert_eq!(asked(&parts), [(0, 0, bytes(50)), (1, 0, bytes(10))]);
    // Too far away, and asked for again only when the first is done.
    let ranges = [range(0, 0, 10), range(0, 100_000, 100_010), range(1, 0, 10)];
    assert_eq!(asked(&planned(&ranges)), [(0, 0, bytes(10))]);
    // The second lies before the first.
    let ranges = [range(0, 20, 30), range(0, 0, 10)];
    assert_eq!(asked(&planned(&ranges)), [(0, 20, bytes(10))]);
}

#[test]
fn a_limit_in_rows_bounds_what_is_asked_for() {
    let ranges: Vec<_> = (0..4).map(|p| range(p, 0, 10)).collect();
    let of_rows = |rows: usize| {
        let wanted = Wanted {
            rows: Some(rows),
            ..wanted(&ranges)
        };
        asked(&plan(&wanted, NODE, |_| Some(led_by(NODE))))
    };
    let bytes = |offsets: usize| offsets * 100 * 5 / 4 + MARGIN;
    assert_eq!(of_rows(4), [(0, 0, bytes(4))]);
    assert_eq!(of_rows(15), [(0, 0, bytes(10)), (1, 0, bytes(5))]);
    assert_eq!(of_rows(20).len(), 2);
}

#[test]
fn a_request_to_a_replica_leaves_out_the_leaders_epoch() {
    let of = |replica: i32| {
        let source = Source {
            replica: Some(replica),
            ..led_by(NODE)
        };
        let parts = plan(&wanted(&[range(0, 0, 10)]), replica, |_| Some(source));
        (parts[0].epoch, parts[0].from_replica)
    };
    assert_eq!((of(3), of(NODE)), ((-1, true), (-1, false)));
}

#[test]
fn a_fetch_has_no_more_than_500_parts() {
    let ranges: Vec<_> = (0..600).map(|p| range(p, 0, 1)).collect();
    let wanted = Wanted {
        bytes: usize::MAX,
        ..wanted(&ranges)
    };
    assert_eq!(plan(&wanted, NODE, |_| Some(led_by(NODE))).len(), 500);
}

#[test]
fn topics_are_named_as_the_version_allows() {
    let mut parts = planned(&[range(0, 3, 13), range(1, 0, 10)]);
    parts[0].last_epoch = 4;
    let sum: usize = parts.iter().map(|p| p.limit).sum();
    for version in [11, 12, 13] {
        let fetch = request(&parts, version, ReadCommitted, "rack-1");
        assert_eq!(fetch.topics.len(), 1, "one topic, two partitions");
        let topic = &fetch.topics[0];
        let (name, id) = if version < 13 {
            ("orders", Uuid::nil())
        } else {
            ("", ID)
        };
        assert_eq!((&**topic.topic, topic.topic_id), (name, id));
        let first = &topic.partitions[0];
        assert_eq!(
            (
                first.partition,
                first.fetch_offset,
                first.current_leader_epoch
            ),
            (0, 3, 5)
        );
        assert_eq!(first.last_fetched_epoch, if version < 12 { -1 } else { 4 });
        assert_eq!(fetch.max_bytes as usize, sum);
        assert_eq!((fetch.min_bytes, fetch.isolation_level), (0, 1));
        assert_eq!(&*fetch.rack_id, "rack-1");
    }
    assert_eq!(request(&parts, 13, ReadUncommitted, "").isolation_level, 0);
}

fn head(partition: i32) -> PartitionHead {
    PartitionHead {
        topic: TopicRef::Id(ID),
        partition,
        error: 0,
        high_watermark: 90,
        last_stable_offset: 80,
        log_start: 0,
        aborted: vec![],
        preferred_replica: -1,
        record_bytes: 0,
    }
}

#[test]
fn parts_of_an_answer_belong_to_the_range_to_a_later_one_or_to_none() {
    let ranges = [range(0, 5, 10), range(1, 0, 10)];
    let here = ranges[0].topic_partition();
    let mut parts = planned(&ranges);
    let later = verdict::begin(&mut parts, &head(1), &here, 7, ReadCommitted);
    assert!(matches!(later, Begun::Later), "{later:?}");
    let strange = verdict::begin(&mut parts, &head(1), &here, 7, ReadCommitted);
    assert!(
        matches!(strange, Begun::Strange),
        "it came already: {strange:?}"
    );
    let current = verdict::begin(&mut parts, &head(0), &here, 7, ReadCommitted);
    let Begun::Current(part) = current else {
        panic!("{current:?}")
    };
    assert_eq!((part.start, part.end_seen), (7, 80));
    assert!(parts.is_empty());
    // What was asked for from a later offset on does not hold the position.
    let mut parts = planned(&ranges);
    let later = verdict::begin(&mut parts, &head(0), &here, 4, ReadCommitted);
    assert!(matches!(later, Begun::Later), "{later:?}");
}

#[test]
fn the_log_ends_where_the_isolation_level_says() {
    let ranges = [range(0, 5, 10)];
    let here = ranges[0].topic_partition();
    let end = |head: PartitionHead, isolation| {
        let mut parts = planned(&ranges);
        match verdict::begin(&mut parts, &head, &here, 5, isolation) {
            Begun::Current(part) => part.end_seen,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end(head(0), ReadCommitted), 80);
    assert_eq!(end(head(0), ReadUncommitted), 90);
    let old = PartitionHead {
        last_stable_offset: -1,
        ..head(0)
    };
    assert_eq!(end(old, ReadCommitted), 90, "the broker does not say it");
}

/// A part of which nothing came, of a log that ends at 90.
fn silent() -> Part {
    let mut parts = planned(&[range(0, 5, 10)]);
    let mut part = parts.pop_front().unwrap();
    part.end_seen = 90;
    part
}

#[test]
fn what_a_part_came_to() {
    let whole = PartitionEnd::default();
    let ended = |part: Part| verdict::end(&part, whole, part.start, 50, false);
    assert_eq!(ended(silent()), Ended::Silence);
    let short = Part {
        end_seen: 40,
        ..silent()
    };
    assert_eq!(ended(short), Ended::LogEnds(40));
    let lagging = Part {
        from_replica: true,
        ..silent()
    };
    assert_eq!(ended(lagging), Ended::ReplicaLags);
    let elsewhere = Part {
        preferred_replica: 3,
        ..silent()
    };
    assert_eq!(ended(elsewhere.clone()), Ended::Replica(3));
    let from_there = Part {
        from_replica: true,
        ..elsewhere
    };
    assert_eq!(ended(from_there), Ended::ReplicaLags);
    let behind = Part {
        first: false,
        ..silent()
    };
    assert_eq!(ended(behind), Ended::Nothing, "the answer was full");
    let others = Part {
        bytes: 1000,
        ..silent()
    };
    assert_eq!(ended(others), Ended::Strange);
}

#[test]
fn records_tell_their_mean_size() {
    let part = Part {
        bytes: 1000,
        start: 20,
        ..silent()
    };
    let of = |position| verdict::end(&part, PartitionEnd::default(), position, 50, false);
    assert_eq!(of(30), Ended::Records { mean_bytes: 100 });
    assert_eq!(of(5000), Ended::Records { mean_bytes: 1 });
    assert_eq!(of(20), Ended::Strange);
    assert_eq!(of(19), Ended::Strange);
}

#[test]
fn a_throttled_answer_says_nothing_of_the_log() {
    let of = |part: Part, end| verdict::end(&part, end, part.start, 50, true);
    assert_eq!(of(silent(), PartitionEnd::default()), Ended::Nothing);
    let short = Part {
        end_seen: 40,
        ..silent()
    };
    assert_eq!(of(short, PartitionEnd::default()), Ended::Nothing);
    let cut = PartitionEnd {
        cut: true,
        ..PartitionEnd::default()
    };
    assert_eq!(of(silent(), cut), Ended::TooLarge);
}

#[test]
fn a_cut_log_is_seen_before_anything_else() {
    let diverging = PartitionEnd {
        diverging: Some((3, 12)),
        cut: true,
    };
    let part = Part {
        bytes: 1000,
        ..silent()
    };
    let ended = verdict::end(&part, diverging, 40, 50, true);
    assert_eq!(
        ended,
        Ended::Cut {
            epoch: 3,
            agreed: 12
        }
    );
}

#[test]
fn refusals_by_what_they_ask_for() {
    for (code, refusal) in [
        (code::TOPIC_AUTHORIZATION_FAILED, Refusal::TopicDenied),
        (code::CLUSTER_AUTHORIZATION_FAILED, Refusal::ClusterDenied),
        (code::OFFSET_OUT_OF_RANGE, Refusal::OutOfRange),
        (code::UNKNOWN_TOPIC_OR_PARTITION, Refusal::Missing),
        (code::UNKNOWN_TOPIC_ID, Refusal::Missing),
        (code::INCONSISTENT_TOPIC_ID, Refusal::Missing),
        (code::CORRUPT_MESSAGE, Refusal::Corrupt),
        (code::NOT_LEADER_OR_FOLLOWER, Refusal::AskLeader),
        (code::FENCED_LEADER_EPOCH, Refusal::AskLeader),
        (code::REQUEST_TIMED_OUT, Refusal::AskAgain),
        (code::UNSUPPORTED_VERSION, Refusal::Unsupported),
        (-1, Refusal::Unexplained),
        (i16::MAX, Refusal::Unexplained),
    ] {
        assert_eq!(Refusal::of(code, false), refusal, "{code}");
    }
    let from_replica = Refusal::of(code::OFFSET_OUT_OF_RANGE, true);
    assert_eq!(from_replica, Refusal::AskAgain);
}

#[test]
fn a_part_is_named_by_topic_and_partition() {
    let part = silent();
    let orders = || TopicRef::Name("orders".into());
    assert!(part.is_named(&orders(), 0) && part.is_named(&TopicRef::Id(ID), 0));
    assert!(!part.is_named(&orders(), 1));
    assert!(!part.is_named(&TopicRef::Name("parcels".into()), 0));
    assert!(!part.is_named(&TopicRef::Id(Uuid::nil()), 0));
    let here = TopicPartition::new(Arc::from("orders"), 0);
    assert!(part.holds(&here, 5) && part.holds(&here, 9) && !part.holds(&here, 4));
}
