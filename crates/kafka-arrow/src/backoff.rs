//! How long to wait before an attempt is repeated.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A pause is changed by up to this part of itself, as Kafka's own clients do it.
const JITTER: f64 = 0.2;

/// The pauses between the attempts at one thing.
///
/// Each pause is twice as long as the one before, up to the longest. Each is changed by up to a fifth at
/// random, so that clients which failed together do not come back together.
///
/// ```
/// # use std::time::Duration;
/// # use kafka_arrow::Backoff;
/// let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
/// let first = backoff.pause();
/// assert!((16..=24).contains(&first.as_millis()));
/// assert_eq!(backoff.failed(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failed: u32,
    random: u64,
}

impl Backoff {
    /// Pauses that begin with `first` and grow up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self::seeded(first, longest, RandomState::new().build_hasher().finish())
    }

    /// The same, with the same pauses for the same `seed`.
    pub fn seeded(first: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            first,
            longest,
            failed: 0,
            random: seed,
        }
    }

    /// Counts a failed attempt, and says how long to wait before the next.
    pub fn pause(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failed.min(30));
        self.failed = self.failed.saturating_add(1);
        let pause = doubled.min(self.longest);
        let changed = pause.as_secs_f64() * (1.0 + JITTER * (2.0 * self.random() - 1.0));
        Duration::try_from_secs_f64(changed).unwrap_or(pause)
    }

    /// Counts a failed attempt, and waits before the next, but no longer than `most`.
    pub async fn wait(&mut self, most: Duration) {
        tokio::time::sleep(self.pause().min(most)).await;
    }

    /// How many attempts have failed since the last success.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Notes a success: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// The next number from 0 to 1 (SplitMix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ bits >> 31) as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(1);

    fn pauses_ms(seed: u64) -> Vec<u128> {
        let mut backoff = Backoff::seeded(FIRST, LONGEST, seed);
        (0..40).map(|_| backoff.pause().as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_a_fifth() {
        for seed in 0..200 {
            let wanted = [100, 200, 400, 800].into_iter().chain([1000; 36]);
            for (wanted, pause) in wanted.zip(pauses_ms(seed)) {
                let near = wanted * 8 / 10 - 1..=wanted * 12 / 10 + 1;
                assert!(near.contains(&pause), "{pause} for {wanted}, seed {seed}");
            }
        }
    }

    #[test]
    fn clients_that_failed_together_come_back_apart() {
        assert_eq!(pauses_ms(7), pauses_ms(7));
        let third = |seed| pauses_ms(seed)[2];
        let (low, high) = ((0..200).map(third).min(), (0..200).map(third).max());
        assert!(low.is_some_and(|ms| ms < 330), "{low:?}");
        assert!(high.is_some_and(|ms| ms > 470), "{high:?}");
        let mut random = (0..5).map(|_| Backoff::new(FIRST, LONGEST).pause());
        let first = random.next();
        assert!(random.any(|pause| Some(pause) != first));
    }

    #[test]
    fn a_success_begins_with_the_first_pause_again() {
        let mut backoff = Backoff::seeded(FIRST, LONGEST, 1);
        for failed in 1..=50 {
            backoff.pause();
            assert_eq!(backoff.failed(), failed);
        }
        backoff.reset();
        assert_eq!(backoff.failed(), 0);
        assert!(backoff.pause() <= FIRST.mul_f64(1.2));
    }

    #[test]
    fn times_out_of_all_bounds_do_not_overflow() {
        let mut backoff = Backoff::seeded(Duration::from_secs(1 << 40), Duration::MAX, 1);
        let last = (0..100).map(|_| backoff.pause()).last();
        assert!(last.is_some_and(|pause| pause > Duration::MAX / 2));
        assert_eq!(
            Backoff::seeded(Duration::ZERO, LONGEST, 1).pause(),
            Duration::ZERO
        );
    }
}
