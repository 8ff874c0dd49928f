//! Answers that were damaged on their way where no checksum covers them.

use datafusion_kafka::Error;
use datafusion_kafka::client::TopicSelection;
use kafka_protocol::messages::ApiKey;

use super::broker::Release;
use super::{END, Setup, plain_log};

/// No checksum covers the answer, and a table without one of its partitions would lack rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_not_numbered_from_zero_on_are_an_error() {
    for damaged in [0, 2] {
        let setup = Setup::with(&[Release::V4_1], vec![plain_log(); 2], &[]).await;
        setup.cluster.on(ApiKey::Metadata).metadata(move |answer| {
            for topic in &mut answer.topics {
                topic.partitions[1].partition_index = damaged;
            }
        });
        let described = setup.client.describe(TopicSelection::All).await;
        let text = described.unwrap_err().to_string();
        assert!(
            text.starts_with("describing topic orders failed: a broker names partitions [0, "),
            "{text}"
        );
    }
}

/// The checksum of a record batch covers neither its offsets nor its place among others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_base_offset_loses_no_record() {
    // Of the third record batch of the answer, whose base offset is 20: within the log, beyond its end, and as
    // it was before.
    for (base, exact) in [(21, false), (200, false), (1000, true), (1 << 40, true)] {
        let setup = Setup::with(&[Release::V4_1], vec![plain_log()], &[]).await;
        setup.cluster.on_fetch().parts(move |part| {
            let mut bytes = part.records.take().unwrap().to_vec();
            let mut at = 0;
            for _ in 0..2 {
                let length = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap());
                at += 12 + length as usize;
            }
            bytes[at..at + 8].copy_from_slice(&i64::to_be_bytes(base));
            part.records = Some(bytes.into());
        });
        if exact {
            setup.reads_all().await;
            continue;
        }
        let outcome = setup.read(0, END).await;
        let Error::Corrupted { reason, .. } = outcome.failure() else {
            panic!("{base}");
        };
        assert!(
            reason.contains("offsets were changed on their way"),
            "{reason}"
        );
    }
}
