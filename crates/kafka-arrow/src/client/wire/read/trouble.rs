//! What a stream does about refusals and broken connections: ask again, ask another broker, or fail with
//! coordinates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ends::LOOK_UP;
use super::fetch::ATTEMPT_LEAST;
use super::verdict::Refusal;
use super::{Reader, State};
use crate::client::HELD_MOST;
use crate::client::wire::ask::{Deadline, denied};
use crate::client::wire::cluster::Broker;
use crate::client::wire::code;
use crate::client::wire::connection::Trouble;
use crate::client::wire::decode::Malformed;
use crate::error::{Error, Result};

/// How often an answer that explains nothing is asked for again.
const ATTEMPTS_MOST: u32 = 5;
/// How often a stream that a broker holds back reports it.
const HELD_TOLD: Duration = Duration::from_secs(1);

impl Reader {
    /// The connection failed: the answer under way is lost, and another attempt is made.
    pub(super) async fn trouble(&mut self, trouble: Trouble) -> Result<()> {
        self.drop_connection();
        match trouble {
            Trouble::Io(reason) => {
                let timeout = self.cluster.settings.request_timeout;
                let waited = self.progress.silent() >= timeout;
                // Never reached anything, and cannot now: waiting on is no use.
                if !self.received && (waited || !self.cluster.connected()) {
                    return Err(self.cluster.failed(&Trouble::Io(reason)));
                }
                // The leader may be another one by now.
                self.try_again(reason, true).await
            }
            Trouble::Refused(_) => Err(self.cluster.failed(&trouble)),
            Trouble::Protocol(reason) => self.garbled(reason).await,
        }
    }

    /// An answer cannot be understood. It may have been damaged on its way, so it is asked for once more.
    pub(super) async fn garbled(&mut self, reason: String) -> Result<()> {
        self.drop_connection();
        let (partition, position) = (self.partition(), self.decoder.position());
        if self.failures.corrupt_again(partition, position) {
            return Err(self.read_error(reason));
        }
        self.try_again(reason, false).await
    }

    fn drop_connection(&mut self) {
        self.decoder.clear();
        self.nothing_arrives();
        self.state = State::Idle(None);
    }

    /// Waits a moment, and asks for the leaders again if they are in doubt.
    ///
    /// # Errors
    /// When there was no progress for `read.timeout.ms`, or the topic was recreated.
    pub(super) async fn try_again(&mut self, reason: String, leaders: bool) -> Result<()> {
        let range = self.range();
        let position = self.decoder.position();
        log::debug!(
            "{}[{}]@{position}: {reason}",
            range.topic(),
            range.partition()
        );
        self.failures.reason = Some(reason);
        let timeout = self.cluster.settings.read_timeout;
        let silent = self.progress.silent();
        if silent >= timeout {
            return Err(self.stalled(silent));
        }
        self.failures.retries.wait(timeout - silent).await;
        if leaders {
            let topic = Arc::clone(self.range().topic());
            let left = timeout.saturating_sub(self.progress.silent());
            let deadline = Deadline::after(left.clamp(ATTEMPT_LEAST, LOOK_UP));
            match self.cluster.refresh(&topic, &deadline).await {
                Ok(()) => {
                    self.replicas.remove(&self.partition());
                    self.compare_id()?;
                }
                Err(e @ (Error::Authentication { .. } | Error::Authorization { .. })) => {
                    return Err(e);
                }
                Err(e) => {
                    // It comes on top: what was wrong before is why leaders were asked for.
                    let before = self.failures.reason.take().unwrap_or_default();
                    self.failures.reason = Some(format!("{before}; asking for the leader: {e}"));
                }
            }
        }
        Ok(())
    }

