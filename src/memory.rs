//! What scans and writers hold, in DataFusion's memory pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use tokio::time::{Instant, sleep};

use crate::client::{Held, MemoryBudget};

/// How long memory is waited for while nobody takes or gives back any.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for.
const TICK: Duration = Duration::from_millis(5);

/// The part of a consumer in a pool.
#[derive(Debug)]
struct PoolBudget {
    pool: Arc<dyn MemoryPool>,
    reservation: MemoryReservation,
}

/// The memory of a consumer that is called `name`, in `pool`.
pub(crate) fn budget(pool: &Arc<dyn MemoryPool>, name: String) -> Arc<dyn MemoryBudget> {
    Arc::new(PoolBudget {
        pool: Arc::clone(pool),
        reservation: MemoryConsumer::new(name).register(pool),
    })
}

/// Nothing yet of the memory of such a consumer.
pub(crate) fn held(pool: &Arc<dyn MemoryPool>, name: String) -> Held {
    Held::nothing_of(&budget(pool, name))
}

impl PoolBudget {
    /// Whether so many bytes would not fit even if all others gave back what they hold.
    fn is_hopeless(&self, bytes: usize) -> bool {
        match self.pool.memory_limit() {
            MemoryLimit::Finite(limit) => self.reservation.size().saturating_add(bytes) > limit,
            _ => false,
        }
    }
}

#[async_trait]
impl MemoryBudget for PoolBudget {
    fn try_take(&self, bytes: usize) -> Result<(), String> {
        self.reservation.try_grow(bytes).map_err(|refused| {
            let MemoryLimit::Finite(limit) = self.pool.memory_limit() else {
                return refused.strip_backtrace();
            };
            let left = limit.saturating_sub(self.pool.reserved());
            format!(
                "the session may use {limit} bytes of memory, of which {left} are free; raise \
                 'datafusion.runtime.memory_limit', or lower 'datafusion.execution.target_partitions' \
                 so that less is read at a time"
            )
        })
    }

    async fn take(&self, bytes: usize) -> Result<(), String> {
        let mut seen = (self.pool.reserved(), Instant::now());
        loop {
            let refused = match self.try_take(bytes) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let now = (self.pool.reserved(), Instant::now());
            if now.0 != seen.0 {
                seen = now;
            }
            // Others go on by themselves, unless they wait for these rows: a merge does.
            if self.is_hopeless(bytes) || now.1.duration_since(seen.1) >= PATIENCE {
                return Err(refused);
            }
            sleep(TICK).await;
        }
    }

    fn give_back(&self, bytes: usize) {
        self.reservation.shrink(bytes);
    }
}

/// The bytes of a batch's values, whatever memory they point into.
pub(crate) fn payload_bytes(rows: &RecordBatch) -> usize {
    let bytes = rows
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => column.as_string_view().total_bytes_len(),
            DataType::BinaryView => column.as_binary_view().total_bytes_len(),
            _ => {
                let slice = column.to_data().get_slice_memory_size();
                slice.unwrap_or_else(|_| column.get_array_memory_size())
            }
        });
    bytes.sum()
}

/// Bytes of the row groups that all writers of the process gather.
const ROW_GROUPS_BYTES: usize = 64 << 20;
/// Writers that gather.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

/// A writer's part of the memory for row groups, which all have the same part of; until it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Share(());

impl Share {
    pub(crate) fn join() -> Self {
        WRITERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// The bytes at which the writer ends a row group now.
    pub(crate) fn bytes(&self) -> usize {
        ROW_GROUPS_BYTES / WRITERS.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        WRITERS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[tokio::test]
    async fn memory_is_waited_for_as_long_as_there_is_hope() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let (mut one, mut other) = (held(&pool, "one".into()), held(&pool, "other".into()));
        one.hold(80).await.unwrap();
        let later = async {
            sleep(PATIENCE / 2).await;
            one.try_hold(30).unwrap();
        };
        let (taken, ()) = tokio::join!(other.hold(70), later);
        taken.unwrap();
        assert_eq!(pool.reserved(), 100);

        let begun = Instant::now();
        let refused = other.hold(71).await.unwrap_err();
        assert!(begun.elapsed() >= PATIENCE);
        assert!(refused.contains("may use 100 bytes"), "{refused}");
        assert_eq!(other.bytes(), 70, "what was held is held");

        let begun = Instant::now();
        other.hold(101).await.unwrap_err();
        assert!(begun.elapsed() < PATIENCE, "there is no hope");
        drop((one, other));
        assert_eq!(pool.reserved(), 0);
    }
}
