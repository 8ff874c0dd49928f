//! How to send a request: to which broker, with which time limit, and when to give up.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Meta, denied};
pub(super) use crate::client::deadline::{Deadline, backoff};
use crate::client::librdkafka::ffi::{self, AdminRequest, Event, Queue, code};
use crate::error::{Error, Result};

/// How often a waiting request checks the health of the connections.
const HEALTH_TICK: Duration = Duration::from_millis(20);
/// How long all brokers may be down before a request gives up. A client that never connected probably has a
/// wrong address; one that did may be seeing a restart.
const DOWN_GRACE_NEW: Duration = Duration::from_millis(700);
const DOWN_GRACE: Duration = Duration::from_secs(3);
/// How long to wait for any broker to prove that not all are down.
const PROOF: Duration = Duration::from_secs(1);

impl Meta {
    pub(super) async fn ask_any(
        &self,
        request: AdminRequest<'_>,
        operation: &str,
        deadline: &Deadline,
    ) -> Result<Event> {
        self.ask_any_raw(request, deadline)
            .await?
            .map_err(|(c, reason)| self.failed(operation, c, &reason))
    }

    /// Asks one broker, and another one if the first does not answer.
    pub(super) async fn ask_any_raw(
        &self,
        request: AdminRequest<'_>,
        deadline: &Deadline,
    ) -> Result<Result<Event, (i32, String)>> {
        let mut failed = None;
        let mut backoff = backoff();
        loop {
            let target = self.target(failed, deadline).await?;
            let attempt = deadline.part(3);
            match self.ask_raw(request, Some(target), &attempt).await {
                Ok(Err((c, _))) if code::is_retriable(c) && !deadline.passed() => {}
                Err(Error::Connection { .. }) if attempt.passed() && !deadline.passed() => {}
                answer => return answer,
            }
            failed = Some(target);
            backoff.wait(deadline.left()).await;
        }
    }

    /// A broker to ask. After a failure it is another one, if there is one.
    async fn target(&self, failed: Option<i32>, deadline: &Deadline) -> Result<i32> {
        let known = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .target;
        if let Some(known) = known.filter(|k| failed != Some(*k)) {
            return Ok(known);
        }
        loop {
            // Brief, because librdkafka's call does not notice that all brokers are down.
            let mut brokers = self.brokers(Duration::from_millis(250), deadline).await;
            brokers.sort_unstable();
            // The next one after the failed one, wrapping around.
            let next = brokers.iter().find(|b| failed.is_some_and(|f| **b > f));
            if let Some(&target) = next.or(brokers.first()) {
                self.state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .target = Some(target);
                return Ok(target);
            }
            self.check_health(deadline).await?;
        }
    }

    /// The ids of the brokers, as any of them reports; empty when none answers in time.
    pub(super) async fn brokers(&self, within: Duration, deadline: &Deadline) -> Vec<i32> {
        let handle = Arc::clone(&self.handle);
        let within = Deadline::after(within.min(deadline.left()));
        let asked = move || handle.brokers(within.left_ms());
        let brokers = tokio::task::spawn_blocking(asked).await;
        let brokers = brokers.ok().and_then(|b| b.ok()).unwrap_or_default();
        if !brokers.is_empty() {
            self.succeeded();
        }
        brokers
    }

    /// Sends a request and waits for its answer: an event, or an error of the request as a whole.
    pub(super) async fn ask_raw(
        &self,
        request: AdminRequest<'_>,
        broker: Option<i32>,
        deadline: &Deadline,
    ) -> Result<Result<Event, (i32, String)>> {
        let wake = Arc::new(Notify::new());
        let queue = Queue::new(&self.handle, Some(Arc::clone(&wake)));
        ffi::send(&self.handle, &queue, &request, broker, deadline.left_ms());
        loop {
            if let Some(event) = queue.event(0) {
                let Some((c, reason)) = event.error() else {
                    self.succeeded();
                    return Ok(Ok(event));
                };
                if matches!(c, code::TIMED_OUT | code::TRANSPORT) {
                    self.check_health(deadline).await?;
                }
                return Ok(Err((c, reason)));
            }
            self.check_health(deadline).await?;
            let _ = tokio::time::timeout(HEALTH_TICK, wake.notified()).await;
        }
    }

    /// Acts as if librdkafka had reported that all brokers are down.
    #[cfg(test)]
    pub(crate) fn seem_down(&self) {
        self.handle.health().down = true;
    }

    /// The broker that is asked for what any broker knows.
    #[cfg(test)]
    pub(crate) fn asked_broker(&self) -> Option<i32> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.target
    }

    fn succeeded(&self) {
        let mut health = self.handle.health();
        health.down = false;
        health.refused = None;
        health.worked = true;
        health.last = None;
        drop(health);
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .connected = true;
    }

    /// # Errors
    /// When waiting is certain not to help.
    async fn check_health(&self, deadline: &Deadline) -> Result<()> {
        let health = self.handle.health().clone();
        let waited = deadline.asked().elapsed();
        if let Some((at, reason)) = health.refused
            // A failure from before the request may be over; librdkafka is still retrying.
            && (at >= deadline.asked() || waited > DOWN_GRACE_NEW)
        {
            return Err(Error::Authentication {
                hosts: self.hosts.clone(),
                reason,
            });
        }
        let grace = if self.connected() {
            DOWN_GRACE
        } else {
            DOWN_GRACE_NEW
        };
        // librdkafka reports when all connections that it had so far have failed. It does not report that one
        // works again.
        if health.down && waited > grace && self.brokers(PROOF, deadline).await.is_empty() {
            return Err(Error::Connection {
                hosts: self.hosts.clone(),
                reason: health.last.unwrap_or_else(|| "all brokers are down".into()),
            });
        }
        if deadline.passed() {
            let last = health
                .last
                .map(|l| format!("; last: {l}"))
                .unwrap_or_default();
            return Err(Error::Connection {
                hosts: self.hosts.clone(),
                reason: format!("no answer within {} ms{last}", deadline.whole().as_millis()),
            });
        }
        Ok(())
    }

    pub(super) fn failed(&self, operation: &str, c: i32, reason: &str) -> Error {
        let hosts = self.hosts.clone();
        match c {
            code::AUTHENTICATION | code::SSL | code::SASL_AUTHENTICATION_FAILED => {
                Error::Authentication {
                    hosts,
                    reason: reason.to_owned(),
                }
            }
            code::TRANSPORT | code::RESOLVE | code::TIMED_OUT | code::ALL_BROKERS_DOWN => {
                let last = self.handle.health().last.clone();
                Error::Connection {
                    hosts,
                    reason: last.unwrap_or_else(|| format!("{operation}: {reason}")),
                }
            }
            code::CLUSTER_AUTHORIZATION_FAILED => denied("the cluster".into(), "DESCRIBE", c),
            c if code::is_retriable(c) => Error::Unavailable {
                operation: operation.to_owned(),
                reason: reason.to_owned(),
            },
            _ => Error::Kafka {
                operation: operation.to_owned(),
                reason: reason.to_owned(),
            },
        }
    }
}

pub(super) fn odd_answer(operation: &str) -> Error {
    Error::Kafka {
        operation: operation.to_owned(),
        reason: "the client library answered with another kind of event".into(),
    }
}