    /// Waits while a broker holds this client back, for a moment at a time.
    ///
    /// # Errors
    /// When it goes on for [`HELD_MOST`] times `read.timeout.ms`, or will.
    pub(super) async fn wait_out(&mut self, left: Duration, broker: &Broker) -> Result<()> {
        let timeout = self.cluster.settings.read_timeout;
        // Other streams of this client have their turns: the quota is used, not stuck.
        let served = broker.served.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.failures.served, served) != served {
            self.failures.held = Duration::ZERO;
        }
        let silent = self.progress.silent();
        if self.failures.held + left > timeout.saturating_mul(HELD_MOST) || silent >= timeout {
            let (host, port, left_ms) = (&broker.host, broker.port, left.as_millis());
            self.failures.reason = Some(format!(
                "broker {host}:{port} holds this client back (quota), now for {left_ms} ms; \
                 {HELD_MOST} times 'read.timeout.ms' is waited at most, and the quotas of the \
                 brokers (consumer_byte_rate, request_percentage) set how much it may read"
            ));
            return Err(self.stalled(self.failures.held + silent));
        }
        let started = Instant::now();
        tokio::time::sleep(left.min(HELD_TOLD)).await;
        let held = started.elapsed();
        self.failures.held += held;
        self.report.throttle += held;
        self.progress.excuse(held);
        Ok(())
    }

    fn stalled(&self, silent: Duration) -> Error {
        let range = self.range();
        if let Some(error) = self.cluster.no_leader(&range.topic_partition(), silent) {
            return error;
        }
        Error::Stalled {
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset: self.decoder.position(),
            end: range.end(),
            waited_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            reason: self
                .failures
                .reason
                .clone()
                .unwrap_or_else(|| "the broker sends nothing".into()),
        }
    }

    /// The topic or the partition seems not to be there: it is an error if it is so.
    pub(super) async fn missing(&mut self) -> Result<()> {
        let partition = self.partition();
        let deadline = Deadline::after(self.cluster.settings.request_timeout);
        self.cluster.expect_partition(&partition, &deadline).await?;
        self.compare_id()?;
        self.attempts("the broker does not know the partition", true)
            .await
    }

    /// As [`try_again`](Self::try_again), a few times.
    pub(super) async fn attempts(&mut self, reason: &str, leaders: bool) -> Result<()> {
        if self.failures.retries.failed() >= ATTEMPTS_MOST {
            return Err(self.failed(reason.to_owned(), true));
        }
        self.try_again(reason.to_owned(), leaders).await
    }

    /// The broker refused the Fetch, or the partition's part of it.
    pub(super) async fn refused(&mut self, c: i16) -> Result<()> {
        let from_replica = self.replicas.remove(&self.partition()).is_some();
        let had_epoch = self.decoder.epoch() >= 0;
        let reason = match &self.state {
            State::Arriving(fetch) => format!("{} from broker {}", code::text(c), fetch.node),
            _ => code::text(c),
        };
        self.abandon();
        match Refusal::of(c, from_replica) {
            Refusal::TopicDenied => {
                Err(denied(format!("topic {}", self.range().topic()), "READ", c))
            }
            Refusal::ClusterDenied => Err(denied("the cluster".into(), "READ", c)),
            Refusal::AskLeader => self.try_again(reason, true).await,
            Refusal::AskAgain => self.try_again(reason, false).await,
            Refusal::OutOfRange => {
                // Brokers say so, too, when they have forgotten the epoch of the last record.
                self.decoder.forget_epoch();
                self.out_of_range(had_epoch).await
            }
            Refusal::Missing => {
                let topic = Arc::clone(self.range().topic());
                let deadline = Deadline::after(self.cluster.settings.request_timeout);
                self.cluster.refresh(&topic, &deadline).await?;
                self.compare_id()?;
                self.missing().await
            }
            Refusal::Corrupt => self.corrupt(Malformed(reason)).await,
            Refusal::Unsupported => Err(self.read_error(reason)),
            Refusal::Unexplained => self.attempts(&reason, true).await,
        }
    }

    /// Records do not decode. They may have been damaged on their way, so they are asked for again.
    pub(super) async fn corrupt(&mut self, malformed: Malformed) -> Result<()> {
        self.drop_connection();
        let (partition, position) = (self.partition(), self.decoder.position());
        if self.failures.corrupt_again(partition, position) {
            return Err(self.corrupted(malformed.to_string()));
        }
        self.try_again(malformed.to_string(), false).await
    }

    pub(super) fn corrupted(&self, reason: String) -> Error {
        let range = self.range();
        Error::Corrupted {
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset: self.decoder.position(),
            reason,
        }
    }

    pub(super) fn read_error(&self, reason: String) -> Error {
        self.failed(reason, false)
    }

    fn failed(&self, reason: String, transient: bool) -> Error {
        let range = self.range();
        Error::Read {
            topic: range.topic().to_string(),
            partition: range.partition(),
            offset: self.decoder.position(),
            reason,
            transient,
        }
    }
}
