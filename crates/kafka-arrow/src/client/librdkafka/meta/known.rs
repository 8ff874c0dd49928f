//! What the last answers say about topics: whether they are still the ones that a snapshot was taken of, and which
//! partitions have leaders.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::{Deadline, Known, Meta};
use crate::client::librdkafka::ffi::code;
use crate::error::{Error, Result};
use crate::range::TopicPartition;

/// How long answers are kept. Older ones are never used.
const KEPT: Duration = Duration::from_secs(60);

/// How long to wait for another stream's request. That stream may not be polled until this one ends, as the
/// other side of a join. Its request then never finishes, so this one asks itself.
const TURN: Duration = Duration::from_millis(200);

impl Meta {
    /// Compares the topics' ids with those that the cluster reported at `since` or later.
    ///
    /// # Errors
    /// When a topic was recreated or is gone, or no broker answers.
    pub(crate) async fn verify_ids(
        &self,
        expected: &BTreeMap<Arc<str>, String>,
        since: Instant,
    ) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        let topics: Vec<Arc<str>> = expected.keys().cloned().collect();
        self.know(&topics, since, &deadline).await?;
        for (topic, id) in expected {
            let found = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let known = state
                    .topics
                    .get(topic)
                    .and_then(|(_, known)| known.as_ref());
                known.map(|known| known.id.clone())
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

    /// Why a partition has no leader to ask, by the last answer about its topic.
    pub(super) fn without_leader(&self, partition: &TopicPartition) -> Option<i32> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.topics.get(&partition.topic);
        let known = known.and_then(|(_, known)| known.as_ref());
        match known.and_then(|known| known.led.get(&partition.partition)) {
            Some(true) => None,
            Some(false) => Some(code::LEADER_NOT_AVAILABLE),
            None => Some(code::UNKNOWN_TOPIC_OR_PART),
        }
    }

    /// Asks about the topics of which no answer was asked for at `since` or later.
    ///
    /// Concurrent callers share requests: while one request is running the others wait, and the next request
    /// asks for all of them.
    ///
    /// # Errors
    /// When a topic may not be described, or no broker answers.
    pub(super) async fn know(
        &self,
        topics: &[Arc<str>],
        since: Instant,
        deadline: &Deadline,
    ) -> Result<()> {
        let stale = self.stale(topics, since);
        if stale.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.topics_wanted.extend(stale);
        }
        if let Ok(_turn) =
            tokio::time::timeout(deadline.left().min(TURN), self.topics_turn.lock()).await
        {
            if self.stale(topics, since).is_empty() {
                return Ok(());
            }
            let wanted: Vec<Arc<str>> = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                #[cfg(test)]
                {
                    state.topics_asked += 1;
                }
                let others = std::mem::take(&mut state.topics_wanted);
                others.into_iter().collect()
            };
            // Faults of other callers' topics do not concern this one.
            match self.describe_topics(&wanted, false, deadline).await {
                Ok(_) | Err(Error::Kafka { .. } | Error::Unavailable { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        // Asking by name yields an error that says why, for example a denial.
        let stale = self.stale(topics, since);
        if !stale.is_empty() {
            self.describe_topics(&stale, true, deadline).await?;
        }
        Ok(())
    }

    fn stale(&self, topics: &[Arc<str>], since: Instant) -> Vec<Arc<str>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |t: &Arc<str>| {
            state
                .topics
                .get(t)
                .is_some_and(|(asked, _)| *asked >= since)
        };
        topics.iter().filter(|t| !fresh(t)).cloned().collect()
    }

    #[cfg(test)]
    pub(crate) fn topics_asked(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.topics_asked
    }

    /// Keeps an answer, unless one that was requested later is already there.
    pub(super) fn remember(&self, topic: &Arc<str>, asked: Instant, known: Option<Known>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Old entries are useless, and a long-lived client must not collect them.
        if state.topics.len() > 10_000 {
            state.topics.retain(|_, (at, _)| at.elapsed() < KEPT);
        }
        if state.topics.get(topic).is_none_or(|(at, _)| *at <= asked) {
            state.topics.insert(Arc::clone(topic), (asked, known));
        }
    }
}
