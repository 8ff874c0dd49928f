//! Answers whose lengths are checked before `kafka-protocol` trusts them.

use std::fmt::Debug;

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Message};

use super::*;

/// In each version, an answer with an element in every array is skipped as a whole. Then any length is put in
/// any place: either the answer is refused, or `kafka-protocol` may safely read it. If a bad one were not
/// refused, the test's process would run out of memory.
fn holds<R>(api: ApiKey, answer: impl Fn(i16) -> R)
where
    R: Encodable + Decodable + Message + PartialEq + Debug,
{
    const TWO_BILLION: [u8; 4] = i32::MAX.to_be_bytes();
    const COMPACT: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let answer = answer(version);
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes, version).unwrap();
        let whole = check(api as i16, version, &bytes);
        assert_eq!(whole, Ok(bytes.len()), "{api:?} v{version}");
        for end in 0..bytes.len() {
            let cut = check(api as i16, version, &bytes[..end]);
            assert!(cut.is_err(), "{api:?} v{version} cut at {end}");
        }
        let mut refused = 0;
        for at in 0..bytes.len() {
            for (lie, of) in [(&TWO_BILLION[..], 4), (&COMPACT, 1)] {
                let mut lying = bytes.to_vec();
                lying.splice(at..(at + of).min(bytes.len()), lie.iter().copied());
                match check(api as i16, version, &lying) {
                    Ok(_) => drop(R::decode(&mut Bytes::from(lying), version)),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 0, "{api:?} v{version}");
    }
}

#[test]
fn no_length_is_believed_that_the_answer_does_not_have() {
    use describe_configs_response::*;
    use list_offsets_response::*;
    use metadata_response::*;
    use offset_commit_response::*;
    use offset_fetch_response::*;
    use offset_for_leader_epoch_response::*;

    holds(ApiKey::Metadata, |_| {
        let nodes = || vec![BrokerId(1), BrokerId(2)];
        let partition = MetadataResponsePartition::default()
            .with_replica_nodes(nodes())
            .with_isr_nodes(nodes());
        let topic = MetadataResponseTopic::default().with_partitions(vec![partition; 2]);
        MetadataResponse::default()
            .with_brokers(vec![MetadataResponseBroker::default(); 2])
            .with_topics(vec![topic; 2])
    });
    holds(ApiKey::ListOffsets, |_| {
        let partitions = vec![ListOffsetsPartitionResponse::default(); 2];
        let topic = ListOffsetsTopicResponse::default().with_partitions(partitions);
        ListOffsetsResponse::default().with_topics(vec![topic; 2])
    });
    holds(ApiKey::OffsetCommit, |_| {
        let partitions = vec![OffsetCommitResponsePartition::default(); 2];
        let topic = OffsetCommitResponseTopic::default().with_partitions(partitions);
        OffsetCommitResponse::default().with_topics(vec![topic; 2])
    });
    holds(ApiKey::OffsetFetch, |version| {
        let answer = OffsetFetchResponse::default();
        if version < 8 {
            let partitions = vec![OffsetFetchResponsePartition::default(); 2];
            let topic = OffsetFetchResponseTopic::default().with_partitions(partitions);
            return answer.with_topics(vec![topic; 2]);
        }
        let partitions = vec![OffsetFetchResponsePartitions::default(); 2];
        let topic = OffsetFetchResponseTopics::default().with_partitions(partitions);
        let group = OffsetFetchResponseGroup::default().with_topics(vec![topic; 2]);
        answer.with_groups(vec![group; 2])
    });
    holds(ApiKey::FindCoordinator, |version| {
        let many = if version < 4 { 0 } else { 2 };
        let coordinators = vec![find_coordinator_response::Coordinator::default(); many];
        FindCoordinatorResponse::default().with_coordinators(coordinators)
    });
    holds(ApiKey::DescribeConfigs, |_| {
        let synonyms = vec![DescribeConfigsSynonym::default(); 2];
        let config = DescribeConfigsResourceResult::default().with_synonyms(synonyms);
        let result = DescribeConfigsResult::default().with_configs(vec![config; 2]);
        DescribeConfigsResponse::default().with_results(vec![result; 2])
    });
    holds(ApiKey::OffsetForLeaderEpoch, |_| {
        let partitions = vec![EpochEndOffset::default(); 2];
        let topic = OffsetForLeaderTopicResult::default().with_partitions(partitions);
        OffsetForLeaderEpochResponse::default().with_topics(vec![topic; 2])
    });
    holds(ApiKey::SaslHandshake, |_| {
        let mechanism = kafka_protocol::protocol::StrBytes::from_static_str("PLAIN");
        SaslHandshakeResponse::default().with_mechanisms(vec![mechanism; 2])
    });
    holds(ApiKey::SaslAuthenticate, |_| {
        SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from_static(b"nonce"))
    });
}

#[test]
fn an_answer_without_a_layout_is_refused() {
    let refused = check(ApiKey::Produce as i16, 9, &[0; 64]).unwrap_err();
    assert_eq!(refused.0, "the layout of answer 0 is unknown");
    let refused = check(
        ApiKey::SaslHandshake as i16,
        1,
        &[0, 0, 0x7f, 0xff, 0xff, 0xff],
    );
    assert_eq!(refused.unwrap_err().0, "its 6 bytes are fewer than it says");
}

#[test]
fn versions_are_read_as_far_as_they_are_there() {
    use api_versions_response::{ApiVersion, SupportedFeatureKey};
    let range = |api| ApiVersion::default().with_api_key(api).with_max_version(9);
    for version in 0..=4 {
        let mut answer = ApiVersionsResponse::default().with_api_keys(vec![range(1), range(18)]);
        if version >= 3 {
            answer = answer.with_supported_features(vec![SupportedFeatureKey::default()]);
        }
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes, version).unwrap();
        let known = vec![[1, 0, 9], [18, 0, 9]];
        assert_eq!(api_versions(&bytes, version), Some((0, known)));
        let count = if version >= 3 { 2..3 } else { 2..6 };
        let mut lying = bytes.to_vec();
        lying.splice(count, [0x7f, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(api_versions(&lying, version), None);
    }
}
