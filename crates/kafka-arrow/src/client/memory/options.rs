//! The settings of a cluster and its topics.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use super::MemoryCluster;
use super::log::FetchLimits;
use super::state::Shared;

/// The most records that one fetch returns, by default.
const DEFAULT_FETCH_RECORDS: usize = 1_000;
/// The most bytes that one fetch returns, by default: Kafka's `max.partition.fetch.bytes`.
const DEFAULT_FETCH_BYTES: usize = 1024 * 1024;
/// How long a reader waits for a partition that does not answer, by default.
const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(15);

/// How a topic is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicOptions {
    /// Whether the cluster's clock replaces the records' timestamps (`message.timestamp.type`).
    pub log_append_time: bool,
    /// `cleanup.policy`. It is reported but has no effect: compaction only happens on request.
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
    /// Lets the cluster set timestamps instead of the producer.
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

/// Settings for a new [`MemoryCluster`].
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
    /// Derives the cluster id and the topic ids from `seed` and the order of creation. Without a seed they
    /// are unique.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes one broker for each rack. Leaders are spread over them by partition number.
    #[must_use]
    pub fn racks<R: Into<String>>(mut self, racks: impl IntoIterator<Item = R>) -> Self {
        self.racks = racks.into_iter().map(|rack| Some(rack.into())).collect();
        if self.racks.is_empty() {
            self.racks.push(None);
        }
        self
    }

    /// The most records that one fetch returns (1,000 by default, at least 1).
    #[must_use]
    pub fn fetch_records(mut self, records: usize) -> Self {
        self.fetch.records = records.max(1);
        self
    }

    /// The most bytes that one fetch returns (1 MiB by default). A single larger record still fits.
    #[must_use]
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch.bytes = bytes.max(1);
        self
    }

    /// How long a reader waits for a stalled or leaderless partition (15 s by default).
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Makes the cluster.
    pub fn build(self) -> MemoryCluster {
        // Each `RandomState` has different keys, so two clusters without a seed get different ids.
        let seed = self.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        MemoryCluster {
            shared: Arc::new(Shared::new(seed, self.racks, self.fetch, self.read_timeout)),
        }
    }
}
