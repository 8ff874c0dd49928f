//! How much is fetched at once, and what that holds in memory.

use crate::client::ReadRequest;

/// Up to so many offsets (of the request, or of its ranges on average) small fetches are used.
const SMALL_OFFSETS: i64 = 10_000;
/// What librdkafka allocates for each queued message beside its payload.
const MESSAGE_OVERHEAD_BYTES: usize = 320;
/// What a small record takes in a Fetch response: some fifty bytes of payload. A topic of smaller
/// ones exceeds the bound by what librdkafka allocates for each.
const RECORD_LEAST_BYTES: usize = 64;

/// How much is fetched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Profile {
    /// Few records, or many small ranges: little is fetched that is not read, several ranges at
    /// a time.
    Small,
    /// Long ranges, one after another.
    Large,
}

impl Profile {
    pub(crate) fn of(request: &ReadRequest) -> Self {
        let ranges = request.ranges.iter().filter(|r| r.start < r.end);
        let (count, offsets) = ranges.fold((0i64, 0i64), |(n, sum), r| {
            (n + 1, sum.saturating_add(r.end - r.start))
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
    /// The end of a partition shows in the Fetch after the last record, and a range that starts
    /// meanwhile waits for that Fetch; on the other hand a stream that is held open there asks
    /// again so often.
    pub(super) fn fetch_wait_ms(self) -> u32 {
        match self {
            Self::Small => 2,
            Self::Large => 5,
        }
    }

    /// How many ranges may be fetched at a time, the one that is read included.
    pub(crate) fn depth(self) -> usize {
        match self {
            Self::Small => 8,
            Self::Large => 2,
        }
    }
}

/// The sizes of a profile's fetches and queues; measured, see the constants' comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The most that one Fetch brings of a partition, one larger record batch excepted.
    pub(super) fetch_bytes: usize,
    /// No Fetch is sent while so much payload is queued.
    pub(super) queued_bytes: usize,
    /// No Fetch is sent while so many messages are queued.
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

    /// The most that one partition's queue holds: what a last Fetch adds to a queue just below
    /// its limits.
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
