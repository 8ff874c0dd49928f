//! When batches are due.

use std::time::{Duration, Instant};

use super::run::{Stop, Trigger};

/// The ticks of [`Trigger::Every`]; other triggers never wait here.
pub(super) struct Ticks {
    every: Option<Duration>,
    next: Instant,
}

impl Ticks {
    pub(super) fn new(trigger: Trigger) -> Self {
        Self {
            every: match trigger {
                Trigger::Every(every) => Some(every.max(Duration::from_millis(1))),
                _ => None,
            },
            next: Instant::now(),
        }
    }

    /// Waits for the next tick. Those that have passed meanwhile are skipped.
    pub(super) async fn wait(&mut self, stop: &Stop) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        if let Some(late) = now.checked_duration_since(self.next) {
            // The first tick is due at once; the next one lies on the grid of the first.
            let passed = late.as_nanos() / every.as_nanos().max(1);
            let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
            self.next += every * steps;
            return;
        }
        stop.sleep(self.next - now).await;
        self.next += every;
    }
}
