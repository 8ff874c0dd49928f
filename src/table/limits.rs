//! How much of a table a job takes at once.

use std::time::Duration;

/// The limits that Spark's users know, and some that they asked for. Without any, a batch takes
/// everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// At most about so many offsets in a batch, prorated by the partitions' backlogs; each
    /// partition that has any advances by one at least. Spark's `maxOffsetsPerTrigger`.
    pub max_offsets: Option<u64>,
    /// At most so many offsets of each partition. Koeninger's `maxRatePerPartition`, by batch.
    pub max_offsets_per_partition: Option<u64>,
    /// At most about so many key and value bytes, estimated from earlier batches; a first batch
    /// counts 1024 for an offset.
    pub max_bytes: Option<u64>,
    /// Waits for so many new offsets. Spark's `minOffsetsPerTrigger`.
    pub min_offsets: Option<u64>,
    /// Waits no longer than this for `min_offsets`; 15 minutes unless set. Spark's
    /// `maxTriggerDelay`.
    pub max_delay: Option<Duration>,
    /// Leaves records alone until they are so old by their timestamps: a batch ends at the first
    /// record that is younger.
    pub lag: Option<Duration>,
}
