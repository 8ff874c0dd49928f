//! Requests about topics, offsets and groups: which broker to ask, with which time limit, and when to give
//! up.

mod epochs;
mod groups;
mod leaders;
mod metadata;
mod offsets;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::protocol::Request;

pub(super) use self::metadata::{parse_id, print_id};
pub(super) use self::offsets::isolation_code;
use super::cluster::{Broker, Cluster};
use super::code;
use super::connection::{Throttles, Trouble};
use crate::client::HELD_MOST;
pub(super) use crate::client::deadline::{Deadline, backoff};
use crate::error::{Error, Result};

/// How long all brokers may be down before a request gives up. A client that never connected probably has a
/// wrong address; one that did may be seeing a restart.
const DOWN_GRACE_NEW: Duration = Duration::from_millis(500);
const DOWN_GRACE: Duration = Duration::from_secs(3);

impl Cluster {
    /// Sends a request to a broker. `build` makes it for the highest version that both sides know. If the
    /// broker throttles this client, that time is waited out first and does not count towards `within`.
    pub(super) async fn ask<R>(
        self: &Arc<Self>,
        broker: &Arc<Broker>,
        most: i16,
        build: impl Fn(i16) -> R,
        within: Duration,
    ) -> Result<(R::Response, i16), Trouble>
    where
        R: Request<Response: Throttles>,
    {
        let held = broker.questions.left();
        if !held.is_zero() {
            let (host, port, held_ms) = (&broker.host, broker.port, held.as_millis());
            let reason =
                format!("broker {host}:{port} holds this client back (quota) for {held_ms} ms");
            log::debug!("{reason}");
            if held > within.saturating_mul(HELD_MOST) {
                return Err(Trouble::Io(reason));
            }
            tokio::time::sleep(held).await;
        }
        let silent = |time: Duration| {
            let (host, port, time_ms) = (&broker.host, broker.port, time.as_millis());
            Trouble::Io(format!(
                "broker {host}:{port} does not answer within {time_ms} ms"
            ))
        };
        let asking = async {
            let (mut lease, reused) = self.lease(broker).await?;
            // A connection that was unused may be dead without a word: leaves time for a new one.
            let time = if reused { within / 2 } else { within };
            let version = lease.connection.version_of::<R>(most)?;
            let request = build(version);
            let asked = lease.connection.call(&request, version);
            let answer = tokio::time::timeout(time, asked).await;
            let answer = answer.unwrap_or_else(|_| {
                broker.forget_idle();
                Err(silent(time))
            });
            let answer = match answer {
                // The broker may have closed the connection while it was unused.
                Err(Trouble::Io(reason)) if reused => {
                    log::debug!("{reason}; reconnecting");
                    lease = self.dial(broker).await?;
                    let version = lease.connection.version_of::<R>(most)?;
                    lease.connection.call(&build(version), version).await?
                }
                answer => answer?,
            };
            lease.give_back(0);
            Ok(answer)
        };
        let answer = tokio::time::timeout(within, asking).await;
        let answer: Result<(R::Response, i16), _> = answer.unwrap_or_else(|_| Err(silent(within)));
        if let Ok((answer, version)) = &answer
            && let throttle_ms @ 1.. = answer.throttle_ms()
            && *version >= R::Response::AHEAD_FROM
        {
            let throttle_ms = u64::from(throttle_ms.unsigned_abs());
            broker.questions.extend(Duration::from_millis(throttle_ms));
        }
        answer
    }

    /// Asks one broker for what any broker knows. Tries the others if it does not answer, or does not speak
    /// Kafka's protocol.
    pub(super) async fn ask_any<R>(
        self: &Arc<Self>,
        most: i16,
        build: impl Fn(i16) -> R,
        deadline: &Deadline,
    ) -> Result<(R::Response, i16)>
    where
        R: Request<Response: Throttles>,
    {
        let started = Instant::now();
        let mut last = None;
        let mut garbled = false;
        let mut backoff = backoff();
        loop {
            let candidates = self.candidates();
            let mut strange = None;
            let mut silent = false;
            let mut late = false;
            for (asked, broker) in candidates.iter().enumerate() {
                if deadline.passed() {
                    break;
                }
                deadline.extend(broker.questions.left());
                // Leaves time for the brokers that were not asked yet.
                let within = match candidates.len() {
                    ..=3 => deadline.part(3).left(),
                    all => deadline.left() / u32::try_from(all - asked).unwrap_or(u32::MAX),
                };
                let asking = Instant::now();
                match self.ask(broker, most, &build, within).await {
                    Ok(answer) => return Ok(answer),
                    Err(refused @ Trouble::Refused(_)) => return Err(self.failed(&refused)),
                    Err(trouble) => {
                        log::debug!("{}", trouble.reason());
                        self.turn();
                        match trouble {
                            Trouble::Io(reason) => {
                                silent = true;
                                late |= asking.elapsed() >= within;
                                last = Some(reason);
                            }
                            trouble => strange = Some(trouble),
                        }
                    }
                }
            }
            if let Some(strange) = strange {
                // Silent brokers may be up again soon, and an answer may have been damaged on its way. One that
                // speaks another protocol will not change.
                if !silent {
                    if std::mem::replace(&mut garbled, true) {
                        return Err(self.failed(&strange));
                    }
                    last = Some(strange.reason().to_owned());
                    backoff.wait(deadline.left()).await;
                    continue;
                }
                last = last.map(|reason| format!("{reason}; {}", strange.reason()));
            }
            let grace = match self.connected() {
                // It is not down, and was there before: the network may be bad for a while.
                true if late => deadline.whole(),
                true => DOWN_GRACE,
                false => DOWN_GRACE_NEW,
            };
            let reason = || last.as_deref().unwrap_or("no time was left to ask");
            if deadline.passed() {
                let whole = deadline.whole().as_millis();
                return Err(Error::Connection {
                    hosts: self.hosts().to_owned(),
                    reason: format!("no answer within {whole} ms; last: {}", reason()),
                });
            }
            if started.elapsed() > grace {
                return Err(self.failed(&Trouble::Io(reason().to_owned())));
            }
            backoff.wait(deadline.left()).await;
        }
    }

    /// The error of an attempt that will not be repeated.
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
