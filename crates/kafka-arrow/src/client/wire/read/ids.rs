//! Whether the topics that are read are the ones that were asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::plan::FETCH_BY_ID;
use super::{Attempt, Reader};
use crate::client::wire::ask::{Deadline, parse_id, print_id};
use crate::client::wire::connection::Trouble;
use crate::error::{Error, Result};

/// Under which ids a stream reads its topics.
pub(super) struct Ids {
    /// When the stream was asked for.
    requested: Instant,
    pub(super) known: HashMap<Arc<str>, Uuid>,
    /// A broker was asked by topic name: it is too old for ids.
    by_name: bool,
    /// A batch was handed out.
    pub(super) delivered: bool,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            requested: Instant::now(),
            known: HashMap::new(),
            by_name: false,
            delivered: false,
        }
    }
}

impl Reader {
    /// Fixes the id that a topic is read under. `false` when that has to be tried again.
    pub(super) async fn learn_id(&mut self, topic: &Arc<str>) -> Result<bool> {
        if self.ids.known.contains_key(topic) {
            return Ok(true);
        }
        let expected = self.request.topic_ids.get(topic).cloned();
        let known = |id: &Option<uuid::Uuid>| id.map(print_id);
        let mut found = self.cluster.topic(topic, |t| (t.id, t.asked));
        let stale = match (&expected, &found) {
            (_, None) => true,
            (None, Some((_, asked))) => *asked < self.ids.requested && !self.cluster.connected(),
            // By another id the topic may have been known before it was recreated.
            (Some(expected), Some((id, _))) => known(id).is_some_and(|id| id != *expected),
        };
        if stale {
            let deadline = Deadline::after(self.cluster.settings.request_timeout);
            self.cluster.refresh(topic, &deadline).await?;
            found = self.cluster.topic(topic, |t| (t.id, t.asked));
        }
        let Some((id, _)) = found else {
            self.missing().await?;
            return Ok(false);
        };
        match (expected, known(&id)) {
            (Some(expected), Some(found)) if expected != found => {
                Err(recreated(topic, expected, found))
            }
            (Some(expected), None) if parse_id(&expected).is_some() => Ok(true),
            _ => {
                self.ids.known.extend(id.map(|id| (Arc::clone(topic), id)));
                Ok(true)
            }
        }
    }

    /// Brokers that are asked by name do not notice that a topic is another one: the ids are
    /// compared with an answer that was asked for after the request was made.
    pub(super) async fn check_version(&mut self, version: i16) -> Attempt<()> {
        self.ids.by_name |= version < FETCH_BY_ID;
        let topic = Arc::clone(self.range().topic());
        let asked = self.cluster.topic(&topic, |t| t.asked);
        if version >= FETCH_BY_ID || asked.is_some_and(|asked| asked >= self.ids.requested) {
            return Ok(());
        }
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        match self.cluster.refresh(&topic, &deadline).await {
            Ok(()) => {}
            Err(e) => return Err(Trouble::Io(e.to_string())),
        }
        let now = self.cluster.topic(&topic, |t| t.id).flatten();
        match (self.ids.known.get(&topic), now) {
            (Some(id), Some(now)) if *id != now => {
                Err(Trouble::Io(format!("topic {topic} was recreated")))
            }
            _ => Ok(()),
        }
    }

    /// Topics that were read by name are compared once more with what the cluster says now.
    pub(super) async fn verify_ids_at_the_end(&mut self) -> Result<()> {
        if !self.ids.by_name {
            return Ok(());
        }
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        for (topic, id) in &self.ids.known {
            self.cluster.refresh(topic, &deadline).await?;
            match self.cluster.topic(topic, |t| t.id).flatten() {
                Some(found) if found != *id => {
                    return Err(recreated(topic, print_id(*id), print_id(found)));
                }
                Some(_) => {}
                None => return Err(self.cluster.unknown_topic(topic, &deadline).await),
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the topic that is read was deleted and created again.
    pub(super) fn compare_id(&mut self) -> Result<()> {
        let topic = Arc::clone(self.range().topic());
        let now = self.cluster.topic(&topic, |t| t.id).flatten();
        let (Some(read), Some(now)) = (self.ids.known.get(&topic).copied(), now) else {
            return Ok(());
        };
        if read == now {
            return Ok(());
        }
        if !self.ids.delivered && !self.request.topic_ids.contains_key(&topic) {
            // Nothing was read under the other id, and none was asked for.
            self.ids.known.insert(topic, now);
            return Ok(());
        }
        Err(recreated(&topic, print_id(read), print_id(now)))
    }
}

fn recreated(topic: &str, expected: String, found: String) -> Error {
    Error::TopicRecreated {
        topic: topic.to_owned(),
        expected,
        found,
    }
}
