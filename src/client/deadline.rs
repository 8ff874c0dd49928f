//! How long a question to a cluster may take in all, and one attempt of it.

use std::time::{Duration, Instant};

/// When a question must be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    asked: Instant,
    end: Instant,
    whole: Duration,
}

impl Deadline {
    pub(crate) fn after(whole: Duration) -> Self {
        let asked = Instant::now();
        Self {
            asked,
            end: asked + whole,
            whole,
        }
    }

    /// When the question was asked, whose earlier attempts count.
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
