//! Questions about topics, offsets and groups: of which broker, for how long, and when asking is
//! given up.

mod epochs;
mod metadata;
mod offsets;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::protocol::Request;

pub(super) use self::metadata::{parse_id, print_id};
pub(super) use self::offsets::isolation_code;
use super::cluster::{Broker, Cluster};
use super::code;
use super::connection::Trouble;
pub(super) use crate::client::deadline::Deadline;
use crate::error::{Error, Result};

/// How long all brokers may be down before a question gives up: a client that was never connected
/// likely has a wrong address; one that was may see a restart.
const DOWN_GRACE_NEW: Duration = Duration::from_millis(500);
const DOWN_GRACE: Duration = Duration::from_secs(3);
/// The pause before brokers that are down are tried again.
const DOWN_PAUSE: Duration = Duration::from_millis(50);

impl Cluster {
    /// Asks a broker; `build` makes the request of the version that both sides know.
    pub(super) async fn ask<R: Request>(
        self: &Arc<Self>,
        broker: &Arc<Broker>,
        most: i16,
        build: impl Fn(i16) -> R,
        within: Duration,
    ) -> Result<(R::Response, i16), Trouble> {
        let asking = async {
            let (mut lease, reused) = self.lease(broker).await?;
            let version = lease.connection.version_of::<R>(most)?;
            let answer = lease.connection.call(&build(version), version).await;
            let answer = match answer {
                // The broker may have closed it while nobody looked.
                Err(Trouble::Io(reason)) if reused => {
                    log::debug!("{reason}; connecting anew");
                    lease = self.dial(broker).await?;
                    let version = lease.connection.version_of::<R>(most)?;
                    lease.connection.call(&build(version), version).await?
                }
                answer => answer?,
            };
            lease.give_back(0);
            Ok(answer)
        };
        tokio::time::timeout(within, asking)
            .await
            .unwrap_or_else(|_| {
                Err(Trouble::Io(format!(
                    "broker {}:{} does not answer within {} ms",
                    broker.host,
                    broker.port,
                    within.as_millis()
                )))
            })
    }

    /// Asks what any broker knows: one, and the others if that one does not answer.
    pub(super) async fn ask_any<R: Request>(
        self: &Arc<Self>,
        most: i16,
        build: impl Fn(i16) -> R,
        deadline: &Deadline,
    ) -> Result<(R::Response, i16)> {
        let started = Instant::now();
        loop {
            let mut last = None;
            for broker in self.candidates() {
                if deadline.passed() {
                    break;
                }
                match self
                    .ask(&broker, most, &build, deadline.part(3).left())
                    .await
                {
                    Ok(answer) => return Ok(answer),
                    Err(Trouble::Io(reason)) => {
                        log::debug!("{reason}");
                        self.turn();
                        last = Some(reason);
                    }
                    Err(trouble) => return Err(self.failed(&trouble)),
                }
            }
            let grace = if self.connected() {
                DOWN_GRACE
            } else {
                DOWN_GRACE_NEW
            };
            let reason = last.unwrap_or_else(|| "no broker answers".into());
            if deadline.passed() {
                let whole = deadline.whole().as_millis();
                return Err(Error::Connection {
                    hosts: self.hosts().to_owned(),
                    reason: format!("no answer within {whole} ms; last: {reason}"),
                });
            }
            if started.elapsed() > grace {
                return Err(self.failed(&Trouble::Io(reason)));
            }
            tokio::time::sleep(DOWN_PAUSE.min(deadline.left())).await;
        }
    }

    /// The error of an attempt that is not repeated.
    pub(super) fn failed(&self, trouble: &Trouble) -> Error {
        let hosts = self.hosts().to_owned();
        match trouble {
            Trouble::Io(reason) => Error::Connection {
                hosts,
                reason: reason.clone(),
            },
            Trouble::Refused(reason) => Error::Authentication {
                hosts,
                reason: reason.clone(),
            },
            Trouble::Protocol(reason) => Error::Kafka {
                operation: format!("talking to Kafka at {hosts}"),
                reason: reason.clone(),
            },
        }
    }
}

pub(super) fn denied(resource: String, operation: &str, code: i16) -> Error {
    Error::Authorization {
        resource,
        operation: operation.to_owned(),
        reason: code::text(code),
    }
}
