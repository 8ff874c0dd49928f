//! How much to fetch at once, and how much memory that takes.

use crate::client::ReadRequest;

/// Up to this number of offsets (of the request, or of its ranges on average), fetches are small.
const SMALL_OFFSETS: i64 = 10_000;
/// What librdkafka allocates for each queued message in addition to its payload.
const MESSAGE_OVERHEAD_BYTES: usize = 320;
/// The size of a small record in a Fetch response, with a payload of about fifty bytes. A topic with smaller
/// records exceeds the bound by what librdkafka allocates for each.
const RECORD_LEAST_BYTES: usize = 64;

/// How much to fetch at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Profile {
    /// For few records, or many small ranges. Little is fetched without being read, and several ranges are
    /// fetched at a time.
    Small,
    /// For long ranges, one after another.
    Large,
}

impl Profile {
    pub(crate) fn of(request: &ReadRequest) -> Self {
        let ranges = request.ranges.iter().filter(|r| r.start() < r.end());
        let (count, offsets) = ranges.fold((0i64, 0i64), |(n, sum), r| {
            (n + 1, sum.saturating_add(r.end() - r.start()))
        });
        let few = |n: i64| n <= SMALL_OFFSETS;
        let limit = request.limit.map(|l| i64::try_from(l).unwrap_or(i64::MAX));
        if few(offsets / count.max(1)) || limit.is_some_and(few) {
            Self::Small
        } else {
            Self::Large
        }
    }

    /// How long the broker may hold a Fetch at the end of the log, in ms.
    ///
    /// The end of a partition only shows in the Fetch after its last record, and a range that starts
    /// meanwhile has to wait for that Fetch. But a stream that stays open at the end repeats its request this
    /// often.
    pub(super) fn fetch_wait_ms(self) -> u32 {
        match self {
            Self::Small => 2,
            Self::Large => 5,
        }
    }

    /// How many ranges to fetch at a time, including the one being read.
    pub(crate) fn depth(self) -> usize {
        match self {
            Self::Small => 8,
            Self::Large => 2,
        }
    }
}

/// The sizes of a profile's fetches and queues. They were measured, see the comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The most that one Fetch returns of a partition, unless a single record batch is larger.
    pub(super) fetch_bytes: usize,
    /// While this much payload is queued, no Fetch is sent.
    pub(super) queued_bytes: usize,
    /// While this many messages are queued, no Fetch is sent.
    pub(super) queued_messages: usize,
}

impl Sizes {
    pub(super) fn of(profile: Profile, buffer_bytes: usize) -> Self {
        match profile {
            Profile::Large => Self {
                // 1 MiB reads as fast as 4 MiB here and needs a quarter of the queue.
                fetch_bytes: (buffer_bytes / 16).clamp(16 << 10, 4 << 20),
                queued_bytes: buffer_bytes / 4,
                queued_messages: (buffer_bytes / 800).max(1000),
            },
            Profile::Small => Self {
                fetch_bytes: (buffer_bytes / 128).clamp(16 << 10, 256 << 10),
                queued_bytes: (buffer_bytes / 128).max(16 << 10),
                queued_messages: 1000,
            },
        }
    }

    /// The most that a partition's queue holds: its limits, plus what one last Fetch adds.
    pub(super) fn most_bytes(self) -> usize {
        let payload = self.queued_bytes + self.fetch_bytes;
        let messages = self.queued_messages + self.fetch_bytes / RECORD_LEAST_BYTES;
        payload + messages * MESSAGE_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_just_below_its_limits_fits_the_bound() {
        let sizes = Sizes::of(Profile::Large, 16 << 20);
        // 100-byte records take about 107 bytes in a response.
        let messages = sizes.queued_messages + sizes.fetch_bytes / 107;
        assert!(messages * (MESSAGE_OVERHEAD_BYTES + 100) <= 16 << 20);
        assert!(messages * (MESSAGE_OVERHEAD_BYTES + 100) <= sizes.most_bytes());
    }
}
