//! How a reader asks for memory. The client does not know who grants it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

/// Grants memory to the streams of [`KafkaClient::read_within`](super::KafkaClient::read_within).
#[async_trait]
pub trait MemoryBudget: fmt::Debug + Send + Sync {
    /// Takes `bytes` more, immediately or not at all.
    ///
    /// # Errors
    /// A message for the user: the limit, how much of it is left, and how to raise it.
    fn try_take(&self, bytes: usize) -> Result<(), String>;

    /// Takes `bytes` more, and waits while others may give some back.
    ///
    /// # Errors
    /// As [`try_take`](Self::try_take), when waiting cannot help.
    async fn take(&self, bytes: usize) -> Result<(), String>;

    /// Gives back `bytes` that were taken.
    fn give_back(&self, bytes: usize);
}

/// A budget without a limit.
#[derive(Debug, Clone, Copy)]
pub struct Unlimited;

#[async_trait]
impl MemoryBudget for Unlimited {
    fn try_take(&self, _bytes: usize) -> Result<(), String> {
        Ok(())
    }

    async fn take(&self, _bytes: usize) -> Result<(), String> {
        Ok(())
    }

    fn give_back(&self, _bytes: usize) {}
}

/// A part of a budget. Dropping it gives back what it holds.
#[derive(Debug)]
pub struct Held {
    budget: Arc<dyn MemoryBudget>,
    bytes: usize,
}

impl Held {
    /// An empty part of a budget.
    pub fn nothing_of(budget: &Arc<dyn MemoryBudget>) -> Self {
        let budget = Arc::clone(budget);
        Self { budget, bytes: 0 }
    }

    pub(crate) fn unlimited() -> Self {
        Self::nothing_of(&(Arc::new(Unlimited) as _))
    }

    /// The number of bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves the held bytes into a separate part, to be given back with something else.
    pub(crate) fn part(&mut self) -> Self {
        let budget = Arc::clone(&self.budget);
        let bytes = std::mem::take(&mut self.bytes);
        Self { budget, bytes }
    }

    /// Changes the held amount to exactly `bytes`; on failure it stays as it was.
    pub fn try_hold(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > self.bytes {
            self.budget.try_take(bytes - self.bytes)?;
        }
        self.hold_taken(bytes);
        Ok(())
    }

    /// As [`try_hold`](Self::try_hold), but waits where that may help.
    pub async fn hold(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes).await?;
        }
        self.hold_taken(bytes);
        Ok(())
    }

    fn hold_taken(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.budget.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hold_taken(0);
    }
}
