//! How a cluster and its topics are made.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::MemoryCluster;
use super::log::FetchLimits;
use super::state::Shared;

/// Records that one fetch hands over at most, unless set.
const DEFAULT_FETCH_RECORDS: usize = 1_000;
/// Bytes that one fetch hands over at most, unless set: Kafka's `max.partition.fetch.bytes`.
const DEFAULT_FETCH_BYTES: usize = 1024 * 1024;
/// Time that a reader waits for a partition that does not answer, unless set.
const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(15);

/// How a topic is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicOptions {
    /// Whether the cluster's clock replaces the records' timestamps (`message.timestamp.type`).
    pub log_append_time: bool,
    /// `cleanup.policy`. It is reported and has no effect: compaction happens when it is called.
    pub cleanup_policy: String,
    /// Whether the topic is reported as internal.
    pub internal: bool,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            log_append_time: false,
            cleanup_policy: "delete".to_owned(),
            internal: false,
        }
    }
}

impl TopicOptions {
    /// Timestamps are set by the cluster, not by the producer.
    #[must_use]
    pub fn log_append_time(mut self) -> Self {
        self.log_append_time = true;
        self
    }

    /// Reports this `cleanup.policy`.
    #[must_use]
    pub fn cleanup_policy(mut self, policy: impl Into<String>) -> Self {
        self.cleanup_policy = policy.into();
        self
    }

    /// Reports the topic as internal.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }
}

/// Settings of a [`MemoryCluster`] that is to be made.
#[derive(Debug, Clone)]
pub struct MemoryClusterBuilder {
    seed: Option<u64>,
    racks: Vec<Option<String>>,
    fetch: FetchLimits,
    read_timeout: Duration,
}

impl Default for MemoryClusterBuilder {
    fn default() -> Self {
        Self {
            seed: None,
            racks: vec![None],
            fetch: FetchLimits {
                records: DEFAULT_FETCH_RECORDS,
                bytes: DEFAULT_FETCH_BYTES,
            },
            read_timeout: DEFAULT_READ_TIMEOUT,
        }
    }
}

impl MemoryClusterBuilder {
    /// Makes the cluster id and the topic ids a function of `seed` and the order of creation.
    /// Without a seed they are unique.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// One broker for each rack. Leaders are spread over them by partition number.
    #[must_use]
    pub fn racks<R: Into<String>>(mut self, racks: impl IntoIterator<Item = R>) -> Self {
        self.racks = racks.into_iter().map(|rack| Some(rack.into())).collect();
        if self.racks.is_empty() {
            self.racks.push(None);
        }
        self
    }

    /// The most records that one fetch hands over (1,000 unless set, at least 1).
    #[must_use]
    pub fn fetch_records(mut self, records: usize) -> Self {
        self.fetch.records = records.max(1);
        self
    }

    /// The most bytes that one fetch hands over (1 MiB unless set); one larger record still fits.
    #[must_use]
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch.bytes = bytes.max(1);
        self
    }

    /// How long a reader waits for a stalled or leaderless partition (15 s unless set).
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// The cluster.
    pub fn build(self) -> MemoryCluster {
        // A `RandomState` has keys of its own: two clusters without a seed have different ids.
        let seed = self.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        MemoryCluster {
            shared: Arc::new(Shared::new(seed, self.racks, self.fetch, self.read_timeout)),
        }
    }
}
