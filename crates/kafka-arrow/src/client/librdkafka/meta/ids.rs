//! Whether topics are still those that a snapshot was taken of.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{Deadline, Meta, TopicId};
use crate::error::{Error, Result};

/// How long topic ids are kept; nobody asks for older ones.
const IDS_KEPT: Duration = Duration::from_secs(60);

/// How long to wait for the request of another. It may belong to a stream that nobody polls until
/// this one ends: the other side of a join. Then its turn never ends, and asking again is the way.
const TURN: Duration = Duration::from_millis(200);

impl Meta {
    /// Compares topics' ids with those that the cluster was asked for at `since` or later.
    ///
    /// Who asks at the same time shares a request: while one is under way the others wait, and the
    /// next asks for all that wait.
    ///
    /// # Errors
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
                // The same, or a broker that gives no ids.
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
            // What is wrong with topics of others is no concern of this caller's.
            match self.describe_topics(&wanted, false, deadline).await {
                Ok(_) | Err(Error::Kafka { .. } | Error::Unavailable { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        // Denied, for example: asked by name there is an error that says so.
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

    /// Keeps an answer, unless there is one that was asked for later.
    pub(super) fn remember(&self, topic: &Arc<str>, asked: Instant, id: Option<TopicId>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Old entries are of no use; a long-lived client must not collect them.
        if state.ids.len() > 10_000 {
            state.ids.retain(|_, (at, _)| at.elapsed() < IDS_KEPT);
        }
        if state.ids.get(topic).is_none_or(|(at, _)| *at <= asked) {
            state.ids.insert(Arc::clone(topic), (asked, id));
        }
    }
}
