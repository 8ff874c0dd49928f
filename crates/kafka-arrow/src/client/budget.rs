//! How a reader asks for the memory that it holds. Who grants it, the client does not know.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

/// Grants memory to the streams of [`KafkaClient::read_within`](super::KafkaClient::read_within).
#[async_trait]
pub trait MemoryBudget: fmt::Debug + Send + Sync {
    /// Takes so many bytes more, at once or not at all.
    ///
    /// # Errors
    /// In words: what the limit is, what is left of it and how it is raised.
    fn try_take(&self, bytes: usize) -> Result<(), String>;

    /// Takes so many bytes more, and waits while others may give some back.
    ///
    /// # Errors
    /// As [`try_take`](Self::try_take), when there is no hope.
    async fn take(&self, bytes: usize) -> Result<(), String>;

    /// Gives back what was taken.
    fn give_back(&self, bytes: usize);
}

/// Whatever is asked for is there.
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

/// A part of a budget; what it holds is given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<dyn MemoryBudget>,
    bytes: usize,
}

impl Held {
    /// Nothing yet of a budget.
    pub fn nothing_of(budget: &Arc<dyn MemoryBudget>) -> Self {
        let budget = Arc::clone(budget);
        Self { budget, bytes: 0 }
    }

    pub(crate) fn unlimited() -> Self {
        Self::nothing_of(&(Arc::new(Unlimited) as _))
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is held, to be given back with something else.
    pub(crate) fn part(&mut self) -> Self {
        let budget = Arc::clone(&self.budget);
        let bytes = std::mem::take(&mut self.bytes);
        Self { budget, bytes }
    }

    /// Holds exactly so many bytes from here on, or what it held before.
    pub fn try_hold(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > self.bytes {
            self.budget.try_take(bytes - self.bytes)?;
        }
        self.hold_taken(bytes);
        Ok(())
    }

    /// As [`try_hold`](Self::try_hold), and waits where that may help.
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
