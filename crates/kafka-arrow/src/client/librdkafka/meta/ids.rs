//! Checks whether topics are still the ones that a snapshot was taken of.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{Deadline, Meta, TopicId};
use crate::error::{Error, Result};

/// How long topic ids are kept. Older ones are never used.
const IDS_KEPT: Duration = Duration::from_secs(60);

/// How long to wait for another stream's request. That stream may not be polled until this one ends, as the
/// other side of a join. Its request then never finishes, so this one asks itself.
const TURN: Duration = Duration::from_millis(200);

impl Meta {
    /// Compares the topics' ids with those that the cluster reported at `since` or later.
    ///
    /// Concurrent callers share requests: while one request is running the others wait, and the next request
    /// asks for all of them.
    ///
    /// # Errors
    /// When a topic was recreated or no longer exists, or no broker answers.
    /// When a topic was recreated or is gone, or no broker answers.
    pub(crate) async fn verify_ids(
        &self,
        expected: &BTreeMap<Arc<str>, String>,
        since: Instant,
    ) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        self.refresh_ids(expected, since, &deadline).await?;
        for (topic, id) in expected {
            let found = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.ids.get(topic).and_then(|(_, id)| id.clone())
            };
            match found {
                None => return Err(self.unknown_topic(topic, &deadline).await),
                Some(Some(found)) if found != *id => {
                    return Err(Error::TopicRecreated {
                        topic: topic.to_string(),
                        expected: id.clone(),
                        found,
                    });
                }
                // The id is the same, or the broker provides no ids.
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn refresh_ids(
        &self,
        expected: &BTreeMap<Arc<str>, String>,
        since: Instant,
        deadline: &Deadline,
    ) -> Result<()> {
        let stale = self.stale_ids(expected, since);
        if stale.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.ids_wanted.extend(stale);
        }
        if let Ok(_turn) =
            tokio::time::timeout(deadline.left().min(TURN), self.ids_turn.lock()).await
        {
            if self.stale_ids(expected, since).is_empty() {
                return Ok(());
            }
            let wanted: Vec<Arc<str>> = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                #[cfg(test)]
                {
                    state.ids_asked += 1;
                }
                let others = std::mem::take(&mut state.ids_wanted);
                others.into_iter().collect()
            };
            // Faults of other callers' topics do not concern this one.
            match self.describe_topics(&wanted, false, deadline).await {
                Ok(_) | Err(Error::Kafka { .. } | Error::Unavailable { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        // Asking by name yields an error that says why, for example a denial.
        let stale = self.stale_ids(expected, since);
        if !stale.is_empty() {
            self.describe_topics(&stale, true, deadline).await?;
        }
        Ok(())
    }

    fn stale_ids(&self, expected: &BTreeMap<Arc<str>, String>, since: Instant) -> Vec<Arc<str>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |t: &Arc<str>| state.ids.get(t).is_some_and(|(asked, _)| *asked >= since);
        expected.keys().filter(|t| !fresh(t)).cloned().collect()
    }

    #[cfg(test)]
    pub(crate) fn ids_asked(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ids_asked
    }

    /// Keeps an answer, unless one that was requested later is already there.
    pub(super) fn remember(&self, topic: &Arc<str>, asked: Instant, id: Option<TopicId>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Old entries are useless, and a long-lived client must not collect them.
        if state.ids.len() > 10_000 {
            state.ids.retain(|_, (at, _)| at.elapsed() < IDS_KEPT);
        }
        if state.ids.get(topic).is_none_or(|(at, _)| *at <= asked) {
            state.ids.insert(Arc::clone(topic), (asked, id));
        }
    }
}
