//! How long a question to a cluster may take in all, and one attempt of it.

use std::time::{Duration, Instant};

/// When a question must be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Instant,
    whole: Duration,
}

impl Deadline {
    pub(crate) fn after(whole: Duration) -> Self {
        Self {
            end: Instant::now() + whole,
            whole,
        }
    }

    /// The time from asking to the end.
    pub(crate) fn whole(&self) -> Duration {
        self.whole
    }

    /// An earlier one: a part of the time that is left, but a second at least.
    pub(crate) fn part(&self, of: u32) -> Self {
        Self::after(
            (self.left() / of)
                .max(Duration::from_secs(1))
                .min(self.left()),
        )
    }

    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    pub(crate) fn left_ms(&self) -> i32 {
        i32::try_from(self.left().as_millis())
            .unwrap_or(i32::MAX)
            .max(1)
    }

    pub(crate) fn passed(&self) -> bool {
        self.left().is_zero()
    }
}
