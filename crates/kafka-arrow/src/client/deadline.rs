//! Time limits: for a request to a cluster as a whole, and for one attempt of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::HELD_MOST;

/// The time by which a request must be answered.
#[derive(Debug)]
pub(crate) struct Deadline {
    asked: Instant,
    end: Instant,
    whole: Duration,
    /// Time that does not count because a broker throttled the client, in ms.
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

    /// Excludes time in which a broker throttles the client, unless that exceeds all reason.
    pub(crate) fn extend(&self, held: Duration) {
        if held <= self.whole.saturating_mul(HELD_MOST) {
            let held_ms = u64::try_from(held.as_millis()).unwrap_or(u64::MAX);
            self.held_ms.fetch_add(held_ms, Ordering::Relaxed);
        }
    }

    /// When the request was first made; earlier attempts count.
    #[cfg(feature = "librdkafka")]
    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    /// The whole time that the request may take.
    pub(crate) fn whole(&self) -> Duration {
        self.whole
    }

    /// An earlier deadline: a fraction of the time that is left, but at least a second.
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
