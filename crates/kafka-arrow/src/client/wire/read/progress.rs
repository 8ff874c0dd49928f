//! How far a stream has come, how long ago that was, and what has failed since.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::client::RawBatch;
use crate::client::wire::ask::backoff;
use crate::range::TopicPartition;

/// When a stream last got on: its position moved, or more of an answer arrived than ever since it moved. So a
/// record batch that takes long is progress, and one that breaks off at the same byte again is none.
pub(super) struct Progress {
    /// `None` before the first range begins.
    position: Option<i64>,
    /// The most bytes of an answer that arrived since the position moved.
    arrived_bytes: usize,
    /// When it last got on, plus the time since then that does not count as silence: in which the stream was
    /// not polled, waited for memory, or was held back by a broker.
    since: Instant,
    /// When the last batch was handed out, if the stream was not polled since.
    yielded: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            position: None,
            arrived_bytes: 0,
            since: Instant::now(),
            yielded: None,
        }
    }

    /// Whether a range was begun.
    pub(super) fn has_begun(&self) -> bool {
        self.position.is_some()
    }

    /// Notes the position. Whether it has moved.
    pub(super) fn reach(&mut self, position: i64) -> bool {
        let moved = self.position != Some(position);
        if moved {
            self.position = Some(position);
            self.arrived_bytes = 0;
            self.since = Instant::now();
        }
        moved
    }

    /// Notes how many bytes of an answer have arrived. Whether that is progress.
    pub(super) fn arrived(&mut self, bytes: usize) -> bool {
        let more = bytes > self.arrived_bytes;
        if more {
            self.arrived_bytes = bytes;
            self.since = Instant::now();
        }
        more
    }

    /// The time without progress, as far as it counts.
    pub(super) fn silent(&self) -> Duration {
        self.since.elapsed()
    }

    /// Lets a time not count.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.since += time;
    }

    /// A batch is handed out: until the next poll time does not count.
    pub(super) fn hand_out(&mut self) {
        self.yielded = Some(Instant::now());
    }

    pub(super) fn polled(&mut self) {
        if let Some(yielded) = self.yielded.take() {
            self.excuse(yielded.elapsed());
        }
    }
}

/// What has failed since the last progress.
pub(super) struct Failures {
    /// Attempts that came to nothing.
    pub(super) retries: Backoff,
    /// Answers without records, in succession.
    pub(super) empties: u32,
    /// Where records did not decode.
    pub(super) corrupt_at: Option<(TopicPartition, i64)>,
    /// How long brokers have held this client back.
    pub(super) held: Duration,
    /// What the broker had served this client when it was last waited for.
    pub(super) served: usize,
    /// Of the last attempt, also after progress.
    pub(super) reason: Option<String>,
}

impl Failures {
    pub(super) fn none() -> Self {
        Self {
            retries: backoff(),
            empties: 0,
            corrupt_at: None,
            held: Duration::ZERO,
            served: 0,
            reason: None,
        }
    }

    /// The position has moved.
    pub(super) fn forget(&mut self) {
        self.retries.reset();
        self.empties = 0;
        self.corrupt_at = None;
        self.held = Duration::ZERO;
    }

    /// Notes that records at a place do not decode. Whether those of the same place did not before.
    pub(super) fn corrupt_again(&mut self, partition: TopicPartition, offset: i64) -> bool {
        let here = (partition, offset);
        self.corrupt_at.replace(here.clone()) == Some(here)
    }
}

/// What the next batch reports besides its rows.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Offsets that were gone.
    pub(super) lost: i64,
    /// How long the broker was waited for.
    pub(super) fetch_wait: Duration,
    /// How long brokers held this client back.
    pub(super) throttle: Duration,
}

impl Report {
    /// Moves into a batch.
    pub(super) fn hand_over(&mut self, batch: &mut RawBatch) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let report = std::mem::take(self);
        batch.lost_offsets = report.lost;
        batch.fetch_wait_ns = ns(report.fetch_wait);
        batch.throttle_ns = ns(report.throttle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_position_that_moves_is_progress_and_so_is_more_of_an_answer() {
        let mut progress = Progress::new();
        assert!(!progress.has_begun());
        assert!(progress.reach(0), "the first range begins at 0");
        progress.since -= HOUR;
        assert!(!progress.reach(0));
        assert!(progress.silent() >= HOUR);
        assert!(progress.reach(1));
        assert!(progress.silent() < HOUR);
        for (bytes, gets_on) in [(10, true), (9, false), (10, false), (11, true)] {
            progress.since = Instant::now() - HOUR;
            assert_eq!(progress.arrived(bytes), gets_on, "{bytes}");
            assert_eq!(progress.silent() < HOUR, gets_on, "{bytes}");
        }
        assert!(progress.reach(2));
        progress.since -= HOUR;
        assert!(progress.arrived(1), "of another answer");
        assert!(progress.silent() < HOUR);
    }

    #[test]
    fn time_without_a_poll_is_no_silence() {
        let mut progress = Progress::new();
        progress.reach(5);
        progress.since -= HOUR;
        progress.yielded = Some(Instant::now() - HOUR);
        progress.polled();
        assert!(progress.silent() < HOUR);
        // Once only.
        progress.since -= HOUR;
        progress.polled();
        assert!(progress.silent() >= HOUR);
    }

    #[test]
    fn failures_are_forgotten_with_progress_but_not_why_it_failed() {
        let mut failures = Failures::none();
        let here = TopicPartition::new("orders", 0);
        failures.retries.pause();
        failures.empties = 2;
        failures.held = HOUR;
        failures.reason = Some("the broker is down".into());
        assert!(!failures.corrupt_again(here.clone(), 7));
        assert!(failures.corrupt_again(here.clone(), 7));
        assert!(!failures.corrupt_again(here.clone(), 8), "another place");
        failures.forget();
        assert_eq!((failures.retries.failed(), failures.empties), (0, 0));
        assert!(failures.held.is_zero());
        assert!(!failures.corrupt_again(here, 8));
        assert!(failures.reason.is_some());
    }

    #[test]
    fn a_report_is_handed_over_once() {
        let mut report = Report {
            lost: 3,
            fetch_wait: Duration::from_nanos(5),
            throttle: Duration::from_nanos(7),
        };
        let mut batch = RawBatch::new(
            TopicPartition::new("orders", 0),
            9,
            Vec::<i64>::new().into(),
        );
        for expected in [(3, 5, 7), (0, 0, 0)] {
            report.hand_over(&mut batch);
            let reported = (batch.lost_offsets, batch.fetch_wait_ns, batch.throttle_ns);
            assert_eq!(reported, expected);
        }
    }
}
