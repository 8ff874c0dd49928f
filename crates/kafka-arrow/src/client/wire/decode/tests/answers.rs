//! Fetch answers in every version, arriving in pieces of any size.

use std::time::Duration;

use super::*;

/// A partition, its batches, and its aborted transactions.
type Part = (i32, Vec<u8>, Vec<(i64, i64)>);

/// A Fetch answer in `version`, with one topic and one part for each list of batches.
pub(super) fn answer(version: i16, parts: &[Part]) -> Vec<u8> {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{FetchResponse, ResponseHeader, TopicName};
    use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
    let part = |(partition, records, aborted): &Part| {
        let aborted = aborted.iter().map(|(producer, first)| {
            AbortedTransaction::default()
                .with_producer_id((*producer).into())
                .with_first_offset(*first)
        });
        PartitionData::default()
            .with_partition_index(*partition)
            .with_high_watermark(99)
            .with_last_stable_offset(98)
            .with_log_start_offset(1)
            .with_aborted_transactions(Some(aborted.collect()))
            .with_records(Some(Bytes::copy_from_slice(records)))
    };
    let topic = FetchableTopicResponse::default().with_partitions(parts.iter().map(part).collect());
    let topic = if version >= 13 {
        topic.with_topic_id(uuid::Uuid::from_u128(5))
    } else {
        topic.with_topic(TopicName(StrBytes::from_static_str("orders")))
    };
    let answer = FetchResponse::default()
        .with_throttle_time_ms(3)
        .with_responses(vec![topic]);
    let mut bytes = BytesMut::new();
    let header = ResponseHeader::default();
    header
        .encode(&mut bytes, FetchResponse::header_version(version))
        .unwrap();
    answer.encode(&mut bytes, version).unwrap();
    bytes.split_off(4).to_vec()
}

/// The content of an answer: topics, partitions, and the sizes of whole batches.
fn take_apart(version: i16, bytes: &[u8], step: usize) -> Result<Vec<String>, Malformed> {
    let mut parser = FetchAnswer::new(version, bytes.len());
    let mut buffer = BytesMut::new();
    let mut rest = bytes;
    let mut seen = Vec::new();
    loop {
        match parser.next(&mut buffer)? {
            Event::More(least) => {
                assert!(least > buffer.len() || least == 1, "asks for what is there");
                assert!(!rest.is_empty(), "asks for more than there is");
                let (now, later) = rest.split_at(step.min(rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
            }
            Event::Head(head) => seen.push(format!("throttled {}", head.throttle_ms)),
            Event::Partition(p) => seen.push(format!(
                "{:?} {} {} {} {} {:?} {}",
                p.topic,
                p.partition,
                p.high_watermark,
                p.last_stable_offset,
                p.log_start,
                p.aborted,
                p.record_bytes
            )),
            Event::Records(batches) => match seen.last_mut().filter(|s| s.starts_with("records")) {
                Some(last) => {
                    let before: usize = last["records ".len()..].parse().unwrap();
                    *last = format!("records {}", before + batches.len());
                }
                None => seen.push(format!("records {}", batches.len())),
            },
            Event::PartitionEnd(end) => seen.push(format!("end, cut: {}", end.cut)),
            Event::End => {
                assert_eq!((parser.left(), rest.len(), buffer.len()), (0, 0, 0));
                return Ok(seen);
            }
        }
    }
}

#[test]
fn answers_are_taken_apart_however_they_arrive() {
    let whole = numbered(0, 10).write();
    let mut cut = whole.clone();
    cut.extend(&numbered(10, 20).write()[..100]);
    let alone = whole[..70].to_vec();
    for version in 4..=FETCH_VERSION_MOST {
        let parts = [
            (3, cut.clone(), vec![(1, 2), (3, 4)]),
            (4, vec![], vec![]),
            (5, alone.clone(), vec![]),
        ];
        let bytes = answer(version, &parts);
        let topic = if version >= 13 {
            format!("Id({})", uuid::Uuid::from_u128(5))
        } else {
            "Name(\"orders\")".to_owned()
        };
        let start = if version >= 5 { 1 } else { -1 };
        // Brokers that only speak version 7 or below have delayed the answer itself.
        let throttle_ms = if version >= 8 { 3 } else { 0 };
        assert_eq!(
            throttle_of(&bytes, version),
            Duration::from_millis(throttle_ms)
        );
        let expected = [
            format!("throttled {throttle_ms}"),
            format!("{topic} 3 99 98 {start} [(1, 2), (3, 4)] {}", cut.len()),
            format!("records {}", whole.len()),
            "end, cut: true".to_owned(),
            format!("{topic} 4 99 98 {start} [] 0"),
            "end, cut: false".to_owned(),
            format!("{topic} 5 99 98 {start} [] 70"),
            "end, cut: true".to_owned(),
        ];
        for step in [1, 7, 64, 1 << 20] {
            let seen = take_apart(version, &bytes, step).unwrap();
            assert_eq!(seen, expected, "version {version}, {step} bytes at once");
        }
    }
}
