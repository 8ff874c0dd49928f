//! What a coordinator remembers of Kafka partitions from one statement to the next: how large their records are, and
//! which workers read them.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_kafka::range::{OffsetRange, TopicPartition};
use datafusion_kafka::scan::{ASSUMED_BYTES_PER_OFFSET, PartitionBytes};

use crate::placement::PartKey;

/// The most partitions that are remembered; with more, all are forgotten.
const MOST: usize = 1_000_000;

/// Of fewer offsets nothing is learnt.
const OFFSETS_THAT_TELL: u64 = 100;

/// The Kafka partitions of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    partitions: HashMap<TopicPartition, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    bytes_per_offset: Option<u64>,
    /// The hash of the worker that read each part of it.
    workers: Vec<u64>,
}

impl Remembered {
    /// Notes what a statement received.
    pub(crate) fn learn<'a>(&mut self, received: impl Iterator<Item = &'a PartitionBytes>) {
        let mut sums: HashMap<&TopicPartition, (u64, u64)> = HashMap::new();
        for part in received {
            let (offsets, bytes) = sums.entry(&part.partition).or_default();
            *offsets = offsets.saturating_add(part.offsets);
            *bytes = bytes.saturating_add(part.bytes);
        }
        for (partition, (offsets, bytes)) in sums {
            if offsets >= OFFSETS_THAT_TELL {
                self.entry(partition).bytes_per_offset = Some(bytes / offsets);
            }
        }
    }

    /// How large the records of ranges are, as far as statements have told: of a partition that none has read, as
    /// large as those of its topic.
    pub(crate) fn bytes_per_offset(&self) -> impl Fn(&OffsetRange) -> u64 {
        let mut topics: HashMap<Arc<str>, (u64, u64)> = HashMap::new();
        for (partition, known) in &self.partitions {
            if let Some(bytes) = known.bytes_per_offset {
                let (sum, count) = topics.entry(Arc::clone(&partition.topic)).or_default();
                *sum = sum.saturating_add(bytes);
                *count += 1;
            }
        }
        move |range| {
            let known = self.partitions.get(&range.topic_partition());
            let of_topic = || topics.get(range.topic()).map(|(sum, count)| sum / count);
            let known = known.and_then(|known| known.bytes_per_offset);
            known.or_else(of_topic).unwrap_or(ASSUMED_BYTES_PER_OFFSET)
        }
    }

    /// The hash of the worker that read a part last.
    pub(crate) fn worker(&self, (partition, part): &PartKey) -> Option<u64> {
        self.partitions.get(partition)?.workers.get(*part).copied()
    }

    /// Notes which worker reads a part.
    pub(crate) fn placed(&mut self, (partition, part): &PartKey, worker: u64) {
        let workers = &mut self.entry(partition).workers;
        workers.resize(workers.len().max(part + 1), 0);
        workers[*part] = worker;
    }

    fn entry(&mut self, partition: &TopicPartition) -> &mut Partition {
        if self.partitions.len() >= MOST && !self.partitions.contains_key(partition) {
            self.partitions.clear();
        }
        self.partitions.entry(partition.clone()).or_default()
    }
}
