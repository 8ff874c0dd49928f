//! Reports what scans and writers hold to DataFusion's memory pool.

#[cfg(feature = "jobs")]
mod writers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use tokio::time::{Instant, sleep};

#[cfg(any(feature = "jobs", test))]
use crate::client::Held;
use crate::client::MemoryBudget;

#[cfg(feature = "jobs")]
pub(crate) use writers::{Share, column_bytes, payload_bytes, turn};

/// How long to wait for memory while the pool does not change.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait in total. Changes by others do not mean that this consumer will be served.
const PATIENCE_MOST: Duration = Duration::from_secs(5);
/// How often to try again.
const TICK: Duration = Duration::from_millis(5);
/// Up to this fraction of the limit, and up to `OWN_BYTES`, a consumer is never refused. Others that can
/// spill do so when they request more themselves.
const OWN_PART: usize = 16;
const OWN_BYTES: usize = 16 << 20;

/// One consumer's reservation in a pool.
#[derive(Debug)]
struct PoolBudget {
    pool: Arc<dyn MemoryPool>,
    reservation: MemoryReservation,
}

/// The memory in `pool` of a consumer called `name`.
pub(crate) fn budget(pool: &Arc<dyn MemoryPool>, name: String) -> Arc<dyn MemoryBudget> {
    Arc::new(PoolBudget {
        pool: Arc::clone(pool),
        reservation: MemoryConsumer::new(name).register(pool),
    })
}

/// An empty part of such a consumer's memory.
#[cfg(any(feature = "jobs", test))]
pub(crate) fn held(pool: &Arc<dyn MemoryPool>, name: String) -> Held {
    Held::nothing_of(&budget(pool, name))
}

#[async_trait]
impl MemoryBudget for PoolBudget {
    fn try_take(&self, bytes: usize) -> Result<(), String> {
        let MemoryLimit::Finite(limit) = self.pool.memory_limit() else {
            let grown = self.reservation.try_grow(bytes);
            return grown.map_err(|refused| refused.strip_backtrace());
        };
        if self.reservation.size().saturating_add(bytes) <= OWN_BYTES.min(limit / OWN_PART) {
            self.reservation.grow(bytes);
            return Ok(());
        }
        self.reservation.try_grow(bytes).map_err(|_| {
            let left = limit.saturating_sub(self.pool.reserved());
            format!(
                "the session may use {limit} bytes of memory, of which {left} are free; raise \
                 'datafusion.runtime.memory_limit' (--memory-limit)"
            )
        })
    }

    /// An amount that would fit alone is granted in the end, if necessary beyond the limit. Other consumers
    /// may be waiting for these very rows, as a merge does, or only spill when they request more, as a sort
    /// does.
    async fn take(&self, bytes: usize) -> Result<(), String> {
        let asked = Instant::now();
        let mut seen = (self.pool.reserved(), asked);
        loop {
            let Err(refused) = self.try_take(bytes) else {
                return Ok(());
            };
            let alone = match self.pool.memory_limit() {
                // What this consumer holds may be rows that others are about to release.
                MemoryLimit::Finite(limit) => {
                    bytes <= limit / 2 || self.reservation.size().saturating_add(bytes) <= limit
                }
                _ => false,
            };
            if !alone {
                return Err(refused);
            }
            let now = (self.pool.reserved(), Instant::now());
            if now.0 != seen.0 {
                seen = now;
            }
            if now.1.duration_since(seen.1) >= PATIENCE
                || now.1.duration_since(asked) >= PATIENCE_MOST
            {
                self.reservation.grow(bytes);
                return Ok(());
            }
            sleep(TICK).await;
        }
    }

    fn give_back(&self, bytes: usize) {
        self.reservation.shrink(bytes);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[tokio::test]
    async fn memory_is_waited_for_and_what_fits_alone_is_granted() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(160));
        let (mut one, mut other) = (held(&pool, "one".into()), held(&pool, "other".into()));
        one.hold(120).await.unwrap();
        let refused = other.try_hold(70).unwrap_err();
        assert!(
            refused.contains("may use 160 bytes of memory, of which 40 are free"),
            "{refused}"
        );
        let later = async {
            sleep(TICK * 4).await;
            one.try_hold(90).unwrap();
        };
        let (taken, ()) = tokio::join!(other.hold(70), later);
        taken.unwrap();
        assert_eq!(pool.reserved(), 160);

        // The pool no longer changes.
        other.hold(150).await.unwrap();
        assert_eq!(pool.reserved(), 240);
        other.hold(241).await.unwrap_err();
        assert_eq!(other.bytes(), 150, "what was held is held");
        // A small amount is always granted.
        held(&pool, "third".into()).try_hold(10).unwrap();
        drop((one, other));
        assert_eq!(pool.reserved(), 0);
    }
}
