//! How long a question to a cluster may take in all, and one attempt of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::HELD_MOST;
use crate::backoff::Backoff;

/// The pauses before brokers are asked again.
pub(crate) fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(20), Duration::from_millis(500))
}

/// When a question must be answered.
#[derive(Debug)]
pub(crate) struct Deadline {
    asked: Instant,
    end: Instant,
    whole: Duration,
    /// Time that does not count: a broker held the client back, in ms.
    held_ms: AtomicU64,
}

impl Deadline {
    pub(crate) fn after(whole: Duration) -> Self {
        let asked = Instant::now();
        Self {
            asked,
            end: asked + whole,
            whole,
            held_ms: AtomicU64::new(0),
        }
    }

    /// Lets a time not count in which a broker holds the client back, unless it is out of all bounds.
    pub(crate) fn extend(&self, held: Duration) {
        if held <= self.whole.saturating_mul(HELD_MOST) {
            let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            self.held_ms.fetch_add(held_ms, Ordering::Relaxed);
        }
    }

    /// When the question was asked, whose earlier attempts count.
    #[cfg(feature = "librdkafka")]
    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    /// The time from asking to the end.
    pub(crate) fn whole(&self) -> Duration {
        self.whole
    }

    /// An earlier one: a part of the time that is left, but a second at least.
    pub(crate) fn part(&self, of: u32) -> Self {
        let part = (self.left() / of)
            .max(Duration::from_secs(1))
            .min(self.left());
        Self {
            asked: self.asked,
            ..Self::after(part)
        }
    }

    pub(crate) fn left(&self) -> Duration {
        let held = Duration::from_millis(self.held_ms.load(Ordering::Relaxed));
        let end = self.end + held.min(self.whole.saturating_mul(HELD_MOST));
        end.saturating_duration_since(Instant::now())
    }

    #[cfg(feature = "librdkafka")]
    pub(crate) fn left_ms(&self) -> i32 {
        i32::try_from(self.left().as_millis())
            .unwrap_or(i32::MAX)
            .max(1)
    }

    pub(crate) fn passed(&self) -> bool {
        self.left().is_zero()
    }
}
